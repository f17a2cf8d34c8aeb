//! The form of a file's pixels: extents, samples, bits; checked once.
//!
//! # Invariants
//! - The numbers of a [`PixelForm`] fit together, and its sizes do not overflow.

use voxquarry::Dtype;

use super::dataset::DataSet;
use super::tags;

/// How samples of colours are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Photometric {
    /// Larger values are brighter, or it is not known.
    Monochrome2,
    /// Larger values are darker. They are not inverted.
    Monochrome1,
    /// Indices of a palette, which is not applied.
    Palette,
    Rgb,
    /// Luminance and two colour differences at full resolution.
    YbrFull,
    /// The same, two pixels sharing their colour differences.
    YbrFull422,
    /// Colours as the codec of the pixels turns them to RGB.
    Coded,
}

/// The type of stored samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum SampleType {
    Integer {
        /// 1, 8, 16 or 32.
        allocated: u16,
        stored: u16,
        high_bit: u16,
        is_signed: bool,
    },
    Float32,
    Float64,
}

/// The form of a file's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct PixelForm {
    pub(super) rows: usize,
    pub(super) columns: usize,
    /// 1 or 3.
    pub(super) samples: usize,
    /// Whether each sample has a plane of its own.
    pub(super) is_planar: bool,
    pub(super) photometric: Photometric,
    pub(super) sample: SampleType,
}

impl PixelForm {
    /// The form that the elements of a file describe, whose pixels are in the element `pixels`.
    pub(super) fn of(data: &DataSet, pixels: tags::Tag) -> Result<Self, String> {
        let number = |tag, name: &str| data.u16(tag).ok_or_else(|| format!("it has no {name}"));
        let rows = usize::from(number(tags::ROWS, "Rows")?);
        let columns = usize::from(number(tags::COLUMNS, "Columns")?);
        if rows == 0 || columns == 0 {
            return Err(format!("its frames have {rows} rows and {columns} columns"));
        }
        let samples = usize::from(data.u16(tags::SAMPLES_PER_PIXEL).unwrap_or(1));
        let word = data.word(tags::PHOTOMETRIC_INTERPRETATION);
        let photometric = match (word.as_str(), samples) {
            ("MONOCHROME1", 1) => Photometric::Monochrome1,
            ("PALETTE COLOR", 1) => Photometric::Palette,
            (_, 1) => Photometric::Monochrome2,
            ("RGB", 3) => Photometric::Rgb,
            ("YBR_FULL", 3) => Photometric::YbrFull,
            ("YBR_FULL_422", 3) => Photometric::YbrFull422,
            ("YBR_ICT" | "YBR_RCT" | "YBR_PARTIAL_422" | "YBR_PARTIAL_420", 3) => {
                Photometric::Coded
            }
            _ => return Err(format!("its pixels are {samples} samples of {word:?}")),
        };
        let sample = sample_type(data, pixels)?;
        let is_planar = samples > 1 && data.u16(tags::PLANAR_CONFIGURATION) == Some(1);
        let form = Self { rows, columns, samples, is_planar, photometric, sample };
        if samples > 1 && photometric != Photometric::Rgb && form.stored_dtype().size() != 1 {
            return Err(format!("its colours are {word}, and do not have 8 bits a sample"));
        }
        if samples > 1 && sample.bits() < 8 {
            return Err("its colours have a bit a sample".to_owned());
        }
        Ok(form)
    }

    /// Pixels of a frame.
    pub(super) fn pixels(&self) -> usize {
        self.rows * self.columns
    }

    /// Bytes of a frame that is not encoded, as it lies in memory: 1 bit takes a byte.
    pub(super) fn frame_bytes(&self) -> usize {
        self.pixels() * self.samples * self.stored_dtype().size()
    }

    /// Bits of a frame that is not encoded, as it lies in a file.
    pub(super) fn file_bits(&self) -> u64 {
        let samples = match self.photometric {
            // Two pixels are four samples.
            Photometric::YbrFull422 => self.rows as u64 * self.columns.div_ceil(2) as u64 * 4,
            _ => self.pixels() as u64 * self.samples as u64,
        };
        samples * self.sample.bits()
    }

    /// The dtype of a sample.
    pub(super) fn stored_dtype(&self) -> Dtype {
        self.sample.dtype()
    }
}

impl SampleType {
    /// Bits of a sample in a file.
    pub(super) fn bits(self) -> u64 {
        match self {
            Self::Integer { allocated, .. } => u64::from(allocated),
            Self::Float32 => 32,
            Self::Float64 => 64,
        }
    }

