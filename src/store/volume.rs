//! An open volume: its properties, and reading its voxels.

use std::any::Any;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

#[cfg(feature = "ndarray")]
use ndarray::Array4;
use rustix::fs::FileType;

use super::derived_cache::DerivedCache;
use super::listed::{check_voxels, listed};
use super::sidecar::label_counts::LabelCounts;
use super::sidecar::nifti_header;
use super::sidecar::weight_sums::{self, WeightSums};
use crate::array::cache::{ChunkCache, ChunkKey};
use crate::array::channels::Channels;
use crate::array::context::ArrayContext;
use crate::array::handle::ArrayHandle;
use crate::array::weights::WeightFunction;
use crate::array::{ReadContext, is_worth_caching, read_patches};
use crate::format::array::ArrayLayout;
use crate::format::attributes::{
    DocumentChecksums, Kind, LabelName, SourceFile, Statistics, VolumeAttributes,
};
use crate::format::levels::{level_folder, shard_list_folder};
#[cfg(feature = "ndarray")]
use crate::memory::zeroed;
use crate::resample::{Resampling, StoredValues};
use crate::sys::folder::Folder;
use crate::sys::fork::PerProcess;
use crate::sys::remote::refuse_url;
use crate::{Affine, Dtype, Error, LengthUnit, Order, Padding, Region, Result, Size3, Voxel, Warp};

/// A volume of a subject, opened for reading; clones share everything.
///
/// ```
/// use voxquarry::{Dtype, Padding, Region};
///
/// # let store = "format-spec/golden/v1";
/// let subject = voxquarry::open(store)?.subject("grid")?;
/// let volume = subject.volume("f32")?;
/// assert_eq!((volume.size(), volume.dtype()), ([6, 10, 20], Dtype::Float32));
/// let mut patch = vec![0f32; 4 * 4 * 4];
/// volume.read_into(Region::new([1, 2, 3], [4; 3]), &mut patch)?;
/// // This one leaves the volume: an array (c, z, y, x), padded with its border.
/// let padded = volume.read_padded::<f32>(Region::new([-2, 0, 0], [4; 3]), Padding::Edge)?;
/// assert_eq!(padded[[0, 0, 0, 0]], padded[[0, 2, 0, 0]]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Volume(Arc<OpenVolume>);

#[derive(Clone, Debug)]
pub(super) struct OpenVolume {
    pub(super) name: String,
    pub(super) origin: Origin,
    pub(super) attributes: VolumeAttributes,
    pub(super) array: Arc<ArrayHandle>,
    pub(super) derived: Arc<PerProcess<DerivedCache>>,
    pub(super) coarser: OpenLevels,
}

/// The levels 1, 2, … of a volume, each opened at its first use.
pub(super) type OpenLevels = Arc<[OnceLock<Volume>]>;

/// Where a volume is.
#[derive(Clone, Debug)]
pub(super) enum Origin {
    /// In a store.
    Store {
        folder: Folder,
        checksums: DocumentChecksums,
    },
    /// In the `folder` of a coarser level, in a store.
    Level {
        folder: Folder,
        level: usize,
        content_id: u64,
    },
    Foreign {
        path: PathBuf,
        content_id: u64,
    },
}

impl Volume {
    /// Opens the volume in `folder`, whose documents have the checksums that the subject lists.
    pub(super) fn open(
        folder: Folder,
        name: &str,
        checksums: DocumentChecksums,
        context: Arc<ArrayContext>,
        derived: Arc<PerProcess<DerivedCache>>,
    ) -> Result<Self> {
        let level = folder.join(level_folder(0));
        let group = listed(&folder, checksums.group_crc32c, "subject")?;
        let attributes = VolumeAttributes::parse(&group.voxquarry()?)?;
        let document = listed(&level, checksums.level_crc32c, "subject")?;
        let layout = ArrayLayout::parse(&document)?;
        check_voxels(&attributes.statistics, &layout, group.path())?;
        let shard_list = (folder.join(shard_list_folder(0)), attributes.shards_crc32c);
        let array = Arc::new(ArrayHandle::new(level, layout, shard_list, context));
        let (name, origin) = (name.to_owned(), Origin::Store { folder, checksums });
        let coarser = unopened(&attributes);
        Ok(Self::of(OpenVolume { name, origin, attributes, array, derived, coarser }))
    }

