//! Metadata and names: what is not as it was is refused, or did not matter.

use std::fs;
use std::path::Path;

use serde_json::json;
use voxquarry::{
    Access, Dataset, Error, Fault, IfExists, OpenOptions, Padding, StoreWriter, UniformSampler,
    list_subjects,
};

use super::victim::{BOTH, Victim, copy};

#[test]
fn every_byte_of_every_document_may_change() {
    // Volumes whose shards all have a file; what is absent is the next test's matter.
    // Only the first has every byte changed: the others' documents differ little.
    for (subject, volume, step) in
        [("grid", "u8", 1), ("grid", "i16", 3), ("grid", "f64", 3), ("one voxel", "f32", 3)]
    {
        let victim = Victim::new(subject, volume);
        let (mut read, mut refused) = (0, 0);
        for document in ["../..", "..", ".", "0"] {
            let path = victim.volume_dir().join(document).join("zarr.json");
            let whole = fs::read(&path).unwrap();
            for at in (0..whole.len()).step_by(step) {
                for value in [whole[at] ^ 1, b'8'] {
                    if value == whole[at] {
                        continue;
                    }
                    let mut damaged = whole.clone();
                    damaged[at] = value;
                    fs::write(&path, &damaged).unwrap();
                    let context = || {
                        let line = String::from_utf8_lossy(&damaged[at.saturating_sub(40)..]);
                        format!("{volume} {document} byte {at} {value:#04x}: {line:.80}")
                    };
                    if victim.readable(BOTH[at % 2], &context) {
                        read += 1;
                    } else {
                        refused += 1;
                        if refused % 16 == 0 {
                            assert_ne!(victim.verified(), "", "{}", context());
                        }
                    }
                }
            }
            fs::write(&path, &whole).unwrap();
        }
        assert_eq!(victim.verified(), "");
        assert!(read == 0 && refused > 300, "{volume}: {read} read, {refused} refused");
    }
}

#[test]
fn documents_cut_short_or_replaced_are_refused() {
    let victim = Victim::new("grid", "u8");
    for document in ["../..", "..", ".", "0"] {
        let path = victim.volume_dir().join(document).join("zarr.json");
        let whole = fs::read(&path).unwrap();
        let deep = vec![b'['; 100_000];
        let long = [&whole[..], &vec![b' '; 16 << 20]].concat();
        // Its tree would take more than a gigabyte.
        let many = format!("{{\"a\": [{}0]}}", "{\"\":0},".repeat(2 << 20)).into_bytes();
        let others = [b"null", &b"[]"[..], b"{}", b"3", b"\xff\xfe", b"{\"zarr_format\": 2}"];
        let others = others.into_iter().chain([&deep[..], &long, &many]);
        for text in (0..whole.len() - 1).step_by(9).map(|n| &whole[..n]).chain(others) {
            fs::write(&path, text).unwrap();
            let context = || format!("{document} of {} bytes", text.len());
            victim.refused(Access::Map, &context);
            assert_ne!(victim.verified(), "", "{}", context());
        }
        fs::write(&path, &whole).unwrap();
    }
}

#[test]
fn every_flipped_bit_of_every_document_is_refused() {
    let victim = Victim::new("one voxel", "labels-f32");
    for document in ["../..", "..", ".", "0"] {
        let path = victim.volume_dir().join(document).join("zarr.json");
        let whole = fs::read(&path).unwrap();
        for bit in 0..8 * whole.len() {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &damaged).unwrap();
            victim.refused(Access::Map, &|| format!("{document} bit {bit}"));
            assert_ne!(victim.verified(), "", "{document} bit {bit}");
        }
        fs::write(&path, &whole).unwrap();
    }
    assert_eq!(victim.verified(), "");
}

