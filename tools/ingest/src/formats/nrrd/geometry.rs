//! Where the voxels of an NRRD lie: directions and origin of a space, or spacings and the ends of
//! axes; turned to RAS+.
//!
//! # Invariants
//! - A space that says nothing about left and right is taken for LPS+, as ITK does, and this is
//!   told.

use voxquarry::{Affine, LengthUnit};

use super::fields::{NrrdFields, vectors};
use super::header::NrrdHeader;
use crate::formats::world::{FROM_LPS, across, affine_of};

/// Where voxels lie.
pub(super) struct Geometry {
    pub(super) affine: Affine,
    pub(super) unit: Option<LengthUnit>,
    pub(super) has_spacing: bool,
    /// What was assumed.
    pub(super) notes: Vec<String>,
}

impl Geometry {
    /// # Errors
    /// A message.
    pub(super) fn of(fields: &NrrdFields, header: &NrrdHeader) -> Result<Self, String> {
        let (signs, note) = signs_of(fields.get("space"))?;
        let mut notes: Vec<String> = note.into_iter().collect();
        let unit = unit_of(fields, header, &mut notes);
        let ((columns, origin), has_spacing) = match fields.get("spacedirections") {
            Some(text) => (directed(fields, header, text)?, true),
            None if fields.get("space").is_some() && fields.get("spacings").is_some() => {
                let message = "it states a space, and spacings in place of space directions: \
                               correct the header, or state the affine";
                return Err(message.to_owned());
            }
            None => stepped(fields, header)?,
        };
        Ok(Self { affine: affine_of(columns, origin, signs), unit, has_spacing, notes })
    }
}

/// The steps along x, y and z, and the position of the first voxel, in the file's space.
type Steps = ([[f64; 3]; 3], [f64; 3]);

/// The signs that turn a space to RAS+, and what was assumed.
fn signs_of(space: Option<&str>) -> Result<([f64; 3], Option<String>), String> {
    let assumed = |what: &str| {
        Some(format!("{what}: its axes are taken for left, posterior, superior, as ITK does"))
    };
    let Some(text) = space else { return Ok((FROM_LPS, assumed("it states no space"))) };
    let name = text.to_lowercase();
    Ok(match name.as_str() {
        "right-anterior-superior" | "ras" => ([1.0, 1.0, 1.0], None),
        "left-anterior-superior" | "las" => ([-1.0, 1.0, 1.0], None),
        "left-posterior-superior" | "lps" => (FROM_LPS, None),
        "scanner-xyz" | "3d-right-handed" | "3d-left-handed" => {
            (FROM_LPS, assumed(&format!("its space is {name}")))
        }
        _ => {
            return Err(format!(
                "its space is {text:?}: expected one of three axes, as left-posterior-superior"
            ));
        }
    })
}

/// The unit of length, if all axes have one that is known.
fn unit_of(
    fields: &NrrdFields,
    header: &NrrdHeader,
    notes: &mut Vec<String>,
) -> Option<LengthUnit> {
    let (text, is_space) = match fields.get("spaceunits") {
        Some(text) => (text, true),
        None => (fields.get("units")?, false),
    };
    let mut units: Vec<&str> = text.split('"').skip(1).step_by(2).map(str::trim).collect();
    if !is_space && units.len() == header.sizes.len() {
        units = header.spatial.iter().map(|&axis| units[axis]).collect();
    }
    let unit = units.first().copied().unwrap_or_default();
    if units.iter().any(|other| *other != unit) {
        notes.push(format!("its units are {text}: millimetres are assumed"));
        return None;
    }
    match unit {
        "mm" | "millimeter" | "millimeters" | "millimetre" => Some(LengthUnit::Millimeter),
        "um" | "µm" | "micron" | "microns" | "micrometer" => Some(LengthUnit::Micrometer),
        "m" | "meter" | "meters" | "metre" => Some(LengthUnit::Meter),
        "" => None,
        other => {
            notes.push(format!("its unit {other:?} is not known: millimetres are assumed"));
            None
        }
    }
}

