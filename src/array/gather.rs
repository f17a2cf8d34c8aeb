//! Reads the parts of regions that lie inside of an array.
//!
//! # Invariants
//! - A chunk is decoded at most once for all patches of a batch, and only the blocks that they
//!   meet.
//! - The boxes that different chunks fill are disjoint.
//! - Nothing is allocated per chunk.
#![allow(unsafe_code)]

use std::ops::Range;

use super::cache::{CacheLookup, ChunkCache, ReadStats};
use super::channels::Channels;
use super::decode::{
    check_raw_length, check_room, decode_whole, is_worth_caching, parse_frame, with_buffers,
};
use super::foreign::ForeignChunks;
use super::handle::ArrayHandle;
use super::plan::{PlannedChunk, WaveShards, plan_wave};
use super::readahead::{open_remote_shards, read_wave_ahead};
use super::scatter::{ChunkPlacement, ContiguousVoxels, OutputView};
use super::shards::OpenShard;
use crate::codec::{Block, DecodeContext, DecodeError, Frame};
use crate::format::array::{ArrayLayout, ChunkCodec};
use crate::format::grid::{ChunkId, iter_box};
use crate::memory::{collected, reserve};
use crate::sys::executor::Executor;
use crate::sys::prefetch::prefetch_second;
use crate::{Region, Result, Size3};

/// Smaller reads stay on one thread: on two cores, 64³ of int16 came 15 % slower with two threads,
/// 96³ came 20 % faster.
const PARALLEL_BYTES: usize = 1 << 20;

/// Chunks between two looks at the length of their shard, each of which takes as long as decoding
/// two kilobytes.
const CHECKED_CHUNKS: usize = 16;

/// Chunks that a thread takes at a time.
const PART_CHUNKS: usize = 4;

/// The cache and the threads of a read.
#[derive(Clone, Copy)]
pub(crate) struct ReadContext<'a> {
    pub(crate) cache: &'a dyn ChunkCache,
    /// Threads that share the work; if `None`, the caller's thread does all of it.
    pub(crate) executor: Option<&'a Executor>,
}

/// A chunk to decode and its destinations, of which there is at least one.
struct ChunkTask<'a> {
    planned: &'a PlannedChunk,
    shard: Option<&'a OpenShard>,
    placements: &'a [ChunkPlacement],
}

impl ChunkTask<'_> {
    /// The blocks of the chunk's frame that are wanted.
    fn blocks(&self, frame: &Frame<'_>, layout: &ArrayLayout) -> Range<usize> {
        let t = layout.dtype.size();
        let spans = self.placements.iter().map(|placement| placement.span(layout.chunk));
        let wanted = spans
            .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
            .expect("a task has placements");
        frame.blocks_covering(wanted.start * t..wanted.end * t)
    }

    /// The encoded bytes of the first wanted block, if they are mapped and intact.
    fn first_block(&self, layout: &ArrayLayout) -> &[u8] {
        let mapped = self.shard.and_then(|shard| shard.mapped(self.planned.slot));
        // A damaged chunk is reported when it is decoded.
        mapped
            .and_then(|bytes| parse_frame(bytes, layout).ok())
            .map_or(&[], |frame| frame.encoded(self.blocks(&frame, layout).start))
    }
}

/// One read: regions of one size, and the boxes of the output that they fill.
struct GatherRead<'a> {
    array: &'a ArrayHandle,
    cache: &'a dyn ChunkCache,
    regions: &'a [Region],
    channels: &'a Channels,
    /// Every (cell of the chunk grid, patch) that meet, grouped by the cell.
    pairs: Vec<(Size3, usize)>,
    output: OutputView<'a>,
}

