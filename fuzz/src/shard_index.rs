//! Indices of shards, with a checksum that is right.

use std::path::Path;

use voxquarry::format::index::{ShardIndex, index_bytes, tail_bytes};

use crate::input::Input;

/// The number of chunks, the bytes before the index, and the index. Every range that is accepted
/// lies before the index.
pub(crate) fn run(data: &[u8]) {
    let mut input = Input(data);
    let chunks = 1 + input.below(64);
    let is_sealed = input.byte() & 7 != 0;
    let data_bytes = input.u64() >> (input.byte() % 64);
    let mut tail = input.take(tail_bytes(chunks)).to_vec();
    tail.resize(tail_bytes(chunks), 0);
    if is_sealed {
        let checksum = tail.len() - 4;
        let entries = checksum + 4 - index_bytes(chunks)..checksum;
        let crc32c = crc32c::crc32c(&tail[entries]);
        tail[checksum..].copy_from_slice(&crc32c.to_le_bytes());
    }
    let path = Path::new("c/0/0/0");
    let Some(file_bytes) = data_bytes.checked_add(tail.len() as u64) else { return };
    let Ok(index) = ShardIndex::parse(path, &tail, file_bytes) else { return };
    assert_eq!(index.slots(), chunks);
    assert_ne!(index.identity().value(), 0);
    let mut ranges: Vec<_> = (0..chunks).filter_map(|slot| index.range(slot)).collect();
    assert!(ranges.iter().all(|range| range.start < range.end && range.end <= data_bytes));
    ranges.sort_by_key(|range| range.start);
    let is_disjoint = ranges.windows(2).all(|pair| pair[0].end <= pair[1].start);
    assert_eq!(index.check_disjoint(path).is_ok(), is_disjoint);
}
