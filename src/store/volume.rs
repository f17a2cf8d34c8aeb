//! An open volume: what it is, and reading its voxels.

use std::any::Any;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ndarray::Array4;

use super::cache::Keeper;
use super::context::Context;
use super::read::Manner;
use super::summary::LabelCounts;
use crate::format::array::ArrayLayout;
use crate::format::attributes::{Kind, SourceFile, Statistics, VolumeAttributes};
use crate::format::document::Document;
use crate::{Affine, Dtype, Error, Padding, Region, Result, Size3, Voxel, geometry, with_voxel};

/// A volume of a subject, opened for reading; clones share everything.
#[derive(Clone, Debug)]
pub struct Volume(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    folder: PathBuf,
    level: PathBuf,
    layout: ArrayLayout,
    attributes: VolumeAttributes,
    context: Arc<Context>,
    number: u64,
}

impl Volume {
    pub(super) fn open(folder: PathBuf, name: &str, context: Arc<Context>) -> Result<Self> {
        let missing = |what: &Path| {
            Error::metadata(what.join("zarr.json"), "missing: the volume is incomplete")
        };
        let group = Document::read(&folder)?.ok_or_else(|| missing(&folder))?;
        let attributes = VolumeAttributes::parse(&group.voxquarry()?)?;
        let level = folder.join("0");
        let array = Document::read(&level)?.ok_or_else(|| missing(&level))?;
        let layout = ArrayLayout::parse(&array)?;
        // A damaged shape that is still a shape would give zeros for voxels that are not there.
        let voxels = layout.shape().iter().map(|&n| n as u64).product::<u64>();
        if attributes.statistics.voxels != voxels {
            let found = attributes.statistics.voxels;
            let message = format!("statistics.voxels: found {found}, the array has {voxels}");
            return Err(Error::metadata(group.path(), message));
        }
        let number = context.number_volume();
        Ok(Self(Arc::new(Inner {
            name: name.to_owned(),
            folder,
            level,
            layout,
            attributes,
            context,
            number,
        })))
    }

    /// Its name in the subject.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Its folder.
    pub fn path(&self) -> &Path {
        &self.0.folder
    }

    /// Extents as numpy would show them: `(z, y, x)` or `(c, z, y, x)`.
    pub fn shape(&self) -> Vec<usize> {
        self.0.layout.shape()
    }

    /// Extents in `(z, y, x)`.
    pub fn size(&self) -> Size3 {
        self.0.layout.size
    }

    /// Channels, or `None` where the volume has no such axis.
    pub fn channels(&self) -> Option<usize> {
        self.0.layout.channels
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.0.layout.dtype
    }

    /// Bytes of its voxels, uncompressed.
    pub fn voxel_bytes(&self) -> u64 {
        self.shape().iter().map(|&n| n as u64).product::<u64>() * self.dtype().size() as u64
    }

    /// Voxel centre `(x, y, z)` to RAS+ millimetres.
    pub fn affine(&self) -> &Affine {
        &self.0.attributes.affine
    }

    /// Millimetres between voxels along `(z, y, x)`.
    pub fn spacing_mm(&self) -> [f64; 3] {
        self.affine().spacing_mm()
    }

    /// Real value = stored value × slope + intercept; reads give stored values.
    pub fn slope_intercept(&self) -> (f64, f64) {
        (self.0.attributes.slope, self.0.attributes.intercept)
    }

    /// Image or labels.
    pub fn kind(&self) -> Kind {
        self.0.attributes.kind
    }

    /// Figures over the stored values.
    pub fn statistics(&self) -> &Statistics {
        &self.0.attributes.statistics
    }

    /// Threads that its data set reads with.
    pub fn threads(&self) -> usize {
        self.0.context.shared().pool.threads()
    }

    /// The file it was made from, if it was made from one.
    pub fn source(&self) -> Option<&SourceFile> {
        self.0.attributes.source.as_ref()
    }

    /// Everything its group's attributes say.
    pub fn attributes(&self) -> &VolumeAttributes {
        &self.0.attributes
    }

    /// How its voxels are cut into chunks and shards.
    pub fn layout(&self) -> &ArrayLayout {
        &self.0.layout
    }

    /// Voxels of each label in each chunk, read from disk at each call.
    ///
    /// # Errors
    /// [`Error::Usage`] if this is no label map; [`Error::Metadata`], [`Error::Data`] if the counts are damaged.
    pub fn label_counts(&self) -> Result<LabelCounts> {
        if self.kind() != Kind::Labels {
            return Err(Error::usage(format!(
                "volume {:?} is an image, it has no label counts: ingest it as labels",
                self.name()
            )));
        }
        LabelCounts::read(&self.0.folder, self.layout())
    }

