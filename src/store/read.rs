//! Reads regions of voxels from an open volume.
//!
//! A read has three steps, each with its own room: `format::grid` turns the regions into chunks, `cache` or `codec` yields
//! each chunk's voxels, `gather` copies the shared ones into the caller's buffer. This module only joins them.
//!
//! # Invariants
//! - A chunk is decoded at most once for all patches of a batch, and only the blocks that they meet.
//! - The boxes that different chunks fill are disjoint.
//! - Nothing is allocated per chunk.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::ahead;
use super::cache::{ChunkKey, Keeper, Lookup, Tally, zeros};
use super::gather::{Canvas, Placement, Plain};
use super::pool::Pool;
use super::shards::{Shard, ShardTable};
use super::volume::Volume;
use crate::codec::{Block, DecodeContext, DecodeError, Frame};
use crate::format::array::{ArrayLayout, ChunkCodec, Compressor};
use crate::format::grid::{ChunkId, ShardId, box_of};
use crate::prefetch::prefetch_second;
use crate::{Region, Result, Size3};

thread_local! {
    static DECODER: RefCell<(DecodeContext, Vec<u8>)> =
        const { RefCell::new((DecodeContext::new(), Vec::new())) };
}

/// Below so many bytes a second thread costs more than it saves: on two cores, 64³ of int16 came 15 % slower, 96³ 20 % faster.
const PARALLEL_BYTES: usize = 1 << 20;

/// Chunks that are planned at a time: bounds the shards that one read holds open.
const WAVE_CHUNKS: usize = 4096;

/// Chunks that a thread takes at a time.
const PART_CHUNKS: usize = 4;

/// Open shards; those without a file are all zero.
type Shards = Vec<Option<Arc<Shard>>>;

/// A chunk, where it lies, and the patches that want it.
struct Job {
    chunk: ChunkId,
    /// Which of the wave's shards.
    shard: usize,
    slot: usize,
    /// Which of the read's (chunk, patch) pairs.
    pairs: Range<usize>,
}

/// A chunk to copy: where it lies, and where its voxels go, which is somewhere.
struct Work<'a> {
    job: &'a Job,
    shard: Option<&'a Shard>,
    places: &'a [Placement],
}

impl Work<'_> {
    /// The blocks of the chunk's frame that are wanted.
    fn blocks(&self, frame: &Frame<'_>, layout: &ArrayLayout) -> Range<usize> {
        let t = layout.dtype.size();
        let spans = self.places.iter().map(|place| place.span(layout.chunk));
        let wanted =
            spans.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).expect("a job has places");
        frame.blocks_covering(wanted.start * t..wanted.end * t)
    }

    /// The bytes of the first block that is wanted, if they are mapped and well.
    fn first_block(&self, layout: &ArrayLayout) -> &[u8] {
        let mapped = self.shard.and_then(|shard| shard.mapped(self.job.slot));
        // What is damaged is complained of when its turn comes.
        mapped
            .and_then(|bytes| frame(bytes, layout).ok())
            .map_or(&[], |frame| frame.encoded(self.blocks(&frame, layout).start))
    }
}

/// How a read is carried out.
pub(super) struct Manner<'a> {
    /// Who keeps decoded chunks.
    pub(super) keeper: &'a dyn Keeper,
    /// Threads that share the work; without them the caller's does it.
    pub(super) pool: Option<&'a Pool>,
}

/// One read: regions of one size, the boxes of the canvas that they fill.
struct Read<'a> {
    volume: &'a Volume,
    keeper: &'a dyn Keeper,
    regions: &'a [Region],
    channels: Range<usize>,
    /// Every (place on the chunk grid, patch) that meet, grouped by the place.
    pairs: Vec<(Size3, usize)>,
    canvas: Canvas<'a>,
}

