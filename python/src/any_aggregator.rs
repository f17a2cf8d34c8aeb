//! An aggregator of the library, whatever the dtype and the place of its result, and how the result
//! becomes a Python object.

use std::path::{Path, PathBuf};

use numpy::ndarray::{Array4, Axis};
use numpy::{Element, PyArray};
use pyo3::prelude::*;
use voxquarry::{AxisWeights, NanPlace, PatchDtype, Region, Sink, Size3, StoreWriter, Voxel};

use crate::dataset::open_volume;
use crate::errors::raise;

/// An aggregator of the library, whatever its dtype and sink.
pub(crate) trait AnyAggregator: Send + Sync {
    fn add(&self, dtype: PatchDtype, patches: &[u8], starts: &[[i64; 3]]) -> voxquarry::Result<()>;
    fn missing(&self) -> usize;
    fn needed(&self) -> voxquarry::Result<Vec<[i64; 3]>>;
    fn put(&self, region: &Region, voxels: &[u8]) -> voxquarry::Result<()>;
    fn box_size(&self) -> Size3;
    fn axis_weights(&self) -> voxquarry::Result<([AxisWeights; 3], f64)>;
    fn patch_size(&self) -> Size3;
    fn shape(&self) -> Vec<usize>;
    fn has(&self, start: [i64; 3]) -> bool;
    fn has_failed(&self) -> bool;
    fn first_nan(&self) -> Option<NanPlace>;
    fn check_complete(&self) -> voxquarry::Result<()>;
    fn finish(self: Box<Self>, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>>;
}

impl<S: Sink<Finished: IntoPython>> AnyAggregator for voxquarry::Aggregator<S> {
    fn add(&self, dtype: PatchDtype, patches: &[u8], starts: &[[i64; 3]]) -> voxquarry::Result<()> {
        self.add_bytes(dtype, patches, starts)
    }

    fn missing(&self) -> usize {
        voxquarry::Aggregator::missing(self)
    }

    fn needed(&self) -> voxquarry::Result<Vec<[i64; 3]>> {
        voxquarry::Aggregator::needed(self)
    }

    fn put(&self, region: &Region, voxels: &[u8]) -> voxquarry::Result<()> {
        voxquarry::Aggregator::put(self, region, voxels)
    }

    fn box_size(&self) -> Size3 {
        voxquarry::Aggregator::box_size(self)
    }

    fn axis_weights(&self) -> voxquarry::Result<([AxisWeights; 3], f64)> {
        Ok((voxquarry::Aggregator::axis_weights(self)?, self.least_weight()))
    }

    fn patch_size(&self) -> Size3 {
        voxquarry::Aggregator::patch_size(self)
    }

    fn shape(&self) -> Vec<usize> {
        self.out_channels().into_iter().chain(self.size()).collect()
    }

    fn has(&self, start: [i64; 3]) -> bool {
        voxquarry::Aggregator::has(self, start)
    }

    fn has_failed(&self) -> bool {
        voxquarry::Aggregator::has_failed(self)
    }

    fn first_nan(&self) -> Option<NanPlace> {
        voxquarry::Aggregator::first_nan(self)
    }

    fn check_complete(&self) -> voxquarry::Result<()> {
        voxquarry::Aggregator::check_complete(self)
    }

    fn finish(self: Box<Self>, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>> {
        py.detach(|| voxquarry::Aggregator::finish(*self)).map_err(raise)?.hand_over(py, channels)
    }
}

/// A result that becomes a Python object.
pub(crate) trait IntoPython: Send {
    fn hand_over(self, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>>;
}

impl<T: Voxel + Element> IntoPython for Array4<T> {
    /// The array becomes numpy's without a copy.
    fn hand_over(self, py: Python<'_>, channels: bool) -> PyResult<Bound<'_, PyAny>> {
        Ok(if channels {
            PyArray::from_owned_array(py, self).into_any()
        } else {
            PyArray::from_owned_array(py, self.index_axis_move(Axis(0), 0)).into_any()
        })
    }
}

impl IntoPython for voxquarry::Volume {
    fn hand_over(self, py: Python<'_>, _: bool) -> PyResult<Bound<'_, PyAny>> {
        let (store, place) = split(self.path()).map_err(raise)?;
        open_volume(py, store, place)
    }
}

/// A part has no result of its own.
impl IntoPython for () {
    fn hand_over(self, py: Python<'_>, _: bool) -> PyResult<Bound<'_, PyAny>> {
        Ok(py.None().into_bound(py))
    }
}

/// Joins the parts of the volume at `out`, `STORE/SUBJECT/VOLUME`, and opens it.
#[pyfunction]
pub(crate) fn finalize_volume(py: Python<'_>, out: PathBuf) -> PyResult<Bound<'_, PyAny>> {
    let join = || {
        let (store, (subject, volume)) = split(&out)?;
        existing(store)?.finalize_volume(subject, volume)
    };
    py.detach(join).map_err(raise)?.hand_over(py, true)
}

/// Removes the unfinished parts of the volume at `out`, and returns how many there were.
#[pyfunction]
pub(crate) fn discard_volume_parts(py: Python<'_>, out: PathBuf) -> PyResult<usize> {
    let discard = || {
        let (store, (subject, volume)) = split(&out)?;
        existing(store)?.discard_volume_parts(subject, volume)
    };
    py.detach(discard).map_err(raise)
}

/// A store, or the folder of one whose first parts are unfinished, that is there.
fn existing(store: &Path) -> voxquarry::Result<StoreWriter> {
    if store.is_dir() {
        return StoreWriter::open(store, None);
    }
    let reason = "there is nothing at that path".to_owned();
    Err(voxquarry::Error::NotAStore { path: store.to_owned(), reason })
}

/// Store, subject and volume of `STORE/SUBJECT/VOLUME`.
pub(crate) fn split(out: &Path) -> voxquarry::Result<(&Path, (&str, &str))> {
    let parts = || {
        let subject = out.parent()?;
        let store = subject.parent().filter(|store| !store.as_os_str().is_empty())?;
        Some((store, (subject.file_name()?.to_str()?, out.file_name()?.to_str()?)))
    };
    parts().ok_or_else(|| {
        let expected = "\"STORE/SUBJECT/VOLUME\", such as \"pred.zarr/case01/pred\"";
        voxquarry::Error::invalid("out", format!("{:?}", out.display()), expected)
    })
}
