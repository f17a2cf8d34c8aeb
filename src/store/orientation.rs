//! The directions in which the axes of a volume ascend.

use crate::{Affine, Error, Result};

/// The directions in which the axes `(x, y, z)` of a volume ascend, as three letters of R or L
/// (right, left), A or P (anterior, posterior), S or I (superior, inferior): nibabel's codes.
///
/// ```
/// use voxquarry::Orientation;
///
/// let ras: Orientation = "RAS".parse()?;
/// assert_eq!(ras.to_string(), "RAS");
/// assert!("RAR".parse::<Orientation>().is_err());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orientation {
    /// For x, y and z: the axis of the world, and whether it descends.
    axes: [(usize, bool); 3],
}

const LETTERS: [[char; 2]; 3] = [['R', 'L'], ['A', 'P'], ['S', 'I']];

impl std::str::FromStr for Orientation {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refused = || {
            let expected = "three letters, one of R and L, of A and P, and of S and I, as \"RAS\"";
            Error::invalid("orientation", format!("{text:?}"), expected)
        };
        let axis = |letter: char| {
            let world = LETTERS.iter().position(|pair| pair.contains(&letter))?;
            Some((world, LETTERS[world][1] == letter))
        };
        let axes: Option<Vec<_>> = text.chars().map(axis).collect();
        let axes: [(usize, bool); 3] =
            axes.and_then(|axes| axes.try_into().ok()).ok_or_else(refused)?;
        let has_all = (0..3).all(|world| axes.iter().any(|&(axis, _)| axis == world));
        has_all.then_some(Self { axes }).ok_or_else(refused)
    }
}

impl std::fmt::Display for Orientation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.axes
            .iter()
            .try_for_each(|&(axis, descends)| write!(f, "{}", LETTERS[axis][usize::from(descends)]))
    }
}

impl Orientation {
    /// Axes that ascend to the right, to the front and to the top: nibabel's canonical images.
    pub const RAS: Self = Self { axes: [(0, false), (1, false), (2, false)] };

    /// The orientation that a volume's axes are closest to, as nibabel's `io_orientation` finds it:
    /// of the closest affine without shear, each axis gets the axis of the world that it is closest
    /// to, the clearest first.
    pub fn of(affine: &Affine) -> Self {
        let closest = closest_rotation(affine);
        let clearness =
            |axis: usize| (0..3).map(|row| closest[row][axis].powi(2)).fold(0.0, f64::max);
        let mut order = [0, 1, 2];
        order.sort_by(|&a, &b| clearness(b).total_cmp(&clearness(a)));
        let (mut axes, mut free) = ([(0, false); 3], vec![0, 1, 2]);
        for axis in order {
            let stronger = |best: usize, other: usize| {
                if closest[other][axis].abs() > closest[best][axis].abs() { other } else { best }
            };
            let world = free.iter().copied().reduce(stronger).expect("as many axes of the world");
            axes[axis] = (world, closest[world][axis] < 0.0);
            free.retain(|&other| other != world);
        }
        Self { axes }
    }

    /// For x, y and z: the axis of the world, and whether it descends.
    pub(super) fn axes(&self) -> [(usize, bool); 3] {
        self.axes
    }
}

/// The orthogonal matrix that is closest to the directions of an affine's axes, its columns: the
/// orthogonal factor of the polar decomposition, by Newton's iteration (Higham 1986).
fn closest_rotation(affine: &Affine) -> [[f64; 3]; 3] {
    /// Enough from the least determinant that an affine may have.
    const STEPS: usize = 60;
    let spacing = affine.spacing_mm();
    let mut found =
        [0, 1, 2].map(|row| [0, 1, 2].map(|axis| affine.0[row][axis] / spacing[2 - axis]));
    for _ in 0..STEPS {
        let [a, b, c] = found;
        let cofactors = [cross(b, c), cross(c, a), cross(a, b)];
        let determinant: f64 = (0..3).map(|i| a[i] * cofactors[0][i]).sum();
        let mean = |row: usize, column: usize| {
            f64::midpoint(found[row][column], cofactors[row][column] / determinant)
        };
        let next = [0, 1, 2].map(|row| [0, 1, 2].map(|column| mean(row, column)));
        if next == found {
            break;
        }
        found = next;
    }
    found
}

fn cross(a: [f64; 3], b: [f64; 3]) -> [f64; 3] {
    [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sheared_axes_are_those_of_the_closest_rotation() {
        // From numpy's singular value decomposition, `u @ vt`.
        let mut affine = Affine::IDENTITY;
        affine.0[0][1] = 1.0;
        let found = closest_rotation(&affine);
        let (half, other) = (0.923_879_532_511_286_7, 0.382_683_432_365_089_8);
        let expected = [[half, other, 0.0], [-other, half, 0.0], [0.0, 0.0, 1.0]];
        for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
            assert!((found - expected).abs() < 1e-15, "{found} {expected}");
        }
        assert_eq!(Orientation::of(&affine), Orientation::RAS);
    }

    #[test]
    fn letters_are_those_of_the_axes() {
        let affine = Affine([
            [0.0, 0.0, -2.0, 5.0],
            [-1.0, 0.0, 0.0, 9.0],
            [0.0, 3.0, 0.0, 1.0],
            [0.0, 0.0, 0.0, 1.0],
        ]);
        assert_eq!(Orientation::of(&affine).to_string(), "PSL");
        assert_eq!("RAS".parse::<Orientation>().unwrap(), Orientation::RAS);
    }
}
