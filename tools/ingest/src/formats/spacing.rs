//! Voxel sizes in the units that microscopes state.

use voxquarry::{Affine, LengthUnit};

/// The length that a unit's name stands for, and its factor: lengths × factor are in that unit.
/// Names in any case, as microscopes and their programs write them; `None` for others, such as
/// `pixel`.
pub(crate) fn unit_of(name: &str) -> Option<(LengthUnit, f64)> {
    use LengthUnit::{Meter, Micrometer, Millimeter};
    let name = name.trim().trim_end_matches('\0').to_lowercase();
    // The micro sign, the Greek letter, and what escapes make of them.
    let name = name.replace(['µ', 'μ'], "u").replace("\\u00b5", "u");
    Some(match name.as_str() {
        "pm" | "picometer" | "picometre" => (Micrometer, 1e-6),
        "angstrom" | "å" | "a" => (Micrometer, 1e-4),
        "nm" | "nanometer" | "nanometre" | "nanometers" => (Micrometer, 1e-3),
        "um" | "micron" | "microns" | "micrometer" | "micrometre" | "micrometers" => {
            (Micrometer, 1.0)
        }
        "mm" | "millimeter" | "millimetre" | "millimeters" => (Millimeter, 1.0),
        "cm" | "centimeter" | "centimetre" => (Millimeter, 10.0),
        "inch" | "in" => (Millimeter, 25.4),
        "m" | "meter" | "metre" => (Meter, 1.0),
        _ => return None,
    })
}

/// The affine of voxels of a size along `(z, y, x)`, with its origin at the first voxel; `None`
/// unless all sizes are positive.
pub(crate) fn affine_of(size: [f64; 3], factor: f64) -> Option<Affine> {
    let size = size.map(|s| s * factor);
    let affine = Affine::diagonal(size);
    (size.iter().all(|s| *s > 0.0) && affine.validate().is_ok()).then_some(affine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_have_many_names() {
        for name in ["um", "µm", "\u{3bc}m", "micron", "\\u00B5m", "Micrometer", "um\0"] {
            assert_eq!(unit_of(name), Some((LengthUnit::Micrometer, 1.0)), "{name}");
        }
        assert_eq!(unit_of("nm"), Some((LengthUnit::Micrometer, 1e-3)));
        assert_eq!(unit_of("cm"), Some((LengthUnit::Millimeter, 10.0)));
        assert_eq!(unit_of("pixel"), None);
    }

    #[test]
    fn sizes_are_positive() {
        assert_eq!(affine_of([3.0, 2.0, 1.0], 2.0), Some(Affine::diagonal([6.0, 4.0, 2.0])));
        for size in [[0.0, 1.0, 1.0], [1.0, f64::NAN, 1.0], [1.0, 1.0, -1.0]] {
            assert_eq!(affine_of(size, 1.0), None);
        }
    }
}
