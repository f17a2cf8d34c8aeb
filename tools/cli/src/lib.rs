//! The `voxquarry` command: parses arguments, shows progress, and reports errors; the libraries do
//! the work. The binary and the Python package's command both run it.
//!
//! The exit code is 0, or the fault of an error: 2 the caller, 3 the data, 4 the environment.
//! Errors go to standard error as `error: …`, followed by `help: …` where an option of the command
//! is the remedy.

mod args;
mod commands;
mod meeting;
mod no_memory;
mod output;
mod picture;
mod progress;
mod python;
mod remedy;
mod sampler;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::SIGXFSZ;

use args::{Cli, Command};
use output::{print_error, print_help};

pub use commands::picture::{PictureOptions, picture_png};

/// The exit code of a command that did what it was asked to.
pub(crate) const SUCCESS: u8 = 0;

/// Runs the command with its arguments, the first of which is its name; returns the exit code.
///
/// A process runs it once: it handles signals from then on.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    no_memory::tell_failed_allocations();
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(told) => {
            // Help, the version, or what is wrong; a reader that went away needs none of it.
            let _ = told.print();
            return told.exit_code() as u8;
        }
    };
    // A file beyond the limit of `ulimit -f` is an error of its write, as on a full disk; without a
    // handler the signal would end the process. Nobody reads the flag.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let result = match &cli.command {
        Command::Ingest(args) => commands::ingest::run(args),
        Command::Info(args) => commands::info::run(args),
        Command::Fingerprint(args) => commands::fingerprint::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Infer(args) => python::run("infer", &args.arguments),
        Command::Finalize(args) => commands::finalize::run(args),
        Command::Components(args) => commands::components::run(args),
        Command::View(args) => python::run("view", &args.arguments),
        Command::Report(args) => python::run("report", &args.arguments),
        Command::Preview(args) => commands::preview::run(args),
        Command::Sample(args) => commands::sample::run(args),
        // What follows `voxquarry bench`.
        Command::Bench(args) if !args.against.is_empty() => python::run("bench", &arguments[2..]),
        Command::Bench(args) => commands::bench::run(args),
        Command::PlanLayout(args) => commands::plan_layout::run(args),
        Command::Demo(args) => commands::demo::run(args),
        Command::Completions(args) => Ok(commands::completions::run(args)),
        Command::Man(args) => commands::man::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            print_error(&error);
            if let Some(help) = remedy::help(&error, &cli.command) {
                print_help(&help);
            }
            error.fault().exit_code()
        }
    }
}
