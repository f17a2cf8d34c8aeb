//! `Queue`: an iterable of batches, whose arrays borrow the queue's memory.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PyType};
use voxquarry::{
    Batch, BatchPoll, Batches, Error, Eviction, PatchLocation, QueueOptions, QueueState, Sampler,
    ShuffleMode,
};

use crate::arguments::{dtype as dtype_of, named, natural};
use crate::augment::Augment;
use crate::batch_owner;
use crate::errors::{invalid, raise, unsupported};
use crate::queue_arguments::{
    self, KEYS, TRANSFORM, VolumeChoices, augmentation, dataset_of, size, volume_names,
};
use crate::queue_weights;
use crate::sample::{GridSampler, ON_MISSING, random_sampler};

/// Batches of patches for training, read ahead by threads in an order that is known in advance.
///
/// Each iteration yields the dictionaries of the next epoch. Each volume has an array
/// ``(B, C, z, y, x)``, where ``C`` is 1 if the volume has no channels. ``"location"`` is
/// ``(B, 6)`` int64, the first voxel and one past the last, ``(z0, y0, x0, z1, y1, x1)``.
/// ``"subject"`` is a list of ``B`` names. A queue with ``augment``, or over a view, has
/// ``"transform"``, too, ``(B, 4, 4)`` float64: the map of a voxel's index in the patch,
/// ``(z, y, x, 1)``, to its RAS+ position, without elastic displacements; ``"location"`` is then
/// what the sampler chose, and the middle of the patch is the middle of that box, unless a
/// translation moved it. Arrays are writable and borrow memory that the queue reuses once nothing
/// refers to them.
///
/// The batches are a pure function of the arguments and the epoch: they are the same on any number
/// of threads, and after a resume. Each iteration takes the next epoch, with other patches, unless
/// ``set_epoch`` or ``load_state_dict`` choose. Reading starts with the iteration; leaving
/// the loop ends the threads. A pickled queue holds its arguments and state, and another process
/// opens it anew. A forked process that continues an iteration reads with threads of its own.
///
/// Args:
///     dataset: An open store, or a view of one at another spacing or orientation, ``ds.at(…)``:
///         locations are then in voxels of the view, images are float32, and samplers by labels or
///         weights draw a stored voxel and need ``border="clamp"`` or ``"pad"``.
///     sampler: A random sampler, or a ``GridSampler``, which gives every patch of each subject.
///     volumes: Names of the volumes that are read of every patch, each with the same dtype and
///         channels in every subject; ``None``: all volumes of the first subject.
///     patches_per_subject: Random patches of a subject in an epoch. A grid has its own number.
///     batch_size: Patches in a batch.
///     buffer_bytes: Memory for batches that are read ahead, an int or a string like ``"512MiB"``.
///     shuffle: ``"global"``: a random permutation of all patches. ``"window"``: patches are mixed
///         over a window that slides over shuffled subjects, so that few subjects are in use at a
///         time. ``"none"``: subject after subject.
///     seed: The seed of samples and order, 0 to 2**64 - 1.
///     rank, world_size: Each rank gets every ``world_size``-th patch, from its own number on. All
///         ranks get as many; if the patches do not divide evenly, the first ones are repeated.
///     drop_last: Leave out the patches that do not fill a batch on every rank.
///     subjects: Names of the subjects to read, in that order, with repetitions if need be; or a
///         mapping from names to their numbers of patches.
///     padding: Voxels outside a volume: ``None``, a number, ``"edge"`` or ``"reflect"``; or a
///         mapping from volumes to these. ``None`` is the grid's own padding, 0 for samplers with
///         ``border="pad"``, and otherwise an error.
///     window_bytes: Bytes of voxels of the subjects that ``shuffle="window"`` uses at a time.
///     cache_bytes: Memory for decoded chunks of stores whose codec is worth it; by default that of
///         the dataset.
///     eviction: The decoded chunk that is evicted first: the one with the ``"farthest"`` next use,
///         or with the ``"oldest"`` last use.
///     threads: Threads that read; by default those of the dataset.
///     on_missing: What is done with subjects in which the sampler can draw no patch (see
///         ``missing`` of samplers), known when the queue is made. ``"error"``: they are listed.
///         ``"skip"``: they are left out. ``"background"``: their patches are drawn anywhere, as by
///         a ``UniformSampler`` of the same size and border.
///     channels: The channels to read, an int or a list, in this order; or a mapping from volumes
///         to these. By default all. No other is decoded.
///     scaled: Give real values, stored value × slope + intercept, of volumes that have a slope or
///         an intercept in any subject: as float32, or float64 where that is stored. Other volumes
///         keep their dtype. ``False`` gives stored values.
///     augment: Random changes of every patch, ``voxquarry.Augment``. Where it may turn a patch out
///         of a volume that has no padding, images are padded with the least value of the volume,
///         labels with 0.
///     dtype: ``"float32"`` or ``"float16"``: the type of all images. By default images that are
///         augmented or normalized are float32. Labels keep their type.
///     normalize: What images become before they are augmented: ``"zscore"``, with the mean and the
///         standard deviation of the volume, which the store holds; or a window ``(low, high)``,
///         whose ends become 0 and 1 and limit the values; or a mapping from volumes to these.
///
/// Raises:
///     UsageError: An argument outside of what it accepts; a batch larger than ``buffer_bytes``; a
///         subject or volume that does not exist, or whose dtype or channels differ; subjects in
///         which no patch can be drawn.
///     DataError: Damaged metadata.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct Queue {
    engine: voxquarry::Queue,
    /// A `Dataset`, or a `ResampledDataset`.
    dataset: Py<PyAny>,
    sampler: Py<PyAny>,
    volumes: Vec<String>,
    batch_size: usize,
    /// Every other argument, for pickling.
    keywords: Py<PyDict>,
}

