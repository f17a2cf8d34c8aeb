//! Reads regions of voxels from an open volume.
//!
//! A read has three steps, each with its own room: `format::grid` turns the region into chunk ids, `cache` or `codec`
//! yields each chunk's voxels, `gather` copies the shared ones into the caller's buffer. This module only joins them.
//!
//! # Invariants
//! - A chunk is decoded at most once for all patches of a batch, and only the blocks that they meet.
//! - The boxes that different chunks fill are disjoint.
#![allow(unsafe_code)]

use std::cell::RefCell;
use std::ops::Range;
use std::sync::Arc;

use rayon::prelude::*;

use super::cache::Lookup;
use super::gather::{Canvas, Placement};
use super::shards::Shard;
use super::volume::Volume;
use crate::codec::Scratch;
use crate::codec::frame::{Block, Frame};
use crate::format::array::ChunkCodec;
use crate::format::grid::{ChunkId, box_of};
use crate::{Region, Result, Size3};

thread_local! {
    static SCRATCH: RefCell<(Scratch, Vec<u8>)> = const { RefCell::new((Scratch::new(), Vec::new())) };
}

/// Below so many bytes a second thread costs more than it saves.
const PARALLEL_BYTES: usize = 256 << 10;

/// A chunk and the patches that want it.
struct Job {
    chunk: ChunkId,
    patches: Range<usize>,
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
    ) -> Result<()> {
        let layout = self.layout();
        let parallel = out.len() >= PARALLEL_BYTES && self.context().pool.threads() > 1;
        let canvas = Canvas::new(out, size, layout.dtype.size());
        // Every (chunk, patch) pair, then grouped by chunk: one patch needs no sort.
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
        let mut jobs = Vec::new();
        for channel in channels.clone() {
            let mut begin = 0;
            for group in pairs.chunk_by(|a, b| a.0 == b.0) {
                let patches = begin..begin + group.len();
                begin = patches.end;
                jobs.push(Job { chunk: ChunkId { channel, at: group[0].0 }, patches });
            }
        }
        let run = |job: &Job| {
            let covers = layout.chunk_region(job.chunk.at);
            let mut places = pairs[job.patches.clone()].iter().filter_map(|&(_, patch)| {
                let plane = patch * channels.len() + job.chunk.channel - channels.start;
                Placement::new(&covers, &regions[patch], plane)
            });
            match (places.next(), places.next()) {
                (Some(place), None) => self.fill(job.chunk, &[place], &canvas),
                (first, second) => {
                    let all: Vec<Placement> =
                        first.into_iter().chain(second).chain(places).collect();
                    self.fill(job.chunk, &all, &canvas)
                }
            }
        };
        if parallel && jobs.len() > 1 {
            self.context().pool.get()?.install(|| jobs.par_iter().try_for_each(run))
        } else {
            jobs.iter().try_for_each(run)
        }
    }

    /// Copies one chunk to all places that want it.
    fn fill(&self, id: ChunkId, places: &[Placement], canvas: &Canvas<'_>) -> Result<()> {
        let (layout, context) = (self.layout(), self.context());
        let chunk_voxels = 0..layout.chunk.iter().product::<usize>();
        let key = (self.number(), layout.chunk_index(id));
        let scatter = |have: Range<usize>, block: &Block<'_>| {
            for place in places {
                // SAFETY: places of one chunk belong to different patches or channels, those of different chunks are
                // disjoint boxes of a patch, and each chunk is filled by one thread: `tests/read.rs` watches it.
                unsafe { canvas.scatter(place, layout.chunk, have.clone(), block) };
            }
        };
        // Raw chunks are copied from the map: a decoded copy would only cost memory.
        let compressed = layout.codec != ChunkCodec::Raw;
        let lookup =
            if compressed { context.cache.lookup(key, layout.chunk_bytes()) } else { Lookup::Pass };
        if let Lookup::Hit(voxels) = &lookup {
            scatter(chunk_voxels, &Block::Plain(voxels));
            return Ok(());
        }
        let (shard_id, slot) = layout.shard_of(id);
        let shard = context.shards.get(self.number(), self.level(), layout, shard_id)?;
        SCRATCH.with_borrow_mut(|(scratch, buffer)| {
            let payload = shard
                .as_ref()
                .map(|s| s.payload(slot, context.verify, buffer))
                .transpose()?
                .flatten();
            let (Some(shard), Some(payload)) = (&shard, payload) else {
                for place in places {
                    // SAFETY: as for scatter.
                    unsafe { canvas.clear(place, layout.chunk) };
                }
                return Ok(());
            };
            let decode = || -> Result<(), String> {
                if !compressed {
                    check_raw_length(payload.bytes, layout.chunk_bytes())?;
                    scatter(chunk_voxels, &Block::Plain(payload.bytes));
                    return Ok(());
                }
                let frame = Frame::parse(payload.bytes, layout.chunk_bytes(), layout.dtype.size())?;
                if matches!(lookup, Lookup::Admit) {
                    let voxels =
                        decode_whole(&frame, scratch, layout.chunk_bytes(), layout.dtype.size())?;
                    scatter(chunk_voxels, &Block::Plain(&voxels));
                    context.cache.insert(key, voxels);
                    return Ok(());
                }
                let t = layout.dtype.size();
                let spans = places.iter().map(|p| p.span(layout.chunk));
                let wanted = spans
                    .reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
                    .expect("a job has places");
                for i in frame.blocks_covering(wanted.start * t..wanted.end * t) {
                    let bytes = frame.block_range(i);
                    scatter(bytes.start / t..bytes.end / t, &frame.block(i, scratch)?);
                }
                Ok(())
            };
            decode().map_err(|message| shard.decode_error(slot, payload.offset, message))
        })
    }

    /// Decodes one whole chunk for `verify`, and gives its voxels.
    pub(super) fn decode_chunk(&self, shard: &Shard, slot: usize) -> Result<Option<Arc<[u8]>>> {
        let layout = self.layout();
        SCRATCH.with_borrow_mut(|(scratch, buffer)| {
            let Some(payload) = shard.payload(slot, super::Verify::Always, buffer)? else {
                return Ok(None);
            };
            let decoded = if layout.codec == ChunkCodec::Raw {
                check_raw_length(payload.bytes, layout.chunk_bytes()).map(|()| payload.bytes.into())
            } else {
                Frame::parse(payload.bytes, layout.chunk_bytes(), layout.dtype.size()).and_then(
                    |frame| {
                        decode_whole(&frame, scratch, layout.chunk_bytes(), layout.dtype.size())
                    },
                )
            };
            decoded.map(Some).map_err(|message| shard.decode_error(slot, payload.offset, message))
        })
    }
}

fn check_raw_length(bytes: &[u8], expected: usize) -> Result<(), String> {
    if bytes.len() == expected {
        Ok(())
    } else {
        Err(format!("{} bytes, expected {expected}", bytes.len()))
    }
}

/// All of a frame's elements, in a buffer that the cache may keep.
fn decode_whole(
    frame: &Frame<'_>,
    scratch: &mut Scratch,
    chunk_bytes: usize,
    t: usize,
) -> Result<Arc<[u8]>, String> {
    let mut voxels: Arc<[u8]> = std::iter::repeat_n(0, chunk_bytes).collect();
    let out = Arc::get_mut(&mut voxels).expect("nobody else has it yet");
    for i in 0..frame.blocks() {
        let out = &mut out[frame.block_range(i)];
        match frame.block(i, scratch)? {
            Block::Plain(bytes) => out.copy_from_slice(bytes),
            Block::Planes(planes) => {
                debug_assert_eq!(planes.as_slice().len(), t);
                super::gather::interleave(&planes, 0, out);
            }
        }
    }
    Ok(voxels)
}
