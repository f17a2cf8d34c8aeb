//! The limits of the format (§10).

/// Bytes of a subject's or volume's name.
pub const NAME_BYTES: usize = 200;
/// Voxels along one axis.
pub const AXIS_VOXELS: u64 = 1 << 40;
/// Voxels of a volume, over all channels.
pub const VOLUME_VOXELS: u64 = 1 << 60;
/// Bytes of a decoded chunk.
pub const CHUNK_BYTES: usize = 16 << 20;
/// Chunks of a shard that a reader accepts.
pub const SHARD_CHUNKS: usize = 1 << 16;
/// Chunks of a shard that a writer makes.
pub const WRITER_SHARD_CHUNKS: usize = 1 << 12;
/// Bytes of a `zarr.json`.
pub const METADATA_BYTES: u64 = 16 << 20;
/// Values of a `zarr.json`: objects, arrays, strings, numbers and literals.
pub const METADATA_VALUES: usize = 1 << 17;
/// Elements of a chunk of a summary array.
pub const SUMMARY_CHUNK: usize = 1 << 16;

/// Each name and value, in the order of the specification's table.
pub const TABLE: [(&str, u64); 9] = [
    ("name_bytes", NAME_BYTES as u64),
    ("axis_voxels", AXIS_VOXELS),
    ("volume_voxels", VOLUME_VOXELS),
    ("chunk_bytes", CHUNK_BYTES as u64),
    ("shard_chunks", SHARD_CHUNKS as u64),
    ("writer_shard_chunks", WRITER_SHARD_CHUNKS as u64),
    ("metadata_bytes", METADATA_BYTES),
    ("metadata_values", METADATA_VALUES as u64),
    ("summary_chunk", SUMMARY_CHUNK as u64),
];
