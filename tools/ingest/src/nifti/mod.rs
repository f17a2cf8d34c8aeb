//! NIfTI-1 and NIfTI-2, as `.nii`, `.nii.gz` and `.hdr`/`.img` pairs: read as nibabel reads them, written back byte for byte.
//!
//! NIfTI's first axis is fastest, so a file's bytes are a volume `(c, z, y, x)` in C order as they are; axes 4 to 7 are channels.
//! RGB and RGBA voxels become channels of `uint8`. Inwards: `fields` knows where numbers are, `header` what they mean,
//! `affine` where voxels lie; `input` and `voxels` move bytes; `read` and `write` (with `preamble`) join them.
//!
//! # Invariants
//! - Bytes of a file never panic and never decide how much memory is taken.
//!
//! Not here: Analyze 7.5, which does not say where left is; CIFTI-2, which holds no volume.

// NIfTI, FreeSurfer and their like are names, not code.
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

pub use read::{open, probe};
pub use spec::ExportSpec;
pub use write::NiftiWriter;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The two files of a `.hdr`/`.img` pair, header first, whichever was named; `None` for a single file.
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
    fn either_file_names_the_pair() {
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
