//! The box of the voxels that are not 0, while they pass by.

use voxquarry::{Region, Size3, Voxel, with_voxel};

use crate::source::SourceVolume;

/// The smallest box that holds every voxel so far whose real value is not 0.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Foreground(Option<[[usize; 3]; 2]>);

impl Foreground {
    /// Adds planes `(y, x)` that follow each other, from index `z` on. A voxel that is not finite
    /// is not 0.
    pub(super) fn take(&mut self, planes: &[u8], z: usize, header: &SourceVolume) {
        let [_, ny, nx] = header.size;
        let real = |stored: f64| stored * header.slope + header.intercept;
        with_voxel!(header.dtype, T => {
            let is_there = |bytes: &[u8]| {
                real(bytemuck::pod_read_unaligned::<T>(bytes).to_f64()) != 0.0
            };
            for (row, bytes) in planes.chunks_exact(nx * size_of::<T>()).enumerate() {
                let mut voxels = bytes.chunks_exact(size_of::<T>());
                if let Some(first) = voxels.position(is_there) {
                    let last = voxels.rposition(is_there).map_or(first, |i| first + 1 + i);
                    let at = [z + row / ny, row % ny];
                    self.join([[at[0], at[1], first], [at[0], at[1], last]]);
                }
            }
        });
    }

    /// Adds the real values of the voxels of `region`.
    pub(crate) fn take_values(&mut self, values: &[f64], region: &Region) {
        let [_, ny, nx] = region.size;
        let [z, y, x] = region.start.map(|i| i as usize);
        for (row, values) in values.chunks_exact(nx).enumerate() {
            let mut voxels = values.iter();
            if let Some(first) = voxels.position(|&value| value != 0.0) {
                let last = voxels.rposition(|&value| value != 0.0).map_or(first, |i| first + 1 + i);
                let at = [z + row / ny, y + row % ny];
                self.join([[at[0], at[1], x + first], [at[0], at[1], x + last]]);
            }
        }
    }

    /// Adds the voxels of another volume on the same grid.
    pub(super) fn merge(&mut self, other: Self) {
        if let Some(corners) = other.0 {
            self.join(corners);
        }
    }

    fn join(&mut self, [first, last]: [[usize; 3]; 2]) {
        let [low, high] = self.0.unwrap_or([first, last]);
        self.0 = Some([
            [0, 1, 2].map(|a| low[a].min(first[a])),
            [0, 1, 2].map(|a| high[a].max(last[a])),
        ]);
    }

    /// The box; `None` if all voxels are 0.
    pub(crate) fn region(&self) -> Option<Region> {
        let [low, high] = self.0?;
        let size: Size3 = [0, 1, 2].map(|a| high[a] + 1 - low[a]);
        Some(Region::new(low.map(|i| i as i64), size))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;
    use voxquarry::{Affine, Dtype};

    use super::*;

    fn header(slope: f64, intercept: f64) -> SourceVolume {
        SourceVolume {
            size: [4, 3, 5],
            channels: None,
            interleaved: 1,
            dtype: Dtype::Int16,
            affine: Affine::IDENTITY,
            unit: None,
            slope,
            intercept,
            origin: Map::new(),
        }
    }

    #[test]
    fn the_box_holds_every_voxel_that_is_not_zero() {
        let mut voxels = [0i16; 60];
        for [z, y, x] in [[1, 0, 3], [2, 2, 1], [1, 1, 4]] {
            voxels[z * 15 + y * 5 + x] = -7;
        }
        let bytes: &[u8] = bytemuck::cast_slice(&voxels);
        let mut found = Foreground::default();
        for z in 0..4 {
            found.take(&bytes[z * 30..][..30], z, &header(1.0, 0.0));
        }
        assert_eq!(found.region(), Some(Region::new([1, 0, 1], [2, 3, 4])));
        let mut whole = Foreground::default();
        whole.take(bytes, 0, &header(2.0, 14.0));
        assert_eq!(whole.region(), Some(Region::whole([4, 3, 5])), "0 is the real value 14");
        found.merge(whole);
        assert_eq!(found.region(), whole.region());
        let mut nothing = Foreground::default();
        nothing.take(bytemuck::cast_slice(&[7i16; 60]), 0, &header(2.0, -14.0));
        assert_eq!(nothing.region(), None);
        whole.merge(nothing);
        assert_eq!(whole.region(), Some(Region::whole([4, 3, 5])));
    }
}
