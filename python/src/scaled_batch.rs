//! Real values in the batches of a queue.
//!
//! # Invariants
//! - A volume is scaled in all batches or in none, so that they have one dtype: it is scaled where
//!   any subject of the queue has a slope or an intercept.
//! - A constant padding is a real value.

use std::collections::HashMap;
use std::thread::{self, available_parallelism};

use numpy::{Element, PyArrayMethods};
use pyo3::prelude::*;
use voxquarry::{Batch, Dataset, Dtype, Padding, QueueVolume, Size3, with_voxel};

use crate::errors::invalid;
use crate::real::{Real, fill_outside, scale};
use crate::voxels::{RealDtype, zeros};

/// For each volume of a queue how its real values are computed; `None` where they are the stored
/// values.
#[derive(Default)]
pub(crate) struct BatchScales(Vec<Option<VolumeScale>>);

struct VolumeScale {
    dtype: RealDtype,
    padding: Padding,
    subjects: HashMap<String, SubjectScale>,
}

#[derive(Clone, Copy)]
struct SubjectScale {
    slope_intercept: (f64, f64),
    size: Size3,
    dtype: Dtype,
}

impl BatchScales {
    /// Reads slopes and intercepts of the volumes from all subjects' metadata.
    ///
    /// Subjects that cannot be opened are left out: the queue itself reports them when it reads
    /// them.
    pub(crate) fn open(
        dataset: &Dataset,
        subjects: &[String],
        volumes: &[String],
        paddings: &[Padding],
    ) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        let parts = subjects.chunks(subjects.len().div_ceil(threads).max(1));
        let opened: Vec<_> = thread::scope(|scope| {
            let open = |part| scope.spawn(move || opened(dataset, part, volumes));
            let running: Vec<_> = parts.map(open).collect();
            running.into_iter().flat_map(|part| part.join().expect("no panic")).collect()
        });
        let scale_of = |(n, &padding): (usize, &Padding)| {
            let subjects: HashMap<String, SubjectScale> = opened
                .iter()
                .filter(|(i, ..)| *i == n)
                .map(|(_, name, s)| (name.clone(), *s))
                .collect();
            let dtype = RealDtype::of(subjects.values().next()?.dtype);
            let is_scaled = subjects.values().any(|s| s.slope_intercept != (1.0, 0.0));
            is_scaled.then_some(VolumeScale { dtype, padding, subjects })
        };
        Self(paddings.iter().enumerate().map(scale_of).collect())
    }

    /// The volumes as the queue pads them: constants are written into the real values afterwards.
    pub(crate) fn padded(&self, volumes: &[String], paddings: &[Padding]) -> Vec<QueueVolume> {
        let volume = |(i, (name, &padding)): (usize, (&String, &Padding))| {
            let padding = match (self.of(i), padding) {
                (Some(_), Padding::Constant(_)) => Padding::Constant(0.0),
                _ => padding,
            };
            QueueVolume::new(name).padding(padding)
        };
        volumes.iter().zip(paddings).enumerate().map(volume).collect()
    }

    /// The real values of a batch's volume in an array of their own; `None` where they are the
    /// stored values.
    pub(crate) fn array<'py>(
        &self,
        py: Python<'py>,
        batch: &Batch,
        volume: usize,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(scale) = self.of(volume) else { return Ok(None) };
        match scale.dtype {
            RealDtype::Float32 => real::<f32>(py, batch, volume, scale).map(Some),
            RealDtype::Float64 => real::<f64>(py, batch, volume, scale).map(Some),
        }
    }

    fn of(&self, volume: usize) -> Option<&VolumeScale> {
        self.0.get(volume)?.as_ref()
    }
}

/// Number of the volume, name of the subject and its scale, of all volumes of the subjects.
fn opened(
    dataset: &Dataset,
    subjects: &[String],
    volumes: &[String],
) -> Vec<(usize, String, SubjectScale)> {
    let mut scales = Vec::with_capacity(subjects.len() * volumes.len());
    for name in subjects {
        let Ok(subject) = dataset.subject(name) else { continue };
        for (n, volume) in volumes.iter().enumerate() {
            let Ok(volume) = subject.volume(volume) else { continue };
            let (slope_intercept, size) = (volume.slope_intercept(), volume.size());
            let scale = SubjectScale { slope_intercept, size, dtype: volume.dtype() };
            scales.push((n, name.clone(), scale));
        }
    }
    scales
}

fn real<'py, F: Real + Element>(
    py: Python<'py>,
    batch: &Batch,
    volume: usize,
    of: &VolumeScale,
) -> PyResult<Bound<'py, PyAny>> {
    let shape = batch.shape(volume);
    let array = zeros::<F>(py, &shape)?;
    let mut writable = array.readwrite();
    let out = writable.as_slice_mut().expect("a new array is contiguous");
    let patch_voxels = shape[1..].iter().product::<usize>();
    let missing = |name: &str| invalid("subjects", format!("{name:?}"), "one that opens");
    let scales = batch.locations().iter().map(|location| {
        of.subjects.get(&*location.subject).ok_or_else(|| missing(&location.subject))
    });
    let scales = scales.collect::<PyResult<Vec<_>>>()?;
    py.detach(|| {
        with_voxel!(batch.dtype(volume), T => {
            let stored: &[T] = bytemuck::cast_slice(batch.bytes(volume));
            let patches = stored.chunks_exact(patch_voxels).zip(out.chunks_exact_mut(patch_voxels));
            for ((stored, real), subject) in patches.zip(&scales) {
                scale(stored, subject.slope_intercept, real);
            }
        });
        if let Padding::Constant(value) = of.padding {
            let patches = out.chunks_exact_mut(patch_voxels).zip(batch.locations());
            for ((patch, location), subject) in patches.zip(&scales) {
                let region = &location.region;
                fill_outside(patch, region.start, region.size, subject.size, F::of(value));
            }
        }
    });
    drop(writable);
    Ok(array.into_any())
}
