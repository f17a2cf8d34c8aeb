//! Gzip files of several members, with some bytes changed: the voxels that were packed, or an
//! error.

use std::cell::LazyCell;
use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use tempfile::TempDir;
use voxquarry_ingest::VolumeInput;
use voxquarry_ingest::nifti::probe;

use crate::input::Input;
use crate::{image, scratch};

/// The number of members, the level, changes, zeros between members, and the voxels.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<TempDir> = LazyCell::new(scratch::folder);
    }
    let path = FOLDER.with(|folder| folder.path().join("a.nii.gz"));
    let mut input = Input(data);
    let (members, level) = (1 + input.below(4), Compression::new(input.below(10) as u32));
    let (edits, zeros, foreign) = (input.below(8), input.below(4), input.below(8));
    let changes = input.take(3 * edits);
    let foreign = input.take(foreign);
    let voxels = &input.0[..input.0.len().min(usize::from(i16::MAX.unsigned_abs()))];
    if voxels.is_empty() {
        return;
    }
    let plain = [&header(voxels.len() as i16)[..], voxels].concat();
    let mut packed = Vec::new();
    for part in plain.chunks(plain.len().div_ceil(members)) {
        let mut encoder = GzEncoder::new(packed, level);
        encoder.write_all(part).expect("a vector takes everything");
        packed = encoder.finish().expect("a vector takes everything");
        packed.resize(packed.len() + zeros, 0);
    }
    // Like gzip, a reader ignores what follows the last member.
    packed.extend_from_slice(foreign);
    Input(changes).edit(edits, &mut packed);
    scratch::write(&path, &packed);
    // The header may be damaged, which only the checksum at the end tells.
    let read = probe(&path).map(|volume| image::voxel_bytes(&volume));
    match read
        .and_then(|bytes| bytes.map(|n| image::read(&VolumeInput::from(&*path), n, 1)).transpose())
    {
        Ok(None) => assert!(edits > 0, "a volume of other voxels"),
        Ok(Some((found, digest))) => {
            assert!(found == voxels, "other voxels than were packed");
            assert_eq!(digest.bytes, packed.len() as u64);
        }
        Err(error) => assert!(edits > 0 || foreign.contains(&0x1f), "{error}"),
    }
}

/// A NIfTI-1 header of `voxels` bytes along x, and the flag that no extension follows.
fn header(voxels: i16) -> [u8; 352] {
    let mut header = [0; 352];
    header[..4].copy_from_slice(&348i32.to_le_bytes());
    for (axis, n) in [1, voxels, 1, 1, 1, 1, 1, 1].into_iter().enumerate() {
        header[40 + 2 * axis..][..2].copy_from_slice(&n.to_le_bytes());
        header[76 + 4 * axis..][..4].copy_from_slice(&1f32.to_le_bytes());
    }
    header[70] = 2;
    header[72] = 8;
    header[108..112].copy_from_slice(&352f32.to_le_bytes());
    header[344..348].copy_from_slice(b"n+1\0");
    header
}
