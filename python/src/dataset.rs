//! `open`, `dataset`, `list_subjects`, `verify`, `Dataset` and `Subject`.
//!
//! # Invariants
//! - A pickled dataset holds its path and options, or the open volumes that it was made of; a
//!   subject its dataset and name, a volume its subject and name. Objects that are pickled together
//!   share one cache in the other process, too.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyIterator, PyList, PyMapping, PyTuple, PyType};
use voxquarry::{Access, Error, OpenOptions, RemoteOptions, Verify, VerifyProgress};

use crate::arguments::{bytes, level_number, name_of, named};
use crate::errors::{invalid, raise};
use crate::pickle::{Reduced, getitem};
use crate::volume::Volume;
use crate::watch::Watch;

/// Opens the store at ``path`` for reading; nothing of a volume is read yet.
///
/// A store on a server is opened by its URL: ``https://…``, ``s3://BUCKET/…``, ``gs://…`` or
/// ``az://…``. What a read needs is fetched in exact byte ranges, checked, and kept on this
/// machine's disk. Credentials come from the environment. ``docs/remote.md`` has more.
///
/// Args:
///     path: The store's folder, or its URL.
///     cache_bytes: Budget of the cache of decoded chunks, an int or a string such as ``"256MiB"``;
///         0 for none.
///     threads: Threads that decode; all cores by default.
///     verify: When a chunk's checksum is compared: ``"first"`` decode, ``"always"`` or
///         ``"never"``.
///     access: ``"map"`` (memory map) or ``"read"`` (positioned reads, for network file systems).
///     follow_links: Whether symbolic links in the store are followed, also out of it; they are
///         refused by default.
///     level: The level of all volumes, as ``Volume.level`` gives it: samplers, queues and
///         inference then work at that resolution. 0 is the full one; others are there if
///         ``ingest`` was called with ``levels``.
///     cache_dir: Of a URL: the folder, on a local disk, that keeps what was fetched; by default
///         ``voxquarry/remote`` in the user's folder for caches. Processes may share it.
///     cache_disk_bytes: The bytes that this folder may take, an int or a string; ``"10GiB"`` by
///         default. The shards that were not used for longest are dropped first.
///
/// Raises:
///     PathNotFoundError: There is nothing at that path; a ``UsageError`` and a
///         ``FileNotFoundError``.
///     UsageError: No store, or an argument with a value that is not accepted.
///     DataError: Damaged metadata, or a store that needs a newer version.
///     StorageError: The server, the network or the cache's disk refuses.
#[pyfunction]
#[pyo3(signature = (
    path, *, cache_bytes=None, threads=None, verify="first", access="map", follow_links=false,
    level=0, cache_dir=None, cache_disk_bytes=None
))]
#[expect(clippy::too_many_arguments, reason = "they are Python's keywords")]
pub(crate) fn open(
    py: Python<'_>,
    path: PathBuf,
    cache_bytes: Option<&Bound<'_, PyAny>>,
    threads: Option<usize>,
    verify: &str,
    access: &str,
    follow_links: bool,
    level: i64,
    cache_dir: Option<PathBuf>,
    cache_disk_bytes: Option<&Bound<'_, PyAny>>,
) -> PyResult<Dataset> {
    let options = cache_options(cache_bytes, threads)?
        .verify(named(&VERIFY, "verify", verify)?)
        .access(named(&ACCESS, "access", access)?)
        .follow_links(follow_links)
        .level(level_number(level)?);
    let mut remote = RemoteOptions::default().cache_dir(cache_dir);
    if let Some(value) = cache_disk_bytes {
        remote = remote.cache_disk_bytes(bytes(value, "cache_disk_bytes")?);
    }
    let opened = py.detach(|| voxquarry::Dataset::open_with(path, &options, &remote));
    opened.map(Dataset::new).map_err(raise)
}

/// Writes the list of a store's subjects into its ``zarr.json``, so that an HTTP server can serve
/// the store: such a server lists no folders.
///
/// ``ingest`` does so at its end. It is needed for stores that were made otherwise, and after a
/// subject's folder was removed by hand.
///
/// Args:
///     path: The store's folder.
///
/// Raises:
///     PathNotFoundError: There is nothing at that path.
///     UsageError: No store, or one of more than 100,000 subjects.
///     StorageError: The store cannot be written.
#[pyfunction]
pub(crate) fn list_subjects(py: Python<'_>, path: PathBuf) -> PyResult<()> {
    py.detach(|| voxquarry::list_subjects(path)).map_err(raise)
}

