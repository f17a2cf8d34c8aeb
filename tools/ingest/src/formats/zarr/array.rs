//! What an array of Zarr is like, as the crate `zarrs` understands its metadata.

use std::fmt::Display;
use std::path::Path;

use voxquarry::{Dtype, Error, Result};
use zarrs::array::{Array, ArrayShardedExt};
use zarrs::plugin::{ExtensionName, ZarrVersion};

/// For `map_err`: metadata that `zarrs` cannot serve.
pub(super) fn unsupported<E: Display>(folder: &Path) -> impl FnOnce(E) -> Error {
    move |error| {
        let reason = format!("{}: {error}", folder.display());
        let remedy = "save it with other codecs, as with zarr.copy in Python, or read it with \
                      zarr-python and ingest that array";
        Error::unsupported(reason, remedy)
    }
}

/// The type of its elements; booleans are bytes of 0 and 1.
///
/// # Errors
/// [`Error::Data`] for another type.
pub(super) fn dtype_of<S: ?Sized>(array: &Array<S>, folder: &Path) -> Result<Dtype> {
    let name = array.data_type().name(ZarrVersion::V3).unwrap_or_default();
    let dtype = Dtype::from_name(if name == "bool" { "uint8" } else { &name });
    dtype.ok_or_else(|| {
        let reason = format!("its elements are {name:?}: expected integers, floats or booleans");
        Error::data(folder, reason)
    })
}

/// The extents of a chunk, or of the chunks in a shard.
pub(super) fn chunk_of<S: ?Sized>(array: &Array<S>) -> Result<Vec<usize>, String> {
    if let Some(inner) = array.subchunk_shape() {
        return Ok(inner.iter().map(|n| n.get() as usize).collect());
    }
    let origin = vec![0; array.dimensionality()];
    array.chunk_shape_usize(&origin).map_err(|error| error.to_string())
}
