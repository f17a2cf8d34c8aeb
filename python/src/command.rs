//! The `voxquarry` command, and its pictures.

use std::ffi::OsString;

use pyo3::prelude::*;
use pyo3::types::PyBytes;
use voxquarry_cli::PictureOptions;

use crate::dataset::Subject;
use crate::errors::raise;
use crate::volume::Volume;

/// Runs a command that is Rust's with its arguments, the first of which is its name.
///
/// Returns:
///     The exit code.
#[pyfunction]
pub(crate) fn run_command(py: Python<'_>, arguments: Vec<OsString>) -> u8 {
    py.detach(|| voxquarry_cli::run(arguments))
}

/// Draws three slices of a volume, as ``voxquarry preview`` does without patches.
///
/// Returns:
///     The bytes of a PNG file.
#[pyfunction]
#[pyo3(signature = (volume, at=None, window=None, convention=None, labels=true))]
pub(crate) fn picture<'py>(
    py: Python<'py>,
    volume: &Volume,
    at: Option<String>,
    window: Option<String>,
    convention: Option<String>,
    labels: bool,
) -> PyResult<Bound<'py, PyBytes>> {
    let options = PictureOptions { at, window, convention, without_labels: !labels };
    let subject = volume.1.bind(py).cast::<Subject>()?.get();
    let drawn = py.detach(|| voxquarry_cli::picture_png(&subject.0, &volume.0, &options));
    Ok(PyBytes::new(py, &drawn.map_err(raise)?))
}
