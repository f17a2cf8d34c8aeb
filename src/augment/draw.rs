//! Draws what happens to one patch.
//!
//! # Invariants
//! - Every number has its place in a stream, whether it is needed or not: to switch a part off
//!   changes no other part.

use super::options::Augment;
use super::part::AugmentPart;
use crate::sample::{Epoch, RandomStream, StreamKey};

/// The attempt that the spatial parts of a sample draw from; no attempt at a location has it.
const SPATIAL: u32 = (1 << 31) + 1;

/// The first attempt that noise draws from.
const NOISE: u32 = 1 << 31;

/// The sample that is augmented.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SampleKey<'a> {
    pub(crate) epoch: Epoch,
    pub(crate) subject: &'a str,
    /// The number of the sample in the subject.
    pub(crate) n: u64,
}

/// The spatial parts of a patch.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct SpatialDraw {
    /// About z, y and x.
    pub(super) degrees: [f64; 3],
    /// Magnification along z, y and x.
    pub(super) scale: [f64; 3],
    /// Of axis z by y and x, of y by z and x, of x by z and y.
    pub(super) shear: [f64; 6],
    pub(super) translation: [f64; 3],
    pub(super) flips: [bool; 3],
    /// Numbers of knots, and their displacements.
    pub(super) knots: Option<([usize; 3], Vec<[f64; 3]>)>,
}

/// The parts of one channel that change its values.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct IntensityDraw {
    pub(super) noise: Option<f64>,
    pub(super) blur: Option<[f64; 3]>,
    pub(super) brightness: Option<f64>,
    pub(super) shift: Option<f64>,
    pub(super) contrast: Option<f64>,
    pub(super) low_resolution: Option<f64>,
    pub(super) inverted_gamma: Option<f64>,
    pub(super) gamma: Option<f64>,
}

/// Draws of an augmentation from one stream.
struct Draws<'a> {
    augment: &'a Augment,
    stream: RandomStream,
}

impl Draws<'_> {
    /// Whether a part happens.
    fn happens(&mut self, part: AugmentPart) -> bool {
        self.stream.unit() < self.augment.chance(part)
    }

    /// A number of a part for each of `N`, 1 or 3, axes, or `None` if it does not happen.
    fn numbers<const N: usize>(&mut self, part: AugmentPart) -> Option<[f64; N]> {
        let happens = self.happens(part);
        let units = [0; N].map(|_| self.stream.unit());
        let ranges = self.augment.ranges(part).filter(|_| happens)?;
        Some(std::array::from_fn(|i| {
            let (range, unit) = (ranges[i], units[i]);
            if part.is_balanced() { balanced(range, unit) } else { between(range, unit) }
        }))
    }

    fn number(&mut self, part: AugmentPart) -> Option<f64> {
        self.numbers::<1>(part).map(|[number]| number)
    }
}

/// The number that lies `unit` of the way through a range.
fn between((low, high): (f64, f64), unit: f64) -> f64 {
    low + (high - low) * unit
}

/// As [`between`]; where the range has 1 inside, the lower half of `unit` lies below it.
fn balanced((low, high): (f64, f64), unit: f64) -> f64 {
    if !(low < 1.0 && 1.0 < high) {
        between((low, high), unit)
    } else if unit < 0.5 {
        between((low, 1.0), 2.0 * unit)
    } else {
        between((1.0, high), 2.0 * unit - 1.0)
    }
}

impl Augment {
    /// The spatial parts of a patch of `size`.
    pub(super) fn draw_spatial(&self, key: &SampleKey<'_>, size: [usize; 3]) -> SpatialDraw {
        use AugmentPart as P;
        let SampleKey { epoch, subject, n } = *key;
        let stream = RandomStream::new(&StreamKey { epoch, subject, n, attempt: SPATIAL });
        let mut draws = Draws { augment: self, stream };
        let degrees = draws.numbers(P::Rotation).unwrap_or([0.0; 3]);
        let mut scale = draws.numbers(P::Scale).unwrap_or([1.0; 3]);
        if !self.scales_per_axis {
            scale = [scale[0]; 3];
        }
        let happens = draws.happens(P::Shear);
        let units = [0; 6].map(|_| draws.stream.unit());
        let shear = match self.ranges(P::Shear).filter(|_| happens) {
            Some(ranges) => std::array::from_fn(|i| between(ranges[i / 2], units[i])),
            None => [0.0; 6],
        };
        let translation = draws.numbers(P::Translation).unwrap_or([0.0; 3]);
        let happens = draws.happens(P::Flip);
        let halves = [0; 3].map(|_| draws.stream.unit() < 0.5);
        let flips = [0, 1, 2].map(|a| happens && self.flips[a] && halves[a]);
        let elastic = draws.number(P::Elastic).filter(|&farthest| farthest > 0.0);
        let knots = elastic.map(|farthest| {
            let knots = size.map(|n| n.div_ceil(self.knot_voxels) + 1);
            let mut signed = || between((-farthest, farthest), draws.stream.unit());
            let count = knots.iter().product();
            (knots, (0..count).map(|_| [signed(), signed(), signed()]).collect())
        });
        SpatialDraw { degrees, scale, shear, translation, flips, knots }
    }

