//! Opens every subject of a queue before an epoch is planned, so that what is known not to work is
//! said when the queue is made.
//!
//! # Invariants
//! - No voxel is read, except where a volume has no label counts or sums of weights.
//! - Damage is not an error here: the patch that meets it reports it.

use std::collections::HashMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::batch_layout::BatchLayout;
use super::options::QueueVolume;
use super::sampler::Sampler;
use super::subject_cache::{OpenSubject, in_subject};
use crate::sample::{Lack, OnMissing};
use crate::sys::executor::Executor;
use crate::{Dataset, Error, Fault, Result};

/// The subjects of a queue, while it is built.
pub(super) struct Survey {
    /// Names and patches of the subjects that are read, in the order of the options.
    pub(super) listed: Vec<(Arc<str>, u64)>,
    pub(super) opened: HashMap<Arc<str>, Arc<OpenSubject>>,
    /// Subjects in which the sampler can draw no patch, and why.
    pub(super) missing: Vec<(Arc<str>, String)>,
}

/// What is surveyed.
pub(super) struct Surveyor<'a> {
    pub(super) dataset: &'a Dataset,
    pub(super) volumes: &'a [QueueVolume],
    pub(super) sampler: &'a Sampler,
    pub(super) on_missing: OnMissing,
}

/// What is known of one subject.
struct Finding {
    lack: Option<Lack>,
    opened: Result<Arc<OpenSubject>>,
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
        let findings: Vec<Finding> = if threads == 1 || names.len() < 2 {
            names.iter().map(|name| self.find(name)).collect()
        } else {
            let find_all = || names.par_iter().map(|name| self.find(name)).collect();
            Executor::new(Some(threads)).install(find_all)?
        };
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
        let opened = self.opened(&names, findings)?;
        Ok(Survey { listed: named, opened, missing })
    }

    fn find(&self, name: &Arc<str>) -> Finding {
        let subject = match self.dataset.subject(name) {
            Ok(subject) => subject,
            Err(error) => return Finding { lack: None, opened: Err(error) },
        };
        let lack = match self.sampler {
            Sampler::Random(sampler) => sampler.lack(&subject),
            Sampler::Grid(_) => Ok(None),
        };
        match lack {
            Err(error) => Finding { lack: None, opened: Err(error) },
            Ok(lack) => {
                let opened = OpenSubject::of(subject, self.volumes, self.sampler).map(Arc::new);
                Finding { lack, opened }
            }
        }
    }

    /// The subjects that can be opened; the errors of others that the caller can remedy.
    fn opened(
        &self,
        names: &[Arc<str>],
        findings: Vec<Finding>,
    ) -> Result<HashMap<Arc<str>, Arc<OpenSubject>>> {
        let is_skipped =
            |finding: &Finding| finding.lack.is_some() && self.on_missing == OnMissing::Skip;
        let read = names.iter().zip(findings).filter(|(_, finding)| !is_skipped(finding));
        let (mut opened, mut errors) = (HashMap::new(), Vec::new());
        for (i, (name, finding)) in read.enumerate() {
            let is_needed = i == 0 || matches!(self.sampler, Sampler::Grid(_));
            match finding.opened {
                Ok(subject) => drop(opened.insert(name.clone(), subject)),
                Err(error) if is_needed || error.fault() == Fault::Caller => {
                    errors.push(in_subject(name, error));
                }
                Err(_) => {}
            }
        }
        all_or_errors(opened, errors)
    }
}

/// Checks that the volumes of all subjects fit into one batch.
///
/// # Errors
/// [`Error::Unsupported`], in [`Error::InSubject`].
pub(super) fn check_layout(survey: &Survey, layout: &BatchLayout) -> Result<()> {
    let mut errors = Vec::new();
    let mut checked: Vec<&Arc<str>> = survey.opened.keys().collect();
    checked.sort_unstable();
    for name in checked {
        if let Err(error) = survey.opened[name].check(layout) {
            errors.push(in_subject(name, error));
        }
    }
    all_or_errors((), errors)
}

/// `found` unless there are errors.
fn all_or_errors<T>(found: T, mut errors: Vec<Error>) -> Result<T> {
    match errors.len() {
        0 => Ok(found),
        1 => Err(errors.remove(0)),
        _ => Err(Error::Several { errors }),
    }
}