/// A dictionary of variables by their names.
macro_rules! keywords {
    ($py:expr, $($name:ident),+) => {{
        let keywords = PyDict::new($py);
        $(keywords.set_item(stringify!($name), &$name)?;)+
        keywords
    }};
}

#[pymethods]
impl Queue {
    #[new]
    #[pyo3(
        signature = (
            dataset, sampler, volumes=None, patches_per_subject=8, batch_size=4,
            buffer_bytes=None, shuffle="global", seed=0, rank=0, world_size=1, drop_last=false, *,
            subjects=None, padding=None, window_bytes=None, cache_bytes=None,
            eviction="farthest", threads=None, scaled=true, on_missing="error",
            channels=None, augment=None, dtype=None, normalize=None
        ),
        text_signature = "(dataset, sampler, volumes=None, patches_per_subject=8, batch_size=4, \
            buffer_bytes='512MiB', shuffle='global', seed=0, rank=0, world_size=1, \
            drop_last=False, *, subjects=None, padding=None, window_bytes='1GiB', \
            cache_bytes=None, eviction='farthest', threads=None, scaled=True, \
            on_missing='error', channels=None, augment=None, dtype=None, normalize=None)"
    )]
    #[allow(clippy::too_many_arguments)] // Python's keywords, checked and bundled here.
    fn new<'py>(
        py: Python<'py>,
        dataset: &Bound<'py, PyAny>,
        sampler: &Bound<'py, PyAny>,
        volumes: Option<&Bound<'py, PyAny>>,
        #[pyo3(from_py_with = natural)] patches_per_subject: u64,
        #[pyo3(from_py_with = natural)] batch_size: u64,
        buffer_bytes: Option<&Bound<'py, PyAny>>,
        shuffle: &str,
        #[pyo3(from_py_with = natural)] seed: u64,
        #[pyo3(from_py_with = natural)] rank: u64,
        #[pyo3(from_py_with = natural)] world_size: u64,
        drop_last: bool,
        subjects: Option<&Bound<'py, PyAny>>,
        padding: Option<&Bound<'py, PyAny>>,
        window_bytes: Option<&Bound<'py, PyAny>>,
        cache_bytes: Option<&Bound<'py, PyAny>>,
        eviction: &str,
        threads: Option<usize>,
        scaled: bool,
        on_missing: &str,
        channels: Option<&Bound<'py, PyAny>>,
        augment: Option<&Bound<'py, Augment>>,
        dtype: Option<&Bound<'py, PyAny>>,
        normalize: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Self> {
        let (store, view) = dataset_of(dataset)?;
        let store = &store.get().0;
        let patches = match sampler.cast::<GridSampler>() {
            Ok(grid) => Sampler::from(grid.get().0.clone()),
            Err(_) => Sampler::from(random_sampler(sampler)?),
        };
        let counted = |value| queue_arguments::subjects(value, patches_per_subject);
        let subjects = subjects.map(counted).transpose()?;
        let volumes = volume_names(py, store, volumes, subjects.as_deref())?;
        let (batch_size, cache_bytes) = (memory(batch_size), size(cache_bytes, "cache_bytes")?);
        let buffer_bytes = size(buffer_bytes, "buffer_bytes")?;
        let window_bytes = size(window_bytes, "window_bytes")?;
        let keywords = keywords! {
            py, volumes, patches_per_subject, batch_size, buffer_bytes, shuffle, seed, rank,
            world_size, drop_last, subjects, padding, window_bytes, cache_bytes, eviction,
            threads, scaled, on_missing, channels, augment, dtype, normalize
        };
        let choices = VolumeChoices { padding, channels, normalize };
        let options = QueueOptions::default()
            .volumes(choices.queue_volumes(&volumes)?)
            .scaled(scaled)
            .patches_per_subject(patches_per_subject)
            .batch_size(batch_size)
            .eviction(named(&EVICTIONS, "eviction", eviction)?)
            .shuffle(named(&SHUFFLES, "shuffle", shuffle)?)
            .seed(seed)
            .rank(rank)
            .world_size(world_size)
            .drop_last(drop_last)
            .cache_bytes(cache_bytes.map(memory))
            .threads(threads)
            .on_missing(named(&ON_MISSING, "on_missing", on_missing)?);
        let options = set(options, subjects, QueueOptions::subjects);
        let options = set(options, buffer_bytes, QueueOptions::buffer_bytes);
        let options = set(options, window_bytes, QueueOptions::window_bytes);
        let options = set(options, dtype.map(dtype_of).transpose()?, QueueOptions::dtype);
        let options = set(options, choices.normalization()?, QueueOptions::normalize);
        let augment = augmentation(augment, view.is_some(), &volumes)?;
        let options = set(set(options, augment, QueueOptions::augment), view, QueueOptions::at);
        let engine = py.detach(|| voxquarry::Queue::new(store, patches, options));
        let engine = engine.map_err(|error| raise_in_patch(py, error))?;
        let (dataset, sampler) = (dataset.clone().unbind(), sampler.clone().unbind());
        Ok(Self { engine, dataset, sampler, volumes, batch_size, keywords: keywords.unbind() })
    }

    /// Batches of an epoch on this rank.
    fn __len__(&self) -> usize {
        usize::try_from(self.engine.len()).unwrap_or(usize::MAX)
    }

    /// Reads the next epoch from its first patch, or from a loaded state.
    fn __iter__(&self, py: Python<'_>) -> PyResult<QueueIterator> {
        let batches = py.detach(|| self.engine.batches()).map_err(raise)?;
        Ok(self.iterator(batches))
    }

    /// Reads the batches ``index``, ``index + num_shards``, … of those that iterating would give,
    /// so that several worker processes divide an epoch among themselves.
    ///
    /// The next shard is one of the same epoch, until ``set_epoch`` chooses another.
    ///
    /// A state that is taken during the iteration continues with the next batch of this shard.
    ///
    /// Args:
    ///     num_shards: Number of shards, at least 1.
    ///     index: Number of the shard. A number of ``num_shards`` or more leaves out the first
    ///         batches of the shard ``index % num_shards``.
    fn shard(&self, py: Python<'_>, num_shards: u64, index: u64) -> PyResult<QueueIterator> {
        let batches = py.detach(|| self.engine.shard(num_shards, index)).map_err(raise)?;
        Ok(self.iterator(batches))
    }

    /// Chooses the epoch of the next iteration, with other patches in another order.
    ///
    /// Without it every iteration takes the next epoch, from 0 on. Choosing the epoch of a loaded
    /// state keeps its position, so a state may be loaded before or after.
    ///
    /// Args:
    ///     epoch: 0 to 2**64 - 1.
    fn set_epoch(&self, #[pyo3(from_py_with = natural)] epoch: u64) {
        self.engine.set_epoch(epoch);
    }

    /// Draws patches by weights that training chose, such as the loss of each chunk: from the next
    /// epoch on, or from a position on.
    ///
    /// What is given replaces earlier weights from there on; with neither argument, patches come as
    /// without weights. The weights, and where they begin, are part of ``state_dict``. Patches stay
    /// the same on any number of threads; on several ranks, give all of them the same weights. A
    /// loader with worker processes follows them from its next iteration on.
    ///
    /// Args:
    ///     subjects: Weights by name; others weigh 1. The subject of each patch is drawn, with
    ///         replacement, by its number of patches times its weight. Without it each patch of the
    ///         epoch comes once.
    ///     chunks: Arrays ``(z, y, x)`` by name of the subject, with a weight for each chunk of the
    ///         volume that the sampler draws by, the label map or the weights, otherwise of the
    ///         queue's first volume (see ``Volume.chunks``). A centre, ``start + patch_size // 2``,
    ///         is as likely as the sampler makes it, times the weight of its chunk; for a
    ///         ``LabelSampler`` within each class. Subjects that are not named are drawn as before.
    ///     epoch: The epoch in which the weights begin; by default the next one, or with
    ///         ``position`` the present one.
    ///     position: The position in it, over all ranks, as in ``state_dict``; 0 by default.
    ///         Batches that were read ahead of it are read again.
    ///
    /// Raises:
    ///     UsageError: A subject that the queue does not read; weights that are negative, not
    ///         finite, all zero or of another shape; a position that was passed; weights of chunks
    ///         with a ``GridSampler`` or ``ObjectSampler``, any weights with ``min_distance``.
    #[pyo3(signature = (subjects=None, chunks=None, *, epoch=None, position=None))]
    fn update_weights(
        &self,
        py: Python<'_>,
        subjects: Option<&Bound<'_, PyAny>>,
        chunks: Option<&Bound<'_, PyAny>>,
        epoch: Option<u64>,
        position: Option<u64>,
    ) -> PyResult<()> {
        let weights = queue_weights::weights(subjects, chunks)?;
        let update = || {
            if epoch.is_none() && position.is_none() {
                return self.engine.update_weights(weights);
            }
            let epoch = epoch.unwrap_or_else(|| self.engine.state().epoch);
            self.engine.update_weights_at(weights, epoch, position.unwrap_or(0))
        };
        py.detach(update).map_err(raise)
    }

    /// The position after the last delivered batch, or the start of the next epoch once a loop has
    /// ended: a small dictionary of numbers and strings, and the weights of ``update_weights``.
    ///
    /// It is the same on every rank, and may be loaded on any rank; also on another number of
    /// ranks, if that divides the position.
    fn state_dict<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        state_dict(py, self.engine.state())
    }

    /// The state at which the next iteration starts: the last loaded state if nothing has been read
    /// since, otherwise the start of the chosen or the next epoch.
    fn start_state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        state_dict(py, self.engine.start_state())
    }

    /// Lets the next iteration start with the patch that was due when the state was taken.
    ///
    /// A state that was taken at the last batch, before the loop ended, gives an empty iteration,
    /// and then the next epoch.
    ///
    /// Args:
    ///     state_dict: The result of ``state_dict``, in any process, of a queue with the same
    ///         arguments; memory, threads, rank and batch size may differ.
    ///
    /// Raises:
    ///     UsageError: A state of another queue, or no state at all.
    fn load_state_dict(&self, state_dict: &Bound<'_, PyAny>) -> PyResult<()> {
        let missing = |key: &str| {
            let (reason, remedy) =
                (format!("state_dict has no {key:?}"), "pass what state_dict() gave");
            unsupported(reason, remedy)
        };
        let item = |key: &str| state_dict.get_item(key).map_err(|_| missing(key));
        let number = |key: &str| item(key)?.extract::<u64>().map_err(|_| missing(key));
        let version = number("version")?;
        if version != STATE_VERSION {
            return Err(invalid(
                "state_dict",
                format!("has version {version}"),
                format!("{STATE_VERSION}"),
            ));
        }
        let plan = item("plan")?.extract::<String>().ok();
        let plan = plan.and_then(|text| u64::from_str_radix(&text, 16).ok());
        let state = QueueState {
            plan: plan.ok_or_else(|| missing("plan"))?,
            seed: number("seed")?,
            epoch: number("epoch")?,
            position: number("position")?,
            weights: match item("weights") {
                Ok(weights) => queue_weights::from_state(&weights)?,
                // There were none.
                Err(_) => Vec::new(),
            },
        };
        self.engine.load_state(&state).map_err(raise)
    }

    /// Counters since the queue was made; they show whether reading or the model is the bottleneck.
    ///
    /// Returns:
    ///     ``patches``, ``batches``, ``voxel_bytes``: delivered. ``seconds``: from the start of
    ///     each iteration to its last batch. ``patches_per_second``. ``stall_seconds``: the part of
    ///     ``seconds`` spent waiting for a batch. ``decode_seconds``: the time that all ``threads``
    ///     together took to fetch, decode and copy voxels. ``cache_hits``: chunks found decoded in
    ///     the cache. ``chunks_decoded``, and ``bytes_read``: their bytes in the store.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let found = self.engine.stats();
        let stats = PyDict::new(py);
        stats.set_item("patches", found.patches)?;
        stats.set_item("batches", found.batches)?;
        stats.set_item("voxel_bytes", found.voxel_bytes)?;
        stats.set_item("seconds", found.elapsed.as_secs_f64())?;
        stats.set_item("patches_per_second", found.patches_per_second())?;
        stats.set_item("stall_seconds", found.stall.as_secs_f64())?;
        stats.set_item("decode_seconds", found.read.as_secs_f64())?;
        stats.set_item("threads", self.engine.threads())?;
        stats.set_item("cache_hits", found.cache_hits)?;
        stats.set_item("chunks_decoded", found.chunks_decoded)?;
        stats.set_item("bytes_read", found.encoded_bytes)?;
        Ok(stats)
    }

    /// The dataset that is read.
    #[getter]
    fn dataset(&self, py: Python<'_>) -> Py<PyAny> {
        self.dataset.clone_ref(py)
    }

    /// The sampler that chooses the patches.
    #[getter]
    fn sampler(&self, py: Python<'_>) -> Py<PyAny> {
        self.sampler.clone_ref(py)
    }

    /// Names of the volumes that are read of every patch.
    #[getter]
    fn volumes(&self) -> Vec<String> {
        self.volumes.clone()
    }

    /// The subjects in which the sampler can draw no patch, each with the reason: those that
    /// ``on_missing`` leaves out, or whose patches are drawn anywhere.
    #[getter]
    fn missing<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let missing = PyDict::new(py);
        for (subject, reason) in self.engine.missing() {
            missing.set_item(subject, reason)?;
        }
        Ok(missing)
    }

    /// Voxels of a patch, ``(z, y, x)``.
    #[getter]
    fn patch_size(&self) -> (usize, usize, usize) {
        self.engine.patch_size().into()
    }

    /// Patches in a batch.
    #[getter]
    fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// Ranks that share each epoch.
    #[getter]
    fn world_size(&self) -> u64 {
        self.engine.world_size()
    }

    /// Patches of an epoch on this rank.
    #[getter]
    fn patches(&self) -> u64 {
        self.engine.patches()
    }

    /// The epoch of the latest iteration, or of the next one if that was chosen or loaded.
    #[getter]
    fn epoch(&self) -> u64 {
        self.engine.epoch()
    }

    fn __reduce__<'py>(slf: &Bound<'py, Self>) -> PyResult<ReducedQueue<'py>> {
        let (py, this) = (slf.py(), slf.get());
        let class: (Bound<'py, PyType>,) = (slf.get_type(),);
        let partial = py.import("functools")?.getattr("partial")?;
        let make = partial.call(class, Some(this.keywords.bind(py)))?;
        Ok((make, (this.dataset(py), this.sampler(py)), this.state_dict(py)?))
    }

    fn __setstate__(&self, state: &Bound<'_, PyAny>) -> PyResult<()> {
        self.load_state_dict(state)
    }

    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!(
            "<voxquarry.Queue: {} batches of {} from {}, epoch {}>",
            self.engine.len(),
            self.volumes.join(", "),
            self.sampler.bind(py).repr()?,
            self.engine.epoch()
        ))
    }
}

