//! Which page is which plane, as ImageJ, tifffile and OME describe it.

use std::path::{Component, Path};

use roxmltree::{Document, Node};
use serde_json::Value;
use voxquarry::{Affine, LengthUnit};

use crate::formats::spacing::{affine_of, unit_of};

/// A page of a file: `None` for the file itself, otherwise the name of one beside it.
pub(super) type PageOf = (Option<String>, usize);

/// A stack that a description describes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Stack {
    /// Channels that have pages of their own; `None` without that axis.
    pub(super) channels: Option<usize>,
    pub(super) depth: usize,
    /// The pages, for each channel, for each z.
    pub(super) pages: Vec<PageOf>,
    pub(super) affine: Option<(Affine, LengthUnit)>,
    pub(super) notes: Vec<String>,
}

/// The kinds of axes that pages have.
const C: usize = 0;
const Z: usize = 1;
const T: usize = 2;

/// Pages along `(c, z, t)`.
struct Extents {
    counts: [usize; 3],
    /// The axes from the one whose pages follow each other.
    order: [usize; 3],
}

impl Extents {
    fn pages(&self) -> Option<usize> {
        self.counts.iter().try_fold(1usize, |n, &count| n.checked_mul(count))
    }

    /// The number of the page of a channel, plane and time.
    fn page(&self, at: [usize; 3]) -> usize {
        let mut stride = 1;
        let mut page = 0;
        for axis in self.order {
            page += at[axis] * stride;
            stride *= self.counts[axis];
        }
        page
    }

    /// Takes times for planes where there is one plane at each.
    fn settle(mut self, notes: &mut Vec<String>) -> Result<Self, String> {
        let [_, z, t] = self.counts;
        if t > 1 && z > 1 {
            return Err(format!("it has {t} times of {z} planes: save each time as a file"));
        }
        if t > 1 {
            notes.push(format!("its {t} times of one plane each are taken for planes"));
            self.counts.swap(Z, T);
            for axis in &mut self.order {
                *axis = [C, T, Z][*axis];
            }
        }
        Ok(self)
    }
}

fn stack(
    extents: &Extents,
    has_channels: bool,
    page: impl Fn([usize; 3]) -> Option<PageOf>,
    affine: Option<(Affine, LengthUnit)>,
    notes: Vec<String>,
) -> Result<Stack, String> {
    let [channels, depth, _] = extents.counts;
    let all = (0..channels).flat_map(|c| (0..depth).map(move |z| [c, z, 0]));
    let pages = all.map(|at| {
        page(at).ok_or_else(|| format!("channel {}, plane {} have no page", at[0], at[1]))
    });
    let pages = pages.collect::<Result<Vec<_>, _>>()?;
    let channels = (channels > 1 || has_channels).then_some(channels);
    Ok(Stack { channels, depth, pages, affine, notes })
}

/// The stack of a file of `pages` pages with an ImageJ description; `None` for another one.
pub(super) fn imagej(
    text: &str,
    resolution: Option<[f64; 2]>,
    pages: usize,
) -> Option<Result<Stack, String>> {
    text.starts_with("ImageJ=").then(|| {
        let value = |key: &str| {
            let lines = text.lines().filter_map(|line| line.split_once('='));
            lines.filter(|(k, _)| *k == key).map(|(_, v)| v.trim()).next_back()
        };
        let count =
            |key: &str| value(key).and_then(|n| n.parse::<usize>().ok()).unwrap_or(1).max(1);
        let mut notes = Vec::new();
        let counts = [count("channels"), count("slices"), count("frames")];
        let mut extents = Extents { counts, order: [C, Z, T] };
        let stated = count("images").max(pages);
        if extents.pages() == Some(1) {
            extents.counts[Z] = stated;
        }
        if extents.pages().is_none_or(|n| n > stated) {
            return Err(format!(
                "its description states {counts:?} channels, slices and frames, it has \
                                {stated} pages"
            ));
        }
        let extents = extents.settle(&mut notes)?;
        let z = value("spacing").and_then(|s| s.parse::<f64>().ok()).map(f64::abs);
        let unit = value("unit").or_else(|| value("yunit")).and_then(unit_of);
        let affine = unit.zip(resolution).and_then(|((unit, factor), [x, y])| {
            if z.is_none() && extents.counts[Z] > 1 {
                notes.push("the distance of its planes is not stated, 1 is assumed".to_owned());
            }
            let size = [z.unwrap_or(1.0), 1.0 / y, 1.0 / x];
            affine_of(size, factor).map(|affine| (affine, unit))
        });
        stack(&extents, false, |at| Some((None, extents.page(at))), affine, notes)
    })
}

