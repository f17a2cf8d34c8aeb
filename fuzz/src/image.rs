//! Image files that ingest reads, beside NIfTI.

use std::cell::LazyCell;
use std::path::Path;

use tempfile::TempDir;
use voxquarry::{OpenOptions, Padding, Result};
use voxquarry_ingest::source::{SourceDigest, SourceVolume};
use voxquarry_ingest::{FindOptions, Stated, VolumeInput, ZarrOptions, find, open_zarr};

use crate::input::Input;
use crate::scratch;

/// Most bytes of voxels that are read.
const MAX_VOXEL_BYTES: usize = 1 << 20;

/// An MGH file.
pub(crate) fn mgh(data: &[u8]) {
    run("a.mgh", data);
}

/// A byte, and a file; if the byte is odd, a header that has as many bytes as the next two say,
/// beside the file `v.raw`.
pub(crate) fn meta_image(data: &[u8]) {
    pair(data, ["a.mha", "a.mhd"]);
}

/// As [`meta_image`].
pub(crate) fn nrrd(data: &[u8]) {
    pair(data, ["a.nrrd", "a.nhdr"]);
}

/// A byte, and a file: an archive if the byte is odd.
pub(crate) fn numpy(data: &[u8]) {
    let mut input = Input(data);
    let name = if input.byte() & 1 == 0 { "a.npy" } else { "a.npz" };
    run(name, input.0);
}

fn pair(data: &[u8], [single, header]: [&str; 2]) {
    let mut input = Input(data);
    if input.byte() & 1 == 0 {
        run(single, input.0);
    } else {
        let header_bytes = usize::from(input.u16());
        let bytes = input.take(header_bytes);
        in_folder(|folder| scratch::write(&folder.join("v.raw"), input.0));
        run(header, bytes);
    }
}

/// A byte, and a DICOM file; if the byte is odd, two files in a folder, the first of which has as
/// many bytes as the next two say.
pub(crate) fn dicom(data: &[u8]) {
    let mut input = Input(data);
    if input.byte() & 1 == 0 {
        run("a.dcm", input.0);
        return;
    }
    let series = in_folder(|folder| folder.join("series"));
    // It is there from the second run on.
    let _ = std::fs::create_dir(&series);
    let first_bytes = usize::from(input.u16());
    scratch::write(&series.join("1"), input.take(first_bytes));
    scratch::write(&series.join("2"), input.0);
    check(&series);
}

/// A TIFF file.
pub(crate) fn tiff(data: &[u8]) {
    run("a.tif", data);
}

/// An HDF5 file.
pub(crate) fn hdf5(data: &[u8]) {
    run("a.h5", data);
}

/// The document of a Zarr array or group, beside a file of zeros that may be its chunk. It is
/// ingested, and opened where it lies: the voxels are the same.
pub(crate) fn zarr(data: &[u8]) {
    thread_local! {
        static FOLDER: LazyCell<TempDir> = LazyCell::new(|| {
            let folder = scratch::folder();
            let chunks = folder.path().join("a.zarr/c/0/0");
            std::fs::create_dir_all(&chunks).expect("the scratch folder takes a folder");
            scratch::write(&chunks.join("0"), &[0; 4096]);
            folder
        });
    }
    let path = FOLDER.with(|folder| folder.path().join("a.zarr"));
    scratch::write(&path.join("zarr.json"), data);
    check(&path);
    let open = OpenOptions::default().threads(1);
    let Ok(volume) = open_zarr(&path, &ZarrOptions { open, ..Default::default() }) else { return };
    let source = find(&[path], &FindOptions::default());
    let Some((_, sources)) = source.iter().flat_map(|f| f.manifest.subjects()).next() else {
        return;
    };
    let input = &sources[0].input;
    let Ok(described) = input.open(&Stated::default()) else { return };
    let described = described.volume().clone();
    let Some(bytes) = voxel_bytes(&described) else { return };
    assert_eq!((volume.size(), volume.dtype()), (described.size, described.dtype));
    let mut voxels = vec![0; bytes];
    let channels = 0..described.channels.unwrap_or(1);
    let whole = volume.read_bytes(&[[0; 3]], volume.size(), Padding::None, channels, &mut voxels);
    if let (Ok(()), Ok((streamed, _))) = (whole, read(input, bytes, usize::MAX))
        && described.interleaved == 1
    {
        assert!(voxels == streamed, "an array has other voxels where it lies");
    }
}

fn run(name: &str, data: &[u8]) {
    let path = in_folder(|folder| folder.join(name));
    scratch::write(&path, data);
    check(&path);
}

fn in_folder<T>(work: impl FnOnce(&Path) -> T) -> T {
    thread_local! {
        static FOLDER: LazyCell<TempDir> = LazyCell::new(scratch::folder);
    }
    FOLDER.with(|folder| work(folder.path()))
}

/// Descriptions that are accepted hold what they promise, and voxels are the same whether they are
/// read at once or in steps.
fn check(path: &Path) {
    let Ok(found) = find(&[path.to_owned()], &FindOptions::default()) else { return };
    for source in found.manifest.subjects().iter().flat_map(|(_, sources)| sources).take(4) {
        let Ok(opened) = source.input.open(&Stated::default()) else { continue };
        let volume = opened.volume().clone();
        assert!(volume.size.iter().all(|&n| n > 0) && volume.affine.validate().is_ok());
        assert!(volume.slope.is_finite() && volume.intercept.is_finite());
        assert!(volume.channels.unwrap_or(1).is_multiple_of(volume.interleaved));
        let Some(bytes) = voxel_bytes(&volume) else { continue };
        if opened.working_bytes(volume.size[0]) > 64 << 20 {
            continue;
        }
        check_steps(&source.input, &volume, bytes);
    }
}

/// Compares the voxels that are read at once with those that are read step by step.
pub(crate) fn check_steps(input: &VolumeInput, volume: &SourceVolume, bytes: usize) {
    match (read(input, bytes, usize::MAX), read(input, bytes, 1)) {
        (Ok((voxels, digest)), Ok((same_voxels, same_digest))) => {
            if volume.interleaved == 1 {
                assert!(voxels == same_voxels, "steps change the voxels");
            }
            assert_eq!(digest, same_digest);
        }
        (Err(_), Err(_)) => {}
        _ => panic!("steps change whether the file can be read"),
    }
}

/// Bytes of all voxels, unless they are too many to be read.
pub(crate) fn voxel_bytes(volume: &SourceVolume) -> Option<usize> {
    let mut extents = volume.channels.into_iter().chain(volume.size);
    let bytes = extents.try_fold(volume.dtype.size(), usize::checked_mul);
    bytes.filter(|&bytes| bytes <= MAX_VOXEL_BYTES)
}

/// All voxels of an image, `steps` z steps at a time.
pub(crate) fn read(
    input: &VolumeInput,
    bytes: usize,
    steps: usize,
) -> Result<(Vec<u8>, SourceDigest)> {
    let opened = input.open(&Stated::default())?;
    let volume = opened.volume().clone();
    let mut stream = opened.stream()?;
    let (mut voxels, groups) = (vec![0; bytes], volume.channels.unwrap_or(1) / volume.interleaved);
    let step_bytes = bytes / groups / volume.size[0];
    let mut rest = &mut voxels[..];
    for _ in 0..groups {
        let mut z = 0;
        while z < volume.size[0] {
            let count = steps.min(volume.size[0] - z);
            let (out, after) = rest.split_at_mut(count * step_bytes);
            stream.next_steps(count, out)?;
            (rest, z) = (after, z + count);
        }
    }
    Ok((voxels, stream.finish()?))
}
