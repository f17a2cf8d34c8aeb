//! Compares the grids of a subject's volumes, says in words how they differ, and adopts one grid
//! where they differ by no more than rounding.
//!
//! # Invariants
//! - The volumes of a settled subject have the same extents, and affines that agree.
//! - Voxels are never moved or resampled: a volume of another grid is refused.

use std::path::{Path, PathBuf};

use voxquarry::{Affine, Error, Size3};

use crate::options::IngestOptions;
use crate::planned::PlannedVolume;

/// The tolerance of grids without an option, as a part of the smallest spacing: origins that were
/// rounded to 0.03 mm pass at a spacing of 1 mm, and what passes moves no voxel visibly.
const TOLERANCE_VOXELS: f64 = 0.1;
/// Spacings are called different from this relative difference on.
const SPACING_DIFFERS: f64 = 1e-3;
/// Axes are called rotated from this angle on.
const ROTATED_DEGREES: f64 = 0.05;

/// Gives the volumes of a subject one affine, if their grids agree within the tolerance. Returns
/// sentences about the affines that were replaced.
///
/// # Errors
/// The volumes that lie on another grid, by their numbers.
pub(crate) fn settle(
    volumes: &mut [PlannedVolume],
    options: &IngestOptions,
) -> Result<Vec<String>, Vec<(usize, Error)>> {
    let reference = match &options.grid_from {
        None => 0,
        Some(name) => volumes.iter().position(|v| v.source.volume == *name).ok_or_else(|| {
            let names: Vec<_> = volumes.iter().map(|v| v.source.volume.as_str()).collect();
            let subject = &volumes[0].source.subject;
            let expected = format!("a volume of subject {subject:?}: {}", names.join(", "));
            vec![(0, Error::invalid("grid_from", format!("{name:?}"), expected))]
        })?,
    };
    let volume = &volumes[reference];
    let grid = Grid {
        name: volume.source.volume.clone(),
        path: volume.source.input.location().to_owned(),
        size: volume.header.size,
        affine: volume.header.affine,
    };
    settle_on(&grid, volumes, options)
}

/// The grid that the volumes of a subject share.
pub(crate) struct Grid {
    /// The name and the path of the volume that it is taken from.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) size: Size3,
    pub(crate) affine: Affine,
}

/// As [`settle`], on a given grid.
///
/// # Errors
/// As [`settle`].
pub(crate) fn settle_on(
    grid: &Grid,
    volumes: &mut [PlannedVolume],
    options: &IngestOptions,
) -> Result<Vec<String>, Vec<(usize, Error)>> {
    let Grid { name, path, size, affine } = grid;
    let tolerance_mm = options.grid_tolerance_mm.unwrap_or_else(|| tolerance_mm(affine));
    let (mut notes, mut wrong) = (Vec::new(), Vec::new());
    for (i, volume) in volumes.iter_mut().enumerate() {
        let header = &mut volume.header;
        if header.size == *size && affine.agrees_with(&header.affine, *size) {
            continue;
        }
        let difference = GridDifference::new(*size, *affine, header.size, header.affine);
        let is_accepted = options.grid_from.is_some() || difference.largest_mm <= tolerance_mm;
        if header.size == *size && is_accepted {
            header.affine = *affine;
            notes.push(format!(
                "{} has the affine of {name} instead of its own: {difference}",
                volume.source.volume
            ));
        } else {
            wrong.push((i, Error::data(volume.source.input.location(), difference.of_grid(path))));
        }
    }
    if wrong.is_empty() { Ok(notes) } else { Err(wrong) }
}

/// Divides volumes into groups that share a grid, each in the order of the volumes.
pub(crate) fn groups(
    volumes: Vec<PlannedVolume>,
    options: &IngestOptions,
) -> Vec<Vec<PlannedVolume>> {
    let mut groups: Vec<Vec<PlannedVolume>> = Vec::new();
    for volume in volumes {
        let shares = |group: &&mut Vec<PlannedVolume>| {
            let (first, other) = (&group[0].header, &volume.header);
            let tolerance =
                options.grid_tolerance_mm.unwrap_or_else(|| tolerance_mm(&first.affine));
            let difference =
                GridDifference::new(first.size, first.affine, other.size, other.affine);
            difference.largest_mm <= tolerance
        };
        match groups.iter_mut().find(shares) {
            Some(group) => group.push(volume),
            None => groups.push(vec![volume]),
        }
    }
    groups
}

