//! Reads a volume in order from a source that can read any of its planes.
//!
//! # Invariants
//! - Planes that the source stores together are read together and once, unless they are so large
//!   that holding them would take more than [`SLAB_BYTES`].

use std::ops::Range;

use serde_json::Map;
use voxquarry::{Dtype, Result};

use crate::files::resized;
use crate::memory::DigestedStream;
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// Upper bound of the bytes of planes that are kept because the source stores them together.
const SLAB_BYTES: usize = 64 << 20;

/// What a plane is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlaneShape {
    /// `(y, x)`.
    pub(crate) size: [usize; 2],
    pub(crate) samples: usize,
    pub(crate) dtype: Dtype,
}

/// A source whose planes can be read in any order.
pub(crate) trait PlaneSource: Send {
    /// Reads planes of one group of channels as `(interleaved, z.len(), y, x)`, little endian, in C
    /// order.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if they are damaged, [`voxquarry::Error::Io`].
    fn read(&mut self, group: usize, z: Range<usize>, out: &mut [u8]) -> Result<()>;
}

/// The voxels of `volume`, whose `source` stores `natural` planes together; their digest is that of
/// the source.
pub(crate) fn stream<S: PlaneSource + 'static>(
    source: S,
    volume: &SourceVolume,
    natural: usize,
) -> Box<dyn VoxelStream> {
    Box::new(DigestedStream::new(Box::new(Slabs::new(source, volume, natural)), volume))
}

/// The planes of a source in order.
struct Slabs<S> {
    source: S,
    depth: usize,
    interleaved: usize,
    plane_bytes: usize,
    /// Planes that are read together; 1 if none are kept.
    together: usize,
    /// The group and the planes that are kept.
    kept: (usize, Range<usize>),
    slab: Vec<u8>,
    /// The group and the plane that come next.
    next: (usize, usize),
}

/// Planes that are kept together of a volume whose source stores `natural` of them together.
fn together(volume: &SourceVolume, natural: usize) -> usize {
    let natural = natural.clamp(1, volume.size[0]);
    let bytes = natural.saturating_mul(volume.interleaved * plane_bytes(volume));
    if bytes > SLAB_BYTES { 1 } else { natural }
}

fn plane_bytes(volume: &SourceVolume) -> usize {
    volume.size[1] * volume.size[2] * volume.dtype.size()
}

/// Bytes that [`Slabs`] keeps.
pub(crate) fn slab_bytes(volume: &SourceVolume, natural: usize) -> u64 {
    let together = together(volume, natural);
    let kept = if together > 1 { together * volume.interleaved * plane_bytes(volume) } else { 0 };
    kept as u64
}

impl<S: PlaneSource> Slabs<S> {
    /// The voxels of `volume`, whose `source` stores `natural` planes together.
    fn new(source: S, volume: &SourceVolume, natural: usize) -> Self {
        Self {
            source,
            depth: volume.size[0],
            interleaved: volume.interleaved,
            plane_bytes: plane_bytes(volume),
            together: together(volume, natural),
            kept: (0, 0..0),
            slab: Vec::new(),
            next: (0, 0),
        }
    }

    /// Copies planes out of kept ones, which are read where they are not there yet.
    fn copy(&mut self, group: usize, z: Range<usize>, out: &mut [u8]) -> Result<()> {
        let (plane, steps) = (self.plane_bytes, z.len());
        let mut at = z.start;
        while at < z.end {
            if self.kept.0 != group || !self.kept.1.contains(&at) {
                let first = at / self.together * self.together;
                let planes = first..(first + self.together).min(self.depth);
                // Nothing is kept if reading fails.
                self.kept = (group, 0..0);
                let bytes = planes.len() * self.interleaved * plane;
                let slab = resized(&mut self.slab, bytes)?;
                self.source.read(group, planes.clone(), slab)?;
                self.kept.1 = planes;
            }
            let kept = &self.kept.1;
            let end = z.end.min(kept.end);
            for channel in 0..self.interleaved {
                let from = (channel * kept.len() + at - kept.start) * plane;
                let to = (channel * steps + at - z.start) * plane;
                let bytes = (end - at) * plane;
                out[to..to + bytes].copy_from_slice(&self.slab[from..from + bytes]);
            }
            at = end;
        }
        Ok(())
    }
}

impl<S: PlaneSource> VoxelStream for Slabs<S> {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let (group, first) = self.next;
        let z = first..first + steps;
        let is_whole = z.start.is_multiple_of(self.together)
            && (steps.is_multiple_of(self.together) || z.end == self.depth);
        if is_whole {
            self.source.read(group, z.clone(), out)?;
        } else {
            self.copy(group, z.clone(), out)?;
        }
        self.next = if z.end == self.depth { (group + 1, 0) } else { (group, z.end) };
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        Ok(SourceDigest { sha256: String::new(), bytes: 0, origin: Map::new() })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use voxquarry::Affine;

    use super::*;

    /// Voxels that are their own numbers; counts the planes that are read.
    struct Counting(Arc<AtomicUsize>);

    impl PlaneSource for Counting {
        fn read(&mut self, group: usize, z: Range<usize>, out: &mut [u8]) -> Result<()> {
            self.0.fetch_add(z.len(), Ordering::Relaxed);
            for (i, plane) in out.chunks_exact_mut(6).enumerate() {
                let (channel, z) = (group * 2 + i / z.len(), z.start + i % z.len());
                plane.fill((channel * 20 + z) as u8);
            }
            Ok(())
        }
    }

    #[test]
    fn planes_come_in_order_and_once_whatever_is_asked_for_at_a_time() {
        let volume = SourceVolume {
            size: [11, 2, 3],
            channels: Some(4),
            interleaved: 2,
            dtype: Dtype::UInt8,
            affine: Affine::IDENTITY,
            unit: None,
            slope: 1.0,
            intercept: 0.0,
            origin: Map::new(),
        };
        let mut digests = Vec::new();
        for natural in [1, 3, 4, 50] {
            for steps in [1, 2, 3, 4, 11] {
                let read = Arc::new(AtomicUsize::new(0));
                let mut stream = stream(Counting(read.clone()), &volume, natural);
                for group in 0..2 {
                    for z in (0..11).step_by(steps) {
                        let steps = steps.min(11 - z);
                        let mut out = vec![0; 2 * steps * 6];
                        stream.next_steps(steps, &mut out).unwrap();
                        for (i, plane) in out.chunks_exact(6).enumerate() {
                            let value = (group * 2 + i / steps) * 20 + z + i % steps;
                            assert_eq!(plane, [value as u8; 6]);
                        }
                    }
                }
                digests.push(stream.finish().unwrap().sha256);
                assert_eq!(
                    read.load(Ordering::Relaxed),
                    22,
                    "{natural} together, {steps} at a time"
                );
            }
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]));
    }
}
