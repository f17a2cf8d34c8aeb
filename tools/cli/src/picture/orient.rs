//! Finds the voxel axes of the axial, coronal and sagittal views.

use voxquarry::{Affine, Size3, Volume};

use super::style::{Convention, Style};

/// A slice and its orientation. Axes are those of the array: 0 = z, 1 = y, 2 = x.
pub(super) struct View {
    name: &'static str,
    /// The axis of view, and the index of the slice along it.
    pub(super) normal: usize,
    pub(super) index: usize,
    /// The axis from left to right; `flip_across` if its voxels run from right to left.
    pub(super) across: usize,
    pub(super) flip_across: bool,
    /// The axis from bottom to top; `flip_up` if its voxels run from top to bottom.
    pub(super) up: usize,
    pub(super) flip_up: bool,
    letters: [&'static str; 3],
}

impl View {
    pub(super) fn title(&self, size: Size3) -> String {
        let axis = ["z", "y", "x"][self.normal];
        format!("{}  {axis} {} of {}", self.name, self.index, size[self.normal])
    }

    /// The letters at the left, the right and the top: L, R, P, A or S.
    pub(super) fn directions(&self) -> [&'static str; 3] {
        self.letters
    }
}

/// Axial, coronal and sagittal views; anterior and superior are up.
pub(super) fn views(volume: &Volume, style: &Style) -> [View; 3] {
    views_of(volume.size(), volume.affine(), style)
}

/// The views of a volume of that size and affine.
pub(super) fn views_of(size: Size3, affine: &Affine, style: &Style) -> [View; 3] {
    let [(x, flip_x), (y, flip_y), (z, flip_z)] = nearest_axes(affine);
    let at = style.at.unwrap_or(size.map(|n| n / 2));
    let (flip_right, left, right) = match style.convention {
        Convention::Radiological => (!flip_x, "R", "L"),
        Convention::Neurological => (flip_x, "L", "R"),
    };
    let view = |name, normal: usize, (across, flip_across), (up, flip_up), letters| View {
        name,
        normal,
        index: at[normal],
        across,
        flip_across,
        up,
        flip_up,
        letters,
    };
    [
        view("axial", z, (x, flip_right), (y, flip_y), [left, right, "A"]),
        view("coronal", y, (x, flip_right), (z, flip_z), [left, right, "S"]),
        view("sagittal", x, (y, flip_y), (z, flip_z), ["P", "A", "S"]),
    ]
}

/// For each world axis (R, A, S): the voxel axis that is most parallel to it, and whether it runs
/// backwards.
fn nearest_axes(affine: &Affine) -> [(usize, bool); 3] {
    const ORDERS: [[usize; 3]; 6] =
        [[2, 1, 0], [2, 0, 1], [1, 2, 0], [1, 0, 2], [0, 2, 1], [0, 1, 2]];
    let spacing = affine.spacing_mm();
    let cosine = |world: usize, axis: usize| affine.0[world][2 - axis] / spacing[axis];
    let agreement =
        |order: &[usize; 3]| (0..3).map(|world| cosine(world, order[world]).abs()).sum::<f64>();
    // The first of equals, so that a volume at 45 degrees keeps the order of its axes.
    let best = ORDERS.iter().fold(&ORDERS[0], |best, order| {
        if agreement(order) > agreement(best) + 1e-9 { order } else { best }
    });
    [0, 1, 2].map(|world| (best[world], cosine(world, best[world]) < 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_follow_the_affine() {
        assert_eq!(nearest_axes(&Affine::IDENTITY), [(2, false), (1, false), (0, false)]);
        // Voxels run to the left, upwards and backwards: x is -R, y is S, z is -A.
        let mut affine = Affine([[0.0; 4]; 4]);
        affine.0[3][3] = 1.0;
        affine.0[0][0] = -2.0;
        affine.0[2][1] = 0.7;
        affine.0[1][2] = -3.0;
        affine.0[0][1] = 0.1;
        assert_eq!(nearest_axes(&affine), [(2, true), (0, true), (1, false)]);
    }
}
