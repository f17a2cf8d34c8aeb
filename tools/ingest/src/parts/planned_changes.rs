//! The changes of voxels that a plan records.

use serde::{Deserialize, Serialize};
use voxquarry::{Dtype, Normalization};

use crate::change::VoxelChanges;

/// What an ingest in parts changes of the voxels of its sources.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PlannedChanges {
    crops: bool,
    /// JSON has no infinity: a bound that is null clips nothing.
    clip: Option<[Option<f64>; 2]>,
    is_canonical: bool,
    spacing: Option<[f64; 3]>,
    is_zscore: bool,
    window: Option<[f64; 2]>,
    dtype: Option<Dtype>,
}

impl PlannedChanges {
    pub(super) fn of(changes: &VoxelChanges) -> Self {
        let VoxelChanges { crops, clip, is_canonical, spacing, normalization, dtype } =
            changes.clone();
        let window = match normalization {
            Some(Normalization::Window(low, high)) => Some([low, high]),
            _ => None,
        };
        Self {
            crops,
            clip: clip.map(|(low, high)| [low, high].map(|v| v.is_finite().then_some(v))),
            is_canonical,
            spacing,
            is_zscore: normalization == Some(Normalization::ZScore),
            window,
            dtype,
        }
    }

    pub(super) fn changes(&self) -> VoxelChanges {
        let window = self.window.map(|[low, high]| Normalization::Window(low, high));
        VoxelChanges {
            crops: self.crops,
            clip: self.clip.map(|[low, high]| {
                (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY))
            }),
            is_canonical: self.is_canonical,
            spacing: self.spacing,
            normalization: window.or(self.is_zscore.then_some(Normalization::ZScore)),
            dtype: self.dtype,
        }
    }
}
