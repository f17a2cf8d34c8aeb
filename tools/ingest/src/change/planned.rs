//! The plan of a volume whose voxels are changed: what it will be, and what that takes.
//!
//! # Invariants
//! - A plan holds for the whole volume; what is cropped away makes all of it smaller.

use serde_json::{Map, Value, json};
use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::{Dtype, Region, ResampledGrid, Result};

use super::options::VoxelChanges;
use super::values::StoredClip;
use crate::options::IngestOptions;
use crate::source::SourceVolume;

/// Bounds of the bytes of a box that a part of a layer is resampled from, and of the part.
const PART_BYTES: [u64; 2] = [4 << 20, 32 << 20];

/// A copy is read once or twice and removed: to compress it would take longer.
pub(super) const COPY_CODEC: Codec = Codec::None;

/// How a volume becomes another than its source.
#[derive(Clone, Debug)]
pub(crate) struct PlannedChange {
    pub(crate) changes: VoxelChanges,
    /// The source's volume.
    pub(crate) native: SourceVolume,
    /// The layout of the copy of it that is resampled, in a type that holds clipped values.
    pub(super) copy: ArrayLayout,
    /// Raw layers in memory while it is copied.
    pub(super) copy_layers: usize,
    pub(super) clip: Option<StoredClip>,
    /// The part of it that stays; `None` as long as that is not known.
    pub(crate) crop: Option<Region>,
    /// The grid of the part that stays.
    pub(super) grid: ResampledGrid,
    /// The type that values are resampled to.
    pub(super) read_dtype: Dtype,
    /// Whether slope and intercept are applied.
    pub(super) is_real: bool,
}

/// What the plan of a changed volume replaces in that of its source.
pub(crate) struct ChangedPlan {
    pub(crate) change: PlannedChange,
    pub(crate) header: SourceVolume,
    pub(crate) layout: ArrayLayout,
    pub(crate) memory_bytes: u64,
}

impl PlannedChange {
    /// Plans the changes of a volume. `reading_bytes` are those that reading the source takes.
    ///
    /// # Errors
    /// [`voxquarry::Error::InvalidArgument`] for changes that this volume does not allow,
    /// [`voxquarry::Error::MemoryBudget`].
    pub(crate) fn plan(
        native: SourceVolume,
        kind: Kind,
        changes: VoxelChanges,
        reading_bytes: u64,
        options: &IngestOptions,
    ) -> Result<ChangedPlan> {
        let stored = native.dtype;
        let dtype = changes.dtype.unwrap_or(match changes.normalization {
            Some(_) => Dtype::Float32,
            None => stored,
        });
        let is_real = changes.normalization.is_some()
            || (dtype != stored && (dtype.is_float() || stored.is_float()));
        let clip = changes.clip.map(|clip| StoredClip::new(clip, &native, is_real)).transpose()?;
        let copied = clip.map_or(stored, |(_, dtype)| dtype);
        let is_wide = |dtype: Dtype| dtype.size() > 4 || (!dtype.is_float() && dtype.size() == 4);
        // Not narrower, where a value that the type does not hold would become infinite.
        let read_dtype = match (is_real, is_wide(copied) || is_wide(dtype)) {
            (false, _) => copied,
            (true, true) => Dtype::Float64,
            (true, false) => Dtype::Float32,
        };
        let shape = VolumeShape { dtype: copied, ..native.shape() };
        let allowed = options.memory_bytes;
        let copy = layout::choose(&shape, &options.patch_sizes, COPY_CODEC, allowed)?;
        let beside = options.thread_count() as u64 * layout::encoder_memory(&copy, kind);
        let beside = beside.saturating_add(reading_bytes);
        let memory = layout::ingest_memory(&shape, &copy, allowed.saturating_sub(beside));
        let clip = clip.map(|(clip, _)| clip);
        let (copy_layers, copy_bytes) = (memory.layers, memory.bytes.saturating_add(beside));
        let grid = grid_of(&native, None, &changes)?;
        let change = Self {
            changes,
            native,
            copy,
            copy_layers,
            clip,
            crop: None,
            grid,
            read_dtype,
            is_real,
        };
        let header = change.header(dtype);
        let layout = layout_of(&header, options)?;
        let writing = layout::ingest_memory(&header.shape(), &layout, 0).bytes;
        let encoding = options.thread_count() as u64 * layout::encoder_memory(&layout, kind);
        let making = options.levels_memory(&layout);
        let memory_bytes = copy_bytes.max(writing + encoding + making + 2 * part_bytes(options));
        Ok(ChangedPlan { change, header, layout, memory_bytes })
    }

