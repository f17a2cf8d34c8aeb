//! The `voxquarry` command: parses arguments, shows progress, and reports errors; the libraries do
//! the work.
//!
//! The exit code is 0, or the fault of an error: 2 the caller, 3 the data, 4 the environment.
//! Errors go to standard error as `error: …`, followed by `help: …` where an option of the command
//! is the remedy.

mod args;
mod commands;
mod output;
mod picture;
mod progress;
mod python;
mod remedy;
mod sampler;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::Parser;
use signal_hook::consts::SIGXFSZ;

use args::{Cli, Command};
use output::{print_error, print_help};

fn main() -> ExitCode {
    let cli = Cli::parse();
    // A file beyond the limit of `ulimit -f` is an error of its write, as on a full disk; without a
    // handler the signal would end the process. Nobody reads the flag.
    let _ = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let result = match &cli.command {
        Command::Ingest(args) => commands::ingest::run(args),
        Command::Info(args) => commands::info::run(args),
        Command::Verify(args) => commands::verify::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Infer(args) => python::run("infer", args),
        Command::Finalize(args) => commands::finalize::run(args),
        Command::View(args) => python::run("view", args),
        Command::Preview(args) => commands::preview::run(args),
        Command::Sample(args) => commands::sample::run(args),
        Command::Bench(args) => commands::bench::run(args),
        Command::PlanLayout(args) => commands::plan_layout::run(args),
        Command::Demo(args) => commands::demo::run(args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            print_error(&error);
            if let Some(help) = remedy::help(&error, &cli.command) {
                print_help(&help);
            }
            ExitCode::from(error.fault().exit_code())
        }
    }
}
