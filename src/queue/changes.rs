//! What a queue changes of the voxels that it reads.

use super::options::{QueueOptions, QueueVolume};
use super::view::ViewGrid;
use crate::augment::ValueMap;
use crate::format::attributes::Kind;
use crate::{Augment, Dtype, Error, Normalization, Padding, Result, Volume};

/// The changes of all patches of a queue.
#[derive(Clone, Debug)]
pub(super) struct PatchChanges {
    pub(super) augment: Option<Augment>,
    normalization: Option<Normalization>,
    dtype: Option<Dtype>,
    /// Whether values are real ones.
    pub(super) is_scaled: bool,
    /// The grid that subjects are read at, if not their own.
    pub(super) view: Option<ViewGrid>,
}

/// How one volume of a subject is read.
#[derive(Clone, Copy, Debug)]
pub(super) struct VolumeReading {
    pub(super) padding: Padding,
    pub(super) map: Option<ValueMap>,
    /// Slope and intercept that are applied to its values.
    pub(super) scale: (f64, f64),
}

impl PatchChanges {
    /// The changes that options ask for.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a type that no image is changed to, or a bad window.
    pub(super) fn new(options: &QueueOptions) -> Result<Self> {
        let QueueOptions { volumes, augment, normalization, dtype, scaled, .. } = options;
        if let Some(dtype) = dtype.filter(|d| !matches!(d, Dtype::Float32 | Dtype::Float16)) {
            return Err(Error::invalid("dtype", dtype, "float32 or float16"));
        }
        let all = volumes.iter().filter_map(|volume| volume.normalization).chain(*normalization);
        all.into_iter().try_for_each(Normalization::check)?;
        Ok(Self {
            augment: augment.clone(),
            normalization: *normalization,
            dtype: *dtype,
            is_scaled: *scaled,
            view: options.view,
        })
    }

    /// A text that differs for changes with other patches; none for those that change no place.
    pub(super) fn text(&self) -> String {
        // No subject has a name that begins with a slash.
        let augment = self.augment.as_ref().map(|augment| format!("//{augment:?}"));
        let view = self.view.as_ref().map(|view| format!("//{view:?}"));
        augment.into_iter().chain(view).collect()
    }

    /// Whether patches may leave the volume other than the sampler says.
    fn may_leave(&self) -> bool {
        self.augment.as_ref().is_some_and(Augment::is_spatial)
    }

    /// Whether patches are interpolated, or may be.
    pub(super) fn are_spatial(&self) -> bool {
        self.may_leave() || self.view.is_some()
    }

    /// The type of a volume's patches, if its values are changed.
    pub(super) fn float_dtype(&self, volume: &QueueVolume, kind: Kind) -> Option<Dtype> {
        let is_changed = self.augment.is_some()
            || self.view.is_some()
            || self.dtype.is_some()
            || self.normalization(volume).is_some();
        (kind == Kind::Image && is_changed).then(|| self.dtype.unwrap_or(Dtype::Float32))
    }

    fn normalization(&self, volume: &QueueVolume) -> Option<Normalization> {
        volume.normalization.or(self.normalization)
    }

    /// How a volume is read; `padding` is the sampler's.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for labels that are to be normalised, and for an image without a mean
    /// that is.
    pub(super) fn reading(
        &self,
        wanted: &QueueVolume,
        volume: &Volume,
        padding: Padding,
    ) -> Result<VolumeReading> {
        let scale = if self.is_scaled { volume.slope_intercept() } else { (1.0, 0.0) };
        let is_image = volume.kind() == Kind::Image;
        if !is_image && wanted.normalization.is_some() {
            return Err(Error::unsupported(
                format!("volume {:?} has labels, which are not normalised", volume.name()),
                "normalize images alone",
            ));
        }
        if !is_image && self.are_spatial() && scale != (1.0, 0.0) {
            return Err(Error::unsupported(
                format!(
                    "volume {:?} has labels with a slope or an intercept, which are not resampled",
                    volume.name()
                ),
                "read stored values, not scaled ones",
            ));
        }
        let normalization = self.normalization(wanted).filter(|_| is_image);
        let map = |normalization| match normalization {
            // A foreign array is not measured for what is not used.
            Normalization::Window(..) => ValueMap::new(normalization, volume.statistics(), scale),
            _ => ValueMap::new(normalization, &volume.known_statistics()?, scale),
        };
        let map = normalization.map(map).transpose()?;
        let padding = match wanted.padding.unwrap_or(padding) {
            // The last voxels of a view may lie up to half a voxel outside of the volume.
            Padding::None if self.view.is_some() && !self.may_leave() => Padding::Edge,
            Padding::None if self.may_leave() && is_image => {
                Padding::Constant(least(volume, scale)?)
            }
            Padding::None if self.may_leave() => Padding::Constant(0.0),
            padding => padding,
        };
        Ok(VolumeReading { padding, map, scale })
    }
}

/// The least value of a volume; 0 if it has none.
///
/// # Errors
/// Those of measuring a foreign array.
fn least(volume: &Volume, (slope, intercept): (f64, f64)) -> Result<f64> {
    let statistics = volume.known_statistics()?;
    let stored = if slope < 0.0 { &statistics.max } else { &statistics.min };
    let stored = stored.as_ref().and_then(serde_json::Number::as_f64);
    Ok(stored.map_or(0.0, |stored| f64::from((stored * slope + intercept) as f32)))
}
