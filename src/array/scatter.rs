//! Copies voxels of decoded chunks into the caller's patches: the inner loop of every read.
//!
//! # Invariants
//! - Every write is checked to lie inside of the output. Threads that write at the same time write
//!   to disjoint boxes; the caller keeps this promise.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

use crate::codec::{Block, RowsMut};
use crate::sys::prefetch::{prefetch_row, prefetch_second};
use crate::{Region, Size3};

/// Larger boxes of the output do not stay in a core's own caches while they are written.
const NEAR_BYTES: usize = 1 << 20;

/// The caller's buffer: patches of one size, each `(c, z, y, x)` in C order, one behind the other.
pub(crate) struct OutputView<'a> {
    base: *mut u8,
    bytes: usize,
    size: Size3,
    voxel_bytes: usize,
    buffer: PhantomData<&'a mut [u8]>,
}

// SAFETY: the view is a `&mut [u8]` that threads share to write disjoint boxes of it, as the
// callers of `OutputView::scatter` and `clear` promise; `tests/read.rs` watches it.
unsafe impl Sync for OutputView<'_> {}

/// The wanted box of a chunk, in the chunk's own coordinates, and its destination in the output.
#[derive(Clone, Debug)]
pub(crate) struct ChunkPlacement {
    /// Wanted voxels of the chunk, `(z, y, x)`.
    pub(crate) wanted: [Range<usize>; 3],
    /// The number of the `(z, y, x)` box of the output, counting patches and channels.
    pub(crate) box_index: usize,
    /// The destination of the first wanted voxel in that box.
    pub(crate) to: Size3,
}

impl ChunkPlacement {
    /// The placement of a chunk that covers `chunk` in box `box_index`, which shows `region`;
    /// `None` if the two do not meet.
    pub(crate) fn new(chunk: &Region, region: &Region, box_index: usize) -> Option<Self> {
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
        Some(Self { wanted, box_index, to })
    }

    /// The chunk's voxels from the first wanted to the last, counted in C order.
    pub(crate) fn span(&self, chunk: Size3) -> Range<usize> {
        let at = |z: usize, y: usize, x: usize| (z * chunk[1] + y) * chunk[2] + x;
        let [z, y, x] = &self.wanted;
        at(z.start, y.start, x.start)..at(z.end - 1, y.end - 1, x.end - 1) + 1
    }
}

impl<'a> OutputView<'a> {
    /// A view of `buffer` as boxes of `size` voxels of `voxel_bytes` bytes.
    pub(crate) fn new(buffer: &'a mut [u8], size: Size3, voxel_bytes: usize) -> Self {
        Self {
            base: buffer.as_mut_ptr(),
            bytes: buffer.len(),
            size,
            voxel_bytes,
            buffer: PhantomData,
        }
    }

    /// Its bytes.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// The offset of the placement's first voxel in the output. Checks that all rows of the
    /// placement lie in the output.
    fn first_byte(&self, place: &ChunkPlacement) -> usize {
        let [_, ny, nx] = self.size;
        let [dz, dy, dx] = [0, 1, 2].map(|a| place.wanted[a].len() - 1);
        let [z, y, x] = place.to;
        let first = ((place.box_index * self.size[0] + z) * ny + y) * nx + x;
        let last = first + (dz * ny + dy) * nx + dx;
        assert!(
            y + dy < ny && x + dx < nx && (last + 1) * self.voxel_bytes <= self.bytes,
            "a placement leaves the output"
        );
        first * self.voxel_bytes
    }

