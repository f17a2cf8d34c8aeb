//! The tables of `format-spec/README.md` against what the crate writes and accepts: neither may
//! drift from the other.

#[allow(unreachable_pub)]
mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use common::{Plain, write};
use serde_json::Value;
use voxquarry::codec::{Encoder, Frame, HEADER_BYTES, checksum};
use voxquarry::format::array::{
    ArrayLayout, BloscParameters, ChunkCodec, Compressor, Shuffle as Order,
};
use voxquarry::format::attributes::{self, Kind, VolumeAttributes};
use voxquarry::format::document::{self, Document, SEAL_KEY};
use voxquarry::format::index::{index_bytes, tail_bytes};
use voxquarry::format::layout::Codec;
use voxquarry::format::{PARTIAL_DIR, VERSION, limits, ome};
use voxquarry::{Border, Dataset, Dtype, Epoch, LengthUnit, OpenOptions, WeightedSampler};

const SPEC: &str = include_str!("../format-spec/README.md");

/// The rows of the table behind `<!-- table: NAME -->`, cell by cell.
fn table(name: &str) -> Vec<Vec<&'static str>> {
    let marker = format!("<!-- table: {name} -->\n");
    let (_, rest) = SPEC.split_once(&marker).unwrap_or_else(|| panic!("no table {name:?}"));
    let rows: Vec<_> = rest
        .lines()
        .take_while(|line| line.starts_with('|'))
        .skip(2)
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>())
        .collect();
    assert!(!rows.is_empty(), "table {name:?} has no rows");
    rows
}

/// The words in back quotes, in order.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// The quoted words of a table's first column.
fn keys(name: &str) -> BTreeSet<&'static str> {
    table(name).into_iter().flat_map(|row| quoted(row[0])).collect()
}

/// The row whose first cell quotes `key`.
fn row(name: &str, key: &str) -> Vec<&'static str> {
    let found = table(name).into_iter().find(|row| quoted(row[0]).contains(&key));
    found.unwrap_or_else(|| panic!("table {name:?} has no row {key:?}"))
}

fn keys_of(value: &Value) -> BTreeSet<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// A published label volume's documents: of its group and its level.
fn published(folder: &Path) -> (Value, Value) {
    let plain = Plain::new(Some(2), [20, 33, 40], Dtype::Int16, 1);
    write(folder, "s", "v", &plain, Kind::Labels, Codec::Fast, [16, 32, 32]);
    let read = |path: &str| {
        serde_json::from_slice(&fs::read(folder.join(path).join("zarr.json")).unwrap()).unwrap()
    };
    (read("s/v"), read("s/v/0"))
}

fn reopen(document: &Value) -> Document {
    let folder = tempfile::tempdir().unwrap();
    document::write(folder.path(), document).unwrap();
    Document::read(folder.path()).unwrap().unwrap()
}

fn remove(document: &Value, parent: &str, key: &str) -> Value {
    let mut document = document.clone();
    let parent = document.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    assert!(parent.remove(key).is_some(), "{key} is not written");
    document
}

#[test]
fn limits_and_version() {
    let written: Vec<(&str, u64)> =
        table("limits").iter().map(|r| (quoted(r[0])[0], r[1].parse().unwrap())).collect();
    assert_eq!(written, limits::TABLE);
    assert!(SPEC.starts_with(&format!("# The Voxquarry store, version {VERSION}\n")));
    assert!(row("version keys", "version")[2].starts_with(&format!("{VERSION};")));
    assert!(SPEC.contains(&format!("STORE/{PARTIAL_DIR}/")));
    let index = SPEC.split_once("### Shard bytes").unwrap().1;
    assert!(
        index.contains("| 16 × n | the index") && index.contains("| 4 | crc32c of the index |")
    );
    assert_eq!((index_bytes(3), tail_bytes(3)), (16 * 3 + 4, 4 + 16 * 3 + 4));
}

