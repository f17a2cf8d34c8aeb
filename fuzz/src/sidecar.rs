//! The arrays beside a volume: the list of its shards, label counts, weight sums.

use std::cell::LazyCell;
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use voxquarry::format::limits::SUMMARY_CHUNK;
use voxquarry::{Dataset, Epoch, OpenOptions, Padding, Result, WeightedSampler};

use crate::input::Input;
use crate::scratch;

const FOLDERS: [&str; 5] = [
    "grid/labels-i32/shards",
    "grid/labels-i32/summary/offsets",
    "grid/labels-i32/summary/labels",
    "grid/labels-i32/summary/counts",
    "grid/f32/sums",
];

/// A golden store of one label map and one map of weights.
struct Victim {
    folder: TempDir,
    /// The documents and chunks of [`FOLDERS`], as they were.
    files: Vec<(PathBuf, Vec<u8>)>,
}

impl Victim {
    fn new() -> Self {
        let folder = scratch::folder();
        let (labels, sums) = (scratch::golden("v1"), scratch::golden("v1-sums"));
        scratch::copy(&sums, folder.path());
        scratch::copy(&labels.join("grid"), &folder.path().join("grid"));
        scratch::copy(&sums.join("grid/f32"), &folder.path().join("grid/f32"));
        let names = FOLDERS.iter().flat_map(|f| [format!("{f}/zarr.json"), format!("{f}/c/0")]);
        let original = |name: String| {
            let path = folder.path().join(name);
            let bytes = fs::read(&path).expect("the golden store has it");
            (path, bytes)
        };
        let files = names.map(original).collect();
        Self { folder, files }
    }

    fn read(&self) -> Result<()> {
        let options = OpenOptions::default().threads(1);
        let subject = Dataset::open(self.folder.path(), &options)?.subject("grid")?;
        let labels = subject.volume("labels-i32")?;
        if let Ok(counts) = labels.label_counts() {
            let of_chunks = (0..counts.chunks()).flat_map(|chunk| counts.chunk(chunk));
            let sum: u64 = of_chunks.map(|(_, voxels)| u64::from(voxels)).sum();
            assert!(sum <= labels.statistics().voxels);
            assert_eq!(counts.totals().iter().map(|total| total.1).sum::<u64>(), sum);
        }
        let mut out = vec![0; labels.voxels_in(labels.size(), 1)? * labels.dtype().size()];
        let _ = labels.read_bytes(&[[0; 3]], labels.size(), Padding::None, 0..1, &mut out);
        let sampler = WeightedSampler::new([2; 3], "f32")?;
        sampler.locations(&subject, 2, Epoch { seed: 1, epoch: 0 }, 0).map(drop)
    }
}

/// Which file, in which form, and its bytes: a document, a chunk as it is, a sealed chunk, or the
/// numbers of a chunk.
pub(crate) fn run(data: &[u8]) {
    thread_local! {
        static VICTIM: LazyCell<Victim> = LazyCell::new(Victim::new);
    }
    let mut input = Input(data);
    VICTIM.with(|victim| {
        let (path, original) = &victim.files[input.below(victim.files.len())];
        let is_document = path.file_name() == Some(Path::new("zarr.json").as_os_str());
        let bytes = match input.below(4) {
            1 => scratch::sealed(input.0),
            2 if !is_document => {
                let mut numbers = input.0[..input.0.len().min(8 * SUMMARY_CHUNK)].to_vec();
                let width = if path.to_string_lossy().contains("counts") { 4 } else { 8 };
                numbers.resize(width * SUMMARY_CHUNK, 0);
                scratch::sealed(&scratch::zstd(&numbers))
            }
            3 => {
                let mut bytes = original.clone();
                input.edit(8, &mut bytes);
                bytes
            }
            _ => input.0.to_vec(),
        };
        scratch::write(path, &bytes);
        let _ = victim.read();
        scratch::write(path, original);
    });
}
