//! Prints lines, JSON and errors, and formats sizes.

use std::io::{self, Write};

use voxquarry::Error;

/// Prints a line to standard output. A closed pipe ends the process silently, every other failure
/// is an error.
pub(crate) fn line(text: &str) {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        Err(e) => {
            let error = Error::io("standard output", "cannot write")(e);
            print_error(&error);
            std::process::exit(error.fault().exit_code().into());
        }
    }
}

/// Prints a JSON document.
pub(crate) fn json(document: &serde_json::Value) {
    line(&serde_json::to_string_pretty(document).expect("a JSON tree serialises"));
}

/// Prints what was decided or left out to standard error.
pub(crate) fn notes(notes: &[String]) {
    for note in notes {
        error_line(&format!("note: {note}"));
    }
}

/// Prints a line to standard error.
pub(crate) fn error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Prints an error to standard error.
pub(crate) fn print_error(error: &Error) {
    error_line(&format!("error: {error}"));
}

/// Prints the remedy of an error to standard error.
pub(crate) fn print_help(help: &str) {
    error_line(&format!("help: {help}"));
}

/// Formats a size in the largest unit in which it is at least 1.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (n as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{n} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// Formats extents: `181 × 217 × 181`.
pub(crate) fn extents(shape: &[usize]) -> String {
    shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" × ")
}

/// Formats a rate in decimal megabytes, as vendors of disks and memory do.
pub(crate) fn megabytes_per_second(bytes_per_second: f64) -> String {
    format!("{:.0} MB/s", bytes_per_second / 1e6)
}