/// A callable that makes the queue again, its arguments, and the state to load.
type ReducedQueue<'py> = (Bound<'py, PyAny>, (Py<PyAny>, Py<PyAny>), Bound<'py, PyDict>);

const STATE_VERSION: u64 = 1;

fn state_dict(py: Python<'_>, state: QueueState) -> PyResult<Bound<'_, PyDict>> {
    let QueueState { plan, seed, epoch, position, weights } = state;
    let state = PyDict::new(py);
    state.set_item("version", STATE_VERSION)?;
    state.set_item("plan", format!("{plan:016x}"))?;
    state.set_item("seed", seed)?;
    state.set_item("epoch", epoch)?;
    state.set_item("position", position)?;
    if !weights.is_empty() {
        state.set_item("weights", queue_weights::to_state(py, &weights)?)?;
    }
    Ok(state)
}

const SHUFFLES: [(&str, ShuffleMode); 3] =
    [("global", ShuffleMode::Global), ("window", ShuffleMode::Window), ("none", ShuffleMode::None)];
const EVICTIONS: [(&str, Eviction); 2] =
    [("farthest", Eviction::Farthest), ("oldest", Eviction::Oldest)];

/// The batches of one epoch.
#[pyclass(frozen, module = "voxquarry")]
pub(crate) struct QueueIterator {
    /// `None` only during the drop.
    batches: Mutex<Option<Batches>>,
    volumes: Vec<String>,
}

#[pymethods]
impl QueueIterator {
    fn __iter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        /// Limits the time until Ctrl-C is noticed.
        const WAIT: Duration = Duration::from_millis(50);
        loop {
            // A thread takes this lock only without the GIL, so waiting for it blocks nobody else.
            let poll = || {
                let mut batches = self.batches.lock().unwrap_or_else(PoisonError::into_inner);
                batches.as_mut().map_or(Ok(BatchPoll::End), |batches| batches.poll(WAIT))
            };
            match py.detach(poll).map_err(|error| raise_in_patch(py, error))? {
                BatchPoll::Ready(batch) => return self.dictionary(py, batch).map(Some),
                BatchPoll::Pending => py.check_signals()?,
                BatchPoll::End => return Ok(None),
            }
        }
    }
}