impl Volume {
    /// Fills `out` with the parts of `regions` that lie inside the volume; what lies outside is left as it is.
    ///
    /// All regions have `size`; `out` holds them one behind the other, each with `channels` channels, in C order.
    pub(super) fn gather(
        &self,
        regions: &[Region],
        size: Size3,
        channels: Range<usize>,
        out: &mut [u8],
        manner: &Manner<'_>,
    ) -> Result<()> {
        let layout = self.layout();
        let shared = self.context().shared();
        let pool = manner.pool.filter(|pool| out.len() >= PARALLEL_BYTES && pool.threads() > 1);
        let mut pairs: Vec<(Size3, usize)> = Vec::new();
        for (patch, region) in regions.iter().enumerate() {
            let inside = region.clip(layout.size);
            if !inside.is_empty() {
                pairs.extend(box_of(layout.chunks_meeting(&inside)).map(|at| (at, patch)));
            }
        }
        if regions.len() > 1 {
            pairs.sort_unstable();
        }
        let canvas = Canvas::new(out, size, layout.dtype.size());
        let keeper = manner.keeper;
        let read = Read { volume: self, keeper, regions, channels, pairs, canvas };
        let mut chunks = read.chunks();
        loop {
            let wave = chunks.by_ref().take(WAVE_CHUNKS);
            let (mut jobs, shards) = plan(self, &shared.shards, wave)?;
            if jobs.is_empty() {
                return Ok(());
            }
            read_ahead(&mut jobs, &shards);
            match pool {
                Some(pool) => {
                    let parts: Vec<&[Job]> = jobs.chunks(PART_CHUNKS).collect();
                    pool.share(parts.len(), || (), |(), part| read.run(parts[part], &shards))?;
                }
                None => read.run(&jobs, &shards)?,
            }
        }
    }

    /// Names of the chunks that meet `region`, all channels.
    pub(crate) fn chunks_meeting(&self, region: &Region) -> impl Iterator<Item = ChunkKey> + '_ {
        let (number, layout) = (self.number(), self.layout());
        self.chunk_ids(region).map(move |id| (number, layout.chunk_index(id)))
    }

    /// Whether decoded chunks of this volume are worth keeping.
    pub(crate) fn is_worth_caching(&self) -> bool {
        is_worth_caching(self.layout().codec)
    }

    /// Begins to bring those chunks that meet `region` into memory of which `wanted` says so; waits for no disk.
    pub(crate) fn read_ahead(
        &self,
        region: &Region,
        wanted: impl Fn(ChunkKey) -> bool,
    ) -> Result<()> {
        let (number, layout) = (self.number(), self.layout());
        let chunks = self.chunk_ids(region);
        let mut chunks = chunks.filter(|&id| wanted((number, layout.chunk_index(id))));
        loop {
            let wave = chunks.by_ref().take(WAVE_CHUNKS).map(|id| (id, 0..0));
            let (mut jobs, shards) = plan(self, &self.context().shared().shards, wave)?;
            if jobs.is_empty() {
                return Ok(());
            }
            read_ahead(&mut jobs, &shards);
        }
    }

    fn chunk_ids(&self, region: &Region) -> impl Iterator<Item = ChunkId> + use<> {
        let layout = self.layout();
        let inside = region.clip(layout.size);
        let places =
            if inside.is_empty() { [const { 0..0 }; 3] } else { layout.chunks_meeting(&inside) };
        (0..layout.channel_count())
            .flat_map(move |channel| box_of(places.clone()).map(move |at| ChunkId { channel, at }))
    }

    /// Decodes one whole chunk for `verify`, and gives its voxels.
    pub(super) fn decode_chunk(&self, shard: &Shard, slot: usize) -> Result<Option<Arc<[u8]>>> {
        let layout = self.layout();
        DECODER.with_borrow_mut(|(decoder, buffer)| {
            let Some(payload) = shard.payload(slot, super::Verify::Always, buffer)? else {
                return Ok(None);
            };
            let decoded = if layout.codec == ChunkCodec::Raw {
                check_raw_length(payload.bytes, layout.chunk_bytes()).map(|()| payload.bytes.into())
            } else {
                frame(payload.bytes, layout)
                    .and_then(|frame| decode_whole(&frame, zeros(layout.chunk_bytes()), decoder))
            };
            decoded.map(Some).map_err(|error| shard.decode_error(slot, payload.offset, error))
        })
    }
}

