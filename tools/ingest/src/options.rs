//! The options of an ingest.

use voxquarry::format::array::ArrayLayout;
use voxquarry::format::layout::{self, Codec};
use voxquarry::format::levels::{self, Levels};
use voxquarry::{Affine, Dtype, IfExists, Normalization, Size3};

use crate::change::VoxelChanges;
use crate::formats::{RawVoxels, Stated};
use crate::jobs::Jobs;

/// Options of an ingest.
///
/// # Examples
/// ```
/// use voxquarry::IfExists;
/// use voxquarry_ingest::IngestOptions;
///
/// let options = IngestOptions::default().patch_sizes([[96; 3]]).if_exists(IfExists::Skip);
/// ```
#[derive(Clone, Debug)]
pub struct IngestOptions {
    pub(crate) patch_sizes: Vec<Size3>,
    pub(crate) codec: Codec,
    pub(crate) levels: Levels,
    pub(crate) memory_bytes: u64,
    pub(crate) threads: Option<usize>,
    pub(crate) jobs: Option<usize>,
    pub(crate) if_exists: IfExists,
    pub(crate) is_addition: bool,
    pub(crate) keep_going: bool,
    pub(crate) grid_tolerance_mm: Option<f64>,
    pub(crate) grid_from: Option<String>,
    pub(crate) stated: Stated,
    pub(crate) changes: VoxelChanges,
}

impl Default for IngestOptions {
    fn default() -> Self {
        Self {
            patch_sizes: vec![[96; 3]],
            codec: Codec::Fast,
            levels: Levels::default(),
            memory_bytes: 1 << 30,
            threads: None,
            jobs: None,
            if_exists: IfExists::Error,
            is_addition: false,
            keep_going: false,
            grid_tolerance_mm: None,
            grid_from: None,
            stated: Stated::default(),
            changes: VoxelChanges::default(),
        }
    }
}

impl IngestOptions {
    /// Sizes of the patches that will be read, `(z, y, x)`; they decide the layout. 96³ by default.
    #[must_use]
    pub fn patch_sizes(mut self, sizes: impl Into<Vec<Size3>>) -> Self {
        self.patch_sizes = sizes.into();
        self
    }

    /// Compression; [`Codec::Fast`] by default.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The coarser levels that every volume gets: means of images, the most frequent ids of label
    /// maps; none by default.
    ///
    /// ```
    /// use voxquarry::format::levels::Levels;
    /// use voxquarry_ingest::IngestOptions;
    ///
    /// let options = IngestOptions::default().levels(Levels::Auto);
    /// ```
    #[must_use]
    pub fn levels(mut self, levels: Levels) -> Self {
        self.levels = levels;
        self
    }

    /// Memory that the run may use; 1 GiB by default.
    #[must_use]
    pub fn memory_bytes(mut self, bytes: u64) -> Self {
        self.memory_bytes = bytes;
        self
    }

    /// Threads that encode; `None`, the default, for one for each core.
    #[must_use]
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }

    /// Subjects that are ingested side by side, if the memory suffices for them; `None`, the
    /// default, for two for each thread, and at least four: while some wait for the disk, others
    /// are encoded.
    #[must_use]
    pub fn jobs(mut self, jobs: impl Into<Option<usize>>) -> Self {
        self.jobs = jobs.into();
        self
    }

    /// What to do about subjects that exist already; [`IfExists::Error`] by default.
    #[must_use]
    pub fn if_exists(mut self, if_exists: IfExists) -> Self {
        self.if_exists = if_exists;
        self
    }

    /// Whether volumes are added to subjects that exist, which keep their other volumes. What to do
    /// if they exist then concerns the volumes.
    #[must_use]
    pub fn add_volumes(mut self, is_addition: bool) -> Self {
        self.is_addition = is_addition;
        self
    }

    /// Whether subjects that fail are listed in the report, and the others ingested; by default the
    /// first failure ends the run.
    #[must_use]
    pub fn keep_going(mut self, keep_going: bool) -> Self {
        self.keep_going = keep_going;
        self
    }

    /// How far voxels of the same index may lie apart in volumes of one subject, in millimetres; by
    /// default a tenth of the smallest spacing. Volumes within the tolerance get one affine.
    #[must_use]
    pub fn grid_tolerance_mm(mut self, mm: impl Into<Option<f64>>) -> Self {
        self.grid_tolerance_mm = mm.into();
        self
    }

    /// The volume whose affine all volumes of its subject get, whatever their headers say; their
    /// extents have to agree.
    #[must_use]
    pub fn grid_from(mut self, volume: impl Into<Option<String>>) -> Self {
        self.grid_from = volume.into();
        self
    }

    /// The affine of all volumes, instead of those of their headers, which need not be valid then.
    #[must_use]
    pub fn affine(mut self, affine: impl Into<Option<Affine>>) -> Self {
        self.stated.affine = affine.into();
        self
    }

    /// What the files are whose names tell no format: voxels and nothing else.
    #[must_use]
    pub fn raw(mut self, voxels: impl Into<Option<RawVoxels>>) -> Self {
        self.stated.raw = voxels.into();
        self
    }

    /// Whether each subject is cropped to the box of the voxels of its images that are not 0.
    #[must_use]
    pub fn crop_foreground(mut self, crops: bool) -> Self {
        self.changes.crops = crops;
        self
    }

    /// The least and the largest real value of images; what lies outside becomes the nearer one.
    #[must_use]
    pub fn clip(mut self, bounds: impl Into<Option<(f64, f64)>>) -> Self {
        self.changes.clip = bounds.into();
        self
    }

    /// Whether axes are exchanged and mirrored so that they ascend as RAS+, as nibabel's
    /// `as_closest_canonical` does.
    #[must_use]
    pub fn canonical(mut self, is_canonical: bool) -> Self {
        self.changes.is_canonical = is_canonical;
        self
    }

    /// The spacing `(z, y, x)` that volumes are resampled to, in the unit of their affine: images
    /// linearly, labels to the nearest voxel.
    #[must_use]
    pub fn target_spacing(mut self, spacing: impl Into<Option<[f64; 3]>>) -> Self {
        self.changes.spacing = spacing.into();
        self
    }

    /// How the values of images are normalised; they become float32 unless
    /// [`dtype`](Self::dtype) says otherwise.
    #[must_use]
    pub fn normalize(mut self, normalization: impl Into<Option<Normalization>>) -> Self {
        self.changes.normalization = normalization.into();
        self
    }

    /// The element type of images. A value that it does not hold is an error.
    #[must_use]
    pub fn dtype(mut self, dtype: impl Into<Option<Dtype>>) -> Self {
        self.changes.dtype = dtype.into();
        self
    }

    /// The threads that encode.
    pub(crate) fn thread_count(&self) -> usize {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        self.threads.unwrap_or_else(cores).max(1)
    }

    /// Memory that making the levels of a volume takes on all threads, beside encoding them.
    pub(crate) fn levels_memory(&self, layout: &ArrayLayout) -> u64 {
        let makes = self.levels != Levels::default();
        if makes { self.thread_count() as u64 * levels::maker_memory(layout) } else { 0 }
    }

    /// How many subjects run side by side, and in how much memory beside what they share.
    pub(crate) fn side_by_side(&self) -> Jobs {
        let limit = self.jobs.unwrap_or_else(|| (2 * self.thread_count()).max(4)).max(1);
        Jobs { limit, budget_bytes: self.memory_bytes.saturating_sub(layout::SHARED_BYTES) }
    }
}