    pub(super) fn of(opened: OpenVolume) -> Self {
        Self(Arc::new(opened))
    }

    /// The same volume under another name.
    pub(super) fn named(&self, name: &str) -> Self {
        if self.name() == name {
            return self.clone();
        }
        let coarser = unopened(self.attributes());
        Self::of(OpenVolume { name: name.to_owned(), coarser, ..OpenVolume::clone(&self.0) })
    }

    /// Its name in the subject.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its folder; of a foreign array, its place.
    pub fn path(&self) -> &Path {
        match &self.0.origin {
            Origin::Store { folder, .. } | Origin::Level { folder, .. } => folder.path(),
            Origin::Foreign { path, .. } => path,
        }
    }

    /// Extents as numpy would show them: `(z, y, x)` or `(c, z, y, x)`.
    pub fn shape(&self) -> Vec<usize> {
        self.layout().shape()
    }

    /// Extents in `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.layout().size
    }

    /// The number of channels, or `None` if the volume has no channel axis.
    pub fn channels(&self) -> Option<usize> {
        self.layout().channels
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.layout().dtype
    }

    /// Bytes of its voxels, uncompressed.
    pub fn voxel_bytes(&self) -> u64 {
        self.shape().iter().map(|&n| n as u64).product::<u64>() * self.dtype().size() as u64
    }

    /// The affine from voxel centres `(x, y, z)` to RAS+ positions, in [`unit`](Self::unit).
    pub fn affine(&self) -> &Affine {
        &self.0.attributes.affine
    }

    /// The unit of the affine: millimetres unless the source states another.
    pub fn unit(&self) -> LengthUnit {
        self.0.attributes.unit.unwrap_or_default()
    }

    /// Distances between voxel centres along `(z, y, x)`, in the affine's unit.
    pub fn spacing(&self) -> [f64; 3] {
        self.affine().spacing_mm()
    }

    /// Millimetres between voxel centres along `(z, y, x)`.
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.spacing().map(|distance| distance * self.unit().millimeters())
    }

    /// Slope and intercept: real value = stored value × slope + intercept. Reads give stored
    /// values.
    pub fn slope_intercept(&self) -> (f64, f64) {
        (self.0.attributes.slope, self.0.attributes.intercept)
    }

    /// Image or labels.
    pub fn kind(&self) -> Kind {
        self.0.attributes.kind
    }

    /// Names of its labels; none of an image, or if nobody named them.
    pub fn labels(&self) -> &[LabelName] {
        &self.0.attributes.labels
    }

    /// Statistics of the stored values. A foreign array states none but the number of its voxels;
    /// see [`known_statistics`](Self::known_statistics).
    pub fn statistics(&self) -> &Statistics {
        &self.0.attributes.statistics
    }

    /// The number of threads that the dataset reads with.
    pub fn threads(&self) -> usize {
        self.0.array.resources().executor.threads()
    }

    /// The file that the volume was made from, if it was made from one.
    pub fn source(&self) -> Option<&SourceFile> {
        self.0.attributes.source.as_ref()
    }

    /// A number that depends on all its voxels and metadata: volumes of different content differ,
    /// except by chance, once in about 2⁶⁴. That of a foreign array depends on its place and its
    /// metadata alone.
    pub fn content_id(&self) -> u64 {
        match self.0.origin {
            Origin::Store {
                checksums: DocumentChecksums { group_crc32c, level_crc32c }, ..
            } => u64::from(group_crc32c) << 32 | u64::from(level_crc32c),
            Origin::Level { content_id, .. } | Origin::Foreign { content_id, .. } => content_id,
        }
    }

    /// All attributes of its group.
    pub fn attributes(&self) -> &VolumeAttributes {
        &self.0.attributes
    }

    /// Its division into chunks and shards.
    pub fn layout(&self) -> &ArrayLayout {
        self.0.array.layout()
    }

    /// The voxels of each label in each chunk, read from disk at each call; counted if the label
    /// map has so many labels that no counts were stored.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if this is no label map; [`Error::Metadata`], [`Error::Data`] if the
    /// counts are damaged.
    pub fn label_counts(&self) -> Result<LabelCounts> {
        if self.kind() != Kind::Labels {
            let reason = format!("volume {:?} is an image, it has no label counts", self.name());
            return Err(Error::unsupported(reason, "store it as labels"));
        }
        match (self.folder(), self.0.attributes.summary_crc32c) {
            (Some(folder), Some(stored)) => LabelCounts::read(folder, self.layout(), Some(stored)),
            _ => LabelCounts::count(self.array(), self.path()),
        }
    }

    /// Bytes of all its files: shards, sidecars and metadata, those of coarser levels too; of a
    /// level, of the files in its own folder.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a store behind a URL, whose files cannot be listed, and for a
    /// foreign array; [`Error::Io`].
    pub fn stored_bytes(&self) -> Result<u64> {
        let foreign = || {
            let reason = format!("{} is no volume of a store", self.path().display());
            Error::unsupported(reason, "look at its files")
        };
        let folder = match &self.0.origin {
            Origin::Store { folder, .. } | Origin::Level { folder, .. } => folder,
            Origin::Foreign { .. } => return Err(foreign()),
        };
        refuse_url(folder.root_path())?;
        folder_bytes(folder)
    }

    /// Whether weight sums lie beside it, which ingest or a weighted sampler wrote.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk does not say.
    pub fn has_weight_sums(&self) -> Result<bool> {
        self.has_beside(weight_sums::FOLDER)
    }

    /// Whether something of this name lies beside its voxels.
    pub(super) fn has_beside(&self, name: &str) -> Result<bool> {
        let has = self.folder().map_or(Ok(false), |folder| folder.has(name));
        has.map_err(Error::io(self.path().join(name), "cannot look at"))
    }

    /// Its folder in a store; no folder of a level, which has nothing beside its voxels.
    pub(super) fn folder(&self) -> Option<&Folder> {
        self.stored().map(|stored| stored.0)
    }

    /// Its folder in a store, and the checksums of its documents.
    pub(super) fn stored(&self) -> Option<(&Folder, DocumentChecksums)> {
        match &self.0.origin {
            Origin::Store { folder, checksums } => Some((folder, *checksums)),
            Origin::Level { .. } | Origin::Foreign { .. } => None,
        }
    }

    /// The weight sums beside it, if there are some.
    pub(super) fn weight_sums(&self) -> Result<Option<WeightSums>> {
        let Some((folder, checksums)) = self.stored() else { return Ok(None) };
        WeightSums::read(folder, checksums, self.layout())
    }

    /// Checks the NIfTI header beside it.
    pub(super) fn check_nifti_header(&self) -> Result<()> {
        self.folder().map_or(Ok(()), |folder| nifti_header::check(folder, self.attributes()))
    }

    /// Which level of its volume it is.
    pub(super) fn own_level(&self) -> usize {
        if let Origin::Level { level, .. } = self.0.origin { level } else { 0 }
    }

    /// Its levels 1, 2, …, as far as they were opened.
    pub(super) fn opened_levels(&self) -> &OpenLevels {
        &self.0.coarser
    }

    /// What its dataset keeps of what was derived from volumes.
    pub(super) fn derived_cache(&self) -> Arc<PerProcess<DerivedCache>> {
        self.0.derived.clone()
    }

    /// Its voxels as an array.
    pub(crate) fn array(&self) -> &Arc<ArrayHandle> {
        &self.0.array
    }

    /// The function that turns its voxels into weights.
    pub(crate) fn weight_function(&self) -> WeightFunction {
        WeightFunction::new(self.dtype(), self.slope_intercept())
    }

    /// The value that `compute` returns, with its size in bytes; cached under `name`.
    pub(crate) fn derived<T: Any + Send + Sync>(
        &self,
        name: String,
        compute: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        self.0.derived.get(DerivedCache::new).get_or_compute(self.0.array.id(), name, compute)
    }

    /// The names of the chunks of some channels that meet `region`.
    pub(crate) fn chunks_meeting<'a>(
        &'a self,
        region: &Region,
        channels: &'a Channels,
    ) -> impl Iterator<Item = ChunkKey> + 'a {
        let array = &self.0.array;
        array.chunks_meeting(region, channels).map(move |chunk| array.chunk_key(chunk))
    }

    /// Whether a cache of this volume's decoded chunks saves time.
    pub(crate) fn is_worth_caching(&self) -> bool {
        self.is_foreign() || is_worth_caching(self.layout().codec)
    }

    /// The number of voxels in `patches` patches of `size`, over all channels.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if they cannot be counted or addressed.
    pub fn voxels_in(&self, size: Size3, patches: usize) -> Result<usize> {
        self.0.array.voxel_count(size, patches)
    }

    /// Reads the voxels of `region`, which lies in the volume, into `out`: C order, channel
    /// slowest.
    ///
    /// Each chunk that meets `region` is decoded at most once; blocks on disk.
    ///
    /// # Errors
    /// - [`Error::DtypeMismatch`], [`Error::BufferLength`], [`Error::OutOfBounds`],
    ///   [`Error::InvalidArgument`]: `out` is untouched.
    /// - [`Error::ChunkChecksum`], [`Error::ChunkDecode`], [`Error::ShardIndex`], [`Error::Io`]:
    ///   `out` is unspecified.
    pub fn read_into<T: Voxel>(&self, region: Region, out: &mut [T]) -> Result<()> {
        self.read_padded_into(region, Padding::None, out)
    }

    /// As [`Volume::read_into`]; voxels outside of the volume are filled as `padding` says.
    ///
    /// # Errors
    /// As [`Volume::read_into`].
    pub fn read_padded_into<T: Voxel>(
        &self,
        region: Region,
        padding: Padding,
        out: &mut [T],
    ) -> Result<()> {
        self.read_batch_into(&[region.start], region.size, padding, out)
    }

    /// Reads one patch of `size` for each of `starts` into `out`: patches, then channels, z, y, x,
    /// in C order.
    ///
    /// The chunks of all patches are planned together, and each is decoded once.
    ///
    /// # Errors
    /// As [`Volume::read_into`].
    pub fn read_batch_into<T: Voxel>(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        padding: Padding,
        out: &mut [T],
    ) -> Result<()> {
        if T::DTYPE != self.dtype() {
            return Err(Error::DtypeMismatch { found: T::DTYPE, expected: self.dtype() });
        }
        let channels = 0..self.layout().channel_count();
        self.read_bytes(starts, size, padding, channels, bytemuck::cast_slice_mut(out))
    }

    /// Reads `region`, which lies in the volume, into a new array `(c, z, y, x)`; a volume without
    /// channels has one here.
    ///
    /// # Errors
    /// As [`Volume::read_into`].
    #[cfg(feature = "ndarray")]
    pub fn read<T: Voxel>(&self, region: Region) -> Result<Array4<T>> {
        self.read_padded(region, Padding::None)
    }

    /// As [`Volume::read`]; voxels outside of the volume are filled as `padding` says.
    ///
    /// # Errors
    /// As [`Volume::read_into`].
    #[cfg(feature = "ndarray")]
    pub fn read_padded<T: Voxel>(&self, region: Region, padding: Padding) -> Result<Array4<T>> {
        let what = || format!("a region of {:?} voxels", region.size);
        let mut voxels = zeroed::<T>(self.voxels_in(region.size, 1)?, what)?;
        self.read_padded_into(region, padding, &mut voxels)?;
        let [z, y, x] = region.size;
        Ok(Array4::from_shape_vec((self.layout().channel_count(), z, y, x), voxels)
            .expect("the array holds as many voxels as were counted"))
    }

    /// Whether it is of a store behind a URL.
    pub fn is_remote(&self) -> bool {
        self.0.array.is_remote()
    }

    /// As [`Volume::read_batch_into`] for bytes and some channels, of which no other is read: for
    /// callers that know the dtype at run time.
    ///
    /// # Errors
    /// As [`Volume::read_into`].
    pub fn read_bytes(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        padding: Padding,
        channels: impl Into<Channels>,
        out: &mut [u8],
    ) -> Result<()> {
        let resources = self.0.array.resources();
        let context = ReadContext { cache: &resources.cache, executor: Some(&resources.executor) };
        read_patches(&self.0.array, starts, size, padding, &channels.into(), out, context)
    }

    /// Reads one resampled patch of `size` for each of `warps` into `out`: patches, then channels,
    /// z, y, x, in C order.
    ///
    /// Float types receive real values, stored value × slope + intercept, and so does the constant
    /// of `padding`. The volume's own integer type receives stored values, rounded half to even;
    /// labels have their own type and [`Order::Nearest`] alone. Only chunks that hold a voxel with
    /// a weight are decoded. `docs/resampling.md` defines every value.
    ///
    /// ```
    /// use voxquarry::{Order, Padding, Warp};
    ///
    /// # let store = "format-spec/golden/v1";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("f32")?;
    /// // Turned by 90 degrees about z, and half a voxel to the right.
    /// let warp = Warp::new([[1., 0., 0., 0.], [0., 0., 1., 0.], [0., 1., 0., 0.5]])?;
    /// let mut patch = vec![0f32; 4 * 4 * 4];
    /// volume.read_affine_into(&[warp], [4; 3], Order::Linear, Padding::Edge, &mut patch)?;
    /// # assert!(patch.iter().all(|v| v.is_finite()));
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`], [`Error::BufferLength`], [`Error::TooLarge`], and, with
    ///   [`Padding::None`], [`Error::OutOfBounds`]: `out` is untouched.
    /// - [`Error::ChunkChecksum`], [`Error::ChunkDecode`], [`Error::ShardIndex`], [`Error::Io`],
    ///   [`Error::OutOfMemory`]: `out` is unspecified.
    pub fn read_affine_into<T: Voxel>(
        &self,
        warps: &[Warp],
        size: Size3,
        order: Order,
        padding: Padding,
        out: &mut [T],
    ) -> Result<()> {
        let out = bytemuck::cast_slice_mut(out);
        self.read_affine_bytes(warps, size, order, padding, Some(T::DTYPE), out)
    }

    /// As [`Volume::read_affine_into`] for bytes of the type [`Volume::affine_dtype`]: for callers
    /// that know the dtype at run time. The bytes are aligned for the type.
    ///
    /// # Errors
    /// As [`Volume::read_affine_into`].
    pub fn read_affine_bytes(
        &self,
        warps: &[Warp],
        size: Size3,
        order: Order,
        padding: Padding,
        dtype: Option<Dtype>,
        out: &mut [u8],
    ) -> Result<()> {
        let resampling = Resampling { order, padding, dtype };
        self.read_affine_channels(warps, size, resampling, 0..self.layout().channel_count(), out)
    }

    /// The type of resampled patches: `dtype` if it is given, otherwise float32 for images and the
    /// volume's own type for labels.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a type that this volume is not resampled to.
    pub fn affine_dtype(&self, dtype: Option<Dtype>) -> Result<Dtype> {
        let resampling = Resampling { order: Order::Nearest, padding: Padding::None, dtype };
        resampling.patch_dtype(&self.stored_values())
    }

    pub(super) fn stored_values(&self) -> StoredValues {
        StoredValues {
            dtype: self.dtype(),
            are_labels: self.kind() == Kind::Labels,
            slope_intercept: self.slope_intercept(),
        }
    }

    /// Reads one patch on the caller's thread alone, by way of `cache`.
    pub(crate) fn read_cached(
        &self,
        region: &Region,
        padding: Padding,
        channels: &Channels,
        out: &mut [u8],
        cache: &dyn ChunkCache,
    ) -> Result<()> {
        let context = ReadContext { cache, executor: None };
        let starts = [region.start];
        read_patches(&self.0.array, &starts, region.size, padding, channels, out, context)
    }
}

/// The levels of a volume, none of them opened.
fn unopened(attributes: &VolumeAttributes) -> OpenLevels {
    attributes.levels.iter().map(|_| OnceLock::new()).collect()
}

/// Bytes of the files in a folder and below it.
pub(super) fn folder_bytes(folder: &Folder) -> Result<u64> {
    let mut sum = 0;
    let entries = folder.entries().map_err(Error::io(folder.path(), "cannot list"))?;
    for (name, kind) in entries {
        sum += if kind == FileType::Directory {
            folder_bytes(&folder.join(name))?
        } else {
            let path = folder.path().join(&name);
            folder.file_bytes(name).map_err(Error::io(path, "cannot read the length of"))?
        };
    }
    Ok(sum)
}