/// The stack of a file that tifffile describes as JSON; `None` for another description.
pub(super) fn shaped(text: &str, samples: usize) -> Option<Result<Stack, String>> {
    let document = serde_json::from_str::<Value>(text).ok()?;
    let shape = document.get("shape")?.as_array()?;
    let shape: Vec<usize> =
        shape.iter().map(|n| n.as_u64().map(|n| n as usize)).collect::<Option<_>>()?;
    let axes = document.get("axes").and_then(Value::as_str).unwrap_or_default();
    // Rows and columns, and samples before or behind them.
    let inner = 2 + usize::from(samples > 1);
    let outer = shape.len().checked_sub(inner)?;
    let named = (axes.len() == shape.len()).then(|| axes.to_uppercase());
    Some(by_axes(&shape[..outer], named.as_deref()))
}

fn by_axes(outer: &[usize], named: Option<&str>) -> Result<Stack, String> {
    let mut notes = Vec::new();
    let letters: Vec<char> = if let Some(named) = named {
        named.chars().take(outer.len()).collect()
    } else {
        without_names(outer, &mut notes)
    };
    let mut extents = Extents { counts: [1; 3], order: [C, Z, T] };
    let mut order = Vec::new();
    // The last axis is the fastest.
    for (letter, &n) in letters.iter().zip(outer).rev() {
        let axis = match letter {
            'C' => C,
            'Z' | 'I' | 'Q' => Z,
            'T' => T,
            _ if n == 1 => continue,
            other => return Err(format!("its axis {other:?} has {n} elements")),
        };
        if order.contains(&axis) {
            return Err(format!("its axes are {letters:?}: two are alike"));
        }
        extents.counts[axis] = n;
        order.push(axis);
    }
    order.extend([C, Z, T].into_iter().filter(|axis| !order.contains(axis)).collect::<Vec<_>>());
    extents.order.copy_from_slice(&order);
    let extents = extents.settle(&mut notes)?;
    stack(&extents, false, |at| Some((None, extents.page(at))), None, notes)
}

/// Letters for axes without names: one of several elements is z, of two the shorter is c.
fn without_names(outer: &[usize], notes: &mut Vec<String>) -> Vec<char> {
    let several: Vec<_> = outer.iter().copied().filter(|&n| n > 1).collect();
    let is_first_shorter = several.first() <= several.last();
    let names = match several.len() {
        0 | 1 => ['Z', 'Z', 'T'],
        2 if is_first_shorter => ['C', 'Z', 'T'],
        2 => ['Z', 'C', 'T'],
        _ => ['T', 'C', 'Z'],
    };
    if let [a, b] = several[..] {
        let (channels, planes) = (a.min(b), a.max(b));
        notes.push(format!(
            "its axes have no names: that of {channels} is taken for channels, that of {planes} \
             for planes"
        ));
    }
    let mut names = names.into_iter();
    outer.iter().map(|&n| if n > 1 { names.next().unwrap_or('?') } else { '1' }).collect()
}

/// A file whose pages are planes, without a description.
pub(super) fn bare(pages: usize) -> Stack {
    let pages: Vec<_> = (0..pages).map(|page| (None, page)).collect();
    Stack { channels: None, depth: pages.len(), pages, affine: None, notes: Vec::new() }
}

/// The document of a description, if it is OME-XML.
pub(super) fn ome_document(text: &str) -> Option<Result<Document<'_>, String>> {
    let is_ome =
        text.trim_start().starts_with('<') && text.contains("<OME") || text.contains(":OME");
    is_ome.then(|| Document::parse(text).map_err(|error| format!("its OME-XML: {error}")))
}

/// The names of the images of an OME document.
pub(super) fn ome_images(document: &Document) -> Vec<String> {
    let images = document.descendants().filter(|node| node.has_tag_name_of("Image"));
    let name = |(i, image): (usize, Node)| {
        let name = image.attribute("Name").filter(|name| !name.is_empty());
        name.map_or_else(|| format!("image_{i}"), str::to_owned)
    };
    images.enumerate().map(name).collect()
}

