//! NIfTI-1 and NIfTI-2 files: single files and pairs, plain or gzip.

use std::cell::LazyCell;

use tempfile::TempDir;
use voxquarry_ingest::nifti;

use crate::input::Input;
use crate::{image, scratch};

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
    let Some(bytes) = image::voxel_bytes(&volume) else { return };
    image::check_steps(&path.into(), &volume, bytes);
}