impl Drop for QueueIterator {
    /// Waits for the patches that are being read, without the GIL.
    fn drop(&mut self) {
        let batches = self.batches.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let mut batches = Some(batches);
        // Without an interpreter there is no GIL to release.
        Python::try_attach(|py| py.detach(|| drop(batches.take())));
    }
}

impl Queue {
    fn iterator(&self, batches: Batches) -> QueueIterator {
        QueueIterator { batches: Mutex::new(Some(batches)), volumes: self.volumes.clone() }
    }
}

impl QueueIterator {
    fn dictionary<'py>(&self, py: Python<'py>, batch: Batch) -> PyResult<Bound<'py, PyDict>> {
        let locations = batch.locations();
        let corners: Vec<i64> = locations.iter().flat_map(corners).collect();
        let corners = PyArray1::from_vec(py, corners).reshape([locations.len(), 6])?;
        let transforms: Vec<f64> = batch.transforms().iter().flatten().flatten().copied().collect();
        let transforms = (!transforms.is_empty())
            .then(|| PyArray1::from_vec(py, transforms).reshape([locations.len(), 4, 4]))
            .transpose()?;
        let subjects = PyList::new(py, locations.iter().map(|location| &*location.subject))?;
        let dictionary = PyDict::new(py);
        for (name, array) in self.volumes.iter().zip(batch_owner::arrays(py, batch)?) {
            dictionary.set_item(name, array)?;
        }
        let [location, subject] = KEYS;
        dictionary.set_item(location, corners)?;
        dictionary.set_item(subject, subjects)?;
        if let Some(transforms) = transforms {
            dictionary.set_item(TRANSFORM, transforms)?;
        }
        Ok(dictionary)
    }
}

