//! Reads resampled patches: finds their chunks, decodes them into a box, and resamples the box.
//!
//! # Invariants
//! - A chunk is decoded at most once for each part of a patch, and only if a tap touches it. A
//!   patch is one part unless its box is larger than [`BOX_BYTES`].
//! - `out` is untouched if an argument is refused.
//! - Memory is one box for each patch that is read at a time, at most [`BOX_BYTES`], and the list
//!   of its chunks.

use std::cell::Cell;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

#[cfg(target_arch = "x86_64")]
use super::avx2::Avx2;
use super::interpolate::{Cubic, Linear, Nearest};
use super::level::{Base, Kernel};
use super::options::{Method, Resampling, StoredValues};
use super::patch::{Kernels, PlanePart, resample};
use super::reach::{Box3, Reach};
use super::rows::Rows;
use super::source::{SLACK, Source, Taps};
use super::values::{RowValues, Values};
use super::warp::{Order, Warp};
use crate::array::channels::Channels;
use crate::array::handle::ArrayHandle;
use crate::array::{ReadContext, gather_cells};
use crate::format::grid::{ChunkId, check_patch_size};
use crate::memory::zeroed;
use crate::sys::executor::Executor;
use crate::{Error, Region, Result, Size3, Voxel, f16};

/// The largest box that chunks are decoded into; a patch with a larger one is read in parts.
///
/// A block of 16 voxels needs at most 110 MiB.
const BOX_BYTES: usize = 128 << 20;

/// A thread keeps a box of up to so many bytes for its next patch: memory that is new to a process
/// costs more than decoding into it.
const KEPT_BYTES: usize = 64 << 20;

thread_local! {
    static KEPT: Cell<Vec<u64>> = const { Cell::new(Vec::new()) };
}

/// A resampled read of a volume.
pub(crate) struct ResampledRead<'a> {
    pub(crate) array: &'a ArrayHandle,
    pub(crate) stored: StoredValues,
    pub(crate) resampling: Resampling,
    pub(crate) size: Size3,
    pub(crate) channels: Channels,
}

impl ResampledRead<'_> {
    /// Reads one patch for each of `warps` into `out`: patches, then channels, z, y, x, in C order.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`], [`Error::OutOfBounds`], [`Error::TooLarge`],
    ///   [`Error::BufferLength`]: `out` is untouched.
    /// - Those of reading chunks, and [`Error::OutOfMemory`]: `out` is unspecified.
    pub(crate) fn read(
        &self,
        warps: &[Warp],
        out: &mut [u8],
        context: ReadContext<'_>,
    ) -> Result<()> {
        let method = self.check(warps, out)?;
        if warps.is_empty() {
            return Ok(());
        }
        let patch_bytes = out.len() / warps.len();
        let one = |warp: &Warp, out: &mut [u8], context: ReadContext<'_>| {
            ResampledPatch {
                read: self,
                method: &method,
                context,
                rows: Rows::new(warp, self.size)?,
            }
            .read(out)
        };
        let patches = warps.iter().zip(out.chunks_exact_mut(patch_bytes));
        match context.executor {
            // Threads that read patches of their own do not wait for each other.
            Some(executor) if executor.threads() > 1 && warps.len() >= executor.threads() => {
                let patches: Vec<_> = patches.map(|(warp, out)| (warp, Mutex::new(out))).collect();
                let alone = ReadContext { executor: None, ..context };
                executor.share(
                    patches.len(),
                    || (),
                    |(), n| {
                        let (warp, out) = &patches[n];
                        one(warp, &mut out.lock().unwrap_or_else(PoisonError::into_inner), alone)
                    },
                )
            }
            _ => {
                for (warp, out) in patches {
                    one(warp, out, context)?;
                }
                Ok(())
            }
        }
    }

    /// The chunks that hold a voxel with a weight of the patch of `warp`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::OutOfMemory`].
    pub(crate) fn chunks(&self, warp: &Warp) -> Result<Vec<ChunkId>> {
        warp.check(self.size)?;
        let method = self.resampling.method(&self.stored)?;
        let (reach, part) = (self.reach(warp, &method), self.size.map(|n| 0..n));
        let Some(touched) = reach.touched(&part) else { return Ok(Vec::new()) };
        let cells = reach.cells(&part, &touched, self.array.layout().chunk)?;
        let all = self
            .channels
            .ascending()
            .flat_map(|channel| cells.iter().map(move |&at| ChunkId { channel, at }));
        Ok(all.collect())
    }

    /// Checks all arguments.
    fn check(&self, warps: &[Warp], out: &[u8]) -> Result<Method> {
        check_patch_size(self.size)?;
        let layout = self.array.layout();
        self.channels.check(layout.channel_count())?;
        let method = self.resampling.method(&self.stored)?;
        let voxel_bytes = method.finish.dtype.size();
        let voxels = self.array.voxel_count(self.size, warps.len())? / layout.channel_count()
            * self.channels.len();
        let too_large = || Error::TooLarge {
            what: format!("{} patches of {:?} voxels", warps.len(), self.size),
        };
        let expected = voxels
            .checked_mul(voxel_bytes)
            .filter(|&bytes| isize::try_from(bytes).is_ok())
            .ok_or_else(too_large)?;
        if out.len() != expected {
            return Err(Error::BufferLength { found: out.len() / voxel_bytes, expected: voxels });
        }
        if !out.as_ptr().addr().is_multiple_of(voxel_bytes) {
            let found = format!("at address {:#x}", out.as_ptr().addr());
            let expected = format!("memory aligned for {}", method.finish.dtype);
            return Err(Error::invalid("out", found, expected));
        }
        for warp in warps {
            warp.check(self.size)?;
            if method.refuses_outside {
                self.check_inside(warp, &method)?;
            }
        }
        Ok(method)
    }

    /// Checks that no tap leaves the volume.
    fn check_inside(&self, warp: &Warp, method: &Method) -> Result<()> {
        let shape = self.array.layout().size;
        let taps = self.reach(warp, method).taps(&self.size.map(|n| 0..n));
        let size = [0, 1, 2].map(|a| (taps[a].end() - taps[a].start() + 1) as usize);
        let region = Region::new([0, 1, 2].map(|a| *taps[a].start()), size);
        if region.is_inside(shape) {
            return Ok(());
        }
        Err(Error::OutOfBounds { start: region.start, size, shape })
    }

    fn reach<'a>(&self, warp: &'a Warp, method: &Method) -> Reach<'a> {
        let volume = self.array.layout().size;
        Reach::new(warp, self.size, method.order, method.border, volume)
    }
}

