//! The options of a queue.

use super::epoch_plan::ShuffleMode;
use super::lookahead_cache::Eviction;
use super::view::ViewGrid;
use crate::sample::OnMissing;
use crate::{Augment, Channels, Dtype, Normalization, Orientation, Padding};

/// A volume that a queue reads of every patch.
///
/// A name converts into it.
///
/// ```
/// use voxquarry::{Padding, QueueOptions, QueueVolume};
///
/// let ct = QueueVolume::new("ct").padding(Padding::Constant(-1024.0));
/// let options = QueueOptions::default().volumes([ct, "seg".into()]);
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QueueVolume {
    pub(super) name: String,
    pub(super) padding: Option<Padding>,
    pub(super) channels: Option<Channels>,
    pub(super) normalization: Option<Normalization>,
}

impl QueueVolume {
    /// The volume of that name, padded as the sampler asks (see
    /// [`Sampler::padding`](crate::Sampler::padding)).
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), padding: None, channels: None, normalization: None }
    }

    /// Pads patches that leave this volume with `padding`.
    #[must_use]
    pub fn padding(mut self, padding: Padding) -> Self {
        self.padding = Some(padding);
        self
    }
}

impl QueueVolume {
    /// Reads these channels alone, in this order; by default all of them. No other is decoded.
    #[must_use]
    pub fn channels(mut self, channels: Channels) -> Self {
        self.channels = Some(channels);
        self
    }

    /// Normalises this volume, which is an image, in this way; by default as
    /// [`QueueOptions::normalize`] says.
    #[must_use]
    pub fn normalize(mut self, normalization: Normalization) -> Self {
        self.normalization = Some(normalization);
        self
    }
}

impl<S: Into<String>> From<S> for QueueVolume {
    fn from(name: S) -> Self {
        Self::new(name)
    }
}

/// Options of [`Queue::new`](crate::Queue::new): every setter changes one of the defaults.
///
/// ```
/// use voxquarry::QueueOptions;
///
/// let options = QueueOptions::default().volumes(["ct", "seg"]).batch_size(8).seed(42);
/// // The second of four processes that train together:
/// let options = options.rank(1).world_size(4).drop_last(true);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct QueueOptions {
    pub(super) volumes: Vec<QueueVolume>,
    pub(super) subjects: Option<Vec<(String, u64)>>,
    pub(super) patches_per_subject: u64,
    pub(super) batch_size: usize,
    pub(super) buffer_bytes: u64,
    pub(super) cache_bytes: Option<usize>,
    pub(super) eviction: Eviction,
    pub(super) shuffle: ShuffleMode,
    pub(super) window_bytes: u64,
    pub(super) seed: u64,
    pub(super) rank: u64,
    pub(super) world_size: u64,
    pub(super) drop_last: bool,
    pub(super) threads: Option<usize>,
    pub(super) on_missing: OnMissing,
    pub(super) scaled: bool,
    pub(super) augment: Option<Augment>,
    pub(super) normalization: Option<Normalization>,
    pub(super) dtype: Option<Dtype>,
    pub(super) view: Option<ViewGrid>,
}

impl Default for QueueOptions {
    fn default() -> Self {
        Self {
            volumes: Vec::new(),
            subjects: None,
            patches_per_subject: 8,
            batch_size: 4,
            buffer_bytes: 512 << 20,
            cache_bytes: None,
            eviction: Eviction::Farthest,
            shuffle: ShuffleMode::Global,
            window_bytes: 1 << 30,
            seed: 0,
            rank: 0,
            world_size: 1,
            drop_last: false,
            threads: None,
            on_missing: OnMissing::Error,
            scaled: false,
            augment: None,
            normalization: None,
            dtype: None,
            view: None,
        }
    }
}

impl QueueOptions {
    /// The volumes that are read of every patch, at least one; each has the same dtype and number
    /// of channels in all subjects, as far as they are read.
    pub fn volumes<V: Into<QueueVolume>>(mut self, volumes: impl IntoIterator<Item = V>) -> Self {
        self.volumes = volumes.into_iter().map(Into::into).collect();
        self
    }

    /// The subjects and the number of patches of each in an epoch, in the order of
    /// [`ShuffleMode::None`]; by default all subjects of the dataset.
    ///
    /// A subject may be listed again. A grid sampler has its own numbers of patches.
    pub fn subjects<N: Into<String>>(
        mut self,
        subjects: impl IntoIterator<Item = (N, u64)>,
    ) -> Self {
        self.subjects = Some(subjects.into_iter().map(|(name, n)| (name.into(), n)).collect());
        self
    }

