//! Fuzzes the decoder with damaged frames: it returns an error or what c-blosc returns.
//!
//! The input is `[a, b, n, n × (where, where, what), voxels …]`: changing bytes of a valid frame
//! lets the fuzzer past the checks of the header.
#![no_main]

use libfuzzer_sys::fuzz_target;
use voxquarry::codec::Encoder;
use voxquarry_fuzz::{MAX_VOXEL_BYTES, ours, parameters, theirs};

fuzz_target!(|data: &[u8]| {
    let [a, b, n, rest @ ..] = data else { return };
    let (parameters, typesize) = parameters(*a, *b);
    let Some((edits, voxels)) = rest.split_at_checked(3 * usize::from(*n % 32)) else { return };
    let voxels = &voxels[..voxels.len().min(MAX_VOXEL_BYTES) / typesize * typesize];
    if voxels.is_empty() {
        return;
    }
    let mut frame = Vec::new();
    Encoder::new(parameters, typesize).encode(voxels, &mut frame);
    for edit in edits.chunks_exact(3) {
        let at = usize::from(u16::from_le_bytes([edit[0], edit[1]])) % frame.len();
        frame[at] = edit[2];
    }
    // An error is always allowed: the profile excludes frames that c-blosc accepts.
    let found = ours(&frame, voxels.len(), typesize);
    if let (Ok(found), Some(expected)) = (found, theirs(&frame, voxels.len())) {
        assert_eq!(found, expected);
    }
});
