//! Writes NIfTI files, step by step: with the source's own header where there is one, else with a fresh one.
//!
//! # Invariants
//! - A file appears whole, under its own name, when it is finished; a writer that is dropped leaves nothing.
//! - Voxels are counted: a file with too few is never finished, nor one of which a part could not be written.
//!
//! Not here: what stands before the voxels (`preamble`).

use std::fs::{self, File, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use voxquarry::IfExists;
use voxquarry::{Dtype, Error, Result};

use super::fields::{Form, Order};
use super::preamble::Preamble;
use super::spec::ExportSpec;
use super::{pair_of, voxels};
use crate::gzip::GzipWriter;

const BUFFER_BYTES: usize = 1 << 20;
/// Temporary names that are tried before giving up.
const MAX_NAMES: u32 = 1000;

/// A NIfTI file that is being written.
pub struct NiftiWriter {
    order: Order,
    samples: usize,
    dtype: Dtype,
    /// Voxels of a plane.
    plane: usize,
    expected_bytes: u64,
    written_bytes: u64,
    existing: IfExists,
    /// Takes the voxels.
    body: OutputBody,
    /// Where these will be found.
    path: PathBuf,
    files: Vec<StagedFile>,
    scratch: Vec<u8>,
}

enum OutputBody {
    Plain(BufWriter<File>),
    Gzip(GzipWriter<BufWriter<File>>),
    /// Some bytes are lost: more of them would make a file of the right length with wrong voxels.
    Failed,
}

/// A file under its temporary name, which is removed with it.
struct StagedFile {
    temporary: PathBuf,
    target: PathBuf,
    /// Locked while a writer is alive.
    _lock: File,
}

impl NiftiWriter {
    /// Begins the file at `out`: `.nii`, `.nii.gz`, or a `.hdr`/`.img` pair, of which either may be named. What ends in
    /// `.gz` is compressed by up to `threads` threads, to the same bytes whatever their number.
    ///
    /// # Errors
    /// [`Error::Usage`] for another extension, or a dtype that NIfTI does not have; [`Error::Exists`] unless `existing` is
    /// `Overwrite`; [`Error::Io`].
    pub fn create(
        out: &Path,
        spec: &ExportSpec,
        existing: IfExists,
        threads: usize,
    ) -> Result<Self> {
        let is = |path: &Path, name| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(name));
        let gzip = is(out, "gz");
        let pair = pair_of(out);
        let bare = if gzip { &out.with_extension("") } else { out };
        if pair.is_none() && !is(bare, "nii") {
            let expected = "expected a name that ends in .nii, .nii.gz, .hdr or .img";
            return Err(Error::usage(format!("{}: {expected}", out.display())));
        }
        let preamble = Preamble::new(spec, if pair.is_some() { Form::Pair } else { Form::Single })?;
        let mut files = Vec::new();
        let mut stage = |target: &Path| -> Result<OutputBody> {
            let (staged, file) = StagedFile::new(target, existing)?;
            files.push(staged);
            let threads = gzip.then_some(threads);
            OutputBody::new(file, threads).map_err(Error::io(target, "cannot write"))
        };
        let (body, path) = match pair {
            None => {
                let mut body = stage(out)?;
                body.write_all(&preamble.bytes).map_err(Error::io(out, "cannot write"))?;
                (body, out.to_owned())
            }
            Some((header, image)) => {
                let mut body = stage(&header)?;
                let voxels = stage(&image)?;
                let whole = body.write_all(&preamble.bytes).and_then(|()| body.finish());
                whole.map_err(Error::io(&header, "cannot write"))?;
                (voxels, image)
            }
        };
        let extents = spec.size.iter().chain(&spec.channels).map(|&n| n as u64);
        Ok(Self {
            order: preamble.order,
            samples: preamble.data_type.samples,
            dtype: spec.dtype,
            plane: spec.size[1] * spec.size[2],
            expected_bytes: extents.fold(spec.dtype.size() as u64, u64::saturating_mul),
            written_bytes: 0,
            existing,
            body,
            path,
            files,
            scratch: Vec::new(),
        })
    }

    /// Channels that each step holds: 3 for RGB, 4 for RGBA, else 1.
    pub fn interleaved(&self) -> usize {
        self.samples
    }

    /// Writes z steps of one group of channels: `(interleaved, steps, y, x)`, little endian, in C order.
    ///
    /// # Errors
    /// [`Error::Usage`] if these are not the bytes of `steps` steps, or more than are left; [`Error::Io`].
    pub fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()> {
        let (found, width) = (planes.len() as u64, self.dtype.size());
        let expected = self.samples * steps * self.plane * width;
        let left = self.expected_bytes - self.written_bytes;
        if planes.len() != expected || found > left {
            return Err(Error::usage(format!(
                "{steps} steps to write: {found} bytes, expected {expected} of {left} that are left"
            )));
        }
        let bytes = if planes.is_empty() {
            planes
        } else if self.samples > 1 {
            let channels: Vec<&[u8]> = planes.chunks_exact(steps * self.plane).collect();
            self.scratch.resize(planes.len(), 0);
            voxels::join(&channels, &mut self.scratch);
            &self.scratch
        } else if self.order == Order::Big && width > 1 {
            self.scratch.clear();
            self.scratch.extend_from_slice(planes);
            voxels::swap(&mut self.scratch, width);
            &self.scratch
        } else {
            planes
        };
        self.body.write_all(bytes).map_err(Error::io(&self.path, "cannot write"))?;
        self.written_bytes += found;
        Ok(())
    }

    /// Flushes the file to the disk and gives it its name; of a pair the image first, so that a header is never alone.
    ///
    /// # Errors
    /// [`Error::Usage`] if voxels are missing; [`Error::Exists`] if something else took the name meanwhile; [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        let (found, expected) = (self.written_bytes, self.expected_bytes);
        if found != expected {
            let path = self.path.display();
            return Err(Error::usage(format!(
                "{path}: {found} bytes of voxels were written, expected {expected}"
            )));
        }
        self.body.finish().map_err(Error::io(&self.path, "cannot write"))?;
        self.files.iter().try_for_each(|file| check_absent(&file.target, self.existing))?;
        while let Some(file) = self.files.pop() {
            fs::rename(&file.temporary, &file.target)
                .map_err(Error::io(&file.target, "cannot put in place"))?;
        }
        Ok(())
    }
}

