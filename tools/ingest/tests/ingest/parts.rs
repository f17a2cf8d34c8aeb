//! Ingests in parts: the store is that of one process, and what does not fit is told.

use std::fs;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry::format::levels::Levels;
use voxquarry::{Error, IfExists, Part, Result};
use voxquarry_ingest::{IngestOptions, IngestReport, Manifest, NoopObserver, PartsPlan, ingest};

use crate::build::{Folder, Nifti};
use crate::{assert_sound, images, open, small, source, tree};

/// Seven subjects of different sizes, with labels, names of labels, weights and splits.
fn manifest(folder: &Folder) -> Manifest {
    let mut manifest = Manifest::new();
    for i in 0..7u8 {
        let dims = [20 + 9 * i64::from(i), 21, 18];
        let file = |name: String, value: u8| {
            let mut file = Nifti::new(1, false, 2, &dims);
            let voxels = file.voxels.iter_mut().enumerate();
            voxels.for_each(|(n, voxel)| *voxel = (n as u8).wrapping_mul(value) % 5);
            folder.write(&name, &file.single())
        };
        let subject = format!("s{i}");
        let (ct, seg) = (file(format!("{i}-ct.nii"), 7), file(format!("{i}-seg.nii"), 3));
        manifest.push(source(&subject, "ct", Kind::Image, &ct)).unwrap();
        manifest.push(source(&subject, "seg", Kind::Labels, &seg)).unwrap();
        manifest.push_weights(source(&subject, "heat", Kind::Image, &seg)).unwrap();
        manifest.add_to_split(&subject, if i < 5 { "train" } else { "test" }).unwrap();
    }
    let tumour = serde_json::from_str(r#"{"ids":[1,2],"name":"tumour"}"#).unwrap();
    manifest.set_label_names("seg", vec![tumour]);
    manifest
}

fn plan(manifest: &Manifest, store: &Path, options: &IngestOptions) -> PartsPlan {
    let made = PartsPlan::make(manifest, store, options, "", &NoopObserver).unwrap();
    assert!(made.failed.is_empty(), "{:?}", made.failed);
    made.plan.install().unwrap();
    made.plan
}

fn run(plan: &PartsPlan, number: usize, count: usize) -> Result<IngestReport> {
    let part = Part::new(number, count).unwrap();
    let (report, result) = plan.run_part(part, &small(), &NoopObserver);
    result?;
    if plan.keeps_going() { Ok(report) } else { report.all_or_error() }
}

fn finalize(plan: &PartsPlan) -> Result<IngestReport> {
    let (report, result) = plan.finalize(&NoopObserver);
    result.map(|()| report)
}

/// Every file below a folder, with paths below it.
fn files(store: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let below =
        |(path, bytes): (PathBuf, Vec<u8>)| (path.strip_prefix(store).unwrap().to_owned(), bytes);
    tree(store).into_iter().map(below).collect()
}

/// Issue 25: parts of every count, in any order, give the files of one process.
#[test]
fn parts_give_the_files_of_one_process() {
    let folder = Folder::new();
    let manifest = manifest(&folder);
    let alone = folder.join("alone.zarr");
    let options = small().levels(Levels::Count(1));
    ingest(&manifest, &alone, &options, &NoopObserver).unwrap();
    assert_eq!(open(&alone).subject("s0").unwrap().volume("ct").unwrap().levels().len(), 2);
    for count in [1, 3, 16] {
        let (store, file) = (folder.join(&format!("{count}.zarr")), folder.join("plan.json"));
        plan(&manifest, &store, &options).write(&file).unwrap();
        // What any process reads.
        let plan = PartsPlan::read(&file).unwrap();
        assert_eq!(PartsPlan::installed(&store).unwrap(), plan);
        let mut written = Vec::new();
        for number in (0..count).rev() {
            written.extend(run(&plan, number, count).unwrap().written);
            assert!(!store.join("zarr.json").exists() && voxquarry::open(&store).is_err());
        }
        written.sort();
        let report = finalize(&plan).unwrap();
        assert_eq!(report.written, written);
        assert!(report.voxel_bytes == 3 * 21 * 18 * (7 * 20 + 9 * 21) && report.stored_bytes > 0);
        assert!(files(&store) == files(&alone), "{count} parts");
        let again = finalize(&plan).unwrap();
        assert_eq!((again.written.len(), again.skipped), (0, written));
        assert!(files(&store) == files(&alone));
    }
    assert_sound(&alone);
}

#[test]
fn a_part_that_is_run_again_redoes_what_is_missing_alone() {
    let folder = Folder::new();
    let manifest = manifest(&folder);
    let store = folder.join("s.zarr");
    let plan = plan(&manifest, &store, &small());
    let first = run(&plan, 0, 2).unwrap();
    let again = run(&plan, 0, 2).unwrap();
    assert_eq!((again.written.len(), again.skipped), (0, first.written.clone()));
    // A subject without its note, as of a process that was killed between both.
    let lost = &first.written[0];
    let partial = store.join(".voxquarry-partial");
    let note = tree(&partial).into_iter().find(|(path, _)| path.ends_with(format!("done/{lost}")));
    fs::remove_file(note.unwrap().0).unwrap();
    assert_eq!(&run(&plan, 0, 2).unwrap().written[..], std::slice::from_ref(lost));
    // And one that was damaged since.
    let ends = format!("subjects/{lost}/zarr.json");
    let document = tree(&partial).into_iter().find(|(path, _)| path.ends_with(&ends)).unwrap().0;
    fs::remove_file(document).unwrap();
    let error = finalize(&plan).unwrap_err().to_string();
    assert!(error.contains("parts 0/2, 1/2 again"), "{error}");
    assert_eq!(&run(&plan, 0, 2).unwrap().written[..], std::slice::from_ref(lost));
    let error = finalize(&plan).unwrap_err().to_string();
    assert!(error.contains("run part 1/2 again") && error.contains("of 7 subjects"), "{error}");
    run(&plan, 1, 2).unwrap();
    finalize(&plan).unwrap();
    let alone = folder.join("alone.zarr");
    ingest(&manifest, &alone, &small(), &NoopObserver).unwrap();
    assert!(files(&store) == files(&alone));
}

#[test]
fn a_source_that_changed_is_told_with_the_part_and_what_to_run() {
    let folder = Folder::new();
    let manifest = manifest(&folder);
    let store = folder.join("s.zarr");
    let old = plan(&manifest, &store, &small());
    run(&old, 1, 2).unwrap();
    let changed = folder.join("3-seg.nii");
    let mut file = Nifti::new(1, false, 2, &[47, 21, 18]);
    file.voxels.fill(4);
    fs::write(&changed, file.single()).unwrap();
    // What is done stays as it was planned.
    assert!(run(&old, 1, 2).unwrap().written.is_empty());
    let error = run(&old, 0, 2).unwrap_err().to_string();
    assert!(error.contains("3-seg.nii: it has changed since the plan was made"), "{error}");
    assert!(error.ends_with("make the plan again, then run part 0/2 again"), "{error}");
    // The new plan takes over what has not changed, and refuses the old plan's parts.
    let new = PartsPlan::make(&manifest, &store, &small(), "", &NoopObserver).unwrap().plan;
    assert!(new.install().unwrap() >= 2);
    let error = run(&old, 0, 2).unwrap_err();
    assert!(matches!(error, Error::Unsupported { .. }), "{error}");
    assert!(error.to_string().starts_with("part 0/2 is of plan "), "{error}");
    for number in 0..3 {
        run(&new, number, 3).unwrap();
    }
    finalize(&new).unwrap();
    let alone = folder.join("alone.zarr");
    ingest(&manifest, &alone, &small(), &NoopObserver).unwrap();
    assert!(files(&store) == files(&alone));
}

#[test]
fn plans_for_other_inputs_counts_and_stores_are_refused() {
    let folder = Folder::new();
    let manifest = manifest(&folder);
    let store = folder.join("s.zarr");
    let nowhere = PartsPlan::make(&manifest, &store, &small(), "", &NoopObserver).unwrap().plan;
    let error = run(&nowhere, 0, 2).unwrap_err().to_string();
    assert!(error.contains("part 0/2") && error.contains("does not wait for plan"), "{error}");
    assert!(PartsPlan::installed(&store).is_err());
    let plan = plan(&manifest, &store, &small());
    let error = finalize(&plan).unwrap_err().to_string();
    assert!(error.contains("7 of 7 subjects") && error.contains("0/N to N-1/N"), "{error}");
    run(&plan, 0, 2).unwrap();
    let error = run(&plan, 1, 3).unwrap_err().to_string();
    assert!(error.contains("part 1/3: parts of 2 were begun"), "{error}");
    let codec = small().codec(voxquarry::format::layout::Codec::Compact);
    let other = PartsPlan::make(&manifest, &store, &codec, "", &NoopObserver).unwrap().plan;
    let error = run(&other, 1, 2).unwrap_err().to_string();
    assert!(error.starts_with("part 1/2 is of plan "), "{error}");

    let file = folder.join("plan.json");
    plan.write(&file).unwrap();
    let text = fs::read_to_string(&file).unwrap();
    for changed in [text.replace("s3", "s4"), text[..text.len() / 2].to_owned(), "{}".to_owned()] {
        fs::write(&file, changed).unwrap();
        let error = PartsPlan::read(&file).unwrap_err();
        assert!(matches!(error, Error::Data { .. }), "{error}");
        assert!(error.to_string().contains("make the plan again"), "{error}");
    }
    fs::remove_file(&file).unwrap();
    assert!(matches!(PartsPlan::read(&file).unwrap_err(), Error::NoSuchFile { .. }));
    let adding = PartsPlan::make(&manifest, &store, &small().add_volumes(true), "", &NoopObserver);
    assert!(matches!(adding.unwrap_err(), Error::Unsupported { .. }));
}

#[test]
fn a_store_that_is_there_keeps_its_subjects_until_all_parts_are_done() {
    let folder = Folder::new();
    let manifest = manifest(&folder);
    let store = folder.join("s.zarr");
    // Two subjects are there: one as it will be, one made of something else.
    let other = images(&[("s1", "ct", &folder.join("1-ct.nii"))]);
    ingest(&other, &store, &small(), &NoopObserver).unwrap();
    let mut same = Manifest::new();
    for (_, sources) in manifest.subjects().iter().filter(|(name, _)| name == "s2") {
        for source in sources.iter().cloned() {
            if source.volume == "heat" {
                same.push_weights(source).unwrap();
            } else {
                same.push(source).unwrap();
            }
        }
    }
    let tumour = serde_json::from_str(r#"{"ids":[1,2],"name":"tumour"}"#).unwrap();
    same.set_label_names("seg", vec![tumour]);
    ingest(&same, &store, &small(), &NoopObserver).unwrap();
    let published = |store: &Path| -> Vec<_> {
        let is_partial = |path: &Path| path.to_str().unwrap().contains(".voxquarry-partial");
        tree(store).into_iter().filter(|(path, _)| !is_partial(path)).collect()
    };
    let before = published(&store);

    let refusing = plan(&manifest, &store, &small());
    let error = [0, 1].iter().find_map(|&n| run(&refusing, n, 2).err()).unwrap();
    assert!(matches!(error, Error::ExistsOtherwise { .. }), "{error}");
    let replacing = plan(&manifest, &store, &small().if_exists(IfExists::Replace));
    for number in [0, 1] {
        run(&replacing, number, 2).unwrap();
        assert!(published(&store) == before);
    }
    finalize(&replacing).unwrap();
    let alone = folder.join("alone.zarr");
    ingest(&manifest, &alone, &small(), &NoopObserver).unwrap();
    assert!(files(&store) == files(&alone));
    assert_eq!(open(&store).splits().unwrap()["train"].len(), 5);
}

#[test]
fn subjects_that_fail_are_listed_at_the_end_of_a_run_that_keeps_going() {
    let folder = Folder::new();
    let mut manifest = manifest(&folder);
    // One whose header is damaged, and one whose voxels are.
    let bad = folder.write("bad.nii", b"no image");
    manifest.push(source("bad", "ct", Kind::Image, &bad)).unwrap();
    let whole = Nifti::new(1, false, 2, &[20, 20, 20]).single();
    let short = folder.write("short.nii.gz", &crate::build::gzip(&whole)[..60]);
    manifest.push(source("short", "ct", Kind::Image, &short)).unwrap();
    let store = folder.join("s.zarr");
    let options = small().keep_going(true);
    let made = PartsPlan::make(&manifest, &store, &options, "", &NoopObserver).unwrap();
    let known: Vec<_> = made.failed.iter().map(|failure| &*failure.subject).collect();
    assert!(known.contains(&"bad"), "{known:?}");
    made.plan.install().unwrap();
    for number in 0..4 {
        run(&made.plan, number, 4).unwrap();
    }
    let report = finalize(&made.plan).unwrap();
    let mut failed: Vec<_> = report.failed.iter().map(|failure| &*failure.subject).collect();
    failed.sort_unstable();
    assert_eq!((failed, report.written.len()), (vec!["bad", "short"], 7));
    assert!(report.failed.iter().all(|f| f.error.to_string().contains(f.path.to_str().unwrap())));
    let alone = folder.join("alone.zarr");
    ingest(&manifest, &alone, &options, &NoopObserver).unwrap();
    assert!(files(&store) == files(&alone));
}
