//! Holds the buffers and the Zstandard context that one thread decodes with.

use super::constant::LastConstant;

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
pub(super) fn grown(buffer: &mut Vec<u8>, bytes: usize) -> &mut [u8] {
    if buffer.len() < bytes {
        buffer.resize(bytes, 0);
    }
    &mut buffer[..bytes]
}
