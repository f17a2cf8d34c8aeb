//! Names the fields and flags of a Blosc 1 frame's header (§6 of the specification).

/// Header bytes before the block table.
pub const HEADER_BYTES: usize = 16;

/// Version of the frame format.
pub(super) const VERSION: u8 = 2;

/// Version of the compressors' formats.
pub(super) const VERSION_LZ: u8 = 1;

/// Bits of `flags`.
pub(super) mod flag {
    pub(in crate::codec) const SHUFFLE: u8 = 0x01;
    pub(in crate::codec) const MEMCPYED: u8 = 0x02;
    pub(in crate::codec) const BITSHUFFLE: u8 = 0x04;
    pub(in crate::codec) const RESERVED: u8 = 0x08;
    pub(in crate::codec) const UNSPLIT: u8 = 0x10;
    pub(in crate::codec) const FORMAT_SHIFT: u8 = 5;
}

/// Longest element whose blocks are split into streams.
const SPLIT_TYPESIZE: usize = 16;

/// Fewest elements of a block that is split into streams.
const SPLIT_ELEMENTS: usize = 128;

/// Whether a full block of that size is split into one stream for each byte of the type.
pub(super) fn splits(unsplit: bool, typesize: usize, block_bytes: usize) -> bool {
    !unsplit && typesize <= SPLIT_TYPESIZE && block_bytes / typesize >= SPLIT_ELEMENTS
}
