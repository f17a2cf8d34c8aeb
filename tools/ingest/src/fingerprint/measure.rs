//! Measures all subjects: two passes, and what comes out of both.

use voxquarry::{Dataset, Result};

use super::found::{Fingerprint, FingerprintOptions};
use super::passes::{ChannelValues, FirstPass, PERCENTILES, SurveyedSubject};
use super::quantiles::Fine;
use super::survey::Survey;
use crate::observer::{Event, Observer, WatchedObserver};

/// Measures all subjects of a dataset, reading each twice; subjects are read side by side.
///
/// # Errors
/// [`Error::Unsupported`] if subjects lack an image, if several label maps could be meant, or if
/// there is no subject; [`Error::Interrupted`]; those of reading.
///
/// [`Error::Unsupported`]: voxquarry::Error::Unsupported
/// [`Error::Interrupted`]: voxquarry::Error::Interrupted
pub fn fingerprint(
    dataset: &Dataset,
    options: &FingerprintOptions,
    observer: &dyn Observer,
) -> Result<Fingerprint> {
    let survey = Survey::new(dataset, options)?;
    let watched = WatchedObserver::new(observer);
    let (subjects, bytes) = (survey.subjects.len(), 2 * survey.bytes());
    observer.event(Event::Begin { subjects, skipped: 0, bytes });
    let mut first: Vec<Option<FirstPass>> = survey.subjects.iter().map(|_| None).collect();
    let mut channels: Vec<ChannelValues> = Vec::new();
    survey.side_by_side(
        &watched,
        |subject| subject.first(&watched),
        |i, mut found| {
            // Counts are the same in whatever order; sums are not.
            channels.resize_with(found.channels.len(), ChannelValues::default);
            for (sum, own) in channels.iter_mut().zip(&mut found.channels) {
                sum.coarse.merge(&std::mem::take(&mut own.coarse));
            }
            first[i] = Some(found);
        },
    )?;
    let first: Vec<FirstPass> = first.into_iter().flatten().collect();
    for found in &first {
        channels.iter_mut().zip(&found.channels).for_each(|(sum, own)| sum.merge(own));
    }
    let mut fine: Vec<_> = channels.iter().map(|c| c.coarse.fine(&PERCENTILES)).collect();
    let empty = fine.clone();
    let second = |subject: &SurveyedSubject| subject.second(empty.clone(), &watched);
    survey.side_by_side(&watched, second, |_, found| {
        for (sum, own) in fine.iter_mut().flatten().zip(found.iter().flatten()) {
            sum.merge(own);
        }
    })?;
    let measured = channels.iter().zip(&fine).enumerate();
    let of_channel = |(i, (channel, fine)): (usize, (&ChannelValues, &Option<Fine>))| {
        Some((i, channel.properties(fine.as_ref()?)))
    };
    survey.fingerprint(&first, measured.filter_map(of_channel).collect())
}
