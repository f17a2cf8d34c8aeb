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
/// Names in a message.
const SHOWN: usize = 8;
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

/// Which axis of an array is which.
#[derive(Clone, Copy, Debug)]
pub(super) enum AxisRule<'a> {
    /// As OME-Zarr names them, in the order of a store; otherwise by their number.
    Stored,
    /// As OME-Zarr or the array names them, in any order; otherwise by their number.
    AnyOrder,
    /// By these names, in any order.
    Given(&'a [String]),
}

impl AxisRule<'_> {
    /// The axes of an array of extents `shape`, to which its image gives `names`, and the array
    /// itself `own` ones.
    fn axes(
        self,
        shape: &[usize],
        names: Option<&[String]>,
        own: Option<&[String]>,
    ) -> Result<Axes, String> {
        match (self, names) {
            (Self::Given(given), _) => Axes::by_any_order(shape, given),
            (Self::AnyOrder, Some(names)) => Axes::by_any_order(shape, names),
            // Other names than those of space, time and channels say nothing.
            (Self::AnyOrder, None) => match own.map(|own| Axes::by_any_order(shape, own)) {
                Some(Ok(axes)) => Ok(axes),
                _ => Axes::by_number(shape),
            },
            (Self::Stored, Some(names)) => Axes::by_name(shape, names),
            (Self::Stored, None) => Axes::by_number(shape),
        }
    }
}

/// The one volume that is at `path`, or below it: an array, or an image of OME-Zarr. An array that
/// is a level of an image has the affine that the image states for it.
///
/// # Errors
/// [`Error::Unsupported`] for a store of our own, and for several volumes; [`Error::Data`] if there
/// is none; as [`volumes`].
pub(super) fn one_at(path: &Path, rule: AxisRule<'_>) -> Result<ZarrVolume> {
    let node = Node::at(path)?;
    let node = node.ok_or_else(|| Error::data(path, "it is no array and no group of Zarr"))?;
    if node.is_array
        && let Some(level) = level_of_image(path, &node, rule)?
    {
        return Ok(level);
    }
    if node.is_array || node.ome().contains_key("multiscales") {
        refuse_store(path, &node)?;
        let no_volume = || Error::data(path, "it has no axis of voxels");
        return one(path, "", &node, rule)?.ok_or_else(no_volume);
    }
    let found = volumes(path)?;
    let [volume] = &found[..] else {
        let shown: Vec<_> = found.iter().take(SHOWN).map(|v| v.member.as_str()).collect();
        let reason = match found.len() {
            0 => return Err(Error::data(path, "no volume is in this group of Zarr")),
            n => format!("{} holds {n} volumes: {}", path.display(), shown.join(", ")),
        };
        return Err(Error::unsupported(reason, "name one of them"));
    };
    let folder = path.join(inside(path, &volume.member)?);
    one_at(&folder, rule)
}

/// The volume of an array that an image in the folder above lists as one of its levels.
fn level_of_image(path: &Path, node: &Node, rule: AxisRule<'_>) -> Result<Option<ZarrVolume>> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(None) };
    // What is wrong with the folder above is no fault of the array.
    let Ok(Some(group)) = Node::at(above) else { return Ok(None) };
    let images = group.ome().get("multiscales").and_then(Value::as_array);
    let Some(image) = images.and_then(|images| images.first()?.as_object()) else {
        return Ok(None);
    };
    let levels = image.get("datasets").and_then(Value::as_array);
    let is_this = |level: &&Map<String, Value>| {
        level.get("path").and_then(Value::as_str).is_some_and(|path| *name == *path)
    };
    let level = levels.into_iter().flatten().filter_map(Value::as_object).find(is_this);
    let Some(level) = level else { return Ok(None) };
    let axes = rule.axes(&node.shape, names_of(image).as_deref(), node.names.as_deref());
    let axes = axes.map_err(|reason| Error::data(path, reason))?;
    let affine = affine(image, level, &axes);
    let kind = group.ome().contains_key("image-label").then_some(Kind::Labels);
    let (member, array) = (String::new(), path.to_owned());
    Ok(Some(ZarrVolume { member, kind, array, axes, affine, notes: Vec::new() }))
}

fn refuse_store(folder: &Path, node: &Node) -> Result<()> {
    if node.attributes.contains_key("voxquarry") {
        let reason = format!("{} is a Voxquarry store already", folder.display());
        return Err(Error::unsupported(reason, "open it as it is"));
    }
    Ok(())
}

/// The volume `member` below `root`.
///
/// # Errors
/// As [`volumes`], and [`Error::Data`] if it is not there.
pub(super) fn volume(root: &Path, member: &str) -> Result<ZarrVolume> {
    let folder = root.join(inside(root, member)?);
    let node = Node::at(&folder)?;
    let node = node.ok_or_else(|| Error::data(&folder, "it is no array and no group of Zarr"))?;
    let volume = one(&folder, member, &node, AxisRule::Stored)?;
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
    refuse_store(folder, &node)?;
    let below = |name: &str| match member {
        "" => name.to_owned(),
        member => format!("{member}/{name}"),
    };
    if let Some(volume) = one(folder, member, &node, AxisRule::Stored)? {
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
fn one(folder: &Path, member: &str, node: &Node, rule: AxisRule<'_>) -> Result<Option<ZarrVolume>> {
    let member = member.to_owned();
    let located = |reason| Error::data(folder, reason);
    if node.is_array {
        let axes = rule.axes(&node.shape, None, node.names.as_deref());
        let volume = |axes| ZarrVolume {
            member,
            kind: None,
            array: folder.to_owned(),
            axes,
            affine: None,
            notes: Vec::new(),
        };
        return match rule {
            AxisRule::Stored => Ok(axes.ok().map(volume)),
            _ => Ok(Some(volume(axes.map_err(located)?))),
        };
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
    let mut notes = Vec::new();
    let axes = rule.axes(&stored.shape, names_of(image).as_deref(), stored.names.as_deref());
    let axes = axes.map_err(located)?;
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
