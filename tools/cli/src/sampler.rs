//! The random sampler that arguments describe; `sample` and `preview` take the same ones.

use clap::{Args, ValueEnum};
use voxquarry::{
    Balance, Border, ConstrainedSampler, Epoch, Error, LabelSampler, RandomSampler, Result, Size3,
    UniformSampler, WeightedSampler,
};

/// What decides where patches lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SamplerKind {
    Uniform,
    Label,
    Weighted,
    Grid,
}

#[derive(Args, Debug)]
pub(crate) struct SamplerArgs {
    /// What decides where patches lie.
    #[arg(long, value_enum, default_value_t = SamplerKind::Uniform)]
    pub(crate) sampler: SamplerKind,
    /// What becomes of patches that would leave the volume: exclude, clamp or pad.
    #[arg(long, default_value = "exclude", value_parser = parse_border)]
    border: Border,
    /// Label map of the label sampler and of --min-foreground; default: the subject's first.
    #[arg(long, value_name = "VOLUME")]
    labels: Option<String>,
    /// How often each label is drawn, as 1=2,2=1; default: any label above 0.
    #[arg(long, value_name = "LABEL=PART,…", value_parser = parse_class, value_delimiter = ',')]
    probabilities: Vec<(i64, f64)>,
    /// Parts of foreground and background.
    #[arg(long, value_name = "POS,NEG", value_parser = parse_pair, conflicts_with = "probabilities")]
    pos_neg: Option<(f64, f64)>,
    /// Part of the samples about a label, the others anywhere.
    #[arg(long, value_name = "PART", conflicts_with_all = ["probabilities", "pos_neg"])]
    foreground_fraction: Option<f64>,
    /// Volume of the weighted sampler.
    #[arg(long, value_name = "VOLUME", required_if_eq("sampler", "weighted"))]
    weights: Option<String>,
    /// At least this part of a patch is above 0 in the label map.
    #[arg(long, value_name = "PART")]
    min_foreground: Option<f64>,
    /// Mask that a patch lies in, whole.
    #[arg(long, value_name = "VOLUME")]
    inside: Option<String>,
    /// Voxels between the starts of a subject's patches.
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
    /// Which of the random streams.
    pub(crate) fn epoch(&self) -> Epoch {
        Epoch { seed: self.seed, epoch: self.epoch }
    }

    /// The sampler of patches of that size; `None` for a grid.
    ///
    /// # Errors
    /// [`Error::Usage`] for numbers that cannot be.
    pub(crate) fn random(&self, size: Size3) -> Result<Option<RandomSampler>> {
        let base: RandomSampler = match self.sampler {
            SamplerKind::Uniform => UniformSampler::new(size)?.border(self.border).into(),
            SamplerKind::Label => {
                let sampler = LabelSampler::new(size, self.labels.as_deref())?;
                sampler.border(self.border).balance(self.balance())?.into()
            }
            SamplerKind::Weighted => {
                let missing = || Error::usage("the weighted sampler needs --weights VOLUME");
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

    /// The sampler's name for captions.
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
    parts.ok_or_else(|| "expected LABEL=PART, as 1=2,2=1".to_owned())
}

fn parse_pair(text: &str) -> Result<(f64, f64), String> {
    let parts = text
        .split_once(',')
        .and_then(|(pos, neg)| Some((pos.trim().parse().ok()?, neg.trim().parse().ok()?)));
    parts.ok_or_else(|| "expected two numbers, as 1,1".to_owned())
}
