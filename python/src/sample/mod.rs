//! Samplers: they give locations, and the caller reads the patches.

mod constrained;
mod grid;
mod label;
mod object;
mod random;
mod scale;
mod subjects;

use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::PyString;
use voxquarry::{Affine, Border, LengthUnit, PatchLocation, Size3};

pub(crate) use constrained::ConstrainedSampler;
pub(crate) use grid::GridSampler;
pub(crate) use label::LabelSampler;
pub(crate) use object::ObjectSampler;
pub(crate) use random::{ON_MISSING, RandomSampler, UniformSampler, WeightedSampler};
pub(crate) use scale::Scale;
pub(crate) use subjects::SubjectSampler;

use crate::arguments::{named, size3};
use crate::dataset::Subject;
use crate::errors::{invalid, raise};
use crate::scaled::ScaledVolume;
use crate::volume::Volume;

type Triple = (usize, usize, usize);

/// The random sampler of a Python object.
pub(crate) fn random_sampler(value: &Bound<'_, PyAny>) -> PyResult<voxquarry::RandomSampler> {
    let sampler = value.cast::<RandomSampler>().map_err(|_| {
        let expected =
            "a UniformSampler, WeightedSampler, LabelSampler, ObjectSampler or ConstrainedSampler";
        invalid("sampler", format!("is a {}", value.get_type()), expected)
    })?;
    Ok(sampler.get().0.clone())
}

/// The border rule of that name.
fn border(name: &str) -> PyResult<Border> {
    named(&Border::ALL.map(|border| (border.name(), border)), "border", name)
}

/// A name as a Python literal.
fn quoted(py: Python<'_>, name: &str) -> PyResult<String> {
    Ok(PyString::new(py, name).repr()?.to_string())
}

/// Extents, affine and its unit of a subject, of a volume, or of extents alone, with voxels of
/// 1 mm.
pub(crate) fn space_of(value: &Bound<'_, PyAny>) -> PyResult<(Size3, Affine, Option<LengthUnit>)> {
    let space =
        |volume: &voxquarry::Volume| (volume.size(), *volume.affine(), volume.attributes().unit);
    if let Ok(volume) = value.cast::<Volume>() {
        return Ok(space(&volume.get().0));
    }
    if let Ok(scaled) = value.cast::<ScaledVolume>() {
        return Ok(space(scaled.get().stored()));
    }
    if let Ok(subject) = value.cast::<Subject>() {
        let subject = &subject.get().0;
        return value.py().detach(|| subject.first_volume()).map(|v| space(&v)).map_err(raise);
    }
    if value.extract::<[i64; 3]>().is_ok() {
        return Ok((size3(value, "extents")?, Affine::IDENTITY, None));
    }
    let found = format!("is a {}", value.get_type());
    Err(invalid("subject", found, "a Subject, a Volume or extents (z, y, x)"))
}

fn starts_of(locations: Vec<PatchLocation>) -> Vec<[i64; 3]> {
    locations.into_iter().map(|location| location.region.start).collect()
}

/// Starts as an array, `(n, 3)`.
pub(crate) fn starts_array(
    py: Python<'_>,
    starts: Vec<[i64; 3]>,
) -> PyResult<Bound<'_, PyArray2<i64>>> {
    let rows = starts.len();
    PyArray1::from_vec(py, starts.into_flattened()).reshape([rows, 3])
}