#[test]
fn version_keys_are_those_of_datasets_and_volumes() {
    let version_keys = keys("version keys");
    assert_eq!(keys_of(&attributes::dataset()["voxquarry"]), version_keys);
    let subject = attributes::subject("case01", &BTreeMap::new(), &["train".to_owned()]);
    let mut subject_keys = keys("subject keys");
    assert!(subject_keys.remove(SEAL_KEY), "written with the document");
    assert_eq!(keys_of(&subject["voxquarry"]), subject_keys);
    assert!(subject_keys.remove("splits") && row("subject keys", "splits")[2].contains("optional"));
    let plain = attributes::subject("case01", &BTreeMap::new(), &[]);
    assert_eq!(keys_of(&plain["voxquarry"]), subject_keys, "of a subject without splits");
    let folder = tempfile::tempdir().unwrap();
    let (volume, _) = published(folder.path());
    assert!(version_keys.is_subset(&keys_of(&volume["attributes"]["voxquarry"])));
    let nodes = quoted(row("version keys", "node")[2]);
    let written = [attributes::dataset(), subject, volume["attributes"].clone()]
        .map(|a| a["voxquarry"]["node"].as_str().unwrap().to_owned());
    assert_eq!(nodes, written);
}

#[test]
fn volume_keys_are_written_and_the_required_ones_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (group, level) = published(folder.path());
    let rows = table("volume keys");
    let required: BTreeSet<_> =
        rows.iter().filter(|r| r[2] != "no").map(|r| quoted(r[0])[0]).collect();
    let optional: BTreeSet<_> =
        rows.iter().filter(|r| r[2] == "no").map(|r| quoted(r[0])[0]).collect();
    assert!(rows.iter().all(|r| ["yes", "no"].contains(&r[2])), "other words");

    let parse = |group: &Value| {
        let document = reopen(group);
        VolumeAttributes::parse(&document.voxquarry().unwrap())
    };
    let mut parsed = parse(&group).unwrap();
    let version_keys = keys("version keys");
    let without_counts = remove(&group, "/attributes/voxquarry", "summary_crc32c");
    assert_eq!(parse(&without_counts).unwrap().summary_crc32c, None);
    let plain = remove(&without_counts, "/attributes/voxquarry", "nifti_crc32c");
    let written = keys_of(&plain["attributes"]["voxquarry"]);
    assert_eq!(written, &required | &version_keys, "of a volume without optional keys");
    assert_eq!(parse(&plain).unwrap().nifti_crc32c, None);
    parsed.source = Some(attributes::SourceFile {
        name: "a.nii".into(),
        bytes: 1,
        sha256: String::new(),
        origin: serde_json::Map::new(),
    });
    parsed.labels = vec![attributes::LabelName {
        ids: vec![1, 2],
        name: "liver".to_owned(),
        color: Some("#ff0000".to_owned()),
    }];
    parsed.levels = vec![attributes::StoredLevel {
        factors: [1, 2, 2],
        level_crc32c: 1,
        shard_files: 1,
        shards_crc32c: 1,
        statistics: parsed.statistics.clone(),
    }];
    parsed.unit = Some(LengthUnit::Micrometer);
    let layout = ArrayLayout::parse(&reopen(&level)).unwrap();
    let whole = ome::group_attributes("v", &parsed, &layout, None);
    assert_eq!(whole["ome"]["multiscales"][0]["axes"][1]["unit"], "micrometer");
    let written = keys_of(&whole["voxquarry"]);
    assert_eq!(written, &(&required | &version_keys) | &optional, "of a volume with all keys");
    let source = quoted(row("volume keys", "source")[3]);
    // What follows describes the keys of `origin.changes`.
    let (source, changes) = source.split_at(4);
    assert_eq!(source, ["name", "bytes", "sha256", "origin"]);
    assert_eq!(changes[0], "origin.changes");
    assert_eq!(keys_of(&whole["voxquarry"]["source"]), source.iter().copied().collect());
    let labels = quoted(row("volume keys", "labels")[3]);
    assert_eq!(keys_of(&whole["voxquarry"]["labels"][0]), labels.into_iter().take(3).collect());
    let levels = quoted(row("volume keys", "levels")[3]);
    // The names of the levels come first.
    assert_eq!(levels[..2], ["1", "2"]);
    assert_eq!(keys_of(&whole["voxquarry"]["levels"][0]), levels.into_iter().skip(2).collect());
    let statistics = quoted(row("volume keys", "statistics")[3]);
    let figures = keys_of(&group["attributes"]["voxquarry"]["statistics"]);
    assert_eq!(figures, statistics.into_iter().filter(|word| *word != "null").collect());

    for key in &required | &version_keys {
        let error = parse(&remove(&group, "/attributes/voxquarry", key)).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
    assert!(SPEC.contains("`version` `\"0.5\"`"));
    assert_eq!(group["attributes"]["ome"]["version"], "0.5");
}