/// Makes a data set of open volumes, which need not be of one store, for samplers and queues.
///
/// Args:
///     subjects: A mapping from names of subjects to mappings from names to volumes, of stores or
///         of ``open_zarr``: ``{"case01": {"ct": ct, "seg": store["case01"]["seg"]}}``. The volumes
///         of a subject lie on one grid.
///     cache_bytes: By default what a queue caches of decoded chunks, an int or a string such as
///         ``"256MiB"``; every volume keeps the cache that it was opened with.
///     threads: Threads that draw samples and read queues; all cores by default.
///
/// Returns:
///     A ``Dataset``. It is pickled as its volumes.
///
/// Raises:
///     UsageError: Something else than volumes, names that no subject or volume can have, or
///         volumes of a subject on different grids.
#[pyfunction]
#[pyo3(signature = (subjects, *, cache_bytes=None, threads=None))]
pub(crate) fn dataset(
    py: Python<'_>,
    subjects: &Bound<'_, PyAny>,
    cache_bytes: Option<&Bound<'_, PyAny>>,
    threads: Option<usize>,
) -> PyResult<Dataset> {
    let options = cache_options(cache_bytes, threads)?;
    let refused = |value: &Bound<'_, PyAny>| {
        let expected = "a mapping from subjects to mappings from names to volumes, of stores or of \
                        open_zarr";
        invalid("subjects", value, expected)
    };
    let (kept, mut volumes) = (PyDict::new(py), Vec::new());
    for item in subjects.cast::<PyMapping>().map_err(|_| refused(subjects))?.items()?.iter() {
        let (subject, named) = item.extract::<(String, Bound<'_, PyAny>)>()?;
        let of_subject = PyDict::new(py);
        for item in named.cast::<PyMapping>().map_err(|_| refused(&named))?.items()?.iter() {
            let (name, volume) = item.extract::<(String, Bound<'_, PyAny>)>()?;
            let stored = volume.cast::<Volume>().map_err(|_| refused(&volume))?;
            volumes.push((subject.clone(), name.clone(), stored.get().0.clone()));
            of_subject.set_item(name, volume)?;
        }
        kept.set_item(subject, of_subject)?;
    }
    let made = voxquarry::Dataset::of_volumes(volumes, &options).map_err(raise)?;
    let again = PyDict::new(py);
    again.set_item("cache_bytes", options.get_cache_bytes())?;
    again.set_item("threads", threads)?;
    let dataset = (py.import("voxquarry")?.getattr("dataset")?,);
    let dataset = py.import("functools")?.getattr("partial")?.call(dataset, Some(&again))?;
    Ok(Dataset::made_by(made, dataset, &PyTuple::new(py, [kept])?))
}

/// The options of a cache and of threads.
pub(crate) fn cache_options(
    cache_bytes: Option<&Bound<'_, PyAny>>,
    threads: Option<usize>,
) -> PyResult<OpenOptions> {
    if threads == Some(0) {
        return Err(invalid("threads", 0, "None or at least 1"));
    }
    let options = OpenOptions::default().threads(threads);
    let Some(value) = cache_bytes else { return Ok(options) };
    let budget = usize::try_from(bytes(value, "cache_bytes")?).unwrap_or(usize::MAX);
    Ok(options.cache_bytes(budget))
}

const VERIFY: [(&str, Verify); 3] =
    [("never", Verify::Never), ("first", Verify::First), ("always", Verify::Always)];
const ACCESS: [(&str, Access); 2] = [("map", Access::Map), ("read", Access::Read)];

/// Checks a whole store, for `voxquarry.verify`.
#[pyfunction]
pub(crate) fn verify(
    py: Python<'_>,
    path: PathBuf,
    progress: Option<Py<PyAny>>,
) -> PyResult<Bound<'_, PyDict>> {
    let watch = Watch::new(progress);
    let mut step = |step: VerifyProgress<'_>| match step.total {
        // The volumes are being counted.
        0 => watch.hear(),
        total => watch.step((step.volume, step.done, total)),
    };
    let report = py.detach(|| voxquarry::verify(&path, &mut step));
    let report = watch.end(report)?;
    let messages: Vec<String> = report.errors.iter().map(ToString::to_string).collect();
    if let Some(first) = messages.first() {
        let error =
            raise(Error::data(&path, format!("{} errors, the first: {first}", report.error_count)));
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
/// A pickled dataset holds its path and the options of ``open``, and another process opens it anew,
/// with a cache of its own. Subjects and volumes are pickled as names in their dataset; those that
/// are pickled together share its cache.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Dataset(
    pub(crate) voxquarry::Dataset,
    PyOnceLock<Py<PyAny>>,
    /// What makes a dataset again that is no store: a callable and its arguments.
    Option<(Py<PyAny>, Py<PyTuple>)>,
);