/// First voxel, and one past the last.
fn corners(location: &PatchLocation) -> [i64; 6] {
    let region = &location.region;
    let [z, y, x] = region.start;
    [z, y, x, region.end(0), region.end(1), region.end(2)]
}

/// The exception of an error, with the subject and location of the patch as attributes.
fn raise_in_patch(py: Python<'_>, error: Error) -> PyErr {
    let (subject, region) = match &error {
        Error::InPatch { subject, region, .. } => (Some(subject.clone()), Some(*region)),
        Error::InSubject { subject, .. } => (Some(subject.clone()), None),
        _ => (None, None),
    };
    let exception = raise(error);
    let note = || -> PyResult<()> {
        let value = exception.value(py);
        if let Some(subject) = subject {
            value.setattr("subject", subject)?;
        }
        if let Some(region) = region {
            let [z, y, x] = region.start;
            let location = (z, y, x, region.end(0), region.end(1), region.end(2));
            value.setattr("location", location)?;
        }
        Ok(())
    };
    note().err().unwrap_or(exception)
}

/// A number of bytes or patches as this machine counts them.
fn memory(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// Sets an option to `value`, if there is one.
fn set<T>(
    options: QueueOptions,
    value: Option<T>,
    setter: impl FnOnce(QueueOptions, T) -> QueueOptions,
) -> QueueOptions {
    match value {
        Some(value) => setter(options, value),
        None => options,
    }
}
