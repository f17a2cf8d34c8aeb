//! Delivers training batches, read ahead in an order that is known before the epoch begins.
//!
//! `epoch_plan`, `permutation` and `share` compute the order of an epoch from the queue's options.
//! `workers` fills batches (`ring`, `buffer`, `batch_layout`) ahead of the consumer.
//! `lookahead_cache` keeps decoded chunks for the patches to come.
//!
//! # Invariants
//! - The stream of batches is the same bit for bit on any number of threads, and after any resume.
//! - Memory is `buffer_bytes`, the cache's budget and the batches that the consumer holds, however
//!   large the dataset.
//! - An error in a patch reaches the consumer in place of the batch that the patch belongs to.
//!
//! Not here: the locations of patches (`sample`), the decoding of voxels (`store`).

mod batch;
mod batch_layout;
mod batches;
mod buffer;
mod build;
mod changes;
mod epoch_plan;
mod lookahead_cache;
mod options;
mod patch_reader;
mod permutation;
mod ring;
mod sampler;
mod share;
mod shared;
mod stats;
mod subject_cache;
mod survey;
mod view;
mod weights;
mod workers;

use std::sync::Arc;

pub use batch::Batch;
pub use batches::{BatchPoll, Batches};
pub use epoch_plan::ShuffleMode;
pub use lookahead_cache::Eviction;
pub use options::{QueueOptions, QueueVolume};
pub use sampler::Sampler;
pub use stats::QueueStats;
pub use weights::{QueueWeights, WeightUpdate};

use self::shared::{QueuePosition, QueueShared};
use self::weights::PlanWeights;
use crate::{Dataset, Error, Result, Size3};

/// Batches of patches for training, epoch after epoch.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions, Queue, QueueOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
/// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
/// for _epoch in 0..2 {
///     for batch in queue.batches()? { // Other patches in another order each time.
///         let batch = batch?;
///         let voxels = batch.array::<u8>("u8")?; // (patches, c, z, y, x)
///         assert_eq!(voxels.shape()[1..], [1, 4, 4, 4]);
///     }
/// }
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct Queue(Arc<QueueShared>);

/// A position in an epoch, as [`Queue::state`] returns and [`Queue::load_state`] takes it.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions, Queue, QueueOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
/// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
/// queue.batches()?.next().expect("a first batch")?;
/// let state = queue.state();
/// assert_eq!((state.epoch, state.position), (0, 4));
/// queue.load_state(&state)?;
/// assert_eq!(queue.batches()?.count(), 1); // The second batch.
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct QueueState {
    /// A digest of the order of the patches, of the sampler and of the augmentation.
    pub plan: u64,
    /// The queue's seed.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// Patches of the epoch that were delivered, over all ranks.
    pub position: u64,
    /// The weights that apply from there on, in the order of their positions.
    pub weights: Vec<WeightUpdate>,
}

impl Queue {
    /// Makes a queue over a dataset; reading starts with [`Queue::batches`].
    ///
    /// This opens all subjects, and looks at the label counts or sums of weights that the sampler
    /// needs: what is known not to work is said here, not in the middle of an epoch.
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`]: an option outside of what it accepts, or a batch larger than
    ///   `buffer_bytes`.
    /// - [`Error::CannotSample`]: subjects in which the sampler can draw no patch; see
    ///   [`QueueOptions::on_missing`].
    /// - [`Error::NotFound`]: a subject or volume that does not exist.
    /// - The errors of opening a subject.
    pub fn new(
        dataset: &Dataset,
        sampler: impl Into<Sampler>,
        options: QueueOptions,
    ) -> Result<Self> {
        build::build(dataset, sampler.into(), options).map(|shared| Self(Arc::new(shared)))
    }

    /// Batches of an epoch on this rank.
    pub fn len(&self) -> u64 {
        self.0.share.batches()
    }

    /// Whether an epoch has no batch.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Patches of an epoch on this rank.
    pub fn patches(&self) -> u64 {
        self.0.share.patches()
    }

    /// Ranks that share each epoch.
    pub fn world_size(&self) -> u64 {
        self.0.share.world_size()
    }

    /// The subjects in which the sampler can draw no patch, with the reason of each: those that
    /// [`QueueOptions::on_missing`] leaves out, or whose patches are drawn anywhere.
    pub fn missing(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.0.missing.iter().map(|(name, reason)| (&**name, reason.as_str()))
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.0.layout.patch_size
    }

    /// Threads that read during an iteration.
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// The epoch of the latest iteration, or of the next one if that was chosen or loaded.
    pub fn epoch(&self) -> u64 {
        self.0.progress.epoch()
    }

    /// Chooses the epoch of the next iteration, which starts at its first patch.
    ///
    /// Without it every iteration takes the next epoch. To choose the epoch of a loaded state
    /// changes nothing, so its position stays loaded.
    pub fn set_epoch(&self, epoch: u64) {
        self.0.progress.choose(epoch);
    }

    /// The position of the patch that follows the last delivered batch; once an iteration has
    /// ended, that of the next epoch's first patch.
    pub fn state(&self) -> QueueState {
        self.state_at(self.0.progress.reached())
    }

    fn state_at(&self, at: QueuePosition) -> QueueState {
        let (plan, position) = (&self.0.plan, at.position * self.world_size());
        let text = self.0.changes.text();
        let digest = plan.digest(&self.0.sampler, &self.0.background, &text);
        let weights = self.0.weights.from(at.epoch, position);
        QueueState { plan: digest, seed: plan.seed(), epoch: at.epoch, position, weights }
    }

    /// Draws patches by `weights` from the next epoch on, or from where the next iteration starts
    /// if none has begun. Earlier weights no longer apply there.
    ///
    /// On several ranks, give all of them the same weights at the same position.
    ///
    /// ```
    /// use voxquarry::{ChunkWeights, Queue, QueueOptions, QueueWeights, UniformSampler};
    ///
    /// # let store = "format-spec/golden/v1";
    /// let dataset = voxquarry::open(store)?;
    /// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
    /// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
    /// let grid = dataset.subject("grid")?.volume("u8")?.layout().chunk_grid();
    /// let mut chunks = vec![0.0; grid.iter().product()];
    /// chunks[0] = 1.0; // The first chunk alone.
    /// let chunks = ChunkWeights::new(grid, chunks)?;
    /// queue.update_weights(QueueWeights::default().chunks([("grid", chunks)]))?;
    /// assert_eq!(queue.state().weights.len(), 1);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// - [`Error::InvalidArgument`]: a subject that the queue does not read, a weight that is
    ///   negative or not finite, weights that are all zero or of another chunk grid.
    /// - [`Error::Unsupported`]: weights of chunks with a view, a grid, or a sampler that keeps a
    ///   distance; chunks of a weight above 0 in which no patch can be centred.
    /// - The errors of opening a subject.
    pub fn update_weights(&self, weights: QueueWeights) -> Result<()> {
        let start = self.0.progress.next_start();
        self.update_weights_at(weights, start.epoch, start.position * self.world_size())
    }

