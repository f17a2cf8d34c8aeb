//! The two passes over the voxels of one subject.

use voxquarry::{Region, Result};

use super::blocks::{Block, MeasuredSubject};
use super::found::ForegroundValues;
use super::quantiles::{Coarse, Fine};
use crate::change::{Foreground, Moments};
use crate::observer::{Event, Observer, check_interrupt};

/// The percentiles of a fingerprint.
pub(super) const PERCENTILES: [f64; 3] = [0.5, 50.0, 99.5];

/// A subject and the volumes of it that are measured.
pub(super) struct SurveyedSubject {
    pub(super) name: String,
    pub(super) measured: MeasuredSubject,
}

/// What the first pass over a subject finds.
pub(super) struct FirstPass {
    /// The box of the voxels that are not 0 in all images.
    pub(super) cropped: Option<Region>,
    pub(super) channels: Vec<ChannelValues>,
}

/// Finite values of the foreground of a channel.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelValues {
    pub(super) coarse: Coarse,
    moments: Moments,
    range: Option<(f64, f64)>,
}

impl ChannelValues {
    fn take(&mut self, values: &[f64]) {
        for &value in values {
            self.coarse.take(value);
            let (least, most) = self.range.unwrap_or((value, value));
            self.range = Some((least.min(value), most.max(value)));
        }
        self.moments.push(values);
    }

    /// Adds the moments and the range of others, not their counts.
    pub(super) fn merge(&mut self, other: &Self) {
        self.moments.merge(&other.moments);
        if let Some((low, high)) = other.range {
            let (least, most) = self.range.unwrap_or((low, high));
            self.range = Some((least.min(low), most.max(high)));
        }
    }

    /// The values as a fingerprint has them; there is at least one.
    pub(super) fn properties(&self, fine: &Fine) -> ForegroundValues {
        let percentiles = self.coarse.percentiles(&PERCENTILES, fine);
        let (min, max) = self.range.unwrap_or_default();
        ForegroundValues {
            voxels: self.moments.count,
            mean: self.moments.mean,
            median: percentiles[1],
            std: self.moments.std(),
            min,
            max,
            percentile_00_5: percentiles[0],
            percentile_99_5: percentiles[2],
        }
    }
}

impl SurveyedSubject {
    /// Counts the values of the foreground, and finds what is not 0.
    ///
    /// # Errors
    /// Those of reading; [`voxquarry::Error::Interrupted`].
    pub(super) fn first(&self, observer: &dyn Observer) -> Result<FirstPass> {
        observer.event(Event::Measuring { subject: &self.name });
        let mut box_of = Foreground::default();
        let mut channels = vec![ChannelValues::default(); self.measured.channel_count()];
        let mut inside = Vec::new();
        self.measured.blocks(false, |block| {
            check_interrupt(observer)?;
            box_of.take_values(block.values, &block.region);
            foreground_of(block, &mut inside);
            channels[block.channel].take(&inside);
            observer.event(Event::Encoded(block.bytes));
            Ok(())
        })?;
        Ok(FirstPass { cropped: box_of.region(), channels })
    }

    /// Counts the values that the first pass left open.
    ///
    /// # Errors
    /// As [`SurveyedSubject::first`].
    pub(super) fn second(
        &self,
        mut fine: Vec<Option<Fine>>,
        observer: &dyn Observer,
    ) -> Result<Vec<Option<Fine>>> {
        observer.event(Event::Measuring { subject: &self.name });
        let (mut inside, mut done) = (Vec::new(), 0);
        self.measured.blocks(true, |block| {
            check_interrupt(observer)?;
            foreground_of(block, &mut inside);
            if let Some(fine) = &mut fine[block.channel] {
                for &value in &inside {
                    fine.take(value);
                }
            }
            done += block.bytes;
            observer.event(Event::Encoded(block.bytes));
            Ok(())
        })?;
        // Blocks without foreground are not read.
        observer.event(Event::Encoded(self.measured.bytes() - done));
        Ok(fine)
    }
}

/// The finite values of the foreground of a block.
fn foreground_of(block: &Block<'_>, inside: &mut Vec<f64>) {
    inside.clear();
    let labelled = block.values.iter().zip(block.foreground);
    inside.extend(labelled.filter(|(v, is_there)| **is_there && v.is_finite()).map(|(v, _)| *v));
}
