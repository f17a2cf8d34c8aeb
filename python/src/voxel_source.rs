//! Volumes that Python provides: arrays, images and planes, as `voxquarry._arrays` describes them.
//!
//! # Invariants
//! - The bytes of each array that Python returns are copied before the call ends; Python never gets
//!   a reference to memory of the ingest.
//! - What Python raises is kept, and becomes the cause of the error that the caller sees.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use numpy::PyReadonlyArray1;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use serde_json::json;
use voxquarry::{Affine, Dtype, Error, LengthUnit, Result};
use voxquarry_ingest::source::{SourceDigest, SourceVolume, VolumeSource, VoxelStream, metadata};
use voxquarry_ingest::{VoxelDigest, digest_of};

use crate::errors::{library_error, unsupported};

/// What Python raised last while it gave voxels.
#[derive(Clone, Default)]
pub(crate) struct Raised(Arc<Mutex<Option<PyErr>>>);

impl Raised {
    fn keep(&self, error: PyErr, name: &str) -> Error {
        let error = Python::attach(|py| {
            let message = error.value(py).to_string();
            let class = error.get_type(py).name().map_or_else(|e| e.to_string(), |n| n.to_string());
            let message = if is_ours(py, &error) { message } else { format!("{class}: {message}") };
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            message
        });
        Error::data(name, error)
    }

    /// The exception for a run that failed with `error`: what Python raised is its cause, and
    /// replaces it if it is one of ours, or KeyboardInterrupt and its like.
    pub(crate) fn or_cause(&self, error: PyErr) -> PyErr {
        let Some(raised) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            return error;
        };
        Python::attach(|py| {
            if !raised.is_instance_of::<PyException>(py) {
                return raised;
            }
            if !is_ours(py, &raised) {
                error.set_cause(py, Some(raised));
            }
            error
        })
    }
}

fn is_ours(py: Python<'_>, error: &PyErr) -> bool {
    library_error(py).is_ok_and(|class| error.is_instance(py, &class))
}

/// A volume whose slabs Python gives.
pub(crate) struct PyVoxels {
    name: String,
    volume: SourceVolume,
    is_rereadable: bool,
    open: Py<PyAny>,
    raised: Raised,
}

impl PyVoxels {
    /// Volume `subject/volume`, from a `Voxels` of `voxquarry._arrays`.
    ///
    /// # Errors
    /// `UsageError` for an affine that is singular or not finite.
    pub(crate) fn new(
        voxels: &Bound<'_, PyAny>,
        subject: &str,
        volume: &str,
        raised: Raised,
    ) -> PyResult<Self> {
        let get = |name: &str| voxels.getattr(name);
        let type_name: String = get("type")?.extract()?;
        let name = format!("{type_name} of {subject}/{volume}");
        let dtype: String = get("dtype")?.extract()?;
        let affine: Option<[[f64; 4]; 4]> = get("affine")?.extract()?;
        let affine = affine.map_or(Affine::IDENTITY, Affine);
        affine.validate().map_err(|reason| {
            unsupported(format!("{name}: {reason}"), "give a finite and invertible affine")
        })?;
        let unit: Option<String> = get("unit")?.extract()?;
        let unit = unit.as_deref().and_then(LengthUnit::from_name);
        let origin = [("format", json!("array")), ("type", json!(type_name))];
        let volume = SourceVolume {
            size: get("size")?.extract()?,
            channels: get("channels")?.extract()?,
            interleaved: get("interleaved")?.extract()?,
            dtype: Dtype::from_name(&dtype).expect("Python names a dtype of the store"),
            affine,
            unit,
            slope: get("slope")?.extract()?,
            intercept: get("intercept")?.extract()?,
            origin: metadata(origin),
        };
        let is_rereadable = get("is_rereadable")?.extract()?;
        Ok(Self { name, volume, is_rereadable, open: get("open")?.unbind(), raised })
    }
}

impl VolumeSource for PyVoxels {
    fn name(&self) -> &str {
        &self.name
    }

    fn describe(&self) -> Result<SourceVolume> {
        Ok(self.volume.clone())
    }

    fn open(&self) -> Result<Box<dyn VoxelStream>> {
        let opened = Python::attach(|py| self.open.call0(py)?.extract::<(_, _)>(py));
        let (read, finish) = opened.map_err(|raised| self.raised.keep(raised, &self.name))?;
        let SourceVolume { size: [depth, y, x], interleaved, dtype, .. } = self.volume;
        Ok(Box::new(PyStream {
            name: self.name.clone(),
            read,
            finish,
            depth,
            interleaved,
            plane_bytes: y * x * dtype.size(),
            next: (0, 0),
            digest: VoxelDigest::default(),
            raised: self.raised.clone(),
        }))
    }

    fn has_digest(&self, sha256: &str) -> bool {
        self.is_rereadable && digest_of(self).is_ok_and(|digest| digest.sha256 == sha256)
    }
}

impl fmt::Debug for PyVoxels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PyVoxels").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Calls Python for slab after slab.
struct PyStream {
    name: String,
    read: Py<PyAny>,
    finish: Py<PyAny>,
    depth: usize,
    interleaved: usize,
    plane_bytes: usize,
    /// The group of channels and the plane that come next.
    next: (usize, usize),
    digest: VoxelDigest,
    raised: Raised,
}

impl VoxelStream for PyStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let (group, z) = self.next;
        let copied = Python::attach(|py| {
            let slab = self.read.bind(py).call1((group, z, steps))?;
            let slab: PyReadonlyArray1<'_, u8> = slab.extract()?;
            let slab = slab.as_slice()?;
            assert_eq!(slab.len(), out.len(), "Python checks the shape of a slab");
            out.copy_from_slice(slab);
            Ok(())
        });
        copied.map_err(|raised| self.raised.keep(raised, &self.name))?;
        self.next = if z + steps == self.depth { (group + 1, 0) } else { (group, z + steps) };
        self.digest.update(out, self.interleaved, self.plane_bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        let finished = Python::attach(|py| self.finish.call0(py).map(drop));
        finished.map_err(|raised| self.raised.keep(raised, &self.name))?;
        Ok(self.digest.finish())
    }
}
