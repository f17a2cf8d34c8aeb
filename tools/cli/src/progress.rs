//! Progress of long work: a bar with rate and time left on a terminal, plain lines in a log.

use std::io::{IsTerminal, Write, stderr};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use voxquarry::{Error, Result};
use voxquarry_ingest::{Event, Observer};

use crate::output::bytes;

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Makes the first Ctrl-C ask for an orderly stop, the second end the process.
pub(crate) fn catch_interrupts() -> Result<()> {
    let asked = || {
        if INTERRUPTED.swap(true, Ordering::SeqCst) {
            std::process::exit(4);
        }
    };
    ctrlc::set_handler(asked)
        .map_err(|e| Error::io("signals", "cannot be caught")(std::io::Error::other(e)))
}

/// How progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Nothing,
    Progress,
}

pub(crate) struct Progress {
    show: Show,
    state: Mutex<State>,
}

struct State {
    bar: ProgressBar,
    done: u64,
    total: u64,
    started: Instant,
    last_line: Instant,
    subjects: (usize, usize),
}

/// Lines in a log are at least so far apart.
const LINE_EVERY: Duration = Duration::from_secs(5);

impl Progress {
    pub(crate) fn new(show: Show) -> Self {
        let now = Instant::now();
        let state = State {
            bar: ProgressBar::hidden(),
            done: 0,
            total: 0,
            started: now,
            last_line: now,
            subjects: (0, 0),
        };
        Self { show, state: Mutex::new(state) }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        if self.show == Show::Nothing {
            return;
        }
        let mut state = self.state.lock().expect("no panic while it is held");
        let terminal = stderr().is_terminal();
        match event {
            Event::Begin { subjects, skipped, bytes: total } => {
                state.total = total;
                state.subjects.1 = subjects;
                if skipped > 0 {
                    let _ = writeln!(stderr(), "{skipped} subjects are there already");
                }
                if terminal {
                    let style =
                        "{msg:24!} {bar:30} {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
                    let style = ProgressStyle::with_template(style)
                        .expect("a constant template")
                        .progress_chars("=> ");
                    state.bar = ProgressBar::new(total).with_style(style);
                }
            }
            Event::Volume { subject, volume } => {
                state.bar.set_message(format!("{subject}/{volume}"));
                if !terminal {
                    let _ = writeln!(stderr(), "ingesting {subject}/{volume}");
                }
            }
            Event::Encoded(n) => {
                state.done += n;
                state.bar.inc(n);
                if !terminal && state.last_line.elapsed() >= LINE_EVERY {
                    state.last_line = Instant::now();
                    let rate = state.done as f64 / state.started.elapsed().as_secs_f64();
                    let left = (state.total - state.done) as f64 / rate;
                    let (done, total, rate) =
                        (bytes(state.done), bytes(state.total), bytes(rate as u64));
                    let _ = writeln!(stderr(), "{done} of {total}, {rate}/s, {left:.0} s left");
                }
            }
            Event::Published { subject } => {
                state.subjects.0 += 1;
                let (n, of) = state.subjects;
                if terminal {
                    state.bar.println(format!("{subject} published ({n} of {of})"));
                    if n == of {
                        state.bar.finish_and_clear();
                    }
                } else {
                    let _ = writeln!(stderr(), "{subject} published ({n} of {of})");
                }
            }
        }
    }

    fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}
