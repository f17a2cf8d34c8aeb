//! The layout of a batch in memory: one array `(patches, c, z, y, x)` after another.
//!
//! # Invariants
//! - The ranges of different patches and volumes do not overlap, and all end within `batch_bytes`.

use std::ops::Range;

use crate::format::attributes::Kind;
use crate::{Channels, Dtype, Error, Result, Size3, Volume};

/// The arrays of a batch begin at cache lines.
const ALIGN_BYTES: usize = 64;

/// What is known of a volume of a subject before it is read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct VolumeFacts {
    pub(super) kind: Kind,
    pub(super) dtype: Dtype,
    pub(super) channels: usize,
    pub(super) slope_intercept: (f64, f64),
    /// Bytes of all its voxels.
    pub(super) voxel_bytes: u64,
}

impl VolumeFacts {
    pub(super) fn of(volume: &Volume) -> Self {
        Self {
            kind: volume.kind(),
            dtype: volume.dtype(),
            channels: volume.layout().channel_count(),
            slope_intercept: volume.slope_intercept(),
            voxel_bytes: volume.statistics().voxels * volume.dtype().size() as u64,
        }
    }

    /// Whether real values differ from stored ones.
    pub(super) fn is_scaled(&self) -> bool {
        self.slope_intercept != (1.0, 0.0)
    }
}

/// The values of a volume in all batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchValues {
    Stored,
    /// Real ones, which are the stored ones in every subject.
    RealAsStored,
    /// Real ones, of which some subject's differ.
    Real,
    /// Those of images that are resampled, normalised or changed, in this type.
    Float(Dtype),
}

/// One volume of every patch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchArray {
    pub(super) name: String,
    pub(super) dtype: Dtype,
    /// Channels of the array.
    pub(super) channels: usize,
    /// Those that are read, if not all are.
    selected: Option<Channels>,
    pub(super) values: BatchValues,
    patch_bytes: usize,
    offset: usize,
}

impl BatchArray {
    /// The array of volume `name` like that of `facts`; its place in a batch is not settled yet.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a channel that the volume does not have.
    pub(super) fn new(
        name: &str,
        facts: &VolumeFacts,
        selected: Option<Channels>,
        values: BatchValues,
    ) -> Result<Self> {
        if let Some(selected) = &selected {
            selected.check(facts.channels)?;
        }
        let channels = selected.as_ref().map_or(facts.channels, Channels::len);
        let dtype = match values {
            BatchValues::Stored | BatchValues::RealAsStored => facts.dtype,
            BatchValues::Real => facts.dtype.real(),
            BatchValues::Float(dtype) => dtype,
        };
        let name = name.to_owned();
        Ok(Self { name, dtype, channels, selected, values, patch_bytes: 0, offset: 0 })
    }

    /// Refuses a volume that does not fit into the array.
    pub(super) fn check(&self, facts: &VolumeFacts) -> Result<()> {
        let Self { name, dtype, channels, values, .. } = self;
        let found = Self::new(name, facts, self.selected.clone(), *values)?;
        let refused = |reason| {
            Err(Error::unsupported(reason, "leave the subject out, or make a queue for each"))
        };
        let is_float = matches!(values, BatchValues::Float(_));
        if is_float && facts.kind == Kind::Labels {
            return refused(format!(
                "volume {name:?} has labels, that of the queue's first subject is an image"
            ));
        }
        if (found.dtype, found.channels) != (*dtype, *channels) {
            return refused(format!(
                "volume {name:?} is {} with {} channels, that of the queue's first subject is \
                 {dtype} with {channels}, and one batch cannot hold both",
                facts.dtype, facts.channels
            ));
        }
        if *values == BatchValues::RealAsStored && facts.is_scaled() {
            return refused(format!(
                "volume {name:?} has a slope or an intercept, which no subject had when the queue \
                 was made"
            ));
        }
        Ok(())
    }
}

/// The arrays of a batch.
#[derive(Debug)]
pub(super) struct BatchLayout {
    pub(super) patch_size: Size3,
    pub(super) batch_size: usize,
    pub(super) batch_bytes: usize,
    pub(super) arrays: Vec<BatchArray>,
}

impl BatchLayout {
    /// The layout of `batch_size` patches in `arrays`, whose places it settles.
    ///
    /// # Errors
    /// [`Error::TooLarge`] if a batch exceeds the address space.
    pub(super) fn new(
        patch_size: Size3,
        batch_size: usize,
        mut arrays: Vec<BatchArray>,
    ) -> Result<Self> {
        let too_large = || Error::TooLarge { what: format!("a batch of {batch_size} patches") };
        let mut batch_bytes = 0usize;
        for array in &mut arrays {
            let factors = [array.channels, array.dtype.size()];
            let patch_bytes =
                patch_size.into_iter().chain(factors).try_fold(1usize, usize::checked_mul);
            let patch_bytes = patch_bytes.ok_or_else(too_large)?;
            array.patch_bytes = patch_bytes;
            array.offset = batch_bytes;
            let end = patch_bytes.checked_mul(batch_size);
            let end = end.and_then(|bytes| batch_bytes.checked_add(bytes));
            let end = end.and_then(|end| end.checked_next_multiple_of(ALIGN_BYTES));
            batch_bytes = end.filter(|&n| isize::try_from(n).is_ok()).ok_or_else(too_large)?;
        }
        Ok(Self { patch_size, batch_size, batch_bytes, arrays })
    }

    /// The bytes of one patch of one volume.
    pub(super) fn patch(&self, volume: usize, patch: usize) -> Range<usize> {
        assert!(patch < self.batch_size, "a patch of the batch");
        let BatchArray { patch_bytes, offset, .. } = self.arrays[volume];
        offset + patch * patch_bytes..offset + (patch + 1) * patch_bytes
    }

    /// The bytes of one volume of the first `patches` patches.
    pub(super) fn volume(&self, volume: usize, patches: usize) -> Range<usize> {
        assert!(patches <= self.batch_size, "patches of the batch");
        let BatchArray { patch_bytes, offset, .. } = self.arrays[volume];
        offset..offset + patches * patch_bytes
    }
}