#[test]
fn a_lost_document_or_folder_is_noticed_by_verify() {
    for lost in ["zarr.json", "0/zarr.json", "0", "", "summary", "summary/zarr.json", "shards"] {
        let victim = Victim::new("grid", "labels-i32");
        let path = victim.volume_dir().join(lost);
        if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) }.unwrap();
        assert_ne!(victim.verified(), "", "{lost:?} is lost");
        assert_eq!(victim.dataset().subject("grid").unwrap().volumes(), ["labels-i32"]);
    }
    // A subject that has lost its document is listed, and opening it says so.
    let victim = Victim::new("grid", "labels-i32");
    let before = victim.dataset().subjects().to_vec();
    fs::remove_file(victim.store().join("grid/zarr.json")).unwrap();
    assert!(victim.verified().contains("grid/zarr.json: missing"), "{}", victim.verified());
    let dataset = victim.dataset();
    assert_eq!(dataset.subjects(), before);
    let error = dataset.subject("grid").unwrap_err();
    assert!(matches!(error, Error::Metadata { .. }), "{error}");
    assert!(error.to_string().contains("grid/zarr.json: missing, beside volumes"), "{error}");
    // Nothing says that there was a subject where there is nothing.
    fs::remove_dir_all(victim.store().join("grid")).unwrap();
    let error = dataset.subject("grid").unwrap_err();
    assert!(matches!(error, Error::NotFound { .. }), "{error}");
    assert_eq!(victim.verified(), "");
    let victim = Victim::new("grid", "labels-i32");
    copy(&victim.volume_dir(), &victim.store().join("grid/unlisted"));
    assert_eq!(victim.dataset().subject("grid").unwrap().volumes(), ["labels-i32"]);
    assert_eq!(victim.verified(), "", "a folder that no writer finished is no volume");
}

/// `make trust` found it: a writer that listed the subjects sealed a damaged document again.
#[test]
fn a_damaged_document_of_a_store_is_not_sealed_again() {
    let victim = Victim::new("grid", "labels-i32");
    list_subjects(victim.store()).unwrap();
    let writer = StoreWriter::open(victim.store(), Some(1)).unwrap();
    let path = victim.store().join("zarr.json");
    let listed = String::from_utf8(fs::read(&path).unwrap()).unwrap();
    // What is damaged still parses, and the list lacks the new subject.
    let damaged = listed.replacen("\"subjects\"", "\"subject3\"", 1);
    assert_ne!(damaged, listed);
    fs::write(&path, &damaged).unwrap();
    let refused = [
        StoreWriter::open(victim.store(), Some(1)).map(drop),
        list_subjects(victim.store()),
        writer.subject("new").and_then(|new| new.publish([], IfExists::Error)),
    ];
    for error in refused.map(Result::unwrap_err) {
        assert!(error.to_string().contains("crc32c: found"), "{error}");
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), damaged);
    assert!(!victim.store().join("new").exists());
}

/// A reader that took one subject for another would give the voxels of another patient.
#[test]
fn subjects_in_another_place_are_refused() {
    let refused = |victim: &Victim, names: &[&str]| {
        let dataset = victim.dataset();
        for name in names {
            let error = dataset.subject(name).unwrap_err();
            assert_eq!(error.fault(), Fault::Data, "{error}");
            assert!(error.to_string().contains(&format!("in the place of {name:?}")), "{error}");
            assert!(victim.verified().contains(&format!("{name}/zarr.json")), "{name}");
        }
    };
    let two = || {
        let victim = Victim::new("grid", "labels-i32");
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("format-spec/golden/v1");
        copy(&golden.join("one voxel"), &victim.store().join("one voxel"));
        assert_eq!(victim.verified(), "");
        victim
    };
    // Only the documents are exchanged.
    let victim = two();
    let [first, second] = ["grid", "one voxel"].map(|s| victim.store().join(s).join("zarr.json"));
    let held = [&first, &second].map(|path| fs::read(path).unwrap());
    fs::write(&first, &held[1]).unwrap();
    fs::write(&second, &held[0]).unwrap();
    refused(&victim, &["grid", "one voxel"]);
    // One folder has another name; then two have each other's.
    let victim = two();
    let [first, second] = ["grid", "one voxel"].map(|s| victim.store().join(s));
    fs::rename(&first, victim.store().join("other")).unwrap();
    refused(&victim, &["other"]);
    fs::rename(&second, &first).unwrap();
    fs::rename(victim.store().join("other"), &second).unwrap();
    refused(&victim, &["grid", "one voxel"]);
}

#[test]
fn what_no_writer_made_is_noticed_by_verify() {
    let victim = Victim::new("grid", "f32");
    fs::create_dir(victim.volume_dir().join("sums")).unwrap();
    assert!(victim.verified().contains("sums: it holds no weight sums"), "{}", victim.verified());
    fs::remove_dir(victim.volume_dir().join("sums")).unwrap();
    std::os::unix::fs::symlink("grid", victim.store().join("other")).unwrap();
    assert_ne!(victim.verified(), "");
    fs::remove_file(victim.store().join("other")).unwrap();
    std::os::unix::fs::symlink("nowhere", victim.store().join("other")).unwrap();
    assert!(victim.verified().contains("other: it is a link"), "{}", victim.verified());
    fs::remove_file(victim.store().join("other")).unwrap();
    // Notes, hidden folders and folders without volumes are the user's.
    fs::write(victim.store().join("notes.txt"), b"mine").unwrap();
    fs::create_dir_all(victim.store().join(".hidden/a")).unwrap();
    fs::create_dir(victim.store().join("figures")).unwrap();
    assert_eq!(victim.verified(), "");
}

