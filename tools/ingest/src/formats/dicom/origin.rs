//! What is kept of a header in a store: a white list of numbers and of words that devices write.
//!
//! # Invariants
//! - No name, date, number or UID of a person, a visit or a device is kept. UIDs may contain dates,
//!   so only their digests are, which suffice to find a series again.
//! - A word is kept only if it consists of the characters of a code.

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::dataset::DataSet;
use super::syntax::TransferSyntax;
use super::tags::{self, Tag};
use crate::digest::hex;

/// Elements whose first number is kept.
const NUMBERS: [(&str, Tag); 9] = [
    ("slice_thickness_mm", tags::SLICE_THICKNESS),
    ("spacing_between_slices_mm", tags::SPACING_BETWEEN_SLICES),
    ("kvp", tags::KVP),
    ("repetition_time_ms", tags::REPETITION_TIME),
    ("echo_time_ms", tags::ECHO_TIME),
    ("inversion_time_ms", tags::INVERSION_TIME),
    ("flip_angle_degrees", tags::FLIP_ANGLE),
    ("magnetic_field_tesla", tags::MAGNETIC_FIELD_STRENGTH),
    ("gantry_tilt_degrees", tags::GANTRY_DETECTOR_TILT),
];
/// Elements whose first word is kept.
const WORDS: [(&str, Tag); 7] = [
    ("modality", tags::MODALITY),
    ("photometric", tags::PHOTOMETRIC_INTERPRETATION),
    ("kernel", tags::CONVOLUTION_KERNEL),
    ("patient_position", tags::PATIENT_POSITION),
    ("rescale_type", tags::RESCALE_TYPE),
    ("units", tags::UNITS),
    ("dose_units", tags::DOSE_UNITS),
];
/// Elements whose digest is kept.
const DIGESTS: [(&str, Tag); 2] = [
    ("series_sha256", tags::SERIES_INSTANCE_UID),
    ("frame_of_reference_sha256", tags::FRAME_OF_REFERENCE_UID),
];
/// The longest code.
const MAX_WORD_BYTES: usize = 16;

/// What is kept of a file's header.
pub(super) fn origin(data: &DataSet, syntax: TransferSyntax) -> Map<String, Value> {
    let mut origin = Map::new();
    let mut keep = |key: &str, value: Value| origin.insert(key.to_owned(), value);
    keep("format", json!("dicom"));
    keep("transfer_syntax", json!(syntax.uid));
    for (key, tag) in NUMBERS {
        if let Some(number) = data.decimal(tag) {
            keep(key, json!(number));
        }
    }
    for (key, tag) in WORDS {
        let word = data.word(tag);
        if is_code(&word) {
            keep(key, json!(word));
        }
    }
    for (key, tag) in DIGESTS {
        let uid = data.word(tag);
        if !uid.is_empty() {
            keep(key, json!(digest_of_uid(&uid)));
        }
    }
    // Signed or not as the pixels are.
    let is_signed = data.u16(tags::PIXEL_REPRESENTATION) == Some(1);
    if let Some(value) = data.u16(tags::PIXEL_PADDING_VALUE) {
        let value = if is_signed { i32::from(value as i16) } else { i32::from(value) };
        keep("pixel_padding_value", json!(value));
    }
    origin
}

/// The SHA-256 of a UID, in hexadecimal.
fn digest_of_uid(uid: &str) -> String {
    let mut sha256 = Sha256::new();
    sha256.update(uid.as_bytes());
    hex(sha256)
}

/// Whether a word can be a code.
fn is_code(word: &str) -> bool {
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b" _-./".contains(&c);
    (1..=MAX_WORD_BYTES).contains(&word.len()) && word.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use super::super::dataset::{DataElement, ElementValue};
    use super::super::syntax::EXPLICIT_LITTLE;
    use super::*;

    #[test]
    fn only_codes_and_digests_are_kept() {
        let element = |tag, text: &str| DataElement {
            tag,
            value: ElementValue::Bytes(text.as_bytes().into()),
        };
        let data = DataSet(vec![
            element(tags::MODALITY, "CT"),
            element(tags::CONVOLUTION_KERNEL, "Müller^Jürgen"),
            element(tags::SERIES_INSTANCE_UID, "1.2.3\0"),
            element(tags::SLICE_THICKNESS, "2.50 "),
        ]);
        let origin = origin(&data, EXPLICIT_LITTLE);
        let expected = json!({
            "format": "dicom",
            "transfer_syntax": "1.2.840.10008.1.2.1",
            "modality": "CT",
            "slice_thickness_mm": 2.5,
            // `printf 1.2.3 | sha256sum`
            "series_sha256": "c47f5b18b8a430e698b9fe15e51f6119984e78334bcf3f45e210d30c37ef2f9e",
        });
        assert_eq!(Value::Object(origin), expected);
    }
}
