//! Batches of patches for training: every epoch is known in advance, so it is read ahead, and each chunk decoded once while it
//! is needed.
//!
//! The plan of an epoch (`plan`, `shuffle`) is a pure function of what the queue was made with. Reader threads (`readers`)
//! fill batches (`ring`, `buffer`, `layout`) ahead of the consumer; decoded chunks wait in a `hoard` for the patches to come.
//!
//! # Invariants
//! - The stream of batches is the same bit for bit on any number of threads, and wherever it is resumed.
//! - Memory is `buffer_bytes`, the cache's budget, and what the consumer holds, whatever the data set.
//! - A patch's error arrives at the consumer in place of the batch that the patch belongs to.
//!
//! Not here: where patches lie (`sample`), how they are read (`store`).

mod buffer;
mod hoard;
mod layout;
mod options;
mod plan;
mod readers;
mod ring;
mod shelf;
mod shuffle;
mod stats;

use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use ndarray::ArrayView5;

pub use hoard::Eviction;
pub use options::{QueueOptions, QueueVolume, Sampler};
pub use plan::Shuffle;
pub use stats::QueueStats;

use self::buffer::Buffer;
use self::hoard::Hoard;
use self::layout::Layout;
use self::plan::{Plan, Share, Stride};
use self::readers::{Readers, Session, Turn};
use self::ring::{Next, Ring};
use self::stats::{Counters, add, add_time};
use crate::process::PerProcess;
use crate::{Dataset, Dtype, Error, PatchLocation, Result, Size3, Voxel};

/// Batches of patches, epoch after epoch.
#[derive(Debug)]
pub struct Queue(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dataset: Dataset,
    sampler: Sampler,
    volumes: Vec<QueueVolume>,
    plan: Arc<Plan>,
    share: Share,
    layout: Arc<Layout>,
    buffer_bytes: u64,
    cache_bytes: usize,
    eviction: Eviction,
    /// Whether any chunk is worth keeping.
    caches: bool,
    threads: usize,
    session: PerProcess<Session>,
    counters: Counters,
    progress: Progress,
}

/// How far the consumer is.
#[derive(Debug, Default)]
struct Progress {
    epoch: AtomicU64,
    /// Patches of this rank that were delivered.
    position: AtomicU64,
    /// Where the next iteration begins.
    begin: AtomicU64,
    /// Counts iterations: only the latest moves the position.
    iteration: AtomicU64,
}

/// Where a queue is in its epoch: what [`Queue::state`] gives and [`Queue::load_state`] takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// Names what the queue was made with.
    pub plan: u64,
    /// The seed it was made with.
    pub seed: u64,
    /// The epoch.
    pub epoch: u64,
    /// Patches of the epoch that were delivered, over all ranks.
    pub position: u64,
}

impl Inner {
    fn session(&self) -> &Session {
        self.session.get(Session::new)
    }
}

impl Queue {
    /// A queue over a data set; opens the first subject, and with a grid all of them, and starts nothing yet.
    ///
    /// # Errors
    /// - [`Error::Usage`]: options that cannot be, or a batch that exceeds `buffer_bytes`.
    /// - [`Error::NotFound`]: a subject or volume that is not there.
    /// - What opening a subject returns.
    pub fn new(
        dataset: &Dataset,
        sampler: impl Into<Sampler>,
        options: QueueOptions,
    ) -> Result<Self> {
        options::build(dataset, sampler.into(), options).map(|inner| Self(Arc::new(inner)))
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

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.0.layout.patch_size
    }

    /// The epoch that is read, or will be.
    pub fn epoch(&self) -> u64 {
        self.0.progress.epoch.load(Ordering::Relaxed)
    }

    /// The next iteration reads that epoch; from its beginning, unless it is this one and a state of it was loaded.
    pub fn set_epoch(&self, epoch: u64) {
        if self.epoch() != epoch {
            self.go_to(epoch, 0);
        }
    }

    fn go_to(&self, epoch: u64, position: u64) {
        let progress = &self.0.progress;
        progress.iteration.fetch_add(1, Ordering::Relaxed);
        progress.epoch.store(epoch, Ordering::Relaxed);
        progress.position.store(position, Ordering::Relaxed);
        progress.begin.store(position, Ordering::Relaxed);
    }

    /// Which patch is due: the one after the last batch that was delivered.
    pub fn state(&self) -> QueueState {
        let (progress, plan) = (&self.0.progress, &self.0.plan);
        QueueState {
            plan: plan.digest(&self.0.sampler),
            seed: plan.seed(),
            epoch: self.epoch(),
            position: progress.position.load(Ordering::Relaxed) * self.world_size(),
        }
    }

    /// The state whose loading would let the next iteration begin where it will: a state that was loaded and not yet read from, or
    /// the epoch's beginning.
    pub fn beginning(&self) -> QueueState {
        let position = self.0.progress.begin.load(Ordering::Relaxed) * self.world_size();
        QueueState { position, ..self.state() }
    }

