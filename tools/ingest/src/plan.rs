//! Plans an ingest: reads every header and chooses every layout.
//!
//! # Invariants
//! - The plan's memory is an upper bound of what the run uses.

use std::path::Path;

use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, VolumeShape};
use voxquarry::{Error, Result};

use crate::labels::describe_labels;
use crate::manifest::{Manifest, Source};
use crate::options::IngestOptions;
use crate::source::SourceVolume;

/// A subject of the plan.
#[derive(Debug)]
pub struct PlannedSubject {
    /// Its name.
    pub name: String,
    /// Its volumes.
    pub volumes: Vec<PlannedVolume>,
}

/// A volume of the plan.
#[derive(Debug)]
pub struct PlannedVolume {
    /// Where it comes from.
    pub source: Source,
    /// The contents of its header.
    pub header: SourceVolume,
    /// How it will be cut into chunks and shards.
    pub layout: ArrayLayout,
    /// Upper bound of the memory that writing it takes.
    pub memory: layout::IngestMemory,
    /// Whether the sums of its chunks will be stored beside it, for weighted sampling.
    pub is_weights: bool,
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

/// Reads every header and chooses every layout.
///
/// # Errors
/// For the first source that cannot be ingested: [`Error::InvalidArgument`],
/// [`Error::MemoryBudget`], [`Error::Data`], [`Error::Io`].
pub fn plan(manifest: &Manifest, options: &IngestOptions) -> Result<Vec<PlannedSubject>> {
    if options.patch_sizes.is_empty() || options.patch_sizes.iter().flatten().any(|&n| n == 0) {
        return Err(Error::invalid(
            "patch_sizes",
            format!("{:?}", options.patch_sizes),
            "at least one, with at least 1 voxel along each axis",
        ));
    }
    let volume = |source: &Source| {
        let header = probe(source)?;
        let shape = shape_of(&header);
        let layout =
            layout::choose(&shape, &options.patch_sizes, options.codec, options.memory_bytes)
                .map_err(|e| in_file(source.input.location(), e))?;
        let memory = layout::ingest_memory(&shape, &layout, options.memory_bytes);
        let is_weights = manifest.is_weights(source);
        Ok(PlannedVolume { source: source.clone(), header, layout, memory, is_weights })
    };
    let subject = |(name, sources): &(String, Vec<Source>)| {
        let volumes = sources.iter().map(volume).collect::<Result<Vec<_>>>()?;
        for other in &volumes[1..] {
            let first = &volumes[0];
            if first.header.size != other.header.size
                || !first.header.affine.agrees_with(&other.header.affine, first.header.size)
            {
                return Err(Error::data(
                    other.source.input.location(),
                    describe_grid_mismatch(first, other),
                ));
            }
        }
        Ok(PlannedSubject { name: name.clone(), volumes })
    };
    manifest.subjects().iter().map(subject).collect()
}

/// Describes the volume that a source becomes.
fn probe(source: &Source) -> Result<SourceVolume> {
    let header = source.input.describe()?;
    Ok(if source.kind == Kind::Labels { describe_labels(header) } else { header })
}

/// Names the source file in an error about its memory.
fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::MemoryBudget { what, needed_bytes, allowed_bytes } => Error::MemoryBudget {
            what: format!("{}: {what}", path.display()),
            needed_bytes,
            allowed_bytes,
        },
        other => other,
    }
}

fn describe_grid_mismatch(first: &PlannedVolume, other: &PlannedVolume) -> String {
    let (a, b) = (&first.header, &other.header);
    let difference = if a.size == b.size {
        format!("its affine is {:?}, expected {:?}", b.affine.0, a.affine.0)
    } else {
        format!("it has {:?} voxels (z, y, x), expected {:?}", b.size, a.size)
    };
    let path = first.source.input.location().display();
    format!(
        "lies on another grid than {path} of the same subject: {difference}: \
         resample it, or make it a subject of its own"
    )
}