/// The stack of the image with the number `image` of an OME document, whose pages have `samples`
/// samples.
///
/// # Errors
/// A message about what is missing or contradicts itself.
pub(super) fn ome(document: &Document, image: usize, samples: usize) -> Result<Stack, String> {
    let mut images = document.descendants().filter(|node| node.has_tag_name_of("Image"));
    let image = images.nth(image).ok_or("its OME-XML has no such image")?;
    let mut pixels = image.children().filter(|node| node.has_tag_name_of("Pixels"));
    let pixels = pixels.next().ok_or("its OME-XML has an image without pixels")?;
    let number =
        |node: &Node, name: &str| node.attribute(name).and_then(|n| n.parse::<usize>().ok());
    let size = |name: &str| number(&pixels, name).unwrap_or(1).max(1);
    let channels = size("SizeC");
    if !channels.is_multiple_of(samples) {
        return Err(format!("its OME-XML states {channels} channels of {samples} samples"));
    }
    let counts = [channels / samples, size("SizeZ"), size("SizeT")];
    let order = pixels.attribute("DimensionOrder").unwrap_or("XYCZT");
    let letters: Vec<_> = order.chars().skip(2).filter_map(|c| "CZT".find(c)).collect();
    let order = <[usize; 3]>::try_from(letters).map_err(|_| format!("its order is {order:?}"))?;
    let mut sorted = order;
    sorted.sort_unstable();
    if sorted != [C, Z, T] {
        return Err("its order names an axis twice".to_owned());
    }
    let mut notes = Vec::new();
    let stored = Extents { counts, order };
    let total =
        stored.pages().filter(|&n| n <= 1 << 24).ok_or("its OME-XML states too many pages")?;
    let mut pages: Vec<Option<PageOf>> = vec![None; total];
    let parts: Vec<Node> =
        pixels.children().filter(|node| node.has_tag_name_of("TiffData")).collect();
    if parts.is_empty() {
        pages = (0..total).map(|page| Some((None, page))).collect();
    }
    for part in &parts {
        let first = |name: &str| number(part, name).unwrap_or(0);
        let at = [first("FirstC") / samples, first("FirstZ"), first("FirstT")];
        if at.iter().zip(counts).any(|(&at, count)| at >= count) {
            return Err(format!("its OME-XML places a page at {at:?} of {counts:?}"));
        }
        let start = stored.page(at);
        let page = first("IFD");
        let whole = part.attribute("IFD").is_none() && parts.len() == 1;
        let count = number(part, "PlaneCount").unwrap_or(if whole { total } else { 1 });
        let uuid = part.children().find(|node| node.has_tag_name_of("UUID"));
        let file = uuid.and_then(|uuid| uuid.attribute("FileName")).map(str::to_owned);
        if let Some(name) = &file {
            let mut parts = Path::new(name).components();
            let is_plain = matches!(parts.next(), Some(Component::Normal(_)));
            if !is_plain || parts.next().is_some() {
                return Err(format!("its OME-XML names {name:?}, which is no file beside it"));
            }
        }
        for i in 0..count.min(total - start) {
            pages[start + i] = Some((file.clone(), page.saturating_add(i)));
        }
    }
    let affine = ome_affine(&pixels, counts[Z], &mut notes);
    let has_channels = channels > 1;
    let settled = Extents { counts, order }.settle(&mut notes)?;
    stack(
        &settled,
        has_channels && samples == 1,
        |at| pages[settled.page(at)].clone(),
        affine,
        notes,
    )
}

fn ome_affine(
    pixels: &Node,
    depth: usize,
    notes: &mut Vec<String>,
) -> Option<(Affine, LengthUnit)> {
    let unit_along = |axis: &str| {
        let unit = pixels.attribute(format!("PhysicalSize{axis}Unit").as_str());
        unit_of(unit.unwrap_or("µm"))
    };
    let (unit, _) = unit_along("X")?;
    let length = |axis: &str| {
        let size = pixels.attribute(format!("PhysicalSize{axis}").as_str())?.parse::<f64>().ok()?;
        let (own, factor) = unit_along(axis)?;
        let factor =
            if own == unit { factor } else { factor * own.millimeters() / unit.millimeters() };
        Some(size * factor)
    };
    let (y, x) = (length("Y")?, length("X")?);
    let z = length("Z");
    if z.is_none() && depth > 1 {
        notes.push("the distance of its planes is not stated, 1 is assumed".to_owned());
    }
    let affine = affine_of([z.unwrap_or(1.0), y, x], 1.0)?;
    Some((affine, unit))
}

/// Names of nodes, whatever their namespace: it has the year of the schema.
trait HasTagNameOf {
    fn has_tag_name_of(&self, name: &str) -> bool;
}

impl HasTagNameOf for Node<'_, '_> {
    fn has_tag_name_of(&self, name: &str) -> bool {
        self.is_element() && self.tag_name().name() == name
    }
}
