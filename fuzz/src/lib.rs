//! Fuzz targets: functions from bytes to nothing, which panic where Voxquarry breaks a promise.
//!
//! Each parser of foreign bytes has one. `tools/fuzz.py` runs them under libFuzzer and
//! `AddressSanitizer`, and `tests/replay.rs` runs every seed on any toolchain.
//!
//! # Invariants
//! - A target is a function of its bytes alone; what it keeps for the next run saves time only.

mod document;
mod frames;
mod gzip;
mod image;
mod input;
mod journal;
mod manifest;
mod nifti;
mod region;
mod scratch;
mod shard_index;
mod sidecar;
mod sparse;

/// A function that is fuzzed.
pub type Target = fn(&[u8]);

/// The targets by their names, which are the folders of their seeds.
pub const TARGETS: [(&str, Target); 20] = [
    ("dicom", image::dicom),
    ("document", document::run),
    ("frame", frames::raw),
    ("frame_edits", frames::edited),
    ("frame_roundtrip", frames::roundtrip),
    ("gzip", gzip::run),
    ("hdf5", image::hdf5),
    ("journal", journal::run),
    ("manifest", manifest::run),
    ("meta_image", image::meta_image),
    ("mgh", image::mgh),
    ("nifti", nifti::run),
    ("nrrd", image::nrrd),
    ("numpy", image::numpy),
    ("region", region::run),
    ("shard_index", shard_index::run),
    ("sidecar", sidecar::run),
    ("sparse", sparse::run),
    ("tiff", image::tiff),
    ("zarr", image::zarr),
];

/// The target called `name`.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().find(|(known, _)| *known == name).map(|(_, target)| *target)
}
