//! The inner loops of accumulation, over one row of voxels.
//!
//! The loops are plain, and the compiler vectorises them for each instruction set of the machine.
//! No multiplication is fused with an addition, so rounding is the same on every machine.

use crate::Voxel;
use crate::aggregate::value::{PatchDtype, PatchValue};
use crate::sys::isa::for_isas;

for_isas! {
    /// `sums += voxels × max(outer × weights, floor)` in `f64`.
    add_f64<T: PatchValue>(
        sums: &mut [f64], voxels: &[T], weights: &[f64], outer: f64, floor: f64
    ), add_f64_loop
}
for_isas! {
    /// `sums += voxels × weights` in `f32`.
    add_f32<T: PatchValue>(sums: &mut [f32], voxels: &[T], weights: &[f32]), add_f32_loop
}
for_isas! {
    /// `weights = max(outer × profile, floor)`, rounded to `f32`.
    row_weights<>(weights: &mut [f32], profile: &[f64], outer: f64, floor: f64), row_weights_loop
}
for_isas! {
    /// `shares = own / (same_column + quotient × others)`.
    weight_shares<>(
        shares: &mut [f32], own: &[f32], same_column: &[f32], others: &[f32], quotient: f32
    ), weight_shares_loop
}
for_isas! {
    /// Moves means towards voxels by the voxels' shares, which are positive and at most 1; computed
    /// in `f64` and rounded to `f32`.
    update_means<T: PatchValue>(means: &mut [f32], voxels: &[T], shares: &[f32]), update_means_loop
}
for_isas! {
    /// Where `values` exceed `largest`, stores them there and `label` in `labels`; a NaN exceeds
    /// every number but no other NaN.
    update_largest<>(
        largest: &mut [f32], labels: &mut [u32], values: &[f32], label: u32
    ), update_largest_loop
}
for_isas! {
    /// `quotients = sums / totals`, rounded to `f32`.
    divide_f32<>(quotients: &mut [f32], sums: &[f64], totals: &[f64]), divide_f32_loop
}

#[inline(always)]
fn add_f64_loop<T: PatchValue>(
    sums: &mut [f64],
    voxels: &[T],
    weights: &[f64],
    outer: f64,
    floor: f64,
) {
    for ((sum, voxel), weight) in sums.iter_mut().zip(voxels).zip(weights) {
        *sum += voxel.to_f64() * (outer * weight).max(floor);
    }
}

#[inline(always)]
fn add_f32_loop<T: PatchValue>(sums: &mut [f32], voxels: &[T], weights: &[f32]) {
    for ((sum, voxel), weight) in sums.iter_mut().zip(voxels).zip(weights) {
        *sum += voxel.to_f32() * weight;
    }
}

#[inline(always)]
fn row_weights_loop(weights: &mut [f32], profile: &[f64], outer: f64, floor: f64) {
    for (weight, inner) in weights.iter_mut().zip(profile) {
        *weight = (outer * inner).max(floor) as f32;
    }
}

#[inline(always)]
fn weight_shares_loop(
    shares: &mut [f32],
    own: &[f32],
    same_column: &[f32],
    others: &[f32],
    quotient: f32,
) {
    for (((share, own), same), others) in shares.iter_mut().zip(own).zip(same_column).zip(others) {
        *share = own / (same + quotient * others);
    }
}

#[inline(always)]
fn update_means_loop<T: PatchValue>(means: &mut [f32], voxels: &[T], shares: &[f32]) {
    for ((mean, voxel), share) in means.iter_mut().zip(voxels).zip(shares) {
        let (old, voxel) = (f64::from(*mean), f64::from(voxel.to_f32()));
        // Subtracting twice keeps −0.0. The difference of two infinite numbers would be NaN.
        let new = old - (old - voxel) * f64::from(*share);
        *mean = (if old.is_infinite() { old + voxel } else { new }) as f32;
    }
}

