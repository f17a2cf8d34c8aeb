//! Gaussian noise: pairs of normal numbers from 64 random bits each (Box and Muller 1958).

use super::math::{cos_sin_turns, log2};
use crate::sample::RandomStream;
use crate::sys::isa::{Isa, for_isas};

/// Random words that are drawn at a time.
const WORDS: usize = 512;

/// Adds noise of standard deviation `std` to the values, in their order.
pub(super) fn add_noise(values: &mut [f32], std: f64, stream: &mut RandomStream) {
    let (isa, mut words) = (Isa::detect(), [0u64; WORDS]);
    for part in values.chunks_mut(2 * WORDS) {
        let words = &mut words[..part.len().div_ceil(2)];
        stream.fill(words);
        add_pairs(isa, part, words, std as f32);
    }
}

for_isas! {
    /// Adds the normal numbers of `words`, two of each, times `std`.
    add_pairs<>(values: &mut [f32], words: &[u64], std: f32), add_pairs_loop
}

#[inline(always)]
fn add_pairs_loop(values: &mut [f32], words: &[u64], std: f32) {
    const UNIT: f32 = 1.0 / 16_777_216.0;
    let mut normal = [0f32; 2 * WORDS];
    let (cosines, sines) = normal.split_at_mut(WORDS);
    for ((&word, c), s) in words.iter().zip(&mut *cosines).zip(&mut *sines) {
        // 24 bits of each half: one in (0, 1], the other in [0, 1).
        let u = (((word as u32) >> 8) + 1) as i32 as f32 * UNIT;
        let v = ((word >> 40) as u32) as i32 as f32 * UNIT;
        let radius = (-2.0 * std::f32::consts::LN_2 * log2(u)).max(0.0).sqrt() * std;
        let (cos, sin) = cos_sin_turns(v);
        (*c, *s) = (radius * cos, radius * sin);
    }
    for (i, pair) in values.chunks_mut(2).enumerate() {
        pair[0] += cosines[i];
        if let Some(second) = pair.get_mut(1) {
            *second += sines[i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Epoch;
    use crate::sample::StreamKey;

    fn stream() -> RandomStream {
        let epoch = Epoch { seed: 3, epoch: 0 };
        RandomStream::new(&StreamKey { epoch, subject: "a/ct", n: 0, attempt: 1 << 31 })
    }

    /// The same on every instruction set, whatever the length; and normal.
    #[test]
    fn noise_is_normal_and_the_same_everywhere() {
        let mut all = vec![0f32; 100_001];
        add_noise(&mut all, 1.0, &mut stream());
        let mut words = vec![0u64; WORDS];
        stream().fill(&mut words);
        for isa in Isa::all() {
            for length in [1, 2, 7, 2 * WORDS] {
                let mut part = vec![0f32; length];
                add_pairs(isa, &mut part, &words[..length.div_ceil(2)], 1.0);
                assert_eq!(part, all[..length], "{isa:?}");
            }
        }
        for (i, word) in words.iter().enumerate() {
            let u = f64::from((((*word as u32) >> 8) + 1) as f32) / 16_777_216.0;
            let v = f64::from((word >> 40) as u32) / 16_777_216.0 * std::f64::consts::TAU;
            let radius = (-2.0 * u.ln()).sqrt();
            assert!((f64::from(all[2 * i]) - radius * v.cos()).abs() < 5e-6);
            assert!((f64::from(all[2 * i + 1]) - radius * v.sin()).abs() < 5e-6);
        }
        let n = all.len() as f64;
        let moment = |k: i32| all.iter().map(|&v| f64::from(v).powi(k)).sum::<f64>() / n;
        // Five standard errors of each moment.
        assert!(moment(1).abs() < 5.0 / n.sqrt());
        assert!((moment(2) - 1.0).abs() < 5.0 * (2.0 / n).sqrt());
        assert!(moment(3).abs() < 5.0 * (15.0 / n).sqrt());
        assert!((moment(4) - 3.0).abs() < 5.0 * (96.0 / n).sqrt());
    }
}
