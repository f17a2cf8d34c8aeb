//! Calls Python between the steps of long work, and keeps what it raises.

use std::sync::{Mutex, PoisonError};

use pyo3::call::PyCallArgs;
use pyo3::prelude::*;
use voxquarry::Error;

use crate::errors::raise;

/// Tells a Python function how far the work is, and hears Ctrl-C.
pub(crate) struct Watch {
    progress: Option<Py<PyAny>>,
    raised: Mutex<Option<PyErr>>,
}

impl Watch {
    pub(crate) fn new(progress: Option<Py<PyAny>>) -> Self {
        Self { progress, raised: Mutex::new(None) }
    }

    /// Calls the function, if there is one.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if it raised, or Ctrl-C did: [`end`](Self::end) raises that again.
    pub(crate) fn step(&self, arguments: impl for<'py> PyCallArgs<'py>) -> voxquarry::Result<()> {
        let called = Python::attach(|py| {
            py.check_signals()?;
            let Some(progress) = &self.progress else { return Ok(()) };
            progress.call1(py, arguments).map(drop)
        });
        self.kept(called)
    }

    /// Hears Ctrl-C alone.
    ///
    /// # Errors
    /// As [`step`](Self::step).
    pub(crate) fn hear(&self) -> voxquarry::Result<()> {
        let heard = Python::attach(|py| {
            py.check_signals()?;
            Ok(())
        });
        self.kept(heard)
    }

    fn kept(&self, called: PyResult<()>) -> voxquarry::Result<()> {
        called.map_err(|error| {
            *self.raised.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            Error::Interrupted
        })
    }

    /// What Python raised.
    pub(crate) fn raised(&self) -> Option<PyErr> {
        self.raised.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The result, or what Python raised.
    pub(crate) fn end<R>(&self, result: voxquarry::Result<R>) -> PyResult<R> {
        result.map_err(|error| self.raised().unwrap_or_else(|| raise(error)))
    }
}
