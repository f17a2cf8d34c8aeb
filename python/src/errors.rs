//! Rust errors as the exceptions of `voxquarry._errors`.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyType;
use voxquarry::{Error, Fault};

/// For `map_err`: the exception that mirrors an error.
pub(crate) fn raise(error: Error) -> PyErr {
    let class = match (error.root(), error.fault()) {
        (Error::NotFound { .. }, _) => "NotFoundError",
        (_, Fault::Caller) => "UsageError",
        (_, Fault::Data) => "DataError",
        (_, Fault::Environment) => "StorageError",
    };
    Python::attach(|py| match exception(py, class) {
        // The system's number makes `except PermissionError`-like code work through `errno`.
        Ok(class) => match error.root() {
            Error::Io { source, .. } if source.raw_os_error().is_some() => {
                PyErr::from_type(class, (source.raw_os_error(), error.to_string()))
            }
            _ => PyErr::from_type(class, error.to_string()),
        },
        Err(import) => import,
    })
}

/// A `UsageError`.
pub(crate) fn usage(message: impl Into<String>) -> PyErr {
    raise(Error::usage(message))
}

fn exception<'py>(py: Python<'py>, name: &str) -> PyResult<Bound<'py, PyType>> {
    static MODULE: PyOnceLock<Py<PyModule>> = PyOnceLock::new();
    let module =
        MODULE.get_or_try_init(py, || py.import("voxquarry._errors").map(Bound::unbind))?;
    Ok(module.bind(py).getattr(name)?.cast_into::<PyType>()?)
}
