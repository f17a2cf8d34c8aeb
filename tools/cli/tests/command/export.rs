//! `voxquarry export`.

use std::fs;
use std::io::Read;

use flate2::read::GzDecoder;

use crate::world::{image, labels, with_store};

#[test]
fn what_came_in_comes_out() {
    let world = with_store();
    let run = world.ok("export s.zarr/case/ct out.nii");
    assert!(run.out.is_empty() && run.err == "exporting case/ct\n", "{run:?}");
    assert!(fs::read(world.path("out.nii")).unwrap() == image());
    world.ok("export s.zarr/case/seg out.nii.gz");
    let mut bytes = Vec::new();
    let file = fs::File::open(world.path("out.nii.gz")).unwrap();
    GzDecoder::new(file).read_to_end(&mut bytes).unwrap();
    assert!(bytes == labels());
}

#[test]
fn refusals_leave_every_file_as_it_was() {
    let world = with_store();
    world.write("mine.nii", b"mine");
    let before = world.names("");
    world.fails("export s.zarr/case/ct mine.nii", 2, &["mine.nii", "--overwrite"]);
    world.fails("export s.zarr/case/ct out.txt", 2, &["out.txt", ".nii"]);
    world.fails("export s.zarr/case out.nii", 2, &["STORE/SUBJECT/VOLUME"]);
    world.fails("export s.zarr/case/ct mine.nii/out.nii", 4, &["mine.nii"]);
    world.fails("export s.zarr/case/ct /proc/out.nii", 4, &["/proc"]);
    assert_eq!(world.names(""), before);
    assert_eq!(fs::read(world.path("mine.nii")).unwrap(), b"mine");
    world.ok("export s.zarr/case/ct mine.nii --overwrite");
    assert!(fs::read(world.path("mine.nii")).unwrap() == image());
}
