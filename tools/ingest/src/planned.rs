//! The subjects and volumes of a plan: what each will be, and what it takes.

use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::LabelName;
use voxquarry::format::layout::{self, VolumeShape};

use crate::manifest::Source;
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
#[derive(Debug)]
pub struct PlannedVolume {
    /// The source file.
    pub source: Source,
    /// The contents of its header, with the affine that it will have.
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
}

impl PlannedSubject {
    /// Bytes of the voxels of all volumes, before compression.
    pub fn voxel_bytes(&self) -> u64 {
        self.volumes.iter().map(PlannedVolume::voxel_bytes).sum()
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

    pub(crate) fn shape(&self) -> VolumeShape {
        shape_of(&self.header)
    }
}

pub(crate) fn shape_of(header: &SourceVolume) -> VolumeShape {
    VolumeShape {
        channels: header.channels,
        size: header.size,
        dtype: header.dtype,
        interleaved: header.interleaved,
    }
}