impl Dataset {
    pub(crate) fn new(dataset: voxquarry::Dataset) -> Self {
        Self(dataset, PyOnceLock::new(), None)
    }

    /// A dataset that pickle makes again by a call.
    pub(crate) fn made_by(
        dataset: voxquarry::Dataset,
        callable: Bound<'_, PyAny>,
        arguments: &Bound<'_, PyTuple>,
    ) -> Self {
        let again = (callable.unbind(), arguments.clone().unbind());
        Self(dataset, PyOnceLock::new(), Some(again))
    }
}

#[pymethods]
impl Dataset {
    fn __len__(&self) -> usize {
        self.0.subjects().len()
    }

    fn __iter__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyIterator>> {
        names(py, self.0.subjects())
    }

    fn __contains__(&self, name: &Bound<'_, PyAny>) -> bool {
        contains(self.0.subjects(), name)
    }

    fn __getitem__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<Subject> {
        let this = &slf.get().0;
        let name = key("subject", name, this.path())?;
        let subject = slf.py().detach(|| this.subject(&name)).map_err(raise)?;
        Ok(Subject(subject, slf.clone().unbind()))
    }

    /// The store's folder, absolute, or its URL without a token; of a dataset of open volumes, the
    /// place of the first.
    #[getter]
    fn path(&self) -> String {
        self.0.path().to_string_lossy().into_owned()
    }

    /// The names of the subjects in each split, such as ``"train"``; reads the document of every
    /// subject.
    #[getter]
    fn splits(&self, py: Python<'_>) -> PyResult<BTreeMap<String, Vec<String>>> {
        py.detach(|| self.0.splits()).map_err(raise)
    }

    /// What :func:`voxquarry.ingest` did, if it returned this dataset; otherwise ``None``.
    #[getter]
    fn report(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.1.get(py).map(|report| report.clone_ref(py))
    }

    fn _set_report(&self, py: Python<'_>, report: Py<PyAny>) {
        self.1.get_or_init(py, || report);
    }

    /// Bytes of decoded chunks that the cache holds now.
    #[getter]
    fn cached_bytes(&self) -> usize {
        self.0.cached_bytes()
    }

