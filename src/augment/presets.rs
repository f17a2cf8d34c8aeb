//! Augmentations with the ranges and probabilities that other libraries choose by default.

use super::options::Augment;
use super::part::AugmentPart;

/// A part, its ranges along all axes, and its probability.
type Choice = (AugmentPart, (f64, f64), f64);

fn of(choices: &[Choice]) -> Augment {
    let add = |augment: Augment, &(part, range, p): &Choice| {
        augment.part(part, [range; 3])?.probability(part, p)
    };
    choices.iter().try_fold(Augment::default(), add).expect("ranges that parts allow")
}

impl Augment {
    /// The ranges and probabilities of nnU-Net v2's default training, for 3-D patches of similar
    /// extents along all axes.
    ///
    /// `docs/augmentation.md` lists what differs.
    pub fn nnunet() -> Self {
        use AugmentPart as P;
        of(&[
            (P::Rotation, (-30.0, 30.0), 0.2),
            (P::Scale, (1.0 / 1.4, 1.0 / 0.7), 0.2),
            (P::Noise, (0.0, 0.1), 0.1),
            (P::Blur, (0.5, 1.0), 0.2 * 0.5),
            (P::Brightness, (0.75, 1.25), 0.15),
            (P::Contrast, (0.75, 1.25), 0.15),
            (P::LowResolution, (0.5, 1.0), 0.25 * 0.5),
            (P::InvertedGamma, (0.7, 1.5), 0.1),
            (P::Gamma, (0.7, 1.5), 0.3),
        ])
        .flip([true; 3])
    }

    /// The defaults of `TorchIO`'s `RandomFlip` over all axes, `RandomAffine`,
    /// `RandomElasticDeformation`, `RandomNoise`, `RandomBlur` and `RandomGamma`.
    ///
    /// `docs/augmentation.md` lists what differs.
    pub fn torchio() -> Self {
        use AugmentPart as P;
        of(&[
            (P::Rotation, (-10.0, 10.0), 1.0),
            (P::Scale, (0.9, 1.1), 1.0),
            (P::Elastic, (7.5, 7.5), 1.0),
            (P::Noise, (0.0, 0.25), 1.0),
            (P::Blur, (0.0, 2.0), 1.0),
            // Of e to the power of -0.3 and 0.3.
            (P::Gamma, (0.740_818, 1.349_859), 1.0),
        ])
        .scales_per_axis(true)
        .flip([true; 3])
    }

    /// The transforms of MONAI's tutorials for 3-D segmentation, with the defaults of their
    /// probabilities: `RandAffine`, `RandFlip`, `RandScaleIntensity`, `RandShiftIntensity`,
    /// `RandGaussianNoise`, `RandGaussianSmooth` and `RandAdjustContrast`.
    ///
    /// `docs/augmentation.md` lists what differs.
    pub fn monai() -> Self {
        use AugmentPart as P;
        of(&[
            (P::Rotation, (-15.0, 15.0), 0.1),
            (P::Scale, (0.9, 1.1), 0.1),
            (P::Noise, (0.0, 0.1), 0.1),
            (P::Blur, (0.25, 1.5), 0.1),
            (P::Brightness, (0.9, 1.1), 0.1),
            (P::Shift, (-0.1, 0.1), 0.1),
            (P::Gamma, (0.5, 4.5), 0.1),
        ])
        .scales_per_axis(true)
        .flip([true; 3])
    }
}
