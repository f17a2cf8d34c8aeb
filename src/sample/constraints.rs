//! Constraints on the patches of a random sampler: a patch that fails them is drawn again.
//!
//! Each attempt at a sample has a random stream of its own, so that the sample stays a pure
//! function of (seed, epoch, subject, n): it is the first attempt that fulfils all constraints.
//! With a minimum distance it depends on the samples before it too, which are then drawn first.
//!
//! # Invariants
//! - At most the given number of attempts is made for a sample.
//! - At most [`MAX_DISTANT`] samples of a subject keep a distance.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::border::{Border, Centres};
use super::boxes::ProbabilityMap;
use super::draw::{Draw, independent_starts};
use super::label::{Class, ClassIndexes, LabelEncoding};
use super::missing::Lack;
use super::random::{Epoch, RandomStream, StreamKey};
use super::volumes::{label_map, label_map_if_any, volume_if_any};
use crate::{Error, Region, Result, Size3, Subject, Volume};

/// Samples of a subject in an epoch that may keep a distance: each is compared with those before.
const MAX_DISTANT: u64 = 1 << 16;

/// What is done when no attempt fulfils all constraints.
///
/// ```
/// use voxquarry::{ConstrainedSampler, OnFailure, UniformSampler};
///
/// let sampler = ConstrainedSampler::new(UniformSampler::new([96, 96, 96])?)?;
/// assert_eq!(sampler.get_on_failure(), OnFailure::Guided);
/// assert_eq!(sampler.on_failure(OnFailure::Best).get_on_failure(), OnFailure::Best);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// As many further attempts are centred on voxels above 0: of the label map of `min_foreground`
    /// if it is given, otherwise of the mask of `inside`. If these fail too, or there is neither,
    /// the best of all attempts as for [`OnFailure::Best`]. A subject of which the counts show that
    /// no patch can meet a constraint is an error.
    #[default]
    Guided,
    /// [`Error::ConstraintsUnmet`].
    Error,
    /// The attempt whose worst constraint is fulfilled best; the first of equal ones.
    Best,
}

/// The constraints of a [`ConstrainedSampler`](super::ConstrainedSampler), whose setters describe
/// and check them.
#[derive(Clone, Debug, PartialEq, Default)]
pub(super) struct Constraints {
    pub(super) min_foreground: Option<f64>,
    pub(super) labels: Option<String>,
    pub(super) inside: Option<String>,
    pub(super) min_distance: Option<f64>,
}

impl Constraints {
    /// Why no patch of a subject can meet the constraints; the counts of the chunks show it.
    pub(super) fn lack(&self, subject: &Subject, patch_size: Size3) -> Result<Option<Lack>> {
        let voxels = patch_voxels(patch_size);
        if let Some(fraction) = self.min_foreground {
            let volume = match label_map_if_any(subject, self.labels.as_deref())? {
                Ok(volume) => volume,
                Err(lack) => return Ok(Some(lack)),
            };
            let name = volume.name().to_owned();
            let (least, most) =
                MinVoxels::foreground(volume, fraction, voxels)?.bounds(patch_size)?;
            if most < least {
                return Ok(Some(Lack::new(format!(
                    "no patch has more than {most} voxels above 0 in {name:?}, min_foreground \
                     {fraction} asks for {least}"
                ))));
            }
        }
        if let Some(mask) = &self.inside {
            let volume = match volume_if_any(subject, mask)? {
                Ok(volume) => volume,
                Err(lack) => return Ok(Some(lack)),
            };
            let (least, most) = MinVoxels::foreground(volume, 1.0, voxels)?.bounds(patch_size)?;
            if most < least {
                let reason = format!("no patch fits inside {mask:?}");
                return Ok(Some(Lack::new(reason)));
            }
        }
        Ok(None)
    }
}

fn patch_voxels(patch_size: Size3) -> f64 {
    patch_size.iter().map(|&p| p as f64).product()
}

/// A constrained sampler bound to one subject.
pub(super) struct ConstrainedDraw {
    base: Box<dyn Draw>,
    /// The rule by which a guided attempt stays in the volume.
    centres: Centres,
    min_voxels: Vec<MinVoxels>,
    min_distance: Option<f64>,
    attempts: u32,
    on_failure: OnFailure,
}

/// At least `least` voxels of a patch are of one of these classes.
struct MinVoxels {
    volume: Volume,
    indexes: Arc<ClassIndexes>,
    classes: Vec<Class>,
    least: u64,
}