/// A patch to read.
struct ResampledPatch<'a> {
    read: &'a ResampledRead<'a>,
    method: &'a Method,
    context: ReadContext<'a>,
    rows: Rows<'a>,
}

/// A part of a patch: planes, rows and blocks of rows.
#[derive(Clone, Debug)]
struct ResampledPart {
    z: Range<usize>,
    y: Range<usize>,
    blocks: Range<usize>,
}

impl ResampledPart {
    /// Its halves along z, or y, or x; `None` if it is a single block.
    fn halves(&self) -> Option<[Self; 2]> {
        let halved = |range: &Range<usize>| {
            let middle = range.start + range.len() / 2;
            (range.len() > 1).then_some([range.start..middle, middle..range.end])
        };
        if let Some(halves) = halved(&self.z) {
            return Some(halves.map(|z| Self { z, ..self.clone() }));
        }
        if let Some(halves) = halved(&self.y) {
            return Some(halves.map(|y| Self { y, ..self.clone() }));
        }
        Some(halved(&self.blocks)?.map(|blocks| Self { blocks, ..self.clone() }))
    }
}

impl ResampledPatch<'_> {
    /// Reads all channels.
    fn read(&self, out: &mut [u8]) -> Result<()> {
        let channel_bytes = out.len() / self.read.channels.len();
        let [nz, ny, _] = self.read.size;
        let whole = ResampledPart { z: 0..nz, y: 0..ny, blocks: 0..self.rows.blocks().len() };
        for channel in self.read.channels.ascending() {
            let first = self.read.channels.place(channel) * channel_bytes;
            self.read_part(&whole, channel, &mut out[first..first + channel_bytes])?;
        }
        Ok(())
    }

    /// The indices in the patch that a part covers.
    fn covered(&self, part: &ResampledPart) -> [Range<usize>; 3] {
        let blocks = &self.rows.blocks()[part.blocks.clone()];
        let last = &blocks[blocks.len() - 1];
        [part.z.clone(), part.y.clone(), blocks[0].x..last.x + last.count]
    }

    /// Reads a part of one channel, in halves if its box is too large.
    fn read_part(&self, part: &ResampledPart, channel: usize, out: &mut [u8]) -> Result<()> {
        let covered = self.covered(part);
        let reach = self.read.reach(self.rows.warp, self.method);
        let layout = self.read.array.layout();
        let Some(touched) = reach.touched(&covered) else {
            self.fill(&covered, out);
            return Ok(());
        };
        let region = padded(&touched, self.method.order);
        let voxel_bytes = layout.dtype.size();
        let bytes = region
            .size
            .iter()
            .try_fold(voxel_bytes, |n, &extent| n.checked_mul(extent))
            .filter(|&bytes| bytes <= BOX_BYTES);
        let Some(bytes) = bytes else {
            let halves = part.halves().expect("the box of one block is small");
            return halves.iter().try_for_each(|half| self.read_part(half, channel, out));
        };
        let cells = reach.cells(&covered, &touched, layout.chunk)?;
        let mut voxels = KEPT.take();
        let words = (bytes + SLACK * voxel_bytes).div_ceil(8);
        if voxels.len() < words {
            voxels = zeroed(words, || format!("a box of {:?} voxels", region.size))?;
        }
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(&mut voxels);
        let context = self.context;
        gather_cells(self.read.array, region, &cells, channel, &mut buffer[..bytes], context)?;
        let buffer = &buffer[..bytes + SLACK * voxel_bytes];
        self.resample(part, region, &touched, buffer, out)?;
        if voxels.len() * 8 <= KEPT_BYTES {
            KEPT.set(voxels);
        }
        Ok(())
    }

    /// Fills a part that lies outside of the volume.
    fn fill(&self, [z, y, x]: &[Range<usize>; 3], out: &mut [u8]) {
        let (finish, [_, ny, nx]) = (&self.method.finish, self.read.size);
        let voxel_bytes = finish.dtype.size();
        for row in z.clone().flat_map(|z| y.clone().map(move |y| z * ny + y)) {
            let at = |x: usize| (row * nx + x) * voxel_bytes;
            finish.fill(&mut out[at(x.start)..at(x.end)]);
        }
    }

    /// Resamples a part out of the box of `region`.
    fn resample(
        &self,
        part: &ResampledPart,
        region: Region,
        touched: &Box3,
        buffer: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        macro_rules! by_order {
            ($voxel:ty, $real:ty) => {
                match self.method.order {
                    Order::Nearest => {
                        self.resample_as::<$voxel, Nearest>(part, region, touched, buffer, out)
                    }
                    Order::Linear => self
                        .resample_as::<$voxel, Linear<$real>>(part, region, touched, buffer, out),
                    Order::Cubic => {
                        self.resample_as::<$voxel, Cubic<$real>>(part, region, touched, buffer, out)
                    }
                }
            };
        }
        use crate::Dtype as D;
        match (self.read.stored.dtype, self.method.is_single) {
            (D::UInt8, true) => by_order!(u8, f32),
            (D::Int8, true) => by_order!(i8, f32),
            (D::UInt16, true) => by_order!(u16, f32),
            (D::Int16, true) => by_order!(i16, f32),
            (D::Float16, true) => by_order!(f16, f32),
            (D::Float32, true) => by_order!(f32, f32),
            (dtype, _) => crate::with_voxel!(dtype, T => by_order!(T, f64)),
        }
    }

    fn resample_as<T: Voxel, K: Kernel<T>>(
        &self,
        part: &ResampledPart,
        region: Region,
        touched: &Box3,
        buffer: &[u8],
        out: &mut [u8],
    ) -> Result<()> {
        let [_, sy, sx] = region.size;
        let strides = [sy * sx, sx];
        let source = Source {
            strides,
            start: region.start,
            filled: touched.clone(),
            volume: self.read.array.layout().size,
            border: self.method.border,
        };
        let taps = Taps::<T> { voxels: bytemuck::cast_slice(buffer), strides };
        let outside = self.method.outside;
        match Kernels::detect() {
            kernels @ Kernels::Portable => {
                let values = || RowValues::<T, K, Base>::new(taps, outside);
                self.planes(part, &source, kernels, values, out)
            }
            #[cfg(target_arch = "x86_64")]
            kernels @ Kernels::Avx2 => {
                let values = || RowValues::<T, K, Avx2>::new(taps, outside);
                self.planes(part, &source, kernels, values, out)
            }
        }
    }

    /// Resamples the planes of a part, which threads share.
    fn planes<V: Values>(
        &self,
        part: &ResampledPart,
        source: &Source,
        kernels: Kernels,
        values: impl Fn() -> V + Sync,
        out: &mut [u8],
    ) -> Result<()> {
        let groups = self.rows.groups(part.blocks.clone())?;
        let plane_bytes = out.len() / self.read.size[0];
        let planes = out[part.z.start * plane_bytes..part.z.end * plane_bytes]
            .chunks_exact_mut(plane_bytes)
            .zip(part.z.clone());
        let one = |values: &mut V, z: usize, plane: &mut [u8]| {
            let part = PlanePart { z, y: part.y.clone(), groups: &groups };
            resample(kernels, &self.rows, source, &part, values, &self.method.finish, plane);
        };
        let executor = self.context.executor;
        if let Some(executor) = executor.filter(|executor| is_worth_sharing(executor, plane_bytes))
        {
            let planes: Vec<_> = planes.map(|(plane, z)| (z, Mutex::new(plane))).collect();
            return executor.share(planes.len(), &values, |values, n| {
                let (z, plane) = &planes[n];
                one(values, *z, &mut plane.lock().unwrap_or_else(PoisonError::into_inner));
                Ok(())
            });
        }
        let mut values = values();
        planes.for_each(|(plane, z)| one(&mut values, z, plane));
        Ok(())
    }
}

/// Whether planes of so many bytes take long enough that threads share them.
fn is_worth_sharing(executor: &Executor, plane_bytes: usize) -> bool {
    executor.threads() > 1 && plane_bytes >= 4096
}

/// The box that kernels load from: the voxels that taps touch, and those that a vector loads with a
/// weight of 0.
fn padded(touched: &Box3, order: Order) -> Region {
    let (below, above) = match order {
        Order::Nearest => (0, 0),
        Order::Linear => (0, 1),
        Order::Cubic => (1, 2),
    };
    let start = [0, 1, 2].map(|a| *touched[a].start() - below);
    let size = [0, 1, 2].map(|a| (*touched[a].end() + above + 1 - start[a]) as usize);
    Region::new(start, size)
}
