//! NIfTI-1 and NIfTI-2 files: single files and pairs, plain or gzip.

use std::cell::LazyCell;
use std::path::Path;

use tempfile::TempDir;
use voxquarry::Result;
use voxquarry_ingest::nifti;
use voxquarry_ingest::source::{SourceDigest, SourceVolume};

use crate::input::Input;
use crate::scratch;

/// Most bytes of voxels that are read.
const MAX_VOXEL_BYTES: usize = 1 << 20;

/// A byte, and a file; if the byte is odd, a pair, whose header has as many bytes as the next two
/// say.
///
/// A description that is accepted holds what it promises, and voxels are the same whether they are
/// read at once or in steps.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<TempDir> = LazyCell::new(scratch::folder);
    }
    let folder = FOLDER.with(|folder| folder.path().to_owned());
    let mut input = Input(data);
    let path = if input.byte() & 1 == 0 {
        scratch::write(&folder.join("a.nii"), input.0);
        folder.join("a.nii")
    } else {
        let header_bytes = usize::from(input.u16());
        scratch::write(&folder.join("b.hdr"), input.take(header_bytes));
        scratch::write(&folder.join("b.img"), input.0);
        folder.join("b.img")
    };
    let Ok(volume) = nifti::probe(&path) else { return };
    assert!(volume.size.iter().all(|&n| n > 0) && volume.affine.validate().is_ok());
    assert!(volume.slope.is_finite() && volume.intercept.is_finite());
    assert!(volume.channels.unwrap_or(1).is_multiple_of(volume.interleaved));
    let Some(bytes) = voxel_bytes(&volume) else { return };
    let (at_once, in_steps) = (read(&path, bytes, usize::MAX), read(&path, bytes, 1));
    match (at_once, in_steps) {
        (Ok((voxels, digest)), Ok((same_voxels, same_digest))) => {
            if volume.interleaved == 1 {
                assert!(voxels == same_voxels, "steps change the voxels");
            }
            assert_eq!(digest, same_digest);
        }
        (Err(_), Err(_)) => {}
        _ => panic!("steps change whether the file can be read"),
    }
}

/// Bytes of all voxels, unless they are too many to be read.
pub(crate) fn voxel_bytes(volume: &SourceVolume) -> Option<usize> {
    let mut extents = volume.channels.into_iter().chain(volume.size);
    let bytes = extents.try_fold(volume.dtype.size(), usize::checked_mul);
    bytes.filter(|&bytes| bytes <= MAX_VOXEL_BYTES)
}

/// All voxels of a file, `steps` z steps at a time.
pub(crate) fn read(path: &Path, bytes: usize, steps: usize) -> Result<(Vec<u8>, SourceDigest)> {
    let (volume, mut stream) = nifti::open(path)?;
    let (mut voxels, groups) = (vec![0; bytes], volume.channels.unwrap_or(1) / volume.interleaved);
    let step_bytes = bytes / groups / volume.size[0];
    let mut rest = &mut voxels[..];
    for _ in 0..groups {
        let mut z = 0;
        while z < volume.size[0] {
            let count = steps.min(volume.size[0] - z);
            let (out, after) = rest.split_at_mut(count * step_bytes);
            stream.next_steps(count, out)?;
            (rest, z) = (after, z + count);
        }
    }
    Ok((voxels, stream.finish()?))
}
