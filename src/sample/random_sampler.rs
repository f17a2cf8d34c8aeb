//! Any random sampler, alone or with constraints on its patches.

use super::border::Border;
use super::chunk_weights::Reweighting;
use super::constraints::{ConstrainedDraw, Constraints, OnFailure};
use super::draw::{Draw, locations, locations_method, probability_map_method};
use super::label::LabelSampler;
use super::location::PatchLocation;
use super::missing::{Lack, OnMissing};
use super::object::ObjectSampler;
use super::random::Epoch;
use super::uniform::UniformSampler;
use super::weighted::WeightedSampler;
use crate::{Dataset, Error, Result, Size3, Subject};

/// Attempts for a sample, unless the caller sets another number.
const ATTEMPTS: u32 = 100;

/// Any random sampler; each of them converts into it.
///
/// ```
/// use voxquarry::{Border, RandomSampler, UniformSampler};
///
/// let sampler: RandomSampler = UniformSampler::new([96, 96, 96])?.border(Border::Pad).into();
/// assert_eq!(sampler.patch_size(), [96, 96, 96]);
/// assert_eq!(sampler.get_border(), Border::Pad);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum RandomSampler {
    /// Uniform over all locations.
    Uniform(UniformSampler),
    /// Centred on voxels that are drawn by the values of a volume.
    Weighted(WeightedSampler),
    /// Centred on voxels that are drawn by the classes of a label map.
    Label(LabelSampler),
    /// Around whole objects of a label map.
    Object(ObjectSampler),
    /// One of the others, with constraints on its patches.
    Constrained(Box<ConstrainedSampler>),
}

impl RandomSampler {
    locations_method!();

