//! Volumes whose chunks something else stores, and the files that such a source reads.
//!
//! # Invariants
//! - No file outside of a source's folder is read, unless links are followed on request.
//! - Nothing is written beside a foreign array.
//!
//! Not here: any format of such arrays.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::derived_cache::DerivedCache;
use super::options::OpenOptions;
use super::volume::{OpenLevels, OpenVolume, Origin, Volume};
use crate::array::context::ArrayContext;
use crate::array::foreign::{ChunkSource, ForeignChunks};
use crate::array::handle::ArrayHandle;
use crate::array::statistics::RunningStatistics;
use crate::format::array::{ArrayLayout, ChunkCodec};
use crate::format::attributes::{Kind, LabelName, Statistics, VolumeAttributes};
use crate::format::{check_name, limits};
use crate::sys::descriptors::waiting_for_room;
use crate::sys::folder::{Folder, Links, refused};
use crate::sys::fork::PerProcess;
use crate::{Affine, Dtype, Error, LengthUnit, Result, Size3};

/// What a volume is like whose chunks a [`ChunkSource`] decodes.
///
/// ```
/// use voxquarry::{Dtype, SourceSpec};
///
/// let gray = SourceSpec::new("rgb", [8; 3], Dtype::UInt8, [4; 3]);
/// let spec = SourceSpec { channels: Some(3), ..gray };
/// assert_eq!(spec.chunk_channels, 1);
/// ```
#[derive(Clone, Debug)]
pub struct SourceSpec {
    /// The volume's name.
    pub name: String,
    /// The meaning of the voxels.
    pub kind: Kind,
    /// Extents in voxels, `(z, y, x)`.
    pub size: Size3,
    /// Channels, or `None` if the volume has no such axis.
    pub channels: Option<usize>,
    /// Element type.
    pub dtype: Dtype,
    /// Extents of a chunk, `(z, y, x)`; chunks at the edge of the volume have them, too.
    pub chunk: Size3,
    /// Channels that a chunk holds; where they do not divide the channels, the last chunks have as
    /// many, too.
    pub chunk_channels: usize,
    /// The bytes of a voxel that is not stored, in the host's order; empty for 0.
    pub fill_value: Vec<u8>,
    /// Maps voxel centres `(x, y, z)` to RAS+ positions, in `unit`.
    pub affine: Affine,
    /// The unit of the affine, if one is stated; millimetres otherwise.
    pub unit: Option<LengthUnit>,
    /// Names of labels, for users.
    pub labels: Vec<LabelName>,
    /// A number that other metadata and other places have not, except by chance.
    pub content_id: u64,
}

impl SourceSpec {
    /// An image without channels in chunks of `chunk` voxels, 1 mm wide.
    pub fn new(name: impl Into<String>, size: Size3, dtype: Dtype, chunk: Size3) -> Self {
        Self {
            name: name.into(),
            kind: Kind::Image,
            size,
            channels: None,
            dtype,
            chunk,
            chunk_channels: 1,
            fill_value: Vec::new(),
            affine: Affine::IDENTITY,
            unit: None,
            labels: Vec::new(),
            content_id: 0,
        }
    }

    /// The layout, and the bytes of a decoded chunk.
    fn layout(&self) -> Result<(ArrayLayout, usize), String> {
        let Self { channels, size, dtype, chunk, .. } = *self;
        let layout =
            ArrayLayout { channels, size, dtype, chunk, shard: chunk, codec: ChunkCodec::Raw };
        let shape = layout.shape();
        let product = |mut extents: std::slice::Iter<'_, usize>, first: u64| {
            extents.try_fold(first, |n, &extent| n.checked_mul(extent as u64))
        };
        let is_axis = |&n: &usize| (1..=limits::AXIS_VOXELS).contains(&(n as u64));
        let voxels = product(shape.iter(), 1).filter(|&n| n <= limits::VOLUME_VOXELS);
        if !shape.iter().all(is_axis) || voxels.is_none() {
            return Err(format!(
                "its shape is {shape:?}: expected extents of 1 to {} and at most {} voxels",
                limits::AXIS_VOXELS,
                limits::VOLUME_VOXELS
            ));
        }
        let bytes = (self.chunk_channels as u64).checked_mul(dtype.size() as u64);
        let bytes = bytes.and_then(|bytes| product(chunk.iter(), bytes));
        let bytes = bytes.and_then(|bytes| isize::try_from(bytes).ok()).filter(|&n| n > 0);
        match bytes {
            Some(bytes) => Ok((layout, bytes as usize)),
            None => Err(format!(
                "its chunks are {chunk:?} with {} channels: expected 1 voxel or more, and fewer \
                 than memory can address",
                self.chunk_channels
            )),
        }
    }
}

