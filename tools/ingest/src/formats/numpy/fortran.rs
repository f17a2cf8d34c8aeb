//! Gathers z steps of an array whose first axis is fastest, so that no step is contiguous: every
//! layer takes one pass over the bytes.
//!
//! # Invariants
//! - Memory is a piece of the file beside the caller's buffer, whatever the array's size.
//! - All passes see the same bytes, by their digest.

use std::path::{Path, PathBuf};

use voxquarry::{Error, Result};

use crate::formats::format::OpenedVolume;
use crate::formats::raster::{BytesEnd, VoxelBytes};
use crate::formats::voxels;
use crate::formats::voxels::ByteOrder;
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

/// Bytes of a piece, if the elements along z are not more.
const PIECE_BYTES: usize = 1 << 20;

/// Opens the bytes of the array anew.
type Reopen = Box<dyn Fn() -> Result<Box<dyn VoxelBytes>> + Send>;

/// An array `(z, y, x)` or `(c, z, y, x)` in Fortran order.
pub(super) struct OpenedFortran {
    path: PathBuf,
    volume: SourceVolume,
    order: ByteOrder,
    reopen: Reopen,
    notes: Vec<String>,
}

impl OpenedFortran {
    pub(super) fn new(
        path: &Path,
        volume: SourceVolume,
        order: ByteOrder,
        reopen: Reopen,
        notes: Vec<String>,
    ) -> Self {
        Self { path: path.to_owned(), volume, order, reopen, notes }
    }

    /// Bytes of the elements that differ in z and channel only, which lie together.
    fn unit_bytes(&self) -> usize {
        self.volume.size[0] * self.volume.interleaved * self.volume.dtype.size()
    }
}

impl OpenedVolume for OpenedFortran {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        // A piece, and the buffer and decoder of a second pass.
        self.unit_bytes().max(PIECE_BYTES) as u64 + (2 << 20)
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        Ok(Box::new(FortranStream { opened: *self, z: 0, first: None, piece: Vec::new() }))
    }
}

struct FortranStream {
    opened: OpenedFortran,
    /// The next z step.
    z: usize,
    /// What the end of the first pass told.
    first: Option<BytesEnd>,
    piece: Vec<u8>,
}

impl FortranStream {
    fn reserve_piece(&mut self, unit: usize) -> Result<()> {
        let bytes = (PIECE_BYTES / unit).max(1) * unit;
        if self.piece.len() < bytes {
            let what = || "the elements along the first axis".to_owned();
            let lacking = |_| Error::OutOfMemory { what: what(), bytes: bytes as u64 };
            self.piece.try_reserve_exact(bytes).map_err(lacking)?;
            self.piece.resize(bytes, 0);
        }
        Ok(())
    }
}

impl VoxelStream for FortranStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let unit = self.opened.unit_bytes();
        self.reserve_piece(unit)?;
        let SourceVolume { size: [_, y, x], interleaved, dtype, .. } = self.opened.volume;
        assert_eq!(out.len(), interleaved * steps * y * x * dtype.size(), "{steps} steps");
        let mut bytes = (self.opened.reopen)()?;
        let (mut done, columns) = (0, x * y);
        while done < columns {
            let count = (self.piece.len() / unit).min(columns - done);
            let piece = &mut self.piece[..count * unit];
            bytes.fill(piece)?;
            let gather =
                Gather { z: self.z, steps, channels: interleaved, rows: y, columns: x, done };
            match dtype.size() {
                1 => gather.scatter::<1>(piece, unit, out),
                2 => gather.scatter::<2>(piece, unit, out),
                4 => gather.scatter::<4>(piece, unit, out),
                _ => gather.scatter::<8>(piece, unit, out),
            }
            done += count;
        }
        if self.opened.order == ByteOrder::Big {
            voxels::swap(out, dtype.size());
        }
        let end = bytes.end()?;
        match &self.first {
            Some(first) if first.sha256 != end.sha256 => {
                let message = "it changed while it was being ingested: run the ingest again";
                return Err(Error::data(&self.opened.path, message));
            }
            Some(_) => {}
            None => self.first = Some(end),
        }
        self.z += steps;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        let BytesEnd { sha256, file_bytes, .. } = self.first.unwrap_or_default();
        Ok(SourceDigest { sha256, bytes: file_bytes, origin: serde_json::Map::new() })
    }
}

/// Which elements of a piece go where.
struct Gather {
    /// The first z step that is wanted, and how many.
    z: usize,
    steps: usize,
    channels: usize,
    /// Extents along y and x.
    rows: usize,
    columns: usize,
    /// Units before the piece; y is faster than x.
    done: usize,
}

impl Gather {
    fn scatter<const N: usize>(&self, piece: &[u8], unit: usize, out: &mut [u8]) {
        let (elements, out) = (piece.as_chunks::<N>().0, out.as_chunks_mut::<N>().0);
        let plane = self.rows * self.columns;
        for (i, column) in elements.chunks_exact(unit / N).enumerate() {
            let at = self.done + i;
            let place = at % self.rows * self.columns + at / self.rows;
            let wanted = &column[self.z * self.channels..][..self.steps * self.channels];
            for (k, element) in wanted.iter().enumerate() {
                let (step, channel) = (k / self.channels, k % self.channels);
                out[(channel * self.steps + step) * plane + place] = *element;
            }
        }
    }
}
