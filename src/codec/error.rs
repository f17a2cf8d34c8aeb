//! Describes why a chunk does not decode.

use super::header::HEADER_BYTES;
use crate::format::array::Compressor;

/// Why a chunk does not decode; the caller adds the path and the chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Memory that could not be allocated: the bytes may be in order.
    #[error("not enough memory to decode it: {bytes} bytes")]
    OutOfMemory {
        /// The bytes that were asked for.
        bytes: usize,
    },
    /// An uncompressed chunk of a wrong length.
    #[error("{found} bytes, expected {expected}")]
    RawLength {
        /// Bytes of the chunk.
        found: usize,
        /// Bytes of its voxels.
        expected: usize,
    },
    /// Fewer bytes than a frame's header.
    #[error("frame of {found} bytes, expected a blosc header of {HEADER_BYTES}")]
    NoHeader {
        /// Bytes of the frame.
        found: usize,
    },
    /// A header field that contradicts the array's metadata or the frame's length.
    #[error("blosc {field} is {found}, expected {expected}")]
    HeaderField {
        /// Name of the field in the Blosc 1 specification.
        field: &'static str,
        /// The field's value.
        found: usize,
        /// The only valid value.
        expected: usize,
    },
    /// A block size that is zero, larger than the chunk, or no whole number of elements.
    #[error(
        "blosc blocksize is {found}, expected a multiple of typesize {typesize} from {typesize} \
         to {nbytes}"
    )]
    BlockSize {
        /// The field's value.
        found: usize,
        /// Bytes of an element.
        typesize: usize,
        /// Decoded bytes of the frame.
        nbytes: usize,
    },
    /// A frame that ends within its block table.
    #[error("blosc frame of {found} bytes ends within its block table, which needs {expected}")]
    BlockTable {
        /// Bytes of the frame.
        found: usize,
        /// Bytes of the header and the table.
        expected: usize,
    },
    /// Flags that this profile does not have.
    #[error("blosc flags {flags:#04x} {reason}")]
    Flags {
        /// The header's flags.
        flags: u8,
        /// Which rule they break.
        reason: &'static str,
    },
    /// A compressor that this profile does not have.
    #[error("blosc compressor {found} is outside the profile (1 = LZ4, 4 = Zstandard)")]
    UnknownCompressor {
        /// The compressor's code in the header's flags.
        found: u8,
    },
    /// A stream that reaches beyond the frame.
    #[error("block {block}: the stream at byte {at} reaches beyond the frame of {frame} bytes")]
    StreamBounds {
        /// Number of the block.
        block: usize,
        /// Where the stream begins in the frame.
        at: usize,
        /// Bytes of the frame.
        frame: usize,
    },
    /// A stream that is damaged, or decodes to another length.
    #[error(
        "block {block}: a {compressor:?} stream of {found} bytes does not decode to {expected} \
         bytes"
    )]
    Stream {
        /// Number of the block.
        block: usize,
        /// The compressor of the frame.
        compressor: Compressor,
        /// Bytes of the stream.
        found: usize,
        /// Bytes that it must decode to.
        expected: usize,
    },
}
