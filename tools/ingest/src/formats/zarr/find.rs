//! The volumes of a Zarr hierarchy: those of OME-Zarr by its metadata, other arrays by their
//! shapes.

use std::path::{Component, Path, PathBuf};

use serde_json::{Map, Value};
use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Error, LengthUnit, Result};

use super::node::{Node, children};
use crate::formats::axes::Axes;
use crate::formats::spacing::{affine_of, unit_of};

/// More than the levels of groups that anybody makes.
const DEEPEST: usize = 8;
/// More volumes than anybody chooses from.
const MOST: usize = 10_000;

/// An array that is a volume, and what its group says about it.
#[derive(Clone, Debug)]
pub(super) struct ZarrVolume {
    /// The image or array, as a path in the hierarchy; empty for the hierarchy itself.
    pub(super) member: String,
    pub(super) kind: Option<Kind>,
    /// The array's folder.
    pub(super) array: PathBuf,
    pub(super) axes: Axes,
    pub(super) affine: Option<(Affine, LengthUnit)>,
    pub(super) notes: Vec<String>,
}

/// All volumes below `root`.
///
/// # Errors
/// [`Error::Data`] for metadata that contradicts itself, [`Error::Unsupported`] for a store of our
/// own, [`Error::Io`].
pub(super) fn volumes(root: &Path) -> Result<Vec<ZarrVolume>> {
    let mut found = Vec::new();
    walk(root, "", None, DEEPEST, &mut found)?;
    Ok(found)
}

/// The volume `member` below `root`.
///
/// # Errors
/// As [`volumes`], and [`Error::Data`] if it is not there.
pub(super) fn volume(root: &Path, member: &str) -> Result<ZarrVolume> {
    let folder = root.join(inside(root, member)?);
    let node = Node::at(&folder)?;
    let node = node.ok_or_else(|| Error::data(&folder, "it is no array and no group of Zarr"))?;
    let volume = one(&folder, member, &node)?;
    volume.ok_or_else(|| {
        let reason =
            "it is no image: expected an array of three or four axes, or an OME-Zarr image";
        Error::data(&folder, reason)
    })
}

/// A path below a hierarchy's root.
fn inside<'a>(root: &Path, path: &'a str) -> Result<&'a Path> {
    let relative = Path::new(path.trim_matches('/'));
    let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
    if relative.components().all(is_inside) {
        Ok(relative)
    } else {
        Err(Error::data(root, format!("it names {path:?}, which lies outside of it")))
    }
}

fn walk(
    folder: &Path,
    member: &str,
    kind: Option<Kind>,
    depth: usize,
    found: &mut Vec<ZarrVolume>,
) -> Result<()> {
    let Some(node) = Node::at(folder)? else { return Ok(()) };
    if node.attributes.contains_key("voxquarry") {
        let reason = format!("{} is a Voxquarry store already", folder.display());
        return Err(Error::unsupported(reason, "open it as it is"));
    }
    let below = |name: &str| match member {
        "" => name.to_owned(),
        member => format!("{member}/{name}"),
    };
    if let Some(volume) = one(folder, member, &node)? {
        if found.len() < MOST {
            let kind = kind.or(volume.kind);
            found.push(ZarrVolume { kind, ..volume });
        }
        let labels = folder.join("labels");
        if !node.is_array && depth > 0 && Node::at(&labels)?.is_some() {
            for name in children(&labels)? {
                let member = below(&format!("labels/{name}"));
                walk(&labels.join(&name), &member, Some(Kind::Labels), depth - 1, found)?;
            }
        }
        return Ok(());
    }
    if node.is_array || depth == 0 {
        return Ok(());
    }
    for name in children(folder)? {
        walk(&folder.join(&name), &below(&name), kind, depth - 1, found)?;
    }
    Ok(())
}

