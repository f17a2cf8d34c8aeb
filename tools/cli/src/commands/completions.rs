//! `voxquarry completions`: a script that completes commands and options in a shell.

use crate::SUCCESS;
use crate::args::{CompletionsArgs, command_line};
use crate::output::line;

/// Prints the script, and returns the exit code.
pub(crate) fn run(args: &CompletionsArgs) -> u8 {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command_line(), "voxquarry", &mut script);
    line(String::from_utf8_lossy(&script).trim_end());
    SUCCESS
}
