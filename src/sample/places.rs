//! A sampler made ready for one subject, and the samples that it gives there.
//!
//! # Invariants
//! - Sample `n` depends on (seed, epoch, subject, n) and the attempt alone; threads only share the work.

use std::sync::Arc;

use ndarray::Array3;

use super::centres::Centres;
use super::constrained::ConstrainedPlaces;
use super::label::LabelPlaces;
use super::random::{Draws, Stream, sample_numbers};
use super::uniform::any_voxel;
use super::weighted::WeightedPlaces;
use super::{Epoch, PatchLocation};
use crate::format::grid::box_of;
use crate::{Error, Region, Result, Size3, Subject};

/// Everything that a draw needs.
pub(super) enum Places {
    Uniform(Centres),
    Weighted(WeightedPlaces),
    Label(LabelPlaces),
    Constrained(Box<ConstrainedPlaces>),
}

impl Places {
    /// Voxels of a patch.
    pub(super) fn patch_size(&self) -> Size3 {
        match self {
            Self::Uniform(centres) => centres.patch_size(),
            Self::Weighted(places) => places.centres.patch_size(),
            Self::Label(places) => places.centres.patch_size(),
            Self::Constrained(places) => places.base.patch_size(),
        }
    }

    /// The start of one sample, as far as it does not depend on the others.
    pub(super) fn start(&self, stream: &Stream<'_>) -> Result<[i64; 3]> {
        let mut draws = Draws::new(stream);
        let (centres, centre) = match self {
            Self::Uniform(centres) => (centres, any_voxel(&centres.region(), &mut draws)),
            Self::Weighted(places) => (&places.centres, places.centre(&mut draws)?),
            Self::Label(places) => (&places.centres, places.centre(stream, &mut draws)?),
            Self::Constrained(places) => return places.start(stream),
        };
        Ok(centres.start_of(centre))
    }
}

/// The probability of every voxel of `size` to be the centre of a patch, from the tables that samples are drawn by.
///
/// # Errors
/// [`Error::Usage`] with constraints, whose probabilities nobody knows; what reading the volume returns.
pub(super) fn probability_map(places: &Places, size: Size3) -> Result<Array3<f64>> {
    let mut map = Array3::zeros(size);
    match places {
        Places::Uniform(centres) => add_uniform(&mut map, &centres.region(), 1.0),
        Places::Weighted(places) => places.add_probabilities(&mut map)?,
        Places::Label(places) => places.add_probabilities(&mut map)?,
        Places::Constrained(_) => {
            return Err(Error::usage(
                "a sampler with constraints has no probability map: ask the sampler that it draws from",
            ));
        }
    }
    Ok(map)
}

/// Adds `part`, spread evenly over a box.
pub(super) fn add_uniform(map: &mut Array3<f64>, region: &Region, part: f64) {
    add_box(map, region, std::iter::repeat(part / region.len() as f64));
}

/// Adds values to the voxels of a box, in C order.
pub(super) fn add_box(
    map: &mut Array3<f64>,
    region: &Region,
    values: impl IntoIterator<Item = f64>,
) {
    let [z, y, x] = [0, 1, 2].map(|a| region.start[a] as usize..region.end(a) as usize);
    for (at, value) in box_of([z, y, x]).zip(values) {
        map[at] += value;
    }
}

/// Samples `first .. first + n` of `subject` in that epoch.
pub(super) fn locations(
    places: &Places,
    subject: &Subject,
    epoch: Epoch,
    first: u64,
    n: u64,
) -> Result<Vec<PatchLocation>> {
    let (numbers, name) = (sample_numbers(first, n)?, Arc::<str>::from(subject.name()));
    let stream = |n| Stream { epoch, subject: &name, n, attempt: 0 };
    let starts: Vec<[i64; 3]> = match places {
        Places::Constrained(places) if places.depends_on_others() => {
            places.starts(&stream, numbers)?
        }
        // A draw of these is a few nanoseconds: threads would not pay.
        Places::Uniform(_) => numbers.map(|n| places.start(&stream(n))).collect::<Result<_>>()?,
        _ => subject.dataset().in_parallel(numbers, |n| places.start(&stream(n)))?,
    };
    let size = places.patch_size();
    let location =
        |start| PatchLocation { subject: name.clone(), region: Region::new(start, size) };
    Ok(starts.into_iter().map(location).collect())
}
