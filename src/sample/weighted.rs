//! Patches about voxels drawn by their weights.
//!
//! # Invariants
//! - A voxel's probability is its weight over the sum of those that may be centres, to the last bits of `f64`: nothing is
//!   rejected, and chunks of which only a part may be centres are summed over that part.

use std::sync::Arc;

use ndarray::Array3;

use super::centres::Centres;
use super::label::check_channel;
use super::places::{self, Places};
use super::random::Draws;
use super::tally::part;
use super::{Border, Epoch, PatchLocation};
use crate::format::grid::{ChunkId, box_of};
use crate::geometry::check_patch_size;
use crate::store::{ChunkBox, ChunkSums};
use crate::{Error, Region, Result, Size3, Subject, Volume};

/// Draws patches whose centres are drawn by the real values of a volume, stored value × slope + intercept: TorchIO's
/// `WeightedSampler`; with [`Border::Exclude`] also MONAI's `RandWeightedCrop`, which leaves out the last start of each axis.
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedSampler {
    patch_size: Size3,
    border: Border,
    weights: String,
    channel: usize,
}

impl WeightedSampler {
    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, by one channel of the volume `weights` of each subject.
    ///
    /// # Errors
    /// [`Error::Usage`] for a size of zero.
    pub fn new(patch_size: Size3, border: Border, weights: &str, channel: usize) -> Result<Self> {
        check_patch_size(patch_size)?;
        Ok(Self { patch_size, border, weights: weights.to_owned(), channel })
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// What becomes of patches that would leave the volume.
    pub fn border(&self) -> Border {
        self.border
    }

    /// The volume of weights.
    pub fn weights(&self) -> &str {
        &self.weights
    }

    /// Its channel.
    pub fn channel(&self) -> usize {
        self.channel
    }

    /// Samples `first .. first + n` of `subject` in that epoch.
    ///
    /// # Errors
    /// [`Error::Usage`] if all weights are zero, the patch does not fit, there is no such volume or channel, or for samples
    /// beyond 2³²; [`Error::Data`] for a weight that is negative or not finite; what reading the volume returns.
    pub fn locations(
        &self,
        subject: &Subject,
        epoch: Epoch,
        first: u64,
        n: u64,
    ) -> Result<Vec<PatchLocation>> {
        places::locations(&self.places(subject)?, subject, epoch, first, n)
    }

    /// The probability of every voxel, `(z, y, x)`, to be the centre of a patch; of the order of the whole volume.
    ///
    /// # Errors
    /// As `locations`.
    pub fn probability_map(&self, subject: &Subject) -> Result<Array3<f64>> {
        places::probability_map(&self.places(subject)?, subject.size()?)
    }

    pub(super) fn places(&self, subject: &Subject) -> Result<Places> {
        let volume = subject.volume(&self.weights)?;
        check_channel(&volume, self.channel)?;
        let centres = Centres::new(volume.size(), self.patch_size, self.border)?;
        let (region, channel) = (centres.region(), self.channel);
        let table = volume.remember(format!("weights of {channel} in {region:?}"), || {
            let table = Table::new(&volume, channel, &region)?;
            let bytes = table.boxes.len() * size_of::<ChunkBox>() + 2 * table.boxes.len() * 8;
            Ok((table, bytes))
        })?;
        if table.cumulated.last().is_none_or(|&sum| sum == 0.0) {
            let (place, centres) = (volume.path().display(), centres.describe());
            return Err(Error::usage(format!("{place}: no voxel of a weight above 0 {centres}")));
        }
        Ok(Places::Weighted(WeightedPlaces { centres, volume, table }))
    }
}

/// A [`WeightedSampler`] over one subject.
pub(super) struct WeightedPlaces {
    pub(super) centres: Centres,
    volume: Volume,
    table: Arc<Table>,
}

/// The chunks that hold possible centres, and the sums of those centres' weights.
struct Table {
    boxes: Vec<ChunkBox>,
    sums: Vec<f64>,
    /// Sums up to the end of each chunk, added in C order.
    cumulated: Vec<f64>,
}

impl Table {
    fn new(volume: &Volume, channel: usize, region: &Region) -> Result<Self> {
        let (layout, whole_sums) = (volume.layout(), ChunkSums::of(volume)?);
        let places = || box_of(layout.chunks_meeting(region));
        let boxes: Vec<ChunkBox> =
            places().map(|at| ChunkBox { channel, at, region: part(layout, at, region) }).collect();
        let mut sums: Vec<f64> = places()
            .map(|at| whole_sums.0[layout.chunk_index(ChunkId { channel, at }) as usize])
            .collect();
        // A chunk without weight has none in any part of it.
        let is_cut = |i: &usize| boxes[*i].region != layout.chunk_region(boxes[*i].at);
        let cut: Vec<usize> = (0..boxes.len()).filter(|i| sums[*i] > 0.0).filter(is_cut).collect();
        let cut_boxes: Vec<ChunkBox> = cut.iter().map(|&i| boxes[i]).collect();
        let counted =
            volume.scan(&cut_boxes, |i, voxels| box_sum(volume, &cut_boxes[i], voxels))?;
        for (i, sum) in cut.into_iter().zip(counted) {
            sums[i] = sum;
        }
        let mut end = 0.0;
        let cumulate = |sum: &f64| {
            end += sum;
            end
        };
        let cumulated: Vec<f64> = sums.iter().map(cumulate).collect();
        if !end.is_finite() {
            let message = "the sum of all weights is beyond float64: scale them down";
            return Err(Error::data(volume.path(), message));
        }
        Ok(Self { boxes, sums, cumulated })
    }
}

/// The sum of a box's weights.
fn box_sum(volume: &Volume, wanted: &ChunkBox, voxels: &[u8]) -> Result<f64> {
    let size = wanted.region.size;
    volume
        .weigher()
        .sum(voxels, size, Region::whole(size))
        .map_err(|bad| Error::data(volume.path(), bad.message(wanted.region.start)))
}

impl WeightedPlaces {
    /// One draw for the chunk, one for the voxel in it.
    pub(super) fn centre(&self, draws: &mut Draws) -> Result<[i64; 3]> {
        let i = draws.pick(&self.table.cumulated);
        let (wanted, expected) = (&self.table.boxes[i], self.table.sums[i]);
        let mut voxels = Vec::new();
        self.volume.read_box(wanted, &mut voxels)?;
        let sum = box_sum(&self.volume, wanted, &voxels)?;
        if sum.to_bits() != expected.to_bits() {
            let message = format!(
                "the chunk at {:?} sums to {sum}, its chunk sum is {expected}: remove the volume's folder \"sums\"",
                wanted.at
            );
            return Err(Error::data(self.volume.path(), message));
        }
        let local =
            self.volume.weigher().pick(&voxels, wanted.region.size, draws.unit() * expected);
        Ok([0, 1, 2].map(|a| wanted.region.start[a] + local[a] as i64))
    }

    /// Adds the probability of each voxel.
    pub(super) fn add_probabilities(&self, map: &mut Array3<f64>) -> Result<()> {
        let (table, weigher) = (&self.table, self.volume.weigher());
        let total = table.cumulated.last().copied().unwrap_or(1.0);
        let mut voxels = Vec::new();
        for (wanted, sum) in table.boxes.iter().zip(&table.sums).filter(|one| *one.1 > 0.0) {
            self.volume.read_box(wanted, &mut voxels)?;
            let values = weigher.weights(&voxels).into_iter().map(|w| sum / total * (w / sum));
            places::add_box(map, &wanted.region, values);
        }
        Ok(())
    }
}
