//! Reads NIfTI-1 and NIfTI-2 as nibabel does, and writes them back byte for byte: `.nii`, `.nii.gz`
//! and `.hdr`/`.img` pairs.
//!
//! The first axis of NIfTI is the fastest, so the bytes of a file are a volume `(c, z, y, x)` in C
//! order. Axes 4 to 7 become channels, and so do the samples of RGB and RGBA voxels.
//!
//! `fields` locates the numbers of a header, `header` interprets them, `affine` computes where
//! voxels lie. `read` and `write` (with `preamble`) combine them.
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
mod pair;
mod preamble;
mod read;
mod write;

pub use super::export_spec::ExportSpec;
pub use read::{open, probe};
pub use write::NiftiWriter;

use std::path::{Path, PathBuf};

use voxquarry::{Dtype, IfExists, Result};

use super::format::{ExportFormat, Format, OpenedVolume, Place, VolumeExport};
use super::stated::Stated;
use fields::Version;
use pair::pair_of;
use read::{open_nifti, voxel_file};

/// NIfTI-1 and NIfTI-2.
pub(super) struct Nifti;

impl Format for Nifti {
    fn name(&self) -> &'static str {
        "NIfTI"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".nii", ".nii.gz", ".hdr", ".hdr.gz"]
    }

    fn companion_endings(&self) -> &'static [&'static str] {
        &[".img", ".img.gz"]
    }

    fn recognises(&self, path: &Path, head: &[u8]) -> bool {
        // The bytes of a pair's voxels tell nothing.
        Version::of(head).is_some() || pair_of(path).is_some()
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        Ok(Box::new(open_nifti(place.path(), stated.affine)?))
    }

    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>> {
        Ok(Some(vec![voxel_file(place.path())?]))
    }

    fn export(&self) -> Option<&dyn ExportFormat> {
        Some(self)
    }
}

impl ExportFormat for Nifti {
    fn stored_dtype(&self, dtype: Dtype) -> Dtype {
        // NIfTI has no float16.
        if dtype == Dtype::Float16 { Dtype::Float32 } else { dtype }
    }

    fn create(
        &self,
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        threads: usize,
    ) -> Result<Box<dyn VolumeExport>> {
        Ok(NiftiWriter::create(out, spec, if_exists, threads)?.boxed())
    }
}
