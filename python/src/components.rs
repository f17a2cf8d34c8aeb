//! Connected components, and instance labels joined across blocks.

use std::path::PathBuf;

use numpy::Element;
use pyo3::prelude::*;
use voxquarry::{
    ComponentOptions, Components, Connectivity, Dtype, Objects, Part, Size3, StoreWriter, Voxel,
    with_voxel,
};

use crate::any_aggregator::split;
use crate::arguments::{bytes, dtype, size3};
use crate::dataset::open_volume;
use crate::errors::{INTO_A_STORE, invalid, raise};
use crate::volume::Volume;
use crate::voxels::{Target, fill};
use crate::watch::Watch;

/// Finds the objects of a volume, and writes their numbers to an array, a volume or a part of one;
/// of ``blocks``, those of ids that are local to a block.
#[pyfunction]
#[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
pub(crate) fn write_components<'py>(
    py: Python<'py>,
    volume: &Volume,
    out: Option<PathBuf>,
    join: &str,
    blocks: Option<&Bound<'py, PyAny>>,
    connectivity: &Bound<'py, PyAny>,
    min_voxels: u64,
    largest: Option<usize>,
    dtype: Option<&Bound<'py, PyAny>>,
    block_size: Option<&Bound<'py, PyAny>>,
    memory_bytes: &Bound<'py, PyAny>,
    threads: Option<usize>,
    part: Option<(usize, usize)>,
    progress: Py<PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if threads == Some(0) {
        return Err(invalid("threads", 0, "None or at least 1"));
    }
    let objects = match (blocks, join) {
        (Some(blocks), _) => Objects::BlockIds(size3(blocks, "block_size")?),
        (None, "foreground") => Objects::Foreground,
        (None, "equal") => Objects::EqualValues,
        _ => return Err(invalid("join", format!("{join:?}"), "\"foreground\" or \"equal\"")),
    };
    let connectivity: Connectivity = connectivity.str()?.to_str()?.parse().map_err(raise)?;
    let part = part.map(|(i, n)| Part::new(i, n)).transpose().map_err(raise)?;
    let options = ComponentOptions::default()
        .objects(objects)
        .connectivity(connectivity)
        .min_voxels(min_voxels)
        .largest(largest)
        .dtype(dtype.map(self::dtype).transpose()?)
        .block_size(block_size.map(|size| size3(size, "block_size")).transpose()?)
        .memory_bytes(bytes(memory_bytes, "memory_bytes")?)
        .threads(threads);
    let watch = Watch::new(Some(progress));
    let stored = &volume.0;
    let found = py.detach(|| Components::find(stored, &options, &mut |d, t| watch.step((d, t))));
    let found = watch.end(found)?;
    let Some(out) = out else {
        let dtype = found.dtype().map_err(raise)?;
        return with_voxel!(dtype, T => array::<T>(py, &found, stored.size(), dtype, &watch));
    };
    let (store, place) = split(&out).map_err(raise)?;
    let write = || {
        let store = StoreWriter::open(store, threads)?;
        let mut step = |done, total| watch.step((done, total));
        match part {
            None => found.to_store(&store, place, &mut step).map(drop),
            Some(part) => found.to_part(&store, place, part, &mut step),
        }
    };
    let written = py.detach(write);
    watch.end(written)?;
    match part {
        None => open_volume(py, store, place),
        Some(_) => Ok(py.None().into_bound(py)),
    }
}

fn array<'py, T: Voxel + Element>(
    py: Python<'py>,
    found: &Components,
    size: Size3,
    dtype: Dtype,
    watch: &Watch,
) -> PyResult<Bound<'py, PyAny>> {
    let target = Target { shape: size.to_vec(), dtype, remedy: INTO_A_STORE };
    let write = |labels: &mut [T]| found.write_into(labels, &mut |d, t| watch.step((d, t)));
    let filled = fill(py, &target, None, write);
    filled.map_err(|error| watch.raised().unwrap_or(error))
}
