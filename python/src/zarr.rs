//! `open_zarr`: arrays of Zarr as volumes, without ingesting them.

use std::path::PathBuf;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use voxquarry::format::attributes::Kind;
use voxquarry::format::check_name;
use voxquarry_ingest::{ZarrOptions, subject_of};

use crate::arguments::named;
use crate::dataset::{Dataset, cache_options};
use crate::errors::{invalid, raise, unsupported};

const KINDS: [(&str, Kind); 2] = [("image", Kind::Image), ("labels", Kind::Labels)];

/// The name of the volume in its subject.
const VOLUME: &str = "image";

/// Opens any array of Zarr (version 2 or 3), or an image or labels of OME-Zarr, as a volume,
/// without ingesting it.
///
/// The volume is read as those of a store are: ``read``, ``read_batch``, indexing, ``read_affine``,
/// ``at``, samplers, queues and ``infer`` work on it, as fast as its chunks allow. Its ``subject``
/// has the name of the file, as ``ingest`` would give it, and ``subject.dataset`` is a data set of
/// this volume alone; :func:`voxquarry.dataset` puts volumes together. Chunks that are not there
/// have the fill value, as Zarr has it. Statistics, counts of labels and sums of weights are not
/// stored: what needs them reads the array once.
///
/// Args:
///     path: The folder of the array, or of a group that holds one image; the largest level of a
///         pyramid is opened, or the one whose path it is.
///     axes: The names of the array's axes, ``"czyx"`` or a list: ``x`` and ``y``, perhaps ``z``
///         and ``c``, in any order, and others of one element. By default those that OME-Zarr or
///         the array itself names; otherwise the last three are ``z``, ``y``, ``x``, and one of
///         several elements before them has channels. What is read is ``(z, y, x)`` or
///         ``(c, z, y, x)``, whatever the order.
///     kind: ``"image"`` or ``"labels"``; by default an image, unless OME-Zarr calls it labels.
///     cache_bytes: Budget of the cache of decoded chunks, an int or a string such as ``"256MiB"``;
///         0 for none.
///     threads: Threads that decode; all cores by default.
///     follow_links: Whether symbolic links below ``path`` are followed; they are refused by
///         default.
///
/// Returns:
///     A ``Volume``. It is pickled as its path and these options.
///
/// Raises:
///     PathNotFoundError: There is nothing at that path.
///     UsageError: A store, a group of several volumes, codecs that are not known, or axes that do
///         not fit.
///     DataError: Damaged metadata; chunks that are damaged, when they are read.
#[pyfunction]
#[pyo3(signature = (
    path, axes=None, *, kind=None, cache_bytes=None, threads=None, follow_links=false
))]
pub(crate) fn open_zarr<'py>(
    py: Python<'py>,
    path: &Bound<'py, PyAny>,
    axes: Option<&Bound<'py, PyAny>>,
    kind: Option<&str>,
    cache_bytes: Option<&Bound<'py, PyAny>>,
    threads: Option<usize>,
    follow_links: bool,
) -> PyResult<Bound<'py, PyAny>> {
    let dataset = zarr_dataset(py, path, axes, kind, cache_bytes, threads, follow_links)?;
    let subject = dataset.0.subjects()[0].clone();
    Bound::new(py, dataset)?.get_item(subject)?.get_item(VOLUME)
}

/// The data set of the volume that ``open_zarr`` gives, for pickle.
#[pyfunction]
#[pyo3(
    name = "_zarr_dataset",
    signature = (
        path, axes=None, kind=None, cache_bytes=None, threads=None, follow_links=false
    )
)]
pub(crate) fn zarr_dataset(
    py: Python<'_>,
    path: &Bound<'_, PyAny>,
    axes: Option<&Bound<'_, PyAny>>,
    kind: Option<&str>,
    cache_bytes: Option<&Bound<'_, PyAny>>,
    threads: Option<usize>,
    follow_links: bool,
) -> PyResult<Dataset> {
    if let Ok(text) = path.cast::<PyString>()
        && text.to_str().is_ok_and(|text| text.contains("://"))
    {
        return Err(unsupported(format!("{path}: no local path"), "copy the array, or mount it"));
    }
    let path: PathBuf = path.extract()?;
    let open = cache_options(cache_bytes, threads)?.follow_links(follow_links);
    let names = axes.map(axis_names).transpose()?;
    let chosen = kind.map(|kind| named(&KINDS, "kind", kind)).transpose()?;
    let options = ZarrOptions { axes: names.clone(), kind: chosen, open };
    let volume = py.detach(|| voxquarry_ingest::open_zarr(&path, &options)).map_err(raise)?;
    let stem = subject_of(&path);
    let subject = if check_name("subject", &stem).is_ok() { &stem } else { VOLUME };
    let dataset = voxquarry::Dataset::of_volumes([(subject, VOLUME, volume)], &open);
    let again = PyDict::new(py);
    again.set_item("axes", names)?;
    again.set_item("kind", kind)?;
    again.set_item("cache_bytes", open.get_cache_bytes())?;
    again.set_item("threads", threads)?;
    again.set_item("follow_links", follow_links)?;
    let function = (py.import("voxquarry._native")?.getattr("_zarr_dataset")?,);
    let callable = py.import("functools")?.getattr("partial")?.call(function, Some(&again))?;
    let path = std::path::absolute(&path)?;
    let arguments = PyTuple::new(py, [path.as_os_str()])?;
    Ok(Dataset::made_by(dataset.map_err(raise)?, callable, &arguments))
}

/// The names of axes: a letter each, or a list.
fn axis_names(axes: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    if let Ok(letters) = axes.cast::<PyString>() {
        return Ok(letters.to_str()?.chars().map(String::from).collect());
    }
    axes.extract().map_err(|_| invalid("axes", axes, "a text such as \"czyx\", or a list of names"))
}
