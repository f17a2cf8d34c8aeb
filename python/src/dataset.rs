//! `Dataset`, `Subject`, `Volume`.
//!
//! # Invariants
//! - They are pickled as what opens them again: a dataset as its path and options, a subject as its dataset and name, a volume
//!   as its subject and name. So all that is pickled together shares one cache in the other process too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use numpy::PyArray2;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyEllipsis, PyIterator, PyList, PyTuple};
use voxquarry::format::attributes::Kind;
use voxquarry::{Access, OpenOptions, Padding, Verify};

use crate::arguments::{bytes, name_of, named, padding, size3, start, starts};
use crate::errors::{raise, usage};
use crate::index::{Axis, basic_index};
use crate::voxels::{Request, read};

/// Opens the store at ``path`` for reading; nothing of a volume is read yet.
///
/// Args:
///     path: The store's folder.
///     cache_bytes: Budget of the cache of decoded chunks, an int or a string such as ``"256MiB"``; 0 for none.
///     threads: Threads that decode; all cores by default.
///     verify: When a chunk's checksum is compared: ``"first"`` decode, ``"always"`` or ``"never"``.
///     access: ``"map"`` (memory map) or ``"read"`` (positioned reads, for network file systems).
///
/// Raises:
///     UsageError: No store at that path, or an argument that cannot be.
///     DataError: Damaged metadata, or a store that needs a newer version.
#[pyfunction]
#[pyo3(signature = (path, *, cache_bytes=None, threads=None, verify="first", access="map"))]
pub(crate) fn open(
    py: Python<'_>,
    path: PathBuf,
    cache_bytes: Option<&Bound<'_, PyAny>>,
    threads: Option<usize>,
    verify: &str,
    access: &str,
) -> PyResult<Dataset> {
    let mut options = OpenOptions::default().threads(threads);
    if let Some(value) = cache_bytes {
        let budget = usize::try_from(bytes(value, "cache_bytes")?).unwrap_or(usize::MAX);
        options = options.cache_bytes(budget);
    }
    if threads == Some(0) {
        return Err(usage("threads 0: expected None or at least 1"));
    }
    options =
        options.verify(named(&VERIFY, "verify", verify)?).access(named(&ACCESS, "access", access)?);
    py.detach(|| voxquarry::Dataset::open(path, &options)).map(Dataset).map_err(raise)
}

const VERIFY: [(&str, Verify); 3] =
    [("never", Verify::Never), ("first", Verify::First), ("always", Verify::Always)];
const ACCESS: [(&str, Access); 2] = [("map", Access::Map), ("read", Access::Read)];

/// Walks a whole store: every document, index, checksum, chunk and label count.
///
/// Returns:
///     What was walked: ``subjects``, ``volumes``, ``shards``, ``chunks`` and ``encoded_bytes``.
///
/// Raises:
///     DataError: Damage; the message lists the first of it, the attribute ``errors`` up to a hundred.
#[pyfunction]
pub(crate) fn verify(py: Python<'_>, path: PathBuf) -> PyResult<Bound<'_, PyDict>> {
    let report = py.detach(|| voxquarry::verify(&path, &|_| ())).map_err(raise)?;
    let messages: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
    if let Some(first) = messages.first() {
        let error = raise(voxquarry::Error::data(
            &path,
            format!("{} errors, the first: {first}", report.error_count),
        ));
        error.value(py).setattr("errors", messages)?;
        return Err(error);
    }
    let summary = PyDict::new(py);
    summary.set_item("subjects", report.subjects)?;
    summary.set_item("volumes", report.volumes)?;
    summary.set_item("shards", report.shards)?;
    summary.set_item("chunks", report.chunks)?;
    summary.set_item("encoded_bytes", report.encoded_bytes)?;
    Ok(summary)
}

/// A store, opened for reading: a mapping from names to subjects.
///
/// Pickled, it is its path and the options of ``open``: another process opens it anew, with a cache of its own. Subjects and
/// volumes are pickled as names in it; those that are pickled together share that cache.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Dataset(pub(crate) voxquarry::Dataset);

#[pymethods]
impl Dataset {
    fn __len__(&self) -> usize {
        self.0.subjects().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        names(py, self.0.subjects())
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.0.subjects().contains(&name))
    }

    fn __getitem__(slf: &Bound<'_, Self>, name: &str) -> PyResult<Subject> {
        let this = &slf.get().0;
        let subject = slf.py().detach(|| this.subject(name)).map_err(raise)?;
        Ok(Subject(subject, slf.clone().unbind()))
    }

    /// The subject of that name, or ``default``.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if slf.get().__contains__(name) {
            slf.as_any().get_item(name).map(Some)
        } else {
            Ok(default)
        }
    }

    /// Names of the subjects, sorted.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "KeysView")
    }

    /// The subjects, each opened when its turn comes.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "ValuesView")
    }

    /// Pairs of a name and its subject.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "ItemsView")
    }

    /// The store's folder, absolute.
    #[getter]
    fn path(&self) -> String {
        self.0.path().to_string_lossy().into_owned()
    }

    /// Bytes of decoded chunks that the cache holds now.
    #[getter]
    fn cached_bytes(&self) -> usize {
        self.0.cached_bytes()
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Opener<'py, (OsString,)>> {
        let open_options = self.0.options();
        let options = PyDict::new(py);
        options.set_item("cache_bytes", open_options.get_cache_bytes())?;
        options.set_item("threads", open_options.get_threads())?;
        options.set_item("verify", name_of(&VERIFY, open_options.get_verify()))?;
        options.set_item("access", name_of(&ACCESS, open_options.get_access()))?;
        let open = (py.import("voxquarry")?.getattr("open")?,);
        let open = py.import("functools")?.getattr("partial")?.call(open, Some(&options))?;
        Ok((open, (self.0.path().into(),)))
    }

    fn __repr__(&self) -> String {
        format!("<voxquarry.Dataset {:?}: {} subjects>", self.path(), self.0.subjects().len())
    }
}

