//! Opens an array of Zarr, or an image of OME-Zarr, as a volume, without ingesting it.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf, absolute};
use std::sync::Arc;

use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Error, OpenOptions, Result, SourceFolder, SourceSpec, Volume};

use super::chunks::ZarrChunks;
use super::find::{AxisRule, ZarrVolume, one_at};
use crate::files::exists;

/// How an array of Zarr is opened.
///
/// ```
/// use voxquarry_ingest::ZarrOptions;
///
/// let options = ZarrOptions { axes: Some(vec!["y".into(), "x".into()]), ..Default::default() };
/// assert!(!options.open.get_follow_links());
/// ```
#[derive(Clone, Debug, Default)]
pub struct ZarrOptions {
    /// The names of the array's axes, if not those that its metadata give: `x`, `y`, perhaps `z`
    /// and `c`, in any order, and others of one element.
    pub axes: Option<Vec<String>>,
    /// What the voxels are, if not what the metadata say: an image unless OME-Zarr calls it labels.
    pub kind: Option<Kind>,
    /// The cache, the threads and the links.
    pub open: OpenOptions,
}

/// Opens the array of Zarr (version 2 or 3) or the image of OME-Zarr at `path` as a volume that is
/// called `image`, without ingesting it.
///
/// The axes are those that OME-Zarr or the array's own metadata name; otherwise the last three are
/// `(z, y, x)`, and one of several elements before them has channels. Of an image, the largest
/// level is opened; the path of another level opens that one.
///
/// ```no_run
/// use voxquarry::Region;
/// use voxquarry_ingest::{ZarrOptions, open_zarr};
///
/// let volume = open_zarr("embryo.ome.zarr".as_ref(), &ZarrOptions::default())?;
/// let patch = volume.read::<u16>(Region::new([0; 3], [64; 3]))?;
/// # Ok::<(), voxquarry::Error>(())
/// ```
///
/// # Errors
/// - [`Error::NoSuchFile`] if nothing is there; [`Error::Data`] for metadata that are damaged, or
///   describe no volume.
/// - [`Error::Unsupported`] for a store, for a group of several volumes, and for codecs that are
///   unknown; [`Error::Io`].
pub fn open_zarr(path: &Path, options: &ZarrOptions) -> Result<Volume> {
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    // Without a slash at its end.
    let path: PathBuf = path.components().collect();
    if !exists(&path)? {
        return Err(Error::NoSuchFile { path, named_in: String::new() });
    }
    let rule = options.axes.as_deref().map_or(AxisRule::AnyOrder, AxisRule::Given);
    let ZarrVolume { kind, array, axes, affine, .. } = one_at(&path, rule)?;
    let folder = SourceFolder::open(&path, options.open.get_follow_links())?;
    let (size, channels) = (axes.size(), axes.channels());
    // The crate `zarrs` computes with what the metadata state.
    let chunks = catch_unwind(AssertUnwindSafe(|| ZarrChunks::open(folder, &array, axes)));
    let refused = |_| Err(Error::data(&array, "its metadata describe no array that can be read"));
    let chunks = chunks.unwrap_or_else(refused)?;
    let [chunk_channels, chunk @ ..] = chunks.extents();
    let mut hash = DefaultHasher::new();
    (array, chunks.metadata()).hash(&mut hash);
    let spec = SourceSpec {
        kind: options.kind.or(kind).unwrap_or(Kind::Image),
        channels,
        chunk_channels,
        fill_value: chunks.fill_value(),
        affine: affine.map_or(Affine::IDENTITY, |(affine, _)| affine),
        unit: affine.map(|(_, unit)| unit),
        content_id: hash.finish(),
        ..SourceSpec::new("image", size, chunks.dtype, chunk)
    };
    Volume::from_source(Arc::new(chunks), spec, &options.open)
}