/// Fills `out` with the parts of `regions` inside of the array; the rest of `out` stays as it is.
///
/// All regions have `size`. `out` holds one patch after the other, each `(channels, z, y, x)` in C
/// order.
pub(super) fn gather(
    array: &ArrayHandle,
    regions: &[Region],
    size: Size3,
    channels: &Channels,
    out: &mut [u8],
    context: ReadContext<'_>,
) -> Result<()> {
    let layout = array.layout();
    let mut pairs: Vec<(Size3, usize)> = Vec::new();
    for (patch, region) in regions.iter().enumerate() {
        let inside = region.clip(layout.size);
        if !inside.is_empty() {
            let cells = layout.chunks_meeting(&inside);
            let count = cells.iter().map(ExactSizeIterator::len).product();
            reserve(&mut pairs, count, || format!("a list of {count} chunks"))?;
            pairs.extend(iter_box(cells).map(|at| (at, patch)));
        }
    }
    if regions.len() > 1 {
        pairs.sort_unstable();
    }
    let output = OutputView::new(out, size, layout.dtype.size());
    let read = GatherRead { array, cache: context.cache, regions, channels, pairs, output };
    read.finish(context.executor)
}

/// Fills `out`, the box `region` of one channel, with the voxels of the chunks at `cells`, which
/// meet it; the rest of `out` stays as it is.
pub(crate) fn gather_cells(
    array: &ArrayHandle,
    region: Region,
    cells: &[Size3],
    channel: usize,
    out: &mut [u8],
    context: ReadContext<'_>,
) -> Result<()> {
    let what = || format!("a list of {} chunks", cells.len());
    let pairs = collected(cells.iter().map(|&at| (at, 0)), cells.len() as u64, what)?;
    let output = OutputView::new(out, region.size, array.layout().dtype.size());
    let (regions, channels) = (&[region][..], &Channels::from(channel..channel + 1));
    let read = GatherRead { array, cache: context.cache, regions, channels, pairs, output };
    read.finish(context.executor)
}

