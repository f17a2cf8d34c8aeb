//! Computes with 64 bits of mantissa, rounded to nearest even, like the `long double` of x86-64.
//!
//! nibabel turns a header's quaternion into a matrix in this precision, and `1 − x² − y² − z²` of
//! half a turn magnifies the rounding error ten thousandfold. To equal nibabel's affine bit for
//! bit, we compute in the same precision.
//!
//! # Invariants
//! - Every result is the exact result, rounded once. The exponent is unbounded; only
//!   [`Extended::to_f64`] can overflow.

use std::ops::{Add, Div, Mul, Neg, Sub};

/// A finite number `mantissa · 2^exponent`. The highest bit of the mantissa is set unless the
/// number is 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Extended {
    negative: bool,
    mantissa: u64,
    exponent: i32,
}

impl Extended {
    pub(super) const ZERO: Self = Self { negative: false, mantissa: 0, exponent: 0 };

    /// Converts a finite `value` exactly.
    pub(super) fn new(value: f64) -> Self {
        assert!(value.is_finite(), "{value} is not finite");
        let bits = value.to_bits();
        let (fraction, biased) = (bits & ((1 << 52) - 1), (bits >> 52) as i32 & 0x7ff);
        let (mantissa, exponent) =
            if biased == 0 { (fraction, -1074) } else { (fraction | 1 << 52, biased - 1075) };
        Self::rounded(value.is_sign_negative(), mantissa.into(), exponent)
    }

    /// The number nearest to `mantissa · 2^exponent`. Bits that the caller dropped must be ORed
    /// into the lowest bit, which lies far below the 64 bits of the result.
    fn rounded(negative: bool, mantissa: u128, exponent: i32) -> Self {
        if mantissa == 0 {
            return Self::ZERO;
        }
        let excess = 64 - mantissa.leading_zeros() as i32;
        if excess <= 0 {
            return Self {
                negative,
                mantissa: (mantissa << -excess) as u64,
                exponent: exponent + excess,
            };
        }
        let rounded = round_half_even(mantissa, excess as u32);
        // Rounding up may carry into a 65th bit, followed by zeros.
        let carry = i32::from(rounded >> 64 != 0);
        Self { negative, mantissa: (rounded >> carry) as u64, exponent: exponent + excess + carry }
    }

    pub(super) fn is_negative(self) -> bool {
        self.negative && self.mantissa != 0
    }

    /// The square root of a number that is not negative.
    pub(super) fn sqrt(self) -> Self {
        assert!(!self.is_negative(), "the square root of a negative number");
        if self.mantissa == 0 {
            return Self::ZERO;
        }
        // An even exponent halves exactly. The root of 127 or 128 bits has 64, and the remainder
        // decides the rounding.
        let odd = self.exponent & 1;
        let square = u128::from(self.mantissa) << (64 - odd);
        let exponent = (self.exponent - 64 + odd) >> 1;
        let root = square.isqrt();
        let sticky = u128::from(root * root != square);
        // An irrational root is never exactly halfway between two numbers.
        let above_half = square - root * root > root;
        let doubled = root << 2 | u128::from(above_half) << 1 | sticky;
        Self::rounded(false, doubled, exponent - 2)
    }

    /// The nearest `f64`, infinite on overflow.
    pub(super) fn to_f64(self) -> f64 {
        // Numbers below 2^−1022 have fewer than 53 bits.
        let missing = (-1074 - (self.exponent + 11)).max(0);
        let drop = (11 + missing).min(127) as u32;
        let rounded = round_half_even(self.mantissa.into(), drop) as f64;
        let magnitude = scale(rounded, self.exponent.saturating_add(drop as i32));
        if self.negative { -magnitude } else { magnitude }
    }
}

/// `value >> bits`, rounded to nearest even; `0 < bits < 128`.
fn round_half_even(value: u128, bits: u32) -> u128 {
    let (quotient, rest, half) = (value >> bits, value & ((1 << bits) - 1), 1u128 << (bits - 1));
    quotient + u128::from(rest > half || (rest == half && quotient & 1 == 1))
}

/// `value · 2^power`, for results that are exact or too large; `value` is 0 or at least 1.
fn scale(value: f64, power: i32) -> f64 {
    let two_to = |power: i32| match power {
        ..-1022 => f64::from_bits(1 << (power + 1074)),
        _ => f64::from_bits(((power + 1023) as u64) << 52),
    };
    match power {
        _ if value == 0.0 => 0.0,
        ..-1074 => 0.0,
        -1074..=1023 => value * two_to(power),
        _ => f64::INFINITY,
    }
}