    /// Bytes of all its files: shards, counts and metadata.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn stored_bytes(&self) -> Result<u64> {
        folder_bytes(&self.0.folder)
    }

    pub(super) fn context(&self) -> &Context {
        &self.0.context
    }

    /// What `make` gives: it and its bytes; or what it gave before, if that is remembered.
    pub(crate) fn remember<T: Any + Send + Sync>(
        &self,
        what: String,
        make: impl FnOnce() -> Result<(T, usize)>,
    ) -> Result<Arc<T>> {
        self.0.context.shared().memo.get_or_make(self.0.number, what, make)
    }

    pub(super) fn number(&self) -> u64 {
        self.0.number
    }

    pub(super) fn level(&self) -> &Path {
        &self.0.level
    }

    /// Voxels in `region` over all channels.
    ///
    /// # Errors
    /// [`Error::Usage`] if they cannot be counted or held in memory.
    pub fn voxels_in(&self, size: Size3, patches: usize) -> Result<usize> {
        let extents =
            size.into_iter().chain([self.layout().channel_count(), patches, self.dtype().size()]);
        let bytes = extents
            .into_iter()
            .try_fold(1usize, usize::checked_mul)
            .filter(|&b| isize::try_from(b).is_ok());
        bytes.map(|b| b / self.dtype().size()).ok_or_else(|| {
            Error::usage(format!("{patches} patches of {size:?} voxels exceed the address space"))
        })
    }

    /// Reads the voxels of `region`, which lies in the volume, into `out`: C order, channel slowest.
    ///
    /// Each chunk that meets `region` is decoded at most once; blocks on disk.
    ///
    /// # Errors
    /// - [`Error::DtypeMismatch`], [`Error::BufferLength`], [`Error::Usage`]: `out` is untouched.
    /// - [`Error::ChunkChecksum`], [`Error::ChunkDecode`], [`Error::ShardIndex`], [`Error::Io`]: `out` is unspecified.
    pub fn read_into<T: Voxel>(&self, region: Region, out: &mut [T]) -> Result<()> {
        self.read_padded_into(region, Padding::Refuse, out)
    }

    /// As [`Volume::read_into`]; where `region` leaves the volume, `out` is filled as `padding` says.
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

    /// Reads one patch of `size` for each of `starts` into `out`: patches, then channels, z, y, x, in C order.
    ///
    /// The chunks of all patches are planned together and each is decoded once.
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
        self.read_bytes(
            starts,
            size,
            padding,
            0..self.layout().channel_count(),
            bytemuck::cast_slice_mut(out),
        )
    }

    /// Reads one region into a new array `(c, z, y, x)`; a volume without channels has one here.
    ///
    /// # Errors
    /// As [`Volume::read_into`].
    pub fn read<T: Voxel>(&self, region: Region, padding: Padding) -> Result<Array4<T>> {
        let mut voxels = vec![T::default(); self.voxels_in(region.size, 1)?];
        self.read_padded_into(region, padding, &mut voxels)?;
        let [z, y, x] = region.size;
        Ok(Array4::from_shape_vec((self.layout().channel_count(), z, y, x), voxels)
            .expect("as many as counted"))
    }

    /// As [`Volume::read_batch_into`] for bytes and a range of channels: for bindings that know the dtype at run time.
    ///
    /// # Errors
    /// As [`Volume::read_into`], and [`Error::Usage`] for channels that do not exist.
    pub fn read_bytes(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        padding: Padding,
        channels: Range<usize>,
        out: &mut [u8],
    ) -> Result<()> {
        let shared = self.context().shared();
        let manner = Manner { keeper: &shared.cache, pool: Some(&shared.pool) };
        self.read_patches(starts, size, padding, channels, out, &manner)
    }

    /// Reads one patch, all channels, on the caller's thread alone; `keeper` keeps what is decoded.
    pub(crate) fn read_kept(
        &self,
        region: &Region,
        padding: Padding,
        out: &mut [u8],
        keeper: &dyn Keeper,
    ) -> Result<()> {
        let channels = 0..self.layout().channel_count();
        let manner = Manner { keeper, pool: None };
        self.read_patches(&[region.start], region.size, padding, channels, out, &manner)
    }

    fn read_patches(
        &self,
        starts: &[[i64; 3]],
        size: Size3,
        padding: Padding,
        channels: Range<usize>,
        out: &mut [u8],
        manner: &Manner<'_>,
    ) -> Result<()> {
        geometry::check_patch_size(size)?;
        if channels.is_empty() || channels.end > self.layout().channel_count() {
            return Err(Error::usage(format!(
                "channels {channels:?}: the volume has {}",
                self.layout().channel_count()
            )));
        }
        let t = self.dtype().size();
        let patch_voxels =
            self.voxels_in(size, starts.len())? / self.layout().channel_count() * channels.len();
        if out.len() != patch_voxels * t {
            return Err(Error::BufferLength { found: out.len() / t, expected: patch_voxels });
        }
        if starts.is_empty() {
            return Ok(());
        }
        let shape = self.size();
        let regions: Vec<Region> = starts.iter().map(|&start| Region::new(start, size)).collect();
        let patch_bytes = out.len() / regions.len();
        match padding {
            _ if regions.iter().all(|r| r.is_inside(shape)) => {
                self.gather(&regions, size, channels, out, manner)
            }
            Padding::Refuse => {
                let outside =
                    regions.iter().find(|r| !r.is_inside(shape)).expect("not all are inside");
                Err(Error::usage(format!(
                    "region {:?} of size {size:?} leaves the volume of {shape:?}: choose a padding (a number, \"edge\" or \"reflect\")",
                    outside.start
                )))
            }
            Padding::Constant(value) => {
                let constant = with_voxel!(self.dtype(), T => T::from_f64_exact(value).map(|v| bytemuck::bytes_of(&v).to_vec()));
                let constant = constant.ok_or_else(|| {
                    Error::usage(format!("padding {value}: {} does not have it", self.dtype()))
                })?;
                for (region, patch) in regions.iter().zip(out.chunks_exact_mut(patch_bytes)) {
                    if !region.is_inside(shape) {
                        patch
                            .chunks_exact_mut(t)
                            .for_each(|voxel| voxel.copy_from_slice(&constant));
                    }
                }
                self.gather(&regions, size, channels, out, manner)
            }
            Padding::Edge | Padding::Reflect => {
                for (region, patch) in regions.iter().zip(out.chunks_exact_mut(patch_bytes)) {
                    self.read_mirrored(region, padding, channels.clone(), patch, manner)?;
                }
                Ok(())
            }
        }
    }

    /// Reads the box of voxels that stand for the region's, then places each where it is wanted.
    fn read_mirrored(
        &self,
        region: &Region,
        padding: Padding,
        channels: Range<usize>,
        out: &mut [u8],
        manner: &Manner<'_>,
    ) -> Result<()> {
        let shape = self.size();
        if region.is_inside(shape) {
            return self.gather(&[*region], region.size, channels, out, manner);
        }
        let stand_ins: [Vec<usize>; 3] = [0, 1, 2].map(|a| {
            (0..region.size[a] as i64)
                .map(|i| padding.source_index(region.start[a].saturating_add(i), shape[a]))
                .collect()
        });
        let (mut start, mut size) = ([0; 3], [0; 3]);
        for a in 0..3 {
            let (min, max) =
                stand_ins[a].iter().fold((usize::MAX, 0), |(lo, hi), &i| (lo.min(i), hi.max(i)));
            start[a] = min as i64;
            size[a] = max - min + 1;
        }
        let t = self.dtype().size();
        let inside = Region::new(start, size);
        let mut voxels = vec![0; inside.len() * channels.len() * t];
        self.gather(&[inside], size, channels.clone(), &mut voxels, manner)?;
        let local: [Vec<usize>; 3] =
            [0, 1, 2].map(|a| stand_ins[a].iter().map(|&i| i - start[a] as usize).collect());
        let mut rows = out.chunks_exact_mut(region.size[2] * t);
        for c in 0..channels.len() {
            for &z in &local[0] {
                for &y in &local[1] {
                    let from = &voxels[((c * size[0] + z) * size[1] + y) * size[2] * t..];
                    let row = rows.next().expect("a row for each z and y");
                    for (to, &x) in row.chunks_exact_mut(t).zip(&local[2]) {
                        to.copy_from_slice(&from[x * t..][..t]);
                    }
                }
            }
        }
        Ok(())
    }
}

fn folder_bytes(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "cannot list"))? {
        let entry = entry.map_err(Error::io(folder, "cannot list"))?;
        let kind = entry.metadata().map_err(Error::io(entry.path(), "cannot stat"))?;
        sum += if kind.is_dir() { folder_bytes(&entry.path())? } else { kind.len() };
    }
    Ok(sum)
}
