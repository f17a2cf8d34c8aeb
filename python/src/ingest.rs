//! `ingest` and `export`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use pyo3::prelude::*;
use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Dtype, IfExists, Normalization};
use voxquarry_ingest::{
    ByteOrder, Event, Failure, FindOptions, FingerprintOptions, Found, IngestOptions, IngestReport,
    Manifest, Observer, RawVoxels, Source, VolumeInput, export_observed, find, find_in, subject_of,
};

use crate::arguments::{bytes, sizes};
use crate::dataset::Dataset;
use crate::errors::{invalid, raise, raise_existing, unsupported};
use crate::volume::Volume;
use crate::voxel_source::{PyVoxels, Raised};

/// A row of sources: subject (`None`: the file's stem), volume, kind, and a path or a `Voxels` of
/// `voxquarry._arrays`.
pub(crate) type Row<'py> = (Option<String>, String, String, Bound<'py, PyAny>);

/// How sources are found and failures are met; the names of the keyword arguments.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
#[allow(clippy::struct_excessive_bools)] // Each is a keyword of Python.
pub(crate) struct Choices {
    layout: String,
    pattern: Option<String>,
    kinds: Vec<(String, String)>,
    subset: Vec<String>,
    add: bool,
    keep_going: bool,
    grid_tolerance: Option<f64>,
    grid_from: Option<String>,
    affine: Option<[[f64; 4]; 4]>,
    raw: Option<StatedVoxels>,
    levels: String,
    crop_foreground: bool,
    clip: Option<(f64, f64)>,
    canonical: bool,
    target_spacing: Option<[f64; 3]>,
    normalize: Option<Normalize>,
    dtype: Option<String>,
}

/// A window, or the name of a normalisation.
#[derive(FromPyObject)]
enum Normalize {
    Named(String),
    Window(f64, f64),
}

/// What files without a format hold: shape, dtype, offset and byte order.
type StatedVoxels = (Vec<usize>, String, u64, String);

impl Choices {
    fn find_options(&self) -> PyResult<FindOptions> {
        let mut options = FindOptions::default();
        options.layout = self.layout.parse().map_err(raise)?;
        options.pattern.clone_from(&self.pattern);
        options.subset.clone_from(&self.subset);
        for (volume, kind) in &self.kinds {
            options.kinds.push((volume.clone(), kind.parse().map_err(raise)?));
        }
        Ok(options)
    }

    fn apply(&self, options: IngestOptions) -> PyResult<IngestOptions> {
        let affine = self.affine.map(Affine);
        if let Some(Err(reason)) = affine.map(|affine| affine.validate()) {
            return Err(unsupported(reason, "give 4 rows of 4 numbers"));
        }
        let raw = self.raw.as_ref().map(raw_voxels).transpose()?;
        let dtype = |name: &String| {
            let names: Vec<_> = Dtype::ALL.iter().map(|dtype| dtype.name()).collect();
            let expected = format!("one of {}", names.join(", "));
            Dtype::from_name(name).ok_or_else(|| invalid("dtype", format!("{name:?}"), expected))
        };
        let normalization = match &self.normalize {
            None => None,
            Some(Normalize::Window(low, high)) => Some(Normalization::Window(*low, *high)),
            Some(Normalize::Named(name)) if name == "zscore" => Some(Normalization::ZScore),
            Some(Normalize::Named(name)) => {
                let expected = "\"zscore\" or two numbers";
                return Err(invalid("normalize", format!("{name:?}"), expected));
            }
        };
        let options = options
            .crop_foreground(self.crop_foreground)
            .clip(self.clip)
            .canonical(self.canonical)
            .target_spacing(self.target_spacing)
            .normalize(normalization)
            .dtype(self.dtype.as_ref().map(dtype).transpose()?);
        Ok(options
            .raw(raw)
            .levels(self.levels.parse().map_err(raise)?)
            .add_volumes(self.add)
            .keep_going(self.keep_going)
            .grid_tolerance_mm(self.grid_tolerance)
            .grid_from(self.grid_from.clone())
            .affine(affine))
    }
}

fn raw_voxels((shape, dtype, offset, order): &StatedVoxels) -> PyResult<RawVoxels> {
    let known = Dtype::from_name(dtype);
    let known = known.ok_or_else(|| invalid("raw", dtype.clone(), "a dtype of a store"))?;
    let mut voxels = RawVoxels::of_shape(shape, known).map_err(raise)?;
    voxels.offset = *offset;
    voxels.order = match order.as_str() {
        "little" => ByteOrder::Little,
        "big" => ByteOrder::Big,
        _ => return Err(invalid("raw", format!("{order:?}"), "\"little\" or \"big\"")),
    };
    Ok(voxels)
}

