//! Manages the folder of the demo, and compares two image files.

use std::fs::{self, File, Metadata};
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;
use voxquarry::{Error, Result};

/// The file that marks a folder of the demo.
const MARK: &str = ".voxquarry-demo";

/// The folder of the demo.
pub(super) struct DemoFolder {
    path: PathBuf,
}

impl DemoFolder {
    /// Creates the folder, or reuses that of an earlier demo and removes its store.
    ///
    /// # Errors
    /// [`Error::Exists`] for a file, or for another folder that is not empty; [`Error::Io`].
    pub(super) fn prepare(path: &Path) -> Result<Self> {
        let folder = Self { path: path.to_owned() };
        let mark = folder.join(MARK);
        if !found(&mark)?.is_some_and(|mark| mark.is_file()) {
            let is_file = found(path)?.is_some_and(|path| path.is_file());
            if !is_file {
                fs::create_dir_all(path).map_err(Error::io(path, "cannot create"))?;
            }
            let is_empty = |path| fs::read_dir(path).map(|mut entries| entries.next().is_none());
            if is_file || !is_empty(path).map_err(Error::io(path, "cannot list"))? {
                let remedy = "it is not a folder of the demo, choose another --dir".into();
                return Err(Error::Exists { path: path.to_owned(), remedy });
            }
            let note =
                "Made by `voxquarry demo`, which replaces its files here when it runs again.\n";
            fs::write(&mark, note).map_err(Error::io(&mark, "cannot write"))?;
        }
        let store = folder.store();
        if found(&store)?.is_some() {
            fs::remove_dir_all(&store).map_err(Error::io(&store, "cannot remove"))?;
        }
        Ok(folder)
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(super) fn store(&self) -> PathBuf {
        self.join("store.zarr")
    }

    /// The path of the export of `image`, with the same extensions.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if that is the image itself.
    pub(super) fn exported(&self, image: &Path) -> Result<PathBuf> {
        let name = image.file_name().unwrap_or_default().to_string_lossy();
        let stem = voxquarry_ingest::subject_of(image);
        let out = self.join(&format!("exported{}", &name[stem.len()..]));
        if files_of(image).contains(&out) || same_file(image, &out) {
            let reason = format!("the demo would write over {}", image.display());
            return Err(Error::unsupported(reason, "move it to another folder"));
        }
        Ok(out)
    }
}

/// What is at a path, if there is something. What the disk does not say is an error, and never
/// taken for absent.
fn found(path: &Path) -> Result<Option<Metadata>> {
    match fs::metadata(path) {
        Ok(found) => Ok(Some(found)),
        // The mark of what is a file itself.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(Error::io(path, "cannot look at")(error)),
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The file itself, or both files of a pair.
fn files_of(path: &Path) -> Vec<PathBuf> {
    let name = path.to_string_lossy();
    let bare = name.strip_suffix(".gz").unwrap_or(&name);
    let gz = &name[bare.len()..];
    for (this, other) in [("hdr", "img"), ("img", "hdr"), ("HDR", "IMG"), ("IMG", "HDR")] {
        if let Some(stem) = bare.strip_suffix(this).filter(|stem| stem.ends_with('.')) {
            return vec![path.to_owned(), format!("{stem}{other}{gz}").into()];
        }
    }
    vec![path.to_owned()]
}

/// Bytes of the image's files on disk.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn bytes_of(path: &Path) -> Result<u64> {
    let length = |path: PathBuf| {
        fs::metadata(&path).map(|m| m.len()).map_err(Error::io(&path, "cannot read the size"))
    };
    files_of(path).into_iter().map(length).sum()
}

/// Whether two image files hold the same bytes after decompression: header, extensions and voxels.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn equal(a: &Path, b: &Path) -> Result<bool> {
    for (a, b) in files_of(a).iter().zip(&files_of(b)) {
        let (mut from_a, mut from_b) = (DecompressedFile::open(a)?, DecompressedFile::open(b)?);
        loop {
            let (a, b) = (from_a.next()?, from_b.next()?);
            if a != b {
                return Ok(false);
            }
            if a.is_empty() {
                break;
            }
        }
    }
    Ok(true)
}

/// Reads a file piece by piece, decompressed.
struct DecompressedFile {
    path: PathBuf,
    reader: Box<dyn Read>,
    piece: Vec<u8>,
}

impl DecompressedFile {
    const PIECE_BYTES: usize = 1 << 20;

