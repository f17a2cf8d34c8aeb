//! `ingest` and `export`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::prelude::*;
use voxquarry::IfExists;
use voxquarry::format::attributes::Kind;
use voxquarry_ingest::{
    Event, IngestOptions, Manifest, Observer, Source, VolumeInput, export_observed, subject_of,
};

use crate::arguments::{bytes, sizes};
use crate::errors::{invalid, raise, raise_existing, unsupported};
use crate::volume::Volume;
use crate::voxel_source::{PyVoxels, Raised};

/// A row of sources: subject (`None`: the file's stem), volume, kind, and a path or a `Voxels` of
/// `voxquarry._arrays`.
type Row<'py> = (Option<String>, String, String, Bound<'py, PyAny>);

/// Converts sources for `voxquarry.ingest`, which opens the store afterwards.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
pub(crate) fn ingest(
    py: Python<'_>,
    table: Option<PathBuf>,
    rows: Vec<Row<'_>>,
    out: PathBuf,
    patch_size: &Bound<'_, PyAny>,
    codec: &str,
    memory_bytes: &Bound<'_, PyAny>,
    threads: Option<usize>,
    existing: &str,
    progress: Option<Py<PyAny>>,
) -> PyResult<()> {
    let raised = Raised::default();
    let manifest = match table {
        Some(table) => Manifest::from_csv(&table).map_err(raise)?,
        None => manifest(rows, &raised)?,
    };
    let options = IngestOptions::default()
        .patch_sizes(sizes(patch_size, "patch_size")?)
        .codec(codec.parse().map_err(raise)?)
        .memory_bytes(bytes(memory_bytes, "memory_bytes")?)
        .threads(threads)
        .if_exists(self::existing(existing)?);
    let listener = Listener::new(progress);
    let result = py.detach(|| voxquarry_ingest::ingest(&manifest, &out, &options, &listener));
    let remedy = "replace it (overwrite=True) or leave it as it is (skip_existing=True)";
    listener.end(result.map(drop), remedy).map_err(|error| raised.or_cause(error))
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
                (subject.unwrap_or_else(|| subject_of(&path)), VolumeInput::File(path))
            }
            (subject, Err(_)) => {
                let subject = subject.expect("arrays come with their subject");
                let voxels = PyVoxels::new(&input, &subject, &volume, raised.clone())?;
                (subject, VolumeInput::Voxels(Arc::new(voxels)))
            }
        };
        let image_or_labels = if kind == "labels" { Kind::Labels } else { Kind::Image };
        let source =
            Source { subject, volume, kind: image_or_labels, input, named_in: String::new() };
        let pushed = match kind.as_str() {
            "weights" => manifest.push_weights(source),
            _ => manifest.push(source),
        };
        pushed.map_err(raise)?;
    }
    if manifest.subjects().is_empty() {
        return Err(unsupported("source names no file", "give at least one"));
    }
    Ok(manifest)
}

/// Reports progress to Python and checks its signals, so that Ctrl-C stops a run between layers.
struct Listener {
    progress: Option<Py<PyAny>>,
    volume: Mutex<String>,
    done: AtomicU64,
    total: AtomicU64,
    stopped: AtomicBool,
    raised: Mutex<Option<PyErr>>,
}

impl Listener {
    fn new(progress: Option<Py<PyAny>>) -> Self {
        Self {
            progress,
            volume: Mutex::default(),
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
        Self { volume: Mutex::new(label), total, ..Self::new(progress) }
    }

    /// The run's result: an exception that Python itself raised comes first; `remedy` is for files
    /// that exist already.
    fn end(self, result: voxquarry::Result<()>, remedy: &str) -> PyResult<()> {
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
                *self.volume.lock().expect("no panic while it is held") =
                    format!("{subject}/{volume}");
            }
            Event::Encoded(bytes) => {
                let done = self.done.fetch_add(bytes, Ordering::SeqCst) + bytes;
                if let Some(progress) = &self.progress {
                    let volume = self.volume.lock().expect("no panic while it is held").clone();
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

/// Writes a volume to a file; the format follows the extension: ``.nii``, ``.nii.gz``,
/// ``.hdr``/``.img``.
///
/// A volume that was ingested from a NIfTI file gets the header of that file. Otherwise channels
/// become the fourth axis, float16 becomes float32, because NIfTI has no float16, and slope and
/// intercept go into the header. Voxels are streamed in slabs of planes. The threads of the
/// volume's dataset compress files that end in ``.gz``; the bytes do not depend on their number.
/// Ctrl-C stops the export between slabs. No partial file remains after an error.
///
/// Args:
///     volume: The volume to write.
///     out: The file; either of a pair.
///     overwrite: Replace an existing file.
///     progress: Called with the volume (``"case01/ct"``), the bytes read so far and the bytes in
///         all.
///
/// Raises:
///     UsageError: An extension that cannot be written, or a file that exists already.
///     DataError: The volume is damaged.
///     StorageError: Disk or permissions.
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
