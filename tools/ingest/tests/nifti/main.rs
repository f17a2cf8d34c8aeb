//! Synthetic NIfTI files, read and written back. Expected numbers come from the standard and from
//! nibabel, not from our code.

#![allow(missing_docs, unreachable_pub)]
// NIfTI is a name, not code.
#![allow(clippy::doc_markdown)]

mod affine;
mod build;
mod hostile;
mod read;
mod write;