    /// The next iteration begins with the patch that was due when the state was taken, on any rank.
    ///
    /// # Errors
    /// [`Error::Usage`] for a state of another queue, or a position that lies between those of this number of ranks.
    pub fn load_state(&self, state: &QueueState) -> Result<()> {
        let (here, world) = (self.state(), self.world_size());
        if (state.plan, state.seed) != (here.plan, here.seed) {
            return Err(Error::usage(format!(
                "the state is of another queue (plan {:016x}, seed {}; this one: plan {:016x}, seed {}): make the queue with \
                 the data set, sampler and options that it was made with",
                state.plan, state.seed, here.plan, here.seed
            )));
        }
        if !state.position.is_multiple_of(world) {
            return Err(Error::usage(format!(
                "the state's position {} is no multiple of this queue's world_size {world}: resume on as many ranks as before",
                state.position
            )));
        }
        self.go_to(state.epoch, (state.position / world).min(self.patches()));
        Ok(())
    }

    /// What it has done so far.
    pub fn stats(&self) -> QueueStats {
        self.0.counters.snapshot()
    }

    /// Threads that read while an iteration is under way.
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// Reads the epoch, from its beginning or where the state that was loaded is; readers start at once.
    ///
    /// # Errors
    /// [`Error::Io`] if the system grants no thread.
    pub fn batches(&self) -> Result<Batches> {
        self.every(1, 0)
    }

    /// Reads every `step`-th of the batches that [`Queue::batches`] would give, from number `first` on: the part of one of several
    /// workers that take turns. A state that is taken meanwhile begins with the next batch of these.
    ///
    /// # Errors
    /// [`Error::Usage`] for a `step` of 0, [`Error::Io`] if the system grants no thread.
    pub fn every(&self, step: u64, first: u64) -> Result<Batches> {
        if step == 0 {
            return Err(Error::usage("step 0: expected at least 1"));
        }
        let progress = &self.0.progress;
        let iteration = progress.iteration.fetch_add(1, Ordering::Relaxed) + 1;
        let begin = progress.begin.swap(0, Ordering::Relaxed);
        let stride = Stride { share: self.0.share, begin, first, step };
        progress.position.store(stride.reached(0), Ordering::Relaxed);
        let mut batches = Batches {
            queue: self.0.clone(),
            epoch: self.epoch(),
            iteration,
            stride,
            cursor: 0,
            process: process::id(),
            running: None,
            marked: Instant::now(),
        };
        batches.start()?;
        Ok(batches)
    }
}

/// The batches of one epoch, in order.
///
/// Dropped at any time, it waits for the patches that are being read and ends its threads. A forked child that goes on with it
/// starts threads of its own, and gets the same batches as its parent. After an error it goes on with the batch behind.
#[derive(Debug)]
pub struct Batches {
    queue: Arc<Inner>,
    epoch: u64,
    iteration: u64,
    stride: Stride,
    /// Patches of the stride that were delivered, or have failed.
    cursor: u64,
    process: u32,
    running: Option<Running>,
    /// Until when time was counted.
    marked: Instant,
}

/// Threads first, so that they end before what they use is given back.
#[derive(Debug)]
struct Running {
    readers: Readers,
    ring: Arc<Ring>,
    hoard: Arc<Hoard>,
}

/// What there is of a batch after some waiting.
#[derive(Debug)]
#[allow(clippy::large_enum_variant)] // Handed over once and unpacked.
pub enum Poll {
    /// The next batch.
    Ready(Batch),
    /// None yet.
    Pending,
    /// The epoch is over.
    End,
}

impl Batches {
    fn start(&mut self) -> Result<()> {
        let queue = &self.queue;
        let patches = self.stride.patches() - self.cursor;
        if patches == 0 {
            return Ok(());
        }
        let ring = Arc::new(Ring::new(queue.layout.clone(), patches, queue.buffer_bytes));
        // Of two iterations at the same time the second begins with nothing.
        let kept = queue.session().hoard.lock().unwrap_or_else(PoisonError::into_inner).take();
        let hoard = kept.unwrap_or_else(|| Arc::new(Hoard::new(queue.cache_bytes, queue.eviction)));
        let order = queue.plan.order(self.epoch);
        let turn = Turn { order, stride: self.stride, first: self.cursor, patches };
        let readers = Readers::start(queue, turn, &ring, &hoard)?;
        self.running = Some(Running { readers, ring, hoard });
        Ok(())
    }

    fn stop(&mut self) {
        let Some(Running { readers, hoard, .. }) = self.running.take() else { return };
        drop(readers);
        if self.process == process::id() {
            let session = self.queue.session();
            *session.hoard.lock().unwrap_or_else(PoisonError::into_inner) = Some(hoard);
        }
    }

