//! Commands that the Python package has: what is passed on, and what is said without Python.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A Python that has the package or not, and shows what it was asked.
fn stand_in(folder: &Path, has_package: bool) -> std::path::PathBuf {
    let path = folder.join("python");
    let probe = u8::from(!has_package);
    let script = format!(
        "#!/bin/sh\nif [ \"$1\" = -c ]; then exit {probe}; fi\nprintf '%s\\n' \"$@\"\nexit 3\n"
    );
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn run(command: &str, python: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_voxquarry"))
        .arg(command)
        .args(arguments)
        .env("VOXQUARRY_PYTHON", python)
        .output()
        .unwrap()
}

#[test]
fn arguments_and_exit_codes_are_passed_on() {
    let folder = tempfile::tempdir().unwrap();
    let python = stand_in(folder.path(), true);
    let arguments = ["a.zarr/b/c", "--model", "n e t.pt", "--help", "--patch-size", "8,-1,8", "--"];
    for command in ["infer", "view", "report"] {
        let output = run(command, &python, &arguments);
        assert_eq!(output.status.code(), Some(3));
        let told = String::from_utf8(output.stdout).unwrap();
        let expected = [&["-m", "voxquarry", command][..], &arguments].concat().join("\n") + "\n";
        assert_eq!(told, expected);
    }
}

#[test]
fn a_comparison_with_other_loaders_is_pythons() {
    let folder = tempfile::tempdir().unwrap();
    let python = stand_in(folder.path(), true);
    let arguments = ["a.zarr", "--seconds", "3", "--against", "monai,torchio"];
    let output = run("bench", &python, &arguments);
    assert_eq!(output.status.code(), Some(3));
    let told = String::from_utf8(output.stdout).unwrap();
    let expected = [&["-m", "voxquarry", "bench"][..], &arguments].concat().join("\n") + "\n";
    assert_eq!(told, expected);
    // Without it, the store is measured here, and there is none.
    assert_eq!(run("bench", &python, &arguments[..3]).status.code(), Some(2));
}

#[test]
fn without_python_or_the_package_the_remedy_is_told() {
    let folder = tempfile::tempdir().unwrap();
    for python in [stand_in(folder.path(), false), folder.path().join("none")] {
        let output = run("infer", &python, &["a.zarr/b/c"]);
        assert_eq!(output.status.code(), Some(4));
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(told.starts_with("error: ") && told.contains("VOXQUARRY_PYTHON"), "{told}");
        assert!(told.contains("package voxquarry"), "{told}");
    }
}
