//! What the patches of a sampler have to fulfil: those that do not are drawn again.
//!
//! Attempt a of sample n has a random stream of its own, so the sample stays a pure function of (seed, epoch, subject, n): it
//! is the first attempt that fulfils everything. With a distance between samples it depends on the samples before it too:
//! these are then drawn first, so that sample n costs n + 1 samples.
//!
//! # Invariants
//! - At most the given number of attempts is made for a sample, and at most [`MAX_DISTANT`] samples of a subject keep a distance.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use super::label::{foreground_of, label_map};
use super::places::{self, Places};
use super::random::Stream;
use super::tally::{Class, Tallies};
use super::{Epoch, PatchLocation, RandomSampler};
use crate::{Error, Region, Result, Subject, Volume};

/// Samples of a subject in an epoch that may keep a distance: each is compared with those before it.
const MAX_DISTANT: u64 = 1 << 16;

/// What a patch has to fulfil; by default nothing.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Constraints {
    /// At least this part of its voxels, in `0.0..=1.0`, is above 0 in a label map; voxels outside the volume are not.
    pub min_foreground: Option<f64>,
    /// The label map of `min_foreground`; `None`: the subject's first.
    pub labels: Option<String>,
    /// All its voxels lie inside the volume and above 0 in this mask.
    pub inside: Option<String>,
    /// At least so many voxels, Euclidean, lie between its start and the starts of the subject's earlier samples in the epoch.
    pub min_distance: Option<f64>,
}

/// What is done when no attempt fulfils everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// An error that says so.
    #[default]
    Error,
    /// The attempt whose worst constraint is fulfilled best; of equals the first.
    Best,
}

/// A random sampler whose patches fulfil something.
#[derive(Clone, Debug, PartialEq)]
pub struct ConstrainedSampler {
    base: RandomSampler,
    constraints: Constraints,
    attempts: u32,
    on_failure: OnFailure,
}

impl ConstrainedSampler {
    /// A sampler that draws from `base` until the constraints are fulfilled, at most `attempts` times.
    ///
    /// # Errors
    /// [`Error::Usage`] for numbers that cannot be, no attempt, or a sampler that has constraints already.
    pub fn new(
        base: RandomSampler,
        constraints: Constraints,
        attempts: u32,
        on_failure: OnFailure,
    ) -> Result<Self> {
        if matches!(base, RandomSampler::Constrained(_)) {
            return Err(Error::usage(
                "the sampler has constraints already: give all of them to it",
            ));
        }
        if !(1..=1_000_000).contains(&attempts) {
            return Err(Error::usage(format!("attempts {attempts}: expected 1 to 1,000,000")));
        }
        if let Some(part) = constraints.min_foreground.filter(|f| !(0.0..=1.0).contains(f)) {
            return Err(Error::usage(format!("min_foreground {part}: expected 0.0 to 1.0")));
        }
        let is_distance = |d: &f64| (0.0..f64::from(u32::MAX)).contains(d);
        if let Some(distance) = constraints.min_distance.filter(|d| !is_distance(d)) {
            return Err(Error::usage(format!(
                "min_distance {distance}: expected voxels, 0 or more and below 2³²"
            )));
        }
        Ok(Self { base, constraints, attempts, on_failure })
    }

    /// The sampler that is drawn from.
    pub fn base(&self) -> &RandomSampler {
        &self.base
    }

    /// What patches have to fulfil.
    pub fn constraints(&self) -> &Constraints {
        &self.constraints
    }

    /// Attempts that are made for a sample.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// What is done when all of them fail.
    pub fn on_failure(&self) -> OnFailure {
        self.on_failure
    }

    /// Samples `first .. first + n` of `subject` in that epoch.
    ///
    /// # Errors
    /// As the sampler that is drawn from; [`Error::Usage`] where no attempt fulfils everything, or for samples beyond 65,536
    /// that keep a distance.
    pub fn locations(
        &self,
        subject: &Subject,
        epoch: Epoch,
        first: u64,
        n: u64,
    ) -> Result<Vec<PatchLocation>> {
        places::locations(&self.places(subject)?, subject, epoch, first, n)
    }

    pub(super) fn places(&self, subject: &Subject) -> Result<Places> {
        let base = self.base.places(subject)?;
        let voxels = base.patch_size().iter().map(|&p| p as f64).product::<f64>();
        let mut filled = Vec::new();
        let mut demand = |volume: Volume, part: f64| -> Result<()> {
            let tallies = Tallies::of(&volume, Region::whole(volume.size()))?;
            let set = foreground_of(&volume);
            filled.push(Filled { volume, tallies, set, least: (part * voxels).ceil() as u64 });
            Ok(())
        };
        if let Some(part) = self.constraints.min_foreground {
            demand(label_map(subject, self.constraints.labels.as_deref())?, part)?;
        }
        if let Some(mask) = &self.constraints.inside {
            demand(subject.volume(mask)?, 1.0)?;
        }
        Ok(Places::Constrained(Box::new(ConstrainedPlaces {
            base,
            filled,
            min_distance: self.constraints.min_distance.filter(|&d| d > 0.0),
            attempts: self.attempts,
            on_failure: self.on_failure,
        })))
    }
}