    /// Copies the wanted part of a block that holds the voxels `have` of a chunk; `source` yields
    /// the block's voxels.
    ///
    /// Prefetches the `upcoming` bytes, a part with every plane: a core can wait for a few cache
    /// lines at a time, and requesting all at once would stall the copying itself.
    ///
    /// # Safety
    /// No other thread may access the placement's voxels of the output at the same time.
    pub(crate) unsafe fn scatter(
        &self,
        place: &ChunkPlacement,
        chunk: Size3,
        have: &Range<usize>,
        source: &mut impl VoxelSource,
        upcoming: &[u8],
    ) {
        let (t, [_, ny, nx], [z, y, x]) = (self.voxel_bytes, self.size, &place.wanted);
        let first_byte = self.first_byte(place);
        let plane = chunk[1] * chunk[2];
        let is_far = self.size.iter().product::<usize>() * t > NEAR_BYTES;
        let rows = PlaneRows {
            count: y.len(),
            bytes: x.len() * t,
            from_stride: chunk[2] * t,
            to_stride: nx * t,
            ahead: if is_far { ny * nx * t } else { 0 },
        };
        let planes = z.start.max(have.start / plane)..z.end.min(have.end.div_ceil(plane));
        let mut upcoming = upcoming.chunks(upcoming.len().div_ceil(planes.len().max(1)).max(1));
        for cz in planes {
            prefetch_second(upcoming.next().unwrap_or_default());
            let from = (cz * chunk[1] + y.start) * chunk[2] + x.start;
            let end = from + (y.len() - 1) * chunk[2] + x.len();
            let to = first_byte + (cz - z.start) * ny * nx * t;
            if have.start <= from && end <= have.end {
                // SAFETY: as for the copy below.
                let mut target = unsafe {
                    RowsMut::new(self.base.add(to), rows.count, rows.bytes, rows.to_stride)
                }
                .with_next(rows.ahead);
                if source.put(from - have.start, chunk[2], &mut target) {
                    continue;
                }
                let voxels = source.voxels(from - have.start..end - have.start);
                assert!(
                    voxels.len() == (end - from) * t,
                    "the source returns as many voxels as asked for"
                );
                // SAFETY: all rows of the plane are in `voxels`, and `first_byte` checked the
                // output.
                unsafe { rows.copy(voxels.as_ptr(), self.base.add(to)) };
                continue;
            }
            // Blocks of our own writers hold whole planes; those of others may hold parts of rows.
            for row in 0..y.len() {
                let from = from + row * chunk[2];
                let (start, end) = (from.max(have.start), (from + x.len()).min(have.end));
                if start < end {
                    let part = source.voxels(start - have.start..end - have.start);
                    let to = to + (row * nx + start - from) * t;
                    assert!(
                        part.len() == (end - start) * t,
                        "the source returns as many voxels as asked for"
                    );
                    // SAFETY: a part of a row that `first_byte` checked.
                    unsafe {
                        ptr::copy_nonoverlapping(part.as_ptr(), self.base.add(to), part.len());
                    };
                }
            }
        }
    }

    /// Fills the placement with a voxel of these bytes.
    ///
    /// # Safety
    /// As [`OutputView::scatter`].
    pub(crate) unsafe fn fill(&self, place: &ChunkPlacement, voxel: &[u8]) {
        let (t, [_, ny, nx], [z, y, x]) = (self.voxel_bytes, self.size, &place.wanted);
        assert!(voxel.len() == t, "a voxel of the output's type");
        let first_byte = self.first_byte(place);
        for row in (0..z.len()).flat_map(|cz| (0..y.len()).map(move |cy| cz * ny + cy)) {
            for cx in 0..x.len() {
                let at = first_byte + (row * nx + cx) * t;
                // SAFETY: `first_byte` checked every row, and the voxel has `t` bytes.
                unsafe { ptr::copy_nonoverlapping(voxel.as_ptr(), self.base.add(at), t) };
            }
        }
    }

    /// Fills the placement with zeros.
    ///
    /// # Safety
    /// As [`OutputView::scatter`].
    pub(crate) unsafe fn clear(&self, place: &ChunkPlacement) {
        let (t, [_, ny, nx], [z, y, x]) = (self.voxel_bytes, self.size, &place.wanted);
        let first_byte = self.first_byte(place);
        for row in (0..z.len()).flat_map(|cz| (0..y.len()).map(move |cy| cz * ny + cy)) {
            // SAFETY: `first_byte` checked every row.
            unsafe { self.base.add(first_byte + row * nx * t).write_bytes(0, x.len() * t) };
        }
    }
}

/// The voxels of a chunk or of a part of it.
pub(crate) trait VoxelSource {
    /// The bytes of the voxels of `range`.
    fn voxels(&mut self, range: Range<usize>) -> &[u8];