impl Read<'_> {
    /// The chunks that are wanted, each with its pairs.
    fn chunks(&self) -> impl Iterator<Item = (ChunkId, Range<usize>)> + '_ {
        self.channels.clone().flat_map(|channel| {
            let mut begin = 0;
            self.pairs.chunk_by(|a, b| a.0 == b.0).map(move |group| {
                let pairs = begin..begin + group.len();
                begin = pairs.end;
                (ChunkId { channel, at: group[0].0 }, pairs)
            })
        })
    }

    /// Copies some chunks to all places that want them.
    fn run(&self, jobs: &[Job], shards: &[Option<Arc<Shard>>]) -> Result<()> {
        DECODER.with_borrow_mut(|(decoder, buffer)| {
            let mut tally = Tally::default();
            let (mut places, mut next_places) = (Vec::new(), Vec::new());
            if let Some(first) = jobs.first() {
                self.places(first, &mut places);
            }
            for (i, job) in jobs.iter().enumerate() {
                let next = jobs.get(i + 1).map(|next| {
                    self.places(next, &mut next_places);
                    Work { job: next, shard: shards[next.shard].as_deref(), places: &next_places }
                });
                let work = Work { job, shard: shards[job.shard].as_deref(), places: &places };
                self.fill(&work, next.as_ref(), decoder, buffer, &mut tally)?;
                std::mem::swap(&mut places, &mut next_places);
            }
            self.keeper.note(&tally);
            Ok(())
        })
    }

    /// Lists where a chunk's voxels go.
    fn places(&self, job: &Job, places: &mut Vec<Placement>) {
        let covers = self.volume.layout().chunk_region(job.chunk.at);
        let pairs = self.pairs[job.pairs.clone()].iter();
        places.clear();
        places.extend(pairs.filter_map(|&(_, patch)| {
            let box_number = patch * self.channels.len() + job.chunk.channel;
            let plane = box_number - self.channels.start;
            Placement::new(&covers, &self.regions[patch], plane)
        }));
    }

    /// Copies one chunk to all places that want it.
    fn fill(
        &self,
        work: &Work<'_>,
        next: Option<&Work<'_>>,
        decoder: &mut DecodeContext,
        buffer: &mut Vec<u8>,
        tally: &mut Tally,
    ) -> Result<()> {
        let Work { job, shard, places } = *work;
        if let Some(Work { job, shard: Some(shard), .. }) = next {
            shard.prefetch(job.slot);
        }
        let (layout, context) = (self.volume.layout(), self.volume.context());
        let t = layout.dtype.size();
        let whole = 0..layout.chunk.iter().product::<usize>();
        // SAFETY: places of one chunk belong to different patches or channels, those of different chunks are disjoint boxes
        // of a patch, and each chunk is filled by one thread: `tests/read.rs` watches it.
        let scatter_block =
            |have: &Range<usize>, block: &mut Block<'_>, place: &Placement, coming: &[u8]| unsafe {
                self.canvas.scatter(place, layout.chunk, have, block, coming);
            };
        let scatter = |have: &Range<usize>, bytes: &[u8]| {
            for place in places {
                let mut plain = Plain { bytes, voxel_bytes: t };
                // SAFETY: as for blocks.
                unsafe { self.canvas.scatter(place, layout.chunk, have, &mut plain, &[]) };
            }
        };
        let key = (self.volume.number(), layout.chunk_index(job.chunk));
        let admit = if is_worth_caching(layout.codec) {
            match self.keeper.lookup(key, layout.chunk_bytes()) {
                Lookup::Hit(voxels) => {
                    tally.hits += 1;
                    scatter(&whole, &voxels);
                    return Ok(());
                }
                Lookup::Admit => true,
                Lookup::Pass => false,
            }
        } else {
            false
        };
        let payload = match shard {
            Some(shard) => shard.payload(job.slot, context.verify, buffer)?,
            None => None,
        };
        let (Some(shard), Some(payload)) = (shard, payload) else {
            for place in places {
                // SAFETY: as for scatter.
                unsafe { self.canvas.clear(place) };
            }
            return Ok(());
        };
        tally.decoded += 1;
        tally.encoded_bytes += payload.bytes.len() as u64;
        let mut decode = || -> Result<(), DecodeError> {
            if layout.codec == ChunkCodec::Raw {
                // Copied from where it lies: a copy of it would only cost memory.
                check_raw_length(payload.bytes, layout.chunk_bytes())?;
                scatter(&whole, payload.bytes);
                return Ok(());
            }
            let frame = frame(payload.bytes, layout)?;
            if admit {
                let buffer = self.keeper.buffer(layout.chunk_bytes());
                let voxels = decode_whole(&frame, buffer, decoder)?;
                scatter(&whole, &voxels);
                self.keeper.insert(key, voxels);
                return Ok(());
            }
            let blocks = work.blocks(&frame, layout);
            for i in blocks.clone() {
                let bytes = frame.block_range(i);
                let coming = if i + 1 < blocks.end {
                    frame.encoded(i + 1)
                } else {
                    next.map_or(&[][..], |next| next.first_block(layout))
                };
                let (have, mut block) = (bytes.start / t..bytes.end / t, frame.block(i, decoder)?);
                if let [place] = places {
                    scatter_block(&have, &mut block, place, coming);
                } else {
                    prefetch_second(coming);
                    scatter(&have, block.whole());
                }
            }
            Ok(())
        };
        decode().map_err(|error| shard.decode_error(job.slot, payload.offset, error))
    }
}

