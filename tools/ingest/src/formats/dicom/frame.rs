//! A frame: one plane of pixels, where it lies, and what tells it from others at its place.

use super::bits::Rescale;

/// A plane of pixels.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// The number of its file.
    pub(super) file: usize,
    /// Its number in the file.
    pub(super) number: usize,
    pub(super) plane: FramePlane,
    pub(super) rescale: Rescale,
    /// What it is an image of, as magnitude or phase; frames of different kinds are volumes of
    /// their own.
    pub(super) kind: Box<str>,
    /// The echo, likewise.
    pub(super) echo: Option<f64>,
    /// Its place in the order of acquisition.
    pub(super) order: Option<i64>,
    pub(super) phase: Phase,
    /// The segment that its pixels belong to; 0 of an image.
    pub(super) segment: u16,
}

/// Where a frame lies, in LPS+ millimetres.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct FramePlane {
    /// The centre of the first pixel.
    pub(super) position: Option<[f64; 3]>,
    /// The directions in which columns and rows are counted.
    pub(super) orientation: Option<[f64; 6]>,
    /// The distance of rows and of columns.
    pub(super) spacing: Option<[f64; 2]>,
    pub(super) thickness: Option<f64>,
    /// The distance of slices.
    pub(super) step: Option<f64>,
}

/// What may tell frames apart that lie at one place, such as time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Phase {
    /// Indices of the dimensions other than the position.
    pub(super) dimensions: Vec<u32>,
    pub(super) temporal: Option<i64>,
    /// The b-value, and the gradient's direction if there is one.
    pub(super) diffusion: Vec<f64>,
    pub(super) trigger: Option<f64>,
    pub(super) acquisition: Option<i64>,
}

impl FramePlane {
    /// The unit normal of the plane, along which slices are counted. `None` without an orientation,
    /// or one that is not two unit vectors at a right angle.
    pub(super) fn normal(&self) -> Option<[f64; 3]> {
        let [a, b, c, d, e, f] = self.orientation?;
        let (row, column) = ([a, b, c], [d, e, f]);
        let is_right = (dot(row, row) - 1.0).abs() < 1e-2
            && (dot(column, column) - 1.0).abs() < 1e-2
            && dot(row, column).abs() < 1e-2;
        let normal = [b * f - c * e, c * d - a * f, a * e - b * d];
        let length = dot(normal, normal).sqrt();
        is_right.then(|| normal.map(|v| v / length))
    }
}

/// The scalar product.
pub(super) fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a + b × factor`.
pub(super) fn along(a: [f64; 3], b: [f64; 3], factor: f64) -> [f64; 3] {
    [0, 1, 2].map(|i| a[i] + b[i] * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_normal_is_at_a_right_angle_to_rows_and_columns() {
        let of = |orientation| {
            FramePlane { orientation: Some(orientation), ..FramePlane::default() }.normal()
        };
        assert_eq!(of([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]), Some([0.0, 0.0, 1.0]));
        assert_eq!(of([0.0, 1.0, 0.0, 0.0, 0.0, -1.0]), Some([-1.0, 0.0, 0.0]));
        assert_eq!(of([1.0, 0.0, 0.0, 1.0, 0.0, 0.0]), None);
        assert_eq!(of([0.0; 6]), None);
        assert_eq!(FramePlane::default().normal(), None);
    }
}