#[inline(always)]
fn update_largest_loop(largest: &mut [f32], labels: &mut [u32], values: &[f32], label: u32) {
    for ((largest, chosen), &value) in largest.iter_mut().zip(labels).zip(values) {
        let exceeds = value > *largest || (value.is_nan() && !largest.is_nan());
        *largest = if exceeds { value } else { *largest };
        *chosen = if exceeds { label } else { *chosen };
    }
}

#[inline(always)]
fn divide_f32_loop(quotients: &mut [f32], sums: &[f64], totals: &[f64]) {
    for ((quotient, sum), total) in quotients.iter_mut().zip(sums).zip(totals) {
        *quotient = (sum / total) as f32;
    }
}

/// Converts voxels one by one.
pub(super) fn put<T: Copy, U>(to: &mut [U], from: &[T], convert: impl Fn(T) -> U) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to = convert(*from));
}

/// Writes voxels of one dtype as another: the same bits, or the nearest value.
pub(super) fn assign<In: PatchValue, Out: Voxel>(from: &[In], to: &mut [Out]) {
    if In::PATCH_DTYPE == PatchDtype::Volume(Out::DTYPE) {
        bytemuck::cast_slice_mut::<Out, u8>(to).copy_from_slice(bytemuck::cast_slice(from));
    } else {
        put(to, from, |from| Out::from_f64_rounded(from.to_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::isa::Isa;

    #[test]
    fn every_isa_gives_the_same_bits() {
        let n = 77;
        let voxels: Vec<f32> = (0..n).map(|i| ((i * 7919 % 101) as f32 - 50.0) / 3.0).collect();
        let weights: Vec<f64> = (0..n).map(|i| 1.0 / f64::from(i + 1)).collect();
        let run = |isa| {
            let (mut wide, mut narrow) = (vec![0.1f64; n as usize], vec![0.1f32; n as usize]);
            let (mut rounded, mut quotients) = (narrow.clone(), narrow.clone());
            row_weights(isa, &mut rounded, &weights, 0.3, 1e-2);
            let (mut shares, mut means) = (rounded.clone(), voxels.clone());
            weight_shares(isa, &mut shares, &rounded, &rounded, &narrow, 0.7);
            means[3] = f32::NEG_INFINITY;
            let values: Vec<f32> = voxels.iter().rev().copied().collect();
            update_means(isa, &mut means, &values, &shares);
            let (mut best, mut labels) = (vec![0.0f32; n as usize], vec![7u32; n as usize]);
            add_f64(isa, &mut wide, &voxels, &weights, 0.3, 1e-2);
            add_f32(isa, &mut narrow, &voxels, &rounded);
            divide_f32(isa, &mut quotients, &wide, &weights);
            best[5] = f32::NAN;
            update_largest(isa, &mut best, &mut labels, &voxels, 9);
            let wide: Vec<u64> = wide.iter().map(|v| v.to_bits()).collect();
            let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            let floats = [narrow, rounded, quotients, best, shares, means].map(|v| bits(&v));
            (wide, floats, labels)
        };
        let expected = run(Isa::Base);
        let sum = 0.1 + f64::from(voxels[1]) * (0.3 * 0.5);
        assert_eq!((expected.0[1], expected.2[5]), (sum.to_bits(), 7));
        for isa in Isa::all() {
            assert_eq!(run(isa), expected, "{isa:?}");
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
            for isa in Isa::all() {
                let mut means = [mean; 9];
                update_means(isa, &mut means, &[voxel; 9], &[share; 9]);
                let is_right = |&found: &f32| {
                    found.to_bits() == f32::to_bits(expected) || found.is_nan() && expected.is_nan()
                };
                assert!(means.iter().all(is_right), "{mean} to {voxel}: {means:?}, {isa:?}");
            }
        }
    }

    #[test]
    fn a_nan_is_the_largest_and_the_first_of_equals_stays() {
        let (mut best, mut labels) = ([1.0f32, 1.0, 1.0, f32::NAN], [0u32; 4]);
        update_largest(Isa::detect(), &mut best, &mut labels, &[1.0, 2.0, f32::NAN, f32::NAN], 1);
        assert_eq!(labels, [0, 1, 1, 0]);
    }
}
