//! Writes NIfTI files step by step, with the header of the volume's source where it still applies.
//!
//! # Invariants
//! - A file appears under its name when it is finished, and whole. A dropped writer leaves nothing.
//! - A file with missing voxels is never finished, nor one after a failed write.
//!
//! Not here: the bytes before the voxels (`preamble`).

use std::path::{Path, PathBuf};

use voxquarry::{Dtype, Error, IfExists, Result};

use super::fields::Form;
use super::pair::pair_of;
use super::preamble::Preamble;
use crate::formats::export_spec::ExportSpec;
use crate::formats::file_output::OutputBody;
use crate::formats::format::VolumeExport;
use crate::formats::voxels::{self, ByteOrder};
use crate::staged_file::{StagedFile, flush_folder};

/// Writes a NIfTI file.
pub struct NiftiWriter {
    order: ByteOrder,
    samples: usize,
    dtype: Dtype,
    /// Voxels in a plane.
    plane: usize,
    expected_bytes: u64,
    written_bytes: u64,
    /// The bytes after the voxels.
    trailer: Vec<u8>,
    /// The destination of the voxels.
    body: OutputBody,
    /// The final path of the voxels.
    path: PathBuf,
    /// The file of the voxels.
    file: StagedFile,
    /// The header of a pair.
    header: Option<StagedFile>,
    scratch: Vec<u8>,
}

impl NiftiWriter {
    /// Begins the file at `out`: `.nii`, `.nii.gz`, or an `.hdr`/`.img` pair, of which `out` names
    /// either file. Up to `threads` threads compress a `.gz` file, to the same bytes whatever their
    /// number.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`]: another extension.
    /// - [`Error::Unsupported`]: a dtype that NIfTI does not have.
    /// - [`Error::Exists`]: unless `if_exists` is `Replace`.
    /// - [`Error::Io`].
    pub fn create(
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        threads: usize,
    ) -> Result<Self> {
        let is = |path: &Path, name| path.extension().is_some_and(|e| e.eq_ignore_ascii_case(name));
        let gzip = is(out, "gz");
        let pair = pair_of(out);
        let bare = if gzip { &out.with_extension("") } else { out };
        if pair.is_none() && !is(bare, "nii") {
            let expected = "a name that ends in .nii, .nii.gz, .hdr or .img";
            return Err(Error::invalid("file", out.display(), expected));
        }
        let preamble = Preamble::new(spec, if pair.is_some() { Form::Pair } else { Form::Single })?;
        let stage = |target: &Path| -> Result<(StagedFile, OutputBody)> {
            let (staged, file) = StagedFile::new(target, if_exists)?;
            let threads = gzip.then_some(threads);
            let body = OutputBody::new(file, threads).map_err(Error::io(target, "cannot write"))?;
            Ok((staged, body))
        };
        let (file, header, body, path) = match pair {
            None => {
                let (file, mut body) = stage(out)?;
                body.write_all(&preamble.bytes).map_err(Error::io(out, "cannot write"))?;
                (file, None, body, out.to_owned())
            }
            Some((header, image)) => {
                let (header_file, mut body) = stage(&header)?;
                let (file, voxels) = stage(&image)?;
                let whole = body.write_all(&preamble.bytes).and_then(|()| body.finish());
                whole.map_err(Error::io(&header, "cannot write"))?;
                (file, Some(header_file), voxels, image)
            }
        };
        let extents = spec.size.iter().chain(&spec.channels).map(|&n| n as u64);
        Ok(Self {
            order: preamble.order,
            samples: preamble.data_type.samples,
            trailer: preamble.trailer,
            dtype: spec.dtype,
            plane: spec.size[1] * spec.size[2],
            expected_bytes: extents.fold(spec.dtype.size() as u64, u64::saturating_mul),
            written_bytes: 0,
            body,
            path,
            file,
            header,
            scratch: Vec::new(),
        })
    }

    /// Channels in each step: 3 for RGB, 4 for RGBA, otherwise 1.
    pub fn interleaved(&self) -> usize {
        self.samples
    }

    /// Writes z steps of one group of channels, `(interleaved, steps, y, x)`, little endian, in C
    /// order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the length is not that of `steps` steps, or exceeds what is
    /// missing; [`Error::Io`].
    pub fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()> {
        let (found, width) = (planes.len() as u64, self.dtype.size());
        let expected = self.samples * steps * self.plane * width;
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
        } else if self.order == ByteOrder::Big && width > 1 {
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

    /// Flushes the file to disk and gives it its name.
    ///
    /// Of a pair, an old header steps aside before the image gets its name, and the new header
    /// comes last. So whatever interrupts it, no header lies beside the voxels of another file: at
    /// worst the header is missing, which every reader notices.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if voxels are missing, [`Error::Exists`] if the name was taken
    /// meanwhile, [`Error::Io`].
    pub fn finish(mut self) -> Result<()> {
        let (found, expected) = (self.written_bytes, self.expected_bytes);
        if found != expected {
            let what = self.path.display().to_string();
            let missing = format!("{found} bytes of voxels were written, expected {expected}");
            return Err(Error::Incomplete { what, missing });
        }
        self.body.write_all(&self.trailer).map_err(Error::io(&self.path, "cannot write"))?;
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

impl VolumeExport for NiftiWriter {
    fn interleaved(&self) -> usize {
        self.interleaved()
    }

    fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()> {
        self.write_steps(planes, steps)
    }

    fn finish(self: Box<Self>) -> Result<()> {
        (*self).finish()
    }
}
