//! Runs programs under `strace`, which lists their system calls, lets one fail, or kills at one.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

/// Seconds after which a program counts as hanging.
pub(crate) const LIMIT_SECONDS: &str = "20";

/// A system call that fails or kills, with the errors that a file system gives.
pub(crate) struct Target {
    pub(crate) call: &'static str,
    pub(crate) errors: &'static [&'static str],
}

/// All calls that touch files. Of `mmap` only maps of files are chosen: without memory a program
/// may abort.
pub(crate) const TARGETS: &[Target] = &[
    Target { call: "openat", errors: &["EIO", "ENOSPC", "EDQUOT", "EINTR", "EMFILE", "EACCES"] },
    Target { call: "read", errors: &["EIO", "EINTR"] },
    Target { call: "pread64", errors: &["EIO", "EINTR"] },
    Target { call: "preadv2", errors: &["EIO", "EOPNOTSUPP"] },
    Target { call: "write", errors: &["EIO", "ENOSPC", "EDQUOT", "EINTR"] },
    Target { call: "writev", errors: &["EIO", "ENOSPC", "EDQUOT", "EINTR"] },
    Target { call: "pwrite64", errors: &["EIO", "ENOSPC", "EDQUOT", "EINTR"] },
    Target { call: "fsync", errors: &["EIO", "ENOSPC", "EDQUOT", "EINTR"] },
    Target { call: "fdatasync", errors: &["EIO", "ENOSPC", "EDQUOT"] },
    Target { call: "rename", errors: &["EIO", "ENOSPC", "EDQUOT"] },
    Target { call: "renameat", errors: &["EIO", "ENOSPC", "EDQUOT"] },
    Target { call: "renameat2", errors: &["EIO", "ENOSPC", "EDQUOT", "EINVAL"] },
    Target { call: "mkdir", errors: &["EIO", "ENOSPC", "EDQUOT"] },
    Target { call: "mkdirat", errors: &["EIO", "ENOSPC", "EDQUOT"] },
    Target { call: "unlink", errors: &["EIO"] },
    Target { call: "unlinkat", errors: &["EIO"] },
    Target { call: "rmdir", errors: &["EIO"] },
    Target { call: "flock", errors: &["EINTR", "ENOLCK"] },
    Target { call: "mmap", errors: &["ENOMEM", "ENODEV"] },
    Target { call: "ftruncate", errors: &["EIO", "ENOSPC", "EINTR"] },
    Target { call: "fallocate", errors: &["EIO", "ENOSPC", "EINTR"] },
    Target { call: "fstat", errors: &["EIO"] },
    Target { call: "statx", errors: &["EIO", "EACCES"] },
    Target { call: "newfstatat", errors: &["EIO", "EACCES"] },
    Target { call: "getdents64", errors: &["EIO"] },
    Target { call: "lseek", errors: &["EIO"] },
    Target { call: "fadvise64", errors: &["EIO"] },
    Target { call: "madvise", errors: &["EIO"] },
    Target { call: "fcntl", errors: &["EMFILE"] },
    // The standard library panics if a folder cannot be closed.
    Target { call: "close", errors: &[] },
];

/// The numbers that the calls of each target have in their threads; only calls that touch files,
/// after the program has been loaded.
pub(crate) type Calls = BTreeMap<usize, Vec<u32>>;

/// Whether strace can be used here.
pub(crate) fn check() -> Result<(), String> {
    let run = Command::new("strace").args(["-f", "-qq", "-o", "/dev/null", "true"]).output();
    match run {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(format!("strace: {}", String::from_utf8_lossy(&output.stderr))),
        Err(e) => Err(format!("strace: {e}: install the package strace")),
    }
}

/// `program`, run by the command `around` and killed when it hangs.
pub(crate) fn limited(around: &[&str], program: &Command) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal=KILL", LIMIT_SECONDS]).args(around);
    command.arg(program.get_program()).args(program.get_args());
    command
}

