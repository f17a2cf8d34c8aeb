//! Affines from the directions, steps and origins of headers, and how their axes are turned to
//! RAS+.
//!
//! # Invariants
//! - Signs change and numbers are multiplied once: no rounding that other readers do not have.

use voxquarry::Affine;

/// The signs that turn LPS+ to RAS+.
pub(crate) const FROM_LPS: [f64; 3] = [-1.0, -1.0, 1.0];

/// The affine of voxels whose steps along x, y and z are `columns`, in a world that `signs` turn to
/// RAS+.
pub(crate) fn affine_of(columns: [[f64; 3]; 3], origin: [f64; 3], signs: [f64; 3]) -> Affine {
    let mut affine = Affine::IDENTITY;
    for row in 0..3 {
        // Adding 0 makes -0 positive.
        for (column, step) in columns.iter().enumerate() {
            affine.0[row][column] = signs[row] * step[row] + 0.0;
        }
        affine.0[row][3] = signs[row] * origin[row] + 0.0;
    }
    affine
}

/// The unit vector across two others; along z if they span nothing.
pub(crate) fn across(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    let cross = [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
    let length = length(cross);
    if length > 0.0 { cross.map(|v| v / length) } else { [0.0, 0.0, 1.0] }
}

/// The length of a vector.
pub(crate) fn length(vector: [f64; 3]) -> f64 {
    vector.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// The steps along x, y and z, and the origin, of an affine, in a world that `signs` turn to RAS+.
pub(crate) fn columns_of(affine: &Affine, signs: [f64; 3]) -> ([[f64; 3]; 3], [f64; 3]) {
    let at = |row: usize, column: usize| signs[row] * affine.0[row][column] + 0.0;
    let columns = [0, 1, 2].map(|column| [0, 1, 2].map(|row| at(row, column)));
    (columns, [0, 1, 2].map(|row| at(row, 3)))
}
