//! Data sets of every layout, made file by file, and what becomes of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{FindOptions, Found, Layout, NoopObserver, find, ingest};

use crate::build::{Folder, Nifti, gzip};
use crate::{assert_sound, open, small, tree, volume, voxels};

/// Writes a gzipped image of one value, making folders.
fn image(root: &Path, name: &str, dims: &[i64], value: u8) {
    let mut file = Nifti::new(1, false, 2, dims);
    file.voxels.fill(value);
    text(root, name, &gzip(&file.single()));
}

fn text(root: &Path, name: &str, bytes: &[u8]) {
    let path = root.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

fn found(path: &Path) -> Found {
    find(&[path.to_owned()], &FindOptions::default()).unwrap()
}

/// Subject, volume and kind of each source.
fn sources(found: &Found) -> Vec<String> {
    let all = found.manifest.subjects().iter().flat_map(|(_, sources)| sources);
    all.map(|s| format!("{}/{} {}", s.subject, s.volume, s.kind.name())).collect()
}

fn note<'a>(found: &'a Found, word: &str) -> &'a str {
    let note = found.notes.iter().find(|note| note.contains(word));
    note.unwrap_or_else(|| panic!("no {word:?} in {:?}", found.notes))
}

fn splits(store: &Path) -> BTreeMap<String, Vec<String>> {
    open(store).splits().unwrap()
}

fn error(path: &Path, options: &FindOptions) -> String {
    find(&[path.to_owned()], options).unwrap_err().to_string()
}

const BOX: [i64; 3] = [7, 6, 5];

fn nnunet(root: &Path) {
    let document = br#"{"channel_names": {"0": "T1", "1": "FLAIR"}, "file_ending": ".nii.gz",
        "labels": {"background": 0, "whole tumor": [1, 2], "core": 2}, "numTraining": 2}"#;
    text(root, "dataset.json", document);
    for (i, case) in ["BRATS_001", "BRATS_002"].into_iter().enumerate() {
        image(root, &format!("imagesTr/{case}_0000.nii.gz"), &BOX, 10 + i as u8);
        image(root, &format!("imagesTr/{case}_0001.nii.gz"), &BOX, 20 + i as u8);
        image(root, &format!("labelsTr/{case}.nii.gz"), &BOX, 1 + i as u8);
    }
    image(root, "imagesTs/BRATS_003_0000.nii.gz", &BOX, 3);
    image(root, "imagesTs/BRATS_003_0001.nii.gz", &BOX, 3);
    text(root, "splits_final.json", br#"[{"train": ["BRATS_001"], "val": ["BRATS_002"]}]"#);
}

#[test]
fn an_nnunet_data_set_has_channels_labels_names_and_splits() {
    let folder = Folder::new();
    let root = folder.join("Dataset001_Brats");
    nnunet(&root);
    image(&root, "imagesTr/stray.nii.gz", &BOX, 1);
    image(&root, "labelsTr/BRATS_009.nii.gz", &BOX, 1);
    text(&root, "imagesTr/._BRATS_001_0000.nii.gz", b"of macOS");
    let found = found(&root);
    assert!(note(&found, "nnU-Net").ends_with("data set of 3 subjects"));
    assert!(note(&found, "stray.nii.gz").contains("_0000, _0001"));
    assert!(note(&found, "BRATS_009.nii.gz").contains("labels without an image"));
    let case = |n: &str, label: bool| {
        let mut all = vec![format!("{n}/T1 image"), format!("{n}/FLAIR image")];
        all.extend(label.then(|| format!("{n}/label labels")));
        all
    };
    let expected = [case("BRATS_001", true), case("BRATS_002", true), case("BRATS_003", false)];
    assert_eq!(sources(&found), expected.concat());

    let store = folder.join("s.zarr");
    ingest(&found.manifest, &store, &small(), &NoopObserver).unwrap();
    assert_sound(&store);
    let value = |subject: &str, name: &str| voxels(&volume(&store, subject, name))[0];
    assert_eq!((value("BRATS_002", "T1"), value("BRATS_002", "FLAIR")), (11, 21));
    let label = volume(&store, "BRATS_001", "label");
    let names: Vec<_> = label.labels().iter().map(|l| (l.name.as_str(), &l.ids[..])).collect();
    assert_eq!(names, [("background", &[0][..]), ("whole tumor", &[1, 2]), ("core", &[2])]);
    assert!(volume(&store, "BRATS_001", "T1").labels().is_empty());
    let splits = splits(&store);
    assert_eq!(splits["train"], ["BRATS_001", "BRATS_002"]);
    assert_eq!(splits["test"], ["BRATS_003"]);
    assert_eq!(
        (&splits["fold_0_train"][..], &splits["fold_0_val"][..]),
        (&["BRATS_001".to_owned()][..], &["BRATS_002".to_owned()][..])
    );
}

