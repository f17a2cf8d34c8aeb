//! The part of a volume that is predicted: which patches never come, and which voxels get a stated
//! value instead of a prediction.
//!
//! # Invariants
//! - A voxel of the mask has all of its patches, so its value is that of a run without a mask.

use std::sync::Arc;

use super::coverage::AxisCoverage;
use super::options::{AggregateOptions, Finish};
use super::tracker::PatchSet;
use super::voxel_mask::VoxelMask;
use crate::format::grid::iter_box;
use crate::sample::Grid;
use crate::{Dtype, Error, Region, Result, with_voxel};

/// The voxels that are not predicted, and their value.
#[derive(Debug)]
pub(super) struct Outside {
    /// Patches that never come.
    skipped: PatchSet,
    /// Their numbers, ascending.
    pub(super) numbers: Vec<usize>,
    mask: Option<Arc<VoxelMask>>,
    /// For each voxel of the result, along each axis, the voxel of the mask.
    sources: [Vec<usize>; 3],
    value: f64,
    /// The value as a voxel of the result.
    bytes: Vec<u8>,
}

impl Outside {
    /// What `options` say about a grid and the result's grid; `None` if everything is predicted.
    ///
    /// # Errors
    /// [`Error::NotInGrid`] for a start of no patch, [`Error::InvalidArgument`] for a mask of
    /// another size or a value that the result cannot have.
    pub(super) fn new(
        options: &AggregateOptions,
        grid: &Grid,
        target: &Grid,
        dtype: Dtype,
    ) -> Result<Option<Self>> {
        let mask = options.mask.clone();
        if mask.is_none() && options.skipped.is_empty() {
            return Ok(None);
        }
        let mut skipped = PatchSet::default();
        for &start in &options.skipped {
            let index = grid.indices_of(start).ok_or(Error::NotInGrid { start })?;
            skipped.insert(grid.number_of(index));
        }
        if let Some(mask) = &mask {
            if mask.size != grid.size() {
                let expected = format!("the grid's {:?}", grid.size());
                let found = format!("of {:?} voxels (z, y, x)", mask.size);
                return Err(Error::invalid("mask", found, expected));
            }
            for number in 0..grid.len() {
                if !mask.meets(&Region::new(grid.start(number), grid.patch_size())) {
                    skipped.insert(number);
                }
            }
        }
        let numbers: Vec<usize> = (0..grid.len()).filter(|&n| skipped.contains(n)).collect();
        let OutsideValue { value, bytes } = OutsideValue::new(options, dtype)?;
        let (from, to) = (grid.size(), target.size());
        let sources = [0, 1, 2].map(|a| (0..to[a]).map(|i| i * from[a] / to[a]).collect());
        Ok(Some(Self { skipped, numbers, mask, sources, value, bytes }))
    }

    pub(super) fn is_skipped(&self, number: usize) -> bool {
        self.skipped.contains(number)
    }

    /// Identifies it, for work that is resumed.
    pub(super) fn identity(&self) -> String {
        let mask = self.mask.as_ref().map_or(0, |mask| mask.digest());
        let step = |hash: u64, &n: &usize| (hash ^ n as u64).wrapping_mul(0x100_0000_01b3);
        let skipped = self.numbers.iter().fold(0xcbf2_9ce4_8422_2325, step);
        format!("{:?} outside {skipped:016x} {mask:016x}", self.value)
    }

    /// Writes the value over the voxels of a row of the result, `x` at `[z, y]`, that are not
    /// predicted. `out` is the row in one channel.
    fn fill_row(&self, inside: &[bool], out: &mut [u8]) {
        let size = self.bytes.len();
        for (voxel, _) in out.chunks_exact_mut(size).zip(inside).filter(|one| !one.1) {
            voxel.copy_from_slice(&self.bytes);
        }
    }

    /// Whether each voxel of a row is predicted.
    fn row(
        &self,
        axes: &[AxisCoverage; 3],
        grid: &Grid,
        [z, y]: [usize; 2],
        x: std::ops::Range<usize>,
        inside: &mut Vec<bool>,
    ) {
        inside.clear();
        inside.resize(x.len(), self.numbers.is_empty());
        if !self.numbers.is_empty() {
            let [az, ay, ax] = axes;
            for index in iter_box([az.patches_at(z), ay.patches_at(y), ax.patches_meeting(&x)]) {
                if !self.is_skipped(grid.number_of(index)) {
                    let used = &ax.used[index[2]];
                    let used = used.start.max(x.start)..used.end.min(x.end);
                    inside[used.start - x.start..used.end - x.start].fill(true);
                }
            }
        }
        if let Some(mask) = &self.mask {
            let [sz, sy, sx] = &self.sources;
            for (is_inside, x) in inside.iter_mut().zip(x) {
                *is_inside = *is_inside && mask.has([sz[z], sy[y], sx[x]]);
            }
        }
    }

    /// Writes the value over the voxels of `region` that are not predicted; `out` holds
    /// `channels` channels of `out_region`, which contains it.
    pub(super) fn fill(
        &self,
        (axes, grid): (&[AxisCoverage; 3], &Grid),
        region: &Region,
        (out_region, channels): (&Region, usize),
        out: &mut [u8],
    ) {
        let (mut inside, size) = (Vec::new(), self.bytes.len());
        let [nz, ny, nx] = region.size;
        let [z0, y0, x0] = region.start.map(|v| v as usize);
        let [dz, dy, dx] = [0, 1, 2].map(|a| (region.start[a] - out_region.start[a]) as usize);
        let [_, out_ny, out_nx] = out_region.size;
        for (z, y) in (0..nz).flat_map(|z| (0..ny).map(move |y| (z, y))) {
            self.row(axes, grid, [z0 + z, y0 + y], x0..x0 + nx, &mut inside);
            if inside.contains(&false) {
                for c in 0..channels {
                    let to = ((dz + z) * out_ny + dy + y) * out_nx + dx + c * out_region.len();
                    self.fill_row(&inside, &mut out[to * size..(to + nx) * size]);
                }
            }
        }
    }
}

/// A value that voxels of the result can have.
struct OutsideValue {
    value: f64,
    bytes: Vec<u8>,
}

impl OutsideValue {
    fn new(options: &AggregateOptions, dtype: Dtype) -> Result<Self> {
        let value = options.outside;
        let stored = match options.finish {
            Finish::Quantize { slope, intercept } => {
                ((value - intercept) / slope).round_ties_even()
            }
            _ => value,
        };
        let bytes = with_voxel!(dtype, T => {
            <T as crate::Voxel>::from_f64_exact(stored).map(|v| bytemuck::bytes_of(&v).to_vec())
        });
        match bytes {
            Some(bytes) => Ok(Self { value, bytes }),
            None => Err(Error::invalid("outside", value, format!("a value of {dtype}"))),
        }
    }
}
