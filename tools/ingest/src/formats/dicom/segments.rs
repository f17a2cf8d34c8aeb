//! The segments of a segmentation object (PS3.3, C.8.20): their numbers, names and colours.

use voxquarry::format::attributes::LabelName;

use super::dataset::DataSet;
use super::tags;

/// How a segmentation says what a pixel is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SegmentCoding {
    /// A frame for each segment, 0 or 1.
    Binary,
    /// A frame for each segment, 0 to a maximum.
    Fractional,
    /// Pixels are the numbers of segments.
    LabelMap,
}

/// The segments of a file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segments {
    pub(super) coding: SegmentCoding,
    /// The value that means 1, of fractions.
    pub(super) maximum: u16,
    /// Number and name of each, sorted.
    pub(super) named: Vec<(u16, String)>,
}

impl Segments {
    /// Names of labels.
    pub(super) fn label_names(&self) -> Vec<LabelName> {
        let named = self.named.iter().filter(|(number, name)| *number > 0 && !name.is_empty());
        let label = |(number, name): &(u16, String)| LabelName {
            ids: vec![i64::from(*number)],
            name: name.clone(),
            color: None,
        };
        named.map(label).collect()
    }
}

/// The segments of a file; `None` if it is no segmentation.
///
/// # Errors
/// A type of segmentation that is not known.
pub(super) fn segments_of(data: &DataSet) -> Result<Option<Segments>, String> {
    let word = data.word(tags::SEGMENTATION_TYPE);
    let coding = match word.as_str() {
        "" => return Ok(None),
        "BINARY" => SegmentCoding::Binary,
        "FRACTIONAL" => SegmentCoding::Fractional,
        "LABELMAP" => SegmentCoding::LabelMap,
        _ => return Err(format!("a segmentation of the type {word:?}")),
    };
    let named = data.items(tags::SEGMENT_SEQUENCE).iter().filter_map(|item| {
        let number = item.u16(tags::SEGMENT_NUMBER)?;
        let name = item.word(tags::SEGMENT_LABEL).replace(char::is_control, " ");
        Some((number, name))
    });
    let mut named: Vec<_> = named.collect();
    named.sort();
    named.dedup_by_key(|(number, _)| *number);
    let maximum = data.u16(tags::MAXIMUM_FRACTIONAL_VALUE).unwrap_or(255).max(1);
    Ok(Some(Segments { coding, maximum, named }))
}
