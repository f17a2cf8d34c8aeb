//! The binary `voxquarry`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(voxquarry_cli::run(std::env::args_os()))
}
