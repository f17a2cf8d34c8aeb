//! The voxels that readers of generated stores must get.

use std::collections::HashMap;

use voxquarry::Size3;

use crate::stores::{SIZE, voxels};

/// Where a patch lies.
pub(crate) type Place = ([usize; 3], Size3);

/// The volumes of all generations that were asked for so far.
#[derive(Default)]
pub(crate) struct Truth(HashMap<(String, String, u64), Vec<u8>>);

impl Truth {
    /// A patch of a volume, `(c, z, y, x)`.
    pub(crate) fn patch(
        &mut self,
        subject: &str,
        volume: &str,
        generation: u64,
        place: Place,
    ) -> Vec<u8> {
        let key = (subject.to_owned(), volume.to_owned(), generation);
        let whole = self.0.entry(key).or_insert_with(|| voxels(subject, volume, generation));
        crop(whole, voxel_bytes(volume), place)
    }
}

/// Bytes of a voxel of one channel.
pub(crate) fn voxel_bytes(volume: &str) -> usize {
    match volume {
        "ct" => 2,
        "seg" => 1,
        _ => 4,
    }
}

fn crop(whole: &[u8], width: usize, (start, size): Place) -> Vec<u8> {
    let channels = whole.len() / (SIZE.iter().product::<usize>() * width);
    let mut bytes = Vec::new();
    for channel in 0..channels {
        for z in start[0]..start[0] + size[0] {
            for y in start[1]..start[1] + size[1] {
                let row = ((channel * SIZE[0] + z) * SIZE[1] + y) * SIZE[2] + start[2];
                bytes.extend_from_slice(&whole[row * width..(row + size[2]) * width]);
            }
        }
    }
    bytes
}