impl StagedFile {
    /// A new file beside `target`, open for writing. Files that killed writers of the same target left are removed.
    fn new(target: &Path, existing: IfExists) -> Result<(Self, File)> {
        check_absent(target, existing)?;
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let prefix = format!(".{name}.partial-");
        remove_stale_files(target, &prefix);
        for n in 0..MAX_NAMES {
            let temporary = target.with_file_name(format!("{prefix}{}-{n}", std::process::id()));
            let file = match File::create_new(&temporary) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(e) => return Err(Error::io(&temporary, "cannot create")(e)),
            };
            match file.try_lock() {
                // Another writer took it for litter before it was locked.
                Err(TryLockError::WouldBlock) => continue,
                Ok(()) if !temporary.exists() => continue,
                // A file system without locks: there nobody takes anything for litter.
                Ok(()) | Err(TryLockError::Error(_)) => {}
            }
            let lock = file.try_clone().map_err(Error::io(&temporary, "cannot open twice"))?;
            return Ok((Self { temporary, target: target.to_owned(), _lock: lock }, file));
        }
        let remedy = "remove temporary files of earlier runs (.*.partial-*) beside it".to_owned();
        Err(Error::Exists { path: target.to_owned(), remedy })
    }
}

/// Removes files beside `target` that begin with `prefix`, end with two numbers, and are locked by nobody.
fn remove_stale_files(target: &Path, prefix: &str) {
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let is_ours = |name: &str| {
        let numbers = name.strip_prefix(prefix).and_then(|rest| rest.split_once('-'));
        numbers.is_some_and(|(process, n)| [process, n].iter().all(|n| n.parse::<u32>().is_ok()))
    };
    // Best effort: what cannot be listed or removed is in nobody's way.
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_name().to_str().is_some_and(is_ours)
            && File::open(&path).is_ok_and(|file| file.try_lock().is_ok())
        {
            let _ = fs::remove_file(path);
        }
    }
}

fn check_absent(target: &Path, existing: IfExists) -> Result<()> {
    if existing == IfExists::Replace || target.symlink_metadata().is_err() {
        return Ok(());
    }
    let remedy = "choose another name, or replace it (--overwrite, overwrite=True)".to_owned();
    Err(Error::Exists { path: target.to_owned(), remedy })
}

impl Drop for StagedFile {
    fn drop(&mut self) {
        // Gone already if it got its name. Best effort: what cannot be removed is hidden, with "partial" in its name.
        let _ = fs::remove_file(&self.temporary);
    }
}

impl OutputBody {
    /// Compresses if there are threads for it.
    fn new(file: File, gzip_threads: Option<usize>) -> io::Result<Self> {
        let writer = BufWriter::with_capacity(BUFFER_BYTES, file);
        Ok(match gzip_threads {
            Some(threads) => Self::Gzip(GzipWriter::new(writer, threads)?),
            None => Self::Plain(writer),
        })
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = match self {
            Self::Plain(writer) => writer.write_all(bytes),
            Self::Gzip(writer) => writer.write_all(bytes),
            Self::Failed => Err(io::Error::other("an earlier write failed")),
        };
        written.inspect_err(|_| *self = Self::Failed)
    }

    fn finish(self) -> io::Result<()> {
        let writer = match self {
            Self::Plain(writer) => writer,
            Self::Gzip(writer) => writer.finish()?,
            Self::Failed => return Err(io::Error::other("an earlier write failed")),
        };
        writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_write_that_failed_nothing_more_is_taken() {
        for gzip_threads in [None, Some(2)] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut body = OutputBody::new(full, gzip_threads).unwrap();
            let bytes = vec![7; 2 * BUFFER_BYTES];
            // Compressed, so much has to come before anything is written.
            let error = (0..1000).find_map(|_| body.write_all(&bytes).err()).unwrap();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            let error = body.write_all(&[7]).unwrap_err();
            assert!(error.to_string().contains("earlier"), "{error}");
            assert!(body.finish().is_err());
        }
    }
}