    /// The next batch, if it is there within `wait`.
    ///
    /// # Errors
    /// [`Error::InPatch`], [`Error::InSubject`]: what went wrong with the first patch of the batch that could not be read;
    /// the next call goes on with the batch behind.
    pub fn poll(&mut self, wait: Duration) -> Result<Poll> {
        if self.process != process::id() {
            self.stop();
            self.process = process::id();
            self.start()?;
        }
        let Some(running) = &self.running else { return Ok(Poll::End) };
        let begun = Instant::now();
        let next = running.ring.next(begun + wait);
        let counters = &self.queue.counters;
        let now = Instant::now();
        add_time(&counters.stall_nanoseconds, now - begun);
        add_time(&counters.open_nanoseconds, now - self.marked);
        self.marked = now;
        let (buffer, outcomes) = match next {
            Next::Waiting => return Ok(Poll::Pending),
            Next::End => {
                self.stop();
                return Ok(Poll::End);
            }
            Next::Batch(buffer, outcomes) => (buffer, outcomes),
        };
        self.cursor += outcomes.len() as u64;
        let (ring, layout) = (running.ring.clone(), self.queue.layout.clone());
        let mut batch = Batch { buffer: Some(buffer), layout, ring, locations: Vec::new() };
        batch.locations = outcomes.into_iter().collect::<Result<Vec<_>>>()?;
        let progress = &self.queue.progress;
        if progress.iteration.load(Ordering::Relaxed) == self.iteration {
            progress.position.store(self.stride.reached(self.cursor), Ordering::Relaxed);
        }
        add(&counters.batches, 1);
        add(&counters.patches, batch.len() as u64);
        let bytes = (0..batch.layout.arrays.len()).map(|i| batch.bytes(i).len() as u64);
        add(&counters.voxel_bytes, bytes.sum());
        Ok(Poll::Ready(batch))
    }
}

impl Iterator for Batches {
    type Item = Result<Batch>;

    fn next(&mut self) -> Option<Self::Item> {
        /// A wait ends as soon as there is a batch.
        const WAIT: Duration = Duration::from_secs(3600);
        loop {
            match self.poll(WAIT) {
                Ok(Poll::Ready(batch)) => return Some(Ok(batch)),
                Ok(Poll::Pending) => {}
                Ok(Poll::End) => return None,
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Patches, for each volume `(patches, c, z, y, x)` voxels; dropped, its memory is used for a batch to come.
#[derive(Debug)]
pub struct Batch {
    /// Always there, but while it is dropped.
    buffer: Option<Buffer>,
    layout: Arc<Layout>,
    ring: Arc<Ring>,
    locations: Vec<PatchLocation>,
}

impl Batch {
    /// Patches in it.
    pub fn len(&self) -> usize {
        self.locations.len()
    }

    /// Never: a batch has patches.
    pub fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }

    /// Where each patch lies.
    pub fn locations(&self) -> &[PatchLocation] {
        &self.locations
    }

    /// Names of the volumes, in the order that was asked for.
    pub fn volumes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.layout.arrays.iter().map(|array| array.name.as_str())
    }

    /// Element type of a volume, by its place in [`Batch::volumes`].
    ///
    /// # Panics
    /// If there is no such place; so do the other methods that take one.
    pub fn dtype(&self, volume: usize) -> Dtype {
        self.layout.arrays[volume].dtype
    }

    /// Extents `(patches, c, z, y, x)` of a volume.
    pub fn shape(&self, volume: usize) -> [usize; 5] {
        let [z, y, x] = self.layout.patch_size;
        [self.len(), self.layout.arrays[volume].channels, z, y, x]
    }

    /// The voxels of a volume in C order, as bytes.
    pub fn bytes(&self, volume: usize) -> &[u8] {
        self.buffer().bytes(self.layout.volume(volume, self.len()))
    }

    /// Where the voxels of a volume begin, for bindings that lend the batch's memory; aligned for its dtype.
    ///
    /// The memory is the batch's until it is dropped. Whoever writes through the pointer must see to it that nobody reads.
    pub fn base(&self, volume: usize) -> *mut u8 {
        self.buffer().base().wrapping_add(self.layout.volume(volume, 0).start)
    }

    /// The voxels of a volume, `(patches, c, z, y, x)`.
    ///
    /// # Errors
    /// [`Error::Usage`] for a volume that the queue does not read, [`Error::DtypeMismatch`].
    pub fn array<T: Voxel>(&self, volume: &str) -> Result<ArrayView5<'_, T>> {
        let place = self.volumes().position(|name| name == volume).ok_or_else(|| {
            let known: Vec<_> = self.volumes().collect();
            Error::usage(format!("the queue reads no volume {volume:?}, but {}", known.join(", ")))
        })?;
        if self.dtype(place) != T::DTYPE {
            return Err(Error::DtypeMismatch { found: T::DTYPE, expected: self.dtype(place) });
        }
        let voxels = bytemuck::cast_slice(self.bytes(place));
        Ok(ArrayView5::from_shape(self.shape(place), voxels).expect("the layout measured it"))
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("the batch has not been dropped")
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.ring.give_back(buffer);
        }
    }
}
