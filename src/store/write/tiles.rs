//! Writes one volume from boxes of whole chunks, in any order and from any thread.
//!
//! # Invariants
//! - A shard file is written once, whole, when the last of its chunks has come; until then its chunks are held encoded.
//! - A shard is noted in the journal, if there is one, after its file was flushed: what the journal names is on the disk.
//! - Whoever brings the last chunk writes the shard, and gets the error of a full disk; it is flushed behind.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use super::VolumeSpec;
use super::chunk::{ChunkEncoder, Encoded};
use super::figures::Figures;
use super::flush::{Flushes, Unflushed};
use super::shard::{Counts, Totals, write_shard};
use crate::format::array::ArrayLayout;
use crate::format::grid::{ChunkId, ShardId, box_of};
use crate::{Error, Region, Result, Size3};

/// A volume in preparation.
pub(super) struct TileWriter {
    files: Arc<Files>,
    /// Buffers of threads that are at nothing.
    encoders: Mutex<Vec<ChunkEncoder>>,
    flushes: Mutex<Flushes>,
}

/// What is on the disk, and what will be.
struct Files {
    folder: PathBuf,
    spec: VolumeSpec,
    /// In C order, channel slowest.
    shards: Vec<Mutex<Shard>>,
    journal: Option<Mutex<File>>,
}

enum Shard {
    Open { awaited: usize, chunks: Vec<Encoded>, figures: Vec<(u64, Figures)>, counts: Counts },
    Written(Written),
}

/// What stays of a written shard: a line of the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Written {
    shard: usize,
    files: u64,
    figures: Figures,
    counts: Counts,
}

impl TileWriter {
    /// A writer of `spec` below `folder`; with a `journal`, shards that it names are done already.
    ///
    /// # Errors
    /// [`Error::Usage`] for a layout that cannot be, [`Error::Data`] for a journal of something else, [`Error::Io`].
    pub(super) fn create(
        folder: PathBuf,
        spec: VolumeSpec,
        journal: Option<&Path>,
    ) -> Result<Self> {
        spec.layout.validate().map_err(Error::Usage)?;
        spec.affine.validate().map_err(Error::Usage)?;
        let level = folder.join("0");
        fs::create_dir_all(&level).map_err(Error::io(&level, "cannot create"))?;
        let layout = &spec.layout;
        let [sz, sy, sx] = layout.shard_grid();
        let shards = (0..layout.channel_count() * sz * sy * sx).map(|n| {
            let [zs, ys, xs] = chunks_of(layout, shard_id(layout, n));
            let awaited = zs.len() * ys.len() * xs.len();
            let (chunks, figures, counts) = (Vec::new(), Vec::new(), Vec::new());
            Mutex::new(Shard::Open { awaited, chunks, figures, counts })
        });
        let shards: Vec<_> = shards.collect();
        // Whatever removed a file, its shard is open again.
        let is_there = |written: &Written| {
            let key = layout.shard_key(shard_id(layout, written.shard));
            written.files == 0 || level.join(key).is_file()
        };
        let reopen = |path| reopen(path, &shards, is_there);
        let journal = journal.map(reopen).transpose()?.map(Mutex::new);
        let files = Arc::new(Files { folder, spec, shards, journal });
        Ok(Self { files, encoders: Mutex::default(), flushes: Mutex::default() })
    }

    pub(super) fn spec(&self) -> &VolumeSpec {
        &self.files.spec
    }

    /// Whether every shard that meets `region` is written.
    pub(super) fn is_written(&self, region: &Region) -> bool {
        let layout = &self.spec().layout;
        let ranges = [0, 1, 2].map(|a| {
            region.start[a] as usize / layout.shard[a]
                ..(region.end(a) as usize).div_ceil(layout.shard[a])
        });
        (0..layout.channel_count()).all(|channel| {
            box_of(ranges.clone()).all(|at| {
                let shard = self.files.shard(shard_number(layout, ShardId { channel, at }));
                matches!(*shard, Shard::Written(_))
            })
        })
    }

