//! The subjects and volumes of a plan: what each will be, and what it takes.

use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::LabelName;
use voxquarry::format::layout;
use voxquarry::format::levels::{self, Levels};
use voxquarry::{Region, Result, Size3};

use crate::change::{PlannedChange, VoxelChanges};
use crate::manifest::Source;
use crate::options::IngestOptions;
use crate::source::SourceVolume;

/// A subject of the plan.
#[derive(Debug)]
pub struct PlannedSubject {
    /// Its name.
    pub name: String,
    /// Its volumes.
    pub volumes: Vec<PlannedVolume>,
    /// The splits that it belongs to.
    pub splits: Vec<String>,
}

/// A volume of the plan.
#[derive(Clone, Debug)]
pub struct PlannedVolume {
    /// The source file.
    pub source: Source,
    /// The contents of its header, with the affine that it will have. Of a volume whose voxels are
    /// changed this is what it becomes; a crop, which no header tells, makes it smaller.
    pub header: SourceVolume,
    /// How it will be cut into chunks and shards.
    pub layout: ArrayLayout,
    /// Upper bound of the memory that writing it takes.
    pub memory: layout::IngestMemory,
    /// Whether the sums of its chunks will be stored beside it, for weighted sampling.
    pub is_weights: bool,
    /// Names of its labels.
    pub label_names: Vec<LabelName>,
    /// Sentences about what its format decided.
    pub notes: Vec<String>,
    /// The coarser levels that it gets.
    pub levels: Levels,
    /// Bytes of memory that reading the source takes beside a layer.
    pub(crate) reading_bytes: u64,
    /// How it differs from its source.
    pub(crate) change: Option<PlannedChange>,
}

impl PlannedSubject {
    /// Bytes of the voxels of all volumes, before compression.
    pub fn voxel_bytes(&self) -> u64 {
        self.volumes.iter().map(PlannedVolume::voxel_bytes).sum()
    }

    /// Bytes of the voxels of all coarser levels, before compression.
    pub fn levels_bytes(&self) -> u64 {
        self.volumes.iter().map(PlannedVolume::levels_bytes).sum()
    }

    /// Bytes that are read or written for its voxels; progress counts them.
    pub(crate) fn work_bytes(&self) -> u64 {
        self.volumes.iter().map(PlannedVolume::work_bytes).sum()
    }

    /// Upper bound of the copies of its sources that lie on the disk at one time, in bytes.
    pub fn scratch_bytes(&self) -> u64 {
        let copies = || self.volumes.iter().filter_map(|volume| volume.change.as_ref());
        let bytes = copies().map(PlannedChange::copy_bytes);
        let largest = bytes.clone().max().unwrap_or(0);
        // What is cropped away is known when all volumes are copied; then each is copied once more.
        if copies().any(|change| change.changes.crops) {
            bytes.sum::<u64>() + largest
        } else {
            largest
        }
    }

    /// Upper bound of the memory that it adds to what subjects share: its volumes are written one
    /// after the other.
    pub(crate) fn own_memory_bytes(&self) -> u64 {
        let volumes = self.volumes.iter().map(|volume| volume.memory.bytes);
        volumes.max().unwrap_or(0).saturating_sub(layout::SHARED_BYTES)
    }
}

impl PlannedVolume {
    /// Bytes of its voxels, before compression.
    pub fn voxel_bytes(&self) -> u64 {
        self.layout.shape().iter().map(|&n| n as u64).product::<u64>()
            * self.layout.dtype.size() as u64
    }

    /// Bytes of the voxels of its coarser levels, before compression; those of a crop, which no
    /// header tells, are fewer.
    pub fn levels_bytes(&self) -> u64 {
        levels::voxel_bytes(self.levels, &self.layout, self.header.affine.spacing_mm())
    }

    /// The factors of its coarser levels along `(z, y, x)`.
    ///
    /// # Errors
    /// As [`Levels::factors`].
    pub fn level_factors(&self) -> Result<Vec<Size3>> {
        self.levels.factors(self.layout.size, self.header.affine.spacing_mm())
    }

    /// Bytes that are read or written for its voxels.
    pub(crate) fn work_bytes(&self) -> u64 {
        let bytes = self.voxel_bytes();
        bytes
            + self.levels_bytes()
            + self.change.as_ref().map_or(0, |change| change.bytes_before(bytes))
    }

    /// Whether it is cropped, and the part that stays is not known yet.
    pub(crate) fn awaits_crop(&self) -> bool {
        self.change.as_ref().is_some_and(|change| change.changes.crops && change.crop.is_none())
    }

    /// What the source holds, if the volume differs from it.
    pub fn native(&self) -> Option<&SourceVolume> {
        self.change.as_ref().map(|change| &change.native)
    }

    /// What changes its voxels, as JSON; the box of a crop is null.
    pub fn changes(&self) -> Option<serde_json::Map<String, serde_json::Value>> {
        self.change.as_ref().map(PlannedChange::record)
    }

    /// Makes it the volume that `changes` make of its source.
    ///
    /// # Errors
    /// As [`PlannedChange::plan`].
    pub(crate) fn become_changed(
        &mut self,
        changes: VoxelChanges,
        options: &IngestOptions,
    ) -> Result<()> {
        let (native, kind) = (self.header.clone(), self.source.kind);
        let plan = PlannedChange::plan(native, kind, changes, self.reading_bytes, options)?;
        (self.header, self.layout) = (plan.header, plan.layout);
        self.memory.bytes = plan.memory_bytes;
        self.change = Some(plan.change);
        Ok(())
    }

    /// The volume that a part of its source becomes.
    ///
    /// # Errors
    /// As [`PlannedChange::plan`].
    pub(crate) fn cropped(&self, region: Region, options: &IngestOptions) -> Result<Self> {
        let mut cropped = self.clone();
        if let Some(change) = &self.change {
            let (change, header, layout) = change.cropped(region, self.header.dtype, options)?;
            (cropped.change, cropped.header, cropped.layout) = (Some(change), header, layout);
        }
        Ok(cropped)
    }
}