/// The tolerance without an option.
fn tolerance_mm(affine: &Affine) -> f64 {
    TOLERANCE_VOXELS * affine.spacing_mm().into_iter().fold(f64::INFINITY, f64::min)
}

/// How a grid differs from the one that is expected.
struct GridDifference {
    /// The largest distance between voxels of the same index.
    largest_mm: f64,
    text: String,
}

impl GridDifference {
    fn new(size: Size3, affine: Affine, other: Size3, other_affine: Affine) -> Self {
        if size != other {
            let text = format!("it has {other:?} voxels (z, y, x), expected {size:?}");
            return Self { largest_mm: f64::INFINITY, text };
        }
        let corners = (0..8usize).map(|corner| {
            [0, 1, 2].map(|a| if corner >> a & 1 == 1 { (size[a] - 1) as f64 } else { 0.0 })
        });
        let far = corners.map(|at| norm(minus(other_affine.apply(at), affine.apply(at))));
        let largest_mm = far.fold(0.0, f64::max);
        let mut parts = Vec::new();
        let (expected, found) = (affine.spacing_mm(), other_affine.spacing_mm());
        if (0..3).any(|a| (found[a] / expected[a] - 1.0).abs() > SPACING_DIFFERS) {
            let [z, y, x] = found;
            let [ez, ey, ex] = expected;
            parts.push(format!(
                "its spacing is {z:.4} × {y:.4} × {x:.4} mm (z, y, x), expected {ez:.4} × \
                 {ey:.4} × {ex:.4}"
            ));
        }
        parts.extend(turned(&affine, &other_affine));
        let centre = size.map(|n| (n - 1) as f64 / 2.0);
        let shift = minus(other_affine.apply(centre), affine.apply(centre));
        if norm(shift) > 1e-3 * expected.into_iter().fold(f64::INFINITY, f64::min) {
            let [z, y, x] = in_voxels(&affine, shift);
            parts.push(format!(
                "shifted by {:.3} mm ({z:.3}, {y:.3}, {x:.3} voxels along z, y, x)",
                norm(shift)
            ));
        }
        if parts.is_empty() {
            parts.push(format!("its voxels lie up to {largest_mm:.3} mm away"));
        }
        Self { largest_mm, text: parts.join(", and ") }
    }

    /// The message about a volume that lies on another grid than the file at `path`.
    fn of_grid(&self, path: &Path) -> String {
        format!(
            "lies on another grid than {} of the same subject: {}: resample it, make it a subject \
             of its own, or, if its header is wrong, state which volume's grid is right \
             (grid-from) or how far they may differ (grid-tolerance)",
            path.display(),
            self.text
        )
    }
}

impl std::fmt::Display for GridDifference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

/// How the axes of a grid are flipped and rotated against those of another.
fn turned(affine: &Affine, other: &Affine) -> Vec<String> {
    let cosines = [0, 1, 2].map(|column| {
        let [a, b] = [affine, other].map(|affine| [0, 1, 2].map(|row| affine.0[row][column]));
        let product: f64 = a.iter().zip(b).map(|(a, b)| a * b).sum();
        product / (norm(a) * norm(b))
    });
    let degrees = |cosines: [f64; 3]| {
        ((cosines.iter().sum::<f64>() - 1.0) / 2.0).clamp(-1.0, 1.0).acos().to_degrees()
    };
    // An odd number of flips is no rotation, and two are one by 180°, which flips describe better.
    let upright = cosines.map(f64::abs);
    let is_flipped = cosines.iter().any(|&c| c < 0.0) && upright.iter().all(|&c| c > 0.9);
    let mut parts = Vec::new();
    if is_flipped {
        let axes = ["x", "y", "z"].into_iter().zip(cosines).filter(|&(_, c)| c < 0.0);
        let axes: Vec<_> = axes.map(|(axis, _)| axis).collect();
        parts.push(format!("flipped along {}", axes.join(" and ")));
    }
    let angle = degrees(if is_flipped { upright } else { cosines });
    if angle > ROTATED_DEGREES {
        parts.push(format!("rotated by {angle:.1}°"));
    }
    parts
}

