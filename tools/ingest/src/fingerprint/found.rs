//! What a fingerprint measures and what it holds.

use std::collections::BTreeMap;

use serde::Serialize;
use voxquarry::Size3;

/// What is measured.
///
/// ```
/// use voxquarry_ingest::FingerprintOptions;
///
/// let options = FingerprintOptions::default().volumes(["ct"]).labels("liver".to_owned());
/// ```
#[derive(Clone, Debug, Default)]
pub struct FingerprintOptions {
    pub(super) subjects: Vec<String>,
    pub(super) volumes: Vec<String>,
    pub(super) labels: Option<String>,
}

impl FingerprintOptions {
    /// The subjects; by default all.
    #[must_use]
    pub fn subjects<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.subjects = names.into_iter().map(Into::into).collect();
        self
    }

    /// The images, whose channels are numbered in this order; by default all images of the first
    /// subject, by their names.
    #[must_use]
    pub fn volumes<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.volumes = names.into_iter().map(Into::into).collect();
        self
    }

    /// The label map whose voxels above 0 are the foreground; by default the only one.
    #[must_use]
    pub fn labels(mut self, name: impl Into<Option<String>>) -> Self {
        self.labels = name.into();
        self
    }
}

/// What nnU-Net's planner needs to know of a data set, with the keys of its
/// `dataset_fingerprint.json`, and what the store knows beside it.
///
/// ```
/// use voxquarry_ingest::{FingerprintOptions, NoopObserver, fingerprint};
///
/// # let store = "../../format-spec/golden/v1";
/// let dataset = voxquarry::open(store)?;
/// let options = FingerprintOptions::default().subjects(["grid"]).volumes(["u8"]);
/// let found = fingerprint(&dataset, &options, &NoopObserver)?;
/// assert_eq!(found.subjects, ["grid"]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Fingerprint {
    /// The subjects, in the order of the next two lists.
    pub subjects: Vec<String>,
    /// Spacings `(z, y, x)`, in millimetres.
    pub spacings: Vec<[f64; 3]>,
    /// Extents `(z, y, x)` of the boxes of the voxels that are not 0 in all images.
    pub shapes_after_crop: Vec<Size3>,
    /// The median over subjects of the voxels in that box / all voxels.
    pub median_relative_size_after_cropping: f64,
    /// Real values of the foreground for each channel; empty if there is none.
    pub foreground_intensity_properties_per_channel: BTreeMap<usize, ForegroundValues>,
    /// The names of the channels.
    pub channel_names: BTreeMap<usize, String>,
    /// The labels of the label map, without 0.
    pub labels: BTreeMap<i64, LabelTotal>,
}

/// Real values of the voxels of the foreground of all subjects, of one channel.
///
/// ```
/// use voxquarry_ingest::ForegroundValues;
///
/// fn is_ct(values: &ForegroundValues) -> bool {
///     values.min < -500.0
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ForegroundValues {
    /// Finite voxels.
    pub voxels: u64,
    /// Arithmetic mean.
    pub mean: f64,
    /// The 50th percentile.
    pub median: f64,
    /// Population standard deviation.
    pub std: f64,
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
    /// The 0.5th percentile.
    pub percentile_00_5: f64,
    /// The 99.5th percentile.
    pub percentile_99_5: f64,
}

/// The voxels of a label.
///
/// ```
/// use voxquarry_ingest::LabelTotal;
///
/// fn is_rare(label: &LabelTotal, subjects: usize) -> bool {
///     10 * label.subjects < subjects
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct LabelTotal {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// Subjects that have it.
    pub subjects: usize,
    /// Voxels in all of them.
    pub voxels: u64,
}
