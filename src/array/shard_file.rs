//! Writes the file of one shard.

use std::io::{BufWriter, Write};

use super::flush::UnflushedFile;
use crate::format::array::ArrayLayout;
use crate::format::grid::ShardId;
use crate::format::index::{ContentsChecksum, IndexBuilder, ShardIdentity, u32_at};
use crate::memory::has_room;
use crate::sys::folder::Folder;
use crate::{Error, Result};

const BUFFER_BYTES: usize = 1 << 20;

/// An encoded chunk and its slot in its shard.
pub(crate) struct EncodedChunk {
    pub(crate) slot: usize,
    pub(crate) bytes: Vec<u8>,
}

/// Writes a shard of the array in `folder`, and returns its identity; no file if all its chunks are
/// the fill value.
///
/// # Errors
/// [`Error::Io`].
pub(crate) fn write_shard(
    folder: &Folder,
    layout: &ArrayLayout,
    shard: ShardId,
    mut chunks: Vec<EncodedChunk>,
) -> Result<Option<(UnflushedFile, ShardIdentity)>> {
    if chunks.is_empty() {
        return Ok(None);
    }
    let order = layout.morton_slots();
    let mut rank = vec![0; order.len()];
    for (place, &slot) in order.iter().enumerate() {
        rank[slot] = place;
    }
    chunks.sort_by_key(|chunk| rank[chunk.slot]);
    let key = layout.shard_key(shard);
    let (parent, name) = key.rsplit_once('/').expect("a shard lies in a folder");
    let parent = folder.join(parent);
    parent.create_all().map_err(Error::io(parent.path(), "cannot create"))?;
    let (mut index, mut offset) = (IndexBuilder::new(order.len()), 0);
    for chunk in &chunks {
        index.set(chunk.slot, offset, chunk.bytes.len());
        offset += chunk.bytes.len() as u64;
    }
    let parts: Vec<&[u8]> = chunks.iter().map(|chunk| &chunk.bytes[..]).collect();
    let mut by_slot: Vec<&EncodedChunk> = chunks.iter().collect();
    by_slot.sort_unstable_by_key(|chunk| chunk.slot);
    let mut contents = ContentsChecksum::default();
    for chunk in by_slot {
        contents.add(u32_at(&chunk.bytes, chunk.bytes.len() - 4));
    }
    let tail = index.encode(contents.value());
    let identity = ShardIdentity::new(contents.value(), u32_at(&tail, tail.len() - 4));
    let file = write_file(&parent, name, parts.into_iter().chain([&tail[..]]))?;
    Ok(Some((file, identity)))
}

/// Writes a file that no reader can see yet, replacing one that a killed writer left.
fn write_file<'a>(
    folder: &Folder,
    name: &str,
    parts: impl Iterator<Item = &'a [u8]>,
) -> Result<UnflushedFile> {
    let path = folder.path().join(name);
    let file = folder.create_file(name).map_err(Error::io(&path, "cannot create"))?;
    if !has_room(BUFFER_BYTES) {
        let what = format!("the buffer of {}", path.display());
        return Err(Error::OutOfMemory { what, bytes: BUFFER_BYTES as u64 });
    }
    let mut writer = BufWriter::with_capacity(BUFFER_BYTES, file);
    for part in parts {
        writer.write_all(part).map_err(Error::io(&path, "cannot write"))?;
    }
    let file = writer.into_inner().map_err(|e| Error::io(&path, "cannot write")(e.into_error()))?;
    Ok(UnflushedFile { path, file })
}
