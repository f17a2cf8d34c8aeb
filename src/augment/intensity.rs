//! Changes the values of a channel after it was read: normalisation, noise, filters, curves.

use super::draw::{ChannelOf, IntensityDraw, SampleKey};
use super::filter::{blur, coarsen};
use super::math::{exp2, log2};
use super::noise::add_noise;
use super::normalize::ValueMap;
use super::options::Augment;
use crate::Size3;
use crate::sys::isa::{Isa, for_isas};

/// Memory that a thread keeps for the filters.
#[derive(Debug, Default)]
pub(crate) struct IntensityScratch(Vec<f32>);

impl Augment {
    /// Changes the values of one channel of a patch of `size`, after `map`.
    pub(crate) fn change(
        &self,
        key: &SampleKey<'_>,
        (volume, channel): (&str, usize),
        values: &mut [f32],
        size: Size3,
        scratch: &mut IntensityScratch,
    ) {
        let at = ChannelOf { volume, channel };
        let draw = self.draw_intensity(key, at);
        if let Some(std) = draw.noise.filter(|&std| std > 0.0) {
            add_noise(values, std, &mut at.noise(key));
        }
        draw.change(values, size, scratch);
    }
}

impl ValueMap {
    /// Maps the values of a patch.
    pub(crate) fn normalize(&self, values: &mut [f32]) {
        self.apply(values);
    }
}

impl IntensityDraw {
    /// Everything after the noise.
    fn change(&self, values: &mut [f32], size: Size3, scratch: &mut IntensityScratch) {
        let isa = Isa::detect();
        if let Some(sigma) = self.blur {
            blur(values, size, sigma, &mut scratch.0);
        }
        let factor = self.brightness.unwrap_or(1.0);
        let summand = self.shift.unwrap_or(0.0);
        if (factor, summand) != (1.0, 0.0) {
            let all = ClampedLine { factor, summand, low: f32::NEG_INFINITY, high: f32::INFINITY };
            map_linear(isa, values, all);
        }
        if let Some(contrast) = self.contrast {
            let Summary { mean, low, high, .. } = Summary::of(isa, values);
            let summand = mean - mean * contrast;
            map_linear(isa, values, ClampedLine { factor: contrast, summand, low, high });
        }
        if let Some(zoom) = self.low_resolution {
            coarsen(values, size, zoom, &mut scratch.0);
        }
        if let Some(gamma) = self.inverted_gamma {
            curve(isa, values, gamma, -1.0);
        }
        if let Some(gamma) = self.gamma {
            curve(isa, values, gamma, 1.0);
        }
    }
}

/// Applies a gamma curve to `sign` times the values, between their least and greatest one, and
/// restores mean and standard deviation.
fn curve(isa: Isa, values: &mut [f32], gamma: f64, sign: f32) {
    let before = Summary::of(isa, values);
    let range = before.high - before.low;
    if !(range > 0.0 && range.is_finite()) {
        return;
    }
    // The negative of the least value is the greatest of the negative.
    let from = if sign > 0.0 { before.low } else { before.high };
    power(isa, values, from, sign, range, gamma as f32);
    let after = Summary::of(isa, values);
    let factor = before.std / after.std.max(1e-7);
    let summand = before.mean - after.mean * f64::from(sign) * factor;
    let factor = factor * f64::from(sign);
    let all = ClampedLine { factor, summand, low: f32::NEG_INFINITY, high: f32::INFINITY };
    map_linear(isa, values, all);
}

/// `v · factor + summand`, within `low` to `high`.
#[derive(Clone, Copy)]
pub(super) struct ClampedLine {
    factor: f64,
    summand: f64,
    low: f32,
    high: f32,
}

for_isas! {
    map_linear<>(values: &mut [f32], map: ClampedLine), map_linear_loop
}

#[inline(always)]
fn map_linear_loop(values: &mut [f32], map: ClampedLine) {
    let ClampedLine { factor, summand, low, high } = map;
    for value in values {
        let mapped = (f64::from(*value) * factor + summand) as f32;
        let mapped = if mapped < low { low } else { mapped };
        *value = if mapped > high { high } else { mapped };
    }
}

for_isas! {
    /// `(sign · (v − from) / range)` to the power `gamma`.
    power<>(values: &mut [f32], from: f32, sign: f32, range: f32, gamma: f32), power_loop
}

#[inline(always)]
fn power_loop(values: &mut [f32], from: f32, sign: f32, range: f32, gamma: f32) {
    let factor = sign / range;
    for value in values {
        let part = (*value - from) * factor;
        let raised = exp2(gamma * log2(part.max(f32::MIN_POSITIVE)));
        let raised = if part > 0.0 { raised } else { 0.0 };
        *value = if part.is_nan() { part } else { raised };
    }
}

/// Sums are added in so many lanes, in an order that no instruction set changes.
const LANES: usize = 16;

/// Facts about values; NaN is left out of the extremes.
#[derive(Clone, Copy, Debug)]
struct Summary {
    mean: f64,
    std: f64,
    low: f32,
    high: f32,
}

