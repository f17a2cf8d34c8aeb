//! What a subject lacks, so that a random sampler can draw no patch in it.
//!
//! Not here: how each sampler finds it out, from label counts and sums of weights.

use crate::{Error, Result};

/// What is done with a subject in which a random sampler can draw no patch, because it lacks the
/// label map, all labels of a probability above 0, or all weight, or because no patch of it can
/// meet a constraint.
///
/// ```
/// use voxquarry::{LabelSampler, OnMissing, Queue, QueueOptions};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = voxquarry::open(store)?;
/// let sampler = LabelSampler::new([2, 4, 4], "labels-i32")?;
/// let options = QueueOptions::default().volumes(["u8"]).on_missing(OnMissing::Skip);
/// let queue = Queue::new(&dataset, sampler, options)?;
/// assert!(!queue.is_empty());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum OnMissing {
    /// [`Error::CannotSample`], with all such subjects.
    #[default]
    Error,
    /// The subject is left out.
    Skip,
    /// Its patches are drawn as
    /// [`RandomSampler::background`](crate::RandomSampler::background) draws them.
    Background,
}

/// Why no patch can be drawn from a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Lack {
    pub(crate) reason: String,
    /// Whether another border rule would do.
    pub(super) is_near_border: bool,
    /// Whether larger patches would do.
    pub(super) is_too_large: bool,
}

impl Lack {
    pub(crate) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_near_border: false, is_too_large: false }
    }
}

impl OnMissing {
    /// Refuses the subjects of `missing`, of `subjects` in all, unless it says what else is done
    /// with them.
    ///
    /// # Errors
    /// [`Error::CannotSample`].
    pub(crate) fn decide(self, missing: &[(String, Lack)], subjects: usize) -> Result<()> {
        let is_nothing_left = self == Self::Skip && missing.len() == subjects;
        if missing.is_empty()
            || self == Self::Background
            || (self == Self::Skip && !is_nothing_left)
        {
            return Ok(());
        }
        Err(cannot_sample(missing, subjects))
    }
}

fn cannot_sample(missing: &[(String, Lack)], subjects: usize) -> Error {
    const SHOWN: usize = 10;
    let shown = missing.iter().take(SHOWN);
    let mut lines: Vec<_> = shown.map(|(name, lack)| format!("{name}: {}", lack.reason)).collect();
    if missing.len() > SHOWN {
        lines.push(format!("… and {} more", missing.len() - SHOWN));
    }
    Error::CannotSample {
        found: format!("{} of {subjects} subjects ({})", missing.len(), lines.join("; ")),
        is_every: missing.len() == subjects,
        is_near_border: missing.iter().all(|(_, lack)| lack.is_near_border),
        is_too_large: missing.iter().all(|(_, lack)| lack.is_too_large),
    }
}