/// Named volumes on one grid: a mapping from names to volumes.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Subject(pub(crate) voxquarry::Subject, Py<Dataset>);

#[pymethods]
impl Subject {
    fn __len__(&self) -> usize {
        self.0.volumes().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        names(py, self.0.volumes())
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        name.extract::<String>().is_ok_and(|name| self.0.volumes().contains(&name))
    }

    fn __getitem__(slf: &Bound<'_, Self>, name: &str) -> PyResult<Volume> {
        let this = &slf.get().0;
        let volume = slf.py().detach(|| this.volume(name)).map_err(raise)?;
        Ok(Volume(volume, slf.clone().unbind()))
    }

    /// The volume of that name, or ``default``.
    #[pyo3(signature = (name, default=None))]
    fn get<'py>(
        slf: &Bound<'py, Self>,
        name: &Bound<'py, PyAny>,
        default: Option<Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        if slf.get().__contains__(name) {
            slf.as_any().get_item(name).map(Some)
        } else {
            Ok(default)
        }
    }

    /// Names of the volumes, sorted.
    fn keys<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "KeysView")
    }

    /// The volumes, each opened when its turn comes.
    fn values<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "ValuesView")
    }

    /// Pairs of a name and its volume.
    fn items<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        view(slf, "ItemsView")
    }

    /// Its name in the data set.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// The store it is in.
    #[getter]
    fn dataset(&self, py: Python<'_>) -> Py<Dataset> {
        self.1.clone_ref(py)
    }

    /// Extents in ``(z, y, x)`` that all its volumes share.
    #[getter]
    fn size(&self) -> PyResult<(usize, usize, usize)> {
        self.0.size().map(|[z, y, x]| (z, y, x)).map_err(raise)
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Opener<'py, (Py<Dataset>, String)>> {
        Ok((getitem(py)?, (self.1.clone_ref(py), self.0.name().to_owned())))
    }

    fn __repr__(&self) -> String {
        format!("<voxquarry.Subject {:?}: {}>", self.0.name(), self.0.volumes().join(", "))
    }
}

/// What pickle calls to make an object again, and its arguments.
type Opener<'py, Arguments> = (Bound<'py, PyAny>, Arguments);

/// `operator.getitem`.
fn getitem(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("operator")?.getattr("getitem")
}

/// The volume of that name of a store that is opened for it.
pub(crate) fn open_volume<'py>(
    py: Python<'py>,
    store: &Path,
    (subject, volume): (&str, &str),
) -> PyResult<Bound<'py, PyAny>> {
    let open = || voxquarry::Dataset::open(store, &OpenOptions::default());
    let dataset = py.detach(open).map_err(raise)?;
    Bound::new(py, Dataset(dataset))?.get_item(subject)?.get_item(volume)
}