#[test]
fn splits_that_come_later_are_added_without_the_voxels() {
    let folder = Folder::new();
    let root = folder.join("Dataset001_Brats");
    nnunet(&root);
    fs::remove_file(root.join("splits_final.json")).unwrap();
    let store = folder.join("s.zarr");
    let run = || ingest(&found(&root).manifest, &store, &small(), &NoopObserver).unwrap();
    run();
    assert_eq!(splits(&store).len(), 2);
    nnunet(&root);
    let before = tree(&store.join("BRATS_001/T1"));
    let report = run();
    assert_eq!((report.skipped.len(), report.written.len()), (3, 0));
    assert_eq!(report.notes.len(), 2, "{:?}", report.notes);
    assert_eq!(splits(&store)["fold_0_val"], ["BRATS_002"]);
    assert!(tree(&store.join("BRATS_001/T1")) == before);
    assert_sound(&store);
    assert!(!store.join(".voxquarry-partial").exists());
}

#[test]
fn one_channel_of_nnunet_is_the_image_and_missing_files_fail_their_case() {
    let folder = Folder::new();
    let root = folder.join("Dataset002");
    text(&root, "dataset.json", br#"{"channel_names": {"0": "CT"}, "labels": {"liver": 1}}"#);
    for case in ["a", "b_1"] {
        image(&root, &format!("imagesTr/{case}_0000.nii.gz"), &BOX, 1);
    }
    image(&root, "labelsTr/a.nii.gz", &BOX, 1);
    let found = found(&root.join("dataset.json"));
    let expected = ["a/image image", "a/label labels", "b_1/image image", "b_1/label labels"];
    assert_eq!(sources(&found), expected);
    let store = folder.join("s.zarr");
    let going = small().keep_going(true);
    let report = ingest(&found.manifest, &store, &going, &NoopObserver).unwrap();
    assert_eq!(report.written, ["a"]);
    assert!(report.failed[0].error.to_string().contains("labelsTr/b_1.nii.gz"));
}

#[test]
fn nnunet_cases_may_be_listed_and_never_leave_the_folder() {
    let folder = Folder::new();
    let root = folder.join("Dataset003");
    image(&root, "elsewhere/x.nii.gz", &BOX, 1);
    image(&root, "elsewhere/y.nii.gz", &BOX, 1);
    let list = |image: &str| {
        let text = r#"{"channel_names": {"0": "CT"}, "labels": {}, "dataset":
            {"case": {"images": ["IMAGE"], "label": "./elsewhere/y.nii.gz"}}}"#;
        text.replace("IMAGE", image).into_bytes()
    };
    text(&root, "dataset.json", &list("elsewhere/x.nii.gz"));
    assert_eq!(sources(&found(&root)), ["case/image image", "case/label labels"]);
    for outside in ["../x.nii.gz", "/x.nii.gz", "$HOME/x.nii.gz"] {
        text(&root, "dataset.json", &list(outside));
        let message = error(&root, &FindOptions::default());
        assert!(message.contains("dataset.json") && message.contains(outside), "{message}");
    }
}

