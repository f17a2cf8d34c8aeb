//! Opens every subject of a queue before an epoch is planned, so that what is known not to work is
//! said when the queue is made.
//!
//! # Invariants
//! - No voxel is read, except where a volume has no label counts or sums of weights.
//! - Damage is not an error here: the patch that meets it reports it.
//! - At most [`MAX_SUBJECTS`] stay open; of the others a few numbers are kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::batch_layout::{BatchArray, BatchValues, VolumeFacts};
use super::changes::PatchChanges;
use super::options::QueueVolume;
use super::sampler::Sampler;
use super::subject_cache::{MAX_SUBJECTS, OpenSubject, in_subject};
use crate::sample::{Lack, OnMissing};
use crate::sys::executor::Executor;
use crate::{Dataset, Error, Fault, Result};

/// The subjects of a queue, while it is built.
pub(super) struct Survey {
    /// Names and patches of the subjects that are read, in the order of the options.
    pub(super) listed: Vec<(Arc<str>, u64)>,
    /// What is known of the subjects that can be opened.
    pub(super) facts: HashMap<Arc<str>, SubjectFacts>,
    /// Those that stay open.
    pub(super) opened: Vec<(Arc<str>, Arc<OpenSubject>)>,
    /// Subjects in which the sampler can draw no patch, and why.
    pub(super) missing: Vec<(Arc<str>, String)>,
}

/// What is surveyed.
pub(super) struct Surveyor<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) volumes: &'a [QueueVolume],
    pub(super) sampler: &'a Sampler,
    pub(super) changes: &'a PatchChanges,
    pub(super) on_missing: OnMissing,
}

/// What is known of a subject that is read.
pub(super) struct SubjectFacts {
    pub(super) volumes: Vec<VolumeFacts>,
    /// Patches of its grid, if the sampler is one.
    pub(super) grid_patches: Option<u64>,
}

/// What was found out about one subject.
struct Finding {
    lack: Option<Lack>,
    facts: Result<SubjectFacts>,
    opened: Option<Arc<OpenSubject>>,
}

