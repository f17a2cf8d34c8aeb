//! Shows the progress of long work: a bar with rate and time left on a terminal, plain lines in a
//! log.

use std::io::{IsTerminal, Write, stderr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use voxquarry::{Error, Result};
use voxquarry_ingest::{Event, Observer};

use crate::output::bytes;

static INTERRUPTED: LazyLock<Arc<AtomicBool>> = LazyLock::new(Arc::default);

/// Makes the first Ctrl-C or SIGTERM request an orderly stop, and the second end the process.
///
/// SIGHUP stays as it is, for `nohup` has it ignored.
pub(crate) fn catch_interrupts() -> Result<()> {
    let refused = |e| Error::io("signals", "cannot install a handler")(e);
    for signal in [SIGINT, SIGTERM] {
        // In this order the first signal finds the flag unset.
        flag::register_conditional_shutdown(signal, 4, INTERRUPTED.clone()).map_err(refused)?;
        flag::register(signal, INTERRUPTED.clone()).map_err(refused)?;
    }
    Ok(())
}

/// Returns an error once Ctrl-C was pressed.
pub(crate) fn check_interrupt() -> Result<()> {
    if INTERRUPTED.load(Ordering::SeqCst) { Err(Error::Interrupted) } else { Ok(()) }
}

/// Whether progress is shown.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Show {
    Nothing,
    Progress,
}

/// Progress in bytes towards a known total.
pub(crate) struct Progress {
    show: Show,
    terminal: bool,
    state: Mutex<ProgressState>,
}

struct ProgressState {
    bar: ProgressBar,
    label: String,
    done: u64,
    total: u64,
    started: Instant,
    last_line: Instant,
    subjects: (usize, usize),
    lines: LineBudget,
}

/// Minimum time between two lines about the whole in a log.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Lines of a log about single subjects: the first are written at once, then one each second.
struct LineBudget {
    left: f64,
    last: Instant,
}

impl LineBudget {
    const AT_ONCE: f64 = 20.0;

    fn new() -> Self {
        Self { left: Self::AT_ONCE, last: Instant::now() }
    }

    /// Whether another line may be written now.
    fn take(&mut self) -> bool {
        self.left = Self::AT_ONCE.min(self.left + self.last.elapsed().as_secs_f64());
        self.last = Instant::now();
        let is_left = self.left >= 1.0;
        if is_left {
            self.left -= 1.0;
        }
        is_left
    }
}

impl Progress {
    pub(crate) fn new(show: Show) -> Self {
        let now = Instant::now();
        let state = ProgressState {
            bar: ProgressBar::hidden(),
            label: String::new(),
            done: 0,
            total: 0,
            started: now,
            last_line: now,
            subjects: (0, 0),
            lines: LineBudget::new(),
        };
        Self { show, terminal: stderr().is_terminal(), state: Mutex::new(state) }
    }

    /// Sets the total, and starts the bar.
    pub(crate) fn begin(&self, total: u64) {
        self.with(|state| {
            state.total = total;
            if self.terminal {
                let counts = "{bytes}/{total_bytes} {bytes_per_sec}";
                let style = format!("{{msg:24!}} {{bar:30}} {counts} {{eta}} left");
                let style = ProgressStyle::with_template(&style)
                    .expect("a constant template")
                    .progress_chars("=> ");
                state.bar = ProgressBar::new(total).with_style(style);
            }
        });
    }

    /// Shows what is being worked on; a log has the line `doing label`.
    pub(crate) fn at(&self, doing: &str, label: &str) {
        self.with(|state| {
            if state.label != label {
                label.clone_into(&mut state.label);
                state.bar.set_message(label.to_owned());
                if !self.terminal && state.lines.take() {
                    let _ = writeln!(stderr(), "{doing} {label}");
                }
            }
        });
    }

    /// Adds to what is done.
    pub(crate) fn advance(&self, n: u64) {
        self.with(|state| {
            state.done += n;
            state.bar.inc(n);
            if !self.terminal && state.last_line.elapsed() >= LINE_EVERY {
                state.last_line = Instant::now();
                let rate = state.done as f64 / state.started.elapsed().as_secs_f64();
                let left = state.total.saturating_sub(state.done) as f64 / rate;
                let _ = writeln!(
                    stderr(),
                    "{} of {}, {}/s, {left:.0} s left",
                    bytes(state.done),
                    bytes(state.total),
                    bytes(rate as u64)
                );
            }
        });
    }

    /// Prints a line that stays above the bar; in a log only as often as lines are allowed.
    fn note(&self, text: &str) {
        self.with(|state| {
            if !self.terminal && !state.lines.take() {
                return;
            }
            if self.terminal {
                state.bar.suspend(|| {
                    let _ = writeln!(stderr(), "{text}");
                });
            } else {
                let _ = writeln!(stderr(), "{text}");
            }
        });
    }

    /// Removes the bar.
    pub(crate) fn end(&self) {
        self.with(|state| state.bar.finish_and_clear());
    }

    fn with(&self, change: impl FnOnce(&mut ProgressState)) {
        if self.show == Show::Progress {
            change(&mut self.state.lock().expect("no panic while the lock is held"));
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Planning { done, of } => {
                self.with(|state| {
                    if state.last_line.elapsed() >= LINE_EVERY {
                        state.last_line = Instant::now();
                        let _ = writeln!(stderr(), "headers of {done} of {of} subjects are read");
                    }
                });
            }
            Event::Comparing { subject, volume, bytes: n } => {
                let text = "with its file of";
                self.note(&format!("comparing {subject}/{volume} {text} {}", bytes(n)));
            }
            Event::Begin { subjects, skipped, bytes } => {
                if skipped > 0 {
                    self.note(&format!("{skipped} subjects exist already"));
                }
                self.with(|state| state.subjects.1 = subjects);
                self.begin(bytes);
            }
            Event::Volume { subject, volume } => {
                self.at("ingesting", &format!("{subject}/{volume}"));
            }
            Event::Measuring { subject } => self.at("measuring", subject),
            Event::Encoded(n) => self.advance(n),
            Event::Published { subject, voxel_bytes, stored_bytes } => {
                let mut subjects = (0, 0);
                self.with(|state| {
                    state.subjects.0 += 1;
                    subjects = state.subjects;
                });
                let (n, of) = subjects;
                let ratio = voxel_bytes as f64 / stored_bytes.max(1) as f64;
                self.note(&format!(
                    "{subject} published ({n} of {of}): {} in, {} out, ratio {ratio:.2}",
                    bytes(voxel_bytes),
                    bytes(stored_bytes)
                ));
                if n == of {
                    self.end();
                }
            }
            Event::Failed { subject } => self.note(&format!("{subject} failed")),
            _ => {}
        }
    }

    fn interrupted(&self) -> bool {
        INTERRUPTED.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_gets_the_first_lines_at_once_and_then_few() {
        let mut lines = LineBudget::new();
        let written = (0..1000).filter(|_| lines.take()).count();
        assert!((20..22).contains(&written), "{written}");
        lines.last -= Duration::from_secs(2);
        assert!(lines.take() && lines.take() && !lines.take());
    }
}