impl Summary {
    fn of(isa: Isa, values: &[f32]) -> Self {
        let mut lanes = SummaryLanes {
            sums: [0.0; LANES],
            squares: [0.0; LANES],
            low: [f32::INFINITY; LANES],
            high: [f32::NEG_INFINITY; LANES],
        };
        // Sums of squares about a value of the patch: no digits are lost where values are large.
        let about = values.iter().copied().find(|v| v.is_finite()).unwrap_or(0.0);
        summarize(isa, values, about, &mut lanes);
        let n = values.len().max(1) as f64;
        let mean = lanes.sums.iter().sum::<f64>() / n;
        let variance = lanes.squares.iter().sum::<f64>() / n - mean * mean;
        Self {
            mean: f64::from(about) + mean,
            std: variance.max(0.0).sqrt(),
            low: lanes.low.into_iter().fold(f32::INFINITY, f32::min),
            high: lanes.high.into_iter().fold(f32::NEG_INFINITY, f32::max),
        }
    }
}

pub(super) struct SummaryLanes {
    sums: [f64; LANES],
    squares: [f64; LANES],
    low: [f32; LANES],
    high: [f32; LANES],
}

for_isas! {
    summarize<>(values: &[f32], about: f32, lanes: &mut SummaryLanes), summarize_loop
}

#[inline(always)]
fn summarize_loop(values: &[f32], about: f32, lanes: &mut SummaryLanes) {
    let (mut sums, mut squares) = (lanes.sums, lanes.squares);
    let (mut low, mut high) = (lanes.low, lanes.high);
    let mut add = |part: &[f32]| {
        for (i, &value) in part.iter().enumerate() {
            let distance = f64::from(value) - f64::from(about);
            sums[i] += distance;
            squares[i] += distance * distance;
            low[i] = if value < low[i] { value } else { low[i] };
            high[i] = if value > high[i] { value } else { high[i] };
        }
    };
    let (whole, rest) = values.as_chunks::<LANES>();
    for part in whole {
        add(part);
    }
    add(rest);
    (lanes.sums, lanes.squares, lanes.low, lanes.high) = (sums, squares, low, high);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 7919) % 1013) as f32 / 100.0 - 3.0).collect()
    }

    fn facts(values: &[f64]) -> (f64, f64, f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let std = (values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        (mean, std, low, values.iter().copied().fold(f64::NEG_INFINITY, f64::max))
    }

    fn check(draw: IntensityDraw, expected: &[f64]) {
        let mut found = values(expected.len());
        draw.change(&mut found, [expected.len(), 1, 1], &mut IntensityScratch::default());
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < 1e-5, "{draw:?}: {found} {expected}");
        }
    }

    /// Each change by its definition in double precision.
    #[test]
    fn curves_are_those_of_their_definition() {
        let plain: Vec<f64> = values(1003).into_iter().map(f64::from).collect();
        let (mean, std, low, high) = facts(&plain);
        let of = |f: &dyn Fn(f64) -> f64| -> Vec<f64> { plain.iter().map(|&v| f(v)).collect() };
        let none = IntensityDraw::default();
        check(none, &plain);
        let brighter = of(&|v| v * 1.2 + 0.5);
        check(IntensityDraw { brightness: Some(1.2), shift: Some(0.5), ..none }, &brighter);
        let contrast = of(&|v| ((v - mean) * 1.5 + mean).clamp(low, high));
        check(IntensityDraw { contrast: Some(1.5), ..none }, &contrast);
        for sign in [1.0, -1.0] {
            let part = |v: f64| if sign > 0.0 { v - low } else { high - v } / (high - low);
            let raised = of(&|v| part(v).powf(0.7));
            let (m, s, _, _) = facts(&raised);
            let expected: Vec<f64> =
                raised.iter().map(|v| sign * (v - m) / s * std + mean).collect();
            let draw = if sign > 0.0 {
                IntensityDraw { gamma: Some(0.7), ..none }
            } else {
                IntensityDraw { inverted_gamma: Some(0.7), ..none }
            };
            check(draw, &expected);
        }
    }

    /// A constant patch stays as it is, and NaN stays where it is.
    #[test]
    fn odd_patches_survive() {
        let draw = IntensityDraw {
            gamma: Some(0.7),
            contrast: Some(1.3),
            inverted_gamma: Some(2.0),
            ..IntensityDraw::default()
        };
        let mut constant = [5f32; 40];
        draw.change(&mut constant, [40, 1, 1], &mut IntensityScratch::default());
        assert_eq!(constant, [5f32; 40]);
        let mut odd = values(40);
        odd[7] = f32::NAN;
        let draw = IntensityDraw { gamma: Some(0.7), ..IntensityDraw::default() };
        draw.change(&mut odd, [40, 1, 1], &mut IntensityScratch::default());
        assert!(odd[7].is_nan());
    }

    /// Every loop gives the same bits on every instruction set.
    #[test]
    fn instruction_sets_agree() {
        let mut expected = None;
        for isa in Isa::all() {
            let mut found = values(1003);
            curve(isa, &mut found, 1.4, -1.0);
            curve(isa, &mut found, 0.6, 1.0);
            let summary = format!("{:?}", Summary::of(isa, &found));
            let bits: Vec<u32> = found.iter().map(|v| v.to_bits()).collect();
            assert_eq!(
                expected.get_or_insert_with(|| (bits.clone(), summary.clone())),
                &(bits, summary)
            );
        }
    }
}