#[test]
fn volume_words_are_those_of_the_crate() {
    let words = |key: &str| quoted(row("volume keys", key)[3]);
    assert_eq!(words("kind"), [Kind::Image.name(), Kind::Labels.name()]);
    assert_eq!(words("codec"), [Codec::Fast, Codec::Compact, Codec::None].map(Codec::name));
    let units = [LengthUnit::Meter, LengthUnit::Millimeter, LengthUnit::Micrometer];
    assert_eq!(words("unit"), units.map(LengthUnit::name));
    let folder = tempfile::tempdir().unwrap();
    let (group, _) = published(folder.path());
    let order = &group["attributes"]["voxquarry"]["affine_index_order"];
    assert_eq!(words("affine_index_order"), [order.as_str().unwrap()]);
}

#[test]
fn array_keys_are_written_and_missed() {
    let folder = tempfile::tempdir().unwrap();
    let (_, level) = published(folder.path());
    let absent = BTreeSet::from(["storage_transformers"]);
    assert!(row("array keys", "storage_transformers")[1].starts_with("absent"));
    // Any Zarr node may have attributes; levels have none that mean something.
    let foreign = BTreeSet::from(["attributes"]);
    assert_eq!(keys_of(&level), &(&keys("array keys") - &absent) | &foreign);
    assert_eq!(keys_of(&level["codecs"][0]["configuration"]), keys("sharding keys"));

    ArrayLayout::parse(&reopen(&level)).unwrap();
    for key in &keys("array keys") - &absent {
        let error = ArrayLayout::parse(&reopen(&remove(&level, "", key))).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
    for key in keys("sharding keys") {
        let without = remove(&level, "/codecs/0/configuration", key);
        let error = ArrayLayout::parse(&reopen(&without)).unwrap_err();
        assert!(error.to_string().contains(key), "{key}: {error}");
    }
}

/// An array of `int16` voxels with that codec.
fn array_of(codec: ChunkCodec) -> ArrayLayout {
    let (dtype, chunk, shard) = (Dtype::Int16, [4; 3], [8; 3]);
    ArrayLayout { channels: None, size: [8; 3], dtype, chunk, shard, codec }
}

fn codec_names(codecs: &Value) -> Vec<String> {
    codecs.as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap().into()).collect()
}

#[test]
fn array_words_are_those_of_the_crate() {
    let words = |name: &str, key: &str| quoted(row(name, key)[1]);
    assert_eq!(words("array keys", "data_type"), Dtype::ALL.map(Dtype::name));
    let raw = array_of(ChunkCodec::Raw).to_json();
    assert_eq!(words("array keys", "zarr_format"), ["3", "array"]);
    assert_eq!((&raw["zarr_format"], &raw["node_type"]), (&3.into(), &"array".into()));
    assert_eq!(words("array keys", "chunk_grid")[0], raw["chunk_grid"]["name"]);
    let encoding = &raw["chunk_key_encoding"];
    assert_eq!(words("array keys", "chunk_key_encoding")[0], encoding["name"]);
    assert_eq!(
        words("array keys", "chunk_key_encoding")[1],
        encoding["configuration"]["separator"]
    );
    let sharding = &raw["codecs"][0];
    assert_eq!(words("array keys", "codecs"), [sharding["name"].as_str().unwrap()]);
    let sharding = &sharding["configuration"];
    assert_eq!(
        words("sharding keys", "index_location"),
        [sharding["index_location"].as_str().unwrap()]
    );
    assert_eq!(words("sharding keys", "index_codecs"), ["bytes", "little", "crc32c"]);
    assert_eq!(codec_names(&sharding["index_codecs"]), ["bytes", "crc32c"]);
    assert_eq!(words("sharding keys", "codecs"), ["bytes", "little", "blosc", "crc32c"]);
    assert_eq!(codec_names(&sharding["codecs"]), ["bytes", "crc32c"]);
}

