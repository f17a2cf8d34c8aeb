//! Writes NIfTI files step by step, with the header of the volume's source where it still applies.
//!
//! Not here: the bytes before the voxels (`preamble`), the files (`file_output`).

use std::path::Path;

use voxquarry::{Error, IfExists, Result};

use super::fields::Form;
use super::pair_of;
use super::preamble::Preamble;
use crate::formats::export_spec::ExportSpec;
use crate::formats::file_output::{FileOutput, OutputPlan};
use crate::formats::format::VolumeExport;

/// Writes a NIfTI file.
///
/// A file appears under its name when it is finished, and whole; a dropped writer leaves nothing.
pub struct NiftiWriter(FileOutput);

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
        let form = if pair.is_some() { Form::Pair } else { Form::Single };
        let Preamble { bytes, order, data_type, trailer } = Preamble::new(spec, form)?;
        let (voxels, header, head) = match pair {
            None => (out.to_owned(), None, bytes),
            Some((header, image)) => (image, Some((header, bytes)), Vec::new()),
        };
        let plan = OutputPlan {
            head,
            tail: trailer,
            header,
            order,
            samples: data_type.samples,
            gzip_threads: gzip.then_some(threads),
            packs_head: true,
        };
        FileOutput::new(&voxels, plan, spec, if_exists).map(Self)
    }

    /// Channels in each step: 3 for RGB, 4 for RGBA, otherwise 1.
    pub fn interleaved(&self) -> usize {
        self.0.interleaved()
    }

    /// Writes z steps of one group of channels, `(interleaved, steps, y, x)`, little endian, in C
    /// order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the length is not that of `steps` steps, or exceeds what is
    /// missing; [`Error::Io`].
    pub fn write_steps(&mut self, planes: &[u8], steps: usize) -> Result<()> {
        self.0.write_steps(planes, steps)
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
    pub fn finish(self) -> Result<()> {
        Box::new(self.0).finish()
    }

    /// The writer as every format has it.
    pub(super) fn boxed(self) -> Box<dyn VolumeExport> {
        Box::new(self.0)
    }
}
