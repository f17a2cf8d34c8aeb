//! The balance between the classes of a label map.

use super::classes::Class;
use super::encoding::LabelEncoding;
use crate::{Error, Result};

/// How often each class is at the centre of a patch.
///
/// ```
/// use voxquarry::{Balance, LabelSampler};
///
/// // Label 1 twice as often as label 2.
/// let balance = Balance::Classes(vec![(1, 2.0), (2, 1.0)]);
/// let sampler = LabelSampler::new([96, 96, 96], "seg")?.balance(balance.clone())?;
/// assert_eq!(sampler.get_balance(), &balance);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Default)]
#[non_exhaustive]
pub enum Balance {
    /// Any label above 0; all such voxels are equally likely.
    #[default]
    Foreground,
    /// Labels and how often each is drawn, in any unit. Classes that a subject does not have among
    /// its possible centres are left out, and the others share their part. Of a one-hot map, labels
    /// are channels.
    Classes(Vec<(i64, f64)>),
    /// Labels above 0 with probability `pos / (pos + neg)`, otherwise the other voxels. If a
    /// subject lacks one side, all samples are of the other.
    PosNeg {
        /// The part of the foreground.
        pos: f64,
        /// The part of the background.
        neg: f64,
    },
    /// This fraction of the samples of a subject is centred on the foreground, equally often on
    /// each label above 0 that the subject has; the others may be centred anywhere. Forced samples
    /// are spread evenly: of any k successive samples, k × fraction are forced, to within one.
    Forced {
        /// In `0.0..=1.0`; nnU-Net's is 0.33.
        fraction: f64,
    },
}

impl Balance {
    /// The sets of classes one of which a subject needs, so that a patch can be drawn; empty if it
    /// needs none.
    pub(super) fn sought(&self, encoding: LabelEncoding) -> Result<Vec<Vec<Class>>> {
        match self {
            Self::Foreground => Ok(vec![encoding.foreground()]),
            Self::Classes(classes) => {
                let drawn = classes.iter().filter(|class| class.1 > 0.0);
                drawn.map(|class| encoding.class(class.0)).collect()
            }
            Self::PosNeg { .. } => Ok(vec![encoding.foreground(), encoding.background()]),
            Self::Forced { .. } => Ok(Vec::new()),
        }
    }

    /// The voxels that may be centres, as "of the labels [3]".
    pub(super) fn wanted(&self) -> String {
        match self {
            Self::Foreground => "of a label above 0".to_owned(),
            Self::Classes(classes) => {
                let drawn = classes.iter().filter(|class| class.1 > 0.0).map(|class| class.0);
                format!("of the labels {:?}", drawn.collect::<Vec<_>>())
            }
            Self::PosNeg { .. } | Self::Forced { .. } => {
                "of the foreground or the background".to_owned()
            }
        }
    }

    /// The balance with its classes in ascending order.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for numbers out of range, or a label that is listed twice.
    pub(super) fn validated(mut self) -> Result<Self> {
        match &mut self {
            Self::Foreground => {}
            Self::Classes(classes) => {
                classes.sort_by_key(|class| class.0);
                check_classes(classes)?;
            }
            &mut Self::PosNeg { pos, neg } => {
                let sum = pos + neg;
                if !(is_weight(pos) && is_weight(neg) && is_weight(sum)) || sum == 0.0 {
                    let expected = "finite numbers, 0 or more, not both 0";
                    return Err(Error::invalid("pos and neg", format!("{pos}, {neg}"), expected));
                }
            }
            &mut Self::Forced { fraction } => {
                if !(0.0..=1.0).contains(&fraction) {
                    return Err(Error::invalid("foreground fraction", fraction, "0.0 to 1.0"));
                }
            }
        }
        Ok(self)
    }
}

/// Checks classes in ascending order.
fn check_classes(classes: &[(i64, f64)]) -> Result<()> {
    if let Some((label, weight)) = classes.iter().find(|class| !is_weight(class.1)) {
        let argument = format!("probability of label {label}");
        return Err(Error::invalid(argument, weight, "a finite number, 0 or more"));
    }
    if let Some(pair) = classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        return Err(Error::invalid("label", pair[0].0, "each label once, it is listed twice"));
    }
    let sum: f64 = classes.iter().map(|class| class.1).sum();
    if sum == 0.0 || !sum.is_finite() {
        let expected = "a finite number above 0, so at least one label with a probability above 0";
        return Err(Error::invalid("sum of probabilities", sum, expected));
    }
    Ok(())
}

fn is_weight(number: f64) -> bool {
    (0.0..f64::INFINITY).contains(&number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_out_of_range_are_refused() {
        for (balance, words) in [
            (Balance::Classes(vec![]), "at least one"),
            (Balance::Classes(vec![(1, 0.0), (2, 0.0)]), "at least one"),
            (Balance::Classes(vec![(1, 1.0), (2, -1.0)]), "-1"),
            (Balance::Classes(vec![(1, f64::NAN)]), "NaN"),
            (Balance::Classes(vec![(1, 1.0), (1, 2.0)]), "twice"),
            (Balance::PosNeg { pos: 0.0, neg: 0.0 }, "not both"),
            (Balance::PosNeg { pos: f64::INFINITY, neg: 1.0 }, "inf"),
            (Balance::Forced { fraction: 1.1 }, "1.1"),
        ] {
            let message = balance.validated().unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
    }
}
