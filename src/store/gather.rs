//! Copies voxels of a decoded block or chunk into the caller's patches.
//!
//! This is the inner loop of every read: byte planes are interleaved row by row straight into the destination.
//!
//! # Invariants
//! - Every write is checked to lie inside the canvas; who writes to boxes at the same time keeps them disjoint.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;

use crate::codec::frame::{Block, Planes};
use crate::{Region, Size3};

/// The caller's buffer: patches of one size, each `(c, z, y, x)` in C order, one behind the other.
pub(crate) struct Canvas<'a> {
    base: *mut u8,
    bytes: usize,
    size: Size3,
    voxel_bytes: usize,
    buffer: PhantomData<&'a mut [u8]>,
}

// SAFETY: the canvas is a `&mut [u8]` that threads share to write disjoint boxes of it; see `Canvas::row`.
unsafe impl Sync for Canvas<'_> {}

/// Where a chunk's voxels go: the wanted box in the chunk's own coordinates, and the first voxel it goes to.
#[derive(Clone, Debug)]
pub(crate) struct Placement {
    /// Wanted voxels of the chunk, `(z, y, x)`.
    pub(crate) wanted: [Range<usize>; 3],
    /// Which `(z, y, x)` box of the canvas, counting patches and channels.
    pub(crate) plane: usize,
    /// Where in that box the first wanted voxel goes.
    pub(crate) to: Size3,
}

impl Placement {
    /// Places the part of a chunk that covers `chunk` into box number `plane`, which shows `region`; `None` if they do not meet.
    pub(crate) fn new(chunk: &Region, region: &Region, plane: usize) -> Option<Self> {
        let mut wanted = [const { 0..0 }; 3];
        let mut to = [0; 3];
        for a in 0..3 {
            let (start, end) =
                (chunk.start[a].max(region.start[a]), chunk.end(a).min(region.end(a)));
            if start >= end {
                return None;
            }
            wanted[a] = (start - chunk.start[a]) as usize..(end - chunk.start[a]) as usize;
            to[a] = (start - region.start[a]) as usize;
        }
        Some(Self { wanted, plane, to })
    }

    /// The chunk's voxels from the first wanted to the last, counted in C order.
    pub(crate) fn span(&self, chunk: Size3) -> Range<usize> {
        let at = |z: usize, y: usize, x: usize| (z * chunk[1] + y) * chunk[2] + x;
        let [z, y, x] = &self.wanted;
        at(z.start, y.start, x.start)..at(z.end - 1, y.end - 1, x.end - 1) + 1
    }
}

impl<'a> Canvas<'a> {
    /// A canvas over `buffer`, whose boxes have `size` voxels of `voxel_bytes` bytes.
    pub(crate) fn new(buffer: &'a mut [u8], size: Size3, voxel_bytes: usize) -> Self {
        Self {
            base: buffer.as_mut_ptr(),
            bytes: buffer.len(),
            size,
            voxel_bytes,
            buffer: PhantomData,
        }
    }

    /// Bytes of `voxels` voxels of box `plane` from `at` on.
    ///
    /// # Safety
    /// No other thread may use those voxels at the same time.
    #[allow(clippy::mut_from_ref)]
    unsafe fn row(&self, plane: usize, at: Size3, voxels: usize) -> &mut [u8] {
        let [_, ny, nx] = self.size;
        let first = (plane * self.size[0] + at[0]) * ny * nx + at[1] * nx + at[2];
        let (begin, length) = (first * self.voxel_bytes, voxels * self.voxel_bytes);
        assert!(at[2] + voxels <= nx && begin + length <= self.bytes, "a row leaves the canvas");
        // SAFETY: the range was just checked to lie in the buffer; the caller keeps others off it.
        unsafe { std::slice::from_raw_parts_mut(self.base.add(begin), length) }
    }

    /// Calls `copy(from, row)` for each wanted row of the voxels `have` of a chunk, `from` counted in `have`.
    ///
    /// # Safety
    /// As [`Canvas::row`], for the whole placement.
    unsafe fn rows(
        &self,
        place: &Placement,
        chunk: Size3,
        have: Range<usize>,
        mut copy: impl FnMut(usize, &mut [u8]),
    ) {
        let plane_voxels = chunk[1] * chunk[2];
        let [z, y, x] = &place.wanted;
        let slab =
            z.start.max(have.start / plane_voxels)..z.end.min(have.end.div_ceil(plane_voxels));
        for cz in slab {
            for cy in y.clone() {
                let row = (cz * chunk[1] + cy) * chunk[2];
                // Blocks of our own writers hold whole rows; of others, perhaps parts.
                let start = (row + x.start).max(have.start);
                let end = (row + x.end).min(have.end);
                if start >= end {
                    continue;
                }
                let at = [
                    place.to[0] + cz - z.start,
                    place.to[1] + cy - y.start,
                    place.to[2] + start - row - x.start,
                ];
                // SAFETY: passed on to our caller.
                copy(start - have.start, unsafe { self.row(place.plane, at, end - start) });
            }
        }
    }

    /// Copies what `place` wants of `block`, which holds the voxels `have` of a chunk.
    ///
    /// # Safety
    /// No other thread may use the placement's voxels of the canvas at the same time.
    pub(crate) unsafe fn scatter(
        &self,
        place: &Placement,
        chunk: Size3,
        have: Range<usize>,
        block: &Block<'_>,
    ) {
        let t = self.voxel_bytes;
        // SAFETY: passed on to our caller.
        unsafe {
            match block {
                Block::Plain(bytes) => self.rows(place, chunk, have, |from, row| {
                    row.copy_from_slice(&bytes[from * t..][..row.len()]);
                }),
                Block::Planes(planes) => {
                    self.rows(place, chunk, have, |from, row| interleave(planes, from, row))
                }
            }
        }
    }

    /// Fills the placement with zeros.
    ///
    /// # Safety
    /// As [`Canvas::scatter`].
    pub(crate) unsafe fn clear(&self, place: &Placement, chunk: Size3) {
        // SAFETY: passed on to our caller.
        unsafe { self.rows(place, chunk, 0..chunk.iter().product(), |_, row| row.fill(0)) }
    }
}

/// Joins elements from `from` on out of their byte planes into `out`.
pub(crate) fn interleave(planes: &Planes<'_>, from: usize, out: &mut [u8]) {
    match planes.as_slice() {
        [a, b] => join([a, b], from, out),
        [a, b, c, d] => join([a, b, c, d], from, out),
        [a, b, c, d, e, f, g, h] => join([a, b, c, d, e, f, g, h], from, out),
        planes => unreachable!("{} planes: data types have 2, 4 or 8 bytes", planes.len()),
    }
}

fn join<const T: usize>(planes: [&[u8]; T], from: usize, out: &mut [u8]) {
    let n = out.len() / T;
    let planes = planes.map(|plane| &plane[from..from + n]);
    let (elements, _) = out.as_chunks_mut::<T>();
    for (i, element) in elements.iter_mut().enumerate() {
        *element = planes.map(|plane| plane[i]);
    }
}
