//! The journal of unfinished work, by continuing that work.

use std::cell::LazyCell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use voxquarry::format::array::{ArrayLayout, ChunkCodec};
use voxquarry::format::attributes::Kind;
use voxquarry::{ChunkedVolumeWriter, Dtype, Region, Result, Resume, StoreWriter, VolumeSpec};
use voxquarry::{Volume, verify};

use crate::input::Input;
use crate::scratch;

/// Two shards of one chunk.
const SIZE: [usize; 3] = [4, 4, 8];

/// Work of which one shard is written.
struct Unfinished {
    folder: TempDir,
    /// The name of its folder in a store.
    name: PathBuf,
    journal: Vec<u8>,
}

impl Unfinished {
    fn new() -> Self {
        let folder = scratch::folder();
        let store = folder.path().join("begun");
        let begun = begin(&store).expect("work can be begun");
        put(&begun, 0..1).expect("a shard can be written");
        drop(begun);
        let mut kept = fs::read_dir(store.join(".voxquarry-partial")).expect("work stays");
        let kept = kept.next().expect("work stays").expect("the folder can be listed");
        let journal = fs::read(kept.path().join("journal")).expect("work has a journal");
        Self { folder, name: Path::new(".voxquarry-partial").join(kept.file_name()), journal }
    }

    /// Continues the work as a journal of these bytes says.
    fn resume(&self, journal: &[u8]) -> Result<Volume> {
        let store = self.store();
        // The first run finds none.
        let _ = fs::remove_dir_all(&store);
        scratch::copy(&self.folder.path().join("begun"), &store);
        scratch::write(&store.join(&self.name).join("journal"), journal);
        let begun = begin(&store)?;
        put(&begun, 0..2)?;
        begun.publish()
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }
}

/// The bytes as a journal, a changed journal, or changed records with checksums that are right.
/// Unless somebody forged a checksum, what is published is whole.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static UNFINISHED: LazyCell<Unfinished> = LazyCell::new(Unfinished::new);
    }
    UNFINISHED.with(|unfinished| {
        let mut input = Input(data);
        let (form, mut journal) = (input.below(3), unfinished.journal.clone());
        match form {
            0 => journal = input.0.to_vec(),
            1 => {
                let edits = input.below(4);
                input.edit(edits, &mut journal);
                journal.extend_from_slice(input.0);
            }
            _ => {
                // Eight digits and a space before the record, a newline behind it.
                let mut record = journal[9..journal.len() - 1].to_vec();
                let edits = input.below(4);
                input.edit(edits, &mut record);
                record.extend_from_slice(input.0);
                journal = format!("{:08x} ", crc32c::crc32c(&record)).into_bytes();
                journal.extend_from_slice(&record);
                journal.push(b'\n');
            }
        }
        if unfinished.resume(&journal).is_ok() && form != 2 {
            let report = verify(&unfinished.store(), &mut |_| Ok(())).expect("it was published");
            assert!(report.errors.is_empty(), "{:?}", report.errors);
        }
    });
}

fn begin(store: &Path) -> Result<ChunkedVolumeWriter> {
    let layout = ArrayLayout {
        channels: None,
        size: SIZE,
        dtype: Dtype::UInt8,
        chunk: [4; 3],
        shard: [4, 4, 4],
        codec: ChunkCodec::Raw,
    };
    let spec = VolumeSpec::new("v", Kind::Labels, layout).weight_sums();
    StoreWriter::open(store, Some(1))?.add_volume("s", spec, &Resume::With(String::new()))
}

/// Puts some of the chunks.
fn put(volume: &ChunkedVolumeWriter, chunks: Range<usize>) -> Result<()> {
    let voxels: Vec<u8> = (0..SIZE.iter().product()).map(|i: usize| (i % 5) as u8).collect();
    for number in chunks {
        volume.put_chunk(&Region::whole(SIZE), &[&voxels], number)?;
    }
    Ok(())
}
