//! Functions of numbers that give the same bits everywhere: additions, multiplications, divisions
//! and roots alone, in a stated order.

/// Cosine and sine of an angle in degrees, to 1e-16; exact for multiples of 90.
pub(super) fn cos_sin_degrees(degrees: f64) -> (f64, f64) {
    let quarters = (degrees / 90.0).round();
    let r = (degrees - 90.0 * quarters) * (std::f64::consts::PI / 180.0);
    let square = r * r;
    let series = |first: u32, start: f64| {
        let (mut term, mut sum) = (start, start);
        for k in 0..9u32 {
            let n = first + 2 * k;
            term *= -square / f64::from((n + 1) * (n + 2));
            sum += term;
        }
        sum
    };
    let (c, s) = (series(0, 1.0), series(1, r));
    match quarters.rem_euclid(4.0) as u32 {
        0 => (c, s),
        1 => (-s, c),
        2 => (-c, -s),
        _ => (s, -c),
    }
}

/// `exp(x)` for `x` of -700 to 0, to 1e-15.
pub(super) fn exp(x: f64) -> f64 {
    let k = (x / std::f64::consts::LN_2).round();
    let r = x - k * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 1.0);
    for n in 1..16u32 {
        term *= r / f64::from(n);
        sum += term;
    }
    sum * 2f64.powi(k as i32)
}

/// The logarithm to base 2 of a positive normal number, to 2e-7 of 1 or of itself.
#[inline(always)]
pub(super) fn log2(x: f32) -> f32 {
    // The mantissa lies in √½ to √2.
    let bits = x.to_bits() as i32;
    let exponent = (bits - 0x3f35_04f3) >> 23;
    let m = f32::from_bits((bits - (exponent << 23)) as u32);
    let s = (m - 1.0) / (m + 1.0);
    let q = s * s;
    // 2 / ln 2 · atanh(s).
    let series = 1.0 + q * (1.0 / 3.0 + q * (0.2 + q * (1.0 / 7.0 + q * (1.0 / 9.0))));
    exponent as f32 + s * (series * 2.885_39)
}

/// 2 to the power of `x`, for `x` of -126 to 126, to 2e-7 of itself; below, 0.
#[inline(always)]
pub(super) fn exp2(x: f32) -> f32 {
    let bounded = x.clamp(-126.0, 126.0);
    // Adding and taking away 1.5 · 2²³ rounds to whole numbers.
    let whole = (bounded + 12_582_912.0) - 12_582_912.0;
    let f = bounded - whole;
    let series = 1.0
        + f * (std::f32::consts::LN_2
            + f * (0.240_226_5
                + f * (0.055_504_11
                    + f * (0.009_618_129
                        + f * (0.001_333_355_8 + f * (0.000_154_035_3 + f * 0.000_015_252_7))))));
    let power = series * f32::from_bits(((whole as i32 + 127) << 23) as u32);
    if x < -126.0 { 0.0 } else { power }
}

/// Cosine and sine of a whole turn times `u`, for `u` of 0 to 1, to 1e-7.
#[inline(always)]
pub(super) fn cos_sin_turns(u: f32) -> (f32, f32) {
    let quarter = (u * 4.0 + 0.5) as i32;
    let r = (u - quarter as f32 * 0.25) * std::f32::consts::TAU;
    let q = r * r;
    let s = r * (1.0 + q * (-1.0 / 6.0 + q * (1.0 / 120.0 + q * (-1.0 / 5040.0 + q / 362_880.0))));
    let c = 1.0 + q * (-0.5 + q * (1.0 / 24.0 + q * (-1.0 / 720.0 + q / 40_320.0)));
    let (c, s) = if quarter & 1 == 0 { (c, s) } else { (-s, c) };
    if quarter & 2 == 0 { (c, s) } else { (-c, -s) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All functions against those of the standard library in double precision.
    #[test]
    fn functions_are_as_exact_as_they_say() {
        for i in -36_000i32..36_000 {
            let degrees = f64::from(i) / 100.0 + 1e-3 * f64::from(i % 7);
            let (c, s) = cos_sin_degrees(degrees);
            let angle = degrees.to_radians();
            assert!((c - angle.cos()).abs() < 2e-15 && (s - angle.sin()).abs() < 2e-15);
            let x = -f64::from(i.abs()) / 52.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
        }
        assert_eq!(cos_sin_degrees(90.0), (0.0, 1.0));
        assert_eq!(cos_sin_degrees(-180.0), (-1.0, 0.0));
        for i in 1..100_000u32 {
            let u = i as f32 / 100_000.0;
            let x = u * u * 8.0;
            let expected = f64::from(x).log2();
            let found = f64::from(log2(x));
            assert!((found - expected).abs() < 2e-7 * expected.abs().max(1.0), "{x}: {found}");
            let power = (u - 0.5) * 40.0;
            let expected = f64::from(power).exp2();
            assert!((f64::from(exp2(power)) / expected - 1.0).abs() < 2e-7, "{power}");
            let (c, s) = cos_sin_turns(u);
            let angle = f64::from(u) * std::f64::consts::TAU;
            assert!((f64::from(c) - angle.cos()).abs() < 3e-7, "{u}");
            assert!((f64::from(s) - angle.sin()).abs() < 3e-7, "{u}");
        }
        assert_eq!(exp2(-200.0), 0.0);
    }
}
