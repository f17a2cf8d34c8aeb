//! Writes the voxels of a file behind or beside its header, step by step.
//!
//! # Invariants
//! - A file appears under its name when it is finished, and whole. A dropped writer leaves nothing.
//! - A file with missing voxels is never finished, nor one after a failed write.
//! - Of two files the one with the voxels gets its name first, so that no header lies beside the
//!   voxels of another volume.
//!
//! Not here: the headers.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use voxquarry::{Error, IfExists, Result};

use super::export_spec::ExportSpec;
use super::format::VolumeExport;
use super::voxels;
use super::voxels::ByteOrder;
use crate::files::check_room;
use crate::gzip::GzipWriter;
use crate::staged_file::{StagedFile, flush_folder};

const BUFFER_BYTES: usize = 1 << 20;

/// The files of a volume, and what surrounds its voxels.
pub(super) struct OutputPlan {
    /// Bytes before the voxels.
    pub(super) head: Vec<u8>,
    /// Bytes behind the voxels.
    pub(super) tail: Vec<u8>,
    /// A header in a file of its own, which is the one that names the volume.
    pub(super) header: Option<(PathBuf, Vec<u8>)>,
    pub(super) order: ByteOrder,
    /// Channels that the file interleaves; 1 if channels are slowest.
    pub(super) samples: usize,
    /// The threads that compress; `None` for plain voxels. What is before or beside them stays
    /// plain unless `packs_head`.
    pub(super) gzip_threads: Option<usize>,
    pub(super) packs_head: bool,
}

impl OutputPlan {
    /// A header and little endian voxels in one file.
    pub(super) fn single(head: Vec<u8>) -> Self {
        Self {
            head,
            tail: Vec::new(),
            header: None,
            order: ByteOrder::Little,
            samples: 1,
            gzip_threads: None,
            packs_head: false,
        }
    }
}

/// A volume that is being written.
pub(super) struct FileOutput {
    path: PathBuf,
    file: StagedFile,
    header: Option<StagedFile>,
    body: OutputBody,
    tail: Vec<u8>,
    order: ByteOrder,
    samples: usize,
    /// Bytes of a voxel of one channel, and of its plane.
    width: usize,
    plane: usize,
    written_bytes: u64,
    expected_bytes: u64,
    scratch: Vec<u8>,
}

impl FileOutput {
    /// As [`new`](Self::new), for [`ExportFormat::create`](super::format::ExportFormat::create).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub(super) fn create(
        path: &Path,
        plan: OutputPlan,
        spec: &ExportSpec,
        if_exists: IfExists,
    ) -> Result<Box<dyn VolumeExport>> {
        Ok(Box::new(Self::new(path, plan, spec, if_exists)?))
    }

    /// Begins the file of the voxels at `path`.
    ///
    /// # Errors
    /// [`Error::Exists`], [`Error::Io`].
    pub(super) fn new(
        path: &Path,
        plan: OutputPlan,
        spec: &ExportSpec,
        if_exists: IfExists,
    ) -> Result<Self> {
        let header = match plan.header {
            None => None,
            Some((header, bytes)) => {
                let (staged, file) = StagedFile::new(&header, if_exists)?;
                let mut body = OutputBody::new(file, plan.gzip_threads.filter(|_| plan.packs_head))
                    .map_err(Error::io(&header, "cannot write"))?;
                let whole = body.write_all(&bytes).and_then(|()| body.finish());
                whole.map_err(Error::io(&header, "cannot write"))?;
                Some(staged)
            }
        };
        let (staged, mut file) = StagedFile::new(path, if_exists)?;
        if !plan.packs_head {
            file.write_all(&plan.head).map_err(Error::io(path, "cannot write"))?;
        }
        let mut body =
            OutputBody::new(file, plan.gzip_threads).map_err(Error::io(path, "cannot write"))?;
        if plan.packs_head {
            body.write_all(&plan.head).map_err(Error::io(path, "cannot write"))?;
        }
        let width = spec.dtype.size();
        let extents = spec.size.iter().chain(&spec.channels).map(|&n| n as u64);
        Ok(Self {
            path: path.to_owned(),
            file: staged,
            header,
            body,
            tail: plan.tail,
            order: plan.order,
            samples: plan.samples,
            width,
            plane: spec.size[1] * spec.size[2] * width,
            written_bytes: 0,
            expected_bytes: extents.fold(width as u64, u64::saturating_mul),
            scratch: Vec::new(),
        })
    }
}

impl VolumeExport for FileOutput {
    fn interleaved(&self) -> usize {
        self.samples
    }

    fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()> {
        let (found, expected) = (planes.len() as u64, self.samples * steps * self.plane);
        let left = self.expected_bytes - self.written_bytes;
        if planes.len() != expected || found > left {
            let allowed = format!("{expected} bytes for {steps} steps, and at most {left}");
            return Err(Error::invalid("planes", format!("of {found} bytes"), allowed));
        }
        let bytes = if planes.is_empty() {
            planes
        } else if self.samples > 1 {
            let channels: Vec<&[u8]> = planes.chunks_exact(steps * self.plane).collect();
            self.scratch.resize(planes.len(), 0);
            voxels::join(&channels, &mut self.scratch);
            &self.scratch
        } else if self.order == ByteOrder::Big && self.width > 1 {
            self.scratch.clear();
            self.scratch.extend_from_slice(planes);
            voxels::swap(&mut self.scratch, self.width);
            &self.scratch
        } else {
            planes
        };
        self.body.write_all(bytes).map_err(Error::io(&self.path, "cannot write"))?;
        self.written_bytes += found;
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<()> {
        let (found, expected) = (self.written_bytes, self.expected_bytes);
        if found != expected {
            let what = self.path.display().to_string();
            let missing = format!("{found} bytes of voxels were written, expected {expected}");
            return Err(Error::Incomplete { what, missing });
        }
        self.body.write_all(&self.tail).map_err(Error::io(&self.path, "cannot write"))?;
        self.body.finish().map_err(Error::io(&self.path, "cannot write"))?;
        self.file.check_absent()?;
        if let Some(header) = &self.header {
            header.check_absent()?;
            self.file.rename_before(header)?;
        } else {
            self.file.rename()?;
        }
        flush_folder(&self.path)
    }
}

/// The bytes of a file, compressed or not.
enum OutputBody {
    Plain(BufWriter<File>),
    Gzip(GzipWriter<BufWriter<File>>),
    /// A write failed and lost bytes: further writes would put voxels in wrong places.
    Failed,
}

impl OutputBody {
    /// Compresses if `gzip_threads` is given.
    fn new(file: File, gzip_threads: Option<usize>) -> io::Result<Self> {
        check_room(BUFFER_BYTES)?;
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

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn after_a_failed_write_every_write_fails() {
        for gzip_threads in [None, Some(2)] {
            let full = File::options().write(true).open("/dev/full").unwrap();
            let mut body = OutputBody::new(full, gzip_threads).unwrap();
            let bytes = vec![7; 2 * BUFFER_BYTES];
            // Compressible data reaches the file only after many writes.
            let error = (0..1000).find_map(|_| body.write_all(&bytes).err()).unwrap();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            let error = body.write_all(&[7]).unwrap_err();
            assert!(error.to_string().contains("earlier"), "{error}");
            assert!(body.finish().is_err());
        }
    }
}
