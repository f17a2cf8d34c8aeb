//! Every golden store reads as its README says: voxels, metadata, label counts.

use std::collections::BTreeMap;
use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::format::limits;
use voxquarry::verify;
use voxquarry::{Access, Dataset, Dtype, LengthUnit, OpenOptions, Padding, f16};

#[path = "golden/voxels.rs"]
#[allow(unreachable_pub)]
mod voxels;

fn store() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/format-spec/golden/v1"))
}

#[test]
fn voxels_and_metadata_are_those_of_the_readme() {
    for access in [Access::Map, Access::Read] {
        let options = OpenOptions::default().access(access).threads(1);
        let dataset = Dataset::open(store(), &options).unwrap();
        assert_eq!(dataset.subjects(), ["grid", "one voxel"]);
        let mut volumes = 0;
        for golden in voxels::v1() {
            let context = format!("{} {}", golden.subject, golden.name);
            let volume = dataset.subject(golden.subject).unwrap().volume(golden.name).unwrap();
            assert_eq!(volume.kind(), golden.kind, "{context}");
            assert_eq!(volume.layout(), &golden.layout, "{context}");
            assert_eq!(volume.affine(), &voxels::AFFINE, "{context}");
            assert_eq!(volume.slope_intercept(), golden.scaling, "{context}");
            let attributes = volume.attributes();
            assert_eq!(attributes.patch_sizes, voxels::PATCH_SIZES, "{context}");
            assert_eq!(attributes.codec, golden.codec.name(), "{context}");
            assert_eq!(attributes.shard_files, golden.shard_files, "{context}");
            let source = (golden.name == "u8").then(voxels::source);
            assert_eq!(volume.source(), source.as_ref(), "{context}");

            let expected = golden.bytes();
            let channels = golden.layout.channel_count();
            let mut found = vec![0xaa; expected.len()];
            volume
                .read_bytes(&[[0; 3]], golden.layout.size, Padding::None, 0..channels, &mut found)
                .unwrap();
            assert!(found == expected, "{context}: other voxels");
            volumes += 1;
        }
        let listed: usize =
            dataset.subjects().iter().map(|s| dataset.subject(s).unwrap().volumes().len()).sum();
        assert_eq!(listed, volumes);
    }
}

#[test]
fn label_counts_are_those_of_the_voxels() {
    let dataset = Dataset::open(store(), &OpenOptions::default()).unwrap();
    let labelled = voxels::v1().into_iter().filter(|g| g.kind == Kind::Labels).collect::<Vec<_>>();
    assert_eq!(labelled.len(), 2);
    for golden in labelled {
        let volume = dataset.subject(golden.subject).unwrap().volume(golden.name).unwrap();
        let (layout, bytes) = (&golden.layout, golden.bytes());
        let (grid, [_, ny, nx]) = (layout.chunk_grid(), layout.size);
        let mut expected = vec![BTreeMap::<i64, u32>::new(); grid.iter().product()];
        for (i, voxel) in bytes.chunks_exact(4).enumerate() {
            let voxel = voxel.try_into().unwrap();
            let label = match layout.dtype {
                Dtype::Int32 => i64::from(i32::from_le_bytes(voxel)),
                Dtype::Float32 => f32::from_le_bytes(voxel) as i64,
                other => panic!("no golden label map is {other}"),
            };
            let at = [i / (ny * nx), i / nx % ny, i % nx];
            let chunk = (0..3).fold(0, |n, a| n * grid[a] + at[a] / layout.chunk[a]);
            if label != 0 {
                *expected[chunk].entry(label).or_default() += 1;
            }
        }
        let counts = volume.label_counts().unwrap();
        assert_eq!(counts.chunks(), expected.len());
        for (chunk, expected) in expected.into_iter().enumerate() {
            assert!(counts.chunk(chunk).eq(expected), "{}: chunk {chunk}", golden.name);
        }
    }
}

#[test]
fn statistics_leave_out_what_is_not_finite() {
    let dataset = Dataset::open(store(), &OpenOptions::default()).unwrap();
    let statistics =
        |name: &str| dataset.subject("grid").unwrap().volume(name).unwrap().statistics().clone();
    let f64s = statistics("f64");
    assert_eq!((f64s.voxels, f64s.non_finite), (1200, 3));
    assert_eq!(f64s.min.unwrap().as_f64(), Some(0.0));
    // The largest finite one: z = 5, x mod 4 = 3, and y = 4, for y beyond is zero only where x ≥
    // 16.
    let n = 1.0 + 5.0 * 2.0 + 3.0 * 2.0 + 3.0;
    assert_eq!(f64s.max.unwrap().as_f64(), Some(n * 0.1));
    let zeros = statistics("i64");
    assert_eq!(
        (zeros.min.unwrap().as_i64(), zeros.mean, zeros.std),
        (Some(0), Some(0.0), Some(0.0))
    );
    let halves = statistics("f16");
    assert_eq!(halves.max.unwrap().as_f64(), Some(f16::from_f64(n / 4.0).to_f64()));
}