/// A [`ConstrainedSampler`] over one subject.
pub(super) struct ConstrainedPlaces {
    pub(super) base: Places,
    filled: Vec<Filled>,
    min_distance: Option<f64>,
    attempts: u32,
    on_failure: OnFailure,
}

/// So many voxels of a patch, or more, are of these classes.
struct Filled {
    volume: Volume,
    tallies: Arc<Tallies>,
    set: Vec<Class>,
    least: u64,
}

impl Filled {
    fn holds(&self, region: &Region) -> Result<bool> {
        let decided = |least, most| least >= self.least || most < self.least;
        let (least, _) = self.tallies.voxels_in(&self.volume, &self.set, region, decided)?;
        Ok(least >= self.least)
    }

    /// How far it is fulfilled, in `0.0..=1.0`.
    fn degree(&self, region: &Region) -> Result<f64> {
        let (found, _) =
            self.tallies.voxels_in(&self.volume, &self.set, region, |least, most| least == most)?;
        Ok((found as f64 / self.least.max(1) as f64).min(1.0))
    }
}

impl ConstrainedPlaces {
    /// Whether a sample depends on those before it.
    pub(super) fn depends_on_others(&self) -> bool {
        self.min_distance.is_some()
    }

    /// A sample that does not depend on others.
    pub(super) fn start(&self, stream: &Stream<'_>) -> Result<[i64; 3]> {
        self.attempt(stream, &Neighbours::none())
    }

    /// Samples of those numbers, after all before them.
    pub(super) fn starts<'s>(
        &self,
        stream: &dyn Fn(u64) -> Stream<'s>,
        numbers: Range<u64>,
    ) -> Result<Vec<[i64; 3]>> {
        if numbers.end > MAX_DISTANT {
            return Err(Error::usage(format!(
                "samples up to {}: with a min_distance a subject has at most {MAX_DISTANT} in an epoch",
                numbers.end
            )));
        }
        let mut neighbours =
            Neighbours { reach: self.min_distance.unwrap_or(0.0), ..Neighbours::none() };
        let mut starts = Vec::new();
        for n in 0..numbers.end {
            let start = self.attempt(&stream(n), &neighbours)?;
            neighbours.add(start);
            if n >= numbers.start {
                starts.push(start);
            }
        }
        Ok(starts)
    }

    fn attempt(&self, stream: &Stream<'_>, neighbours: &Neighbours) -> Result<[i64; 3]> {
        let drawn = |attempt| self.base.start(&Stream { attempt, ..*stream });
        let region = |start| Region::new(start, self.base.patch_size());
        for attempt in 0..self.attempts {
            let start = drawn(attempt)?;
            let mut holds = neighbours.are_distant(start);
            for filled in &self.filled {
                holds = holds && filled.holds(&region(start))?;
            }
            if holds {
                return Ok(start);
            }
        }
        if self.on_failure == OnFailure::Error {
            return Err(Error::usage(format!(
                "sample {} of subject {:?}: none of {} attempts fulfils the constraints: ask for less, allow more attempts, or take \
                 the best (on_failure=\"best\")",
                stream.n, stream.subject, self.attempts
            )));
        }
        let mut best: Option<(f64, [i64; 3])> = None;
        for attempt in 0..self.attempts {
            let start = drawn(attempt)?;
            let mut degree = neighbours.degree(start);
            for filled in &self.filled {
                degree = degree.min(filled.degree(&region(start))?);
            }
            if best.is_none_or(|best| degree > best.0) {
                best = Some((degree, start));
            }
        }
        Ok(best.expect("at least one attempt").1)
    }
}

/// The starts of earlier samples, by the cells of a grid as wide as the distance that is kept from them.
struct Neighbours {
    reach: f64,
    cells: HashMap<[i64; 3], Vec<[i64; 3]>>,
}

impl Neighbours {
    fn none() -> Self {
        Self { reach: 0.0, cells: HashMap::new() }
    }

    fn cell(&self, start: [i64; 3]) -> [i64; 3] {
        start.map(|v| v.div_euclid((self.reach.ceil() as i64).max(1)))
    }

    fn add(&mut self, start: [i64; 3]) {
        self.cells.entry(self.cell(start)).or_default().push(start);
    }

    /// The distance to the nearest earlier start, as far as it is below the reach.
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
        self.reach == 0.0 || self.nearest(start) >= self.reach
    }

    fn degree(&self, start: [i64; 3]) -> f64 {
        if self.reach == 0.0 { 1.0 } else { (self.nearest(start) / self.reach).min(1.0) }
    }
}
