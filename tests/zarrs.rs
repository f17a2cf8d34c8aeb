//! The zarrs crate, which knows nothing of us, sees the same voxels in our stores.

#[allow(unreachable_pub)]
mod common;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use common::{Plain, write};
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::Codec;
use voxquarry::{Dataset, Dtype, OpenOptions};
use zarrs::array::{Array, ArrayBytes, ArraySubset};
use zarrs::filesystem::FilesystemStore;
use zarrs::group::Group;
use zarrs::node::Node;

#[path = "golden/voxels.rs"]
#[allow(unreachable_pub)]
mod voxels;

fn open(store: &Path, array: &str) -> Array<FilesystemStore> {
    Array::open(Arc::new(FilesystemStore::new(store).unwrap()), array).unwrap()
}

fn bytes(array: &Array<FilesystemStore>, subset: &ArraySubset) -> Vec<u8> {
    let bytes: ArrayBytes<'_> = array.retrieve_array_subset(subset).unwrap();
    bytes.into_fixed().unwrap().into_owned()
}

/// A box of a plain volume, cut out voxel by voxel.
fn cut(plain: &Plain, channels: Range<usize>, [z, y, x]: [Range<usize>; 3]) -> Vec<u8> {
    let mut out = Vec::new();
    for c in channels {
        for z in z.clone() {
            for y in y.clone() {
                x.clone().for_each(|x| out.extend_from_slice(plain.voxel(c, [z, y, x])));
            }
        }
    }
    out
}

#[test]
fn every_dtype_codec_and_channel_count() {
    let folder = tempfile::tempdir().unwrap();
    for (n, dtype) in Dtype::ALL.into_iter().enumerate() {
        for codec in [Codec::Fast, Codec::Compact, Codec::None] {
            for channels in [None, Some(1), Some(3)] {
                let plain = Plain::new(channels, [37, 45, 70], dtype, n as u64);
                write(folder.path(), "s", "v", &plain, Kind::Image, codec, [32, 48, 64]);
                let array = open(folder.path(), "/s/v/0");
                let context = format!("{dtype} {codec:?} {channels:?}");

                let shape: Vec<u64> =
                    channels.into_iter().chain(plain.size).map(|n| n as u64).collect();
                assert_eq!(array.shape(), shape, "{context}");
                assert!(bytes(&array, &array.subset_all()) == plain.bytes, "{context}");
                let names: Vec<_> = array
                    .dimension_names()
                    .iter()
                    .flatten()
                    .flatten()
                    .map(String::as_str)
                    .collect();
                assert_eq!(names, ["c", "z", "y", "x"][4 - shape.len()..], "{context}");

                let part = [5..37, 7..40, 13..70];
                let ranges = part.clone().map(|r| r.start as u64..r.end as u64);
                let subset: Vec<_> = channels.map(|_| 0..1).into_iter().chain(ranges).collect();
                let found = bytes(&array, &ArraySubset::new_with_ranges(&subset));
                assert!(found == cut(&plain, 0..1, part), "{context}");
            }
        }
    }
}

#[test]
fn golden_voxels() {
    let store = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/golden/v1"));
    for golden in voxels::v1() {
        let array = open(store, &format!("/{}/{}/0", golden.subject, golden.name));
        let found = bytes(&array, &array.subset_all());
        assert!(found == golden.bytes(), "{} {}", golden.subject, golden.name);
    }
}

#[test]
fn groups_and_label_counts() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(Some(2), [40, 41, 42], Dtype::Int32, 9);
    write(folder.path(), "s", "v", &plain, Kind::Labels, Codec::Fast, [32, 32, 32]);
    let store = Arc::new(FilesystemStore::new(folder.path()).unwrap());
    for group in ["/", "/s", "/s/v", "/s/v/summary"] {
        Group::open(store.clone(), group).unwrap();
    }
    let node = Node::open(&store, "/s/v").unwrap();
    let mut children: Vec<_> = node.children().iter().map(|n| n.path().as_str()).collect();
    children.sort_unstable();
    assert_eq!(children, ["/s/v/0", "/s/v/nifti", "/s/v/shards", "/s/v/summary"]);

    let summary = |name: &str| open(folder.path(), &format!("/s/v/summary/{name}"));
    let [offsets, labels, counts] = ["offsets", "labels", "counts"].map(summary);
    let offsets: Vec<u64> = offsets.retrieve_array_subset(&offsets.subset_all()).unwrap();
    let labels: Vec<i64> = labels.retrieve_array_subset(&labels.subset_all()).unwrap();
    let counts: Vec<u32> = counts.retrieve_array_subset(&counts.subset_all()).unwrap();
    let dataset = Dataset::open(folder.path(), &OpenOptions::default()).unwrap();
    let volume = dataset.subject("s").unwrap().volume("v").unwrap();
    let ours = volume.label_counts().unwrap();
    assert_eq!(offsets.len(), ours.chunks() + 1);
    for chunk in 0..ours.chunks() {
        let entries = offsets[chunk] as usize..offsets[chunk + 1] as usize;
        let theirs = entries.map(|i| (labels[i], counts[i]));
        assert!(ours.chunk(chunk).eq(theirs), "chunk {chunk}");
    }
    assert!(!labels.is_empty());
}
