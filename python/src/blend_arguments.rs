//! Arguments of an aggregator: windows, what happens to blended voxels, and what is left out.

use std::sync::Arc;

use numpy::PyReadonlyArray3;
use pyo3::prelude::*;
use voxquarry::{Finish, Merge, NonFinite, OutputScale, VoxelMask, Window};

use crate::errors::{invalid, raise};

/// How the values of overlapping patches become one.
pub(crate) const MERGES: [(&str, Merge); 4] = [
    (Merge::Mean.name(), Merge::Mean),
    (Merge::Max.name(), Merge::Max),
    (Merge::Min.name(), Merge::Min),
    (Merge::Vote.name(), Merge::Vote),
];

/// An array `(z, y, x)` of booleans.
pub(crate) fn mask(value: &Bound<'_, PyAny>) -> PyResult<Arc<VoxelMask>> {
    let numpy = value.py().import("numpy")?;
    let array = numpy.call_method1("ascontiguousarray", (value, "bool"))?;
    let bytes = array.call_method1("view", ("uint8",))?;
    let voxels = bytes
        .extract::<PyReadonlyArray3<'_, u8>>()
        .map_err(|_| invalid("mask", format!("is a {}", value.get_type()), "an array (z, y, x)"))?;
    let array = voxels.as_array();
    let (nz, ny, nx) = array.dim();
    VoxelMask::new([nz, ny, nx], voxels.as_slice()?).map(Arc::new).map_err(raise)
}

/// A name, a Gaussian with its sigmas, or three arrays of weights.
pub(crate) fn window(value: &Bound<'_, PyAny>) -> PyResult<Window> {
    if let Ok(name) = value.extract::<String>() {
        return Window::from_name(&name).map_err(raise);
    }
    if let Ok((name, sigmas)) = value.extract::<(String, Bound<'_, PyAny>)>()
        && name == "gaussian"
    {
        let sigmas = sigmas.extract().or_else(|_| sigmas.extract().map(|sigma| [sigma; 3]));
        return sigmas.map(Window::GaussianOf).map_err(|_| {
            invalid("window", "gaussian", "a sigma as part of the patch, or three (z, y, x)")
        });
    }
    value.extract().map(Window::Custom).map_err(|_| {
        let expected = "a name, (\"gaussian\", sigma), or three arrays of weights (z, y, x)";
        invalid("window", format!("is a {}", value.get_type()), expected)
    })
}

/// A name, or a name with its numbers.
pub(crate) fn finish(value: &Bound<'_, PyAny>) -> PyResult<Finish> {
    let refused = || {
        let expected = "\"none\", \"argmax\", \"softmax+argmax\", \"threshold\", \
                        (\"threshold\", t) or (\"quantize\", slope, intercept)";
        invalid("finish", value, expected)
    };
    let name = match value.extract::<String>() {
        Ok(name) => name,
        Err(_) => value.get_item(0).and_then(|name| name.extract()).map_err(|_| refused())?,
    };
    if let Ok((_, slope, intercept)) = value.extract::<(String, f64, f64)>()
        && name == "quantize"
    {
        return Ok(Finish::Quantize { slope, intercept });
    }
    if let Ok((_, at)) = value.extract::<(String, f64)>()
        && name == "threshold"
    {
        return Ok(Finish::Threshold(at));
    }
    match (name.as_str(), value.extract::<String>().is_ok()) {
        ("none", true) => Ok(Finish::None),
        ("argmax", true) => Ok(Finish::Argmax),
        ("softmax+argmax", true) => Ok(Finish::SoftmaxArgmax),
        ("threshold", true) => Ok(Finish::Threshold(0.5)),
        _ => Err(refused()),
    }
}

/// A number for all axes, or one for each: whole, or one divided by a whole number.
pub(crate) fn scale(value: &Bound<'_, PyAny>) -> PyResult<OutputScale> {
    /// More than any model changes the resolution by; up to here 1 / n determines n.
    const LARGEST: f64 = 1024.0;
    let axes = match value.extract::<f64>() {
        Ok(all) => [all; 3],
        Err(_) => value
            .extract::<[f64; 3]>()
            .map_err(|_| invalid("scale", value, "a number, or three for (z, y, x)"))?,
    };
    let mut scale = OutputScale::default();
    for (axis, ratio) in axes.into_iter().enumerate() {
        let (up, down) = if ratio >= 1.0 { (ratio, 1.0) } else { (1.0, (1.0 / ratio).round()) };
        let near = (ratio * down - up).abs() <= 1e-6;
        if !(near && up.fract() == 0.0 && (1.0..=LARGEST).contains(&(up * down))) {
            let expected = "a whole number from 1 to 1024, or one divided by one, such as 2 or 0.5";
            return Err(invalid("scale", ratio, expected));
        }
        (scale.up[axis], scale.down[axis]) = (up as usize, down as usize);
    }
    Ok(scale)
}

/// What happens to NaN and infinite values.
pub(crate) fn non_finite(name: &str) -> PyResult<NonFinite> {
    match name {
        "keep" => Ok(NonFinite::Keep),
        "warn" => Ok(NonFinite::Report),
        "error" => Ok(NonFinite::Error),
        _ => Err(invalid("nonfinite", format!("{name:?}"), "\"keep\", \"warn\" or \"error\"")),
    }
}

/// Whether to resume, or a text that has to be the same.
pub(crate) fn resume(value: &Bound<'_, PyAny>) -> PyResult<Option<String>> {
    match (value.extract::<bool>(), value.extract::<String>()) {
        (Ok(resumes), _) => Ok(resumes.then(String::new)),
        (_, Ok(note)) => Ok(Some(note)),
        _ if value.is_none() => Ok(None),
        _ => Err(invalid("resume", value, "True, False or a text")),
    }
}
