//! Stores behind URLs: what is read of them is fetched, checked and kept in a folder.
//!
//! Small files are fetched whole and remembered. A shard becomes a sparse local file, into which
//! chunks come when they are wanted; from there on it is read like any other shard.
//!
//! # Invariants
//! - Nothing of a server's answer is believed before its checksum, or that of what names it, was
//!   compared.
//! - Nothing is written to a server.
//!
//! Not here: which chunks a read wants (`array`), and what will be read later (`queue`).

mod address;
mod aws_profile;
mod client;
mod disk_cache;
mod documents;
mod failure;
mod fetched_shard;
mod options;
mod store;

pub use options::RemoteOptions;
pub(crate) use store::open;
