//! Runs one test again in a child process, which can be limited, killed and measured.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const FOLDER: &str = "VOXQUARRY_TEST_CHILD";

/// The folder that the parent created, if this process is a child.
pub fn folder() -> Option<PathBuf> {
    env::var_os(FOLDER).map(Into::into)
}

/// Runs only `test` in a child, after the shell command `first`; the child finds `folder`.
pub fn run(test: &str, folder: &Path, first: &str) -> Output {
    let mut shell = Command::new("sh");
    shell.arg("-c").arg(format!("{first}; exec \"$@\"")).arg("sh");
    shell.arg(env::current_exe().unwrap()).args([test, "--exact", "--nocapture"]);
    shell.env(FOLDER, folder).output().unwrap()
}

/// As [`run`], for a child that must succeed; returns its output.
pub fn run_ok(test: &str, folder: &Path, first: &str) -> String {
    let output = run(test, folder, first);
    let [out, err] =
        [output.stdout, output.stderr].map(|b| String::from_utf8_lossy(&b).into_owned());
    assert!(output.status.success(), "{out}{err}");
    // A name that matches no test would succeed as well.
    assert!(out.contains("1 passed"), "{test}: {out}");
    out
}