#[test]
fn verify_finds_nothing_wrong_and_walks_every_shard() {
    let report = verify(store(), &mut |_| Ok(())).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    let golden = voxels::v1();
    assert_eq!(report.shards, golden.iter().map(|g| g.shard_files).sum::<u64>());
    assert_eq!((report.subjects, report.volumes), (2, golden.len() as u64));
    assert!(golden.iter().all(|g| g.layout.chunk_bytes() <= limits::CHUNK_BYTES));
}

/// The walk compares every sum with the voxels; a sum of another bit is noticed.
#[test]
fn chunk_sums_are_those_of_the_voxels() {
    let golden = store().with_file_name("v1-sums");
    let report = verify(&golden, &mut |_| Ok(())).unwrap();
    assert!(report.errors.is_empty(), "{:?}", report.errors);
    assert_eq!(report.volumes, voxels::v1_sums().len() as u64);
    let sums = golden.join("grid/f32/sums");
    assert!(sums.join("zarr.json").is_file() && sums.join("c/0").is_file());
}

#[test]
fn names_of_labels_and_splits_are_those_of_the_readme() {
    let golden = store().with_file_name("v1-names");
    let dataset = Dataset::open(&golden, &OpenOptions::default()).unwrap();
    let subject = dataset.subject("grid").unwrap();
    assert_eq!(subject.splits(), voxels::splits());
    assert_eq!(subject.volume("labels-i32").unwrap().labels(), voxels::label_names());
    let splits = dataset.splits().unwrap();
    assert!(splits.keys().eq(&voxels::splits()) && splits["train"] == ["grid"]);
    assert!(verify(&golden, &mut |_| Ok(())).unwrap().errors.is_empty());
}

#[test]
fn units_and_labels_are_stated_for_other_software() {
    let golden = store().with_file_name("v1-units");
    let subject = voxquarry::open(&golden).unwrap().subject("grid").unwrap();
    for expected in voxels::v1_units() {
        let volume = subject.volume(expected.name).unwrap();
        assert_eq!(volume.unit(), LengthUnit::Micrometer);
        assert_eq!(volume.affine(), &voxels::AFFINE);
        assert_eq!(volume.spacing_mm(), volume.spacing().map(|distance| distance * 1e-3));
        let mut bytes = vec![0; volume.voxel_bytes() as usize];
        let size = volume.size();
        volume.read_bytes(&[[0; 3]], size, Padding::None, 0..1, &mut bytes).unwrap();
        assert_eq!(bytes, expected.bytes());
        let document = std::fs::read(golden.join("grid").join(expected.name).join("zarr.json"));
        let document: serde_json::Value = serde_json::from_slice(&document.unwrap()).unwrap();
        let ome = &document["attributes"]["ome"];
        assert_eq!(ome["multiscales"][0]["axes"][0]["unit"], "micrometer");
        let source = &ome["image-label"]["source"]["image"];
        assert_eq!(source.as_str(), (expected.name == "labels-i32").then_some("../u8"));
        assert_eq!(ome["omero"].is_object(), expected.name == "u8");
    }
}

#[test]
fn a_nifti_header_is_stated_for_other_software() {
    let golden = store().with_file_name("v1-nifti");
    let subject = voxquarry::open(&golden).unwrap().subject("grid").unwrap();
    for (name, has_header) in [("i16", true), ("labels-i32", true), ("f16", false)] {
        let volume = subject.volume(name).unwrap();
        assert_eq!(volume.attributes().nifti_crc32c.is_some(), has_header, "{name}");
    }
    assert!(verify(&golden, &mut |_| Ok(())).unwrap().errors.is_empty());
}

#[test]
fn coarser_levels_are_those_of_the_readme() {
    let golden = store().with_file_name("v1-levels");
    let subject = voxquarry::open(&golden).unwrap().subject("grid").unwrap();
    for expected in voxels::v1_levels() {
        let volume = subject.volume(expected.name).unwrap();
        assert_eq!(volume.levels(), [[1, 1, 1], [2, 1, 1], [4, 2, 2]], "{}", expected.name);
        assert_eq!(volume.level(2).unwrap().size(), [2, 5, 10], "{}", expected.name);
    }
    // n of the two planes under a voxel of level 1 is the same.
    let level = subject.volume("u8").unwrap().level(1).unwrap();
    let mut found = vec![0u8; level.voxel_bytes() as usize];
    level.read_into(voxquarry::Region::whole([3, 10, 20]), &mut found).unwrap();
    let finest = &voxels::v1()[0].bytes();
    assert!(finest.chunks(200).step_by(2).flatten().eq(&found));
    assert!(verify(&golden, &mut |_| Ok(())).unwrap().errors.is_empty());
}