    /// How many chunks, of all channels, lie in a box that begins and ends with chunks.
    pub(super) fn chunks_in(&self, region: &Region) -> usize {
        let layout = &self.spec().layout;
        layout.channel_count()
            * layout.chunks_meeting(region).map(|range| range.len()).iter().product::<usize>()
    }

    /// Takes the `number`-th chunk of such a box, which is `slabs` one behind the other along z, each `(c, z, y, x)` in C order,
    /// every channel.
    ///
    /// # Errors
    /// [`Error::BufferLength`]; [`Error::Data`] if a label map holds something else; [`Error::Io`].
    pub(super) fn put_chunk(&self, region: &Region, slabs: &[&[u8]], number: usize) -> Result<()> {
        let layout = &self.spec().layout;
        let (channels, t) = (layout.channel_count(), layout.dtype.size());
        let plane_bytes = region.size[1] * region.size[2] * t;
        let found = slabs.iter().map(|slab| slab.len()).sum::<usize>();
        if found != channels * region.len() * t {
            let expected = channels * region.len();
            return Err(Error::BufferLength { found: found / t, expected });
        }
        let [zs, ys, xs] = layout.chunks_meeting(region);
        let (rest, x) = (number / xs.len(), number % xs.len());
        let (rest, y) = (rest / ys.len(), rest % ys.len());
        let (channel, z) = (rest / zs.len(), rest % zs.len());
        let id = ChunkId { channel, at: [zs.start + z, ys.start + y, xs.start + x] };
        let planes = slabs.iter().flat_map(|slab| {
            let channel_bytes = slab.len() / channels;
            slab[channel * channel_bytes..][..channel_bytes].chunks_exact(plane_bytes)
        });
        let planes: Vec<&[u8]> = planes.collect();
        let mut encoder = {
            let idle = self.encoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
            idle.unwrap_or_else(|| ChunkEncoder::new(layout))
        };
        self.encode(&mut encoder, id, region, &planes)?;
        self.encoders.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
        Ok(())
    }

    fn encode(
        &self,
        encoder: &mut ChunkEncoder,
        id: ChunkId,
        region: &Region,
        planes: &[&[u8]],
    ) -> Result<()> {
        let layout = &self.spec().layout;
        let (shard, slot) = layout.shard_of(id);
        let number = shard_number(layout, shard);
        if matches!(*self.files.shard(number), Shard::Written(_)) {
            return Ok(());
        }
        let result = encoder
            .encode(self.spec(), false, planes, region, id)
            .map_err(|message| Error::data(&self.spec().name, message))?;
        let index = layout.chunk_index(id);
        let whole = {
            let mut state = self.files.shard(number);
            let Shard::Open { awaited, chunks, figures, counts } = &mut *state else {
                return Ok(());
            };
            chunks.extend(result.bytes.map(|bytes| Encoded { slot, bytes }));
            figures.push((index, result.figures));
            if !result.labels.is_empty() {
                counts.push((index, result.labels));
            }
            *awaited -= 1;
            (*awaited == 0)
                .then(|| (std::mem::take(chunks), std::mem::take(figures), std::mem::take(counts)))
        };
        let Some((chunks, figures, counts)) = whole else { return Ok(()) };
        let (written, file) = self.files.write(number, chunks, figures, counts)?;
        let files = self.files.clone();
        let flush = move || files.flush(written, file);
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).push(&self.files.folder, flush)
    }

    /// Writes counts and metadata.
    ///
    /// # Errors
    /// [`Error::Usage`] if chunks are missing, [`Error::Io`].
    pub(super) fn finish(self) -> Result<()> {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).finish()?;
        let mut totals = Totals { figures: Figures::NONE, counts: Vec::new(), shard_files: 0 };
        for number in 0..self.files.shards.len() {
            let Shard::Written(written) = &mut *self.files.shard(number) else {
                return Err(Error::usage(format!(
                    "volume {:?} is not finished: chunks are missing",
                    self.spec().name
                )));
            };
            totals.figures.merge(&written.figures);
            totals.counts.append(&mut written.counts);
            totals.shard_files += written.files;
        }
        totals.write(&self.files.folder, self.spec(), None)
    }
}