impl GatherRead<'_> {
    /// Fills the output, on several threads if they pay.
    fn finish(&self, executor: Option<&Executor>) -> Result<()> {
        if let Some(foreign) = self.array.foreign() {
            return self.finish_foreign(foreign, executor);
        }
        let executor = executor
            .filter(|executor| self.output.len() >= PARALLEL_BYTES && executor.threads() > 1);
        open_remote_shards(self.array, self.chunks().map(|(chunk, _)| chunk))?;
        let mut chunks = self.chunks().peekable();
        loop {
            let (mut planned, shards) = plan_wave(self.array, &mut chunks)?;
            if planned.is_empty() {
                return Ok(());
            }
            read_wave_ahead(&mut planned, &shards);
            match executor {
                Some(executor) => {
                    let parts: Vec<&[PlannedChunk]> = planned.chunks(PART_CHUNKS).collect();
                    executor.share(
                        parts.len(),
                        || (),
                        |(), part| self.run(parts[part], &shards),
                    )?;
                }
                None => self.run(&planned, &shards)?,
            }
        }
    }

    /// As [`finish`](Self::finish), of an array whose chunks are in no shards.
    fn finish_foreign(&self, foreign: &ForeignChunks, executor: Option<&Executor>) -> Result<()> {
        let channels: Vec<usize> = self.channels.ascending().collect();
        let first = |channel: &usize| channel / foreign.together();
        let groups = channels.chunk_by(|a, b| first(a) == first(b));
        let mut parts: Vec<(&[usize], Range<usize>)> = Vec::new();
        for group in groups {
            reserve(&mut parts, self.pairs.len(), || "a list of chunks".to_owned())?;
            let mut begin = 0;
            for cell in self.pairs.chunk_by(|a, b| a.0 == b.0) {
                parts.push((group, begin..begin + cell.len()));
                begin += cell.len();
            }
        }
        let fill = |placements: &mut Vec<ChunkPlacement>, part: usize| {
            let (channels, pairs) = &parts[part];
            self.fill_foreign(foreign, channels, pairs, placements)
        };
        // Decoding takes the time here, not the output.
        let decoded = parts.len().saturating_mul(foreign.chunk_bytes());
        let executor = executor.filter(|one| one.threads() > 1 && decoded >= PARALLEL_BYTES);
        if let Some(executor) = executor {
            return executor.share(parts.len(), Vec::new, fill);
        }
        let mut placements = Vec::new();
        (0..parts.len()).try_for_each(|part| fill(&mut placements, part))
    }

    /// Copies some channels of one foreign chunk to all destinations of `pairs`.
    fn fill_foreign(
        &self,
        foreign: &ForeignChunks,
        channels: &[usize],
        pairs: &Range<usize>,
        placements: &mut Vec<ChunkPlacement>,
    ) -> Result<()> {
        let (at, mut stats) = (self.pairs[pairs.start].0, ReadStats::default());
        let stored = self.array.stored_chunk(ChunkId { channel: channels[0], at });
        let key = self.array.chunk_key(stored);
        let voxels = foreign.voxels(stored, key, self.cache, &mut stats)?;
        let bytes = self.array.layout().chunk_bytes();
        for &channel in channels {
            self.place(ChunkId { channel, at }, pairs, placements);
            let Some(voxels) = &voxels else {
                for placement in placements.iter() {
                    // SAFETY: as for `scatter_block`.
                    unsafe { self.output.fill(placement, foreign.fill_value()) };
                }
                continue;
            };
            self.scatter_whole(placements, &voxels[(channel - stored.channel) * bytes..][..bytes]);
        }
        self.cache.record(&stats);
        Ok(())
    }

    /// The wanted chunks, each with its range of pairs.
    fn chunks(&self) -> impl Iterator<Item = (ChunkId, Range<usize>)> + '_ {
        self.channels.ascending().flat_map(|channel| {
            let mut begin = 0;
            self.pairs.chunk_by(|a, b| a.0 == b.0).map(move |group| {
                let pairs = begin..begin + group.len();
                begin = pairs.end;
                (ChunkId { channel, at: group[0].0 }, pairs)
            })
        })
    }

    /// Copies some chunks to all their destinations.
    fn run(&self, planned: &[PlannedChunk], shards: &WaveShards) -> Result<()> {
        with_buffers(|decoder, encoded| {
            let mut stats = ReadStats::default();
            let (mut placements, mut next_placements) = (Vec::new(), Vec::new());
            if let Some(first) = planned.first() {
                self.place(first.chunk, &first.pairs, &mut placements);
            }
            let mut checked = None;
            for (i, chunk) in planned.iter().enumerate() {
                // A file that is cut between this look and the next ends the process: SECURITY.md.
                if checked != Some(chunk.shard) || i % CHECKED_CHUNKS == 0 {
                    shards[chunk.shard].as_ref().map_or(Ok(()), |s| s.file().check_length())?;
                    checked = Some(chunk.shard);
                }
                let next = planned.get(i + 1).map(|next| {
                    self.place(next.chunk, &next.pairs, &mut next_placements);
                    let shard = shards[next.shard].as_deref();
                    ChunkTask { planned: next, shard, placements: &next_placements }
                });
                let shard = shards[chunk.shard].as_deref();
                let task = ChunkTask { planned: chunk, shard, placements: &placements };
                self.fill(&task, next.as_ref(), decoder, encoded, &mut stats)?;
                std::mem::swap(&mut placements, &mut next_placements);
            }
            self.cache.record(&stats);
            Ok(())
        })
    }

    /// Lists the destinations of a chunk's voxels.
    fn place(&self, chunk: ChunkId, pairs: &Range<usize>, placements: &mut Vec<ChunkPlacement>) {
        let covers = self.array.layout().chunk_region(chunk.at);
        let place = self.channels.place(chunk.channel);
        let pairs = self.pairs[pairs.clone()].iter();
        placements.clear();
        placements.extend(pairs.filter_map(|&(_, patch)| {
            let box_index = patch * self.channels.len() + place;
            ChunkPlacement::new(&covers, &self.regions[patch], box_index)
        }));
    }

    /// Copies one chunk to all its destinations.
    fn fill(
        &self,
        task: &ChunkTask<'_>,
        next: Option<&ChunkTask<'_>>,
        decoder: &mut DecodeContext,
        encoded: &mut Vec<u8>,
        stats: &mut ReadStats,
    ) -> Result<()> {
        if let Some(ChunkTask { planned, shard: Some(shard), .. }) = next {
            shard.prefetch(planned.slot);
        }
        let layout = self.array.layout();
        let admit = if is_worth_caching(layout.codec) {
            let key = self.array.chunk_key(task.planned.chunk);
            match self.cache.lookup(key, layout.chunk_bytes()) {
                CacheLookup::Hit(voxels) => {
                    stats.hits += 1;
                    self.scatter_whole(task.placements, &voxels);
                    return Ok(());
                }
                CacheLookup::Admit => true,
                CacheLookup::Pass => false,
            }
        } else {
            false
        };
        let payload = match task.shard {
            Some(shard) => shard.payload(task.planned.slot, self.array.verify(), encoded)?,
            None => None,
        };
        let (Some(shard), Some(payload)) = (task.shard, payload) else {
            for placement in task.placements {
                // SAFETY: as for `scatter_whole`.
                unsafe { self.output.clear(placement) };
            }
            return Ok(());
        };
        stats.decoded += 1;
        stats.encoded_bytes += payload.bytes.len() as u64;
        self.decode(task, next, payload.bytes, admit, decoder)
            .map_err(|error| shard.decode_error(task.planned.slot, payload.offset, error))
    }

    /// Decodes the chunk of `task` from `bytes` into its destinations, by way of the cache if it is
    /// admitted there.
    fn decode(
        &self,
        task: &ChunkTask<'_>,
        next: Option<&ChunkTask<'_>>,
        bytes: &[u8],
        admit: bool,
        decoder: &mut DecodeContext,
    ) -> Result<(), DecodeError> {
        let layout = self.array.layout();
        if layout.codec == ChunkCodec::Raw {
            // Copied from the map itself: a copy in between would only cost memory.
            check_raw_length(bytes, layout.chunk_bytes())?;
            self.scatter_whole(task.placements, bytes);
            return Ok(());
        }
        let frame = parse_frame(bytes, layout)?;
        if admit {
            check_room(layout.chunk_bytes())?;
            let buffer = self.cache.buffer(layout.chunk_bytes());
            let voxels = decode_whole(&frame, buffer, decoder)?;
            self.scatter_whole(task.placements, &voxels);
            self.cache.insert(self.array.chunk_key(task.planned.chunk), voxels);
            return Ok(());
        }
        let t = layout.dtype.size();
        let blocks = task.blocks(&frame, layout);
        for i in blocks.clone() {
            let bytes = frame.block_range(i);
            let upcoming = if i + 1 < blocks.end {
                frame.encoded(i + 1)
            } else {
                next.map_or(&[][..], |next| next.first_block(layout))
            };
            let (have, mut block) = (bytes.start / t..bytes.end / t, frame.block(i, decoder)?);
            if let [placement] = task.placements {
                self.scatter_block(placement, &have, &mut block, upcoming);
            } else {
                prefetch_second(upcoming);
                self.scatter_voxels(task.placements, &have, block.whole());
            }
        }
        Ok(())
    }

    #[inline]
    fn scatter_block(
        &self,
        placement: &ChunkPlacement,
        have: &Range<usize>,
        block: &mut Block<'_>,
        upcoming: &[u8],
    ) {
        // SAFETY: placements of one chunk belong to different patches or channels, those of
        // different chunks are disjoint boxes of a patch, and one thread fills each chunk:
        // `tests/read.rs` watches it.
        unsafe {
            self.output.scatter(placement, self.array.layout().chunk, have, block, upcoming);
        }
    }

    /// Copies all voxels of a chunk to its destinations.
    fn scatter_whole(&self, placements: &[ChunkPlacement], bytes: &[u8]) {
        let voxels = self.array.layout().chunk.iter().product();
        self.scatter_voxels(placements, &(0..voxels), bytes);
    }

    /// Copies the voxels `have` of a chunk, whose bytes are given, to its destinations.
    #[inline]
    fn scatter_voxels(&self, placements: &[ChunkPlacement], have: &Range<usize>, bytes: &[u8]) {
        let layout = self.array.layout();
        for placement in placements {
            let mut voxels = ContiguousVoxels { bytes, voxel_bytes: layout.dtype.size() };
            // SAFETY: as for `scatter_block`.
            unsafe { self.output.scatter(placement, layout.chunk, have, &mut voxels, &[]) };
        }
    }
}
