//! Raises Rust errors as the exceptions of `voxquarry._errors`.
//!
//! # Invariants
//! - The library states facts. The arguments by which a Python user answers them are named here.
//! - The class names the party that can remedy the error. It is also the built-in exception that
//!   Python code catches for it: `FileNotFoundError` for paths, `KeyError` for names, `MemoryError`
//!   for memory.

use std::borrow::Cow;
use std::fmt::Display;
use std::io::ErrorKind;
use std::path::Path;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use voxquarry::{Error, Fault};

/// How to do without the memory: of any call, of one that reads, of one that draws, and of one
/// whose result may go elsewhere.
const LESS_AT_A_TIME: &str = "ask for less at a time: smaller regions, fewer samples or smaller \
                              batches; where a call has out=, it can write into a store";
pub(crate) const READ_LESS: &str = "read less at a time: smaller regions, or fewer patches";
pub(crate) const DRAW_LESS: &str = "ask for fewer samples at a time";
pub(crate) const LAY_FEWER: &str = "choose larger patches or a smaller overlap, so that there are \
                                    fewer";
pub(crate) const BLEND_LESS: &str = "write the result into a store (out=\"STORE/SUBJECT/VOLUME\"), \
                                     or choose larger patches";
pub(crate) const INTO_A_STORE: &str =
    "write the result into a store (out=\"STORE/SUBJECT/VOLUME\")";

/// For `map_err`: the exception that mirrors an error.
pub(crate) fn raise(error: Error) -> PyErr {
    raised(&error, worded(&error))
}

/// For `map_err`: as [`raise`], with `remedy` where memory is short.
pub(crate) fn raise_short(remedy: &'static str) -> impl Fn(Error) -> PyErr {
    move |error| match &error {
        Error::OutOfMemory { .. } | Error::TooLarge { .. } => {
            raised(&error, format!("{error}: {remedy}"))
        }
        _ => raise(error),
    }
}

/// For `map_err`: as [`raise`], with `remedy` for something that exists already.
pub(crate) fn raise_existing(remedy: &str) -> impl Fn(Error) -> PyErr {
    move |error| match &error {
        Error::Exists { path, .. } => {
            raised(&error, format!("{}: exists already: {remedy}", path.display()))
        }
        Error::ExistsOtherwise { path, difference } => {
            let path = path.display();
            let found = format!("{path}: exists already, made from something else: {difference}");
            raised(&error, format!("{found}: {remedy}"))
        }
        _ => raise(error),
    }
}

/// A `UsageError`: an argument with a value outside of what it accepts.
pub(crate) fn invalid(
    argument: impl Into<Cow<'static, str>>,
    value: impl Display,
    expected: impl Into<String>,
) -> PyErr {
    raise(Error::invalid(argument, value, expected))
}

/// A `UsageError`: a request that cannot be served, and what to do instead.
pub(crate) fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> PyErr {
    raise(Error::unsupported(reason, remedy))
}

/// What numpy raised for want of memory, as a `StorageError` with `remedy`; any other exception as
/// it is.
pub(crate) fn allocation(py: Python<'_>, raised: PyErr, remedy: &str) -> PyErr {
    if !raised.is_instance_of::<pyo3::exceptions::PyMemoryError>(py) {
        return raised;
    }
    let message = format!("{}: {remedy}", raised.value(py));
    class(py, "OutOfMemoryError").map_or_else(|e| e, |class| PyErr::from_type(class, message))
}

/// Whether there is nothing where a store was expected.
fn is_nothing(path: &Path, reason: &str) -> bool {
    let is_url = path.to_str().is_some_and(|path| path.contains("://"));
    if is_url { reason.starts_with("there is nothing") } else { !path.exists() }
}

fn raised(error: &Error, message: String) -> PyErr {
    let name = match error.root() {
        Error::NotFound { .. } => "NotFoundError",
        Error::NotAStore { path, reason } if is_nothing(path, reason) => "PathNotFoundError",
        Error::NoSuchFile { .. } => "PathNotFoundError",
        Error::TooLarge { .. } => "TooLargeError",
        Error::OutOfMemory { .. } => "OutOfMemoryError",
        Error::Io { source, .. } if source.kind() == ErrorKind::OutOfMemory => "OutOfMemoryError",
        Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => "FileMissingError",
        _ => match error.fault() {
            Fault::Caller => "UsageError",
            Fault::Data => "DataError",
            Fault::Environment => "StorageError",
        },
    };
    Python::attach(|py| {
        let class = match class(py, name) {
            Ok(class) => class,
            Err(import) => return import,
        };
        match error.root() {
            // The system's number lets callers tell a full disk from a missing permission by
            // `errno`.
            Error::Io { source, .. } if source.raw_os_error().is_some() => {
                PyErr::from_type(class, (source.raw_os_error(), message))
            }
            Error::NotAStore { path, .. } | Error::NoSuchFile { path, .. } => {
                let raised = PyErr::from_type(class, message);
                let named = raised.value(py).setattr("filename", path.to_string_lossy());
                named.map_or_else(|error| error, |()| raised)
            }
            _ => PyErr::from_type(class, message),
        }
    })
}