    fn open(path: &Path) -> Result<Self> {
        let file = BufReader::new(File::open(path).map_err(Error::io(path, "cannot open"))?);
        let is_gzip = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gz"));
        let reader: Box<dyn Read> =
            if is_gzip { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        Ok(Self { path: path.to_owned(), reader, piece: Vec::new() })
    }

    /// The next piece. All but the last are full, and an empty one marks the end.
    fn next(&mut self) -> Result<&[u8]> {
        self.piece.clear();
        let mut rest = (&mut self.reader).take(Self::PIECE_BYTES as u64);
        let read: io::Result<usize> = rest.read_to_end(&mut self.piece);
        read.map_err(Error::io(&self.path, "cannot read"))?;
        Ok(&self.piece)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    #[test]
    fn every_difference_is_found_whatever_the_compression() {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str, members: &[&[u8]], level: u32| {
            let mut bytes = Vec::new();
            for member in members {
                let mut encoder = GzEncoder::new(&mut bytes, Compression::new(level));
                encoder.write_all(member).unwrap();
                encoder.finish().unwrap();
            }
            let path = folder.path().join(name);
            fs::write(&path, bytes).unwrap();
            path
        };
        let bytes: Vec<u8> = (0..(5 << 19)).map(|i: u32| (i.wrapping_mul(i) >> 7) as u8).collect();
        let original = file("a.nii.gz", &[&bytes], 1);
        let (head, tail) = bytes.split_at(1000);
        assert!(equal(&original, &file("b.nii.gz", &[head, tail], 9)).unwrap());
        assert!(!equal(&original, &file("c.nii.gz", &[&bytes[1..]], 1)).unwrap());
        assert!(!equal(&original, &file("d.nii.gz", &[&bytes, b"x"], 1)).unwrap());
        let mut other = bytes.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(!equal(&original, &file("e.nii.gz", &[&other], 1)).unwrap());
    }

    /// A folder that cannot be looked at is no folder without a demo (issue 19): here because its
    /// name is too long, as for EIO.
    #[test]
    fn what_the_disk_does_not_say_is_not_absent() {
        let folder = tempfile::tempdir().unwrap();
        let long = folder.path().join("x".repeat(300));
        let refused = DemoFolder::prepare(&long).err().expect("it is refused");
        assert!(refused.to_string().contains("cannot look at"), "{refused}");
        let file = folder.path().join("file");
        fs::write(&file, b"").unwrap();
        assert!(matches!(DemoFolder::prepare(&file), Err(Error::Exists { .. })));
        let made = DemoFolder::prepare(&folder.path().join("demo")).unwrap();
        fs::create_dir(made.store()).unwrap();
        assert!(DemoFolder::prepare(&folder.path().join("demo")).is_ok());
        assert!(!made.store().exists());
    }

    #[test]
    fn both_files_of_a_pair_are_compared() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for (name, bytes) in [("a.hdr", b"h"), ("a.img", b"i"), ("b.hdr", b"h"), ("b.img", b"j")] {
            fs::write(path(name), bytes).unwrap();
        }
        assert!(!equal(&path("a.hdr"), &path("b.hdr")).unwrap());
        assert!(!equal(&path("a.img"), &path("b.img")).unwrap());
        assert!(equal(&path("a.img"), &path("a.hdr")).is_ok_and(|equal| !equal));
        fs::write(path("b.img"), b"i").unwrap();
        assert!(equal(&path("a.hdr"), &path("b.hdr")).unwrap());
        assert_eq!(bytes_of(&path("a.img")).unwrap(), 2);
    }
}
