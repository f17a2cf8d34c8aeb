//! The indices of shards: where the chunks in a shard's file lie.
//!
//! # Invariants
//! - Every range lies in the file that it was read from, and is that of the file as it is now.
//! - At most [`KEPT`] indices of [`KEPT_BYTES`] together are kept.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::num::NonZeroU64;
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::{Arc, Mutex};

use zarrs::array::codec::{ShardingCodec, ShardingCodecConfiguration, ShardingIndexLocation};
use zarrs::array::{CodecChain, CodecMetadataOptions, DataType, FillValue, data_type};
use zarrs::metadata::ConfigurationSerialize;
use zarrs::plugin::ZarrVersion;

use super::codecs::ChunkCodecs;

const KEPT: usize = 256;
const KEPT_BYTES: usize = 64 << 20;

/// How the chunks of an array lie in its shards.
#[derive(Debug)]
pub(super) struct Sharding {
    /// The codecs of a chunk.
    pub(super) codecs: ChunkCodecs,
    /// Chunks of a shard along each axis of the array.
    each: Vec<u64>,
    index: ChunkCodecs,
    index_bytes: u64,
    is_at_end: bool,
    kept: Mutex<VecDeque<KeptIndex>>,
}

#[derive(Debug)]
struct KeptIndex {
    shard: Vec<u64>,
    file: FileIdentity,
    ranges: Arc<Vec<[u64; 2]>>,
}

/// Device, number, length and time of change of a file.
type FileIdentity = [i128; 4];

impl Sharding {
    /// The sharding of `chain`, whose shards have `shard` elements; `None` if it has none, or if
    /// other codecs work on whole shards.
    ///
    /// # Errors
    /// A message about a configuration that makes no sense.
    pub(super) fn of(
        chain: &CodecChain,
        shard: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        element_bytes: usize,
    ) -> Result<Option<Self>, String> {
        let codec = chain.array_to_bytes_codec();
        let is_alone =
            chain.array_to_array_codecs().is_empty() && chain.bytes_to_bytes_codecs().is_empty();
        if !is_alone || !codec.as_any().is::<ShardingCodec>() {
            return Ok(None);
        }
        let stated = codec.configuration(ZarrVersion::V3, &CodecMetadataOptions::default());
        let stated = stated.ok_or("its sharding has no configuration")?;
        let stated = ShardingCodecConfiguration::try_from_configuration(stated);
        let ShardingCodecConfiguration::V1(stated) = stated.map_err(|e| e.to_string())? else {
            return Err("its sharding is of an unknown version".to_owned());
        };
        let chunk = &stated.chunk_shape;
        let is_part = |(n, m): (&NonZeroU64, &NonZeroU64)| n.get().is_multiple_of(m.get());
        if chunk.len() != shard.len() || !shard.iter().zip(chunk).all(is_part) {
            return Err(format!("its shards {shard:?} are no multiples of its chunks {chunk:?}"));
        }
        let each: Vec<u64> = shard.iter().zip(chunk).map(|(n, m)| n.get() / m.get()).collect();
        let two = NonZeroU64::new(2).expect("two is not zero");
        let counts = each.iter().filter_map(|&n| NonZeroU64::new(n)).chain([two]);
        let chain_of = |codecs: &[_]| CodecChain::from_metadata(codecs).map_err(|e| e.to_string());
        let index = ChunkCodecs::new(
            &chain_of(&stated.index_codecs)?,
            &counts.collect::<Vec<_>>(),
            &data_type::uint64(),
            &FillValue::from(u64::MAX),
            size_of::<u64>(),
        )?;
        let index_bytes = index.fixed_bytes().ok_or("the length of its shards' index varies")?;
        let inner = chain_of(&stated.codecs)?;
        let codecs = ChunkCodecs::new(&inner, chunk, data_type, fill_value, element_bytes)?;
        let is_at_end = stated.index_location == ShardingIndexLocation::End;
        Ok(Some(Self { codecs, each, index, index_bytes, is_at_end, kept: Mutex::default() }))
    }