/// The error's message, with remedies in Python's terms.
fn worded(error: &Error) -> String {
    match error {
        Error::InPatch { source, .. } | Error::InSubject { source, .. } => {
            let (whole, inner) = (error.to_string(), source.to_string());
            let place = whole.strip_suffix(&inner).unwrap_or_default();
            format!("{place}{}", worded(source))
        }
        Error::OutOfBounds { start, size, shape } => format!(
            "the patch at {start:?} of {size:?} voxels leaves the volume of {shape:?} (z, y, x): \
             choose a padding (padding=0, \"edge\" or \"reflect\")"
        ),
        Error::PatchTooLarge { patch_size, shape } => format!(
            "patch size {patch_size:?} is larger than the volume of {shape:?} voxels (z, y, x): \
             choose a smaller patch, or let it leave the volume (border=\"pad\" of a random \
             sampler, padding=\"reflect\" of a grid)"
        ),
        Error::CannotSample { .. }
        | Error::NothingToSample { is_elsewhere: true, .. }
        | Error::ConstraintsUnmet { .. } => unsampled(error),
        Error::AddedTwice { start } => format!(
            "the patch that begins at {start:?} (z, y, x) was added before: each counts once \
             (replace=True keeps the last)"
        ),
        Error::NonFinite { start, index, channel, value } => format!(
            "the patch that begins at {start:?} (z, y, x) has {value} at {index:?} of channel \
             {channel}: find out why the model makes it, or keep such values (nonfinite=\"keep\")"
        ),
        Error::ResumeMismatch { volume, found, requested } => format!(
            "{volume} was begun with other arguments ({found}; now {requested}): repeat those to \
             continue it, or begin afresh (resume=False)"
        ),
        Error::MemoryBudget { what, needed_bytes, allowed_bytes } => {
            let (needed, allowed) = (needed_bytes.div_ceil(1 << 20), allowed_bytes >> 20);
            format!(
                "{what} needs {needed} MiB of memory, {allowed} MiB are allowed: allow more \
                 (memory_bytes=\"{needed}MiB\")"
            )
        }
        Error::OutOfMemory { .. } | Error::TooLarge { .. } => format!("{error}: {LESS_AT_A_TIME}"),
        Error::WouldRemove { path, volumes } => format!(
            "{}: replacing it would remove its volumes {volumes:?}, which the new subject does not \
             have: add to the subject instead (add=True), or remove its folder first",
            path.display()
        ),
        Error::Busy { lock } => format!(
            "another process, or an unfinished aggregator of this one, is writing this volume (it \
             holds {}): wait for it, call close() on the aggregator, or choose another name",
            lock.display()
        ),
        _ => error.to_string(),
    }
}

/// The message where a sampler finds no patch, with remedies in Python's terms.
fn unsampled(error: &Error) -> String {
    match error {
        Error::CannotSample { found, is_every, is_near_border, is_too_large } => {
            let remedy = match (is_every, is_near_border) {
                _ if *is_too_large => "take larger patches",
                (_, true) => {
                    "pad the volumes, or choose a smaller patch, border=\"clamp\" or border=\"pad\""
                }
                (true, _) => "sample by labels or weights that they have",
                (false, _) => {
                    "leave them out (on_missing=\"skip\"), or draw their patches anywhere \
                     (on_missing=\"background\")"
                }
            };
            format!("no patch can be drawn in {found}: {remedy}")
        }
        Error::NothingToSample { place, wanted, patch_size, .. } => {
            format!(
                "{place}: no voxel {wanted} can be the centre of a patch of {patch_size:?} voxels \
                 with border=\"exclude\": pad the volume, choose a smaller patch, or \
                 border=\"clamp\" or border=\"pad\""
            )
        }
        Error::ConstraintsUnmet { subject, n, attempts } => format!(
            "sample {n} of subject {subject:?}: none of {attempts} attempts fulfils the \
             constraints: relax them, allow more attempts, or accept the best \
             (on_failure=\"best\")"
        ),
        _ => error.to_string(),
    }
}

/// The class that all exceptions of this package have.
pub(crate) fn library_error(py: Python<'_>) -> PyResult<Bound<'_, PyType>> {
    class(py, "Error")
}

fn class<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || py.import("voxquarry._errors").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(name)?.cast_into::<PyType>()?)
}
