//! The two files of a pair, `.hdr` and `.img`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// The header and image files of a pair, from the path of either; `None` for a single file.
pub(super) fn pair_of(path: &Path) -> Option<(PathBuf, PathBuf)> {
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
