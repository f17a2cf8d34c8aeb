//! Writes one volume chunk by chunk, in any order and from any thread.

use std::fmt;
use std::path::PathBuf;

use super::dataset::Dataset;
use super::options::OpenOptions;
use super::part::Part;
use super::pyramid::finish_volume;
use super::spec::VolumeSpec;
use super::staged_subject::StagedSubject;
use super::volume::Volume;
use super::volume_files::VolumeFiles;
use crate::format::array::ArrayLayout;
use crate::format::grid::ChunkId;
use crate::sys::executor::Executor;
use crate::sys::folder::Folder;
use crate::{Error, Region, Result};

/// A volume in preparation, written chunk by chunk; see [`crate::StoreWriter::add_volume`].
///
/// Dropped unpublished, it leaves nothing but resumable work.
///
/// ```
/// use voxquarry::format::attributes::Kind;
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
/// use voxquarry::{Dtype, Region, Resume, StoreWriter, VolumeSpec};
///
/// let shape =
///     VolumeShape { channels: None, size: [8, 16, 16], dtype: Dtype::UInt8, interleaved: 1 };
/// let layout = layout::choose(&shape, &[[8; 3]], Codec::Fast, 64 << 20)?;
/// # let folder = tempfile::tempdir().unwrap();
/// let store = StoreWriter::open(folder.path().join("store.zarr"), None)?;
/// let spec = VolumeSpec::new("ct", Kind::Image, layout);
/// let volume = store.add_volume("case01", spec, &Resume::Never)?;
/// let (whole, voxels) = (Region::whole([8, 16, 16]), [7; 8 * 16 * 16]);
/// for number in 0..volume.chunks_in(&whole) {
///     volume.put_chunk(&whole, &[&voxels], number)?;
/// }
/// assert_eq!(volume.publish()?.size(), [8, 16, 16]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub struct ChunkedVolumeWriter {
    // Dropped first: it waits for files that are being written into the subject's folder.
    files: VolumeFiles,
    subject: StagedSubject,
}

impl ChunkedVolumeWriter {
    pub(super) fn create(
        folder: Folder,
        spec: VolumeSpec,
        journal: Option<&str>,
        part: Option<Part>,
        subject: StagedSubject,
    ) -> Result<Self> {
        let journal = journal.map(|name| (subject.work_folder(), name));
        let files = VolumeFiles::create(folder, spec, journal, part)?;
        Ok(Self { files, subject })
    }

    /// Its files and its subject.
    pub(super) fn into_staged(self) -> (VolumeFiles, StagedSubject) {
        (self.files, self.subject)
    }

    pub(super) fn staged_folder(&self) -> &Folder {
        self.subject.work_folder()
    }

    /// The volume's layout.
    pub fn layout(&self) -> &ArrayLayout {
        &self.files.spec().layout
    }

    /// A folder on the store's disk that is removed with the work.
    pub fn work_folder(&self) -> PathBuf {
        self.subject.work_folder().path().to_owned()
    }

    /// Whether an earlier process wrote every shard that meets `region`; those of other parts count
    /// as written.
    pub fn is_written(&self, region: &Region) -> bool {
        self.files.is_written(region)
    }

    /// The number of chunks, over all channels, in a box that begins and ends with chunks.
    pub fn chunks_in(&self, region: &Region) -> usize {
        let layout = self.layout();
        layout.channel_count()
            * layout.chunks_meeting(region).map(|range| range.len()).iter().product::<usize>()
    }

    /// Takes chunk `number` of such a box; each chunk once. The box is `slabs` one behind the other
    /// along z, each `(c, z, y, x)` in C order, all channels.
    ///
    /// # Errors
    /// [`Error::BufferLength`]; [`Error::Data`] with the first voxel of a label map that is no
    /// label; [`Error::Io`].
    pub fn put_chunk(&self, region: &Region, slabs: &[&[u8]], number: usize) -> Result<()> {
        let layout = self.layout();
        let (channels, t) = (layout.channel_count(), layout.dtype.size());
        let plane_bytes = region.size[1] * region.size[2] * t;
        let found = slabs.iter().map(|slab| slab.len()).sum::<usize>();
        if found != channels * region.len() * t {
            let expected = channels * region.len();
            return Err(Error::BufferLength { found: found / t, expected });
        }
        let [zs, ys, xs] = layout.chunks_meeting(region);
        let (rest, x) = (number / xs.len(), number % xs.len());
        let (rest, y) = (rest / ys.len(), rest % ys.len());
        let (channel, z) = (rest / zs.len(), rest % zs.len());
        let id = ChunkId { channel, at: [zs.start + z, ys.start + y, xs.start + x] };
        let planes = slabs.iter().flat_map(|slab| {
            let channel_bytes = slab.len() / channels;
            slab[channel * channel_bytes..][..channel_bytes].chunks_exact(plane_bytes)
        });
        let planes: Vec<&[u8]> = planes.collect();
        let put = self.files.put(&planes, region, id);
        put.map(drop).map_err(|error| error.of_volume(&self.files.spec().name))
    }

    /// Makes the volume visible, complete, and opens it.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if chunks are missing, [`Error::Exists`] if another writer published
    /// the volume meanwhile, [`Error::Io`].
    pub fn publish(self) -> Result<Volume> {
        let Self { files, subject } = self;
        let name = files.spec().name.clone();
        let checksums = finish_volume(files, None, None, &Executor::new(None), &mut |_| Ok(()))?;
        let (store, subject_name) = (subject.store().path().to_owned(), subject.name().to_owned());
        subject.publish_volume(&name, checksums)?;
        Dataset::open(store, &OpenOptions::default())?.subject(&subject_name)?.volume(&name)
    }
}

impl fmt::Debug for ChunkedVolumeWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChunkedVolumeWriter")
            .field("spec", self.files.spec())
            .finish_non_exhaustive()
    }
}