    probability_map_method!();

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        match self {
            Self::Uniform(sampler) => sampler.patch_size(),
            Self::Weighted(sampler) => sampler.patch_size(),
            Self::Label(sampler) => sampler.patch_size(),
            Self::Object(sampler) => sampler.patch_size(),
            Self::Constrained(sampler) => sampler.base.patch_size(),
        }
    }

    /// What is done with patches that would leave the volume.
    pub fn get_border(&self) -> Border {
        match self {
            Self::Uniform(sampler) => sampler.get_border(),
            Self::Weighted(sampler) => sampler.get_border(),
            Self::Label(sampler) => sampler.get_border(),
            Self::Object(sampler) => sampler.get_border(),
            Self::Constrained(sampler) => sampler.base.get_border(),
        }
    }

    /// The subjects among `names` in which no patch can be drawn, in their order, each with the
    /// reason.
    ///
    /// The label counts and the sums of weights that ingest recorded tell; a volume without them is
    /// read once, as at its first sample.
    ///
    /// ```
    /// use voxquarry::{Balance, LabelSampler, OnMissing, RandomSampler};
    ///
    /// # let store = "format-spec/golden/v1";
    /// let dataset = voxquarry::open(store)?;
    /// let sampler = LabelSampler::new([2, 4, 4], "labels-i32")?;
    /// let balance = Balance::Classes(vec![(99, 1.0), (2, 0.0)]);
    /// let sampler = RandomSampler::from(sampler.balance(balance)?);
    /// let missing = sampler.missing(&dataset, &["grid".into()], OnMissing::Background)?;
    /// assert_eq!(missing[0].1, "no voxel of the labels [99]");
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::CannotSample`] for such subjects, as `on_missing` says.
    /// - [`Error::NotFound`] for a name that is no subject.
    /// - [`Error::PatchTooLarge`], in [`Error::InSubject`], for a patch that has to fit into the
    ///   volume and does not.
    /// - [`Error::InvalidArgument`] for a channel that a volume does not have.
    /// - Errors of reading the counts and sums.
    pub fn missing(
        &self,
        dataset: &Dataset,
        names: &[String],
        on_missing: OnMissing,
    ) -> Result<Vec<(String, String)>> {
        let lack = |i: u64| {
            let name = &names[i as usize];
            let subject = dataset.subject(name)?;
            self.lack(&subject).map_err(|source| Error::InSubject {
                subject: name.clone(),
                source: Box::new(source),
            })
        };
        let lacks = dataset.in_parallel(0..names.len() as u64, lack)?;
        let pairs = names.iter().zip(lacks);
        let lacks: Vec<_> = pairs.filter_map(|(name, lack)| Some((name.clone(), lack?))).collect();
        on_missing.decide(&lacks, names.len())?;
        Ok(lacks.into_iter().map(|(name, lack)| (name, lack.reason)).collect())
    }

    /// A sampler of patches of the same size under the same border rule that needs no label and no
    /// weight.
    #[must_use]
    pub fn background(&self) -> UniformSampler {
        let sampler = UniformSampler::new(self.patch_size());
        sampler.expect("a size that was checked").border(self.get_border())
    }

    /// A sampler of the voxels that this one centres patches on, anywhere in the volume; `None` if
    /// it has constraints, or draws any voxel.
    pub(crate) fn of_voxels(&self) -> Option<Self> {
        match self {
            Self::Weighted(sampler) => Some(Self::Weighted(sampler.of_voxels())),
            Self::Label(sampler) => Some(Self::Label(sampler.of_voxels())),
            Self::Uniform(_) | Self::Object(_) | Self::Constrained(_) => None,
        }
    }

    /// Why no patch can be drawn in a subject.
    pub(crate) fn lack(&self, subject: &Subject) -> Result<Option<Lack>> {
        match self {
            Self::Uniform(sampler) => sampler.bind(subject, None).map(|_| None),
            Self::Weighted(sampler) => sampler.lack(subject),
            Self::Label(sampler) => sampler.lack(subject),
            Self::Object(sampler) => sampler.lack(subject),
            Self::Constrained(sampler) => sampler.lack(subject),
        }
    }

    /// The location of sample `n` of `subject` in an epoch, under weights of chunks if there are
    /// some.
    ///
    /// # Errors
    /// Those of [`RandomSampler::locations`]; [`Error::InvalidArgument`] for weights of another
    /// chunk grid, [`Error::Unsupported`] for weights that leave nothing to draw.
    pub(crate) fn location(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
        epoch: Epoch,
        n: u64,
    ) -> Result<PatchLocation> {
        let mut found = locations(&*self.bind(subject, reweighting)?, subject, 1, epoch, n)?;
        Ok(found.pop().expect("one was asked for"))
    }

    /// Whether a sample depends on those before it.
    pub(crate) fn keeps_distance(&self) -> bool {
        let Self::Constrained(sampler) = self else { return false };
        sampler.constraints.min_distance.is_some_and(|distance| distance > 0.0)
    }

    fn bind(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
    ) -> Result<Box<dyn Draw>> {
        match self {
            Self::Uniform(sampler) => sampler.bind(subject, reweighting),
            Self::Weighted(sampler) => sampler.bind(subject, reweighting),
            Self::Label(sampler) => sampler.bind(subject, reweighting),
            Self::Object(sampler) => sampler.bind(subject, reweighting),
            Self::Constrained(sampler) => sampler.bind(subject, reweighting),
        }
    }
}

impl From<UniformSampler> for RandomSampler {
    fn from(sampler: UniformSampler) -> Self {
        Self::Uniform(sampler)
    }
}

impl From<WeightedSampler> for RandomSampler {
    fn from(sampler: WeightedSampler) -> Self {
        Self::Weighted(sampler)
    }
}

impl From<LabelSampler> for RandomSampler {
    fn from(sampler: LabelSampler) -> Self {
        Self::Label(sampler)
    }
}

impl From<ObjectSampler> for RandomSampler {
    fn from(sampler: ObjectSampler) -> Self {
        Self::Object(sampler)
    }
}

impl From<ConstrainedSampler> for RandomSampler {
    fn from(sampler: ConstrainedSampler) -> Self {
        Self::Constrained(Box::new(sampler))
    }
}

/// Draws from another random sampler until the patch fulfils all constraints.
///
/// Each attempt has a random stream of its own, so that a sample stays a pure function of (seed,
/// epoch, subject, n). With a minimum distance it also depends on the samples before it: sample `n`
/// then costs `n + 1` samples.
///
/// ```
/// use voxquarry::{ConstrainedSampler, Dataset, Epoch, OnFailure, OpenOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// let sampler = ConstrainedSampler::new(UniformSampler::new([2, 4, 4])?)?
///     .min_foreground(0.2)?
///     .min_distance(2.0)?
///     .on_failure(OnFailure::Best);
/// assert_eq!(sampler.locations(&subject, 8, Epoch::default(), 0)?.len(), 8);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ConstrainedSampler {
    base: RandomSampler,
    constraints: Constraints,
    attempts: u32,
    on_failure: OnFailure,
}

