//! Results that several processes compute, each a part: joined, every file is that of one process.

use std::fs;
use std::path::{Path, PathBuf};

use voxquarry::{
    Affine, AggregateOptions, Aggregator, Error, Finish, Grid, GridSampler, Part, PartSink, Result,
    StoreWriter, Volume,
};

const SIZE: [usize; 3] = [160, 40, 40];
const PLACE: (&str, &str) = ("case", "pred");

fn grid() -> Grid {
    GridSampler::new([16; 3], 8).unwrap().grid(SIZE).unwrap()
}

/// A model's answer: numbers whose sums are rounded.
fn answer(start: [i64; 3], channels: usize) -> Vec<f32> {
    let mut state = start.iter().fold(7u64, |n, &s| n.wrapping_mul(1_000_003) ^ s as u64) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (state >> 40) as f32 * 1e-5 - 80.0
    };
    (0..channels * 16 * 16 * 16).map(|_| next()).collect()
}

fn options(channels: Option<usize>, finish: Finish) -> AggregateOptions {
    AggregateOptions::default().channels(channels).finish(finish).memory_bytes(34 << 20).threads(2)
}

fn begin(store: &Path, options: &AggregateOptions, part: Part) -> Result<Aggregator<PartSink>> {
    let store = StoreWriter::open(store, Some(2))?;
    Aggregator::to_part(grid(), options, None, &store, PLACE, Affine::IDENTITY, part)
}

/// Runs a part; returns how many patches it asked for.
fn run(store: &Path, options: &AggregateOptions, part: Part, channels: usize) -> usize {
    let aggregator = begin(store, options, part).unwrap();
    let needed = aggregator.needed().unwrap();
    for &start in &needed {
        aggregator.add(&answer(start, channels), &[start]).unwrap();
    }
    aggregator.finish().unwrap();
    needed.len()
}

fn finalize(store: &Path) -> Result<Volume> {
    StoreWriter::open(store, Some(2))?.finalize_volume(PLACE.0, PLACE.1)
}

/// The result of one process without parts.
fn alone(store: &Path, options: &AggregateOptions, channels: usize) -> Volume {
    let (writer, affine) = (StoreWriter::open(store, Some(2)).unwrap(), Affine::IDENTITY);
    let all = Aggregator::to_store(grid(), options, None, &writer, PLACE, affine).unwrap();
    for start in grid().starts() {
        all.add(&answer(start, channels), &[start]).unwrap();
    }
    all.finish().unwrap()
}

/// Every file below a folder, and its bytes.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(tree(&path));
        } else {
            found.push((path.clone(), fs::read(&path).unwrap()));
        }
    }
    found.sort();
    found
}

/// As [`tree`], with paths below the folder.
fn files(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let below =
        |(path, bytes): (PathBuf, Vec<u8>)| (path.strip_prefix(store).unwrap().to_owned(), bytes);
    tree(store).into_iter().map(below).collect()
}

fn missing(error: &Error) -> &str {
    match error {
        Error::Incomplete { missing, .. } => missing,
        other => panic!("{other}"),
    }
}

/// Issue 25: parts by any number of processes give the files of one; each patch is asked for by the
/// parts whose voxels it counts for.
#[test]
fn parts_of_every_count_give_the_files_of_one_process() {
    for (channels, finish) in [
        (None, Finish::None),
        (Some(2), Finish::None),
        (Some(3), Finish::Argmax),
        (None, Finish::Threshold(0.0)),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let (options, c) = (options(channels, finish), channels.unwrap_or(1));
        let expected = folder.path().join("alone.zarr");
        let volume = alone(&expected, &options, c);
        let cells: usize = volume.layout().shard_grid().iter().product();
        assert!(cells > 1, "{:?}", volume.layout());
        for count in [1, 2, 3, 5, 40] {
            let store = folder.path().join(format!("{count}.zarr"));
            let parts: Vec<Part> = Part::all(count).unwrap().collect();
            let asked: Vec<usize> =
                parts.iter().rev().map(|&part| run(&store, &options, part, c)).collect();
            assert!(!store.join("zarr.json").exists(), "nothing is visible before the end");
            let joined = finalize(&store).unwrap();
            assert_eq!(joined.statistics(), volume.statistics());
            assert!(files(&store) == files(&expected), "{count} parts, {channels:?} {finish}");
            // Every patch is asked for, and none by a part that has no voxel of it.
            let total: usize = asked.iter().sum();
            assert!(total >= grid().len() && asked.iter().filter(|&&n| n > 0).count() <= cells);
            if count == 1 {
                assert_eq!(total, grid().len());
            }
        }
        assert!(voxquarry::verify(&expected, &mut |_| Ok(())).unwrap().errors.is_empty());
    }
}

