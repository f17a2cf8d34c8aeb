//! Which subject each draw of an epoch is taken from.
//!
//! # Invariants
//! - The subject of draw k is a pure function of (seed, epoch, k) and the list of subjects.

use super::Epoch;
use super::random::{Draws, Stream, sample_numbers};
use crate::{Dataset, Error, Result};

/// How likely each subject is.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum SubjectWeights {
    /// All alike.
    #[default]
    Equal,
    /// By its number of voxels `(z, y, x)`: so that every voxel of the data set is equally likely.
    Volume,
    /// By name; a subject that is not named is never drawn.
    Named(Vec<(String, f64)>),
}

/// Draws subjects with replacement.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectSampler {
    subjects: Vec<String>,
    cumulated: Vec<f64>,
}

impl SubjectSampler {
    /// A sampler over the subjects of `dataset`, in their order.
    ///
    /// # Errors
    /// [`Error::Usage`] for an empty data set, weights that are negative, not finite or all zero; [`Error::NotFound`] for a
    /// name that is no subject; what opening a subject returns.
    pub fn new(dataset: &Dataset, weights: &SubjectWeights) -> Result<Self> {
        let subjects = dataset.subjects().to_vec();
        let mut of_each = vec![1.0; subjects.len()];
        match weights {
            SubjectWeights::Equal => {}
            SubjectWeights::Volume => {
                for (name, weight) in subjects.iter().zip(&mut of_each) {
                    let size = dataset.subject(name)?.size()?;
                    *weight = size.iter().map(|&n| n as f64).product();
                }
            }
            SubjectWeights::Named(named) => {
                of_each.fill(0.0);
                for (name, weight) in named {
                    let place = subjects.iter().position(|subject| subject == name);
                    let Some(place) = place else {
                        dataset.subject(name)?;
                        return Err(Error::usage(format!("no subject {name:?}")));
                    };
                    if !(0.0..f64::INFINITY).contains(weight) {
                        return Err(Error::usage(format!(
                            "weight {weight} of subject {name:?}: expected a finite number, 0 or more"
                        )));
                    }
                    of_each[place] = *weight;
                }
            }
        }
        let mut sum = 0.0;
        let cumulate = |weight: f64| {
            sum += weight;
            sum
        };
        let cumulated: Vec<f64> = of_each.into_iter().map(cumulate).collect();
        if sum == 0.0 || !sum.is_finite() {
            return Err(Error::usage(format!(
                "the weights of {} subjects sum to {sum}: expected a finite number above 0",
                subjects.len()
            )));
        }
        Ok(Self { subjects, cumulated })
    }

    /// The subject of draw `k`.
    pub fn subject(&self, epoch: Epoch, k: u64) -> &str {
        &self.subjects[self.place(epoch, k)]
    }

    fn place(&self, epoch: Epoch, k: u64) -> usize {
        // No subject has an empty name, so this stream is nobody else's.
        Draws::new(&Stream { epoch, subject: "", n: k, attempt: 0 }).pick(&self.cumulated)
    }

    /// How many of the draws `0 .. draws` each subject gets, in the data set's order; subjects without any are left out.
    ///
    /// # Errors
    /// [`Error::Usage`] for more than 2³² draws.
    pub fn counts(&self, epoch: Epoch, draws: u64) -> Result<Vec<(String, u64)>> {
        let mut counts = vec![0; self.subjects.len()];
        for k in sample_numbers(0, draws)? {
            counts[self.place(epoch, k)] += 1;
        }
        let named = self.subjects.iter().cloned().zip(counts);
        Ok(named.filter(|subject| subject.1 > 0).collect())
    }
}