#[test]
fn blosc_words_are_those_of_the_crate() {
    // The sentence that begins with "`blosc` has" lists keys, compressors and shuffles.
    let sentence = SPEC.split_once("\n`blosc` has").unwrap().1.split_once("The frame's").unwrap().0;
    let listed = quoted(sentence);
    for (compressor, order) in [
        (Compressor::Lz4, Order::None),
        (Compressor::Zstd, Order::Byte),
        (Compressor::Zstd, Order::Bit),
    ] {
        let blosc = BloscParameters { compressor, level: 5, shuffle: order, block_bytes: 64 };
        let json = array_of(ChunkCodec::Blosc(blosc)).to_json();
        let codecs = &json["codecs"][0]["configuration"]["codecs"];
        assert_eq!(codec_names(codecs), ["bytes", "blosc", "crc32c"]);
        let configuration = &codecs[1]["configuration"];
        let keys = ["cname", "clevel", "shuffle", "typesize", "blocksize"];
        assert_eq!(keys_of(configuration), keys.into_iter().collect());
        for word in
            keys.into_iter().chain(["cname", "shuffle"].map(|k| configuration[k].as_str().unwrap()))
        {
            assert!(listed.contains(&word), "{word} is not in {listed:?}");
        }
    }
    for word in ["lz4", "lz4hc", "zstd", "noshuffle", "shuffle", "bitshuffle"] {
        assert!(listed.contains(&word));
        let (compressor, shuffle) = (Compressor::Lz4, Order::Byte);
        let blosc = BloscParameters { compressor, level: 5, shuffle, block_bytes: 64 };
        let mut json = array_of(ChunkCodec::Blosc(blosc)).to_json();
        let key = if word.ends_with("shuffle") { "shuffle" } else { "cname" };
        json["codecs"][0]["configuration"]["codecs"][1]["configuration"][key] = word.into();
        ArrayLayout::parse(&reopen(&json)).unwrap();
    }
}

/// A frame of 1000 elements of 2 bytes in two blocks.
fn frame(compressor: Compressor, shuffle: Order, noise: bool) -> Vec<u8> {
    let parameters = BloscParameters { compressor, level: 5, shuffle, block_bytes: 1024 };
    let mut state = 1u32;
    let voxels: Vec<u8> = (0..2000)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            if noise { (state >> 24) as u8 } else { (i / 100) as u8 }
        })
        .collect();
    let mut out = Vec::new();
    Encoder::new(parameters, 2).encode(&voxels, &mut out);
    out
}

#[test]
fn frames_begin_as_the_header_table_says() {
    let frame = frame(Compressor::Lz4, Order::Byte, false);
    let expected = BTreeMap::from([
        ("version", 2),
        ("versionlz", 1),
        ("flags", 0x21),
        ("typesize", 2),
        ("nbytes", 2000),
        ("blocksize", 1024),
        ("cbytes", frame.len() as u64),
    ]);
    let (mut at, mut seen) = (0, BTreeSet::new());
    for cells in table("blosc header") {
        let [offset, bytes] = [0, 1].map(|i| cells[i].parse::<usize>().unwrap());
        let field = quoted(cells[2])[0];
        assert_eq!(offset, at, "{field} follows the field before it");
        at += bytes;
        let value = frame[offset..at].iter().rev().fold(0, |n, &byte| n << 8 | u64::from(byte));
        assert_eq!(value, expected[field], "{field}");
        if let Ok(constant) = cells[3].parse::<u64>() {
            assert_eq!(value, constant, "{field}");
        }
        // What the table calls fixed, the reader insists on; flags are a table of their own.
        if field != "flags" {
            let mut wrong = frame.clone();
            wrong[offset] = wrong[offset].wrapping_add(1);
            assert!(Frame::parse(&wrong, 2000, 2).is_err(), "{field}");
        }
        seen.insert(field);
    }
    assert_eq!(at, HEADER_BYTES);
    assert_eq!(seen, expected.into_keys().collect());
    // The first block begins behind a header and a table of two u32.
    assert_eq!(frame[at..at + 4], (HEADER_BYTES as u32 + 8).to_le_bytes());
}

#[test]
fn flags_are_the_bits_of_the_table() {
    let bits: BTreeMap<&str, u8> = table("blosc flags")
        .iter()
        .map(|r| {
            let mask = quoted(r[0])[0].strip_prefix("0x").expect("hexadecimal");
            (quoted(r[1])[0], u8::from_str_radix(mask, 16).unwrap())
        })
        .collect();
    assert_eq!(bits.values().sum::<u8>(), 0xff, "every bit once");
    let formats = row("blosc flags", "0xe0")[2];
    assert!(formats.starts_with("1 = LZ4, 4 = Zstandard"));
    for (compressor, format) in [(Compressor::Lz4, 1), (Compressor::Zstd, 4)] {
        let format: u8 = format << bits["format"].trailing_zeros();
        for (shuffle, flags) in [
            (Order::None, bits["unsplit"]),
            (Order::Byte, bits["shuffle"]),
            (Order::Bit, bits["bitshuffle"] | bits["unsplit"]),
        ] {
            assert_eq!(frame(compressor, shuffle, false)[2], flags | format, "{shuffle:?}");
            let stored = frame(compressor, shuffle, true);
            assert_eq!(stored[2], flags | format | bits["memcpyed"], "{shuffle:?}");
            assert_eq!(stored.len(), HEADER_BYTES + 2000);
        }
    }
    let mut frame = frame(Compressor::Lz4, Order::Byte, false);
    let flags = frame[2];
    let refused = [flags | bits["reserved"], flags | bits["bitshuffle"]];
    let formats = (0..8u8).filter(|f| ![1, 4].contains(f)).map(|f| f << 5 | flags & 0x1f);
    for wrong in refused.into_iter().chain(formats) {
        frame[2] = wrong;
        assert!(Frame::parse(&frame, 2000, 2).is_err(), "flags {wrong:#04x}");
    }
}

