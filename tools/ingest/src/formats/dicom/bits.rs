//! Turns stored samples into values: bits where they belong, signs, other dtypes, colours.

use voxquarry::{Dtype, Voxel, with_voxel};

use super::pixel_form::{PixelForm, SampleType};

/// Shifts each sample of a decoded frame to its lowest bit and extends its sign; what other bits
/// hold is lost, as the standard lets them hold anything.
pub(super) fn settle_bits(frame: &mut [u8], sample: SampleType) {
    let SampleType::Integer { allocated, stored, high_bit, is_signed } = sample else { return };
    if stored == allocated || allocated == 1 {
        return;
    }
    // The highest stored bit comes to the highest bit of the sample, then back.
    let (up, down) = (u32::from(allocated - 1 - high_bit), u32::from(allocated - stored));
    match (allocated, is_signed) {
        (8, false) => frame.iter_mut().for_each(|v| *v = *v << up >> down),
        (8, true) => frame.iter_mut().for_each(|v| *v = ((*v << up) as i8 >> down) as u8),
        (16, false) => each(frame, |v| (u16::from_le_bytes(v) << up >> down).to_le_bytes()),
        (16, true) => {
            each(frame, |v| (((u16::from_le_bytes(v) << up) as i16) >> down).to_le_bytes());
        }
        (_, false) => each(frame, |v| (u32::from_le_bytes(v) << up >> down).to_le_bytes()),
        (_, true) => {
            each(frame, |v| (((u32::from_le_bytes(v) << up) as i32) >> down).to_le_bytes());
        }
    }
}

fn each<const N: usize>(frame: &mut [u8], settle: impl Fn([u8; N]) -> [u8; N]) {
    for sample in frame.as_chunks_mut::<N>().0 {
        *sample = settle(*sample);
    }
}

/// Copies bits of a packed frame, the first of which is bit `first` of `packed`, to bytes.
pub(super) fn unpack_bits(packed: &[u8], first: usize, out: &mut [u8]) {
    for (i, byte) in out.iter_mut().enumerate() {
        let bit = first + i;
        *byte = packed[bit / 8] >> (bit % 8) & 1;
    }
}

/// A linear map from stored to real values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rescale {
    pub(super) slope: f64,
    pub(super) intercept: f64,
}

/// Converts samples to another dtype: to real values, or to an integer type that holds them all.
pub(super) fn convert(samples: &[u8], from: Dtype, rescale: Rescale, to: Dtype, out: &mut [u8]) {
    with_voxel!(from, S => with_voxel!(to, D => {
        let out = out.chunks_exact_mut(size_of::<D>());
        for (sample, out) in samples.chunks_exact(size_of::<S>()).zip(out) {
            let value = bytemuck::pod_read_unaligned::<S>(sample).to_f64();
            let value = D::from_f64_rounded(value * rescale.slope + rescale.intercept);
            out.copy_from_slice(bytemuck::bytes_of(&value));
        }
    }));
}

/// Turns planes of luminance and two colour differences to red, green and blue (PS3.3,
/// C.7.6.3.1.2).
pub(super) fn rgb_of_ybr(planes: &mut [u8]) {
    let plane = planes.len() / 3;
    let (first, rest) = planes.split_at_mut(plane);
    let (second, third) = rest.split_at_mut(plane);
    for ((a, b), c) in first.iter_mut().zip(second).zip(third) {
        let [y, blue, red] = [*a, *b, *c].map(f64::from);
        let (blue, red) = (blue - 128.0, red - 128.0);
        let rgb = [y + 1.402 * red, y - 0.344_136 * blue - 0.714_136 * red, y + 1.772 * blue];
        [*a, *b, *c] = rgb.map(|v| v.round().clamp(0.0, 255.0) as u8);
    }
}

/// Gives each pixel its colour differences, which two share: `y y b r` becomes `y b r y b r`.
pub(super) fn spread_422(packed: &[u8], form: &PixelForm, out: &mut [u8]) {
    let packed_row = form.columns.div_ceil(2) * 4;
    let rows = packed.chunks_exact(packed_row).zip(out.chunks_exact_mut(form.columns * 3));
    for (packed, row) in rows {
        for (pair, pixels) in packed.as_chunks::<4>().0.iter().zip(row.chunks_mut(6)) {
            let [first, second, blue, red] = *pair;
            let both = [first, blue, red, second, blue, red];
            pixels.copy_from_slice(&both[..pixels.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(value: u16, stored: u16, high_bit: u16, is_signed: bool) -> i32 {
        let sample = SampleType::Integer { allocated: 16, stored, high_bit, is_signed };
        let mut bytes = value.to_le_bytes();
        settle_bits(&mut bytes, sample);
        let signed = i32::from(i16::from_le_bytes(bytes));
        if is_signed { signed } else { i32::from(u16::from_le_bytes(bytes)) }
    }

    #[test]
    fn bits_come_to_the_lowest_and_signs_are_extended() {
        for (value, stored, high_bit, is_signed, expected) in [
            (0xf123, 12, 11, false, 0x123),
            (0x0fff, 12, 11, true, -1),
            (0x07ff, 12, 11, true, 0x7ff),
            (0xf7ff, 12, 11, true, 0x7ff),
            (0x1230, 12, 15, false, 0x123),
            (0x8000, 12, 15, true, -0x800),
            (0xffff, 16, 15, false, 0xffff),
            (0xffff, 1, 7, false, 1),
            (0xffff, 1, 7, true, -1),
        ] {
            assert_eq!(settled(value, stored, high_bit, is_signed), expected, "{value:x}");
        }
        let sample =
            SampleType::Integer { allocated: 32, stored: 20, high_bit: 19, is_signed: true };
        let mut bytes = 0xfff8_0001_u32.to_le_bytes();
        settle_bits(&mut bytes, sample);
        assert_eq!(i32::from_le_bytes(bytes), -0x7_ffff);
        let sample = SampleType::Integer { allocated: 8, stored: 4, high_bit: 3, is_signed: true };
        let mut bytes = [0x78, 0x17];
        settle_bits(&mut bytes, sample);
        assert_eq!(bytes, [0xf8, 7]);
    }

    #[test]
    fn packed_bits_may_begin_within_a_byte() {
        let mut out = [9; 7];
        unpack_bits(&[0b1010_0000, 0b0000_0110], 5, &mut out);
        assert_eq!(out, [1, 0, 1, 0, 1, 1, 0]);
    }

    #[test]
    fn integers_and_real_values_are_converted() {
        let same = Rescale { slope: 1.0, intercept: 0.0 };
        let mut out = [0; 8];
        convert(&[0xff, 0xff, 1, 0], Dtype::UInt16, same, Dtype::Int32, &mut out);
        assert_eq!(out, [0xff, 0xff, 0, 0, 1, 0, 0, 0]);
        let half = Rescale { slope: 0.5, intercept: -1.0 };
        convert(&[0xff, 0xff, 1, 0], Dtype::Int16, half, Dtype::Float32, &mut out);
        assert_eq!(bytemuck::pod_read_unaligned::<[f32; 2]>(&out), [-1.5, -0.5]);
    }

    #[test]
    fn colours_are_turned_to_rgb() {
        let mut planes = [100, 81, 255, 128, 90, 255, 128, 240, 255];
        rgb_of_ybr(&mut planes);
        assert_eq!(planes, [100, 238, 255, 100, 14, 121, 100, 14, 255]);
    }
}
