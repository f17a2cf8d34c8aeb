//! Metadata documents: of a dataset, a subject, a volume and an array.

use serde_json::{Value, json};
use voxquarry::format::array::{ArrayLayout, ChunkCodec};
use voxquarry::format::attributes::{VolumeAttributes, check_features, check_version};
use voxquarry::format::attributes::{parse_splits, parse_subject, parse_subjects, subject};
use voxquarry::format::document::{Document, group};
use voxquarry::format::grid::{ChunkId, ShardId};
use voxquarry::format::{check_name, limits};
use voxquarry::{Region, Result};

/// Parses the bytes as every kind of document; what parses means the same once written again.
pub(crate) fn run(data: &[u8]) {
    let Ok(document) = Document::parse("zarr.json".into(), data.to_vec()) else { return };
    let _ = document.check_seal();
    if let Ok(layout) = ArrayLayout::parse(&document) {
        check_layout(&layout);
    }
    let Ok(node) = document.voxquarry() else { return };
    let _ = (check_version(&node, "dataset"), check_features(&node, "writer"));
    if let Ok(Some(subjects)) = parse_subjects(&node) {
        assert!(subjects.is_sorted_by(|a, b| a < b));
        assert!(subjects.iter().all(|name| check_name("subject", name).is_ok()));
    }
    if let Ok(attributes) = VolumeAttributes::parse(&node) {
        let written = group(json!({ "voxquarry": attributes.to_json() }));
        let again = parse(&written).expect("it was written by us");
        let node = again.voxquarry().expect("it was written by us");
        assert_eq!(VolumeAttributes::parse(&node).ok(), Some(attributes));
    }
    let Ok(name) = node.string("name") else { return };
    if let (Ok(volumes), Ok(splits)) = (parse_subject(&node, name), parse_splits(&node)) {
        let again = parse(&group(subject(name, &volumes, &splits))).expect("it was written by us");
        let node = again.voxquarry().expect("it was written by us");
        assert!(parse_subject(&node, "another").is_err() || name == "another");
        assert_eq!(parse_subject(&node, name).ok(), Some(volumes));
        assert_eq!(parse_splits(&node).ok(), Some(splits));
    }
}

fn parse(document: &Value) -> Result<Document> {
    let text = serde_json::to_vec(document).expect("a JSON tree serialises");
    Document::parse("zarr.json".into(), text)
}

/// A valid layout keeps its limits, survives writing, and locates its first and last chunk.
fn check_layout(layout: &ArrayLayout) {
    let mut expected = layout.clone();
    if let ChunkCodec::Blosc(blosc) = &mut expected.codec {
        blosc.level = blosc.level.clamp(0, 9);
    }
    let again = parse(&layout.to_json()).expect("it was written by us");
    assert_eq!(ArrayLayout::parse(&again).ok(), Some(expected));
    assert!(layout.chunk_bytes() <= limits::CHUNK_BYTES);
    assert!(layout.shard_chunks().iter().product::<usize>() <= limits::SHARD_CHUNKS);
    assert!(layout.chunk_count() <= limits::VOLUME_VOXELS);
    let whole = layout.chunks_meeting(&Region::whole(layout.size));
    let last = [0, 1, 2].map(|a| whole[a].end - 1);
    assert_eq!(last, layout.chunk_grid().map(|n| n - 1));
    for (channel, at) in [(0, [0; 3]), (layout.channel_count() - 1, last)] {
        let chunk = ChunkId { channel, at };
        assert!(layout.chunk_index(chunk) < layout.chunk_count());
        assert!(!layout.chunk_region(at).is_empty());
        let (shard, slot) = layout.shard_of(chunk);
        assert_eq!(layout.chunk_in(shard, slot), chunk);
        assert_eq!(layout.shard_at(layout.shard_number(shard)), shard);
        assert!((layout.shard_number(shard) as u64) < layout.shard_count());
        assert!(layout.shard_key(shard).starts_with("c/"));
        let cells = layout.shard_cells(ShardId { channel, at: shard.at });
        assert!((0..3).all(|a| cells[a].contains(&at[a])));
    }
}
