//! Where the voxels of ordered slices lie: even steps, and the affine.
//!
//! # Invariants
//! - The affine puts the first pixel of each slice within the tolerance of where its file says.
//! - Nothing is resampled: slices whose steps differ are refused.

use voxquarry::Affine;

use super::frame::{FramePlane, along, dot};

/// A slice may lie beside an even grid by that part of a step.
const MAX_OFF_STEPS: f64 = 0.01;
/// It may lie beside it by so much in any case, because many writers round positions to 0.1 mm; but
/// not by more than a tenth of a step.
const ROUNDING_MM: f64 = 0.06;
const MAX_ROUNDING_STEPS: f64 = 0.1;
/// A step that differs from the normal by more than this angle is told.
const TILT_DEGREES: f64 = 0.1;

/// The grid of a stack of slices, in LPS+ millimetres.
#[derive(Clone, Debug)]
pub(super) struct StackGrid {
    pub(super) affine: Affine,
    /// Sentences about what was decided.
    pub(super) notes: Vec<String>,
}

/// Slices that are not evenly spaced: two neighbours, and what is wrong between them.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Uneven {
    pub(super) between: [usize; 2],
    pub(super) message: String,
}

/// The grid of slices in order, whose positions are known.
///
/// # Errors
/// The slices between which a step is wrong.
pub(super) fn stack_grid(plane: &FramePlane, positions: &[[f64; 3]]) -> Result<StackGrid, Uneven> {
    let (mut notes, last) = (Vec::new(), positions.len() - 1);
    let normal = plane.normal().unwrap_or([0.0, 0.0, 1.0]);
    let first = positions[0];
    let step = if last == 0 {
        let step = lone_step(plane, &mut notes);
        normal.map(|v| v * step)
    } else {
        let whole = along(positions[last], first, -1.0);
        whole.map(|v| v / last as f64)
    };
    let length = dot(step, step).sqrt();
    let off = |i: usize| {
        let d = along(along(positions[i], first, -1.0), step, -(i as f64));
        dot(d, d).sqrt()
    };
    let tolerance = (MAX_OFF_STEPS * length).max(ROUNDING_MM.min(MAX_ROUNDING_STEPS * length));
    let worst = (0..=last).map(off).fold(0.0, f64::max);
    if worst > tolerance {
        return Err(uneven(normal, positions));
    }
    if worst > MAX_OFF_STEPS * length {
        notes.push(format!("its slices lie up to {worst:.3} mm beside even steps: rounded"));
    }
    let degrees = (dot(step, normal) / length).clamp(-1.0, 1.0).acos().to_degrees();
    if degrees > TILT_DEGREES {
        notes.push(format!(
            "its slices are tilted by {degrees:.2}°: the affine has the shear, no voxel was moved"
        ));
    }
    Ok(StackGrid { affine: affine_of(plane, step, first, &mut notes), notes })
}

/// The distance of slices that a lone one states.
fn lone_step(plane: &FramePlane, notes: &mut Vec<String>) -> f64 {
    let stated = [plane.step, plane.thickness].into_iter().flatten().map(f64::abs);
    stated.into_iter().find(|step| *step > 0.0).unwrap_or_else(|| {
        notes.push("it states no distance of slices: 1 mm is assumed".to_owned());
        1.0
    })
}

