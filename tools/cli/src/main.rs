//! The `voxquarry` command: arguments in, progress and exit codes out; the work is done by the libraries.
//!
//! Exit codes: 0; 2 the caller's fault; 3 the data's; 4 the environment's. Errors go to standard error as `error: …`.

mod args;
mod commands;
mod output;
mod picture;
mod progress;
mod sampler;

use std::process::ExitCode;

use clap::Parser;

use args::{Cli, Command};
use output::print_error;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Ingest(args) => commands::ingest::run(&args),
        Command::Info(args) => commands::info::run(&args),
        Command::Verify(args) => commands::verify::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::Preview(args) => commands::preview::run(&args),
        Command::Sample(args) => commands::sample::run(&args),
        Command::Bench(args) => commands::bench::run(&args),
        Command::PlanLayout(args) => commands::plan_layout::run(&args),
        Command::Demo(args) => commands::demo::run(&args),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            print_error(&error);
            ExitCode::from(error.fault().exit_code())
        }
    }
}
