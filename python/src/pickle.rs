//! What `__reduce__` returns.

use pyo3::prelude::*;

/// What pickle calls to make an object again, and its arguments.
pub(crate) type Reduced<'py, Arguments> = (Bound<'py, PyAny>, Arguments);

/// `operator.getitem`.
pub(crate) fn getitem(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
    py.import("operator")?.getattr("getitem")
}
