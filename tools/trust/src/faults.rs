//! Commands that are killed at a system call, or in which one fails or all fail from there on.
//!
//! Oracle: that of [`outcome`](crate::outcome).

use crate::Args;
use crate::campaign::{Campaign, Verdict};
use crate::outcome::Blow;
use crate::random::Random;
use crate::scenarios::{Bench, Scenario};
use crate::strace::{self, Fault, TARGETS};

pub(crate) struct Faults {
    bench: Bench,
    scenarios: Vec<Scenario>,
}

impl Faults {
    pub(crate) fn begin(args: &Args) -> Result<Self, String> {
        strace::check()?;
        let bench = Bench::new(args)?;
        let scenarios = bench.scenarios()?;
        Ok(Self { bench, scenarios })
    }
}

impl Campaign for Faults {
    fn case(&mut self, number: u64, random: &mut Random) -> Verdict {
        let scenario = &self.scenarios[number as usize % self.scenarios.len()];
        let kinds: Vec<_> = scenario.calls.iter().collect();
        let (target, numbers) = *random.pick(&kinds);
        let (call, errors) = (TARGETS[*target].call, TARGETS[*target].errors);
        let at = *random.pick(numbers);
        let error = |random: &mut Random| errors[random.below(errors.len())];
        let fault = match random.below(100) {
            40..80 if !errors.is_empty() => Fault::Error(error(random)),
            80.. if !errors.is_empty() => match error(random) {
                // It is tried again, for ever.
                "EINTR" => Fault::Error("EINTR"),
                error => Fault::Errors(error),
            },
            _ => Fault::Kill,
        };
        let folder = self.bench.path();
        scenario.initial.restore(folder).map_err(|e| format!("cannot restore: {e}"))?;
        let output = strace::inject(&self.bench.command(scenario.words), call, at, fault)?;
        let context = |message: String| {
            let fault = match fault {
                Fault::Kill => "SIGKILL".to_owned(),
                Fault::Error(error) => error.to_owned(),
                Fault::Errors(error) => format!("{error} from there on"),
            };
            let said = String::from_utf8_lossy(&output.stderr);
            format!(
                "{}: {call} {at}: {fault}: {message} ({}, {said:.300})",
                scenario.name, output.status
            )
        };
        let blow = match fault {
            Fault::Kill => Blow::Kill,
            // It may be the write of the message.
            _ if call.contains("write") => Blow::Silence,
            _ => Blow::Refusal,
        };
        self.bench.check(scenario, &output, blow).map_err(context)
    }
}