    /// The plan with a part of the source alone, and the header and layout of that.
    ///
    /// # Errors
    /// As [`PlannedChange::plan`].
    pub(crate) fn cropped(
        &self,
        region: Region,
        dtype: Dtype,
        options: &IngestOptions,
    ) -> Result<(Self, SourceVolume, ArrayLayout)> {
        let grid = grid_of(&self.native, Some(region), &self.changes)?;
        let change = Self { crop: Some(region), grid, ..self.clone() };
        let header = change.header(dtype);
        let layout = layout_of(&header, options)?;
        Ok((change, header, layout))
    }

    /// The volume that it becomes, in that type.
    fn header(&self, dtype: Dtype) -> SourceVolume {
        let native = &self.native;
        let (slope, intercept) =
            if self.is_real { (1.0, 0.0) } else { (native.slope, native.intercept) };
        SourceVolume {
            size: self.grid.size(),
            interleaved: 1,
            dtype,
            affine: *self.grid.affine(),
            slope,
            intercept,
            ..native.clone()
        }
    }

    /// Whether the part that stays is copied once more: borders are those of that part.
    pub(super) fn copies_crop(&self) -> bool {
        let is_whole = self.crop == Some(Region::whole(self.native.size));
        self.changes.crops && self.changes.interpolates() && !is_whole
    }

    /// Bytes of the copy of the source.
    pub(crate) fn copy_bytes(&self) -> u64 {
        self.copy.shape().iter().map(|&n| n as u64).product::<u64>() * self.copy.dtype.size() as u64
    }

    /// Bytes of voxels that pass by before the volume is written; `volume_bytes` are its own.
    pub(crate) fn bytes_before(&self, volume_bytes: u64) -> u64 {
        let is_measured = self.changes.normalization == Some(voxquarry::Normalization::ZScore);
        let crop = if self.copies_crop() { self.copy_bytes() } else { 0 };
        self.copy_bytes() + crop + if is_measured { volume_bytes } else { 0 }
    }

    /// The changes as the store keeps them, and what the source was. The box of a crop is null as
    /// long as it is not known.
    pub(crate) fn record(&self) -> Map<String, Value> {
        let mut record = self.changes.record();
        if let Some(region) = self.crop.filter(|_| self.changes.crops) {
            record.insert("crop".into(), json!({ "start": region.start, "size": region.size }));
        }
        let native = &self.native;
        let shape: Vec<usize> = native.channels.into_iter().chain(native.size).collect();
        let source = json!({
            "shape": shape,
            "dtype": native.dtype.name(),
            "affine": native.affine,
            "slope": native.slope,
            "intercept": native.intercept,
        });
        record.insert("native".into(), source);
        record
    }
}

/// The layout of a volume that is written.
fn layout_of(header: &SourceVolume, options: &IngestOptions) -> Result<ArrayLayout> {
    layout::choose(&header.shape(), &options.patch_sizes, options.codec, options.memory_bytes)
}

/// Upper bound of a box that a part of a layer is resampled from, and of the part, in bytes; a
/// single row may have more.
pub(super) fn part_bytes(options: &IngestOptions) -> u64 {
    (options.memory_bytes / 16).clamp(PART_BYTES[0], PART_BYTES[1])
}

/// The grid of a part of a volume after its changes.
fn grid_of(
    native: &SourceVolume,
    part: Option<Region>,
    changes: &VoxelChanges,
) -> Result<ResampledGrid> {
    let (size, affine) = match part {
        Some(region) => (region.size, native.affine.shifted(region.start)),
        None => (native.size, native.affine),
    };
    ResampledGrid::new(size, &affine, changes.spacing, changes.orientation())
}
