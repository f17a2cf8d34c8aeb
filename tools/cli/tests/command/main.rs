//! The command as a user meets it: files and arguments in, exit codes, text and files out.

mod demo;
mod export;
mod full;
mod help;
mod ingest;
mod inspect;
mod interrupt;
mod preview;
mod world;
