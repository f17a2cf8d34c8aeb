//! Draws the subject of each draw of an epoch.
//!
//! # Invariants
//! - The subject of draw k is a pure function of (seed, epoch, k) and the list of subjects.

use super::random::{Epoch, RandomStream, StreamKey, sample_numbers};
use crate::{Dataset, Error, Result};

/// How likely each subject is.
///
/// ```
/// use voxquarry::SubjectWeights;
///
/// let weights = SubjectWeights::Named(vec![("case01".into(), 2.0), ("case02".into(), 1.0)]);
/// assert_ne!(weights, SubjectWeights::default());
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum SubjectWeights {
    /// All subjects are equally likely.
    #[default]
    Equal,
    /// By the number of voxels `(z, y, x)`, so that every voxel of the dataset is equally likely.
    Volume,
    /// By name; a subject that is not listed is never drawn.
    Named(Vec<(String, f64)>),
}

/// Draws subjects with replacement.
///
/// ```
/// use voxquarry::{Dataset, Epoch, OpenOptions, SubjectSampler, SubjectWeights};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let sampler = SubjectSampler::new(&dataset, &SubjectWeights::Volume)?;
/// let counts = sampler.counts(Epoch { seed: 42, epoch: 0 }, 100)?;
/// assert_eq!(counts.iter().map(|(_, draws)| draws).sum::<u64>(), 100);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectSampler {
    subjects: Vec<String>,
    cumulative: Vec<f64>,
}

impl SubjectSampler {
    /// A sampler over the subjects of `dataset`, in their order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for an empty dataset, or weights that are negative, not finite or
    /// all zero; [`Error::NotFound`] for a name that is no subject; errors of opening a subject.
    pub fn new(dataset: &Dataset, weights: &SubjectWeights) -> Result<Self> {
        let subjects = dataset.subjects().to_vec();
        let weights = match weights {
            SubjectWeights::Equal => vec![1.0; subjects.len()],
            SubjectWeights::Volume => {
                let voxels = |name: &String| -> Result<f64> {
                    Ok(dataset.subject(name)?.size()?.iter().map(|&n| n as f64).product())
                };
                subjects.iter().map(voxels).collect::<Result<_>>()?
            }
            SubjectWeights::Named(named) => named_weights(dataset, named)?,
        };
        let mut sum = 0.0;
        let accumulate = |weight: f64| {
            sum += weight;
            sum
        };
        let cumulative: Vec<f64> = weights.into_iter().map(accumulate).collect();
        if sum == 0.0 || !sum.is_finite() {
            return Err(Error::invalid("sum of the weights", sum, "a finite number above 0"));
        }
        Ok(Self { subjects, cumulative })
    }

    /// The name of the subject of draw `k`.
    pub fn subject(&self, epoch: Epoch, k: u64) -> &str {
        &self.subjects[self.index(epoch, k)]
    }

    /// How many of the draws `0..draws` each subject gets, in the order of the dataset; subjects
    /// without any are left out.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for more than 2³² draws.
    pub fn counts(&self, epoch: Epoch, draws: u64) -> Result<Vec<(String, u64)>> {
        let mut counts = vec![0; self.subjects.len()];
        for k in sample_numbers(0, draws)? {
            counts[self.index(epoch, k)] += 1;
        }
        let named = self.subjects.iter().cloned().zip(counts);
        Ok(named.filter(|subject| subject.1 > 0).collect())
    }

    fn index(&self, epoch: Epoch, k: u64) -> usize {
        // No subject has an empty name, so that no sample shares this stream.
        let key = StreamKey { epoch, subject: "", n: k, attempt: 0 };
        RandomStream::new(&key).pick(&self.cumulative)
    }
}

/// The weight of each subject, 0 for those that are not listed.
fn named_weights(dataset: &Dataset, named: &[(String, f64)]) -> Result<Vec<f64>> {
    let subjects = dataset.subjects();
    let mut weights = vec![0.0; subjects.len()];
    for (name, weight) in named {
        let Some(i) = subjects.iter().position(|subject| subject == name) else {
            dataset.subject(name)?;
            let expected = "a subject that the dataset had when it was opened";
            return Err(Error::invalid("subject", format!("{name:?}"), expected));
        };
        if !(0.0..f64::INFINITY).contains(weight) {
            let argument = format!("weight of subject {name:?}");
            return Err(Error::invalid(argument, weight, "a finite number, 0 or more"));
        }
        weights[i] = *weight;
    }
    Ok(weights)
}
