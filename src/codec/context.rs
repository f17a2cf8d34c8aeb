//! Holds the buffers and the Zstandard context that one thread decodes with.

use super::constant::LastConstant;
use super::error::DecodeError;

/// More than a Zstandard context for decoding takes.
const ZSTD_BYTES: usize = 256 << 10;

/// The buffers and the Zstandard context of one decoding thread.
#[derive(Default)]
pub struct DecodeContext {
    /// Decompressed streams of the current block.
    pub(super) streams: Vec<u8>,
    /// Unshuffled elements of the current block.
    pub(super) joined: Vec<u8>,
    /// Concatenated streams of an unshuffled block.
    pub(super) unsplit: Vec<u8>,
    pub(super) zstd: Option<zstd_safe::DCtx<'static>>,
    pub(super) constant: LastConstant,
}

impl DecodeContext {
    /// An empty context; its buffers grow to the size of a block on first use.
    pub const fn new() -> Self {
        Self {
            streams: Vec::new(),
            joined: Vec::new(),
            unsplit: Vec::new(),
            zstd: None,
            constant: LastConstant::new(),
        }
    }
}

/// The first `bytes` of a buffer, which grows if it is shorter.
///
/// # Errors
/// [`DecodeError::OutOfMemory`].
pub(super) fn grown(buffer: &mut Vec<u8>, bytes: usize) -> Result<&mut [u8], DecodeError> {
    if buffer.len() < bytes {
        let missing = bytes - buffer.len();
        buffer.try_reserve(missing).map_err(|_| DecodeError::OutOfMemory { bytes })?;
        buffer.resize(bytes, 0);
    }
    Ok(&mut buffer[..bytes])
}

/// The Zstandard context in `place`, made at first use.
///
/// # Errors
/// [`DecodeError::OutOfMemory`].
pub(super) fn zstd_decoder<'a>(
    place: &'a mut Option<zstd_safe::DCtx<'static>>,
) -> Result<&'a mut zstd_safe::DCtx<'static>, DecodeError> {
    if place.is_none() {
        *place = zstd_safe::DCtx::try_create();
    }
    place.as_mut().ok_or(DecodeError::OutOfMemory { bytes: ZSTD_BYTES })
}
