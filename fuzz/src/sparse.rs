//! Volumes of any extents that the limits allow, without a single shard: they read as zeros.

use std::cell::LazyCell;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;
use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::{self, DocumentChecksums, VolumeList};
use voxquarry::format::document;
use voxquarry::format::limits::SUMMARY_CHUNK;
use voxquarry::{Access, Dataset, OpenOptions, Padding, Result, Volume};

use crate::input::Input;
use crate::{region, scratch};

/// More shards are not listed: the list would take longer than the read.
const MAX_SHARDS: u64 = SUMMARY_CHUNK as u64;

/// A layout with extents of up to 2⁶³, and the places of patches of up to 32 voxels a side.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<TempDir> = LazyCell::new(|| {
            let folder = scratch::folder();
            let golden = scratch::golden("v1");
            scratch::copy(&golden.join("zarr.json"), &folder.path().join("zarr.json"));
            scratch::copy(&golden.join("grid/f32"), &folder.path().join("s/v"));
            folder
        });
    }
    let mut input = Input(data);
    let mut layout = region::layout(&mut input);
    let extents = layout.size.iter_mut().chain(&mut layout.chunk).chain(&mut layout.shard);
    for extent in extents {
        *extent = (input.u64() >> (input.byte() % 64)) as usize;
    }
    for (shard, chunk) in layout.shard.iter_mut().zip(layout.chunk) {
        *shard = shard.wrapping_mul(chunk);
    }
    if layout.validate().is_err() || layout.shard_count() > MAX_SHARDS {
        return;
    }
    FOLDER.with(|folder| {
        list(folder.path(), &layout).expect("the scratch folder takes the documents");
        let volume = open(folder.path()).expect("a layout that is valid can be opened");
        let padding = [Padding::None, Padding::Constant(0.0), Padding::Edge, Padding::Reflect];
        for _ in 0..=input.below(4) {
            let size = [0; 3].map(|_| 1 + input.below(32));
            let start = [0, 1, 2].map(|a| match input.below(3) {
                0 => (layout.size[a] as i64).saturating_sub(i64::from(input.byte() % 64)),
                1 => i64::from(input.byte()),
                _ => input.u64() as i64,
            });
            let padding = padding[input.below(4)];
            let mut out = vec![0xa5; size.iter().product::<usize>() * layout.dtype.size()];
            if volume.read_bytes(&[start], size, padding, 0..1, &mut out).is_ok() {
                assert!(out.iter().all(|&byte| byte == 0), "a voxel that nobody wrote");
            }
        }
    });
}

/// Makes the volume one of `layout` that has no shards.
fn list(store: &Path, layout: &ArrayLayout) -> Result<()> {
    let volume = store.join("s/v");
    let level_crc32c = document::write(&volume.join("0"), &layout.to_json())?;
    let shards = layout.shard_count();
    let chunk = scratch::sealed(&scratch::zstd(&vec![0; 8 * SUMMARY_CHUNK]));
    scratch::write(&volume.join("shards/c/0"), &chunk);
    edit(&volume.join("shards"), "/shape", json!([shards]))?;
    let voxels: usize = layout.shape().iter().product();
    let ours = "/attributes/voxquarry";
    edit(&volume, &format!("{ours}/statistics/voxels"), json!(voxels))?;
    let crc32c = crc32c::crc32c(&vec![0; 8 * shards as usize]);
    edit(&volume, &format!("{ours}/shards_crc32c"), json!(crc32c))?;
    let group_crc32c = edit(&volume, &format!("{ours}/shard_files"), json!(0))?;
    let checksums = DocumentChecksums { group_crc32c, level_crc32c };
    let listed = VolumeList::from([("v".to_owned(), checksums)]);
    document::write_sealed(&store.join("s"), attributes::subject("s", &listed, &[]))
}

/// Changes one value of a document; the document's checksum.
fn edit(folder: &Path, pointer: &str, value: Value) -> Result<u32> {
    let text = fs::read(folder.join(document::ZARR_JSON)).expect("it was copied");
    let mut tree: Value = serde_json::from_slice(&text).expect("it is a document");
    *tree.pointer_mut(pointer).expect("a value to change") = value;
    document::write(folder, &tree)
}

fn open(store: &Path) -> Result<Volume> {
    let options = OpenOptions::default().threads(1).access(Access::Map);
    Dataset::open(store, &options)?.subject("s")?.volume("v")
}