    /// What happens to the values of a channel of a volume.
    pub(super) fn draw_intensity(&self, key: &SampleKey<'_>, at: ChannelOf<'_>) -> IntensityDraw {
        use AugmentPart as P;
        let stream = at.stream(key, 0);
        let mut draws = Draws { augment: self, stream };
        // Values are those of the fields in this order.
        IntensityDraw {
            noise: draws.number(P::Noise),
            blur: draws.numbers(P::Blur),
            brightness: draws.number(P::Brightness),
            shift: draws.number(P::Shift),
            contrast: draws.number(P::Contrast),
            low_resolution: draws.number(P::LowResolution),
            inverted_gamma: draws.number(P::InvertedGamma),
            gamma: draws.number(P::Gamma),
        }
    }
}

/// A channel of a volume.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChannelOf<'a> {
    pub(super) volume: &'a str,
    pub(super) channel: usize,
}

impl ChannelOf<'_> {
    fn stream(self, key: &SampleKey<'_>, first: u32) -> RandomStream {
        let SampleKey { epoch, subject, n } = *key;
        let subject = &format!("{subject}/{}", self.volume);
        let channel = u32::try_from(self.channel).expect("a volume has fewer channels");
        RandomStream::new(&StreamKey { epoch, subject, n, attempt: first + channel })
    }

    /// The stream of the channel's noise.
    pub(super) fn noise(self, key: &SampleKey<'_>) -> RandomStream {
        self.stream(key, NOISE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Augment {
        AugmentPart::ALL.into_iter().filter(|&part| part != AugmentPart::Flip).fold(
            Augment::default().flip([true; 3]).scales_per_axis(true),
            |augment, part| {
                let (bounds, _) = part.bounds();
                let (low, high) = (bounds.start().max(-0.4), bounds.end().min(1.5));
                augment.part(part, [(low, high); 3]).unwrap()
            },
        )
    }

    /// Numbers lie in their ranges, differ between samples, and do not depend on other parts.
    #[test]
    fn each_part_has_its_own_numbers() {
        let everything = all();
        let channel = ChannelOf { volume: "ct", channel: 1 };
        let mut seen = Vec::new();
        for n in 0..200 {
            let key = SampleKey { epoch: Epoch { seed: 1, epoch: 2 }, subject: "a", n };
            let spatial = everything.draw_spatial(&key, [16, 17, 40]);
            let intensity = everything.draw_intensity(&key, channel);
            assert!(spatial.degrees.iter().all(|d| (-0.4..1.5).contains(d)), "{spatial:?}");
            assert_eq!(spatial.knots.as_ref().unwrap().0, [2, 3, 4]);
            let gamma = Augment::default().part(AugmentPart::Gamma, [(0.01, 1.5); 3]).unwrap();
            let alone = gamma.draw_intensity(&key, channel);
            assert_eq!(alone, IntensityDraw { gamma: intensity.gamma, ..IntensityDraw::default() });
            let never = everything.clone().probability(AugmentPart::Rotation, 0.0).unwrap();
            let expected = SpatialDraw { degrees: [0.0; 3], ..spatial.clone() };
            assert_eq!(never.draw_spatial(&key, [16, 17, 40]), expected);
            seen.push((spatial.degrees[0].to_bits(), intensity.gamma.unwrap().to_bits()));
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 200);
    }

    #[test]
    fn balanced_draws_lie_on_both_sides() {
        assert_eq!(balanced((0.5, 3.0), 0.25), 0.75);
        assert_eq!(balanced((0.5, 3.0), 0.75), 2.0);
        assert_eq!(balanced((1.0, 3.0), 0.25), 1.5);
        assert_eq!(between((-2.0, 2.0), 0.75), 1.0);
    }
}
