//! Fuzzes the encoder: our decoder and c-blosc's return the voxels.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voxquarry::codec::Encoder;
use voxquarry_fuzz::{MAX_VOXEL_BYTES, ours, parameters, theirs};

fuzz_target!(|data: &[u8]| {
    let [a, b, voxels @ ..] = data else { return };
    let (parameters, typesize) = parameters(*a, *b);
    let voxels = &voxels[..voxels.len().min(MAX_VOXEL_BYTES) / typesize * typesize];
    if voxels.is_empty() {
        return;
    }
    let mut frame = Vec::new();
    Encoder::new(parameters, typesize).encode_by_trial(voxels, &mut frame);
    assert_eq!(ours(&frame, voxels.len(), typesize).as_deref(), Ok(voxels));
    assert_eq!(theirs(&frame, voxels.len()).as_deref(), Some(voxels));
});
