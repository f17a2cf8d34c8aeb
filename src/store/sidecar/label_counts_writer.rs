//! Collects the label counts of a volume's chunks in any order, and writes them in C order (§8).
//!
//! # Invariants
//! - Memory is [`BUFFER_BYTES`], one chunk's counts, and 16 bytes for each chunk: what exceeds that
//!   waits in a file without a name.
//! - Whether counts are left out depends on the voxels alone.

use std::fs::File;
use std::iter::repeat_n;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use bytemuck::Pod;
use serde_json::json;

use super::label_counts::FOLDER;
use crate::array::array1d;
use crate::format::array::ArrayLayout;
use crate::format::document;
use crate::memory::collected;
use crate::sys::folder::{Folder, refused};
use crate::{Error, Result};

/// Counts that are kept in memory, in bytes: those of all but very large or busy label maps.
const BUFFER_BYTES: usize = 1 << 20;
/// The name of the file in the moment before it has none.
const SPILL: &str = "label-counts";
/// Bytes of a count: a label and its voxels.
const ENTRY_BYTES: u64 = (LABEL_BYTES + 4) as u64;
const LABEL_BYTES: usize = size_of::<i64>();
/// Counts are left out if they take more than this share of the voxels: so many different labels
/// are not classes that patches are drawn from.
const VOXELS_DIVISOR: u64 = 4;
/// So many counts are never left out.
const FEW_ENTRIES: u64 = 4096;

/// The label counts of a volume that is being written.
pub(crate) struct LabelCountsWriter {
    folder: Folder,
    /// More counts are left out.
    max_entries: u64,
    collected: Mutex<Collected>,
}

#[derive(Default)]
struct Collected {
    entries: u64,
    /// Where each chunk's counts lie, and their number.
    places: Vec<(u64, u32)>,
    /// The last bytes; for each chunk all labels, then all counts.
    buffer: Vec<u8>,
    /// The bytes before those in `buffer`.
    spilled: Option<(File, PathBuf)>,
    spilled_bytes: u64,
}

impl LabelCountsWriter {
    /// Counts of no chunk of the volume in `folder`.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(crate) fn new(folder: &Folder, layout: &ArrayLayout) -> Result<Self> {
        let voxels = layout.shape().iter().map(|&n| n as u64).product::<u64>();
        let voxel_bytes = voxels * layout.dtype.size() as u64;
        let max_entries = (voxel_bytes / VOXELS_DIVISOR / ENTRY_BYTES).max(FEW_ENTRIES);
        let chunks = layout.chunk_count();
        let places = collected(repeat_n((0, 0), chunks as usize), chunks, || {
            format!("the places of the label counts of {chunks} chunks")
        })?;
        let collected = Mutex::new(Collected { places, ..Collected::default() });
        Ok(Self { folder: folder.clone(), max_entries, collected })
    }

    /// Takes the labels of a chunk, ascending and without 0, and their counts; each chunk once.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn push(&self, chunk: u64, entries: &[(i64, u32)]) -> Result<()> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        let collected = &mut *collected;
        collected.entries += entries.len() as u64;
        if collected.entries > self.max_entries {
            (collected.buffer, collected.spilled) = (Vec::new(), None);
            return Ok(());
        }
        let at = collected.spilled_bytes + collected.buffer.len() as u64;
        collected.places[chunk as usize] = (at, entries.len() as u32);
        collected.buffer.reserve(entries.len() * ENTRY_BYTES as usize);
        for (label, _) in entries {
            collected.buffer.extend_from_slice(&label.to_le_bytes());
        }
        for (_, voxels) in entries {
            collected.buffer.extend_from_slice(&voxels.to_le_bytes());
        }
        if collected.buffer.len() >= BUFFER_BYTES {
            collected.spill(&self.folder)?;
        }
        Ok(())
    }

    /// Writes the arrays, and returns the checksum of their values; `None` if they are left out.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(crate) fn write(&self) -> Result<Option<u32>> {
        let collected = self.collected.lock().unwrap_or_else(PoisonError::into_inner);
        if collected.entries > self.max_entries {
            return Ok(None);
        }
        let folder = self.folder.join(FOLDER);
        folder.create_all().map_err(Error::io(folder.path(), "cannot create"))?;
        let group = document::write_in(&folder, &document::group(json!({})))?;
        let crc32c = crc32c::crc32c(&group);
        let mut offsets = vec![0u64];
        for &(_, entries) in &collected.places {
            offsets.push(offsets[offsets.len() - 1] + u64::from(entries));
        }
        let part = |name| folder.join(name);
        let crc32c = array1d::write(&part("offsets"), "uint64", "offset", &offsets, None, crc32c)?;
        let labels = |entries| (0, entries * LABEL_BYTES);
        let crc32c = collected.column::<i64>(&part("labels"), "int64", crc32c, labels)?;
        let counts = |entries| (entries * LABEL_BYTES, entries * size_of::<u32>());
        collected.column::<u32>(&part("counts"), "uint32", crc32c, counts).map(Some)
    }
}

