//! A stored volume back to a file, slab by slab.

use std::path::Path;

use voxquarry::store::Existing;
use voxquarry::{Padding, Result, Volume};

use crate::ingest::{Event, Observer, Quiet, check_interrupt};
use crate::nifti::{ExportSpec, NiftiWriter};

/// Writes `volume` to `out`; the format follows the extension (`.nii`, `.nii.gz`, `.hdr`/`.img`).
///
/// A volume that came from a NIfTI file gets its own header back, byte for byte. Memory is one layer of chunks.
///
/// # Errors
/// [`voxquarry::Error::Usage`] for an extension or dtype that cannot be written, [`voxquarry::Error::Exists`] unless `existing` is
/// `Overwrite`, whatever reading returns, [`voxquarry::Error::Io`].
pub fn export(volume: &Volume, out: &Path, existing: Existing) -> Result<()> {
    export_observed(volume, out, existing, &Quiet)
}

/// As [`export`]; `observer` is told of every slab ([`Event::Encoded`]) and asked before each whether to stop.
///
/// # Errors
/// As [`export`]; [`voxquarry::Error::Interrupted`] if the observer asked to stop: no file is left.
pub fn export_observed(
    volume: &Volume,
    out: &Path,
    existing: Existing,
    observer: &dyn Observer,
) -> Result<()> {
    let (slope, intercept) = volume.slope_intercept();
    let origin = volume.source().map(|s| s.origin.clone());
    let spec = ExportSpec {
        size: volume.size(),
        channels: volume.channels(),
        dtype: volume.dtype(),
        affine: *volume.affine(),
        slope,
        intercept,
        origin,
    };
    let mut writer = NiftiWriter::create(out, &spec, existing)?;
    let (size, together) = (volume.size(), writer.interleaved());
    let depth = volume.layout().chunk[0];
    let plane_bytes = size[1] * size[2] * volume.dtype().size() * together;
    let mut slab = vec![0; depth.min(size[0]) * plane_bytes];
    for first in (0..volume.layout().channel_count()).step_by(together) {
        for z in (0..size[0]).step_by(depth) {
            check_interrupt(observer)?;
            let planes = depth.min(size[0] - z);
            let bytes = &mut slab[..planes * plane_bytes];
            volume.read_bytes(
                &[[z as i64, 0, 0]],
                [planes, size[1], size[2]],
                Padding::Refuse,
                first..first + together,
                bytes,
            )?;
            writer.write_steps(bytes, planes)?;
            observer.event(Event::Encoded(bytes.len() as u64));
        }
    }
    writer.finish()
}
