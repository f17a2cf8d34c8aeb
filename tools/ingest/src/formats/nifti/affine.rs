//! Computes the affine of a header exactly as nibabel does: sform, else qform, else steps about the
//! centre.

use voxquarry::Affine;

use super::extended::Extended;
use super::fields::Version;
use super::header::Header;

impl Header {
    /// The affine from voxel `(x, y, z, 1)` to RAS+ millimetres, or to another unit that the file
    /// states: it is nibabel's.
    ///
    /// # Errors
    /// A message if the numbers make no valid affine.
    pub(super) fn affine(&self) -> Result<Affine, String> {
        let (affine, form) = if self.sform_code != 0 {
            let [a, b, c] = self.srow;
            (Ok(Affine([a, b, c, [0.0, 0.0, 0.0, 1.0]])), "sform")
        } else if self.qform_code != 0 {
            (self.qform(), "qform")
        } else {
            (Ok(self.centred()), "pixdim")
        };
        affine
            .and_then(|affine| affine.validate().map(|()| affine))
            .map_err(|e| format!("{e} (from the header's {form}): correct the header first"))
    }

    /// The rotation of the quaternion times the steps: method 2 of `nifti1.h`, in nibabel's order
    /// of operations.
    fn qform(&self) -> Result<Affine, String> {
        let [qfac, i, j, k] = [0, 1, 2, 3].map(|n| self.pixdim[n]);
        let steps = [i, j, k * qfac];
        if !self.quaternion.iter().chain(&steps).all(|v| v.is_finite()) {
            return Err(format!(
                "quaternion {:?} with steps {steps:?} has a number that is not finite",
                self.quaternion
            ));
        }
        let too_long = || format!("quaternion {:?} is longer than 1", self.quaternion);
        // Keeps the squares in the range where this arithmetic equals nibabel's.
        if self.quaternion.iter().any(|v| v.abs() > 2.0) {
            return Err(too_long());
        }
        let [x, y, z] = self.quaternion.map(Extended::new);
        let w2 = Extended::new(1.0) - (x * x + y * y + z * z);
        // nibabel's threshold: three times the precision of the header's numbers.
        let threshold = match self.version {
            Version::One => f64::from(f32::EPSILON) * 3.0,
            Version::Two => f64::EPSILON * 3.0,
        };
        let magnitude = if w2.is_negative() { -w2 } else { w2 };
        let w = if (magnitude - Extended::new(threshold)).is_negative() {
            Extended::ZERO
        } else if w2.is_negative() {
            return Err(too_long());
        } else {
            w2.sqrt()
        };
        let rotation = rotation([w, x, y, z]);
        let mut affine = Affine::IDENTITY;
        for row in 0..3 {
            for column in 0..3 {
                let product = rotation[row][column] * Extended::new(steps[column]);
                affine.0[row][column] = product.to_f64();
            }
            affine.0[row][3] = self.q_offset[row];
        }
        Ok(affine)
    }

    /// The affine without sform and qform: steps along the axes, x flipped, origin at the centre,
    /// as in Analyze files and in nibabel.
    fn centred(&self) -> Affine {
        let mut affine = Affine::IDENTITY;
        // Axes that the file does not have step by 1, whatever their pixdim.
        for (axis, &extent) in self.stated_dims.iter().enumerate() {
            let step = self.pixdim[axis + 1];
            let step = if axis == 0 { -step } else { step };
            affine.0[axis][axis] = step;
            affine.0[axis][3] = -((extent as f64 - 1.0) / 2.0) * step;
        }
        affine
    }
}

/// The rotation matrix of a quaternion of any length.
fn rotation([w, x, y, z]: [Extended; 4]) -> [[Extended; 3]; 3] {
    let one = Extended::new(1.0);
    let s = Extended::new(2.0) / (w * w + x * x + y * y + z * z);
    let (xs, ys, zs) = (x * s, y * s, z * s);
    let (wx, wy, wz) = (w * xs, w * ys, w * zs);
    let (xx, xy, xz) = (x * xs, x * ys, x * zs);
    let (yy, yz, zz) = (y * ys, y * zs, z * zs);
    [
        [one - (yy + zz), xy - wz, xz + wy],
        [xy + wz, one - (xx + zz), yz - wx],
        [xz - wy, yz + wx, one - (xx + yy)],
    ]
}
