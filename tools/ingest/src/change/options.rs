//! What a run changes of the voxels of its sources.
//!
//! # Invariants
//! - Labels and weights change their place alone, never their values.

use serde_json::{Map, Value, json};
use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Dtype, Error, Normalization, Orientation, Result};

/// The changes that a run asks for, or those of one volume. They happen in the order of the fields.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct VoxelChanges {
    /// Whether subjects are cropped to the voxels of their images that are not 0.
    pub(crate) crops: bool,
    /// The least and the largest real value.
    pub(crate) clip: Option<(f64, f64)>,
    /// Whether axes ascend as RAS+.
    pub(crate) is_canonical: bool,
    /// Spacing `(z, y, x)` of the result.
    pub(crate) spacing: Option<[f64; 3]>,
    pub(crate) normalization: Option<Normalization>,
    pub(crate) dtype: Option<Dtype>,
}

impl VoxelChanges {
    /// Checks what no volume can be changed to.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    pub(crate) fn check(&self) -> Result<()> {
        if let Some(spacing) = self.spacing
            && !spacing.iter().all(|&mm| mm > 0.0 && mm.is_finite())
        {
            let expected = "finite numbers above 0 along z, y and x";
            return Err(Error::invalid("spacing", format!("{spacing:?}"), expected));
        }
        if let Some((low, high)) = self.clip
            && (low.is_nan() || high.is_nan() || low >= high)
        {
            let expected = "two numbers, the lower one first";
            return Err(Error::invalid("clip", format!("({low}, {high})"), expected));
        }
        self.normalization.map_or(Ok(()), Normalization::check)?;
        match self.dtype {
            Some(dtype) if self.normalization.is_some() && !dtype.is_float() => {
                let expected = "float32, float16 or float64: normalised values are fractions";
                Err(Error::invalid("dtype", dtype, expected))
            }
            _ => Ok(()),
        }
    }

    /// Those that concern a volume. A volume that is canonical already does not become so.
    pub(crate) fn of(&self, kind: Kind, is_weights: bool, affine: &Affine) -> Self {
        let is_canonical = self.is_canonical && Orientation::of(affine) != Orientation::RAS;
        let place = Self { is_canonical, ..self.clone() };
        if kind == Kind::Labels || is_weights {
            return Self { clip: None, normalization: None, dtype: None, ..place };
        }
        place
    }

    /// Whether anything changes.
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The orientation of the result, if it is another.
    pub(crate) fn orientation(&self) -> Option<Orientation> {
        self.is_canonical.then_some(Orientation::RAS)
    }

    /// Whether voxels come between voxels.
    pub(crate) fn interpolates(&self) -> bool {
        self.spacing.is_some()
    }

    /// The changes as the store keeps them; a bound of a clip that is infinite is null.
    pub(crate) fn record(&self) -> Map<String, Value> {
        let mut record = Map::new();
        if self.crops {
            record.insert("crop".into(), Value::Null);
        }
        if let Some((low, high)) = self.clip {
            record.insert("clip".into(), json!([low, high]));
        }
        if let Some(orientation) = self.orientation() {
            record.insert("orientation".into(), json!(orientation.to_string()));
        }
        if let Some(spacing) = self.spacing {
            record.insert("spacing".into(), json!(spacing));
        }
        match self.normalization {
            Some(Normalization::Window(low, high)) => {
                record.insert("normalize".into(), json!([low, high]));
            }
            Some(_) => {
                record.insert("normalize".into(), json!("zscore"));
            }
            None => {}
        }
        if let Some(dtype) = self.dtype {
            record.insert("dtype".into(), json!(dtype.name()));
        }
        record
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_the_option() {
        let spacing = |mm| VoxelChanges { spacing: Some([1.0, mm, 1.0]), ..Default::default() };
        let clip = |clip| VoxelChanges { clip: Some(clip), ..Default::default() };
        let window = |low, high| VoxelChanges {
            normalization: Some(Normalization::Window(low, high)),
            ..Default::default()
        };
        for bad in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let error = spacing(bad).check().unwrap_err().to_string();
            assert!(error.starts_with("spacing"), "{error}");
        }
        for bad in [(1.0, 0.0), (1.0, 1.0), (f64::NAN, 1.0), (0.0, f64::NAN)] {
            let error = clip(bad).check().unwrap_err().to_string();
            assert!(error.starts_with("clip"), "{error}");
            let error = window(bad.0, bad.1).check().unwrap_err().to_string();
            assert!(error.starts_with("normalize"), "{error}");
        }
        assert!(clip((0.0, f64::INFINITY)).check().is_ok());
        let zscore = VoxelChanges {
            normalization: Some(Normalization::ZScore),
            dtype: Some(Dtype::Int16),
            ..Default::default()
        };
        assert!(zscore.check().unwrap_err().to_string().starts_with("dtype int16"));
    }

    #[test]
    fn labels_and_weights_keep_their_values() {
        let all = VoxelChanges {
            crops: true,
            clip: Some((0.0, 1.0)),
            is_canonical: true,
            spacing: Some([1.0; 3]),
            normalization: Some(Normalization::ZScore),
            dtype: Some(Dtype::Float16),
        };
        let mut flipped = Affine::IDENTITY;
        flipped.0[0][0] = -1.0;
        assert_eq!(all.of(Kind::Image, false, &flipped), all);
        for (kind, is_weights) in [(Kind::Labels, false), (Kind::Image, true)] {
            let found = all.of(kind, is_weights, &flipped).record();
            assert_eq!(found.keys().collect::<Vec<_>>(), ["crop", "orientation", "spacing"]);
        }
        let canonical = VoxelChanges { is_canonical: true, ..Default::default() };
        assert!(canonical.of(Kind::Image, false, &Affine::IDENTITY).is_none());
        let record = serde_json::to_value(all.record()).unwrap();
        assert_eq!(record["normalize"], "zscore");
        assert_eq!(record["clip"], json!([0.0, 1.0]));
    }
}
