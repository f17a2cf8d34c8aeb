//! `voxquarry man`: a manual page for the command, and one for each of its commands.

use std::fs;
use std::io;

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};
use voxquarry::{Error, Result};

use crate::SUCCESS;
use crate::args::{ManArgs, command_line};

/// Writes the pages, and replaces those of the same names.
///
/// # Errors
/// [`Error::Io`] if the folder or a page cannot be written.
pub(crate) fn run(args: &ManArgs) -> Result<u8> {
    fs::create_dir_all(&args.folder).map_err(Error::io(&args.folder, "cannot make"))?;
    let mut command = command_line().disable_help_subcommand(true);
    command.build();
    let commands = command.get_subcommands().cloned().chain([command.clone()]);
    for command in commands {
        let page = Man::new(command.clone());
        let path = args.folder.join(page.get_filename());
        let text = rendered(&page, &command).map_err(Error::io(&path, "cannot render"))?;
        fs::write(&path, text).map_err(Error::io(&path, "cannot write"))?;
    }
    Ok(SUCCESS)
}

/// A page in the markup of roff.
fn rendered(page: &Man, command: &Command) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    if let Some(after) = command.get_after_help() {
        sections(&after.to_string()).to_writer(&mut text)?;
    }
    Ok(text)
}

/// The paragraphs below the options in sections of their own; lines of lists and examples stay
/// lines.
fn sections(after: &str) -> Roff {
    let mut roff = Roff::new();
    let mut last = "";
    for paragraph in after.split("\n\n") {
        let (heading, body) = match paragraph.split_once('\n') {
            Some((first, rest)) if first.starts_with("Example") => ("EXAMPLES", rest),
            _ if paragraph.starts_with("Exit codes") => ("EXIT STATUS", paragraph),
            _ => ("NOTES", paragraph),
        };
        if heading == last {
            roff.control("PP", []);
        } else {
            roff.control("SH", [heading]);
        }
        last = heading;
        let is_list = body.lines().skip(1).any(|line| line.starts_with("  "));
        let as_it_is = heading == "EXAMPLES" || is_list;
        if as_it_is {
            roff.control("nf", []);
        }
        for line in body.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        if as_it_is {
            roff.control("fi", []);
        }
    }
    roff
}
