//! Reads patches that may leave the array.

use super::channels::Channels;
use super::gather::{ReadContext, gather};
use super::handle::ArrayHandle;
use crate::format::grid::check_patch_size;
use crate::memory::{collected, zeroed};
use crate::{Error, Padding, Region, Result, Size3, Voxel, with_voxel};

/// Reads one patch of `size` for each of `starts` into `out`: patches, then `channels`, z, y, x, in
/// C order. Voxels outside of the array are filled as `padding` says.
///
/// # Errors
/// - [`Error::InvalidArgument`], [`Error::OutOfBounds`], [`Error::TooLarge`],
///   [`Error::BufferLength`]: `out` is untouched.
/// - [`Error::ChunkChecksum`], [`Error::ChunkDecode`], [`Error::ShardIndex`], [`Error::Io`]: `out`
///   is unspecified.
pub(crate) fn read_patches(
    array: &ArrayHandle,
    starts: &[[i64; 3]],
    size: Size3,
    padding: Padding,
    channels: &Channels,
    out: &mut [u8],
    context: ReadContext<'_>,
) -> Result<()> {
    check_patch_size(size)?;
    let layout = array.layout();
    channels.check(layout.channel_count())?;
    let t = layout.dtype.size();
    let patch_voxels =
        array.voxel_count(size, starts.len())? / layout.channel_count() * channels.len();
    if out.len() != patch_voxels * t {
        return Err(Error::BufferLength { found: out.len() / t, expected: patch_voxels });
    }
    if starts.is_empty() {
        return Ok(());
    }
    let shape = layout.size;
    let regions = starts.iter().map(|&start| Region::new(start, size));
    let regions =
        collected(regions, starts.len() as u64, || format!("a list of {} patches", starts.len()))?;
    let Some(outside) = regions.iter().find(|region| !region.is_inside(shape)) else {
        return gather(array, &regions, size, channels, out, context);
    };
    let patch_bytes = out.len() / regions.len();
    let mut patches = regions.iter().zip(out.chunks_exact_mut(patch_bytes));
    match padding {
        Padding::None => Err(Error::OutOfBounds { start: outside.start, size, shape }),
        Padding::Constant(value) => {
            let dtype = layout.dtype;
            let constant = with_voxel!(dtype, T => {
                T::from_f64_exact(value).map(|voxel| bytemuck::bytes_of(&voxel).to_vec())
            });
            let constant = constant
                .ok_or_else(|| Error::invalid("padding", value, format!("a value of {dtype}")))?;
            for (region, patch) in patches {
                if !region.is_inside(shape) {
                    patch.chunks_exact_mut(t).for_each(|voxel| voxel.copy_from_slice(&constant));
                }
            }
            gather(array, &regions, size, channels, out, context)
        }
        Padding::Edge | Padding::Reflect => patches.try_for_each(|(region, patch)| {
            read_mirrored(array, region, padding, channels, patch, context)
        }),
    }
}

/// Reads the box of voxels that `padding` takes the region's values from, then copies each value to
/// its places.
fn read_mirrored(
    array: &ArrayHandle,
    region: &Region,
    padding: Padding,
    channels: &Channels,
    out: &mut [u8],
    context: ReadContext<'_>,
) -> Result<()> {
    let shape = array.layout().size;
    if region.is_inside(shape) {
        return gather(array, &[*region], region.size, channels, out, context);
    }
    let what = || format!("a padded region of {:?} voxels", region.size);
    let source = |a: usize| {
        let index = |i| padding.source_index(region.start[a].saturating_add(i), shape[a]);
        collected((0..region.size[a] as i64).map(index), region.size[a] as u64, what)
    };
    let mut sources = [source(0)?, source(1)?, source(2)?];
    let (mut start, mut size) = ([0; 3], [0; 3]);
    for a in 0..3 {
        let (min, max) =
            sources[a].iter().fold((usize::MAX, 0), |(lo, hi), &i| (lo.min(i), hi.max(i)));
        start[a] = min as i64;
        size[a] = max - min + 1;
    }
    let t = array.layout().dtype.size();
    let inside = Region::new(start, size);
    let mut voxels = zeroed(inside.len() * channels.len() * t, what)?;
    gather(array, &[inside], size, channels, &mut voxels, context)?;
    for a in 0..3 {
        for i in &mut sources[a] {
            *i -= start[a] as usize;
        }
    }
    let mut rows = out.chunks_exact_mut(region.size[2] * t);
    for c in 0..channels.len() {
        for &z in &sources[0] {
            for &y in &sources[1] {
                let from = &voxels[((c * size[0] + z) * size[1] + y) * size[2] * t..];
                let row = rows.next().expect("a row for each z and y");
                for (to, &x) in row.chunks_exact_mut(t).zip(&sources[2]) {
                    to.copy_from_slice(&from[x * t..][..t]);
                }
            }
        }
    }
    Ok(())
}
