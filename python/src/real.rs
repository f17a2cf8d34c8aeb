//! Real values: stored value × slope + intercept.

use voxquarry::{Size3, Voxel};

/// A type of real values.
pub(crate) trait Real: Voxel {
    /// The nearest to `value`.
    fn of(value: f64) -> Self;
}

impl Real for f32 {
    fn of(value: f64) -> Self {
        value as Self
    }
}

impl Real for f64 {
    fn of(value: f64) -> Self {
        value
    }
}

/// Writes the real value of each stored one, computed in double precision and rounded once.
pub(crate) fn scale<T: Voxel, F: Real>(
    stored: &[T],
    (slope, intercept): (f64, f64),
    real: &mut [F],
) {
    let values = stored.iter().zip(real);
    if (slope, intercept) == (1.0, 0.0) {
        values.for_each(|(&stored, real)| *real = F::of(stored.to_f64()));
    } else {
        values.for_each(|(&stored, real)| *real = F::of(stored.to_f64() * slope + intercept));
    }
}

/// Writes `value` where a patch `(c, z, y, x)` that begins at `start` leaves the volume.
pub(crate) fn fill_outside<F: Copy>(
    patch: &mut [F],
    start: [i64; 3],
    patch_size: Size3,
    volume_size: Size3,
    value: F,
) {
    let inside = [0, 1, 2].map(|axis| {
        let at = |voxel: i64| voxel.clamp(0, patch_size[axis] as i64) as usize;
        at(-start[axis])..at(volume_size[axis] as i64 - start[axis])
    });
    if (0..3).all(|axis| inside[axis] == (0..patch_size[axis])) {
        return;
    }
    let [depth, height, width] = patch_size;
    for (n, row) in patch.chunks_exact_mut(width).enumerate() {
        let (z, y) = (n / height % depth, n % height);
        if inside[0].contains(&z) && inside[1].contains(&y) && !inside[2].is_empty() {
            row[..inside[2].start].fill(value);
            row[inside[2].end..].fill(value);
        } else {
            row.fill(value);
        }
    }
}