impl Volume {
    /// The volume whose chunks `source` decodes. It has a cache and threads of its own, and is read
    /// as volumes of a store are; [`Dataset::of_volumes`](crate::Dataset::of_volumes) makes a
    /// dataset of several.
    ///
    /// Statistics, label counts and sums of weights are computed where they are needed, by reading
    /// the volume once, and kept in memory.
    ///
    /// # Errors
    /// [`Error::Data`] for a shape or chunks that no array can have; [`Error::Unsupported`] for
    /// labels that are no integers; [`Error::InvalidArgument`] for the name.
    pub fn from_source(
        source: Arc<dyn ChunkSource>,
        spec: SourceSpec,
        options: &OpenOptions,
    ) -> Result<Self> {
        check_name("volume", &spec.name)?;
        let path = source.path().to_owned();
        let (layout, bytes) = spec.layout().map_err(|reason| Error::data(&path, reason))?;
        spec.affine.validate().map_err(|reason| Error::data(&path, reason))?;
        if spec.kind == Kind::Labels && layout.dtype.is_float() {
            let reason = format!("{}: its voxels are {}", path.display(), layout.dtype);
            return Err(Error::unsupported(reason, "labels are integers: open it as an image"));
        }
        let mut fill_value = spec.fill_value;
        fill_value.resize(layout.dtype.size(), 0);
        let fill_value = fill_value.into_boxed_slice();
        let voxels = layout.shape().iter().map(|&n| n as u64).product();
        let chunks = ForeignChunks::new(source, spec.chunk_channels, fill_value, bytes);
        let context = ArrayContext::new(options.array_options());
        let attributes = VolumeAttributes {
            kind: spec.kind,
            affine: spec.affine,
            unit: spec.unit,
            slope: 1.0,
            intercept: 0.0,
            patch_sizes: Vec::new(),
            codec: "foreign".to_owned(),
            statistics: Statistics {
                voxels,
                non_finite: 0,
                min: None,
                max: None,
                mean: None,
                std: None,
            },
            shard_files: 0,
            shards_crc32c: 0,
            summary_crc32c: None,
            nifti_crc32c: None,
            levels: Vec::new(),
            labels: spec.labels,
            source: None,
        };
        Ok(Self::of(OpenVolume {
            name: spec.name,
            origin: Origin::Foreign { path, content_id: spec.content_id },
            attributes,
            array: Arc::new(ArrayHandle::of_foreign(layout, chunks, context)),
            derived: Arc::new(PerProcess::new(DerivedCache::new())),
            coarser: OpenLevels::default(),
        }))
    }

    /// Whether something else than a store holds its chunks.
    pub fn is_foreign(&self) -> bool {
        self.array().foreign().is_some()
    }

    /// As [`statistics`](Self::statistics); those of a foreign array are computed at the first
    /// call, by reading it once, and kept in memory.
    ///
    /// # Errors
    /// Those of reading the volume.
    pub fn known_statistics(&self) -> Result<Statistics> {
        if !self.is_foreign() {
            return Ok(self.statistics().clone());
        }
        let statistics = self.derived("statistics".into(), || {
            let (array, mut merged) = (self.array(), RunningStatistics::NONE);
            let boxes = array.chunk_boxes()?;
            let of_chunk = |i: usize, voxels: &[u8]| {
                Ok(RunningStatistics::of_box(voxels, self.dtype(), boxes[i].region.size))
            };
            array.map_boxes(&boxes, of_chunk)?.iter().for_each(|one| merged.merge(one));
            Ok((merged.statistics(), size_of::<Statistics>()))
        })?;
        Ok((*statistics).clone())
    }
}

/// A folder of files that a [`ChunkSource`] reads; nothing outside of it is read.
///
/// ```
/// use voxquarry::SourceFolder;
///
/// # let place = tempfile::tempdir().unwrap();
/// # let place = place.path();
/// std::fs::write(place.join("0.0"), b"voxels").unwrap();
/// let folder = SourceFolder::open(place, false)?;
/// assert_eq!(folder.file("0.0")?.expect("it is there").1, 6);
/// assert!(folder.file("0.1")?.is_none());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SourceFolder(Folder);

impl SourceFolder {
    /// The folder at `path`, which may be a link itself; links below it are refused unless
    /// `follow_links`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn open(path: &Path, follow_links: bool) -> Result<Self> {
        let links = if follow_links { Links::Follow } else { Links::Refuse };
        Folder::open(path, links).map(Self).map_err(Error::io(path, "cannot open"))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// The path of a file in it.
    pub fn place(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// A regular file below the folder, and its length; `None` if nothing has this name.
    ///
    /// # Errors
    /// [`Error::Data`] for a link, and for what else is no regular file; [`Error::Io`].
    pub fn file(&self, name: &str) -> Result<Option<(File, u64)>> {
        let open = || self.0.open_file(name);
        match waiting_for_room(open, crate::error::is_out_of_descriptors) {
            Ok(opened) => Ok(Some(opened)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                Ok(None)
            }
            Err(e) => Err(refused(self.place(name), "cannot open")(leaving(e))),
        }
    }

    /// Whether something has this name.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk does not say.
    pub fn has(&self, name: &str) -> Result<bool> {
        self.0.has(name).map_err(Error::io(self.place(name), "cannot look at"))
    }
}

/// Says what the system means by a path that leaves the folder.
fn leaving(error: io::Error) -> io::Error {
    if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::XDEV) {
        return io::Error::new(ErrorKind::InvalidInput, "it lies outside of the array's folder");
    }
    error
}