    /// The shard of a chunk, and the chunk's number in it.
    pub(super) fn place(&self, chunk: &[usize]) -> (Vec<u64>, usize) {
        let pairs = || chunk.iter().zip(&self.each).map(|(&n, &each)| (n as u64, each));
        let slot = pairs().fold(0, |slot, (n, each)| slot * each + n % each);
        (pairs().map(|(n, each)| n / each).collect(), slot as usize)
    }

    /// The bytes of a chunk in the file of its shard, which has `length` bytes; `None` if the chunk
    /// is not there.
    ///
    /// # Errors
    /// Those of reading; [`io::ErrorKind::InvalidData`] for an index that is damaged.
    pub(super) fn range(
        &self,
        shard: &[u64],
        slot: usize,
        (file, length): (&File, u64),
    ) -> io::Result<Option<Range<u64>>> {
        let metadata = file.metadata()?;
        let identity = [
            metadata.dev().into(),
            metadata.ino().into(),
            length.into(),
            i128::from(metadata.mtime()) << 32 | i128::from(metadata.mtime_nsec()),
        ];
        let ranges = match self.kept_index(shard, identity) {
            Some(ranges) => ranges,
            None => self.read_index(shard, identity, (file, length))?,
        };
        let [offset, bytes] = ranges[slot];
        if offset == u64::MAX && bytes == u64::MAX {
            return Ok(None);
        }
        match offset.checked_add(bytes).filter(|&end| end <= length) {
            Some(end) => Ok(Some(offset..end)),
            None => Err(damaged(format!(
                "the index places chunk {slot} at byte {offset}, {bytes} long, in a file of \
                 {length}"
            ))),
        }
    }

    fn kept_index(&self, shard: &[u64], identity: FileIdentity) -> Option<Arc<Vec<[u64; 2]>>> {
        // A lock that a forked child has inherited may stay locked for ever.
        let mut kept = self.kept.try_lock().ok()?;
        let at = kept.iter().position(|index| index.shard == shard && index.file == identity)?;
        let index = kept.remove(at)?;
        let ranges = index.ranges.clone();
        kept.push_back(index);
        Some(ranges)
    }

    fn read_index(
        &self,
        shard: &[u64],
        identity: FileIdentity,
        (file, length): (&File, u64),
    ) -> io::Result<Arc<Vec<[u64; 2]>>> {
        let Some(last) = length.checked_sub(self.index_bytes) else {
            let wanted = self.index_bytes;
            return Err(damaged(format!("{length} bytes, of which its index takes {wanted}")));
        };
        let offset = if self.is_at_end { last } else { 0 };
        let encoded = read_range(file, offset..offset + self.index_bytes)?;
        let words = self.index.decode(encoded)?;
        let words = words.as_chunks::<8>().0.iter().map(|word| u64::from_ne_bytes(*word));
        let words: Vec<u64> = words.collect();
        let ranges: Vec<[u64; 2]> = words.as_chunks::<2>().0.to_vec();
        let ranges = Arc::new(ranges);
        if let Ok(mut kept) = self.kept.try_lock() {
            let bytes = |index: &KeptIndex| size_of_val(&**index.ranges);
            kept.retain(|index| index.shard != shard);
            let file = identity;
            kept.push_back(KeptIndex { shard: shard.to_vec(), file, ranges: ranges.clone() });
            while kept.len() > 1
                && (kept.len() > KEPT || kept.iter().map(bytes).sum::<usize>() > KEPT_BYTES)
            {
                kept.pop_front();
            }
        }
        Ok(ranges)
    }
}

/// Some bytes of a file, which has them.
///
/// # Errors
/// Those of reading; [`io::ErrorKind::OutOfMemory`].
pub(super) fn read_range(file: &File, range: Range<u64>) -> io::Result<Vec<u8>> {
    let bytes = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
    let mut read = Vec::new();
    read.try_reserve_exact(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    read.resize(bytes, 0);
    file.read_exact_at(&mut read, range.start)?;
    Ok(read)
}

fn damaged(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
