//! Computes a phantom of a head, for demos without an image; it is the same on every machine.

use std::path::Path;

use voxquarry::{Affine, Dtype, IfExists, Result, Size3};
use voxquarry_ingest::nifti::{ExportSpec, NiftiWriter};

/// Extents of a brain MR at 1 mm.
const SIZE: Size3 = [182, 218, 182];

// Tissues: label and brightness.
const AIR: (u8, i32) = (0, 4);
const SCALP: (u8, i32) = (0, 190);
const SKULL: (u8, i32) = (0, 30);
const FLUID: (u8, i32) = (3, 55);
const GREY_MATTER: (u8, i32) = (1, 120);
const WHITE_MATTER: (u8, i32) = (2, 170);

/// Writes the image and its label map: 1 grey matter, 2 white matter, 3 fluid.
///
/// # Errors
/// [`voxquarry::Error::Io`].
pub(super) fn write(image: &Path, labels: &Path) -> Result<()> {
    let mut affine = Affine::IDENTITY;
    for (row, origin_mm) in [-90.5, -126.0, -72.0].into_iter().enumerate() {
        affine.0[row][3] = origin_mm;
    }
    let spec = ExportSpec {
        size: SIZE,
        channels: None,
        dtype: Dtype::UInt8,
        affine,
        unit: None,
        slope: 1.0,
        intercept: 0.0,
        origin: None,
    };
    let mut image = NiftiWriter::create(image, &spec, IfExists::Replace, 1)?;
    let mut labels = NiftiWriter::create(labels, &spec, IfExists::Replace, 1)?;
    let [_, ny, nx] = SIZE;
    let (mut values, mut tissues) = (vec![0; ny * nx], vec![0; ny * nx]);
    for z in 0..SIZE[0] {
        for (i, (value, tissue)) in values.iter_mut().zip(&mut tissues).enumerate() {
            let (label, brightness) = tissue_at([z, i / nx, i % nx]);
            *tissue = label;
            *value = (brightness + noise(z * ny * nx + i)).clamp(0, 255) as u8;
        }
        image.write_steps(&values, 1)?;
        labels.write_steps(&tissues, 1)?;
    }
    image.finish()?;
    labels.finish()
}

/// The tissue at a voxel: nested ellipsoids, with waves that fold the cortex.
fn tissue_at(at: Size3) -> (u8, i32) {
    const RADII: [f64; 3] = [84.0, 102.0, 84.0];
    let centred = [0, 1, 2].map(|a| at[a] as f64 - (SIZE[a] as f64 - 1.0) / 2.0);
    let radius = |stretch: [f64; 3], shift: [f64; 3]| {
        let part = |a: usize| ((centred[a] - shift[a]) / stretch[a]).powi(2);
        (part(0) + part(1) + part(2)).sqrt()
    };
    let [z, y, x] = centred;
    // Two ventricles, left and right of the midline.
    let ventricle = radius([16.0, 30.0, 7.0], [8.0, 4.0, 11.0f64.copysign(x)]);
    let folds = (x / 5.5).sin() * (y / 6.5).cos() + (z / 5.0).sin() * (x / 9.0 + y / 8.0).cos();
    let r = radius(RADII, [0.0; 3]);
    match r {
        _ if r > 1.0 => AIR,
        _ if r > 0.94 => SCALP,
        _ if r > 0.87 => SKULL,
        _ if ventricle < 1.0 || r > 0.84 + 0.02 * folds => FLUID,
        // The fissure between the hemispheres.
        _ if x.abs() < 1.5 && z > 0.0 && r > 0.6 => FLUID,
        _ if r > 0.70 + 0.06 * folds => GREY_MATTER,
        _ => WHITE_MATTER,
    }
}

/// A pseudorandom number in -7..=7, the sum of two uniform ones: a hash of the voxel's index.
fn noise(index: usize) -> i32 {
    let mixed = (index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 40;
    (mixed & 7) as i32 + ((mixed >> 8) & 7) as i32 - 7
}