    /// The dtype that holds a sample.
    pub(super) fn dtype(self) -> Dtype {
        match self {
            Self::Integer { allocated, is_signed, .. } => match (allocated, is_signed) {
                (1 | 8, false) => Dtype::UInt8,
                (1 | 8, true) => Dtype::Int8,
                (16, false) => Dtype::UInt16,
                (16, true) => Dtype::Int16,
                (_, false) => Dtype::UInt32,
                (_, true) => Dtype::Int32,
            },
            Self::Float32 => Dtype::Float32,
            Self::Float64 => Dtype::Float64,
        }
    }
}

fn sample_type(data: &DataSet, pixels: tags::Tag) -> Result<SampleType, String> {
    match pixels {
        tags::FLOAT_PIXEL_DATA => return Ok(SampleType::Float32),
        tags::DOUBLE_FLOAT_PIXEL_DATA => return Ok(SampleType::Float64),
        _ => {}
    }
    let allocated = data.u16(tags::BITS_ALLOCATED).ok_or("it has no BitsAllocated")?;
    let stored = data.u16(tags::BITS_STORED).unwrap_or(allocated);
    let high_bit = data.u16(tags::HIGH_BIT).unwrap_or(stored.saturating_sub(1));
    let is_signed = data.u16(tags::PIXEL_REPRESENTATION) == Some(1);
    if !matches!(allocated, 1 | 8 | 16 | 32) {
        return Err(format!("{allocated} bits are allocated to a sample: 1, 8, 16 or 32 are read"));
    }
    if stored == 0 || high_bit >= allocated || stored > high_bit + 1 {
        return Err(format!(
            "{stored} bits up to bit {high_bit} cannot be stored in {allocated} bits"
        ));
    }
    Ok(SampleType::Integer { allocated, stored, high_bit, is_signed })
}

#[cfg(test)]
mod tests {
    use super::super::dataset::{DataElement, ElementValue};
    use super::*;

    fn form(numbers: &[(tags::Tag, u16)], photometric: &str) -> Result<PixelForm, String> {
        let element =
            |tag, bytes: &[u8]| DataElement { tag, value: ElementValue::Bytes(bytes.into()) };
        let mut set: Vec<_> =
            numbers.iter().map(|(tag, number)| element(*tag, &number.to_le_bytes())).collect();
        set.push(element(tags::PHOTOMETRIC_INTERPRETATION, photometric.as_bytes()));
        PixelForm::of(&DataSet(set), tags::PIXEL_DATA)
    }

    #[test]
    fn numbers_that_do_not_fit_together_are_refused() {
        let base = [(tags::ROWS, 3), (tags::COLUMNS, 5), (tags::BITS_ALLOCATED, 16)];
        let with = |more: &[(tags::Tag, u16)]| {
            form(&[more, &base].concat(), "MONOCHROME2").map(|form| form.stored_dtype())
        };
        assert_eq!(with(&[]), Ok(Dtype::UInt16));
        assert_eq!(with(&[(tags::PIXEL_REPRESENTATION, 1)]), Ok(Dtype::Int16));
        assert_eq!(with(&[(tags::BITS_ALLOCATED, 32)]), Ok(Dtype::UInt32));
        for (wrong, word) in [
            (vec![(tags::ROWS, 0)], "0 rows"),
            (vec![(tags::BITS_ALLOCATED, 12)], "12 bits"),
            (vec![(tags::BITS_STORED, 17)], "17 bits"),
            (vec![(tags::BITS_STORED, 0)], "0 bits"),
            (vec![(tags::HIGH_BIT, 16)], "bit 16"),
            (vec![(tags::BITS_STORED, 12), (tags::HIGH_BIT, 3)], "up to bit 3"),
            (vec![(tags::SAMPLES_PER_PIXEL, 4)], "4 samples"),
        ] {
            assert!(with(&wrong).unwrap_err().contains(word), "{wrong:?}");
        }
        assert!(form(&base[..2], "MONOCHROME2").unwrap_err().contains("BitsAllocated"));
    }

    #[test]
    fn half_sampled_colours_take_two_samples_a_pixel() {
        let numbers = [
            (tags::ROWS, 3),
            (tags::COLUMNS, 5),
            (tags::BITS_ALLOCATED, 8),
            (tags::SAMPLES_PER_PIXEL, 3),
        ];
        let bits = |word| form(&numbers, word).unwrap().file_bits();
        assert_eq!((bits("RGB"), bits("YBR_FULL_422")), (3 * 5 * 3 * 8, 3 * 6 * 2 * 8));
        assert_eq!(form(&numbers, "YBR_FULL_422").unwrap().frame_bytes(), 45);
    }
}
