//! Python bindings: convert arguments, release the GIL, delegate.
//!
//! # Invariants
//! - The only algorithm here is slope and intercept (`real`). All else that Python can do, Rust
//!   can do.
//! - The GIL is released while voxels are read, decoded, encoded or blended.
// Documentation here becomes Python's, and arguments come as pyo3 makes them: owned.
#![allow(clippy::doc_markdown, clippy::needless_pass_by_value)]

mod aggregate;
mod any_aggregator;
mod arguments;
mod augment;
mod batch_owner;
mod blend_arguments;
mod command;
mod components;
mod dataset;
mod errors;
mod index;
mod ingest;
mod ingest_parts;
mod pickle;
mod queue;
mod queue_arguments;
mod queue_weights;
mod resample;
mod resampled;
mod sample;
mod scaled;
mod volume;
mod voxel_source;
mod voxels;
mod watch;
mod zarr;

use pyo3::prelude::*;

#[pymodule]
fn _native(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add("__version__", env!("CARGO_PKG_VERSION"))?;
    m.add_class::<dataset::Dataset>()?;
    m.add_class::<dataset::Subject>()?;
    m.add_class::<volume::Volume>()?;
    m.add_class::<scaled::ScaledVolume>()?;
    m.add_class::<resampled::ResampledVolume>()?;
    dataset::complete_mapping(&m.py().get_type::<dataset::Dataset>())?;
    dataset::complete_mapping(&m.py().get_type::<dataset::Subject>())?;
    m.add_class::<sample::UniformSampler>()?;
    m.add_class::<sample::WeightedSampler>()?;
    m.add_class::<sample::LabelSampler>()?;
    m.add_class::<sample::ObjectSampler>()?;
    m.add_class::<sample::ConstrainedSampler>()?;
    m.add_class::<sample::SubjectSampler>()?;
    m.add_class::<sample::Scale>()?;
    m.add_class::<sample::GridSampler>()?;
    m.add_class::<augment::Augment>()?;
    m.add_class::<queue::Queue>()?;
    m.add_class::<aggregate::Aggregator>()?;
    m.add_function(wrap_pyfunction!(any_aggregator::finalize_volume, m)?)?;
    m.add_function(wrap_pyfunction!(any_aggregator::discard_volume_parts, m)?)?;
    m.add_function(wrap_pyfunction!(arguments::byte_count, m)?)?;
    m.add_function(wrap_pyfunction!(components::write_components, m)?)?;
    m.add_function(wrap_pyfunction!(command::picture, m)?)?;
    m.add_function(wrap_pyfunction!(command::run_command, m)?)?;
    m.add_function(wrap_pyfunction!(dataset::open, m)?)?;
    m.add_function(wrap_pyfunction!(dataset::dataset, m)?)?;
    m.add_function(wrap_pyfunction!(dataset::list_subjects, m)?)?;
    m.add_function(wrap_pyfunction!(dataset::verify, m)?)?;
    m.add_function(wrap_pyfunction!(ingest::fingerprint, m)?)?;
    m.add_function(wrap_pyfunction!(zarr::open_zarr, m)?)?;
    m.add_function(wrap_pyfunction!(zarr::zarr_dataset, m)?)?;
    m.add_function(wrap_pyfunction!(ingest::ingest, m)?)?;
    m.add_function(wrap_pyfunction!(ingest_parts::plan_ingest, m)?)?;
    m.add_function(wrap_pyfunction!(ingest_parts::run_ingest_plan, m)?)?;
    m.add_function(wrap_pyfunction!(ingest::export, m)?)
}