/// A live view of a mapping, from `collections.abc`.
fn view<'py>(mapping: &Bound<'py, PyAny>, kind: &str) -> PyResult<Bound<'py, PyAny>> {
    mapping.py().import("collections.abc")?.getattr(kind)?.call1((mapping,))
}

fn names<'py>(py: Python<'py>, names: &[String]) -> PyResult<Bound<'py, PyIterator>> {
    PyList::new(py, names)?.try_iter()
}

/// A volume, opened for reading.
///
/// Reads give stored values; the real value is stored value × ``slope`` + ``intercept``.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Volume(pub(crate) voxquarry::Volume, Py<Subject>);

#[pymethods]
impl Volume {
    /// The subject it is of.
    #[getter]
    fn subject(&self, py: Python<'_>) -> Py<Subject> {
        self.1.clone_ref(py)
    }

    /// Extents as numpy shows them: ``(z, y, x)`` or ``(c, z, y, x)``.
    #[getter]
    fn shape<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
        PyTuple::new(py, self.0.shape())
    }

    /// Number of axes, 3 or 4.
    #[getter]
    fn ndim(&self) -> usize {
        self.0.shape().len()
    }

    /// Element type, a ``numpy.dtype``.
    #[getter]
    fn dtype<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        py.import("numpy")?.call_method1("dtype", (self.0.dtype().name(),))
    }

    /// Millimetres between voxels along ``(z, y, x)``.
    #[getter]
    fn spacing(&self) -> (f64, f64, f64) {
        let [z, y, x] = self.0.spacing_mm();
        (z, y, x)
    }

    /// ``(4, 4)`` float64: voxel index ``(x, y, z, 1)`` to RAS+ millimetres, as nibabel's.
    #[getter]
    fn affine<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyArray2<f64>>> {
        let rows: Vec<Vec<f64>> = self.0.affine().0.iter().map(|row| row.to_vec()).collect();
        Ok(PyArray2::from_vec2(py, &rows)?)
    }

    /// Real value = stored value × slope + intercept.
    #[getter]
    fn slope(&self) -> f64 {
        self.0.slope_intercept().0
    }

    /// See ``slope``.
    #[getter]
    fn intercept(&self) -> f64 {
        self.0.slope_intercept().1
    }

    /// ``"image"`` or ``"labels"``.
    #[getter]
    fn kind(&self) -> &'static str {
        self.0.kind().name()
    }

    /// Its name in the subject.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// Extents of the chunks that voxels are stored in, ``(z, y, x)``.
    #[getter]
    fn chunks(&self) -> (usize, usize, usize) {
        let [z, y, x] = self.0.layout().chunk;
        (z, y, x)
    }

    /// Figures over the stored values: ``voxels``, ``non_finite``, ``min``, ``max``, ``mean``, ``std``.
    #[getter]
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let json = serde_json::to_string(self.0.statistics()).expect("statistics serialise");
        py.import("json")?.call_method1("loads", (json,))
    }

    /// Voxels of each label but 0: a dictionary; empty for images.
    #[getter]
    fn labels<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let labels = PyDict::new(py);
        if self.0.kind() == Kind::Labels {
            for (label, voxels) in py.detach(|| self.0.label_counts()).map_err(raise)?.totals() {
                labels.set_item(label, voxels)?;
            }
        }
        Ok(labels)
    }

    /// Reads the patch of ``size`` that begins at ``start``.
    ///
    /// Args:
    ///     start: First voxel, ``(z, y, x)``; may be negative where a padding is given.
    ///     size: An int for a cube, or ``(z, y, x)``.
    ///     out: C-contiguous array of the volume's dtype and the result's shape; it is filled and returned.
    ///     padding: What lies outside: ``None`` (an error), a number, ``"edge"`` or ``"reflect"`` (numpy's).
    ///
    /// Returns:
    ///     ``(z, y, x)`` or ``(c, z, y, x)`` voxels.
    ///
    /// Raises:
    ///     UsageError: Arguments that cannot be; ``out`` is untouched.
    ///     DataError: Damaged chunks.
    #[pyo3(signature = (start, size, out=None, padding=None))]
    fn read<'py>(
        &self,
        py: Python<'py>,
        #[pyo3(from_py_with = start)] start: [i64; 3],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        self.read_patches(py, &[start], size, out, padding, &[])
    }

    /// Reads one patch of ``size`` for each of ``starts``; every chunk is decoded once for all that meet it.
    ///
    /// Args:
    ///     starts: ``(n, 3)`` integers, ``(z, y, x)``.
    ///     size, out, padding: As for ``read``.
    ///
    /// Returns:
    ///     ``(n, z, y, x)`` or ``(n, c, z, y, x)`` voxels.
    #[pyo3(signature = (starts, size, out=None, padding=None))]
    fn read_batch<'py>(
        &self,
        py: Python<'py>,
        starts: &Bound<'py, PyAny>,
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let starts = self::starts(starts)?;
        self.read_patches(py, &starts, size, out, padding, &[starts.len()])
    }

    /// numpy basic indexing: ints, slices with any step, ``...``; only what is asked for is read.
    fn __getitem__<'py>(
        &self,
        py: Python<'py>,
        index: &Bound<'py, PyAny>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let axes = basic_index(index, &self.0.shape())?;
        let kept: Vec<usize> = axes.iter().filter(|a| !a.dropped).map(Axis::len).collect();
        if kept.contains(&0) {
            let numpy = py.import("numpy")?;
            return numpy.call_method1("zeros", (PyTuple::new(py, kept)?, self.dtype(py)?));
        }
        // Reads the box that the index spans, then lets numpy take steps and drop axes.
        let spatial = &axes[axes.len() - 3..];
        let start = [0, 1, 2].map(|a| spatial[a].low() as i64);
        let size = [0, 1, 2].map(|a| spatial[a].span());
        let channels =
            axes.first().filter(|_| axes.len() == 4).map_or(0..1, |c| c.low()..c.low() + c.span());
        let shape = axes.iter().map(Axis::span).collect();
        let request = Request { starts: &[start], size, padding: Padding::None, channels, shape };
        let voxels = read(py, &self.0, &request, None)?;
        if axes.iter().all(|a| !a.dropped && a.step == 1) {
            return Ok(voxels);
        }
        let local = axes.iter().map(|axis| axis.local(py)).collect::<PyResult<Vec<_>>>()?;
        let view = voxels.get_item(PyTuple::new(py, local)?)?;
        // A copy, so that a few strided voxels do not keep the whole box alive.
        if axes.iter().any(|a| a.step != 1) { view.call_method0("copy") } else { Ok(view) }
    }

    fn __len__(&self) -> usize {
        self.0.shape()[0]
    }

    /// The whole volume; for numpy functions, and volumes that fit into memory.
    #[pyo3(signature = (dtype=None, copy=None))]
    fn __array__<'py>(
        &self,
        py: Python<'py>,
        dtype: Option<&Bound<'py, PyAny>>,
        copy: Option<bool>,
    ) -> PyResult<Bound<'py, PyAny>> {
        if copy == Some(false) {
            return Err(usage(
                "a volume becomes an array only by reading it: copy=False cannot be",
            ));
        }
        let voxels = self.__getitem__(py, PyEllipsis::get(py).as_any())?;
        match dtype {
            Some(dtype) => voxels.call_method1("astype", (dtype,)),
            None => Ok(voxels),
        }
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Opener<'py, (Py<Subject>, String)>> {
        Ok((getitem(py)?, (self.1.clone_ref(py), self.0.name().to_owned())))
    }

    fn __repr__(&self) -> String {
        format!(
            "<voxquarry.Volume {:?} ({}): {:?} {}>",
            self.0.name(),
            self.kind(),
            self.0.shape(),
            self.0.dtype()
        )
    }
}

impl Volume {
    fn read_patches<'py>(
        &self,
        py: Python<'py>,
        starts: &[[i64; 3]],
        size: &Bound<'py, PyAny>,
        out: Option<&Bound<'py, PyAny>>,
        pad: Option<&Bound<'py, PyAny>>,
        batch: &[usize],
    ) -> PyResult<Bound<'py, PyAny>> {
        let (size, padding) = (size3(size, "size")?, padding(pad)?);
        let shape = batch.iter().copied().chain(self.0.channels()).chain(size).collect();
        let request =
            Request { starts, size, padding, channels: 0..self.0.layout().channel_count(), shape };
        read(py, &self.0, &request, out)
    }
}