impl MinVoxels {
    /// At least this fraction of `voxels` is foreground of the label map.
    fn foreground(volume: Volume, fraction: f64, voxels: f64) -> Result<Self> {
        let indexes = ClassIndexes::of(&volume, Region::whole(volume.size()))?;
        let classes = LabelEncoding::of(&volume).foreground();
        Ok(Self { volume, indexes, classes, least: (fraction * voxels).ceil() as u64 })
    }

    fn is_met(&self, region: &Region) -> Result<bool> {
        let decided = |least, most| least >= self.least || most < self.least;
        let (least, _) = self.indexes.voxels_in(&self.volume, &self.classes, region, decided)?;
        Ok(least >= self.least)
    }

    /// The voxels that a patch needs, and a number that no patch exceeds.
    fn bounds(&self, patch_size: Size3) -> Result<(u64, u64)> {
        let most = self.indexes.most_in_patch(&self.volume, &self.classes, patch_size)?;
        Ok((self.least, most))
    }

    /// A voxel of the classes; `None` if there is none.
    fn voxel(&self, random: &mut RandomStream) -> Result<Option<[i64; 3]>> {
        let index = self.indexes.get(&self.volume, &self.classes)?;
        if index.len() == 0 {
            return Ok(None);
        }
        let whole = Region::whole(self.volume.size());
        index.select(&self.volume, &whole, random.below(index.len())).map(Some)
    }

    /// How far the constraint is met, in `0.0..=1.0`.
    fn degree(&self, region: &Region) -> Result<f64> {
        let decided = |least, most| least == most;
        let (found, _) = self.indexes.voxels_in(&self.volume, &self.classes, region, decided)?;
        Ok((found as f64 / self.least.max(1) as f64).min(1.0))
    }
}

impl ConstrainedDraw {
    /// Constraints on the patches of `base`, which is bound to `subject`.
    pub(super) fn new(
        base: Box<dyn Draw>,
        border: Border,
        constraints: &Constraints,
        attempts: u32,
        on_failure: OnFailure,
        subject: &Subject,
    ) -> Result<Self> {
        let voxels = patch_voxels(base.patch_size());
        if on_failure == OnFailure::Guided
            && let Some(lack) = constraints.lack(subject, base.patch_size())?
        {
            let reason = format!("subject {:?}: {}", subject.name(), lack.reason);
            return Err(Error::unsupported(reason, "relax the constraints, or leave it out"));
        }
        let mut min_voxels = Vec::new();
        if let Some(fraction) = constraints.min_foreground {
            let volume = label_map(subject, constraints.labels.as_deref())?;
            min_voxels.push(MinVoxels::foreground(volume, fraction, voxels)?);
        }
        if let Some(mask) = &constraints.inside {
            min_voxels.push(MinVoxels::foreground(subject.volume(mask)?, 1.0, voxels)?);
        }
        let min_distance = constraints.min_distance.filter(|&d| d > 0.0);
        // Any voxel may be the centre of a guided attempt.
        let border = if border == Border::Pad { Border::Pad } else { Border::Clamp };
        let centres = Centres::new(subject.size()?, base.patch_size(), border)?;
        Ok(Self { base, centres, min_voxels, min_distance, attempts, on_failure })
    }

    /// The start of an attempt, of which those from `attempts` on are guided.
    fn start_of(&self, key: &StreamKey<'_>, attempt: u32) -> Result<[i64; 3]> {
        let key = StreamKey { attempt, ..*key };
        if attempt >= self.attempts
            && let Some(guide) = self.min_voxels.first()
            && let Some(centre) = guide.voxel(&mut RandomStream::new(&key))?
        {
            return Ok(self.centres.start_of(centre));
        }
        self.base.start(&key)
    }

    /// The attempts that are made before the best is taken.
    fn all_attempts(&self) -> u32 {
        let is_guided = self.on_failure == OnFailure::Guided && !self.min_voxels.is_empty();
        if is_guided { 2 * self.attempts } else { self.attempts }
    }