#[test]
fn a_decathlon_data_set_follows_its_lists() {
    let folder = Folder::new();
    let root = folder.join("Task01_BrainTumour");
    let document = br#"{"name": "BRATS", "tensorImageSize": "4D", "modality": {"0": "FLAIR"},
        "labels": {"0": "background", "1": "edema", "10": "other", "2": "core"},
        "training": [{"image": "./imagesTr/B_1.nii.gz", "label": "./labelsTr/B_1.nii.gz"}],
        "test": ["./imagesTs/B_2.nii.gz"]}"#;
    text(&root, "dataset.json", document);
    image(&root, "imagesTr/B_1.nii.gz", &[7, 6, 5, 4], 9);
    image(&root, "labelsTr/B_1.nii.gz", &BOX, 2);
    image(&root, "imagesTs/B_2.nii.gz", &[7, 6, 5, 4], 8);
    image(&root, "imagesTr/B_7.nii.gz", &BOX, 1);
    text(&root, "imagesTr/._B_1.nii.gz", b"of macOS");
    let found = found(&root);
    assert!(note(&found, "Decathlon").ends_with("of 2 subjects"));
    assert!(note(&found, "ignored").contains("B_7.nii.gz"));
    assert_eq!(sources(&found), ["B_1/image image", "B_1/label labels", "B_2/image image"]);
    let store = folder.join("s.zarr");
    ingest(&found.manifest, &store, &small(), &NoopObserver).unwrap();
    assert_eq!(volume(&store, "B_1", "image").shape(), [4, 5, 6, 7]);
    let names = volume(&store, "B_1", "label").labels().to_vec();
    let names: Vec<_> = names.into_iter().map(|l| (l.ids[0], l.name)).collect();
    let name = |id, name: &str| (id, name.to_owned());
    assert_eq!(
        names,
        [name(0, "background"), name(1, "edema"), name(2, "core"), name(10, "other")]
    );
    assert_eq!(splits(&store)["train"], ["B_1"]);
    assert_eq!(splits(&store)["test"], ["B_2"]);
}

#[test]
fn lists_of_the_first_nnunet_and_of_monai_are_known() {
    let folder = Folder::new();
    let root = folder.join("Task001");
    text(
        &root,
        "dataset.json",
        br#"{"labels": {}, "training": [
        {"image": "./imagesTr/a.nii.gz", "label": "./labelsTr/a.nii.gz", "fold": 3},
        {"image": ["x/t1.nii.gz", "x/t2.nii.gz"]}], "test": []}"#,
    );
    for name in ["imagesTr/a_0000", "imagesTr/a_0001", "labelsTr/a", "x/t1", "x/t2"] {
        image(&root, &format!("{name}.nii.gz"), &BOX, 1);
    }
    let found = found(&root);
    let expected = [
        "a/image_0000 image",
        "a/image_0001 image",
        "a/label labels",
        "t1/image_0000 image",
        "t1/image_0001 image",
    ];
    assert_eq!(sources(&found), expected);
    assert_eq!(found.manifest.splits_of("a"), ["fold_3", "train"]);
}

