//! Runs the cases of a campaign in child processes, and watches them.
//!
//! The parent writes numbers of cases to a child, which answers each with one line. A child that
//! dies, or does not answer in time, is a finding of its case; another one goes on.
//!
//! # Invariants
//! - Each case runs once.
//! - A panic in any thread of a child is a finding, also if something caught it.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use rustix::process::{Resource, Rlimit, setrlimit};

use crate::Args;
use crate::campaign::{Campaign, Entry};
use crate::campaigns::CAMPAIGNS;
use crate::random::Random;

/// The address space of a child: beyond it, allocations fail.
const CHILD_BYTES: u64 = 4 << 30;
/// Findings that are printed in full.
const SHOWN: u64 = 40;

/// One campaign and its results so far.
pub(crate) struct Watch<'a> {
    entry: &'a Entry,
    args: &'a Args,
    next: AtomicU64,
    end: u64,
    findings: AtomicU64,
    outcomes: Mutex<BTreeMap<String, u64>>,
}

/// A child process that runs cases.
struct Worker {
    child: Child,
    numbers: ChildStdin,
    answers: Receiver<String>,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(entry: &'a Entry, args: &'a Args) -> Self {
        let count = ((entry.hourly)() as f64 * args.seconds / 3600.0).ceil() as u64;
        let (first, end) = args.case.map_or((0, count), |number| (number, number + 1));
        Self {
            entry,
            args,
            next: AtomicU64::new(first),
            end,
            findings: AtomicU64::new(0),
            outcomes: Mutex::new(BTreeMap::new()),
        }
    }

    /// Runs all cases, prints what was found, and returns the number of findings.
    pub(crate) fn run(&self) -> u64 {
        let started = Instant::now();
        let cores = thread::available_parallelism().map_or(1, |n| n.get() as u64);
        let jobs = self.args.jobs.unwrap_or(cores).clamp(1, self.end.max(1));
        println!("{}: {}", self.entry.name, self.entry.about);
        thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| self.work());
            }
        });
        let outcomes = self.outcomes.lock().expect("no panic while it is held");
        let total: u64 = outcomes.values().sum();
        for (outcome, count) in outcomes.iter() {
            println!("  {count:7} {outcome}");
        }
        let (seconds, findings) = (started.elapsed().as_secs_f64(), self.findings());
        println!("  {total} cases in {seconds:.0} s, {findings} findings");
        findings
    }

    fn findings(&self) -> u64 {
        self.findings.load(Ordering::Relaxed)
    }

    fn work(&self) {
        let mut worker = None;
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if number >= self.end {
                break;
            }
            let child = worker.get_or_insert_with(|| self.start());
            let answer = self.ask(child, number);
            match answer.split_once(' ') {
                Some(("ok", outcome)) => self.count(outcome),
                Some(("bad", message)) => self.finding(number, message),
                _ => {
                    let died = worker.take().map_or_else(String::new, Worker::bury);
                    self.finding(number, &format!("{answer}; {died}"));
                }
            }
        }
    }

    fn count(&self, outcome: &str) {
        let mut outcomes = self.outcomes.lock().expect("no panic while it is held");
        *outcomes.entry(outcome.to_owned()).or_default() += 1;
    }

    fn finding(&self, number: u64, message: &str) {
        self.count("FINDING");
        if self.findings.fetch_add(1, Ordering::Relaxed) < SHOWN {
            println!("FINDING {} --case {number}: {message}", self.entry.name);
        }
    }

    /// Starts a child.
    fn start(&self) -> Worker {
        let mut command = Command::new(std::env::current_exe().expect("a program that runs"));
        command.args(["--child", self.entry.name]);
        command.arg("--seed").arg(self.args.seed.expect("a seed was chosen").to_string());
        command.arg("--dir").arg(self.args.folder());
        command.arg("--voxquarry").arg(self.args.command());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again");
        let numbers = child.stdin.take().expect("a pipe");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, answers) = channel();
        thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Worker { child, numbers, answers }
    }

    /// The answer of a child to a case: `ok …`, `bad …`, or what became of it.
    fn ask(&self, worker: &mut Worker, number: u64) -> String {
        if writeln!(worker.numbers, "{number}").is_err() {
            return "the process had ended".to_owned();
        }
        match worker.answers.recv_timeout(self.entry.limit) {
            Ok(answer) => answer,
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                format!("no end after {} s", self.entry.limit.as_secs())
            }
            Err(_) => "the process ended".to_owned(),
        }
    }
}

impl Worker {
    /// Ends the process and says how it ended.
    fn bury(mut self) -> String {
        drop(self.numbers);
        let _ = self.child.kill();
        self.child.wait().map_or_else(|e| e.to_string(), |status| status.to_string())
    }
}

/// Panics of any thread of this process.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The child: runs the cases whose numbers arrive on standard input.
pub(crate) fn child(name: &str, args: &Args) -> ExitCode {
    let Some(entry) = CAMPAIGNS.iter().find(|entry| entry.name == name) else {
        eprintln!("there is no campaign {name:?}");
        return ExitCode::from(2);
    };
    let limit = Rlimit { current: Some(CHILD_BYTES), maximum: Some(CHILD_BYTES) };
    setrlimit(Resource::As, limit).expect("a limit that only this process has");
    std::panic::set_hook(Box::new(|panic| {
        PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(panic.to_string());
    }));
    let mut campaign = match (entry.begin)(args) {
        Ok(campaign) => campaign,
        Err(message) => {
            println!("bad cannot begin: {}", one_line(&message));
            return ExitCode::from(1);
        }
    };
    for line in stdin().lines().map_while(Result::ok) {
        let Ok(number) = line.parse() else { break };
        println!("{}", answer(&mut *campaign, entry.name, number, args));
        let _ = stdout().flush();
    }
    ExitCode::SUCCESS
}

fn answer(campaign: &mut dyn Campaign, name: &str, number: u64, args: &Args) -> String {
    let mut random = Random::new(args.seed.unwrap_or_default(), name, number);
    let verdict = catch_unwind(AssertUnwindSafe(|| campaign.case(number, &mut random)));
    let mut panics = PANICS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let panicked = panics.join("; ");
    panics.clear();
    match verdict {
        _ if !panicked.is_empty() => format!("bad panic: {}", one_line(&panicked)),
        Ok(Ok(outcome)) => format!("ok {outcome}"),
        Ok(Err(finding)) => format!("bad {}", one_line(&finding)),
        Err(_) => "bad a panic without a message".to_owned(),
    }
}

fn one_line(text: &str) -> String {
    text.replace('\n', " | ")
}