impl ConstrainedSampler {
    /// A sampler that draws from `base`, without constraints yet, and makes at most 100 attempts.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a sampler that has constraints already.
    pub fn new(base: impl Into<RandomSampler>) -> Result<Self> {
        let base = base.into();
        if matches!(base, RandomSampler::Constrained(_)) {
            return Err(Error::unsupported(
                "the sampler has constraints already",
                "set all constraints on one sampler",
            ));
        }
        let (constraints, on_failure) = (Constraints::default(), OnFailure::default());
        Ok(Self { base, constraints, attempts: ATTEMPTS, on_failure })
    }

    /// Demands that at least this fraction of a patch's voxels, in `0.0..=1.0`, is above 0 in a
    /// label map; voxels outside the volume are not.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a fraction outside the range.
    pub fn min_foreground(mut self, fraction: f64) -> Result<Self> {
        if !(0.0..=1.0).contains(&fraction) {
            return Err(Error::invalid("min_foreground", fraction, "0.0 to 1.0"));
        }
        self.constraints.min_foreground = Some(fraction);
        Ok(self)
    }

    /// Sets the label map of [`ConstrainedSampler::min_foreground`], by default the first label map
    /// of each subject.
    #[must_use]
    pub fn labels(mut self, volume: impl Into<String>) -> Self {
        self.constraints.labels = Some(volume.into());
        self
    }

    /// Demands that all voxels of a patch lie inside the volume and are above 0 in a mask.
    #[must_use]
    pub fn inside(mut self, mask: impl Into<String>) -> Self {
        self.constraints.inside = Some(mask.into());
        self
    }

    /// Demands that many voxels or more, Euclidean, between the start of a patch and the starts of
    /// the earlier samples of its subject in the epoch; at most 65,536 samples can keep a distance.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a distance that is negative, or 2³² or more.
    pub fn min_distance(mut self, voxels: f64) -> Result<Self> {
        if !(0.0..f64::from(u32::MAX)).contains(&voxels) {
            let expected = "a number of voxels, 0 or more and below 2³²";
            return Err(Error::invalid("min_distance", voxels, expected));
        }
        self.constraints.min_distance = Some(voxels);
        Ok(self)
    }

    /// Sets the largest number of attempts for a sample.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number outside `1..=1_000_000`.
    pub fn attempts(mut self, attempts: u32) -> Result<Self> {
        if !(1..=1_000_000).contains(&attempts) {
            return Err(Error::invalid("attempts", attempts, "1 to 1,000,000"));
        }
        self.attempts = attempts;
        Ok(self)
    }

    /// Sets what is done when all attempts fail.
    #[must_use]
    pub fn on_failure(self, on_failure: OnFailure) -> Self {
        Self { on_failure, ..self }
    }

    locations_method!();

    /// The sampler that is drawn from.
    pub fn base(&self) -> &RandomSampler {
        &self.base
    }

    /// The fraction of a patch's voxels that has to be above 0 in a label map.
    pub fn get_min_foreground(&self) -> Option<f64> {
        self.constraints.min_foreground
    }

    /// The label map of the foreground; `None`: the first label map of each subject.
    pub fn get_labels(&self) -> Option<&str> {
        self.constraints.labels.as_deref()
    }

    /// The mask that holds all voxels of a patch.
    pub fn get_inside(&self) -> Option<&str> {
        self.constraints.inside.as_deref()
    }

    /// The distance between starts, in voxels.
    pub fn get_min_distance(&self) -> Option<f64> {
        self.constraints.min_distance
    }

    /// The largest number of attempts for a sample.
    pub fn get_attempts(&self) -> u32 {
        self.attempts
    }

    /// What is done when all attempts fail.
    pub fn get_on_failure(&self) -> OnFailure {
        self.on_failure
    }

    fn lack(&self, subject: &Subject) -> Result<Option<Lack>> {
        match self.base.lack(subject)? {
            None if self.on_failure != OnFailure::Best => {
                self.constraints.lack(subject, self.base.patch_size())
            }
            lack => Ok(lack),
        }
    }

    fn bind(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
    ) -> Result<Box<dyn Draw>> {
        let (base, border) = (self.base.bind(subject, reweighting)?, self.base.get_border());
        let (constraints, attempts) = (&self.constraints, self.attempts);
        let draw =
            ConstrainedDraw::new(base, border, constraints, attempts, self.on_failure, subject)?;
        Ok(Box::new(draw))
    }
}
