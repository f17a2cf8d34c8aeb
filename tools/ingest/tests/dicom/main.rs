//! DICOM: files made byte by byte, what they mean, and hostile ones.

#![allow(missing_docs, unreachable_pub, clippy::missing_panics_doc)]
// VRs are written as byte strings.
#![allow(clippy::trivially_copy_pass_by_ref)]

mod build;
mod hostile;
mod multi;
mod privacy;
mod series;
