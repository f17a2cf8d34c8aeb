//! The names and colours of labels in a segmentation of 3D Slicer (`.seg.nrrd`), which are
//! key/value pairs: `Segment0_Name`, `Segment0_Color`, `Segment0_LabelValue`.

use std::collections::BTreeMap;

use voxquarry::format::attributes::LabelName;

use super::fields::NrrdFields;

/// A segment's pairs, by what follows `Segment0_`.
type Segment<'a> = BTreeMap<&'a str, &'a str>;

/// Whether the header describes segments.
pub(super) fn are_in(fields: &NrrdFields) -> bool {
    !segments(fields).is_empty()
}

fn segments(fields: &NrrdFields) -> BTreeMap<u32, Segment<'_>> {
    let mut found: BTreeMap<u32, Segment<'_>> = BTreeMap::new();
    for (key, value) in &fields.pairs {
        let parts = key.strip_prefix("Segment").and_then(|rest| rest.split_once('_'));
        let Some((number, what)) = parts else { continue };
        if let Ok(number) = number.parse() {
            found.entry(number).or_default().insert(what, value);
        }
    }
    found.retain(|_, segment| segment.contains_key("Name") || segment.contains_key("ID"));
    found
}

/// The names of labels, and a sentence if there are none because segments overlap.
pub(super) fn label_names(fields: &NrrdFields) -> (Vec<LabelName>, Option<String>) {
    let (segments, mut names) = (segments(fields), Vec::<LabelName>::new());
    for segment in segments.values() {
        let Some(name) = segment.get("Name").or_else(|| segment.get("ID")) else { continue };
        let value = segment.get("LabelValue").map_or(Some(1), |text| text.parse::<i64>().ok());
        let Some(value) = value else { continue };
        if let Some(same) = names.iter_mut().find(|other| other.name == *name) {
            same.ids.push(value);
            continue;
        }
        if names.iter().any(|other| other.ids.contains(&value)) {
            let note = "its segments overlap, so a label stands for several of them: layers \
                        become channels, and labels get no names (merge the segments of 3D \
                        Slicer into a label map to keep them)";
            return (Vec::new(), Some(note.to_owned()));
        }
        let color = segment.get("Color").and_then(|text| color_of(text));
        names.push(LabelName { ids: vec![value], name: (*name).to_owned(), color });
    }
    (names, None)
}

/// `#rrggbb` of three numbers from 0 to 1.
fn color_of(text: &str) -> Option<String> {
    let parts: Option<Vec<f64>> = text.split_whitespace().map(|word| word.parse().ok()).collect();
    let [r, g, b] = parts?.try_into().ok()?;
    let byte = |part: f64| (part.clamp(0.0, 1.0) * 255.0).round() as u8;
    Some(format!("#{:02x}{:02x}{:02x}", byte(r), byte(g), byte(b)))
}
