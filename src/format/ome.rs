//! The attributes `ome` of a volume's group: OME-Zarr 0.5 for other software (§4).
//!
//! # Invariants
//! - Nothing here is authoritative: the attributes `voxquarry` hold the affine and the statistics.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::array::ArrayLayout;
use super::attributes::{Kind, LabelName, Statistics, VolumeAttributes};
use super::levels::level_folder;
use crate::Size3;

/// The displayed range ends this many standard deviations from the mean, or at an extreme.
const SHOWN_DEVIATIONS: f64 = 3.0;
/// More named ids than this are not repeated for other software.
const MOST_NAMED: usize = 4096;
/// The colours of three interleaved channels of one byte, which are those of photographs.
const RGB: [&str; 3] = ["FF0000", "00FF00", "0000FF"];

/// All `attributes` of the group of volume `name`, whose voxels have `layout`. `image` is the image
/// of the subject that a label map belongs to.
pub fn group_attributes(
    name: &str,
    volume: &VolumeAttributes,
    layout: &ArrayLayout,
    image: Option<&str>,
) -> Value {
    json!({ "ome": metadata(name, volume, layout, image), "voxquarry": volume.to_json() })
}

/// OME-Zarr 0.5 metadata of all levels.
fn metadata(
    name: &str,
    volume: &VolumeAttributes,
    layout: &ArrayLayout,
    image: Option<&str>,
) -> Value {
    let unit = volume.unit.unwrap_or_default().name();
    let mut axes: Vec<Value> =
        ["z", "y", "x"].map(|a| json!({ "name": a, "type": "space", "unit": unit })).into();
    if layout.channels.is_some() {
        axes.insert(0, json!({ "name": "c", "type": "channel" }));
    }
    let kind = match volume.kind {
        _ if volume.levels.is_empty() => "none",
        Kind::Image => "mean",
        Kind::Labels => "mode",
    };
    let mut ome = json!({
        "version": "0.5",
        "multiscales": [{
            "name": name,
            "type": kind,
            "axes": axes,
            "datasets": datasets(volume, layout),
        }],
    });
    match volume.kind {
        // The labels of OME-Zarr are integers.
        Kind::Labels if layout.dtype.is_float() => {}
        Kind::Labels => {
            ome["image-label"] = image_label(&volume.labels, image);
        }
        Kind::Image => {
            if let Some(window) = window(&volume.statistics) {
                ome["omero"] = omero(name, layout, &window);
            }
        }
    }
    ome
}

/// The levels, each with its place: the centre of its first voxel lies amid those that it covers.
fn datasets(volume: &VolumeAttributes, layout: &ArrayLayout) -> Vec<Value> {
    let spacing = volume.affine.spacing_mm();
    let of_axes = |channel: f64, values: [f64; 3]| -> Vec<f64> {
        layout.channels.map(|_| channel).into_iter().chain(values).collect()
    };
    let level = |(level, factors): (usize, Size3)| {
        let scale = [0, 1, 2].map(|a| spacing[a] * factors[a] as f64);
        let shift = [0, 1, 2].map(|a| spacing[a] * (factors[a] - 1) as f64 / 2.0);
        let mut place = vec![json!({ "type": "scale", "scale": of_axes(1.0, scale) })];
        if level > 0 {
            place.push(json!({ "type": "translation", "translation": of_axes(0.0, shift) }));
        }
        json!({ "path": level_folder(level), "coordinateTransformations": place })
    };
    let coarser = volume.levels.iter().map(|level| level.factors);
    [[1; 3]].into_iter().chain(coarser).enumerate().map(level).collect()
}

/// What other software needs to know about a label map: its image, and its names and colours.
fn image_label(labels: &[LabelName], image: Option<&str>) -> Value {
    let named = named(labels);
    let properties: Vec<Value> = (named.iter())
        .map(|(id, label)| json!({ "label-value": id, "name": label.name }))
        .collect();
    let colors: Vec<Value> = (named.iter())
        .filter_map(|(id, label)| Some(json!({ "label-value": id, "rgba": rgba(label)? })))
        .collect();
    let mut image_label = json!({});
    if let Some(image) = image {
        image_label["source"] = json!({ "image": format!("../{image}") });
    }
    for (key, entries) in [("properties", properties), ("colors", colors)] {
        if !entries.is_empty() {
            image_label[key] = entries.into();
        }
    }
    image_label
}

/// The name of each id, of those that have one: the name with the fewest ids, so that a region of
/// several labels does not hide theirs. None if there are too many to repeat them.
fn named(labels: &[LabelName]) -> BTreeMap<i64, &LabelName> {
    let mut named: BTreeMap<i64, &LabelName> = BTreeMap::new();
    if labels.iter().map(|label| label.ids.len()).sum::<usize>() > MOST_NAMED {
        return named;
    }
    for label in labels {
        for &id in &label.ids {
            let known = named.entry(id).or_insert(label);
            if label.ids.len() < known.ids.len() {
                *known = label;
            }
        }
    }
    named
}