/// Done, skipped, failures (subject, volume, path, error) and notes of an ingest.
pub(crate) type Outcome =
    (Vec<String>, Vec<String>, Vec<(String, String, String, String)>, Vec<String>);

/// What `voxquarry.ingest` was given, in Rust's terms.
pub(crate) struct IngestRequest {
    pub(crate) found: Found,
    pub(crate) options: IngestOptions,
    /// What Python raised while its arrays were read.
    pub(crate) raised: Raised,
}

impl IngestRequest {
    /// Finds the sources, `paths` or `rows`, and checks the options.
    #[allow(clippy::too_many_arguments)] // Python's keywords, bundled here.
    pub(crate) fn new(
        py: Python<'_>,
        paths: Option<Vec<PathBuf>>,
        rows: Vec<Row<'_>>,
        patch_size: &Bound<'_, PyAny>,
        codec: &str,
        memory_bytes: &Bound<'_, PyAny>,
        threads: Option<usize>,
        existing: &str,
        choices: &Choices,
    ) -> PyResult<Self> {
        let raised = Raised::default();
        let find_options = choices.find_options()?;
        let found = match paths {
            Some(paths) => py.detach(|| find(&paths, &find_options)),
            None => find_in(manifest(rows, &raised)?, &find_options),
        };
        let found = found.map_err(raise)?;
        let options = IngestOptions::default()
            .patch_sizes(sizes(patch_size, "patch_size")?)
            .codec(codec.parse().map_err(raise)?)
            .memory_bytes(bytes(memory_bytes, "memory_bytes")?)
            .threads(threads)
            .if_exists(self::existing(existing)?);
        Ok(Self { found, options: choices.apply(options)?, raised })
    }
}

/// Converts sources for `voxquarry.ingest`, which opens the store afterwards: `paths`, or `rows`.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
pub(crate) fn ingest(
    py: Python<'_>,
    paths: Option<Vec<PathBuf>>,
    rows: Vec<Row<'_>>,
    out: PathBuf,
    patch_size: &Bound<'_, PyAny>,
    codec: &str,
    memory_bytes: &Bound<'_, PyAny>,
    threads: Option<usize>,
    existing: &str,
    choices: Choices,
    progress: Option<Py<PyAny>>,
) -> PyResult<Outcome> {
    let request = IngestRequest::new(
        py,
        paths,
        rows,
        patch_size,
        codec,
        memory_bytes,
        threads,
        existing,
        &choices,
    )?;
    let IngestRequest { found, options, raised } = request;
    let listener = Listener::new(progress);
    let run = || voxquarry_ingest::ingest(&found.manifest, &out, &options, &listener);
    let mut report = None;
    let result = py.detach(run).map(|done| report = Some(done));
    listener.end(result, REMEDY).map_err(|error| raised.or_cause(error))?;
    Ok(outcome(report.unwrap_or_default(), found.notes))
}

/// What an existing subject asks for.
pub(crate) const REMEDY: &str =
    "replace it (overwrite=True) or leave it as it is (skip_existing=True)";

/// A report, as Python gets it.
pub(crate) fn outcome(report: IngestReport, found: Vec<String>) -> Outcome {
    let IngestReport { written, skipped, failed, notes, .. } = report;
    let failure = |failure: Failure| {
        let path = failure.path.to_string_lossy().into_owned();
        (failure.subject, failure.volume, path, failure.error.to_string())
    };
    let notes = found.into_iter().chain(notes).collect();
    (written, skipped, failed.into_iter().map(failure).collect(), notes)
}

fn existing(name: &str) -> PyResult<IfExists> {
    match name {
        "refuse" => Ok(IfExists::Error),
        "skip" => Ok(IfExists::Skip),
        "overwrite" => Ok(IfExists::Replace),
        other => {
            let expected = "\"refuse\", \"skip\" or \"overwrite\"";
            Err(invalid("existing", format!("{other:?}"), expected))
        }
    }
}

fn manifest(rows: Vec<Row<'_>>, raised: &Raised) -> PyResult<Manifest> {
    let mut manifest = Manifest::new();
    for (subject, volume, kind, input) in rows {
        let (subject, input) = match (subject, input.extract::<PathBuf>()) {
            (subject, Ok(path)) => {
                (subject.unwrap_or_else(|| subject_of(&path)), VolumeInput::from(path))
            }
            (subject, Err(_)) => {
                let subject = subject.expect("arrays come with their subject");
                let voxels = PyVoxels::new(&input, &subject, &volume, raised.clone())?;
                (subject, VolumeInput::Voxels(Arc::new(voxels)))
            }
        };
        let source = Source::new(subject, volume, Kind::Image, input);
        let pushed = kind.parse().and_then(|kind| manifest.push_as(kind, source));
        pushed.map_err(raise)?;
    }
    if manifest.subjects().is_empty() {
        return Err(unsupported("source names no file", "give at least one"));
    }
    Ok(manifest)
}