    /// The first attempt that meets all constraints, or the best one.
    fn attempt(&self, key: &StreamKey<'_>, earlier: &EarlierStarts) -> Result<[i64; 3]> {
        let region = |start| Region::new(start, self.base.patch_size());
        for attempt in 0..self.all_attempts() {
            let start = self.start_of(key, attempt)?;
            let mut is_met = earlier.are_distant(start);
            for constraint in &self.min_voxels {
                is_met = is_met && constraint.is_met(&region(start))?;
            }
            if is_met {
                return Ok(start);
            }
        }
        if self.on_failure == OnFailure::Error {
            return Err(Error::ConstraintsUnmet {
                subject: key.subject.to_owned(),
                n: key.n,
                attempts: self.attempts,
            });
        }
        let mut best: Option<(f64, [i64; 3])> = None;
        for attempt in 0..self.all_attempts() {
            let start = self.start_of(key, attempt)?;
            let mut degree = earlier.degree(start);
            for constraint in &self.min_voxels {
                degree = degree.min(constraint.degree(&region(start))?);
            }
            if best.is_none_or(|best| degree > best.0) {
                best = Some((degree, start));
            }
        }
        Ok(best.expect("at least one attempt").1)
    }

    /// Samples `numbers`, drawn after all samples before them, from which they keep a distance.
    fn distant_starts(
        &self,
        subject: &Subject,
        epoch: Epoch,
        numbers: Range<u64>,
        min_distance: f64,
    ) -> Result<Vec<[i64; 3]>> {
        if numbers.end > MAX_DISTANT {
            let expected = format!("at most {MAX_DISTANT} in an epoch if they keep a distance");
            return Err(Error::invalid("samples up to number", numbers.end, expected));
        }
        let mut earlier = EarlierStarts::new(min_distance);
        let mut starts = Vec::new();
        for n in 0..numbers.end {
            let key = StreamKey { epoch, subject: subject.name(), n, attempt: 0 };
            let start = self.attempt(&key, &earlier)?;
            earlier.add(start);
            if n >= numbers.start {
                starts.push(start);
            }
        }
        Ok(starts)
    }
}

impl Draw for ConstrainedDraw {
    fn patch_size(&self) -> Size3 {
        self.base.patch_size()
    }

    fn start(&self, key: &StreamKey<'_>) -> Result<[i64; 3]> {
        self.attempt(key, &EarlierStarts::new(0.0))
    }

    fn starts(
        &self,
        subject: &Subject,
        epoch: Epoch,
        numbers: Range<u64>,
    ) -> Result<Vec<[i64; 3]>> {
        match self.min_distance {
            Some(distance) => self.distant_starts(subject, epoch, numbers, distance),
            None => independent_starts(self, subject, epoch, numbers),
        }
    }

    fn add_probabilities(&self, _map: &mut ProbabilityMap<'_>) -> Result<()> {
        Err(Error::unsupported(
            "a sampler with constraints has no probability map",
            "ask the sampler that it draws from",
        ))
    }
}

/// The starts of earlier samples, in the cells of a grid that are as wide as the distance to keep.
struct EarlierStarts {
    min_distance: f64,
    cells: HashMap<[i64; 3], Vec<[i64; 3]>>,
}

impl EarlierStarts {
    fn new(min_distance: f64) -> Self {
        Self { min_distance, cells: HashMap::new() }
    }

    fn cell(&self, start: [i64; 3]) -> [i64; 3] {
        start.map(|v| v.div_euclid((self.min_distance.ceil() as i64).max(1)))
    }

    fn add(&mut self, start: [i64; 3]) {
        self.cells.entry(self.cell(start)).or_default().push(start);
    }

    /// The distance to the nearest earlier start, if it is below the minimum.
    fn nearest(&self, start: [i64; 3]) -> f64 {
        let mut nearest = f64::INFINITY;
        let [z, y, x] = self.cell(start);
        for at in (0..27).map(|i| [z + i / 9 - 1, y + i / 3 % 3 - 1, x + i % 3 - 1]) {
            for other in self.cells.get(&at).into_iter().flatten() {
                let square: f64 =
                    (0..3).map(|a| ((start[a] - other[a]) as f64).powi(2)).sum::<f64>();
                nearest = nearest.min(square.sqrt());
            }
        }
        nearest
    }

    fn are_distant(&self, start: [i64; 3]) -> bool {
        self.min_distance == 0.0 || self.nearest(start) >= self.min_distance
    }

    fn degree(&self, start: [i64; 3]) -> f64 {
        if self.min_distance == 0.0 {
            1.0
        } else {
            (self.nearest(start) / self.min_distance).min(1.0)
        }
    }
}