/// The colour of a label, if it is written as `#rrggbb`.
fn rgba(label: &LabelName) -> Option<[u8; 4]> {
    let digits = label.color.as_deref()?.strip_prefix('#')?;
    let is_color = digits.len() == 6 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let [_, r, g, b] = u32::from_str_radix(digits, 16).ok().filter(|_| is_color)?.to_be_bytes();
    Some([r, g, b, 255])
}

/// The range that a viewer shows first: the mean and three standard deviations to both sides, as
/// far as there are values.
fn window(statistics: &Statistics) -> Option<Value> {
    let [min, max] =
        [&statistics.min, &statistics.max].map(|v| v.as_ref().and_then(serde_json::Number::as_f64));
    let (min, max, mean, std) = (min?, max?, statistics.mean?, statistics.std?);
    let start = (mean - SHOWN_DEVIATIONS * std).max(min);
    let end = (mean + SHOWN_DEVIATIONS * std).min(max);
    // Viewers divide by the width of the range.
    let (max, end) = if end > start { (max, end) } else { (max.max(start + 1.0), start + 1.0) };
    let is_finite = [min, max, start, end].iter().all(|v| v.is_finite());
    is_finite.then(|| json!({ "min": min, "max": max, "start": start, "end": end }))
}

fn omero(name: &str, layout: &ArrayLayout, window: &Value) -> Value {
    let count = layout.channel_count();
    let is_rgb = count == RGB.len() && layout.dtype == crate::Dtype::UInt8;
    let channel = |i: usize| {
        let label = if layout.channels.is_some() { format!("{name} {i}") } else { name.to_owned() };
        let color = if is_rgb { RGB[i] } else { "FFFFFF" };
        json!({ "label": label, "color": color, "active": true, "window": window })
    };
    let model = if is_rgb { "color" } else { "greyscale" };
    let channels: Vec<Value> = (0..count).map(channel).collect();
    let middle = layout.size[0] / 2;
    json!({
        "channels": channels,
        "rdefs": { "defaultT": 0, "defaultZ": middle, "model": model },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statistics(min: f64, max: f64, mean: f64, std: f64) -> Statistics {
        let number = serde_json::Number::from_f64;
        Statistics {
            voxels: 8,
            non_finite: 0,
            min: number(min),
            max: number(max),
            mean: Some(mean),
            std: Some(std),
        }
    }

    #[test]
    fn an_id_has_the_name_of_the_smallest_region_and_its_colour() {
        let label = |ids: &[i64], name: &str, color: Option<&str>| LabelName {
            ids: ids.to_vec(),
            name: name.to_owned(),
            color: color.map(str::to_owned),
        };
        let labels = [
            label(&[1, 2, -3], "organ", Some("#0000FF")),
            label(&[2], "tumour", Some("#ff8000")),
            label(&[7], "cyst", Some("#+12345")),
        ];
        let value = |id: i64, key: &str, value: Value| json!({ "label-value": id, key: value });
        assert_eq!(
            image_label(&labels, Some("ct")),
            json!({
                "source": { "image": "../ct" },
                "properties": [
                    value(-3, "name", "organ".into()),
                    value(1, "name", "organ".into()),
                    value(2, "name", "tumour".into()),
                    value(7, "name", "cyst".into()),
                ],
                "colors": [
                    value(-3, "rgba", json!([0, 0, 255, 255])),
                    value(1, "rgba", json!([0, 0, 255, 255])),
                    value(2, "rgba", json!([255, 128, 0, 255])),
                ],
            })
        );
        let many: Vec<i64> = (0..5000).collect();
        assert_eq!(image_label(&[label(&many, "many", None)], None), json!({}));
    }

    #[test]
    fn the_window_lies_within_the_values_and_is_never_empty() {
        let range = |s: Statistics| {
            let window = window(&s).unwrap();
            ["min", "start", "end", "max"].map(|key| window[key].as_f64().unwrap())
        };
        assert_eq!(
            range(statistics(-1024.0, 3000.0, -600.0, 400.0)),
            [-1024., -1024., 600., 3000.]
        );
        assert_eq!(range(statistics(0.0, 9.0, 4.0, 1.0)), [0.0, 1.0, 7.0, 9.0]);
        assert_eq!(range(statistics(5.0, 5.0, 5.0, 0.0)), [5.0, 5.0, 6.0, 6.0]);
        let none = Statistics {
            min: None,
            max: None,
            mean: None,
            std: None,
            ..statistics(0., 0., 0., 0.)
        };
        assert!(window(&none).is_none());
    }
}
