//! Samplers: they give locations, reading is up to the caller.

mod constrained;
mod grid;
mod label;
mod random;
mod scale;
mod subjects;

use numpy::{PyArray1, PyArray2, PyArray3, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyString;
use voxquarry::sample::{Border, Epoch};
use voxquarry::{Affine, PatchLocation, RandomSampler, Size3};

pub(crate) use constrained::ConstrainedSampler;
pub(crate) use grid::GridSampler;
pub(crate) use label::LabelSampler;
pub(crate) use random::{UniformSampler, WeightedSampler};
pub(crate) use scale::Scale;
pub(crate) use subjects::SubjectSampler;

use crate::arguments::{named, size3};
use crate::dataset::{Subject, Volume};
use crate::errors::{raise, usage};

type Triple = (usize, usize, usize);

/// The random sampler that a Python object is.
pub(crate) fn random_sampler(value: &Bound<'_, PyAny>) -> PyResult<RandomSampler> {
    if let Ok(sampler) = value.cast::<UniformSampler>() {
        return Ok(sampler.get().0.clone().into());
    }
    if let Ok(sampler) = value.cast::<WeightedSampler>() {
        return Ok(sampler.get().0.clone().into());
    }
    if let Ok(sampler) = value.cast::<LabelSampler>() {
        return Ok(sampler.get().0.clone().into());
    }
    if let Ok(sampler) = value.cast::<ConstrainedSampler>() {
        return Ok(sampler.get().0.clone().into());
    }
    let kind = value.get_type();
    Err(usage(format!(
        "sampler is a {kind}: expected a UniformSampler, WeightedSampler, LabelSampler or ConstrainedSampler"
    )))
}

/// Samples `first .. first + n` of a subject, as an array of starts.
fn draw<'py>(
    sampler: &RandomSampler,
    subject: &Bound<'py, Subject>,
    [n, seed, epoch, first]: [u64; 4],
) -> PyResult<Bound<'py, PyArray2<i64>>> {
    let (py, subject) = (subject.py(), &subject.get().0);
    let draw = || sampler.locations(subject, Epoch { seed, epoch }, first, n).map(starts_of);
    array(py, py.detach(draw).map_err(raise)?)
}

/// The probability of every voxel of a subject to be a centre.
fn probability_map<'py>(
    sampler: &RandomSampler,
    subject: &Bound<'py, Subject>,
) -> PyResult<Bound<'py, PyArray3<f64>>> {
    let (py, subject) = (subject.py(), &subject.get().0);
    let map = py.detach(|| sampler.probability_map(subject)).map_err(raise)?;
    Ok(PyArray3::from_owned_array(py, map))
}

fn border(name: &str) -> PyResult<Border> {
    named(&Border::ALL.map(|border| (border.name(), border)), "border", name)
}

/// How Python would write a name.
fn quoted(py: Python<'_>, name: &str) -> PyResult<String> {
    Ok(PyString::new(py, name).repr()?.to_string())
}

/// Extents and affine of a subject, a volume, or extents alone (whose millimetres are voxels).
pub(crate) fn space_of(value: &Bound<'_, PyAny>) -> PyResult<(Size3, Affine)> {
    let space = |volume: &voxquarry::Volume| (volume.size(), *volume.affine());
    if let Ok(volume) = value.cast::<Volume>() {
        return Ok(space(&volume.get().0));
    }
    if let Ok(subject) = value.cast::<Subject>() {
        let subject = &subject.get().0;
        return value.py().detach(|| subject.first_volume()).map(|v| space(&v)).map_err(raise);
    }
    match value.extract::<[i64; 3]>() {
        Ok(_) => Ok((size3(value, "extents")?, Affine::IDENTITY)),
        Err(_) => Err(usage(format!(
            "a {}: expected a Subject, a Volume or extents (z, y, x)",
            value.get_type()
        ))),
    }
}

fn starts_of(locations: Vec<PatchLocation>) -> Vec<[i64; 3]> {
    locations.into_iter().map(|location| location.region.start).collect()
}

fn array(py: Python<'_>, starts: Vec<[i64; 3]>) -> PyResult<Bound<'_, PyArray2<i64>>> {
    let rows = starts.len();
    PyArray1::from_vec(py, starts.into_flattened()).reshape([rows, 3])
}