    /// As [`Queue::update_weights`], from a position of an epoch on, counted over all ranks as in
    /// [`QueueState::position`]. Batches of an iteration that were read ahead of it are read again.
    ///
    /// # Errors
    /// As [`Queue::update_weights`]; [`Error::InvalidArgument`] for a position before
    /// [`Queue::state`].
    pub fn update_weights_at(
        &self,
        weights: QueueWeights,
        epoch: u64,
        position: u64,
    ) -> Result<()> {
        let at = self.0.progress.reached();
        let reached = (at.epoch, at.position * self.world_size());
        if (epoch, position) < reached {
            let found = format!("{position} of epoch {epoch}");
            let expected =
                format!("at least {} of epoch {}, up to where patches came", reached.1, reached.0);
            return Err(Error::invalid("position", found, expected));
        }
        let plan = self.plan_weights(&weights)?;
        let update = WeightUpdate { epoch, position, weights: Arc::new(weights) };
        self.0.weights.add(update, plan, reached);
        Ok(())
    }

    fn plan_weights(&self, weights: &QueueWeights) -> Result<PlanWeights> {
        if self.0.changes.view.is_some() && weights.has_chunks() {
            return Err(Error::unsupported(
                "weights of chunks are those of the stored grid, and the queue reads a view",
                "give weights of subjects alone, or a queue over the dataset itself",
            ));
        }
        PlanWeights::new(weights, &self.0.plan, &self.0.sampler, |name| self.0.open(name))
    }

    /// The position at which the next iteration starts.
    ///
    /// It is the last loaded state if nothing has been read since, otherwise the start of the
    /// chosen or the next epoch.
    pub fn start_state(&self) -> QueueState {
        self.state_at(self.0.progress.next_start())
    }

    /// Lets the next iteration start with the patch that was due when `state` was taken, on any
    /// rank. The weights of the state take the place of the queue's.
    ///
    /// A state that was taken at the last batch, before the iteration ended, gives an empty
    /// iteration, and then the next epoch.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a state of another queue; [`Error::InvalidArgument`] for a
    /// position that this number of ranks cannot resume at; those of weights as
    /// [`Queue::update_weights`].
    pub fn load_state(&self, state: &QueueState) -> Result<()> {
        let (own, world_size) = (self.state(), self.world_size());
        if (state.plan, state.seed) != (own.plan, own.seed) {
            return Err(Error::unsupported(
                format!(
                    "the state is that of another queue (plan {:016x}, seed {}; this queue: \
                     plan {:016x}, seed {})",
                    state.plan, state.seed, own.plan, own.seed
                ),
                "make the queue with the same dataset, sampler, order, seed and augmentation",
            ));
        }
        if !state.position.is_multiple_of(world_size) {
            let expected =
                format!("a multiple of world_size {world_size}: resume on as many ranks as before");
            return Err(Error::invalid("position", state.position, expected));
        }
        let checked = state
            .weights
            .iter()
            .map(|update| self.plan_weights(&update.weights).map(|plan| (update.clone(), plan)));
        self.0.weights.replace(checked.collect::<Result<_>>()?);
        let position = (state.position / world_size).min(self.patches());
        self.0.progress.seek(state.epoch, position);
        Ok(())
    }

    /// Counters of everything that the queue has done so far.
    pub fn stats(&self) -> QueueStats {
        self.0.counters.snapshot()
    }

    /// Reads the next epoch from its first patch, or from a loaded state; threads start at once.
    ///
    /// The first iteration reads epoch 0, and every further one the epoch after the latest, unless
    /// [`Queue::set_epoch`] or [`Queue::load_state`] choose.
    ///
    /// # Errors
    /// [`Error::Io`] if the system grants no thread.
    pub fn batches(&self) -> Result<Batches> {
        Batches::start(&self.0, 1, 0, false)
    }

    /// Reads the batches `index`, `index + num_shards`, ... of those that [`Queue::batches`] would
    /// give, but stays in that epoch: the next shard is one of the same epoch, until
    /// [`Queue::set_epoch`] chooses another.
    ///
    /// So several processes divide an epoch among themselves. An `index` of `num_shards` or more
    /// leaves out the first batches of the shard `index % num_shards`. A state that is taken during
    /// the iteration continues with the next batch of this shard.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if `num_shards` is 0; [`Error::Io`] if the system grants no
    /// thread.
    pub fn shard(&self, num_shards: u64, index: u64) -> Result<Batches> {
        Batches::start(&self.0, num_shards, index, true)
    }
}
