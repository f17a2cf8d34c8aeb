//! Files of a volume: a shard, and what is said of all of them in the end.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use super::VolumeSpec;
use super::chunk::Encoded;
use super::figures::Figures;
use super::flush::Unflushed;
use crate::format::array::ArrayLayout;
use crate::format::attributes::{Kind, SourceFile, VolumeAttributes};
use crate::format::document;
use crate::format::grid::ShardId;
use crate::format::index::IndexBuilder;
use crate::store::summary::LabelCounts;
use crate::{Error, Result};

/// Label counts of chunks: a chunk's index, and how many voxels each label has there.
pub(super) type Counts = Vec<(u64, Vec<(i64, u32)>)>;

/// Figures of all voxels that were written.
pub(super) struct Totals {
    pub(super) figures: Figures,
    pub(super) counts: Counts,
    pub(super) shard_files: u64,
}

impl Totals {
    /// Writes the label counts and all metadata of the volume in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn write(
        mut self,
        folder: &Path,
        spec: &VolumeSpec,
        source: Option<SourceFile>,
    ) -> Result<()> {
        let layout = &spec.layout;
        if spec.kind == Kind::Labels {
            self.counts.sort_unstable_by_key(|c| c.0);
            let mut counts = LabelCounts::new();
            let mut listed = self.counts.iter().peekable();
            for index in 0..layout.chunk_count() {
                let labels = listed.next_if(|c| c.0 == index).map_or(&[][..], |c| &c.1);
                counts.push(labels);
            }
            counts.write(folder)?;
        }
        document::write(&folder.join("0"), &layout.to_json())?;
        let attributes = VolumeAttributes {
            kind: spec.kind,
            affine: spec.affine,
            slope: spec.slope,
            intercept: spec.intercept,
            patch_sizes: spec.patch_sizes.clone(),
            codec: spec.codec.name().to_owned(),
            statistics: self.figures.statistics(),
            shard_files: self.shard_files,
            source,
        };
        document::write(
            folder,
            &document::group(attributes.to_json(&spec.name, layout.channels.is_some())),
        )
    }
}

/// Writes the file of a shard; none if all its chunks are the fill value.
///
/// # Errors
/// [`Error::Io`].
pub(super) fn write_shard(
    folder: &Path,
    layout: &ArrayLayout,
    shard: ShardId,
    mut chunks: Vec<Encoded>,
) -> Result<Option<Unflushed>> {
    if chunks.is_empty() {
        return Ok(None);
    }
    let order = layout.morton_slots();
    let mut rank = vec![0; order.len()];
    for (place, &slot) in order.iter().enumerate() {
        rank[slot] = place;
    }
    chunks.sort_by_key(|chunk| rank[chunk.slot]);
    let path = folder.join("0").join(layout.shard_key(shard));
    let parent = path.parent().expect("a shard lies in a folder");
    fs::create_dir_all(parent).map_err(Error::io(parent, "cannot create"))?;
    let (mut index, mut offset) = (IndexBuilder::new(order.len()), 0);
    for chunk in &chunks {
        index.set(chunk.slot, offset, chunk.bytes.len());
        offset += chunk.bytes.len() as u64;
    }
    let parts = chunks.iter().map(|c| &c.bytes[..]);
    write_file(path, parts.chain([&index.encode()[..]])).map(Some)
}

/// Writes a file that nobody reads yet; what a killed writer left there is replaced.
fn write_file<'a>(path: PathBuf, parts: impl Iterator<Item = &'a [u8]>) -> Result<Unflushed> {
    let file = File::create(&path).map_err(Error::io(&path, "cannot create"))?;
    let mut writer = BufWriter::with_capacity(1 << 20, file);
    for part in parts {
        writer.write_all(part).map_err(Error::io(&path, "cannot write"))?;
    }
    let file = writer.into_inner().map_err(|e| Error::io(&path, "cannot write")(e.into_error()))?;
    Ok(Unflushed { path, file })
}
