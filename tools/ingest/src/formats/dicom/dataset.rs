//! Data elements in memory, and their values as numbers and words.
//!
//! # Invariants
//! - Binary numbers are little endian, whatever the file has.
//!
//! Not here: where the bytes come from (`parse`).

use super::tags::Tag;

/// A data element.
#[derive(Clone, Debug)]
pub(super) struct DataElement {
    pub(super) tag: Tag,
    pub(super) value: ElementValue,
}

/// The value of a data element.
#[derive(Clone, Debug)]
pub(super) enum ElementValue {
    Bytes(Box<[u8]>),
    /// A sequence.
    Items(Vec<DataSet>),
}

/// The elements of a file or of an item that are kept, in the file's order.
#[derive(Clone, Debug, Default)]
pub(super) struct DataSet(pub(super) Vec<DataElement>);

impl DataSet {
    fn value(&self, tag: Tag) -> Option<&ElementValue> {
        self.0.iter().find(|element| element.tag == tag).map(|element| &element.value)
    }

    /// The bytes of an element; `None` if it is absent, empty, or a sequence.
    pub(super) fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        match self.value(tag) {
            Some(ElementValue::Bytes(bytes)) if !bytes.is_empty() => Some(bytes),
            _ => None,
        }
    }

    pub(super) fn has(&self, tag: Tag) -> bool {
        self.value(tag).is_some()
    }

    /// The items of a sequence; none if it is absent.
    pub(super) fn items(&self, tag: Tag) -> &[DataSet] {
        match self.value(tag) {
            Some(ElementValue::Items(items)) => items,
            _ => &[],
        }
    }

    /// The first item of a sequence.
    pub(super) fn item(&self, tag: Tag) -> Option<&DataSet> {
        self.items(tag).first()
    }

    /// The words of a text, which backslashes separate, without blanks around them.
    pub(super) fn words(&self, tag: Tag) -> Vec<String> {
        let Some(bytes) = self.bytes(tag) else { return Vec::new() };
        let text = String::from_utf8_lossy(bytes);
        text.split('\\').map(|word| word.trim_matches(['\0', ' ']).to_owned()).collect()
    }

    /// The first word of a text; empty if it is absent.
    pub(super) fn word(&self, tag: Tag) -> String {
        self.words(tag).into_iter().next().unwrap_or_default()
    }

    /// The decimal numbers of a text (DS, IS); `None` if one of them is none.
    pub(super) fn decimals(&self, tag: Tag) -> Option<Vec<f64>> {
        let words = self.words(tag);
        let numbers = words.iter().map(|word| word.parse().ok().filter(|v: &f64| v.is_finite()));
        numbers.collect::<Option<Vec<f64>>>().filter(|numbers| !numbers.is_empty())
    }

    /// So many decimal numbers of a text.
    pub(super) fn decimals_of<const N: usize>(&self, tag: Tag) -> Option<[f64; N]> {
        self.decimals(tag)?.try_into().ok()
    }

    /// The distances of rows and of columns; `None` unless they are positive.
    pub(super) fn spacing(&self, tag: Tag) -> Option<[f64; 2]> {
        self.decimals_of(tag).filter(|spacing: &[f64; 2]| spacing.iter().all(|mm| *mm > 0.0))
    }

    /// The first decimal number of a text.
    pub(super) fn decimal(&self, tag: Tag) -> Option<f64> {
        self.decimals(tag)?.first().copied()
    }

    /// The first integer of a text (IS).
    pub(super) fn integer(&self, tag: Tag) -> Option<i64> {
        let number = self.decimal(tag)?;
        (number.fract() == 0.0 && number.abs() < 1e15).then_some(number as i64)
    }

    /// The first unsigned 16-bit number (US).
    pub(super) fn u16(&self, tag: Tag) -> Option<u16> {
        let bytes = self.bytes(tag)?.first_chunk()?;
        Some(u16::from_le_bytes(*bytes))
    }

    /// Unsigned 32-bit numbers (UL).
    pub(super) fn u32s(&self, tag: Tag) -> Vec<u32> {
        let bytes = self.bytes(tag).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|number| u32::from_le_bytes(*number)).collect()
    }

    /// 64-bit numbers (OV).
    pub(super) fn u64s(&self, tag: Tag) -> Vec<u64> {
        let bytes = self.bytes(tag).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number)).collect()
    }

    /// Floating point numbers of 64 bits (FD).
    pub(super) fn doubles(&self, tag: Tag) -> Vec<f64> {
        let bytes = self.bytes(tag).unwrap_or_default();
        bytes.as_chunks().0.iter().map(|number| f64::from_le_bytes(*number)).collect()
    }

    /// A tag (AT), as [`DIMENSION_INDEX_POINTER`](super::tags::DIMENSION_INDEX_POINTER).
    pub(super) fn tag(&self, tag: Tag) -> Option<Tag> {
        let [a, b, c, d] = *self.bytes(tag)?.first_chunk()?;
        Some(u32::from(u16::from_le_bytes([a, b])) << 16 | u32::from(u16::from_le_bytes([c, d])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tag: Tag, bytes: &[u8]) -> DataSet {
        DataSet(vec![DataElement { tag, value: ElementValue::Bytes(bytes.into()) }])
    }

    #[test]
    fn padding_and_blanks_are_no_part_of_a_value() {
        let set = of(1, b" 1.5\\-2e1 \\ 3\0");
        assert_eq!(set.decimals_of(1), Some([1.5, -20.0, 3.0]));
        assert_eq!(set.decimals_of::<2>(1), None);
        assert_eq!(of(1, b"CT ").word(1), "CT");
        assert_eq!(of(1, b"1.2.3\0").word(1), "1.2.3");
        assert_eq!(of(1, b"12 ").integer(1), Some(12));
        for no_number in ["", "  ", "a", "1\\", "nan", "1e999"] {
            assert_eq!(of(1, no_number.as_bytes()).decimals(1), None, "{no_number:?}");
        }
    }

    #[test]
    fn binary_numbers_are_little_endian() {
        assert_eq!(of(7, &[1, 2, 3, 4]).u16(7), Some(0x201));
        assert_eq!(of(7, &[1]).u16(7), None);
        assert_eq!(of(7, &[1, 0, 0, 0, 2, 0, 0, 0, 9]).u32s(7), [1, 2]);
        assert_eq!(of(7, &[0x20, 0, 0x32, 0]).tag(7), Some(0x0020_0032));
        assert_eq!(of(8, &[1, 2]).u16(7), None);
    }
}