    /// The data set at another spacing and in another orientation: a mapping to its subjects, each
    /// as ``Volume.at`` reads it.
    #[pyo3(signature = (spacing=None, orientation=None))]
    fn at<'py>(
        slf: &Bound<'py, Self>,
        spacing: Option<&Bound<'py, PyAny>>,
        orientation: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let views = slf.py().import("voxquarry._resampled")?;
        views.call_method1("ResampledDataset", (slf, spacing, orientation))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py, Bound<'py, PyTuple>>> {
        if let Some((callable, arguments)) = &self.2 {
            return Ok((callable.bind(py).clone(), arguments.bind(py).clone()));
        }
        let open_options = self.0.options();
        let options = PyDict::new(py);
        options.set_item("cache_bytes", open_options.get_cache_bytes())?;
        options.set_item("threads", open_options.get_threads())?;
        options.set_item("verify", name_of(&VERIFY, open_options.get_verify()))?;
        options.set_item("access", name_of(&ACCESS, open_options.get_access()))?;
        options.set_item("follow_links", open_options.get_follow_links())?;
        options.set_item("level", open_options.get_level())?;
        let mut path = OsString::from(self.0.path());
        if let Some((url, remote)) = self.0.url() {
            path = url.into();
            options.set_item("cache_dir", remote.get_cache_dir())?;
            options.set_item("cache_disk_bytes", remote.get_cache_disk_bytes())?;
        }
        let open = (py.import("voxquarry")?.getattr("open")?,);
        let open = py.import("functools")?.getattr("partial")?.call(open, Some(&options))?;
        Ok((open, PyTuple::new(py, [path])?))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("voxquarry._html")?.call_method1("dataset", (slf,))
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
        contains(self.0.volumes(), name)
    }

    fn __getitem__(slf: &Bound<'_, Self>, name: &Bound<'_, PyAny>) -> PyResult<Volume> {
        let (this, store) = (&slf.get().0, slf.get().1.get().0.path());
        let name = key("volume", name, &store.join(this.name()))?;
        let volume = slf.py().detach(|| this.volume(&name)).map_err(raise)?;
        Ok(Volume(volume, slf.clone().into_any().unbind()))
    }

    /// Its name in the dataset.
    #[getter]
    fn name(&self) -> &str {
        self.0.name()
    }

    /// The store that it belongs to.
    #[getter]
    fn dataset(&self, py: Python<'_>) -> Py<Dataset> {
        self.1.clone_ref(py)
    }

    /// Extents in ``(z, y, x)`` that all its volumes share.
    #[getter]
    fn size(&self, py: Python<'_>) -> PyResult<(usize, usize, usize)> {
        py.detach(|| self.0.size()).map(|[z, y, x]| (z, y, x)).map_err(raise)
    }

    /// The subject at another spacing and in another orientation: a mapping to its volumes, each as
    /// ``Volume.at`` reads it.
    #[pyo3(signature = (spacing=None, orientation=None))]
    fn at<'py>(
        slf: &Bound<'py, Self>,
        spacing: Option<&Bound<'py, PyAny>>,
        orientation: Option<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let views = slf.py().import("voxquarry._resampled")?;
        views.call_method1("ResampledSubject", (slf, spacing, orientation))
    }

    fn __reduce__<'py>(&self, py: Python<'py>) -> PyResult<Reduced<'py, (Py<Dataset>, String)>> {
        Ok((getitem(py)?, (self.1.clone_ref(py), self.0.name().to_owned())))
    }

    fn _repr_html_<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        slf.py().import("voxquarry._html")?.call_method1("subject", (slf,))
    }

    fn __repr__(&self) -> String {
        format!("<voxquarry.Subject {:?}: {}>", self.0.name(), self.0.volumes().join(", "))
    }
}

/// Opens a store and gives one volume of it.
pub(crate) fn open_volume<'py>(
    py: Python<'py>,
    store: &Path,
    (subject, volume): (&str, &str),
) -> PyResult<Bound<'py, PyAny>> {
    let open = || voxquarry::Dataset::open(store, &OpenOptions::default());
    let dataset = py.detach(open).map_err(raise)?;
    Bound::new(py, Dataset::new(dataset))?.get_item(subject)?.get_item(volume)
}

/// Gives a class the rest of `collections.abc.Mapping`: all that follows from its own `__len__`,
/// `__iter__` and `__getitem__`.
pub(crate) fn complete_mapping(class: &Bound<'_, PyType>) -> PyResult<()> {
    let mapping = class.py().import("collections.abc")?.getattr("Mapping")?;
    for method in ["get", "items", "keys", "values"] {
        class.setattr(method, mapping.getattr(method)?)?;
    }
    mapping.call_method1("register", (class,)).map(drop)
}

/// Whether a Python object is one of the names.
fn contains(names: &[String], value: &Bound<'_, PyAny>) -> bool {
    value.extract::<String>().is_ok_and(|name| names.contains(&name))
}

/// A name to look up in `place`. Anything but a string is a `KeyError`: nothing has such a name.
fn key(kind: &'static str, value: &Bound<'_, PyAny>, place: &Path) -> PyResult<String> {
    value.extract().map_err(|_| {
        let (name, place) = (value.to_string(), place.to_owned());
        raise(Error::NotFound { kind, name, place, available: Vec::new() })
    })
}

fn names<'py>(py: Python<'py>, names: &[String]) -> PyResult<Bound<'py, PyIterator>> {
    PyList::new(py, names)?.try_iter()
}