    /// Writes voxels straight into `rows`: the first row begins with voxel `first`, each further
    /// one `stride` voxels later. Returns `false` without writing if a plain copy is faster.
    fn put(&self, first: usize, stride: usize, rows: &mut RowsMut<'_>) -> bool;
}

impl VoxelSource for Block<'_> {
    #[inline]
    fn voxels(&mut self, range: Range<usize>) -> &[u8] {
        self.elements(range)
    }

    #[inline]
    fn put(&self, first: usize, stride: usize, rows: &mut RowsMut<'_>) -> bool {
        Block::put(self, first, stride, rows)
    }
}

/// Voxels that lie in memory one behind the other.
pub(crate) struct ContiguousVoxels<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) voxel_bytes: usize,
}

impl VoxelSource for ContiguousVoxels<'_> {
    #[inline]
    fn voxels(&mut self, range: Range<usize>) -> &[u8] {
        &self.bytes[range.start * self.voxel_bytes..range.end * self.voxel_bytes]
    }

    #[inline]
    fn put(&self, _: usize, _: usize, _: &mut RowsMut<'_>) -> bool {
        false
    }
}

/// The rows of one plane: their number, their length, and their distances on both sides.
struct PlaneRows {
    count: usize,
    bytes: usize,
    from_stride: usize,
    to_stride: usize,
    /// Bytes to the rows to prefetch; 0 for none.
    ahead: usize,
}

impl PlaneRows {
    /// Copies the rows. A length known to the compiler takes a few moves; other lengths up to 128
    /// bytes take two copies that overlap.
    ///
    /// # Safety
    /// `from` may be read and `to` written at every row; they do not overlap.
    #[inline]
    unsafe fn copy(&self, from: *const u8, to: *mut u8) {
        // SAFETY: each row's bytes are the caller's promise.
        unsafe {
            match self.bytes {
                16 => self.each(from, to, |from, to| copy_pair::<8>(from, to, 16)),
                32 => self.each(from, to, |from, to| copy_pair::<16>(from, to, 32)),
                64 => self.each(from, to, |from, to| copy_pair::<32>(from, to, 64)),
                128 => self.each(from, to, |from, to| copy_pair::<64>(from, to, 128)),
                n @ 65..128 => self.each(from, to, |from, to| copy_pair::<64>(from, to, n)),
                n @ 33..64 => self.each(from, to, |from, to| copy_pair::<32>(from, to, n)),
                n @ 17..32 => self.each(from, to, |from, to| copy_pair::<16>(from, to, n)),
                n @ 8..16 => self.each(from, to, |from, to| copy_pair::<8>(from, to, n)),
                n @ 4..8 => self.each(from, to, |from, to| copy_pair::<4>(from, to, n)),
                n => self.each(from, to, |from, to| ptr::copy_nonoverlapping(from, to, n)),
            }
        }
    }

    /// # Safety
    /// As [`PlaneRows::copy`].
    #[inline(always)]
    unsafe fn each(&self, from: *const u8, to: *mut u8, copy: impl Fn(*const u8, *mut u8)) {
        for row in 0..self.count {
            // SAFETY: each row's bytes are the caller's promise.
            let (from, to) =
                unsafe { (from.add(row * self.from_stride), to.add(row * self.to_stride)) };
            if self.ahead > 0 {
                prefetch_row(to.wrapping_add(self.ahead), self.bytes);
            }
            copy(from, to);
        }
    }
}

/// Copies `n` bytes, where `HALF <= n <= 2 * HALF`, as their first and their last `HALF` bytes.
///
/// # Safety
/// `n` bytes may be read at `from` and written at `to`; they do not overlap.
#[inline(always)]
unsafe fn copy_pair<const HALF: usize>(from: *const u8, to: *mut u8, n: usize) {
    debug_assert!((HALF..=2 * HALF).contains(&n));
    // SAFETY: both halves lie in the n bytes.
    unsafe {
        ptr::copy_nonoverlapping(from, to, HALF);
        ptr::copy_nonoverlapping(from.add(n - HALF), to.add(n - HALF), HALF);
    }
}
