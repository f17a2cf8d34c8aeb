//! Reads NIfTI-1 and NIfTI-2 as nibabel does, and writes them back byte for byte: `.nii`, `.nii.gz`
//! and `.hdr`/`.img` pairs.
//!
//! The first axis of NIfTI is the fastest, so the bytes of a file are a volume `(c, z, y, x)` in C
//! order. Axes 4 to 7 become channels, and so do the samples of RGB and RGBA voxels.
//!
//! `fields` locates the numbers of a header, `header` interprets them, `affine` computes where
//! voxels lie. `input` and `voxels` move bytes. `read` and `write` (with `preamble`) combine them.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//!
//! Not here: Analyze 7.5, which does not state which side is left; CIFTI-2, which does not hold a
//! volume.

// NIfTI and FreeSurfer are names, not code.
#![allow(clippy::doc_markdown)]

mod affine;
mod datatype;
mod extended;
mod fields;
mod header;
mod input;
mod preamble;
mod read;
mod spec;
mod voxels;
mod write;

pub(crate) use read::voxel_file;
pub use read::{open, open_with, probe, probe_with};
pub use spec::ExportSpec;
pub use write::NiftiWriter;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The header and image files of a pair, from the path of either; `None` for a single file.
fn pair_of(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let is = |extension: &OsStr, name: &str| extension.eq_ignore_ascii_case(name);
    let gz = path.extension().filter(|e| is(e, "gz"));
    let bare = if gz.is_some() { path.with_extension("") } else { path.to_owned() };
    let extension = bare.extension()?;
    let names_header = is(extension, "hdr");
    if !names_header && !is(extension, "img") {
        return None;
    }
    let upper = extension.as_encoded_bytes().iter().all(u8::is_ascii_uppercase);
    let [header, image] = if upper { ["HDR", "IMG"] } else { ["hdr", "img"] };
    let mut other = bare.with_extension(if names_header { image } else { header }).into_os_string();
    if let Some(gz) = gz {
        other.push(".");
        other.push(gz);
    }
    let (named, other) = (path.to_owned(), PathBuf::from(other));
    Some(if names_header { (named, other) } else { (other, named) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_file_of_a_pair_leads_to_both() {
        for (named, header, image) in [
            ("a/b.img", "a/b.hdr", "a/b.img"),
            ("b.x.hdr.gz", "b.x.hdr.gz", "b.x.img.gz"),
            ("B.HDR", "B.HDR", "B.IMG"),
            ("B.IMG.GZ", "B.HDR.GZ", "B.IMG.GZ"),
            ("B.Img", "B.hdr", "B.Img"),
        ] {
            assert_eq!(pair_of(Path::new(named)), Some((header.into(), image.into())));
        }
        for single in ["b.nii", "b.nii.gz", "hdr", ".hdr", ".gz", "b.gz", "ä", ""] {
            assert_eq!(pair_of(Path::new(single)), None, "{single}");
        }
    }
}