fn strace(options: &[&str], program: &Command) -> Command {
    limited(&[&["strace", "-f", "-qq"], options, &["--"]].concat(), program)
}

/// Lists the calls of a program that touches files in `folder` only.
pub(crate) fn list(program: &Command, folder: &Path) -> Result<(Calls, Output), String> {
    let log = tempfile::NamedTempFile::new().map_err(|e| e.to_string())?;
    let names: Vec<&str> = TARGETS.iter().map(|target| target.call).collect();
    let trace = format!("trace=?{}", names.join(",?"));
    let path = log.path().to_string_lossy();
    let options = ["-e", &trace, "-o", &path];
    let output = strace(&options, program).output().map_err(|e| format!("strace: {e}"))?;
    let text = fs::read(log.path()).map_err(|e| e.to_string())?;
    Ok((parse(&String::from_utf8_lossy(&text), &folder.to_string_lossy()), output))
}

fn parse(log: &str, folder: &str) -> Calls {
    let mut calls = Calls::new();
    // Calls so far, by thread and name; and how many of each the loader makes.
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut loader: Option<BTreeMap<&str, u32>> = None;
    for line in log.lines() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = rest.trim_start().split_once('(') else { continue };
        let Some(target) = TARGETS.iter().position(|target| target.call == name) else { continue };
        let count = counts.entry((thread, name)).or_default();
        *count += 1;
        let number = *count;
        if loader.is_none() && arguments.contains(folder) {
            let before = counts.iter().map(|((_, name), count)| {
                (*name, if *name == TARGETS[target].call { count - 1 } else { *count })
            });
            loader = Some(before.collect());
        }
        let Some(loader) = &loader else { continue };
        let is_memory = name == "mmap" && arguments.contains("MAP_ANONYMOUS")
            || name == "madvise" && arguments.contains("DONTNEED");
        let is_terminal = name.starts_with("write") && arguments.starts_with("2,");
        if number > loader.get(name).copied().unwrap_or(0) && !is_memory && !is_terminal {
            calls.entry(target).or_default().push(number);
        }
    }
    for numbers in calls.values_mut() {
        numbers.sort_unstable();
        numbers.dedup();
    }
    calls
}

/// What happens at a call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Kill,
    Error(&'static str),
    /// From this call on: a disk that stays full or broken.
    Errors(&'static str),
}

/// Runs a program in which something happens at the call of that number in each thread.
pub(crate) fn inject(
    program: &Command,
    call: &str,
    number: u32,
    fault: Fault,
) -> Result<Output, String> {
    let what = match fault {
        Fault::Kill => format!("signal=SIGKILL:when={number}"),
        Fault::Error(error) => format!("error={error}:when={number}"),
        Fault::Errors(error) => format!("error={error}:when={number}+"),
    };
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}"));
    let options = ["-o", "/dev/null", "-e", &trace, "-e", &inject];
    strace(&options, program).output().map_err(|e| format!("strace: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_of_the_loader_and_for_memory_are_left_out() {
        let log = "\
7 openat(AT_FDCWD, \"/lib/libc.so.6\", O_RDONLY) = 3
7 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7
7 openat(AT_FDCWD, \"/w/a\", O_RDONLY) = 3
7 mmap(NULL, 8192, PROT_READ, MAP_SHARED, 3, 0) = 0x8
8 openat(AT_FDCWD, \"/w/b\", O_RDONLY) = 4
8 openat(AT_FDCWD, \"/w/c\", O_RDONLY) = 4
7 write(2, \"error\", 5) = 5
7 write(3, \"voxel\", 5) = 5
";
        let calls = parse(log, "/w/");
        let numbers = |call: &str| {
            let target = TARGETS.iter().position(|target| target.call == call).unwrap();
            calls.get(&target).cloned().unwrap_or_default()
        };
        assert_eq!(numbers("openat"), [2]);
        assert_eq!(numbers("mmap"), [2]);
        assert_eq!(numbers("write"), [2]);
    }
}