#[test]
fn summaries_hold_the_arrays_of_the_table() {
    let folder = tempfile::tempdir().unwrap();
    published(folder.path());
    let summary = folder.path().join("s/v/summary");
    let mut written: Vec<String> = fs::read_dir(&summary)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "zarr.json")
        .collect();
    written.sort();
    assert_eq!(keys("summary arrays"), written.iter().map(String::as_str).collect());
    let dataset = Dataset::open(folder.path(), &OpenOptions::default()).unwrap();
    let counts = dataset.subject("s").unwrap().volume("v").unwrap().label_counts().unwrap();
    let entries: usize = (0..counts.chunks()).map(|chunk| counts.chunk(chunk).count()).sum();
    for cells in table("summary arrays") {
        let folder = summary.join(quoted(cells[0])[0]);
        let array: Value =
            serde_json::from_slice(&fs::read(folder.join("zarr.json")).unwrap()).unwrap();
        assert_eq!(array["data_type"], quoted(cells[1])[0]);
        let length = match cells[2] {
            "chunks + 1" => counts.chunks() + 1,
            "entries" => entries,
            other => panic!("a length of {other:?}"),
        };
        assert_eq!(array["shape"], serde_json::json!([length]));
        let chunk = &array["chunk_grid"]["configuration"]["chunk_shape"];
        assert_eq!(chunk, &serde_json::json!([limits::SUMMARY_CHUNK]));
        let codecs: Vec<_> =
            array["codecs"].as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
        assert_eq!(codecs, ["bytes", "zstd", "crc32c"]);
        assert!(folder.join("c/0").is_file());
    }
    assert!(SPEC.contains("codecs `bytes`, `zstd`, `crc32c`, fill value 0"));
}

#[test]
fn sums_say_which_volume_they_are_of() {
    let folder = tempfile::tempdir().unwrap();
    let plain = Plain::new(Some(2), [20, 33, 40], Dtype::UInt16, 1);
    write(folder.path(), "s", "v", &plain, Kind::Image, Codec::Fast, [16, 32, 32]);
    let dataset = Dataset::open(folder.path(), &OpenOptions::default()).unwrap();
    let (subject, epoch) = (dataset.subject("s").unwrap(), Epoch::default());
    let sampler = WeightedSampler::new([4; 3], "v").unwrap().border(Border::Pad).channel(1);
    sampler.locations(&subject, 1, epoch, 0).unwrap();
    let volume = subject.volume("v").unwrap();
    let read = |path: &str| fs::read(volume.path().join(path).join("zarr.json")).unwrap();
    let array: Value = serde_json::from_slice(&read("sums")).unwrap();
    let written = &array["attributes"]["voxquarry"];
    assert_eq!(keys_of(written), keys("sums keys"));
    assert_eq!(written["node"], quoted(row("sums keys", "node")[2])[0]);
    for (key, path) in [("volume_crc32c", ""), ("level_crc32c", "0")] {
        assert_eq!(written[key], checksum(&read(path)), "{key}");
    }
    let chunk = fs::read(volume.path().join("sums/c/0")).unwrap();
    let mut sums = vec![0; 8 * limits::SUMMARY_CHUNK];
    zstd_safe::decompress(&mut sums[..], &chunk[..chunk.len() - 4]).unwrap();
    sums.truncate(8 * volume.layout().chunk_count() as usize);
    assert_eq!(written["sums_crc32c"], checksum(&sums));
    assert_eq!(array["data_type"], "float64");
    assert_eq!(array["shape"], serde_json::json!([volume.layout().chunk_count()]));
}