#[test]
fn a_bids_data_set_has_a_subject_for_each_grid() {
    let folder = Folder::new();
    let root = folder.join("study");
    text(&root, "dataset_description.json", br#"{"Name": "s", "BIDSVersion": "1.10.0"}"#);
    text(&root, "README", b"A study.");
    for (sub, session) in [("sub-01", "ses-a"), ("sub-01", "ses-b"), ("sub-02", "ses-a")] {
        let base = format!("{sub}/{session}/{{}}/{sub}_{session}_");
        let at = |kind: &str, rest: &str| base.replace("{}", kind) + rest;
        image(&root, &at("anat", "T1w.nii.gz"), &BOX, 1);
        image(&root, &at("anat", "acq-hi_FLAIR.nii.gz"), &BOX, 2);
        text(&root, &at("anat", "T1w.json"), b"{}");
        image(&root, &at("func", "task-rest_bold.nii.gz"), &[3, 3, 2, 6], 3);
    }
    image(&root, "sub-02/ses-a/anat/T1w_copy.nii.gz", &BOX, 1);
    let pipeline = "derivatives/segment/sub-01/ses-a/anat/sub-01_ses-a_";
    image(&root, &format!("{pipeline}space-T1w_dseg.nii.gz"), &BOX, 4);
    image(&root, &format!("{pipeline}desc-brain_mask.nii.gz"), &BOX, 1);
    image(&root, &format!("{pipeline}T1w.nii.gz"), &BOX, 7);
    text(
        &root,
        "derivatives/segment/space-T1w_dseg.tsv",
        b"index\tname\tcolor\n4\tVentricle\t#FF8800\n0\tBackground\tn/a\n",
    );
    let found = found(&root);
    note(&found, "BIDS data set of 3 subjects");
    assert!(note(&found, "ignored").contains("T1w_copy.nii.gz"));
    let store = folder.join("s.zarr");
    let report = ingest(&found.manifest, &store, &small(), &NoopObserver).unwrap();
    assert_eq!(report.notes.len(), 3, "{:?}", report.notes);
    assert_sound(&store);
    let names = open(&store).subjects().to_vec();
    let rest = "task-rest_bold";
    let expected: Vec<_> = ["sub-01_ses-a", "sub-01_ses-b", "sub-02_ses-a"]
        .iter()
        .flat_map(|sub| [(*sub).to_owned(), format!("{sub}_{rest}")])
        .collect();
    assert_eq!(names, expected);
    let volumes = open(&store).subject("sub-01_ses-a").unwrap().volumes().to_vec();
    let expected = ["T1w", "acq-hi_FLAIR", "desc-brain_mask", "segment_T1w", "space-T1w_dseg"];
    assert_eq!(volumes, expected);
    let dseg = volume(&store, "sub-01_ses-a", "space-T1w_dseg");
    assert_eq!(dseg.kind(), Kind::Labels);
    assert_eq!(
        (dseg.labels()[0].name.as_str(), dseg.labels()[0].color.as_deref()),
        ("Ventricle", Some("#ff8800"))
    );
    assert_eq!(dseg.labels()[1].color, None);
    assert_eq!(volume(&store, &format!("sub-02_ses-a_{rest}"), rest).channels(), Some(6));
}

#[test]
fn templates_name_subjects_volumes_kinds_and_splits() {
    let folder = Folder::new();
    let root = folder.join("data");
    for case in ["B_1", "B_2"] {
        for name in ["t1", "seg"] {
            image(&root, &format!("train/{case}/{case}_{name}.nii.gz"), &BOX, 1);
        }
    }
    image(&root, "train/B_1/other.nii.gz", &BOX, 1);
    let options = |pattern: &str| {
        let mut options = FindOptions::default();
        options.pattern = Some(pattern.to_owned());
        options
    };
    let find = |pattern: &str| find(std::slice::from_ref(&root), &options(pattern)).unwrap();
    let found = find("{split}/{subject}/{subject}_{volume}.nii.gz");
    let expected = ["B_1/seg labels", "B_1/t1 image", "B_2/seg labels", "B_2/t1 image"];
    assert_eq!(sources(&found), expected);
    assert_eq!(found.manifest.splits_of("B_2"), ["train"]);
    assert!(note(&found, "ignored").contains("other.nii.gz"));
    note(&found, "by their names these are labels: seg");
    let mut other = options("train/{subject}/*_{volume}.nii.gz");
    other.kinds = vec![("seg".to_owned(), "image".parse().unwrap())];
    other.subset = vec!["*_2".to_owned()];
    let found = voxquarry_ingest::find(std::slice::from_ref(&root), &other).unwrap();
    assert_eq!(sources(&found), ["B_2/seg image", "B_2/t1 image"]);
    for (pattern, words) in [
        ("train/{volume}.nii.gz", "{subject}"),
        ("{case}.nii.gz", "{case}"),
        ("{subject}.mha", "matches files"),
    ] {
        let message = error(&root, &options(pattern));
        assert!(message.contains(words), "{message}");
    }
    other.subset = vec!["C*".to_owned()];
    assert!(error(&root, &other).contains("B_1"));
    other.subset.clear();
    other.kinds[0].0 = "pet".to_owned();
    assert!(error(&root, &other).contains("seg, t1"));
}

#[test]
fn folders_of_images_and_of_subjects_are_what_one_expects() {
    let folder = Folder::new();
    let root = folder.join("imagesTr");
    for name in ["a", "b"] {
        image(&root, &format!("{name}.nii.gz"), &BOX, 1);
    }
    text(&root, "notes.txt", b"no image");
    let of_images = found(&root);
    assert_eq!(sources(&of_images), ["a/image image", "b/image image"]);
    assert!(note(&of_images, "notes.txt").contains("no images"));
    note(&of_images, "a folder of images of 2 subjects");
    let glob = find(&[root.join("*.nii.gz")], &FindOptions::default()).unwrap();
    assert_eq!(sources(&glob), ["a/image image", "b/image image"]);
    assert!(error(&root.join("*.mha"), &FindOptions::default()).contains("*.mha"));
    assert!(error(&folder.join("gone/*.nii"), &FindOptions::default()).contains("gone"));

    let root = folder.join("numbered");
    image(&root, "case_1_0000.nii.gz", &BOX, 1);
    image(&root, "case_1_0001.nii.gz", &BOX, 1);
    let expected = ["case_1/image_0000 image", "case_1/image_0001 image"];
    assert_eq!(sources(&found(&root)), expected);

    let root = folder.join("subjects");
    for name in ["p1/p1_flair.nii.gz", "p1/p1-mask.nii.gz", "p1/t1.nii", "p2/sub/t1.nii"] {
        let bytes = Nifti::new(1, false, 2, &BOX).single();
        text(&root, name, &if name.ends_with("gz") { gzip(&bytes) } else { bytes });
    }
    let of_subjects = found(&root);
    let expected = ["p1/mask labels", "p1/flair image", "p1/t1 image", "p2/sub_t1 image"];
    assert_eq!(sources(&of_subjects), expected);
    note(&of_subjects, "a folder of subjects of 2 subjects");

    let empty = folder.join("empty");
    fs::create_dir(&empty).unwrap();
    assert!(error(&empty, &FindOptions::default()).contains("holds no image"));
    image(&empty, "imagesTr/a.nii.gz", &BOX, 1);
    assert!(error(&empty, &FindOptions::default()).contains("no dataset.json"));
    text(&empty, "dataset.json", b"{}");
    assert!(error(&empty, &FindOptions::default()).contains("channel_names"));
    text(&empty, "dataset.json", b"{");
    assert!(error(&empty, &FindOptions::default()).contains("no JSON"));
}

#[test]
fn a_subset_is_a_split_or_names() {
    let folder = Folder::new();
    let root = folder.join("Dataset001_Brats");
    nnunet(&root);
    let subset = |items: &[&str]| -> Vec<String> {
        let mut options = FindOptions::default();
        options.subset = items.iter().map(|&item| item.to_owned()).collect();
        options.layout = Layout::Nnunet;
        let found = find(&[PathBuf::from(&root)], &options).unwrap();
        found.manifest.subjects().iter().map(|(name, _)| name.clone()).collect()
    };
    assert_eq!(subset(&["test"]), ["BRATS_003"]);
    assert_eq!(subset(&["BRATS_001", "*3"]), ["BRATS_001", "BRATS_003"]);
    let mut options = FindOptions::default();
    options.subset = vec!["validation".to_owned()];
    let message = error(&root, &options);
    assert!(message.contains("fold_0_train, fold_0_val, test, train"), "{message}");
}