#[test]
fn parts_that_are_missing_unfinished_or_damaged_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let options = options(None, Finish::None);
    let [first, second] = [0, 1].map(|n| Part::new(n, 2).unwrap());
    let error = finalize(&store).unwrap_err();
    assert!(matches!(&error, Error::Unsupported { reason, .. } if reason.contains("case/pred")));

    let begun = begin(&store, &options, second).unwrap();
    drop(begun);
    assert!(missing(&finalize(&store).unwrap_err()).contains("parts 0/2 and 1/2 are missing"));
    run(&store, &options, first, 1);
    let error = finalize(&store).unwrap_err();
    assert!(missing(&error).starts_with("part 1/2 is missing: run it again"), "{error}");
    // While a process works on a part, nobody else does, and nothing is joined.
    let working = begin(&store, &options, second).unwrap();
    assert!(matches!(begin(&store, &options, second).unwrap_err(), Error::Busy { .. }));
    drop(working);
    assert!(run(&store, &options, second, 1) > 0);
    let working = begin(&store, &options, second).unwrap();
    assert!(working.needed().unwrap().is_empty(), "what is done is not done again");
    assert!(matches!(finalize(&store).unwrap_err(), Error::Busy { .. }));
    drop(working);

    let partial = store.join(".voxquarry-partial");
    let shard = tree(&partial).into_iter().find(|(path, bytes)| {
        path.to_str().unwrap().contains("1-of-2/content/pred/0/c/") && !bytes.is_empty()
    });
    let (path, bytes) = shard.unwrap();
    fs::write(&path, &bytes[..bytes.len() - 1]).unwrap();
    let error = finalize(&store).unwrap_err();
    let words = missing(&error);
    assert!(words.contains("part 1/2") && words.contains("damaged: run it again"), "{error}");
    assert!(run(&store, &options, second, 1) > 0, "the damaged shard is computed again");
    finalize(&store).unwrap();
    assert!(!partial.exists());
    let alone_at = folder.path().join("alone.zarr");
    alone(&alone_at, &options, 1);
    assert!(files(&store) == files(&alone_at));
}

#[test]
fn parts_of_other_arguments_or_another_count_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let own = options(None, Finish::None);
    run(&store, &own, Part::new(0, 2).unwrap(), 1);
    for other in [
        own.clone().resume("another model".to_owned()),
        own.clone().memory_bytes(1 << 30),
        options(None, Finish::Threshold(0.5)),
    ] {
        for number in [0, 1] {
            let error = begin(&store, &other, Part::new(number, 2).unwrap()).unwrap_err();
            assert!(matches!(error, Error::ResumeMismatch { .. }), "{error}");
            assert!(error.to_string().contains("part 0/2"), "{error}");
        }
        // What was refused leaves nothing.
        assert_eq!(fs::read_dir(store.join(".voxquarry-partial")).unwrap().count(), 1);
    }
    let error = begin(&store, &own, Part::new(2, 3).unwrap()).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("part 0/2 was begun") && text.contains("part 2/3"), "{text}");
    assert!(missing(&finalize(&store).unwrap_err()).contains("part 1/2"));
    let writer = StoreWriter::open(&store, None).unwrap();
    assert_eq!(writer.discard_volume_parts("case", "pred").unwrap(), 1);
    run(&store, &own, Part::new(0, 1).unwrap(), 1);
    finalize(&store).unwrap();
}

#[test]
fn finalizing_twice_and_parts_that_come_late_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let options = options(None, Finish::None);
    for part in Part::all(2).unwrap() {
        run(&store, &options, part, 1);
    }
    finalize(&store).unwrap();
    let before = tree(&store);
    assert_eq!(finalize(&store).unwrap().size(), SIZE);
    let late = begin(&store, &options, Part::new(1, 2).unwrap()).unwrap_err();
    assert!(matches!(late, Error::Exists { .. }), "{late}");
    assert!(tree(&store) == before);
}

/// `make trust` found it: a join that was killed just after it had published left its folder for
/// ever.
#[test]
fn finalizing_again_removes_what_a_killed_one_left() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("s.zarr");
    let (options, partial) = (options(None, Finish::None), store.join(".voxquarry-partial"));
    run(&store, &options, Part::new(0, 2).unwrap(), 1);
    let name = fs::read_dir(&partial).unwrap().next().unwrap().unwrap().file_name();
    let joined = name.into_string().unwrap().replace(".0-of-2", ".joined");
    run(&store, &options, Part::new(1, 2).unwrap(), 1);
    finalize(&store).unwrap();
    let before = tree(&store);
    let left = partial.join(joined).join("content");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("0"), b"a shard that is a link").unwrap();
    finalize(&store).unwrap();
    assert!(tree(&store) == before && !partial.exists());
}

/// `make trust` found it: an affine in the document of a part that one bit had changed was that of
/// the joined volume. Its siblings are each document of a part, and the mark itself.
#[test]
fn documents_and_marks_of_parts_that_are_damaged_are_written_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, alone_at) = (folder.path().join("s.zarr"), folder.path().join("alone.zarr"));
    let options = options(None, Finish::None);
    alone(&alone_at, &options, 1);
    for part in Part::all(2).unwrap() {
        run(&store, &options, part, 1);
    }
    let partial = tree(&store.join(".voxquarry-partial"));
    let ends = ["pred/zarr.json", "pred/0/zarr.json", "/done"];
    let files_of_parts = partial
        .iter()
        .filter(|(path, _)| ends.iter().any(|end| path.to_str().unwrap().ends_with(end)));
    let mut tried = 0;
    for (path, bytes) in files_of_parts {
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let number = usize::from(path.to_str().unwrap().contains(".1-of-2"));
        for damage in [Some(&flipped[..]), Some(&bytes[..bytes.len() - 3]), Some(b""), None] {
            if let Some(bytes) = damage {
                fs::write(path, bytes).unwrap();
            } else {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            }
            let error = finalize(&store).unwrap_err();
            let words = missing(&error);
            let expected = format!("part {number}/2 is missing: files of it are damaged: run it");
            assert!(words.starts_with(&expected), "{}: {error}", path.display());
            if damage.is_none() {
                fs::remove_dir(path).unwrap();
            }
            let again = run(&store, &options, Part::new(number, 2).unwrap(), 1);
            assert_eq!(again, 0, "its shards are whole");
            assert!(tree(&store.join(".voxquarry-partial")) == partial);
            tried += 1;
        }
    }
    assert_eq!(tried, 24);
    finalize(&store).unwrap();
    assert!(files(&store) == files(&alone_at));
}
