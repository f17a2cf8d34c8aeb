//! The inner loops of blending, over one row of voxels, compiled for the widest registers of the machine.
//!
//! The loops are plain and the compiler vectorises them; rounding is the same on every machine, for no step is fused.

use super::value::Value;
use crate::sys::isa::for_isas;

for_isas! {
    /// `sums += voxels × max(outer × weights, floor)` in `f64`.
    add_f64<T: Value>(sums: &mut [f64], voxels: &[T], weights: &[f64], outer: f64, floor: f64), add_f64_loop
}
for_isas! {
    /// `sums += voxels × weights` in `f32`.
    add_f32<T: Value>(sums: &mut [f32], voxels: &[T], weights: &[f32]), add_f32_loop
}
for_isas! {
    /// `weights = max(outer × profile, floor)`, rounded to `f32`.
    weigh_f32<>(weights: &mut [f32], profile: &[f64], outer: f64, floor: f64), weigh_f32_loop
}
for_isas! {
    /// `shares = own / (beside + ratio × others)`.
    share<>(shares: &mut [f32], own: &[f32], beside: &[f32], others: &[f32], ratio: f32), share_loop
}
for_isas! {
    /// Moves means towards voxels by their shares, positive and at most 1: a step in `f64`, rounded to `f32`.
    approach<T: Value>(means: &mut [f32], voxels: &[T], shares: &[f32]), approach_loop
}
for_isas! {
    /// Where `values` exceed `best`, they and `label` take its place; a NaN exceeds every number and no NaN.
    take_larger<>(best: &mut [f32], labels: &mut [u32], values: &[f32], label: u32), take_larger_loop
}
for_isas! {
    /// `quotients = sums / totals`, rounded to `f32`.
    divide_f32<>(quotients: &mut [f32], sums: &[f64], totals: &[f64]), divide_f32_loop
}

#[inline(always)]
fn add_f64_loop<T: Value>(sums: &mut [f64], voxels: &[T], weights: &[f64], outer: f64, floor: f64) {
    for ((sum, voxel), weight) in sums.iter_mut().zip(voxels).zip(weights) {
        *sum += voxel.to_f64() * (outer * weight).max(floor);
    }
}

#[inline(always)]
fn add_f32_loop<T: Value>(sums: &mut [f32], voxels: &[T], weights: &[f32]) {
    for ((sum, voxel), weight) in sums.iter_mut().zip(voxels).zip(weights) {
        *sum += voxel.to_f32() * weight;
    }
}

#[inline(always)]
fn weigh_f32_loop(weights: &mut [f32], profile: &[f64], outer: f64, floor: f64) {
    for (weight, inner) in weights.iter_mut().zip(profile) {
        *weight = (outer * inner).max(floor) as f32;
    }
}

#[inline(always)]
fn share_loop(shares: &mut [f32], own: &[f32], beside: &[f32], others: &[f32], ratio: f32) {
    for (((share, own), beside), others) in shares.iter_mut().zip(own).zip(beside).zip(others) {
        *share = own / (beside + ratio * others);
    }
}

#[inline(always)]
fn approach_loop<T: Value>(means: &mut [f32], voxels: &[T], shares: &[f32]) {
    for ((mean, voxel), share) in means.iter_mut().zip(voxels).zip(shares) {
        let (old, voxel) = (f64::from(*mean), f64::from(voxel.to_f32()));
        // Subtracted twice, −0.0 stays itself. The difference of infinite ones would be NaN.
        let new = old - (old - voxel) * f64::from(*share);
        *mean = (if old.is_infinite() { old + voxel } else { new }) as f32;
    }
}

#[inline(always)]
fn take_larger_loop(best: &mut [f32], labels: &mut [u32], values: &[f32], label: u32) {
    for ((best, chosen), &value) in best.iter_mut().zip(labels).zip(values) {
        let larger = value > *best || (value.is_nan() && !best.is_nan());
        *best = if larger { value } else { *best };
        *chosen = if larger { label } else { *chosen };
    }
}

#[inline(always)]
fn divide_f32_loop(quotients: &mut [f32], sums: &[f64], totals: &[f64]) {
    for ((quotient, sum), total) in quotients.iter_mut().zip(sums).zip(totals) {
        *quotient = (sum / total) as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::isa::Isa;

    #[test]
    fn every_level_gives_the_same_bits() {
        let n = 77;
        let voxels: Vec<f32> = (0..n).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 3.0).collect();
        let weights: Vec<f64> = (0..n).map(|i| 1.0 / f64::from(i + 1)).collect();
        let run = |level| {
            let (mut wide, mut narrow) = (vec![0.1f64; n as usize], vec![0.1f32; n as usize]);
            let (mut rounded, mut quotients) = (narrow.clone(), narrow.clone());
            weigh_f32(level, &mut rounded, &weights, 0.3, 1e-2);
            let (mut shares, mut means) = (rounded.clone(), voxels.clone());
            share(level, &mut shares, &rounded, &rounded, &narrow, 0.7);
            means[3] = f32::NEG_INFINITY;
            let values: Vec<f32> = voxels.iter().rev().copied().collect();
            approach(level, &mut means, &values, &shares);
            let (mut best, mut labels) = (vec![0.0f32; n as usize], vec![7u32; n as usize]);
            add_f64(level, &mut wide, &voxels, &weights, 0.3, 1e-2);
            add_f32(level, &mut narrow, &voxels, &rounded);
            divide_f32(level, &mut quotients, &wide, &weights);
            best[5] = f32::NAN;
            take_larger(level, &mut best, &mut labels, &voxels, 9);
            let wide: Vec<u64> = wide.iter().map(|v| v.to_bits()).collect();
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let floats = [narrow, rounded, quotients, best, shares, means].map(|v| bits(&v));
            (wide, floats, labels)
        };
        let expected = run(Isa::Base);
        let sum = 0.1 + f64::from(voxels[1]) * (0.3 * 0.5);
        assert_eq!((expected.0[1], expected.2[5]), (sum.to_bits(), 7));
        for level in Isa::all() {
            assert_eq!(run(level), expected, "{level:?}");
        }
    }

    #[test]
    fn a_mean_approaches_what_sums_would_give() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let steps = [
            (1.0, 3.0, 0.5, 2.0),
            (7.5, 7.5, 0.3, 7.5),
            (-0.0, -0.0, 0.3, -0.0),
            (-3e38, 3e38, 0.5, 0.0),
            (1e-45, 1e-45, 0.1, 1e-45),
            (inf, 1.0, 0.5, inf),
            (inf, inf, 0.5, inf),
            (1.0, -inf, 1e-30, -inf),
            (inf, -inf, 1.0, nan),
            (nan, 1.0, 1.0, nan),
            (1.0, nan, 1e-30, nan),
        ];
        for (mean, voxel, share, expected) in steps {
            for level in Isa::all() {
                let mut means = [mean; 9];
                approach(level, &mut means, &[voxel; 9], &[share; 9]);
                let is_right = |&found: &f32| {
                    found.to_bits() == f32::to_bits(expected) || found.is_nan() && expected.is_nan()
                };
                assert!(means.iter().all(is_right), "{mean} to {voxel}: {means:?}, {level:?}");
            }
        }
    }

    #[test]
    fn a_nan_is_the_largest_and_the_first_of_equals_stays() {
        let (mut best, mut labels) = ([1.0f32, 1.0, 1.0, f32::NAN], [0u32; 4]);
        take_larger(Isa::detect(), &mut best, &mut labels, &[1.0, 2.0, f32::NAN, f32::NAN], 1);
        assert_eq!(labels, [0, 1, 1, 0]);
    }
}
