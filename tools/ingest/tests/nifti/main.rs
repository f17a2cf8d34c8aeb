//! NIfTI files made by hand, read and written back; expected numbers come from the standard and from nibabel, not from our code.

#![allow(missing_docs, unreachable_pub)]
// Bits are compared on purpose, and NIfTI is a name.
#![allow(clippy::doc_markdown)]

mod affine;
mod build;
mod hostile;
mod read;
mod write;
