//! Draws samples: the trait of every sampler that is bound to one subject, and the public methods
//! that all random samplers share.
//!
//! # Invariants
//! - Sample `n` depends on (seed, epoch, subject, n) and the attempt alone; threads only share the
//!   work.

use std::ops::Range;
use std::sync::Arc;

use super::boxes::ProbabilityMap;
use super::location::PatchLocation;
use super::random::{Epoch, StreamKey, sample_numbers};
use crate::memory::collected;
use crate::{Region, Result, Size3, Subject};

/// A random sampler bound to one subject: it has opened every volume and made every table that its
/// draws need.
pub(super) trait Draw: Sync {
    /// Voxels of a patch, `(z, y, x)`.
    fn patch_size(&self) -> Size3;

    /// The start of one sample, drawn without regard to the others.
    fn start(&self, key: &StreamKey<'_>) -> Result<[i64; 3]>;

    /// The starts of samples `numbers` of `subject`; by default each by itself, on all threads.
    fn starts(
        &self,
        subject: &Subject,
        epoch: Epoch,
        numbers: Range<u64>,
    ) -> Result<Vec<[i64; 3]>> {
        independent_starts(self, subject, epoch, numbers)
    }

    /// Adds the probability of each voxel to be the centre of a patch.
    fn add_probabilities(&self, map: &mut ProbabilityMap<'_>) -> Result<()>;
}

/// The starts of samples `numbers` of `subject`, each by itself, on all threads.
pub(super) fn independent_starts(
    draw: &(impl Draw + ?Sized),
    subject: &Subject,
    epoch: Epoch,
    numbers: Range<u64>,
) -> Result<Vec<[i64; 3]>> {
    let name = subject.name();
    let start = |n| draw.start(&StreamKey { epoch, subject: name, n, attempt: 0 });
    subject.dataset().in_parallel(numbers, start)
}

/// Locations of the samples `first .. first + n` of `subject`, to which `draw` is bound.
pub(super) fn locations(
    draw: &dyn Draw,
    subject: &Subject,
    n: u64,
    epoch: Epoch,
    first: u64,
) -> Result<Vec<PatchLocation>> {
    let starts = draw.starts(subject, epoch, sample_numbers(first, n)?)?;
    let (name, size) = (Arc::<str>::from(subject.name()), draw.patch_size());
    let location =
        |start| PatchLocation { subject: name.clone(), region: Region::new(start, size) };
    let count = starts.len() as u64;
    collected(starts.into_iter().map(location), count, || format!("{count} locations"))
}

/// Fills `out` with the probability of each voxel of `subject`, to which `draw` is bound.
pub(super) fn probability_map_into(
    draw: &dyn Draw,
    subject: &Subject,
    out: &mut [f64],
) -> Result<()> {
    draw.add_probabilities(&mut ProbabilityMap::new(subject.size()?, out)?)
}

/// The public method `locations` of a random sampler that has `bind`.
macro_rules! locations_method {
    () => {
        /// Locations of the samples `first .. first + n` of `subject` in an epoch; the same whether
        /// they are drawn alone or together, on any number of threads.
        ///
        /// # Errors
        /// - [`Error::PatchTooLarge`](crate::Error::PatchTooLarge) for a patch that has to fit into
        ///   the volume and does not.
        /// - [`Error::NothingToSample`](crate::Error::NothingToSample) if no voxel may be a centre,
        ///   [`Error::ConstraintsUnmet`](crate::Error::ConstraintsUnmet) if no attempt fulfils the
        ///   constraints.
        /// - [`Error::NotFound`](crate::Error::NotFound),
        ///   [`Error::InvalidArgument`](crate::Error::InvalidArgument) for a volume or a channel
        ///   that the subject does not have, or for samples beyond 2³².
        /// - Errors of reading the volume.
        pub fn locations(
            &self,
            subject: &crate::Subject,
            n: u64,
            epoch: crate::sample::random::Epoch,
            first: u64,
        ) -> crate::Result<Vec<crate::sample::location::PatchLocation>> {
            crate::sample::draw::locations(&*self.bind(subject, None)?, subject, n, epoch, first)
        }
    };
}
pub(super) use locations_method;

/// The public methods `probability_map` and `probability_map_into` of a random sampler that has
/// `bind`.
macro_rules! probability_map_method {
    () => {
        /// The probability of each voxel, `(z, y, x)`, to be the centre of a patch: an array of the
        /// size of the whole volume.
        ///
        /// # Errors
        /// As `locations`; [`Error::Unsupported`](crate::Error::Unsupported) with constraints,
        /// [`Error::OutOfMemory`](crate::Error::OutOfMemory).
        #[cfg(feature = "ndarray")]
        pub fn probability_map(
            &self,
            subject: &crate::Subject,
        ) -> crate::Result<ndarray::Array3<f64>> {
            let size = subject.size()?;
            let what = || format!("a map of {size:?} voxels");
            let mut map = crate::memory::zeroed(size.iter().product(), what)?;
            self.probability_map_into(subject, &mut map)?;
            Ok(ndarray::Array3::from_shape_vec(size, map).expect("a number for each voxel"))
        }

        /// Fills `out`, in C order, with the probability of each voxel of the volume to be the
        /// centre of a patch.
        ///
        /// # Errors
        /// As `locations`; [`Error::Unsupported`](crate::Error::Unsupported) with constraints,
        /// [`Error::BufferLength`](crate::Error::BufferLength).
        pub fn probability_map_into(
            &self,
            subject: &crate::Subject,
            out: &mut [f64],
        ) -> crate::Result<()> {
            crate::sample::draw::probability_map_into(&*self.bind(subject, None)?, subject, out)
        }
    };
}
pub(super) use probability_map_method;
