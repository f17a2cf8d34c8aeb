//! Streams a volume whose bytes lie in order: z slowest, with channels slowest of all, or inside of
//! each z step.
//!
//! # Invariants
//! - Voxels that lie as the store wants them are read into the caller's buffer; others go through a
//!   piece of fixed size.
//!
//! Not here: bytes in another order, such as Fortran's (`numpy`).

use serde_json::{Map, Value};
use voxquarry::format::attributes::LabelName;
use voxquarry::{Dtype, Result, Size3};

use super::format::OpenedVolume;
use super::voxels::{self, ByteOrder};
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// Bytes of a piece of interleaved samples, if a unit of them is not longer.
const PIECE_BYTES: usize = 3 << 16;

/// How a volume lies in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RasterLayout {
    /// Extents in `(z, y, x)`.
    pub(crate) size: Size3,
    pub(crate) dtype: Dtype,
    pub(crate) order: ByteOrder,
    /// Channels inside of a z step; 1 if channels are slowest.
    pub(crate) samples: usize,
    /// Voxels of one channel that lie together inside of a z step: 1, `x`, or `y * x`.
    pub(crate) run: usize,
}

impl RasterLayout {
    /// A volume whose channels, if it has several, are slowest.
    pub(crate) fn planes(size: Size3, dtype: Dtype, order: ByteOrder) -> Self {
        Self { size, dtype, order, samples: 1, run: size[1] * size[2] }
    }

    /// Upper bound of the memory that reading takes beside the caller's buffer and the files.
    pub(crate) fn working_bytes(&self) -> u64 {
        if self.samples == 1 { 0 } else { PIECE_BYTES as u64 }
    }
}

/// The bytes of voxels, in the order of a file.
pub(crate) trait VoxelBytes: Send {
    /// Reads the next bytes.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if a file is damaged, [`voxquarry::Error::Io`].
    fn fill(&mut self, out: &mut [u8]) -> Result<()>;

    /// Reads to the end, and compares checksums.
    ///
    /// # Errors
    /// As [`fill`](Self::fill).
    fn end(self: Box<Self>) -> Result<BytesEnd>;

    /// Upper bound of the memory that it takes, beside the buffer of a file.
    fn working_bytes(&self) -> u64;
}

/// What is known when all voxels were read.
#[derive(Debug, Default)]
pub(crate) struct BytesEnd {
    /// The digest of all files; empty if only that of the voxels is recorded.
    pub(crate) sha256: String,
    /// The bytes of all files.
    pub(crate) file_bytes: u64,
    /// The bytes behind the last voxel; `None` if they are too many.
    pub(crate) trailer: Option<Vec<u8>>,
}

/// A volume whose bytes lie in order.
pub(crate) struct OpenedRaster {
    pub(crate) volume: SourceVolume,
    pub(crate) layout: RasterLayout,
    pub(crate) bytes: Box<dyn VoxelBytes>,
    pub(crate) notes: Vec<String>,
    pub(crate) label_names: Vec<LabelName>,
    /// What the bytes behind the voxels mean; `None` of too many.
    pub(crate) footer: fn(Option<&[u8]>) -> Map<String, Value>,
}

impl OpenedVolume for OpenedRaster {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        self.layout.working_bytes() + self.bytes.working_bytes()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn label_names(&self) -> Vec<LabelName> {
        self.label_names.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let Self { layout, bytes, footer, .. } = *self;
        Ok(Box::new(RasterStream { layout, bytes, piece: Vec::new(), footer }))
    }
}

/// No footer.
pub(crate) fn no_footer(_bytes: Option<&[u8]>) -> Map<String, Value> {
    Map::new()
}

/// Reads voxels in their order.
struct RasterStream {
    layout: RasterLayout,
    bytes: Box<dyn VoxelBytes>,
    piece: Vec<u8>,
    footer: fn(Option<&[u8]>) -> Map<String, Value>,
}

impl RasterStream {
    /// Reads a z step whose channels are interleaved, into places of `out` that lie `apart` bytes
    /// from one channel to the next.
    fn read_step(&mut self, out: &mut [u8], apart: usize) -> Result<()> {
        let RasterLayout { size: [_, y, x], dtype, samples, run, .. } = self.layout;
        let (plane, run) = (y * x * dtype.size(), run * dtype.size());
        let unit = run * samples;
        if unit > PIECE_BYTES {
            for at in (0..plane).step_by(run) {
                for channel in 0..samples {
                    self.bytes.fill(&mut out[channel * apart + at..][..run])?;
                }
            }
            return Ok(());
        }
        self.piece.resize(PIECE_BYTES / unit * unit, 0);
        let per_piece = self.piece.len() / samples;
        for at in (0..plane).step_by(per_piece) {
            let count = per_piece.min(plane - at);
            let piece = &mut self.piece[..count * samples];
            self.bytes.fill(piece)?;
            let channels = out.chunks_mut(apart).take(samples);
            let mut parts: Vec<_> = channels.map(|c| &mut c[at..][..count]).collect();
            voxels::split_runs(piece, &mut parts, run);
        }
        Ok(())
    }
}

impl VoxelStream for RasterStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let RasterLayout { size: [_, y, x], dtype, order, samples, .. } = self.layout;
        let plane = y * x * dtype.size();
        assert_eq!(out.len(), samples * steps * plane, "a buffer of {steps} steps");
        if samples == 1 {
            self.bytes.fill(out)?;
        } else {
            for z in 0..steps {
                self.read_step(&mut out[z * plane..], steps * plane)?;
            }
        }
        if order == ByteOrder::Big {
            voxels::swap(out, dtype.size());
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        let BytesEnd { sha256, file_bytes, trailer } = self.bytes.end()?;
        let origin = (self.footer)(trailer.as_deref());
        Ok(SourceDigest { sha256, bytes: file_bytes, origin })
    }
}
