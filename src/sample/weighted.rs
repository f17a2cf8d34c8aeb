//! Draws patches centred on voxels that are drawn by their weights.
//!
//! # Invariants
//! - The probability of a voxel is its weight over the sum of the weights of all centres, to the
//!   last bits of `f64`: nothing is rejected, and a chunk in which only some voxels may be centres
//!   is summed over these.

use std::sync::Arc;

use super::border::{Border, Centres};
use super::boxes::{ProbabilityMap, in_chunk};
use super::chunk_weights::{ChunkWeights, Reweighting};
use super::draw::{Draw, locations_method, probability_map_method};
use super::missing::Lack;
use super::random::{RandomStream, StreamKey};
use super::volumes::{check_channel, volume_if_any};
use crate::array::boxes::ChunkBox;
use crate::format::grid::check_patch_size;
use crate::format::grid::{ChunkId, iter_box};
use crate::memory::collected;
use crate::store::derive;
use crate::{Error, Region, Result, Size3, Subject, Volume};

/// Draws patches whose centres are drawn by the real values of a volume, stored value × slope +
/// intercept, which are finite and not negative.
///
/// This is the distribution of TorchIO's `WeightedSampler`; with [`Border::Exclude`] also that of
/// MONAI's `RandWeightedCrop`, which leaves out the last start of each axis.
///
/// ```
/// use voxquarry::{Dataset, Epoch, OpenOptions, WeightedSampler};
///
/// # let store = "format-spec/golden/v1-sums";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// let sampler = WeightedSampler::new([4, 4, 4], "f32")?;
/// assert_eq!(sampler.locations(&subject, 8, Epoch::default(), 0)?.len(), 8);
/// let probabilities = sampler.probability_map(&subject)?;
/// assert!((probabilities.sum() - 1.0).abs() < 1e-9);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct WeightedSampler {
    patch_size: Size3,
    border: Border,
    weights: String,
    channel: usize,
}

impl WeightedSampler {
    /// Draws the same kind of voxels, each a patch, anywhere in the volume.
    pub(super) fn of_voxels(&self) -> Self {
        Self { patch_size: [1; 3], border: Border::Exclude, ..self.clone() }
    }

    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, by channel 0 of the volume
    /// `weights` of each subject; the patches stay inside the volume.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of zero.
    pub fn new(patch_size: Size3, weights: impl Into<String>) -> Result<Self> {
        check_patch_size(patch_size)?;
        Ok(Self { patch_size, border: Border::default(), weights: weights.into(), channel: 0 })
    }

    /// Sets what is done with patches that would leave the volume.
    #[must_use]
    pub fn border(self, border: Border) -> Self {
        Self { border, ..self }
    }

    /// Sets the channel of the volume that holds the weights.
    #[must_use]
    pub fn channel(self, channel: usize) -> Self {
        Self { channel, ..self }
    }

    locations_method!();

    probability_map_method!();

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// What is done with patches that would leave the volume.
    pub fn get_border(&self) -> Border {
        self.border
    }

    /// The volume of weights.
    pub fn weights(&self) -> &str {
        &self.weights
    }

    /// The channel of the volume that holds the weights.
    pub fn get_channel(&self) -> usize {
        self.channel
    }

    pub(super) fn bind(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
    ) -> Result<Box<dyn Draw>> {
        let volume = subject.volume(&self.weights)?;
        check_channel(&volume, self.channel)?;
        let centres = Centres::new(volume.size(), self.patch_size, self.border)?;
        let (region, channel) = (centres.region(), self.channel);
        let table = volume.derived(format!("weights of {channel} in {region:?}"), || {
            let table = WeightTable::new(&volume, channel, &region)?;
            let bytes = table.boxes.len() * size_of::<ChunkBox>() + 2 * table.boxes.len() * 8;
            Ok((table, bytes))
        })?;
        if table.cumulative.last().is_none_or(|&sum| sum == 0.0) {
            let is_elsewhere = has_weight(&volume, channel)?;
            return Err(centres.nothing_to_sample(volume.path(), WANTED, is_elsewhere));
        }
        let reweighted = |Reweighting { weights, .. }| {
            let name = format!("{} of {channel} in {region:?}", weights.name());
            volume.derived(name, || {
                let parts = table.boxes.iter().map(|chunk| chunk.at);
                let sums = weights.cumulative(&volume, parts.zip(table.sums.iter().copied()))?;
                let sums = sums.ok_or_else(|| ChunkWeights::nothing_left(&volume))?;
                let bytes = sums.len() * 8;
                Ok((sums, bytes))
            })
        };
        let reweighted = reweighting.map(reweighted).transpose()?;
        Ok(Box::new(WeightedDraw { centres, volume, table, reweighted }))
    }

    /// Why no patch can be drawn in a subject.
    pub(super) fn lack(&self, subject: &Subject) -> Result<Option<Lack>> {
        let volume = match volume_if_any(subject, &self.weights)? {
            Ok(volume) => volume,
            Err(lack) => return Ok(Some(lack)),
        };
        check_channel(&volume, self.channel)?;
        let centres = Centres::new(volume.size(), self.patch_size, self.border)?;
        let (region, layout) = (centres.region(), volume.layout());
        let sums = derive::weight_sums(&volume)?;
        let (mut is_elsewhere, mut cut) = (false, Vec::new());
        for at in iter_box(layout.chunks_meeting(&Region::whole(volume.size()))) {
            let index = layout.chunk_index(ChunkId { channel: self.channel, at });
            if sums.0[index as usize] > 0.0 {
                is_elsewhere = true;
                let part = in_chunk(&region, layout, at);
                if part == layout.chunk_region(at) {
                    return Ok(None);
                }
                if !part.is_empty() {
                    cut.push(ChunkBox { channel: self.channel, at, region: part });
                }
            }
        }
        let mut voxels = Vec::new();
        for chunk in &cut {
            volume.array().read_box(chunk, &mut voxels)?;
            if box_sum(&volume, chunk, &voxels)? > 0.0 {
                return Ok(None);
            }
        }
        Ok(Some(centres.lack(WANTED, is_elsewhere)))
    }
}

