//! NIfTI-1 and NIfTI-2, as `.nii`, `.nii.gz` and `.hdr`/`.img` pairs: read as nibabel reads them, written back byte for byte.
//!
//! NIfTI's first axis is fastest, so a file's bytes are a volume `(c, z, y, x)` in C order as they are; axes 4 to 7 are channels.
//! RGB and RGBA voxels become channels of `uint8`.

mod affine;
mod header;
mod read;
mod write;

pub use read::{open, probe};
pub use write::{ExportSpec, NiftiWriter};

use std::path::{Path, PathBuf};

/// The two files of a `.hdr`/`.img` pair, whichever was named; `None` for a single file.
fn pair_of(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let name = path.file_name()?.to_str()?;
    let (stem, gz) = match name.len().checked_sub(3).and_then(|cut| name.split_at_checked(cut)) {
        Some((stem, gz)) if gz.eq_ignore_ascii_case(".gz") => (stem, gz),
        _ => (name, ""),
    };
    let (base, extension) = stem.rsplit_once('.')?;
    if !extension.eq_ignore_ascii_case("hdr") && !extension.eq_ignore_ascii_case("img") {
        return None;
    }
    let upper = extension.chars().all(char::is_uppercase);
    let [header, image] = if upper { ["HDR", "IMG"] } else { ["hdr", "img"] };
    let named = |extension: &str| path.with_file_name(format!("{base}.{extension}{gz}"));
    Some((named(header), named(image)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_file_names_the_pair() {
        let pair = |name: &str| pair_of(Path::new(name)).map(|(h, i)| (h.to_str().unwrap().to_owned(), i.to_str().unwrap().to_owned()));
        assert_eq!(pair("a/b.img"), Some(("a/b.hdr".into(), "a/b.img".into())));
        assert_eq!(pair("b.x.hdr.gz"), Some(("b.x.hdr.gz".into(), "b.x.img.gz".into())));
        assert_eq!(pair("B.HDR"), Some(("B.HDR".into(), "B.IMG".into())));
        for single in ["b.nii", "b.nii.gz", "hdr", "ä", ""] {
            assert_eq!(pair(single), None);
        }
    }
}
