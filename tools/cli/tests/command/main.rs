//! The command as its users see it: arguments and files in, exit codes, text and files out.

mod bench;
mod change;
mod completions;
mod demo;
mod export;
mod full;
mod help;
mod ingest;
mod inspect;
mod interrupt;
mod limits;
mod parts;
mod plan_layout;
mod preview;
mod python;
mod sample;
mod workspace;