/// Reports progress to Python and checks its signals, so that Ctrl-C stops a run between layers.
pub(crate) struct Listener {
    progress: Option<Py<PyAny>>,
    /// The volume of a run that has one.
    volume: String,
    /// The volume that each thread is at: subjects are ingested side by side.
    volumes: Mutex<HashMap<ThreadId, String>>,
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
    raised: Mutex<Option<PyErr>>,
}

impl Listener {
    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        Self {
            progress,
            volume: String::new(),
            volumes: Mutex::default(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
            raised: Mutex::new(None),
        }
    }

    /// For work on one volume.
    fn of_volume(progress: Option<Py<PyAny>>, volume: &voxquarry::Volume) -> Self {
        let subject = volume.path().parent().and_then(Path::file_name).unwrap_or_default();
        let label = format!("{}/{}", subject.display(), volume.name());
        let total = AtomicU64::new(volume.voxel_bytes());
        Self { volume: label, total, ..Self::new(progress) }
    }

    /// The run's result: an exception that Python itself raised comes first; `remedy` is for files
    /// that exist already.
    pub(crate) fn end(self, result: voxquarry::Result<()>, remedy: &str) -> PyResult<()> {
        match self.raised.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(raised) => Err(raised),
            None => result.map_err(raise_existing(remedy)),
        }
    }

    fn keep(&self, result: PyResult<()>) {
        if let Err(error) = result {
            self.stopped.store(true, Ordering::SeqCst);
            *self.raised.lock().expect("no panic while it is held") = Some(error);
        }
    }
}

impl Observer for Listener {
    fn event(&self, event: Event<'_>) {
        match event {
            Event::Begin { bytes, .. } => self.total.store(bytes, Ordering::SeqCst),
            Event::Volume { subject, volume } => {
                let mut volumes = self.volumes.lock().expect("no panic while it is held");
                volumes.insert(thread::current().id(), format!("{subject}/{volume}"));
            }
            Event::Measuring { subject } => {
                let mut volumes = self.volumes.lock().expect("no panic while it is held");
                volumes.insert(thread::current().id(), subject.to_owned());
            }
            Event::Encoded(bytes) => {
                let done = self.done.fetch_add(bytes, Ordering::SeqCst) + bytes;
                if let Some(progress) = &self.progress {
                    let volumes = self.volumes.lock().expect("no panic while it is held");
                    let volume = volumes.get(&thread::current().id()).unwrap_or(&self.volume);
                    let volume = volume.clone();
                    drop(volumes);
                    let total = self.total.load(Ordering::SeqCst);
                    self.keep(Python::attach(|py| {
                        progress.call1(py, (volume, done, total)).map(drop)
                    }));
                }
            }
            _ => {}
        }
    }

    // The method alone has one lifetime too few.
    #[allow(clippy::redundant_closure_for_method_calls)]
    fn interrupted(&self) -> bool {
        self.keep(Python::attach(|py| py.check_signals()));
        self.stopped.load(Ordering::SeqCst)
    }
}

/// Measures a dataset for `voxquarry.fingerprint`; the answer is JSON.
#[pyfunction]
pub(crate) fn fingerprint(
    py: Python<'_>,
    dataset: &Dataset,
    volumes: Vec<String>,
    labels: Option<String>,
    progress: Option<Py<PyAny>>,
) -> PyResult<String> {
    let options = FingerprintOptions::default().volumes(volumes).labels(labels);
    let listener = Listener::new(progress);
    let run = || voxquarry_ingest::fingerprint(&dataset.0, &options, &listener);
    let mut found = None;
    let result = py.detach(run).map(|fingerprint| found = Some(fingerprint));
    listener.end(result, "")?;
    Ok(serde_json::to_string(&found).expect("numbers and names"))
}

/// Writes a volume to a file, for `voxquarry.export`.
#[pyfunction]
#[pyo3(signature = (volume, out, *, overwrite=false, progress=None))]
pub(crate) fn export(
    py: Python<'_>,
    volume: &Volume,
    out: PathBuf,
    overwrite: bool,
    progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let existing = if overwrite { IfExists::Replace } else { IfExists::Error };
    let (volume, out): (_, &Path) = (&volume.0, &out);
    let listener = Listener::of_volume(progress, volume);
    let result = py.detach(|| export_observed(volume, out, existing, &listener));
    listener.end(result, "choose another name, or replace it (overwrite=True)")
}
