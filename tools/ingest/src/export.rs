//! Exports a stored volume to a file, slab by slab.

use std::path::Path;

use voxquarry::{Dtype, IfExists, Padding, Result, Volume, Voxel, with_voxel};

use crate::files::zeroed;
use crate::formats::{ExportSpec, export_format};
use crate::observer::{Event, NoopObserver, Observer, check_interrupt};

/// Upper bound of the bytes of a slab; a single plane may have more.
const SLAB_BYTES: usize = 64 << 20;

/// Writes `volume` to `out`; the format follows the extension: NIfTI (`.nii`, `.nii.gz`,
/// `.hdr`/`.img`), NRRD (`.nrrd`, `.nhdr` beside `.raw.gz`), `MetaImage` (`.mha`, `.mhd` beside
/// `.raw`), MGH (`.mgh`, `.mgz`), or an array of numpy (`.npy`).
///
/// A volume that came from a NIfTI file gets its own header back, byte for byte, in a NIfTI file.
/// Otherwise channels become the fourth axis. Float16, which only `.npy` has, is written as
/// float32, and int8 as int16 in MGH. Only NIfTI holds slope and intercept: other files get real
/// values, as float32 (float64 if 32 bits or more are stored). `.npy` has no affine.
///
/// Compressed files are one gzip member, which the threads of the volume's dataset compress while
/// the next voxels are read; the bytes do not depend on the number of threads.
///
/// Memory is one slab of planes, as deep as a chunk and at most 64 MiB (or one plane), as much
/// again if voxels are converted, plus 5 MiB for each thread.
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
    let is_scaled = (slope, intercept) != (1.0, 0.0) && !format.keeps_scaling();
    let convert = Conversion {
        from: volume.dtype(),
        to: format.stored_dtype(if is_scaled {
            real_dtype(volume.dtype())
        } else {
            volume.dtype()
        }),
        scaling: is_scaled.then_some((slope, intercept)),
    };
    let (slope, intercept) = if is_scaled { (1.0, 0.0) } else { (slope, intercept) };
    let spec = ExportSpec {
        size: volume.size(),
        channels: volume.channels(),
        dtype: convert.to,
        affine: *volume.affine(),
        unit: volume.attributes().unit,
        slope,
        intercept,
        origin: volume.source().map(|s| s.origin.clone()),
    };
    let mut writer = format.create(out, &spec, if_exists, volume.threads())?;
    let (size, together) = (volume.size(), writer.interleaved());
    let plane_voxels = size[1] * size[2] * together;
    let widest = convert.from.size().max(convert.to.size());
    let depth =
        slab_depth(volume.layout().chunk[0].min(size[0]), plane_voxels * widest).min(size[0]);
    let plane_bytes = plane_voxels * convert.from.size();
    let (mut slab, mut converted) = (zeroed(depth * plane_bytes)?, Vec::new());
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
            if convert.changes_nothing() {
                writer.write_steps(bytes, planes)?;
            } else {
                convert.run(bytes, &mut converted);
                writer.write_steps(&converted, planes)?;
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

/// The dtype of real values: one that holds each of them as exactly as a slope can be stated.
fn real_dtype(stored: Dtype) -> Dtype {
    match stored {
        Dtype::UInt8
        | Dtype::Int8
        | Dtype::UInt16
        | Dtype::Int16
        | Dtype::Float16
        | Dtype::Float32 => Dtype::Float32,
        _ => Dtype::Float64,
    }
}

/// How voxels of a store become those of a file.
struct Conversion {
    from: Dtype,
    to: Dtype,
    /// Slope and intercept that are applied.
    scaling: Option<(f64, f64)>,
}

impl Conversion {
    fn changes_nothing(&self) -> bool {
        self.from == self.to && self.scaling.is_none()
    }

    /// Converts voxels. Without scaling the dtype of the file holds them exactly.
    fn run(&self, stored: &[u8], out: &mut Vec<u8>) {
        let real = |value: f64| match self.scaling {
            Some((slope, intercept)) => value * slope + intercept,
            // Adding 0 would change -0.
            None => value,
        };
        out.clear();
        with_voxel!(self.from, T => {
            let voxels = stored.chunks_exact(size_of::<T>());
            let values = voxels.map(|bytes| bytemuck::pod_read_unaligned::<T>(bytes).to_f64());
            let values = values.map(real);
            match self.to {
                Dtype::Int16 => out.extend(values.flat_map(|v| (v as i16).to_le_bytes())),
                Dtype::Float32 => out.extend(values.flat_map(|v| (v as f32).to_le_bytes())),
                Dtype::Float64 => out.extend(values.flat_map(f64::to_le_bytes)),
                other => unreachable!("no format asks for {other}"),
            }
        });
    }
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
