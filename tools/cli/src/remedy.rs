//! Words the remedy of an error in terms of the command's options.
//!
//! The library states facts and knows no options; its errors are printed as they are, and the
//! remedy follows in a line of its own.

use std::io::ErrorKind;

use voxquarry::Error;

use crate::args::Command;

/// The option that helps after `error` in `command`, if there is one.
pub(crate) fn help(error: &Error, command: &Command) -> Option<String> {
    let text = match (error.root(), command) {
        (Error::Exists { .. } | Error::ExistsOtherwise { .. }, Command::Ingest(_)) => {
            "replace it with --overwrite, or skip it with --skip-existing"
        }
        (Error::Exists { .. }, Command::Export(_) | Command::Preview(_)) => {
            "replace it with --overwrite"
        }
        (Error::WouldRemove { .. }, Command::Ingest(_)) => "keep the other volumes with --add",
        (Error::MemoryBudget { needed_bytes, .. }, Command::Ingest(_)) => {
            let mebibytes = needed_bytes.div_ceil(1 << 20);
            return Some(format!("allow more with --memory {mebibytes}MiB"));
        }
        (Error::PatchTooLarge { .. }, Command::Bench(_)) => "choose a smaller --patch-size",
        (Error::PatchTooLarge { .. }, Command::Preview(_) | Command::Sample(_)) => {
            "choose a smaller --patch-size, or --border pad"
        }
        (Error::NothingToSample { .. }, Command::Preview(_) | Command::Sample(_)) => {
            "choose another volume with --labels or --weights, or other labels with --probabilities"
        }
        (Error::ConstraintsUnmet { .. }, Command::Preview(_) | Command::Sample(_)) => {
            "relax --min-foreground, --inside or --min-distance"
        }
        (Error::NotAStore { reason, .. }, Command::Ingest(_)) if reason.contains("finalize") => {
            "run it with --finalize again"
        }
        (Error::NotAStore { .. }, Command::Ingest(_)) => "choose a new folder for --out",
        (Error::NotAStore { .. }, _) => "name a store that `voxquarry ingest` has written",
        (Error::Io { source, .. }, _) => match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
                "free some space, and run the same command again"
            }
            ErrorKind::FileTooLarge => {
                "allow larger files (ulimit -f), and run the same command again"
            }
            _ => return None,
        },
        (Error::Interrupted, Command::Ingest(_)) => "run the same command again to continue",
        _ => return None,
    };
    Some(text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::args::Cli;

    fn errors() -> Vec<Error> {
        let path = || PathBuf::from("s.zarr");
        vec![
            Error::Exists { path: path(), remedy: String::new() },
            Error::ExistsOtherwise { path: path(), difference: String::new() },
            Error::WouldRemove { path: path(), volumes: vec!["ct".into()] },
            Error::MemoryBudget { what: "a".into(), needed_bytes: 95 << 20, allowed_bytes: 1 },
            Error::PatchTooLarge { patch_size: [9; 3], shape: [8; 3] },
            Error::NothingToSample {
                place: "a".into(),
                wanted: "b".into(),
                patch_size: [1; 3],
                border: "pad",
                is_elsewhere: false,
            },
            Error::ConstraintsUnmet { subject: "a".into(), n: 0, attempts: 1 },
            Error::NotAStore { path: path(), reason: "b".into() },
            Error::Interrupted,
        ]
    }

    #[test]
    fn every_option_in_a_remedy_is_one_of_the_command() {
        let mut seen = 0;
        for words in [
            "ingest a.nii --out s",
            "info s",
            "verify s",
            "fingerprint s",
            "export s/a/b c.nii",
            "preview s/a a.png",
            "sample s",
            "bench s",
            "plan-layout a.nii",
            "demo",
        ] {
            let name = words.split(' ').next().unwrap();
            let command =
                Cli::parse_from([&["voxquarry"], &*words.split(' ').collect::<Vec<_>>()].concat())
                    .command;
            let definition = Cli::command();
            let definition = definition.find_subcommand(name).unwrap();
            for help in errors().iter().filter_map(|error| help(error, &command)) {
                for option in help.split([' ', ',']).filter_map(|word| word.strip_prefix("--")) {
                    let known = definition.get_arguments().any(|a| a.get_long() == Some(option));
                    assert!(known, "{name} has no --{option}: {help}");
                    seen += 1;
                }
            }
        }
        assert!(seen > 10, "{seen} options");
    }

    #[test]
    fn memory_is_rounded_up_to_what_suffices() {
        let command = Cli::parse_from(["voxquarry", "ingest", "a.nii", "--out", "s"]).command;
        let needed_bytes = (95 << 20) + 1;
        let error = Error::MemoryBudget { what: "a".into(), needed_bytes, allowed_bytes: 1 };
        assert_eq!(help(&error, &command).unwrap(), "allow more with --memory 96MiB");
    }
}
