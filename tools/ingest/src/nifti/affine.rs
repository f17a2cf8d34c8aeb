//! The affine of a header, chosen exactly as nibabel chooses it: sform, else qform, else steps about the centre.

use voxquarry::Affine;

use super::header::{Header, Version};

impl Header {
    /// Voxel `(x, y, z, 1)` to RAS+ millimetres (or whatever unit the file states).
    ///
    /// # Errors
    /// A sentence if the numbers make no affine.
    pub(super) fn affine(&self) -> Result<Affine, String> {
        let affine = if self.sform_code != 0 {
            let [a, b, c] = self.srow;
            Affine([a, b, c, [0.0, 0.0, 0.0, 1.0]])
        } else if self.qform_code != 0 {
            self.qform()?
        } else {
            self.centred()
        };
        affine.validate().map_err(|e| {
            let origin = if self.sform_code != 0 { "sform" } else if self.qform_code != 0 { "qform" } else { "pixdim" };
            format!("{e} (from the file's {origin}): correct the header first")
        })?;
        Ok(affine)
    }

    /// The quaternion's rotation, times the steps (NIfTI-1 standard, method 2).
    fn qform(&self) -> Result<Affine, String> {
        let [x, y, z] = self.quaternion;
        let w2 = one_minus_square(self.quaternion);
        // nibabel's tolerances: the header's own precision, thrice.
        let threshold = match self.version {
            Version::One => f64::from(f32::EPSILON) * 3.0,
            Version::Two => f64::EPSILON * 3.0,
        };
        let w = match w2 {
            w2 if w2.abs() < threshold => 0.0,
            w2 if w2 > 0.0 => w2.sqrt(),
            _ => return Err(format!("qform quaternion {:?} is longer than 1: correct the header first", self.quaternion)),
        };
        let s = 2.0 / (w * w + x * x + y * y + z * z);
        let [wx, wy, wz] = [w * x * s, w * y * s, w * z * s];
        let [xx, xy, xz] = [x * x * s, x * y * s, x * z * s];
        let [yy, yz, zz] = [y * y * s, y * z * s, z * z * s];
        let rotation = [
            [1.0 - (yy + zz), xy - wz, xz + wy],
            [xy + wz, 1.0 - (xx + zz), yz - wx],
            [xz - wy, yz + wx, 1.0 - (xx + yy)],
        ];
        let [qfac, i, j, k] = [0, 1, 2, 3].map(|n| self.pixdim[n]);
        let steps = [i, j, k * qfac];
        let mut affine = Affine::IDENTITY;
        for row in 0..3 {
            for column in 0..3 {
                affine.0[row][column] = rotation[row][column] * steps[column];
            }
            affine.0[row][3] = self.q_offset[row];
        }
        Ok(affine)
    }

    /// Without either form: steps along the axes, x flipped, origin at the centre (Analyze's habit, nibabel's default).
    fn centred(&self) -> Affine {
        let mut affine = Affine::IDENTITY;
        // Axes that the file does not have step by 1, whatever pixdim says.
        for axis in 0..3 {
            let (n, step) = self.dims.get(axis).map_or((1, 1.0), |&n| (n, self.pixdim[axis + 1]));
            let step = if axis == 0 { -step } else { step };
            affine.0[axis][axis] = step;
            affine.0[axis][3] = -((n as f64 - 1.0) / 2.0) * step;
        }
        affine
    }
}

/// 1 − x² − y² − z², with each rounding error carried along: near 0 its root would magnify them.
fn one_minus_square(v: [f64; 3]) -> f64 {
    let (mut sum, mut error) = (1.0, 0.0);
    for x in v {
        let square = x * x;
        error -= x.mul_add(x, -square);
        // Knuth's two-sum.
        let next = sum - square;
        let back = next - sum;
        error += (sum - (next - back)) + (-square - back);
        sum = next;
    }
    sum + error
}
