//! Copies voxels of decoded bytes into the caller's patches: the inner loop of every read.
//!
//! # Invariants
//! - Every write is checked to lie inside the canvas; who writes to boxes at the same time keeps them disjoint.
#![allow(unsafe_code)]

use std::marker::PhantomData;
use std::ops::Range;
use std::ptr;

use crate::codec::{Block, RowsMut};
use crate::prefetch::{prefetch_row, prefetch_second};
use crate::{Region, Size3};

/// Boxes of the canvas of more bytes do not stay in a processor's own caches while they are written.
const NEAR_BYTES: usize = 1 << 20;

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

    /// The canvas byte of the placement's first voxel, checked: all rows of the placement lie in the canvas.
    fn first_byte(&self, place: &Placement) -> usize {
        let [_, ny, nx] = self.size;
        let [dz, dy, dx] = [0, 1, 2].map(|a| place.wanted[a].len() - 1);
        let [z, y, x] = place.to;
        let first = ((place.plane * self.size[0] + z) * ny + y) * nx + x;
        let last = first + (dz * ny + dy) * nx + dx;
        assert!(
            y + dy < ny && x + dx < nx && (last + 1) * self.voxel_bytes <= self.bytes,
            "a placement leaves the canvas"
        );
        first * self.voxel_bytes
    }

    /// Copies what `place` wants of a block that holds the voxels `have` of a chunk; `source` gives some of the block's.
    ///
    /// Meanwhile the processor is asked for the bytes that are `coming` next, a part with every plane: it can wait for a few
    /// lines at a time only, and with all of them at once there would be none left for the work at hand.
    ///
    /// # Safety
    /// No other thread may use the placement's voxels of the canvas at the same time.
    pub(crate) unsafe fn scatter(
        &self,
        place: &Placement,
        chunk: Size3,
        have: &Range<usize>,
        source: &mut impl Voxels,
        coming: &[u8],
    ) {
        let (t, [_, ny, nx], [z, y, x]) = (self.voxel_bytes, self.size, &place.wanted);
        let first_byte = self.first_byte(place);
        let plane = chunk[1] * chunk[2];
        let is_far = self.size.iter().product::<usize>() * t > NEAR_BYTES;
        let rows = Rows {
            count: y.len(),
            bytes: x.len() * t,
            from_stride: chunk[2] * t,
            to_stride: nx * t,
            ahead: if is_far { ny * nx * t } else { 0 },
        };
        let planes = z.start.max(have.start / plane)..z.end.min(have.end.div_ceil(plane));
        let mut coming = coming.chunks(coming.len().div_ceil(planes.len().max(1)).max(1));
        for cz in planes {
            prefetch_second(coming.next().unwrap_or_default());
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
                assert!(voxels.len() == (end - from) * t, "as many voxels as were asked for");
                // SAFETY: all rows of the plane are in `voxels`, and `first_byte` checked the canvas.
                unsafe { rows.copy(voxels.as_ptr(), self.base.add(to)) };
                continue;
            }
            // Blocks of our own writers hold whole planes; of others, perhaps parts of rows.
            for row in 0..y.len() {
                let from = from + row * chunk[2];
                let (start, end) = (from.max(have.start), (from + x.len()).min(have.end));
                if start < end {
                    let part = source.voxels(start - have.start..end - have.start);
                    let to = to + (row * nx + start - from) * t;
                    assert!(part.len() == (end - start) * t, "as many voxels as were asked for");
                    // SAFETY: a part of a row that `first_byte` checked.
                    unsafe {
                        ptr::copy_nonoverlapping(part.as_ptr(), self.base.add(to), part.len());
                    };
                }
            }
        }
    }

    /// Fills the placement with zeros.
    ///
    /// # Safety
    /// As [`Canvas::scatter`].
    pub(crate) unsafe fn clear(&self, place: &Placement) {
        let (t, [_, ny, nx], [z, y, x]) = (self.voxel_bytes, self.size, &place.wanted);
        let first_byte = self.first_byte(place);
        for row in (0..z.len()).flat_map(|cz| (0..y.len()).map(move |cy| cz * ny + cy)) {
            // SAFETY: `first_byte` checked every row.
            unsafe { self.base.add(first_byte + row * nx * t).write_bytes(0, x.len() * t) };
        }
    }
}

/// Where the voxels of a chunk, or of a part of it, come from.
pub(crate) trait Voxels {
    /// The bytes of some of them.
    fn voxels(&mut self, range: Range<usize>) -> &[u8];

    /// Puts some of them straight into `rows`, the first row's from `first` on and each other's `stride` behind the one before;
    /// `false`, and nothing is done, if a copy is the shortest way.
    fn put(&self, first: usize, stride: usize, rows: &mut RowsMut<'_>) -> bool;
}

impl Voxels for Block<'_> {
    #[inline]
    fn voxels(&mut self, range: Range<usize>) -> &[u8] {
        self.elements(range)
    }

    #[inline]
    fn put(&self, first: usize, stride: usize, rows: &mut RowsMut<'_>) -> bool {
        Block::put(self, first, stride, rows)
    }
}

/// Voxels that lie together already.
pub(crate) struct Plain<'a> {
    pub(crate) bytes: &'a [u8],
    pub(crate) voxel_bytes: usize,
}

impl Voxels for Plain<'_> {
    #[inline]
    fn voxels(&mut self, range: Range<usize>) -> &[u8] {
        &self.bytes[range.start * self.voxel_bytes..range.end * self.voxel_bytes]
    }

    #[inline]
    fn put(&self, _: usize, _: usize, _: &mut RowsMut<'_>) -> bool {
        false
    }
}

/// Rows of one plane: how many, how long, how far apart on both sides.
struct Rows {
    count: usize,
    bytes: usize,
    from_stride: usize,
    to_stride: usize,
    /// Bytes to the rows that come next; 0 if they are not asked for.
    ahead: usize,
}

impl Rows {
    /// Copies them; a length that the compiler knows is a few moves, the others up to 64 bytes are two that overlap.
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
    /// As [`Rows::copy`].
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

/// Copies `n` bytes, from `HALF` to twice that, as their first and their last `HALF`.
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