/// The affine of slices `step` apart, whose first pixel is at `first`; turned from LPS+ to RAS+.
fn affine_of(
    plane: &FramePlane,
    step: [f64; 3],
    first: [f64; 3],
    notes: &mut Vec<String>,
) -> Affine {
    let [rows_mm, columns_mm] = plane.spacing.unwrap_or_else(|| {
        notes.push("it states no distance of pixels: 1 mm is assumed".to_owned());
        [1.0; 2]
    });
    let [a, b, c, d, e, f] = plane.orientation.unwrap_or([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
    let columns = [[a, b, c].map(|v| v * columns_mm), [d, e, f].map(|v| v * rows_mm), step, first];
    let mut affine = Affine::IDENTITY;
    for (row, sign) in [-1.0, -1.0, 1.0].into_iter().enumerate() {
        for (column, vector) in columns.iter().enumerate() {
            // Adding 0 turns -0 to 0.
            affine.0[row][column] = sign * vector[row] + 0.0;
        }
    }
    affine
}

/// What is wrong with slices that are not evenly spaced: the step that differs most from the
/// middle one.
fn uneven(normal: [f64; 3], positions: &[[f64; 3]]) -> Uneven {
    let gaps: Vec<f64> =
        positions.windows(2).map(|pair| dot(along(pair[1], pair[0], -1.0), normal)).collect();
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let usual = sorted[(sorted.len() - 1) / 2];
    let differs = |i: &usize| (gaps[*i] - usual).abs();
    let worst = (0..gaps.len()).max_by(|a, b| differs(a).total_cmp(&differs(b))).unwrap_or(0);
    let (gap, steps) = (gaps[worst], gaps[worst] / usual);
    let message = if differs(&worst) <= MAX_OFF_STEPS * usual {
        "the slices do not lie on one line".to_owned()
    } else if steps > 1.5 && (steps - steps.round()).abs() < 0.02 * steps {
        let missing = steps.round() as i64 - 1;
        format!(
            "slices lie {gap:.4} mm apart, others {usual:.4} mm: {missing} between them {} missing",
            if missing == 1 { "is" } else { "are" }
        )
    } else {
        format!("slices lie {gap:.4} mm apart, others {usual:.4} mm")
    };
    Uneven { between: [worst, worst + 1], message }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AXIAL: FramePlane = FramePlane {
        position: None,
        orientation: Some([1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        spacing: Some([0.5, 0.25]),
        thickness: None,
        step: None,
    };

    fn grid(z: &[f64]) -> Result<StackGrid, Uneven> {
        let positions: Vec<_> = z.iter().map(|&z| [-10.0, 20.0, z]).collect();
        stack_grid(&AXIAL, &positions)
    }

    #[test]
    fn rows_columns_and_slices_become_axes_in_ras() {
        let found = grid(&[5.0, 7.0, 9.0]).unwrap();
        let expected = [
            [-0.25, 0.0, 0.0, 10.0],
            [0.0, -0.5, 0.0, -20.0],
            [0.0, 0.0, 2.0, 5.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        assert_eq!(found.affine.0, expected);
        assert!(found.notes.is_empty());
    }

    #[test]
    fn a_tilt_is_a_shear_of_the_affine() {
        let positions = [0.0, 1.0, 2.0].map(|i| [-10.0, 20.0 + i, 3.0 * i]);
        let found = stack_grid(&AXIAL, &positions).unwrap();
        assert_eq!(found.affine.0.map(|row| row[2]), [0.0, -1.0, 3.0, 0.0]);
        assert!(found.notes[0].contains("18.43°"), "{:?}", found.notes);
    }

    #[test]
    fn steps_that_differ_are_refused_with_what_is_between() {
        let missing = grid(&[0.0, 2.0, 4.0, 8.0, 10.0]).unwrap_err();
        assert_eq!(missing.between, [2, 3]);
        assert!(missing.message.contains("4.0000 mm apart, others 2.0000 mm: 1 between"));
        let two = grid(&[0.0, 1.0, 2.0, 5.0]).unwrap_err();
        assert!(two.message.contains("2 between them are missing"), "{}", two.message);
        let odd = grid(&[0.0, 1.0, 2.0, 3.3]).unwrap_err();
        assert_eq!((odd.between, odd.message.contains("missing")), ([2, 3], false));
        let bent = [[0.0; 3], [0.5, 0.0, 1.0], [0.0, 0.0, 2.0]];
        assert!(stack_grid(&AXIAL, &bent).unwrap_err().message.contains("one line"));
        // The last but one of many.
        let mut many: Vec<_> = (0..500).map(f64::from).collect();
        many.remove(498);
        assert_eq!(grid(&many).unwrap_err().between, [497, 498]);
    }

    #[test]
    fn rounded_positions_are_accepted_and_told() {
        let exact = |i: i32| 1.25 * f64::from(i);
        let rounded: Vec<_> = (0..100).map(|i| (exact(i) * 10.0).round() / 10.0).collect();
        let found = grid(&rounded).unwrap();
        assert!(found.notes[0].contains("beside even steps"), "{:?}", found.notes);
        // A tenth of a small step is too much.
        let small: Vec<_> = rounded.iter().map(|z| z / 10.0 + 0.0).collect();
        assert!(grid(&small).is_ok());
        assert!(grid(&[0.0, 0.1, 0.25, 0.3]).is_err());
    }

    #[test]
    fn a_lone_slice_is_as_thick_as_it_says() {
        let of = |step, thickness| {
            let found = stack_grid(&FramePlane { thickness, step, ..AXIAL }, &[[0.0; 3]]).unwrap();
            (found.affine.0[2][2], found.notes.len())
        };
        assert_eq!(of(Some(-2.5), Some(3.0)), (2.5, 0));
        assert_eq!(of(Some(0.0), Some(3.0)), (3.0, 0));
        assert_eq!(of(None, None), (1.0, 1));
    }
}