/// A vector in millimetres in steps of a grid's axes `(z, y, x)`.
fn in_voxels(affine: &Affine, mm: [f64; 3]) -> [f64; 3] {
    let columns = [0, 1, 2].map(|column| [0, 1, 2].map(|row| affine.0[row][column]));
    let [x, y, z] = columns;
    let volume = dot(x, cross(y, z));
    // Cramer's rule; affines are not singular.
    [dot(x, cross(y, mm)), dot(x, cross(mm, z)), dot(mm, cross(y, z))].map(|n| n / volume)
}

fn minus(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [0, 1, 2].map(|i| a[i] - b[i])
}

fn dot(a: [f64; 3], b: [f64; 3]) -> f64 {
    (0..3).map(|i| a[i] * b[i]).sum()
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

fn norm(a: [f64; 3]) -> f64 {
    dot(a, a).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: Size3 = [10, 20, 30];

    fn difference(change: impl Fn(&mut Affine)) -> GridDifference {
        let affine = Affine::diagonal([3.0, 2.0, 1.0]);
        let mut other = affine;
        change(&mut other);
        GridDifference::new(SIZE, affine, SIZE, other)
    }

    #[test]
    fn differences_are_told_in_words() {
        let shifted = difference(|a| a.0[1][3] += 1.0);
        assert_eq!(
            shifted.to_string(),
            "shifted by 1.000 mm (0.000, 0.500, 0.000 voxels along z, y, x)"
        );
        assert!((shifted.largest_mm - 1.0).abs() < 1e-12);
        let flipped = difference(|a| {
            a.0[0][0] = -1.0;
            a.0[0][3] = 29.0;
        });
        assert_eq!(flipped.to_string(), "flipped along x");
        let mirrored = difference(|a| (a.0[0][0], a.0[1][1]) = (-1.0, -2.0));
        assert!(mirrored.to_string().starts_with("flipped along x and y, and shifted by"));
        let spaced = difference(|a| a.0[2][2] = 2.5).to_string();
        assert!(
            spaced.starts_with("its spacing is 2.5000 × 2.0000 × 1.0000 mm (z, y, x), expected"),
            "{spaced}"
        );
        let (sin, cos) = 5f64.to_radians().sin_cos();
        let rotated = difference(|a| {
            (a.0[0][0], a.0[1][0]) = (cos, sin);
            (a.0[0][1], a.0[1][1]) = (-2.0 * sin, 2.0 * cos);
        });
        assert!(rotated.to_string().starts_with("rotated by 5.0°"), "{rotated}");
        let transposed = difference(|a| {
            (a.0[0][0], a.0[1][0], a.0[0][1], a.0[1][1]) = (0.0, 1.0, -2.0, 0.0);
        });
        assert!(transposed.to_string().starts_with("rotated by 90.0°"), "{transposed}");
        let sizes = GridDifference::new(SIZE, Affine::IDENTITY, [1, 2, 3], Affine::IDENTITY);
        assert_eq!(sizes.to_string(), "it has [1, 2, 3] voxels (z, y, x), expected [10, 20, 30]");
        assert!(sizes.largest_mm.is_infinite());
    }

    #[test]
    fn steps_are_those_of_the_grid() {
        let mut affine = Affine::diagonal([3.0, 2.0, 1.0]);
        affine.0[0][1] = 0.5;
        let moved = minus(affine.apply([4.0, -1.0, 2.0]), affine.apply([0.0; 3]));
        let found = in_voxels(&affine, moved);
        assert!(found.iter().zip([4.0, -1.0, 2.0]).all(|(a, b)| (a - b).abs() < 1e-12));
    }
}