#[test]
fn features_and_versions_of_the_future_are_refused_by_name() {
    for document in ["../..", "."] {
        let victim = Victim::new("grid", "u8");
        let ours = "/attributes/voxquarry";
        let refusal = || {
            let error = victim.read(Access::Map).unwrap_err();
            let report = victim.verified();
            assert!(report.contains(&error.to_string()), "{report}");
            error.to_string()
        };
        victim.edit(document, &format!("{ours}/reader_features"), json!(["levels", "x"]));
        assert!(refusal().contains("reader feature \"levels\""));
        victim.edit(document, &format!("{ours}/reader_features"), json!([]));
        for version in
            [json!(2), json!(0), json!(-1), json!(1.0), json!("1"), json!(null), json!(true)]
        {
            victim.edit(document, &format!("{ours}/version"), version);
            assert!(refusal().contains("version"));
        }
        victim.edit(document, &format!("{ours}/version"), json!(1));
        // A reader need not know what a writer has to.
        victim.edit(document, &format!("{ours}/writer_features"), json!(["locks"]));
        assert!(victim.readable(Access::Map, &|| document.into()));
        if document == "../.." {
            let error = StoreWriter::open(victim.store(), Some(1)).unwrap_err().to_string();
            assert!(error.contains("writer feature \"locks\""), "{error}");
        }
    }
}

#[test]
fn names_lead_nowhere_else() {
    let victim = Victim::new("grid", "u8");
    let dataset = Dataset::open(victim.store(), &OpenOptions::default()).unwrap();
    let subject = dataset.subject("grid").unwrap();
    let writer = StoreWriter::open(victim.store(), Some(1)).unwrap();
    let long = "x".repeat(201);
    for name in [
        "",
        ".",
        "..",
        "../grid",
        "grid/u8",
        "/",
        "grid/",
        ".voxquarry-partial",
        "__x",
        "a\\b",
        "a\nb",
        "\0",
        &long,
    ] {
        assert!(matches!(dataset.subject(name), Err(Error::NotFound { .. })), "{name:?}");
        assert!(matches!(subject.volume(name), Err(Error::NotFound { .. })), "{name:?}");
        assert!(matches!(writer.subject(name), Err(Error::InvalidArgument { .. })), "{name:?}");
    }
    // Folders that no writer made are not subjects, whatever they hold.
    for name in [".hidden", "__x", "a\\b", "a\nb"] {
        copy(&victim.store().join("grid"), &victim.store().join(name));
    }
    fs::create_dir(victim.store().join("notes")).unwrap();
    fs::write(victim.store().join("README"), "hello").unwrap();
    let dataset = Dataset::open(victim.store(), &OpenOptions::default()).unwrap();
    assert_eq!(dataset.subjects(), ["grid"]);
    assert_eq!(victim.verified(), "");
}

#[test]
fn folders_in_the_place_of_files_are_errors() {
    let victim = Victim::new("grid", "u8");
    fs::remove_file(victim.shard(1)).unwrap();
    fs::create_dir(victim.shard(1)).unwrap();
    for access in BOTH {
        assert!(victim.read(access).is_err());
    }
    assert_ne!(victim.verified(), "");
    let victim = Victim::new("grid", "u8");
    let level = victim.volume_dir().join("0/zarr.json");
    fs::remove_file(&level).unwrap();
    assert!(victim.read(Access::Map).unwrap_err().to_string().contains("incomplete"));
    assert_ne!(victim.verified(), "");
    fs::create_dir(&level).unwrap();
    assert!(victim.read(Access::Map).is_err());
    assert_ne!(victim.verified(), "");
}