    /// Random patches of a subject in an epoch, unless [`QueueOptions::subjects`] says otherwise; 8
    /// by default.
    pub fn patches_per_subject(mut self, patches_per_subject: u64) -> Self {
        self.patches_per_subject = patches_per_subject;
        self
    }

    /// Patches in a batch; the last batch of an epoch may have fewer; 4 by default.
    pub fn batch_size(mut self, batch_size: usize) -> Self {
        self.batch_size = batch_size;
        self
    }

    /// Memory for batches that the consumer has not taken yet; 512 MiB by default.
    pub fn buffer_bytes(mut self, buffer_bytes: u64) -> Self {
        self.buffer_bytes = buffer_bytes;
        self
    }

    /// Memory for decoded chunks; by default, or with `None`, that of the dataset's own cache.
    pub fn cache_bytes(mut self, cache_bytes: impl Into<Option<usize>>) -> Self {
        self.cache_bytes = cache_bytes.into();
        self
    }

    /// The decoded chunk that is evicted first.
    pub fn eviction(mut self, eviction: Eviction) -> Self {
        self.eviction = eviction;
        self
    }

    /// The order of the patches.
    pub fn shuffle(mut self, shuffle: ShuffleMode) -> Self {
        self.shuffle = shuffle;
        self
    }

    /// Bytes of voxels of the subjects that [`ShuffleMode::Window`] uses at a time; 1 GiB by
    /// default.
    pub fn window_bytes(mut self, window_bytes: u64) -> Self {
        self.window_bytes = window_bytes;
        self
    }

    /// The seed of samples and order; 0 by default.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The number of this rank, less than `world_size`; 0 by default.
    pub fn rank(mut self, rank: u64) -> Self {
        self.rank = rank;
        self
    }

    /// Ranks that share each epoch; 1 by default.
    pub fn world_size(mut self, world_size: u64) -> Self {
        self.world_size = world_size;
        self
    }

    /// Whether an epoch leaves out the patches that do not fill a batch on every rank; off by
    /// default.
    pub fn drop_last(mut self, drop_last: bool) -> Self {
        self.drop_last = drop_last;
        self
    }

    /// What is done with subjects in which the sampler can draw no patch; by default an error.
    pub fn on_missing(mut self, on_missing: OnMissing) -> Self {
        self.on_missing = on_missing;
        self
    }

    /// Whether batches have real values, stored value × slope + intercept, of the volumes that have
    /// a slope or an intercept in any subject: as `f32`, or `f64` where that is stored. A constant
    /// padding is a real value then. By default they have stored values.
    pub fn scaled(mut self, scaled: bool) -> Self {
        self.scaled = scaled;
        self
    }

    /// Random changes of every patch; by default none. Images become floats, see
    /// [`QueueOptions::dtype`]. Where a spatial change may leave a volume that has no padding, an
    /// image is padded with its least value, and labels with 0.
    pub fn augment(mut self, augment: Augment) -> Self {
        self.augment = Some(augment);
        self
    }

    /// Reads every subject at another spacing `(z, y, x)` or orientation, as
    /// [`Volume::at`](crate::Volume::at) shows it: locations are in its voxels, and images become
    /// floats. Samplers by labels or weights draw a stored voxel, and centre the patch on the voxel
    /// of the view that it lies in; they need the border `Clamp` or `Pad`.
    pub fn at(mut self, grid: (Option<[f64; 3]>, Option<Orientation>)) -> Self {
        let (spacing, orientation) = grid;
        self.view = Some(ViewGrid { spacing, orientation });
        self
    }

    /// Normalises every image, before its values are augmented. Images become floats, see
    /// [`QueueOptions::dtype`].
    pub fn normalize(mut self, normalization: Normalization) -> Self {
        self.normalization = Some(normalization);
        self
    }

    /// The type of all images, `f32` or `f16`. By default images that are augmented or normalised
    /// are `f32`, and others keep their type or, with [`QueueOptions::scaled`], that of their real
    /// values. Labels keep theirs.
    pub fn dtype(mut self, dtype: Dtype) -> Self {
        self.dtype = Some(dtype);
        self
    }

    /// Threads that read; by default, or with `None`, those of the dataset.
    pub fn threads(mut self, threads: impl Into<Option<usize>>) -> Self {
        self.threads = threads.into();
        self
    }
}