impl Files {
    /// Writes a whole shard, whose figures and counts came in any order.
    fn write(
        &self,
        number: usize,
        chunks: Vec<Encoded>,
        mut figures: Vec<(u64, Figures)>,
        counts: Counts,
    ) -> Result<(Written, Option<Unflushed>)> {
        let layout = &self.spec.layout;
        // In C order, so that figures do not depend on the order in which chunks came.
        figures.sort_unstable_by_key(|(index, _)| *index);
        let mut merged = Figures::NONE;
        for (_, figures) in &figures {
            merged.merge(figures);
        }
        let file = write_shard(&self.folder, layout, shard_id(layout, number), chunks)?;
        let files = u64::from(file.is_some());
        Ok((Written { shard: number, files, figures: merged, counts }, file))
    }

    /// Waits until the disk has a shard, and notes it.
    fn flush(&self, written: Written, file: Option<Unflushed>) -> Result<()> {
        file.map_or(Ok(()), Unflushed::flush)?;
        if let Some(journal) = &self.journal {
            let mut file = journal.lock().unwrap_or_else(PoisonError::into_inner);
            note(&mut file, &written).map_err(Error::io(&self.folder, "cannot note a shard of"))?;
        }
        let number = written.shard;
        *self.shard(number) = Shard::Written(written);
        Ok(())
    }

    fn shard(&self, number: usize) -> MutexGuard<'_, Shard> {
        self.shards[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The chunks of a shard inside the volume.
fn chunks_of(layout: &ArrayLayout, shard: ShardId) -> [std::ops::Range<usize>; 3] {
    let (each, grid) = (layout.shard_chunks(), layout.chunk_grid());
    [0, 1, 2].map(|a| shard.at[a] * each[a]..((shard.at[a] + 1) * each[a]).min(grid[a]))
}

fn shard_number(layout: &ArrayLayout, shard: ShardId) -> usize {
    let grid: Size3 = layout.shard_grid();
    (0..3).fold(shard.channel, |n, a| n * grid[a] + shard.at[a])
}

fn shard_id(layout: &ArrayLayout, number: usize) -> ShardId {
    let [sz, sy, sx] = layout.shard_grid();
    let at = [number / (sy * sx) % sz, number / sx % sy, number % sx];
    ShardId { channel: number / (sz * sy * sx), at }
}

/// Marks the shards that a journal names as written, and opens it to be continued; a last line that was cut off is dropped.
fn reopen(
    path: &Path,
    shards: &[Mutex<Shard>],
    is_there: impl Fn(&Written) -> bool,
) -> Result<File> {
    let text = fs::read(path).or_else(|e| match e.kind() {
        std::io::ErrorKind::NotFound => Ok(Vec::new()),
        _ => Err(Error::io(path, "cannot read")(e)),
    })?;
    let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
    for line in text[..whole].split(|&b| b == b'\n').filter(|line| !line.is_empty()) {
        let damaged =
            || Error::data(path, "a line of the journal is damaged: begin afresh (resume=False)");
        let written: Written = serde_json::from_slice(line).map_err(|_| damaged())?;
        let slot = shards.get(written.shard).ok_or_else(damaged)?;
        if !is_there(&written) {
            continue;
        }
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Shard::Written(written);
    }
    let file = OpenOptions::new().create(true).append(true).open(path);
    let file = file.map_err(Error::io(path, "cannot open"))?;
    file.set_len(whole as u64).map_err(Error::io(path, "cannot cut"))?;
    Ok(file)
}

fn note(file: &mut File, written: &Written) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(written).map_err(std::io::Error::other)?;
    line.push(b'\n');
    file.write_all(&line)?;
    file.sync_data()
}

impl std::fmt::Debug for TileWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TileWriter").field("spec", self.spec()).finish_non_exhaustive()
    }
}
