//! Exports a stored volume to a file, slab by slab.

use std::path::Path;

use voxquarry::{IfExists, Padding, Result, Volume, f16};

use crate::files::zeroed;
use crate::formats::{ExportSpec, export_format};
use crate::observer::{Event, NoopObserver, Observer, check_interrupt};

/// Upper bound of the bytes of a slab; a single plane may have more.
const SLAB_BYTES: usize = 64 << 20;

/// Writes `volume` to `out`; the format follows the extension (`.nii`, `.nii.gz`, `.hdr`/`.img`).
///
/// A volume that came from a NIfTI file gets its own header back, byte for byte. Otherwise channels
/// become the fourth axis. Float16, which NIfTI does not have, is written as float32. A `.gz` file
/// is one gzip member, which the threads of the volume's dataset compress while the next voxels are
/// read; its bytes do not depend on the number of threads.
///
/// Memory is one slab of planes, as deep as a chunk and at most 64 MiB (or one plane), plus 5 MiB
/// for each thread.
///
/// # Errors
/// No file is left after any of these:
/// - [`voxquarry::Error::InvalidArgument`]: an extension that cannot be written.
/// - [`voxquarry::Error::Exists`]: unless `if_exists` is `Replace`.
/// - [`voxquarry::Error::Io`], and the errors of reading the volume.
pub fn export(volume: &Volume, out: &Path, if_exists: IfExists) -> Result<()> {
    export_observed(volume, out, if_exists, &NoopObserver)
}

/// As [`export`], with an `observer` that hears of every slab ([`Event::Encoded`]) and can stop the
/// work before each.
///
/// # Errors
/// As [`export`], and [`voxquarry::Error::Interrupted`] if the observer asked to stop; no file is
/// left then.
pub fn export_observed(
    volume: &Volume,
    out: &Path,
    if_exists: IfExists,
    observer: &dyn Observer,
) -> Result<()> {
    let format = export_format(out)?;
    let (slope, intercept) = volume.slope_intercept();
    let origin = volume.source().map(|s| s.origin.clone());
    let spec = ExportSpec {
        size: volume.size(),
        channels: volume.channels(),
        dtype: format.stored_dtype(volume.dtype()),
        affine: *volume.affine(),
        unit: volume.attributes().unit,
        slope,
        intercept,
        origin,
    };
    let mut writer = format.create(out, &spec, if_exists, volume.threads())?;
    let (size, together) = (volume.size(), writer.interleaved());
    let plane_bytes = size[1] * size[2] * volume.dtype().size() * together;
    let depth = slab_depth(volume.layout().chunk[0], plane_bytes).min(size[0]);
    let (mut slab, mut wide) = (zeroed(depth * plane_bytes)?, Vec::new());
    for first in (0..volume.layout().channel_count()).step_by(together) {
        for z in (0..size[0]).step_by(depth) {
            check_interrupt(observer)?;
            let planes = depth.min(size[0] - z);
            let bytes = &mut slab[..planes * plane_bytes];
            volume.read_bytes(
                &[[z as i64, 0, 0]],
                [planes, size[1], size[2]],
                Padding::None,
                first..first + together,
                bytes,
            )?;
            if spec.dtype == volume.dtype() {
                writer.write_steps(bytes, planes)?;
            } else {
                widen(bytes, &mut wide);
                writer.write_steps(&wide, planes)?;
            }
            observer.event(Event::Encoded(bytes.len() as u64));
        }
    }
    writer.finish()
}

/// The planes of a slab: as many as a chunk has, or a whole fraction of that where it exceeds the
/// bound.
fn slab_depth(chunk_depth: usize, plane_bytes: usize) -> usize {
    let fits = |depth: &usize| {
        chunk_depth.is_multiple_of(*depth) && depth.saturating_mul(plane_bytes) <= SLAB_BYTES
    };
    (1..=chunk_depth).rev().find(fits).unwrap_or(1)
}

/// Converts float16 to float32, which is exact.
fn widen(halves: &[u8], wide: &mut Vec<u8>) {
    wide.clear();
    let halves = halves.as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes));
    wide.extend(halves.flat_map(|half| half.to_f32().to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slab_is_as_deep_as_a_chunk_or_a_fraction_of_it() {
        assert_eq!(slab_depth(32, 1 << 20), 32);
        assert_eq!(slab_depth(32, (2 << 20) + 1), 16);
        assert_eq!(slab_depth(24, 5 << 20), 12);
        assert_eq!(slab_depth(7, 20 << 20), 1);
        assert_eq!(slab_depth(1, 1), 1);
        // A single plane exceeds the bound.
        assert_eq!(slab_depth(32, 65 << 20), 1);
    }
}