/// The voxels that may be centres.
const WANTED: &str = "of a weight above 0";

/// Whether any voxel of a channel has a weight above 0.
fn has_weight(volume: &Volume, channel: usize) -> Result<bool> {
    let (layout, sums) = (volume.layout(), derive::weight_sums(volume)?);
    let mut chunks = iter_box(layout.chunks_meeting(&Region::whole(volume.size())));
    let sum = |at| sums.0[layout.chunk_index(ChunkId { channel, at }) as usize];
    Ok(chunks.any(|at| sum(at) > 0.0))
}

/// A [`WeightedSampler`] bound to one subject.
pub(super) struct WeightedDraw {
    centres: Centres,
    volume: Volume,
    table: Arc<WeightTable>,
    /// The table's cumulative sums under weights of the chunks, if these have some.
    reweighted: Option<Arc<Vec<f64>>>,
}

/// The chunks that hold centres, and the sums of the weights of these centres.
struct WeightTable {
    boxes: Vec<ChunkBox>,
    sums: Vec<f64>,
    /// Sums of all weights up to the end of each chunk, added in C order.
    cumulative: Vec<f64>,
}

impl WeightTable {
    fn new(volume: &Volume, channel: usize, region: &Region) -> Result<Self> {
        let (layout, whole_sums) = (volume.layout(), derive::weight_sums(volume)?);
        let chunks = || iter_box(layout.chunks_meeting(region));
        let chunk_box = |at| ChunkBox { channel, at, region: in_chunk(region, layout, at) };
        let count = layout.chunks_meeting(region).map(|cells| cells.len() as u64).iter().product();
        let what = || format!("the weights of {count} chunks");
        let boxes = collected(chunks().map(chunk_box), count, what)?;
        let sum = |at| whole_sums.0[layout.chunk_index(ChunkId { channel, at }) as usize];
        let mut sums = collected(chunks().map(sum), count, what)?;
        // A chunk without weight has none in any part of it. That its sum is right follows from the
        // checksums (§8).
        let is_cut = |i: &usize| boxes[*i].region != layout.chunk_region(boxes[*i].at);
        let cut: Vec<usize> = (0..boxes.len()).filter(|i| sums[*i] > 0.0).filter(is_cut).collect();
        let cut_boxes: Vec<ChunkBox> = cut.iter().map(|&i| boxes[i]).collect();
        let cut_sums = volume
            .array()
            .map_boxes(&cut_boxes, |i, voxels| box_sum(volume, &cut_boxes[i], voxels))?;
        for (i, sum) in cut.into_iter().zip(cut_sums) {
            sums[i] = sum;
        }
        let mut end = 0.0;
        let accumulate = |sum: &f64| {
            end += sum;
            end
        };
        let cumulative = collected(sums.iter().map(accumulate), count, what)?;
        if !end.is_finite() {
            let message = "the sum of all weights exceeds float64: scale them down";
            return Err(Error::data(volume.path(), message));
        }
        Ok(Self { boxes, sums, cumulative })
    }
}

/// The sum of the weights in a box.
fn box_sum(volume: &Volume, chunk: &ChunkBox, voxels: &[u8]) -> Result<f64> {
    let size = chunk.region.size;
    volume
        .weight_function()
        .sum(voxels, size, Region::whole(size))
        .map_err(|bad| Error::data(volume.path(), bad.message(chunk.region.start)))
}

impl WeightedDraw {
    /// One draw for the chunk, one for the voxel in it.
    fn centre(&self, random: &mut RandomStream) -> Result<[i64; 3]> {
        let i = random.pick(self.reweighted.as_deref().unwrap_or(&self.table.cumulative));
        let (chunk, expected) = (&self.table.boxes[i], self.table.sums[i]);
        let mut voxels = Vec::new();
        self.volume.array().read_box(chunk, &mut voxels)?;
        let sum = box_sum(&self.volume, chunk, &voxels)?;
        if sum.to_bits() != expected.to_bits() {
            let message = format!(
                "the weights of the chunk at {:?} sum to {sum}, the stored sum is {expected}: \
                 remove the folder \"sums\" of the volume",
                chunk.at
            );
            return Err(Error::data(self.volume.path(), message));
        }
        let local = self.volume.weight_function().pick(
            &voxels,
            chunk.region.size,
            random.unit() * expected,
        );
        Ok([0, 1, 2].map(|a| chunk.region.start[a] + local[a] as i64))
    }
}

impl Draw for WeightedDraw {
    fn patch_size(&self) -> Size3 {
        self.centres.patch_size()
    }

    fn start(&self, key: &StreamKey<'_>) -> Result<[i64; 3]> {
        let centre = self.centre(&mut RandomStream::new(key))?;
        Ok(self.centres.start_of(centre))
    }

    fn add_probabilities(&self, map: &mut ProbabilityMap<'_>) -> Result<()> {
        let (table, function) = (&self.table, self.volume.weight_function());
        let total = table.cumulative.last().copied().unwrap_or(1.0);
        let mut voxels = Vec::new();
        for (chunk, sum) in table.boxes.iter().zip(&table.sums).filter(|one| *one.1 > 0.0) {
            self.volume.array().read_box(chunk, &mut voxels)?;
            let values = function.weights(&voxels).into_iter().map(|w| sum / total * (w / sum));
            map.add(&chunk.region, values);
        }
        Ok(())
    }
}