/// Every extent that the limits allow can be asked for its first and last voxel.
#[test]
fn the_largest_layouts_overflow_nothing() {
    let victim = Victim::new("grid", "i64");
    let sharding = "/codecs/0/configuration";
    let axis = 1u64 << 40;
    for (shape, shard, chunk) in [
        ([axis, 1 << 20, 1], [1, 1, 1], [1, 1, 1]),
        ([axis, 1 << 20, 1], [65536, 1, 1], [1, 1, 1]),
        ([1, 1 << 20, axis], [1, 1, axis], [1, 1, 1 << 21]),
        ([1 << 20; 3], [1 << 12, 1 << 11, 1 << 14], [1 << 7, 1 << 7, 1 << 7]),
        ([1 << 20; 3], [1 << 20, 1 << 20, 1], [1 << 10, 1 << 11, 1]),
        ([1, 1, 1], [1 << 12, 1 << 11, 1 << 14], [1 << 7, 1 << 7, 1 << 7]),
        ([1, 1, 1], [65536 << 21, 1, 1], [1 << 21, 1, 1]),
    ] {
        victim.edit("0", "/shape", json!(shape));
        victim.edit("0", "/chunk_grid/configuration/chunk_shape", json!(shard));
        victim.edit("0", &format!("{sharding}/chunk_shape"), json!(chunk));
        let voxels: u64 = shape.iter().product();
        victim.edit(".", "/attributes/voxquarry/statistics/voxels", json!(voxels));
        let shards: u64 = shape.iter().zip(shard).map(|(n, s)| n.div_ceil(s)).product();
        if shards > 1 << 24 {
            // No list of so many shards can be written here.
            victim.refused(Access::Map, &|| format!("{shards} shards"));
            continue;
        }
        victim.list_no_shards(shards);
        let Ok(volume) = victim.open(Access::Map) else { continue };
        let last = shape.map(|n| n as i64 - 1);
        let mut out = [7i64; 2];
        volume.read_batch_into(&[[0; 3], last], [1; 3], Padding::None, &mut out).unwrap();
        assert_eq!(out, [0, 0], "{shape:?}");
        if voxels > 1 << 50 {
            let subject = victim.dataset().subject("grid").unwrap();
            let map = UniformSampler::new([1; 3]).unwrap().probability_map(&subject);
            assert!(matches!(map, Err(Error::OutOfMemory { .. })), "{map:?}");
        }
        for start in [[i64::MIN; 3], [i64::MAX; 3], shape.map(|n| n as i64)] {
            let read =
                |padding, out: &mut [i64]| volume.read_batch_into(&[start], [1; 3], padding, out);
            assert!(read(Padding::None, &mut out[..1]).is_err());
            read(Padding::Constant(3.0), &mut out[..1]).unwrap();
            assert_eq!(out[0], 3);
            read(Padding::Edge, &mut out[..1]).unwrap();
            assert_eq!(out[0], 0);
        }
    }
    for shape in [[axis + 1, 1, 1], [axis, 1 << 20, 2], [u64::MAX; 3], [1, 0, 1]] {
        victim.edit("0", "/shape", json!(shape));
        assert!(matches!(victim.open(Access::Map), Err(Error::Metadata { .. })), "{shape:?}");
    }
}

#[test]
fn values_that_only_look_alike_are_refused() {
    let victim = Victim::new("grid", "u8");
    let refusal = |document: &str, pointer: &str, value: serde_json::Value| {
        let path = victim.volume_dir().join(document).join("zarr.json");
        let whole = fs::read(&path).unwrap();
        victim.edit(document, pointer, value.clone());
        victim.refused(Access::Map, &|| format!("{document} {pointer} {value}"));
        assert_ne!(victim.verified(), "");
        fs::write(path, whole).unwrap();
    };
    // Absent chunks are +0.0, whatever the type.
    for fill in [json!(-0.0), json!(1), json!("0"), json!(false), json!(null)] {
        refusal("0", "/fill_value", fill);
    }
    // Voxels that the statistics never saw would read as zeros.
    for shape in [json!([7, 10, 20]), json!([6, 10, 32]), json!([6, 10, 19]), json!([1, 6, 10, 20])]
    {
        refusal("0", "/shape", shape);
    }
    let affine = "/attributes/voxquarry/affine";
    for row in [json!([0, 0, 0, 1]), json!([-2, 0.125, 0, 1]), json!([1e308, 1e308, 1e308, 1])] {
        refusal(".", &format!("{affine}/1"), row);
    }
    refusal(".", &format!("{affine}/3"), json!([0, 0, 0, 2]));
    refusal(".", &format!("{affine}/0/0"), json!(null));
}