impl Neg for Extended {
    type Output = Self;

    fn neg(self) -> Self {
        Self { negative: !self.negative, ..self }
    }
}

impl Add for Extended {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (large, small) =
            if self.magnitude() >= other.magnitude() { (self, other) } else { (other, self) };
        if small.mantissa == 0 {
            return large;
        }
        // 62 bits below the larger mantissa, the lowest of which stands for all the bits that are
        // lost.
        let distance = (large.exponent - small.exponent).min(127) as u32;
        let shifted = u128::from(small.mantissa) << 62;
        let lost = shifted & ((1 << distance) - 1) != 0;
        let (a, b) = (u128::from(large.mantissa) << 62, (shifted >> distance) | u128::from(lost));
        let sum = if large.negative == small.negative { a + b } else { a - b };
        Self::rounded(large.negative, sum, large.exponent - 62)
    }
}

impl Extended {
    /// A key that orders magnitudes.
    fn magnitude(self) -> (i32, u64) {
        (if self.mantissa == 0 { i32::MIN } else { self.exponent }, self.mantissa)
    }
}

impl Sub for Extended {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Mul for Extended {
    type Output = Self;

    fn mul(self, other: Self) -> Self {
        let product = u128::from(self.mantissa) * u128::from(other.mantissa);
        Self::rounded(self.negative != other.negative, product, self.exponent + other.exponent)
    }
}

impl Div for Extended {
    type Output = Self;

    /// Panics if `other` is 0.
    fn div(self, other: Self) -> Self {
        let (dividend, divisor) = (u128::from(self.mantissa) << 64, u128::from(other.mantissa));
        let (quotient, rest) = (dividend / divisor, dividend % divisor);
        // One more bit decides the rounding, and the remainder breaks the tie.
        let (bit, rest) = ((rest << 1) / divisor, (rest << 1) % divisor);
        let mantissa = quotient << 2 | bit << 1 | u128::from(rest != 0);
        Self::rounded(
            self.negative != other.negative,
            mantissa,
            self.exponent - other.exponent - 66,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(value: f64) -> Extended {
        Extended::new(value)
    }

    #[test]
    fn known_constants_have_64_exact_bits() {
        let third = number(1.0) / number(3.0);
        assert_eq!((third.mantissa, third.exponent), (0xaaaa_aaaa_aaaa_aaab, -65));
        let root = number(2.0).sqrt();
        assert_eq!((root.mantissa, root.exponent), (0xb504_f333_f9de_6484, -63));
        // A tie goes to the even neighbour, more than that goes up, less goes down.
        let (one, half_unit) = (number(1.0), number(2f64.powi(-64)));
        assert_eq!(one + half_unit, one);
        assert_eq!((one + half_unit * number(1.5)).mantissa, (1 << 63) + 1);
        assert_eq!((one - number(2f64.powi(-66))), one);
        assert_eq!((one - half_unit).mantissa, u64::MAX);
        assert_eq!((one + number(2f64.powi(-1000))), one);
        assert_eq!(one - one, Extended::ZERO);
    }

    #[test]
    fn exact_results_are_not_rounded() {
        for a in [0.0, 1.0, -1.5, 3.0, 1e300, -7.25e-300, 5e-324, f64::MAX] {
            assert_eq!(number(a).to_f64().to_bits(), (a + 0.0).to_bits());
            assert_eq!((number(a) * number(a)).magnitude(), (number(-a) * number(a)).magnitude());
            assert_eq!((number(a) + number(-a)).to_f64(), 0.0);
            assert_eq!((number(a) * number(3.0) / number(3.0)).to_f64(), a);
            if a > 0.0 {
                let square = number(a) * number(a);
                assert_eq!((square.sqrt() * number(1.0)).to_f64(), a);
            }
        }
        assert_eq!((number(f64::MAX) * number(2.0)).to_f64(), f64::INFINITY);
        assert_eq!((number(5e-324) * number(0.5)).to_f64(), 0.0);
        assert_eq!((number(5e-324) * number(-0.75)).to_f64(), -5e-324);
        assert_eq!((number(f64::MIN_POSITIVE) * number(0.5)).to_f64(), f64::MIN_POSITIVE / 2.0);
    }
}