/// The frame of diffusion gradients, turned to RAS+.
pub(super) fn measurement_frame(fields: &NrrdFields) -> Option<[[f64; 3]; 3]> {
    let (signs, _) = signs_of(fields.get("space")).ok()?;
    let found = vectors(fields.get("measurementframe")?)?;
    let found: [Option<Vec<f64>>; 3] = found.try_into().ok()?;
    let mut frame = [[0.0; 3]; 3];
    for (vector, found) in frame.iter_mut().zip(found) {
        *vector = in_space(&found?).ok().filter(|v| v.iter().all(|number| number.is_finite()))?;
        for (number, sign) in vector.iter_mut().zip(signs) {
            *number = *number * sign + 0.0;
        }
    }
    Some(frame)
}

/// A vector of two or three numbers.
fn in_space(vector: &[f64]) -> Result<[f64; 3], String> {
    match *vector {
        [x, y] => Ok([x, y, 0.0]),
        [x, y, z] => Ok([x, y, z]),
        _ => Err(format!("its vectors have {} numbers: expected 3", vector.len())),
    }
}

fn origin_of(fields: &NrrdFields) -> Result<Option<[f64; 3]>, String> {
    let Some(text) = fields.get("spaceorigin") else { return Ok(None) };
    match vectors(text).as_deref() {
        Some([Some(vector)]) => in_space(vector).map(Some),
        _ => Err(format!("its space origin is {text:?}: expected one vector")),
    }
}

/// The steps of `space directions`.
fn directed(fields: &NrrdFields, header: &NrrdHeader, text: &str) -> Result<Steps, String> {
    let found = vectors(text).unwrap_or_default();
    let mut columns = [[0.0; 3]; 3];
    for (column, &axis) in columns.iter_mut().zip(&header.spatial) {
        let vector = found.get(axis).and_then(Option::as_ref);
        *column = in_space(vector.map_or(&[], |vector| &vector[..]))?;
    }
    if header.spatial.len() == 2 {
        columns[2] = across(columns[0], columns[1]);
    }
    Ok((columns, origin_of(fields)?.unwrap_or_default()))
}

/// The steps of `spacings` and the ends of axes, parallel to the axes of space.
fn stepped(fields: &NrrdFields, header: &NrrdHeader) -> Result<(Steps, bool), String> {
    let axes = header.sizes.len();
    let numbers = |name: &str| -> Result<Vec<Option<f64>>, String> {
        let Some(words) = fields.words(name, axes)? else { return Ok(vec![None; axes]) };
        let number = |word: &str| {
            let number: f64 = word.parse().map_err(|_| format!("{name}: {word:?} is no number"))?;
            Ok(Some(number).filter(|number| number.is_finite()))
        };
        words.into_iter().map(number).collect()
    };
    let (spacings, mins, maxs) = (numbers("spacings")?, numbers("axismins")?, numbers("axismaxs")?);
    let centers = fields.words("centerings", axes)?;
    let (mut columns, mut origin, mut has_spacing) = ([[0.0; 3]; 3], [0.0; 3], false);
    for i in 0..3 {
        columns[i][i] = 1.0;
        let Some(&axis) = header.spatial.get(i) else { continue };
        let is_node = centers.as_ref().is_some_and(|centers| centers[axis] == "node");
        let extent = header.sizes[axis] as f64;
        let between = mins[axis].zip(maxs[axis]).and_then(|(min, max)| {
            let steps = if is_node { extent - 1.0 } else { extent };
            (steps > 0.0).then(|| (max - min) / steps)
        });
        let step = spacings[axis].or(between);
        has_spacing |= step.is_some();
        columns[i][i] = step.unwrap_or(1.0);
        if let Some(min) = mins[axis] {
            // A cell begins half a step before its centre.
            origin[i] = if is_node { min } else { min + columns[i][i] / 2.0 };
        }
    }
    Ok(((columns, origin_of(fields)?.unwrap_or(origin)), has_spacing))
}