/// The volume that a node is: an array, or the largest level of an OME-Zarr image.
fn one(folder: &Path, member: &str, node: &Node) -> Result<Option<ZarrVolume>> {
    let member = member.to_owned();
    if node.is_array {
        let axes = Axes::by_number(&node.shape);
        let volume = |axes| ZarrVolume {
            member,
            kind: None,
            array: folder.to_owned(),
            axes,
            affine: None,
            notes: Vec::new(),
        };
        return Ok(axes.ok().map(volume));
    }
    let ome = node.ome();
    let Some(images) = ome.get("multiscales").and_then(Value::as_array) else { return Ok(None) };
    let image = images.first().and_then(Value::as_object);
    let image = image.ok_or_else(|| Error::data(folder, "its multiscales are empty"))?;
    let level = image.get("datasets").and_then(|levels| levels.get(0)).and_then(Value::as_object);
    let path = level.and_then(|level| level.get("path")).and_then(Value::as_str);
    let path = path.ok_or_else(|| Error::data(folder, "its multiscales name no array"))?;
    let array = folder.join(inside(folder, path)?);
    let stored = Node::at(&array)?.filter(|node| node.is_array);
    let stored =
        stored.ok_or_else(|| Error::data(&array, "its multiscales name it, it is no array"))?;
    let located = |reason| Error::data(folder, reason);
    let mut notes = Vec::new();
    let names = names_of(image);
    let axes = match &names {
        Some(names) => Axes::by_name(&stored.shape, names).map_err(located)?,
        None => Axes::by_number(&stored.shape).map_err(located)?,
    };
    if images.len() > 1 {
        notes.push(format!("it describes {} images, the first is taken", images.len()));
    }
    let affine = affine(image, level.unwrap_or(image), &axes);
    let kind = ome.contains_key("image-label").then_some(Kind::Labels);
    Ok(Some(ZarrVolume { member, kind, array, axes, affine, notes }))
}

/// The names of an image's axes: objects since version 0.4, strings in 0.3.
fn names_of(image: &Map<String, Value>) -> Option<Vec<String>> {
    let axes = image.get("axes")?.as_array()?;
    let name =
        |axis: &Value| axis.as_str().or_else(|| axis.get("name")?.as_str()).map(str::to_owned);
    axes.iter().map(name).collect()
}

/// The affine of the first level: its transformations, then those of the image.
fn affine(
    image: &Map<String, Value>,
    level: &Map<String, Value>,
    axes: &Axes,
) -> Option<(Affine, LengthUnit)> {
    let stated = image.get("axes")?.as_array()?;
    let mut scale = vec![1.0; stated.len()];
    let mut shift = vec![0.0; stated.len()];
    let mut is_stated = false;
    for object in [level, image] {
        let list = object.get("coordinateTransformations").and_then(Value::as_array);
        for transform in list.into_iter().flatten() {
            let numbers = |name: &str| -> Option<Vec<f64>> {
                let numbers = transform.get(name)?.as_array()?;
                let numbers: Vec<_> = numbers.iter().map(Value::as_f64).collect::<Option<_>>()?;
                (numbers.len() == stated.len()).then_some(numbers)
            };
            if let Some(factors) = numbers("scale") {
                is_stated = true;
                for (axis, factor) in factors.into_iter().enumerate() {
                    scale[axis] *= factor;
                    shift[axis] *= factor;
                }
            }
            if let Some(steps) = numbers("translation") {
                steps.into_iter().enumerate().for_each(|(axis, step)| shift[axis] += step);
            }
        }
    }
    let space = axes.space();
    let units = space.map(|axis| axis.and_then(|axis| stated[axis].get("unit")?.as_str()));
    let unit = units.iter().flatten().next().and_then(|name| unit_of(name));
    let unit = unit.filter(|_| is_stated)?.0;
    let lengths = |values: &[f64], absent: f64| {
        let length = |(axis, name): (Option<usize>, Option<&str>)| {
            let Some(axis) = axis else { return absent };
            let own = name.and_then(unit_of);
            let factor = own.map_or(1.0, |(own, f)| f * own.millimeters() / unit.millimeters());
            values[axis] * factor
        };
        let pairs: Vec<_> = space.into_iter().zip(units).map(length).collect();
        [pairs[0], pairs[1], pairs[2]]
    };
    let mut affine = affine_of(lengths(&scale, 1.0), 1.0)?;
    let origin = lengths(&shift, 0.0);
    for (row, value) in origin.into_iter().rev().enumerate() {
        affine.0[row][3] = value;
    }
    Some((affine, unit))
}