impl Collected {
    fn spill(&mut self, folder: &Folder) -> Result<()> {
        if self.spilled.is_none() {
            let path = folder.path().join(SPILL);
            let file = folder.create_file(SPILL).map_err(refused(&path, "cannot create"))?;
            folder.remove(SPILL).map_err(Error::io(&path, "cannot unlink"))?;
            self.spilled = Some((file, path));
        }
        let Some((file, path)) = &self.spilled else { return Ok(()) };
        file.write_all_at(&self.buffer, self.spilled_bytes)
            .map_err(Error::io(path, "cannot write label counts to"))?;
        self.spilled_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes one array, of that part of each chunk's bytes, and continues the checksum.
    fn column<T: Pod>(
        &self,
        folder: &Folder,
        dtype: &str,
        crc32c: u32,
        part: impl Fn(usize) -> (usize, usize),
    ) -> Result<u32> {
        let mut places = self.places.iter().filter(|place| place.1 > 0);
        let (mut of_chunk, mut taken): (Vec<T>, usize) = (Vec::new(), 0);
        let fill = |out: &mut [T]| -> Result<()> {
            let mut filled = 0;
            while filled < out.len() {
                if taken == of_chunk.len() {
                    let &(at, entries) = places.next().expect("as many as were counted");
                    let (begin, bytes) = part(entries as usize);
                    of_chunk.resize(bytes / size_of::<T>(), T::zeroed());
                    self.read(at + begin as u64, bytemuck::cast_slice_mut(&mut of_chunk))?;
                    taken = 0;
                }
                let n = (out.len() - filled).min(of_chunk.len() - taken);
                out[filled..filled + n].copy_from_slice(&of_chunk[taken..taken + n]);
                (filled, taken) = (filled + n, taken + n);
            }
            Ok(())
        };
        array1d::write_with(folder, (dtype, "entry"), self.entries as usize, None, crc32c, fill)
    }

    fn read(&self, at: u64, out: &mut [u8]) -> Result<()> {
        if let Some(begin) = at.checked_sub(self.spilled_bytes) {
            out.copy_from_slice(&self.buffer[begin as usize..][..out.len()]);
            return Ok(());
        }
        let (file, path) = self.spilled.as_ref().expect("bytes were spilled");
        file.read_exact_at(out, at).map_err(Error::io(path, "cannot read label counts from"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::label_counts::LabelCounts;
    use super::*;
    use crate::Dtype;
    use crate::format::array::ChunkCodec;
    use crate::sys::folder::Links;

    fn layout(chunks: usize) -> ArrayLayout {
        ArrayLayout {
            channels: None,
            size: [chunks * 8, 64, 64],
            dtype: Dtype::Int32,
            chunk: [8, 64, 64],
            shard: [8, 64, 64],
            codec: ChunkCodec::Raw,
        }
    }

    /// As many labels as fit beside voxels of four bytes: a twelfth of the voxels.
    fn entries(chunk: u64, number: u64) -> Vec<(i64, u32)> {
        (0..number)
            .map(|i| ((i * 7 + chunk) as i64 - 40, 1 + i as u32 % 3))
            .filter(|e| e.0 != 0)
            .collect()
    }

    #[test]
    fn counts_in_any_order_are_written_in_c_order_also_from_the_disk() {
        // The last case exceeds the buffer several times.
        for (chunks, number) in [(1, 0), (3, 5), (40, 90), (300, 2000)] {
            let scratch = tempfile::tempdir().unwrap();
            let folder = Folder::open(scratch.path(), Links::Refuse).unwrap();
            let layout = layout(chunks as usize);
            let writer = LabelCountsWriter::new(&folder, &layout).unwrap();
            let mut expected = LabelCounts::new();
            let of = |chunk: u64| entries(chunk, if chunk % 3 == 1 { 0 } else { number });
            (0..chunks).for_each(|chunk| expected.push(&of(chunk)));
            for i in 0..chunks {
                // In steps of 7, which has no factor in common with any of the numbers.
                let chunk = chunks - 1 - i * 7 % chunks;
                writer.push(chunk, &of(chunk)).unwrap();
            }
            let crc32c = writer.write().unwrap();
            assert!(LabelCounts::read(&folder, &layout, crc32c).unwrap() == expected);
            let spilled = writer.collected.lock().unwrap().spilled_bytes;
            assert_eq!(spilled > 3 * BUFFER_BYTES as u64, number == 2000);
        }
    }

    #[test]
    fn too_many_counts_are_left_out() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::open(scratch.path(), Links::Refuse).unwrap();
        let layout = layout(4);
        let limit = 4 * 8 * 64 * 64 * 4 / 4 / 12;
        for (more, left_out) in [(0, false), (1, true)] {
            let writer = LabelCountsWriter::new(&folder, &layout).unwrap();
            let count = |n: u64| (1..=n as i64).map(|label| (label, 1)).collect::<Vec<_>>();
            writer.push(3, &count(limit - 10)).unwrap();
            writer.push(1, &count(10 + more)).unwrap();
            writer.push(0, &[]).unwrap();
            assert_eq!(writer.write().unwrap().is_none(), left_out);
            assert_eq!(folder.has(FOLDER).unwrap(), !left_out);
            let _ = folder.remove_tree(FOLDER);
        }
    }
}