/// Finds the shards of some chunks, each once.
fn plan(
    volume: &Volume,
    table: &ShardTable,
    chunks: impl Iterator<Item = (ChunkId, Range<usize>)>,
) -> Result<(Vec<Job>, Shards)> {
    let layout = volume.layout();
    let mut shards = Shards::new();
    let mut numbers: HashMap<ShardId, usize> = HashMap::new();
    let mut last: Option<(ShardId, usize)> = None;
    let mut jobs = Vec::new();
    for (chunk, pairs) in chunks {
        let (id, slot) = layout.shard_of(chunk);
        let known = last.filter(|last| last.0 == id).map(|last| last.1);
        let shard = if let Some(number) = known.or_else(|| numbers.get(&id).copied()) {
            number
        } else {
            shards.push(table.get(volume.number(), volume.level(), layout, id)?);
            numbers.insert(id, shards.len() - 1);
            shards.len() - 1
        };
        last = Some((id, shard));
        jobs.push(Job { chunk, shard, slot, pairs });
    }
    Ok((jobs, shards))
}

/// Begins to read the chunks of some jobs that are not in memory, and puts the jobs into the order in which they come.
///
/// Who waits for a chunk that comes late has all the decoding before him when the last one is there.
fn read_ahead(jobs: &mut [Job], shards: &Shards) {
    let chunks: Vec<_> =
        jobs.iter().filter_map(|job| Some((shards[job.shard].as_deref()?, job.slot))).collect();
    if ahead::read_ahead(&chunks) {
        jobs.sort_unstable_by_key(|job| ahead::place(shards[job.shard].as_deref()?, job.slot));
    }
}

/// Whether decoding again costs more than a copy of decoded voxels out of the cache.
///
/// LZ4 and the joining of planes run at the speed of memory: a hit would save nothing, and cost room.
fn is_worth_caching(codec: ChunkCodec) -> bool {
    matches!(codec, ChunkCodec::Blosc(parameters) if parameters.compressor == Compressor::Zstd)
}

fn frame<'a>(bytes: &'a [u8], layout: &ArrayLayout) -> Result<Frame<'a>, DecodeError> {
    Frame::parse(bytes, layout.chunk_bytes(), layout.dtype.size())
}

fn check_raw_length(bytes: &[u8], expected: usize) -> Result<(), DecodeError> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(DecodeError::RawLength { found: bytes.len(), expected })
    }
}

/// All of a frame's elements, in `voxels`, which has their length and no other owner.
fn decode_whole(
    frame: &Frame<'_>,
    mut voxels: Arc<[u8]>,
    decoder: &mut DecodeContext,
) -> Result<Arc<[u8]>, DecodeError> {
    let out = Arc::get_mut(&mut voxels).expect("nobody else has it yet");
    for i in 0..frame.blocks() {
        out[frame.block_range(i)].copy_from_slice(frame.block(i, decoder)?.whole());
    }
    Ok(voxels)
}
