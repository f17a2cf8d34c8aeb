//! What attributes say about the axes of a data set, and about the size of its voxels.

use rust_hdf5::H5Dataset;
use serde_json::Value;
use voxquarry::{Affine, LengthUnit};

use crate::formats::axes::Axes;
use crate::formats::spacing::{affine_of, unit_of};

/// The axes of a data set: as its attributes name them, otherwise by their number.
///
/// # Errors
/// A message about axes that are no volume.
pub(super) fn axes_of(dataset: &H5Dataset) -> Result<Axes, String> {
    let shape = dataset.shape();
    match names(dataset).filter(|names| names.len() == shape.len()) {
        Some(names) => Axes::by_name(&shape, &names),
        None => Axes::by_number(&shape),
    }
}

/// The names of the axes that attributes state, a letter each: of vigra (`axistags`), or `axes`.
fn names(dataset: &H5Dataset) -> Option<Vec<String>> {
    let text = |name: &str| dataset.attr(name).and_then(|attr| attr.read_string()).ok();
    if let Some(tags) = text("axistags").and_then(|tags| serde_json::from_str::<Value>(&tags).ok())
    {
        let keys = tags["axes"].as_array()?.iter().map(|axis| axis["key"].as_str());
        return keys.map(|key| key.map(str::to_owned)).collect();
    }
    let axes = text("axes")?;
    let is_plain = axes.chars().all(|c| c.is_ascii_alphabetic());
    is_plain.then(|| axes.chars().map(String::from).collect())
}

/// The affine and its unit, as attributes state the size of a voxel; 1 mm otherwise.
pub(super) fn geometry(
    dataset: &H5Dataset,
    axes: &Axes,
    notes: &mut Vec<String>,
) -> Option<(Affine, LengthUnit)> {
    let numbers = |name: &str| {
        let attr = dataset.attr(name).ok()?;
        let floats = attr.read_numeric_as::<f64>().ok();
        let floats = floats.or_else(|| {
            let whole = attr.read_numeric_as::<i64>().ok()?;
            Some(whole.into_iter().map(|n| n as f64).collect())
        })?;
        // One for each axis of the data set, or for those of space.
        let space: Vec<f64> = match floats.len() {
            3 => floats,
            n if n == axes.count() => {
                axes.space().into_iter().map(|axis| Some(floats[axis?])).collect::<Option<_>>()?
            }
            _ => return None,
        };
        <[f64; 3]>::try_from(space).ok()
    };
    let text = |name: &str| dataset.attr(name).and_then(|attr| attr.read_string()).ok();
    let stated = text("unit").or_else(|| text("units")).and_then(|unit| unit_of(&unit));
    let known = [
        ("element_size_um", Some((LengthUnit::Micrometer, 1.0))),
        ("voxel_size", stated),
        ("spacing", stated),
        ("resolution", stated),
    ];
    for (name, unit) in known {
        let Some(size) = numbers(name) else { continue };
        // CREMI and its relatives state nanometres, and no unit.
        let assumed = match name {
            "resolution" => (LengthUnit::Micrometer, 1e-3, "nanometres"),
            _ => (LengthUnit::Millimeter, 1.0, "millimetres"),
        };
        let (unit, factor) = unit.unwrap_or((assumed.0, assumed.1));
        let Some(affine) = affine_of(size, factor) else { continue };
        if name != "element_size_um" && stated.is_none() {
            let assumed = assumed.2;
            notes
                .push(format!("the attribute {name} has no unit, {assumed} (z, y, x) are assumed"));
        }
        return Some((affine, unit));
    }
    None
}
