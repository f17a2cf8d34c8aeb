//! `voxquarry export`: restores files, and refuses to replace them.

use std::fs;
use std::io::Read;
use std::process::Command;

use flate2::{bufread, read::GzDecoder};

use crate::workspace::{Workspace, image, labels, nifti, with_store};

#[test]
fn files_are_restored_byte_for_byte() {
    let workspace = with_store();
    let run = workspace.ok("export s.zarr/case/ct out.nii");
    assert!(run.out.is_empty() && run.err == "exporting case/ct\n", "{run:?}");
    assert!(fs::read(workspace.path("out.nii")).unwrap() == image());
    workspace.ok("export s.zarr/case/seg out.nii.gz");
    let mut bytes = Vec::new();
    let file = fs::File::open(workspace.path("out.nii.gz")).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    assert!(bytes == labels());
}

#[test]
fn a_gzip_file_is_one_member_whatever_the_number_of_threads() {
    let workspace = Workspace::new();
    // A slope with noise, several blocks long.
    let voxel = |i: usize| (i >> 6) as i16 ^ (((i * i * 40_503) >> 7) & 15) as i16;
    let file = nifti(&[130, 120, 110], voxel);
    workspace.write("a.nii", &file);
    workspace.ok("ingest a.nii --out s.zarr --quiet");
    for threads in [1, 2, 8] {
        workspace.ok(&format!("export s.zarr/a/image {threads}.nii.gz --threads {threads}"));
    }
    let member = fs::read(workspace.path("1.nii.gz")).unwrap();
    for other in ["2.nii.gz", "8.nii.gz"] {
        assert!(fs::read(workspace.path(other)).unwrap() == member, "{other}");
    }
    let (mut rest, mut bytes) = (&member[..], Vec::new());
    bufread::GzDecoder::new(&mut rest).read_to_end(&mut bytes).unwrap();
    assert!(rest.is_empty() && bytes == file);
    let checked = Command::new("gzip").arg("-t").arg(workspace.path("1.nii.gz")).status().unwrap();
    assert!(checked.success());
}

#[test]
fn failures_leave_every_file_as_it_was() {
    let workspace = with_store();
    workspace.write("mine.nii", b"mine");
    let before = workspace.names("");
    workspace.fails("export s.zarr/case/ct mine.nii", 2, &["mine.nii", "help: ", "--overwrite"]);
    workspace.fails("export s.zarr/case/ct out.txt", 2, &["out.txt", ".nii"]);
    workspace.fails("export s.zarr/case out.nii", 2, &["STORE/SUBJECT/VOLUME"]);
    workspace.fails("export s.zarr/case/ct mine.nii/out.nii", 4, &["mine.nii"]);
    if cfg!(target_os = "linux") {
        workspace.fails("export s.zarr/case/ct /proc/out.nii", 4, &["/proc"]);
    }
    assert_eq!(workspace.names(""), before);
    assert_eq!(fs::read(workspace.path("mine.nii")).unwrap(), b"mine");
    workspace.ok("export s.zarr/case/ct mine.nii --overwrite");
    assert!(fs::read(workspace.path("mine.nii")).unwrap() == image());
}
