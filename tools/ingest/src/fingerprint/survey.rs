//! The subjects and volumes that a fingerprint measures, and what comes out of them.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use voxquarry::format::attributes::Kind;
use voxquarry::{Dataset, Error, Result, Subject};

use super::blocks::MeasuredSubject;
use super::found::{Fingerprint, FingerprintOptions, ForegroundValues, LabelTotal};
use super::passes::{FirstPass, SurveyedSubject};
use crate::jobs::Jobs;
use crate::observer::WatchedObserver;

/// Memory of the subjects that are read side by side.
const MEMORY_BYTES: u64 = 512 << 20;

/// What is measured.
pub(super) struct Survey {
    pub(super) subjects: Vec<SurveyedSubject>,
    channel_names: Vec<String>,
    threads: usize,
}

impl Survey {
    /// Opens all volumes.
    ///
    /// # Errors
    /// As [`super::fingerprint()`].
    pub(super) fn new(dataset: &Dataset, options: &FingerprintOptions) -> Result<Self> {
        let names = match &options.subjects[..] {
            [] => dataset.subjects(),
            names => names,
        };
        let subjects: Vec<Subject> =
            names.iter().map(|name| dataset.subject(name)).collect::<Result<_>>()?;
        let Some(first) = subjects.first() else {
            return Err(Error::unsupported("the store has no subject", "ingest one"));
        };
        let images = match &options.volumes[..] {
            [] => of_kind(first, Kind::Image)?,
            names => names.to_vec(),
        };
        let labels = match &options.labels {
            None => only_labels(&subjects)?,
            named => named.clone(),
        };
        let mut surveyed = Vec::new();
        for subject in &subjects {
            let lacking = images.iter().find(|name| !subject.volumes().contains(name));
            if images.is_empty() || lacking.is_some() {
                let name = lacking.map_or("an image", |name| name);
                let reason = format!("subject {:?} has no volume {name:?}", subject.name());
                return Err(Error::unsupported(reason, "name images that all subjects have"));
            }
            let measured = MeasuredSubject::open(subject, &images, labels.as_deref())?;
            surveyed.push(SurveyedSubject { name: subject.name().to_owned(), measured });
        }
        if let Some(name) = &options.labels
            && surveyed.iter().all(|subject| subject.measured.labels.is_none())
        {
            let expected = "a label map of at least one subject";
            return Err(Error::invalid("labels", format!("{name:?}"), expected));
        }
        let channel_names = surveyed[0].measured.channel_names();
        let differs = |s: &&SurveyedSubject| s.measured.channel_names() != channel_names;
        if let Some(other) = surveyed.iter().find(differs) {
            let reason = format!(
                "the images of subject {:?} have {} channels, those of {:?} have {}",
                other.name,
                other.measured.channel_count(),
                surveyed[0].name,
                channel_names.len()
            );
            return Err(Error::unsupported(reason, "name subjects, or images that agree"));
        }
        let threads = surveyed[0].measured.images[0].threads();
        Ok(Self { subjects: surveyed, channel_names, threads })
    }

    /// Bytes of the voxels of all images.
    pub(super) fn bytes(&self) -> u64 {
        self.subjects.iter().map(|subject| subject.measured.bytes()).sum()
    }

    /// Measures the subjects side by side; `take` gets what was found of each, by its number.
    ///
    /// # Errors
    /// The first of `work`.
    pub(super) fn side_by_side<T: Send>(
        &self,
        observer: &WatchedObserver<'_>,
        work: impl Fn(&SurveyedSubject) -> Result<T> + Sync,
        mut take: impl FnMut(usize, T),
    ) -> Result<()> {
        let costs: Vec<u64> = self.subjects.iter().map(|s| s.measured.memory_bytes()).collect();
        let mut failed = None;
        let each = |i: usize, found: Result<T>| match found {
            Ok(found) => {
                take(i, found);
                ControlFlow::Continue(())
            }
            Err(error) => {
                failed.get_or_insert(error);
                ControlFlow::Break(())
            }
        };
        let jobs = Jobs { limit: self.threads, budget_bytes: MEMORY_BYTES };
        jobs.run(&costs, |i| work(&self.subjects[i]), each, || observer.look());
        failed.map_or(Ok(()), Err)
    }

    /// The fingerprint, from what the first pass found, and the values of the foreground.
    ///
    /// # Errors
    /// Those of reading label counts.
    pub(super) fn fingerprint(
        &self,
        first: &[FirstPass],
        values: BTreeMap<usize, ForegroundValues>,
    ) -> Result<Fingerprint> {
        let (mut spacings, mut shapes, mut sizes) = (Vec::new(), Vec::new(), Vec::new());
        let mut labels: BTreeMap<i64, LabelTotal> = BTreeMap::new();
        for (subject, found) in self.subjects.iter().zip(first) {
            let (measured, size) = (&subject.measured, subject.measured.size());
            let cropped = found.cropped.map_or(size, |region| region.size);
            let voxels = |size: [usize; 3]| size.iter().map(|&n| n as f64).product::<f64>();
            spacings.push(measured.images[0].spacing_mm());
            shapes.push(cropped);
            sizes.push(voxels(cropped) / voxels(size));
            let Some(map) = &measured.labels else { continue };
            for (label, voxels) in map.label_counts()?.totals() {
                let total = labels.entry(label).or_default();
                total.subjects += 1;
                total.voxels += voxels;
                let named = map.labels().iter().find(|named| named.ids == [label]);
                total.name = total.name.take().or_else(|| named.map(|named| named.name.clone()));
            }
        }
        Ok(Fingerprint {
            subjects: self.subjects.iter().map(|subject| subject.name.clone()).collect(),
            spacings,
            shapes_after_crop: shapes,
            median_relative_size_after_cropping: median(sizes),
            foreground_intensity_properties_per_channel: values,
            channel_names: self.channel_names.iter().cloned().enumerate().collect(),
            labels,
        })
    }
}

/// The names of the volumes of a kind.
fn of_kind(subject: &Subject, kind: Kind) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for name in subject.volumes() {
        if subject.volume(name)?.kind() == kind {
            names.push(name.clone());
        }
    }
    Ok(names)
}

/// The name of the only label map that subjects have, if they have any.
fn only_labels(subjects: &[Subject]) -> Result<Option<String>> {
    let mut names = BTreeSet::new();
    for subject in subjects {
        names.extend(of_kind(subject, Kind::Labels)?);
    }
    if names.len() > 1 {
        let listed = names.into_iter().collect::<Vec<_>>().join(", ");
        let reason = format!("several label maps could be the foreground: {listed}");
        return Err(Error::unsupported(reason, "name one as labels"));
    }
    Ok(names.pop_first())
}

/// The median of some numbers.
fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let n = numbers.len();
    f64::midpoint(numbers[(n - 1) / 2], numbers[n / 2])
}
