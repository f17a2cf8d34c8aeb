//! The bytes of a store: the Rust side of `format-spec/README.md`, section by section.
//!
//! # Invariants
//! - Everything parsed from a file is checked here once and becomes a type that holds only valid
//!   values.
//! - [`limits`] holds the numbers of the specification; `tests/spec.rs` compares them with its
//!   tables.
//!
//! Not here: mapping shards (`sys`), decoding chunks (`codec`).

pub mod array;
pub mod attributes;
pub mod document;
pub mod grid;
pub mod index;
pub mod layout;
pub mod levels;
pub mod limits;
mod names;
pub(crate) mod nifti;
pub mod ome;

pub use attributes::VERSION;
pub use names::{PARTIAL_DIR, check_name};
