//! Commands that the Python package has: this process becomes `python3 -m voxquarry COMMAND …`.
//!
//! Exit codes, interrupts and output are those of the Python process, which takes this one's place.

use std::ffi::OsString;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use voxquarry::{Error, Result};

/// The environment variable that names another Python.
const VARIABLE: &str = "VOXQUARRY_PYTHON";

/// Ends with 0 where the package is there, without importing it.
const PROBE: &str =
    "import importlib.util, sys; sys.exit(importlib.util.find_spec('voxquarry') is None)";

/// Runs a command of the package; returns only where that fails.
///
/// # Errors
/// [`Error::Io`] if there is no Python with the package.
pub(crate) fn run(command: &str, arguments: &[OsString]) -> Result<u8> {
    let python = std::env::var_os(VARIABLE).unwrap_or_else(|| "python3".into());
    let what = || format!("voxquarry {command}: {}", python.display());
    let probe = Command::new(&python).args(["-c", PROBE]).stdin(Stdio::null()).status();
    let probe = probe.map_err(|error| cannot_run(&what(), &error))?;
    if !probe.success() {
        let reason = format!(
            "it has no package voxquarry: pip install voxquarry, or name a Python in {VARIABLE}"
        );
        return Err(Error::io(what(), "cannot go on")(io::Error::other(reason)));
    }
    let error = Command::new(&python).args(["-m", "voxquarry", command]).args(arguments).exec();
    Err(cannot_run(&what(), &error))
}

fn cannot_run(what: &str, error: &io::Error) -> Error {
    let reason =
        format!("{error}; install Python with the package voxquarry, or name one in {VARIABLE}");
    Error::io(what.to_owned(), "cannot run")(io::Error::new(error.kind(), reason))
}
