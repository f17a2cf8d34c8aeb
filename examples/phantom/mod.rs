//! A small synthetic store, which the examples read when no store is named.

use std::error::Error;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, Codec, VolumeShape};
use voxquarry::{Affine, Dtype, IfExists, Size3, StoreWriter, SubjectWriter, VolumeSpec};
use voxquarry::{FinishedVolume, Result};

/// Voxels of each volume, `(z, y, x)`.
const SIZE: Size3 = [24, 48, 48];

/// A store, and the temporary folder that it lies in, if it does.
pub(crate) struct ExampleStore {
    path: PathBuf,
    _folder: Option<TempDir>,
}

impl ExampleStore {
    /// The store that the first argument of the program names, or a synthetic one.
    pub(crate) fn from_arguments() -> Result<Self, Box<dyn Error>> {
        match std::env::args_os().nth(1) {
            Some(path) => Ok(Self { path: path.into(), _folder: None }),
            None => Self::synthetic(),
        }
    }

    /// Writes two subjects: each a ball of 40 HU in air as `ct`, and its label map as `seg`.
    pub(crate) fn synthetic() -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("store.zarr");
        let store = StoreWriter::open(&path, None)?;
        for (name, radius) in [("case01", 8.0), ("case02", 10.0)] {
            let mut subject = store.subject(name)?;
            let ct = |inside| if inside { 40i16 } else { -1000 }.to_le_bytes();
            let ct = write_ball(&mut subject, ("ct", Kind::Image, Dtype::Int16), radius, ct)?;
            let seg = |inside| [u8::from(inside)];
            let seg = write_ball(&mut subject, ("seg", Kind::Labels, Dtype::UInt8), radius, seg)?;
            subject.publish([ct, seg], IfExists::Error)?;
        }
        Ok(Self { path, _folder: Some(folder) })
    }

    /// The store's folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// Writes a volume whose voxels are `voxel(is_inside)` of a ball in its middle.
fn write_ball<const N: usize>(
    subject: &mut SubjectWriter,
    (name, kind, dtype): (&str, Kind, Dtype),
    radius: f64,
    voxel: impl Fn(bool) -> [u8; N],
) -> Result<FinishedVolume> {
    let shape = VolumeShape { channels: None, size: SIZE, dtype, interleaved: 1 };
    let layout = layout::choose(&shape, &[[16; 3]], Codec::Fast, 64 << 20)?;
    let spec = VolumeSpec::new(name, kind, layout).affine(Affine::diagonal([1.5, 1.0, 1.0]));
    let mut volume = subject.volume(spec)?;
    let mut z = 0;
    while volume.next_planes() > 0 {
        let mut layer = Vec::with_capacity(volume.layer_bytes());
        for z in z..z + volume.next_planes() {
            for (y, x) in (0..SIZE[1]).flat_map(|y| (0..SIZE[2]).map(move |x| (y, x))) {
                let square = |index: usize, size: usize| (index as f64 - size as f64 / 2.0).powi(2);
                let distance = square(z, SIZE[0]) + square(y, SIZE[1]) + square(x, SIZE[2]);
                layer.extend(voxel(distance.sqrt() < radius));
            }
        }
        z += volume.next_planes();
        volume.write_layer(&layer)?;
    }
    volume.finish()
}
