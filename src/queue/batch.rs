//! One batch: the voxels and locations of its patches.

use std::sync::Arc;

#[cfg(feature = "ndarray")]
use ndarray::ArrayView5;

use super::batch_layout::BatchLayout;
use super::buffer::BatchBuffer;
use super::ring::{BatchRing, PatchOutcome, ReadPatch};
use crate::{Dtype, Error, PatchLocation, Result, Voxel};

/// Patches of a queue: for each volume an array `(patches, c, z, y, x)`.
///
/// Dropping a batch returns its memory to the queue, which reads a later batch into it.
///
/// ```
/// use voxquarry::{Dataset, OpenOptions, Queue, QueueOptions, UniformSampler};
///
/// # let store = "format-spec/golden/v1";
/// let dataset = Dataset::open(store, &OpenOptions::default())?;
/// let options = QueueOptions::default().volumes(["u8"]).subjects([("grid", 6)]);
/// let queue = Queue::new(&dataset, UniformSampler::new([4, 4, 4])?, options)?;
/// let batch = queue.batches()?.next().expect("a first batch")?;
/// assert_eq!(batch.shape(0), [4, 1, 4, 4, 4]);
/// assert_eq!(&*batch.locations()[0].subject, "grid");
/// let mean = batch.array::<u8>("u8")?.map(|&voxel| f64::from(voxel)).mean();
/// assert!(mean.is_some());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Debug)]
pub struct Batch {
    /// `None` only during the drop.
    buffer: Option<BatchBuffer>,
    layout: Arc<BatchLayout>,
    ring: Arc<BatchRing>,
    locations: Vec<PatchLocation>,
    transforms: Vec<[[f64; 4]; 4]>,
}

impl Batch {
    /// A batch of a full buffer.
    ///
    /// # Errors
    /// The first error among `outcomes`; the buffer then returns to the ring.
    pub(super) fn new(
        buffer: BatchBuffer,
        layout: &Arc<BatchLayout>,
        ring: &Arc<BatchRing>,
        outcomes: Vec<PatchOutcome>,
    ) -> Result<Self> {
        let (layout, ring) = (layout.clone(), ring.clone());
        let mut batch = Self {
            buffer: Some(buffer),
            layout,
            ring,
            locations: Vec::new(),
            transforms: Vec::new(),
        };
        for outcome in outcomes {
            let ReadPatch { location, transform } = outcome?;
            batch.locations.push(location);
            batch.transforms.extend(transform);
        }
        Ok(batch)
    }

    /// The number of patches.
    pub fn len(&self) -> usize {
        self.locations.len()
    }

    /// Always `false`: a batch has patches.
    pub fn is_empty(&self) -> bool {
        self.locations.is_empty()
    }

    /// The location of each patch, as the sampler chose it: an augmentation turns the patch about
    /// the middle of its region.
    pub fn locations(&self) -> &[PatchLocation] {
        &self.locations
    }

    /// For each patch of an augmented queue, the map of `(z, y, x, 1)`, the index of a voxel, to
    /// its RAS+ position in the unit of the first volume's affine, with the last row `0 0 0 1`;
    /// elastic displacements are left out. Without an augmentation there is none.
    pub fn transforms(&self) -> &[[[f64; 4]; 4]] {
        &self.transforms
    }

    /// Names of the volumes, in the order of the queue's options.
    pub fn volumes(&self) -> impl ExactSizeIterator<Item = &str> {
        self.layout.arrays.iter().map(|array| array.name.as_str())
    }

    /// Element type of a volume, by its index in [`Batch::volumes`].
    ///
    /// # Panics
    /// If the index is out of range, as all methods that take one.
    pub fn dtype(&self, volume: usize) -> Dtype {
        self.layout.arrays[volume].dtype
    }

    /// Extents `(patches, c, z, y, x)` of a volume.
    pub fn shape(&self, volume: usize) -> [usize; 5] {
        let [z, y, x] = self.layout.patch_size;
        [self.len(), self.layout.arrays[volume].channels, z, y, x]
    }

    /// The voxels of a volume in C order, as bytes aligned for its dtype.
    pub fn bytes(&self, volume: usize) -> &[u8] {
        let range = self.layout.volume(volume, self.len());
        self.buffer.as_ref().expect("the batch has not been dropped").bytes(range)
    }

    /// As [`Batch::bytes`], to change voxels in place.
    pub fn bytes_mut(&mut self, volume: usize) -> &mut [u8] {
        let range = self.layout.volume(volume, self.len());
        self.buffer.as_mut().expect("the batch has not been dropped").bytes_mut(range)
    }

    /// The voxels of a volume in C order: patches, then channels, z, y, x.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a volume that the queue does not read;
    /// [`Error::DtypeMismatch`] if its voxels are not `T`.
    pub fn voxels<T: Voxel>(&self, volume: &str) -> Result<&[T]> {
        let index = self.index(volume)?;
        if self.dtype(index) != T::DTYPE {
            return Err(Error::DtypeMismatch { found: T::DTYPE, expected: self.dtype(index) });
        }
        Ok(bytemuck::cast_slice(self.bytes(index)))
    }

    /// The voxels of a volume, `(patches, c, z, y, x)`.
    ///
    /// # Errors
    /// As [`Batch::voxels`].
    #[cfg(feature = "ndarray")]
    pub fn array<T: Voxel>(&self, volume: &str) -> Result<ArrayView5<'_, T>> {
        let (voxels, shape) = (self.voxels(volume)?, self.shape(self.index(volume)?));
        Ok(ArrayView5::from_shape(shape, voxels).expect("the layout measured it"))
    }

    fn index(&self, volume: &str) -> Result<usize> {
        self.volumes().position(|name| name == volume).ok_or_else(|| {
            let known: Vec<_> = self.volumes().collect();
            let expected = format!("a volume that the queue reads ({})", known.join(", "));
            Error::invalid("volume", format!("{volume:?}"), expected)
        })
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(buffer) = self.buffer.take() {
            self.ring.give_back(buffer);
        }
    }
}
