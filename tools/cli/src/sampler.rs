//! Builds a random sampler from the arguments that `sample` and `preview` share.

use clap::{Args, ValueEnum};
use voxquarry::{
    Balance, Border, ConstrainedSampler, Epoch, Error, LabelSampler, RandomSampler, Result, Size3,
    UniformSampler, WeightedSampler,
};

/// How patches are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SamplerKind {
    Uniform,
    Label,
    Weighted,
    Grid,
}

#[derive(Args, Debug)]
pub(crate) struct SamplerArgs {
    /// How patches are chosen.
    #[arg(long, value_enum, default_value_t = SamplerKind::Uniform)]
    pub(crate) sampler: SamplerKind,
    /// What to do with patches that would leave the volume: exclude, clamp or pad.
    #[arg(long, default_value = "exclude", value_parser = parse_border)]
    border: Border,
    /// Label map for the label sampler and --min-foreground; default: the first one of the subject.
    #[arg(long, value_name = "VOLUME")]
    labels: Option<String>,
    /// Relative frequency of each label, as in 1=2,2=1; default: any label above 0.
    #[arg(long, value_name = "LABEL=PART,…", value_parser = parse_class, value_delimiter = ',')]
    probabilities: Vec<(i64, f64)>,
    /// Relative frequencies of foreground and background.
    #[arg(
        long,
        value_name = "POS,NEG",
        value_parser = parse_pair,
        conflicts_with = "probabilities"
    )]
    pos_neg: Option<(f64, f64)>,
    /// Fraction of the samples centred on a label; the others lie anywhere.
    #[arg(long, value_name = "PART", conflicts_with_all = ["probabilities", "pos_neg"])]
    foreground_fraction: Option<f64>,
    /// Volume of weights for the weighted sampler.
    #[arg(long, value_name = "VOLUME", required_if_eq("sampler", "weighted"))]
    weights: Option<String>,
    /// Smallest fraction of a patch that is above 0 in the label map.
    #[arg(long, value_name = "PART")]
    min_foreground: Option<f64>,
    /// Mask that must contain the whole patch.
    #[arg(long, value_name = "VOLUME")]
    inside: Option<String>,
    /// Smallest distance between the starts of a subject's patches, in voxels.
    #[arg(long, value_name = "VOXELS")]
    pub(crate) min_distance: Option<f64>,
    /// Seed of the random samplers.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Epoch of the random samplers.
    #[arg(long, default_value_t = 0)]
    epoch: u64,
}

impl SamplerArgs {
    /// The seed and epoch of the random numbers.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch { seed: self.seed, epoch: self.epoch }
    }

    /// The sampler for patches of `size`; `None` for a grid.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for numbers out of range.
    pub(crate) fn random(&self, size: Size3) -> Result<Option<RandomSampler>> {
        let base: RandomSampler = match self.sampler {
            SamplerKind::Uniform => UniformSampler::new(size)?.border(self.border).into(),
            SamplerKind::Label => {
                let sampler = LabelSampler::new(size, self.labels.as_deref())?;
                sampler.border(self.border).balance(self.balance())?.into()
            }
            SamplerKind::Weighted => {
                let missing = || {
                    Error::unsupported(
                        "the weighted sampler has no weights",
                        "add --weights VOLUME",
                    )
                };
                let weights = self.weights.as_deref().ok_or_else(missing)?;
                WeightedSampler::new(size, weights)?.border(self.border).into()
            }
            SamplerKind::Grid => return Ok(None),
        };
        if (self.min_foreground, self.min_distance) == (None, None) && self.inside.is_none() {
            return Ok(Some(base));
        }
        let mut sampler = ConstrainedSampler::new(base)?;
        if let Some(fraction) = self.min_foreground {
            sampler = sampler.min_foreground(fraction)?;
            if let Some(labels) = &self.labels {
                sampler = sampler.labels(labels);
            }
        }
        if let Some(mask) = &self.inside {
            sampler = sampler.inside(mask);
        }
        if let Some(voxels) = self.min_distance {
            sampler = sampler.min_distance(voxels)?;
        }
        Ok(Some(sampler.into()))
    }

    fn balance(&self) -> Balance {
        match (self.pos_neg, self.foreground_fraction) {
            (Some((pos, neg)), _) => Balance::PosNeg { pos, neg },
            (_, Some(fraction)) => Balance::Forced { fraction },
            _ if self.probabilities.is_empty() => Balance::Foreground,
            _ => Balance::Classes(self.probabilities.clone()),
        }
    }

    /// The sampler's name and seed, for captions.
    pub(crate) fn name(&self) -> String {
        let name = format!("{:?}", self.sampler).to_lowercase();
        format!("{name}, seed {}", self.seed)
    }
}

fn parse_border(text: &str) -> Result<Border, String> {
    let found = Border::ALL.into_iter().find(|border| border.name() == text);
    found.ok_or_else(|| "expected exclude, clamp or pad".to_owned())
}

fn parse_class(text: &str) -> Result<(i64, f64), String> {
    let parts = text
        .split_once('=')
        .and_then(|(label, part)| Some((label.trim().parse().ok()?, part.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected LABEL=PART, as in 1=2,2=1".to_owned())
}

fn parse_pair(text: &str) -> Result<(f64, f64), String> {
    let parts = text
        .split_once(',')
        .and_then(|(pos, neg)| Some((pos.trim().parse().ok()?, neg.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected two numbers, as in 1,1".to_owned())
}