impl Surveyor<'_> {
    /// Surveys the subjects of `listed` on `threads` threads.
    ///
    /// # Errors
    /// - [`Error::CannotSample`] for subjects in which no patch can be drawn, unless `on_missing`
    ///   says what is done with them.
    /// - [`Error::NotFound`], [`Error::PatchTooLarge`] and others that the caller can remedy, in
    ///   [`Error::InSubject`].
    /// - What the first subject of all, or any subject of a grid, cannot be opened for.
    pub(super) fn survey(&self, listed: Vec<(String, u64)>, threads: usize) -> Result<Survey> {
        let mut numbers: HashMap<Arc<str>, usize> = HashMap::new();
        let mut names: Vec<Arc<str>> = Vec::new();
        let mut named = Vec::with_capacity(listed.len());
        for (name, count) in listed {
            let name: Arc<str> = name.into();
            if !numbers.contains_key(&name) {
                numbers.insert(name.clone(), names.len());
                names.push(name.clone());
            }
            named.push((name, count));
        }
        let kept = AtomicUsize::new(0);
        let find = |(): &mut (), i: usize| Ok(self.find(&names[i], &kept));
        let findings = Executor::new(Some(threads)).map(names.len(), || (), find)?;
        let lacks = names
            .iter()
            .zip(&findings)
            .filter_map(|(name, finding)| Some((name.to_string(), finding.lack.clone()?)));
        let lacks: Vec<(String, Lack)> = lacks.collect();
        self.on_missing.decide(&lacks, names.len())?;
        if self.on_missing == OnMissing::Skip {
            named.retain(|(name, _)| findings[numbers[name]].lack.is_none());
        }
        let missing = lacks.into_iter().map(|(name, lack)| (name.into(), lack.reason)).collect();
        let (facts, opened) = (HashMap::new(), Vec::new());
        let mut survey = Survey { listed: named, facts, opened, missing };
        self.take(&names, findings, &mut survey)?;
        Ok(survey)
    }

    fn find(&self, name: &str, kept: &AtomicUsize) -> Finding {
        let subject = match self.dataset.subject(name) {
            Ok(subject) => subject,
            Err(error) => return Finding { lack: None, facts: Err(error), opened: None },
        };
        let lack = match self.sampler {
            Sampler::Random(sampler) if self.changes.view.is_some() => {
                sampler.of_voxels().map_or(Ok(None), |voxels| voxels.lack(&subject))
            }
            Sampler::Random(sampler) => sampler.lack(&subject),
            Sampler::Grid(_) => Ok(None),
        };
        let lack = match lack {
            Ok(lack) => lack,
            Err(error) => return Finding { lack: None, facts: Err(error), opened: None },
        };
        match OpenSubject::of(subject, self.volumes, self.sampler, self.changes) {
            Ok(open) => {
                let facts =
                    SubjectFacts { volumes: open.facts(), grid_patches: open.grid_patches() };
                let is_kept = kept.fetch_add(1, Ordering::Relaxed) < MAX_SUBJECTS.get();
                Finding { lack, facts: Ok(facts), opened: is_kept.then(|| Arc::new(open)) }
            }
            Err(error) => Finding { lack, facts: Err(error), opened: None },
        }
    }

    /// Takes the facts of the subjects that are read; the errors of others that the caller can
    /// remedy.
    fn take(&self, names: &[Arc<str>], findings: Vec<Finding>, survey: &mut Survey) -> Result<()> {
        let is_skipped =
            |finding: &Finding| finding.lack.is_some() && self.on_missing == OnMissing::Skip;
        let read = names.iter().zip(findings).filter(|(_, finding)| !is_skipped(finding));
        let mut errors = Vec::new();
        for (i, (name, finding)) in read.enumerate() {
            let is_needed = i == 0 || matches!(self.sampler, Sampler::Grid(_));
            match finding.facts {
                Ok(facts) => drop(survey.facts.insert(name.clone(), facts)),
                Err(error) if is_needed || error.fault() == Fault::Caller => {
                    errors.push(in_subject(name, error));
                }
                Err(_) => {}
            }
            survey.opened.extend(finding.opened.map(|open| (name.clone(), open)));
        }
        all_or_errors((), errors)
    }
}

impl Survey {
    /// The arrays of a batch of `volumes`, which all subjects fit into.
    ///
    /// # Errors
    /// [`Error::Unsupported`] or [`Error::InvalidArgument`], in [`Error::InSubject`].
    pub(super) fn arrays(
        &self,
        volumes: &[QueueVolume],
        changes: &PatchChanges,
    ) -> Result<Vec<BatchArray>> {
        let first = self.listed.iter().find_map(|(name, _)| Some((name, self.facts.get(name)?)));
        let Some((first, facts)) = first else { return Ok(Vec::new()) };
        let values = |i: usize| {
            if let Some(dtype) = changes.float_dtype(&volumes[i], facts.volumes[i].kind) {
                return BatchValues::Float(dtype);
            }
            if !changes.is_scaled {
                BatchValues::Stored
            } else if self.facts.values().any(|s| s.volumes[i].is_scaled())
                && !changes.are_spatial()
            {
                BatchValues::Real
            } else {
                BatchValues::RealAsStored
            }
        };
        let array = |(i, volume): (usize, &QueueVolume)| {
            BatchArray::new(&volume.name, &facts.volumes[i], volume.channels.clone(), values(i))
        };
        let arrays = volumes.iter().enumerate().map(array).collect::<Result<Vec<_>>>();
        let arrays = arrays.map_err(|error| in_subject(first, error))?;
        let mut names: Vec<&Arc<str>> = self.facts.keys().collect();
        names.sort_unstable();
        let mut errors = Vec::new();
        for name in names {
            let mut pairs = arrays.iter().zip(&self.facts[name].volumes);
            if let Err(error) = pairs.try_for_each(|(array, facts)| array.check(facts)) {
                errors.push(in_subject(name, error));
            }
        }
        all_or_errors(arrays, errors)
    }
}

/// `found` unless there are errors.
fn all_or_errors<T>(found: T, mut errors: Vec<Error>) -> Result<T> {
    match errors.len() {
        0 => Ok(found),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several { errors }),
    }
}
