//! Patches about the voxels of a label map, balanced between its classes.
//!
//! The four balances give the distributions of the field's tools, with the same numbers:
//!
//! | balance | as |
//! |---|---|
//! | [`Balance::Foreground`] | TorchIO's `LabelSampler` without probabilities |
//! | [`Balance::Classes`] | TorchIO's with a dictionary; with [`Border::Clamp`] MONAI's `RandCropByLabelClasses` |
//! | [`Balance::PosNeg`] | with [`Border::Clamp`], MONAI's `RandCropByPosNegLabel` |
//! | [`Balance::Forced`] | with [`Border::Pad`], nnU-Net's oversampling of the foreground |
//!
//! # Invariants
//! - Within a class every voxel that may be a centre is exactly equally likely: integers are drawn below integer counts.

use std::sync::Arc;

use ndarray::Array3;

use super::centres::Centres;
use super::places::{self, Places};
use super::random::{Draws, Stream};
use super::tally::{Class, Of, Tallies};
use super::uniform::any_voxel;
use super::{Border, Epoch, PatchLocation};
use crate::format::attributes::Kind;
use crate::geometry::check_patch_size;
use crate::{Dataset, Error, Region, Result, Size3, Subject, Volume};

/// How often each class is the centre's.
#[derive(Clone, Debug, PartialEq, Default)]
pub enum Balance {
    /// Any label above 0: all such voxels equally likely.
    #[default]
    Foreground,
    /// Labels and how often each is drawn, in any unit; classes that a subject does not have among its possible centres are left
    /// out, and the others share their part. Of a one-hot map, labels are channels.
    Classes(Vec<(i64, f64)>),
    /// Labels above 0 with probability `pos / (pos + neg)`, else the other voxels; a side that a subject does not have leaves
    /// all to the other.
    PosNeg {
        /// Part of the foreground.
        pos: f64,
        /// Part of the background.
        neg: f64,
    },
    /// This part of a subject's samples about the foreground, each label above 0 that it has equally often; the others anywhere.
    /// Forced samples are spread evenly: of any k that follow each other, k × fraction are forced, less or more than one.
    Forced {
        /// In `0.0..=1.0`; nnU-Net's is 0.33.
        fraction: f64,
    },
}

/// Draws patches whose centres have certain labels.
///
/// Of a map with several channels, one-hot, each is a class and channel 0 the background; [`LabelSampler::with_channel`] takes
/// one channel as an ordinary label map.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSampler {
    patch_size: Size3,
    border: Border,
    labels: Option<String>,
    channel: Option<usize>,
    balance: Balance,
}

impl LabelSampler {
    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, by the volume `labels` of each subject; `None`: its first label
    /// map.
    ///
    /// # Errors
    /// [`Error::Usage`] for a size of zero, or numbers of a balance that cannot be.
    pub fn new(
        patch_size: Size3,
        border: Border,
        labels: Option<&str>,
        balance: Balance,
    ) -> Result<Self> {
        check_patch_size(patch_size)?;
        Ok(Self {
            patch_size,
            border,
            labels: labels.map(str::to_owned),
            channel: None,
            balance: balance.checked()?,
        })
    }

    /// The same by one channel of the map.
    #[must_use]
    pub fn with_channel(self, channel: Option<usize>) -> Self {
        Self { channel, ..self }
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// What becomes of patches that would leave the volume.
    pub fn border(&self) -> Border {
        self.border
    }

    /// The volume whose labels count; `None`: a subject's first label map.
    pub fn labels(&self) -> Option<&str> {
        self.labels.as_deref()
    }

    /// The channel that counts, if one was chosen.
    pub fn channel(&self) -> Option<usize> {
        self.channel
    }

    /// How often each class is drawn; classes in ascending order.
    pub fn balance(&self) -> &Balance {
        &self.balance
    }

    /// Checks that every label of [`Balance::Classes`] that is ever drawn is in the map of some subject: a sampler leaves out what
    /// one subject lacks, and so would never tell of a label that all of them do.
    ///
    /// # Errors
    /// [`Error::Usage`] with the labels that no subject has, or for a subject without the map; what reading counts returns.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        let Balance::Classes(classes) = &self.balance else { return Ok(()) };
        let drawn = classes.iter().filter(|class| class.1 > 0.0);
        let mut unseen: Vec<i64> = drawn.map(|class| class.0).collect();
        for name in dataset.subjects() {
            if unseen.is_empty() {
                break;
            }
            let volume = label_map(&dataset.subject(name)?, self.labels.as_deref())?;
            let map = Map::new(&volume, self.channel)?;
            let sets = unseen.iter().map(|&label| map.class(label)).collect::<Result<Vec<_>>>()?;
            let tallies = Tallies::of(&volume, Region::whole(volume.size()))?;
            let mut present = tallies.present(&volume, &sets)?.into_iter();
            unseen.retain(|_| present.next() == Some(false));
        }
        if unseen.is_empty() {
            return Ok(());
        }
        let store = dataset.path().display();
        Err(Error::usage(format!("{store}: no subject has a voxel of the labels {unseen:?}")))
    }

    /// Samples `first .. first + n` of `subject` in that epoch.
    ///
    /// # Errors
    /// [`Error::Usage`] if no voxel may be a centre, the patch does not fit, there is no such volume or channel, or for samples
    /// beyond 2³²; what reading the volume returns.
    pub fn locations(
        &self,
        subject: &Subject,
        epoch: Epoch,
        first: u64,
        n: u64,
    ) -> Result<Vec<PatchLocation>> {
        places::locations(&self.places(subject)?, subject, epoch, first, n)
    }

    /// The probability of every voxel, `(z, y, x)`, to be the centre of a patch; of the order of the whole volume.
    ///
    /// # Errors
    /// As `locations`.
    pub fn probability_map(&self, subject: &Subject) -> Result<Array3<f64>> {
        places::probability_map(&self.places(subject)?, subject.size()?)
    }

    pub(super) fn places(&self, subject: &Subject) -> Result<Places> {
        let volume = label_map(subject, self.labels.as_deref())?;
        let centres = Centres::new(volume.size(), self.patch_size, self.border)?;
        let tallies = Tallies::of(&volume, centres.region())?;
        let map = Map::new(&volume, self.channel)?;
        let what = format!("plan {:?} {:?} {:?}", centres.region(), self.channel, self.balance);
        let plan = volume.remember(what, || {
            let plan = self.plan(&volume, &tallies, map, &centres)?;
            let bytes = plan.bytes();
            Ok((plan, bytes))
        })?;
        Ok(Places::Label(LabelPlaces { centres, volume, tallies, plan }))
    }

    fn plan(
        &self,
        volume: &Volume,
        tallies: &Tallies,
        map: Map,
        centres: &Centres,
    ) -> Result<Plan> {
        let empty = |what: &str| {
            let (place, centres) = (volume.path().display(), centres.describe());
            Error::usage(format!("{place}: no voxel {what} {centres}"))
        };
        let weighted = |sets: Vec<(Vec<Class>, f64)>| -> Result<(Vec<Vec<Class>>, Vec<f64>)> {
            let (sets, weights): (Vec<_>, Vec<_>) =
                sets.into_iter().filter(|set| set.1 > 0.0).unzip();
            let present = tallies.present(volume, &sets)?;
            let there = sets.into_iter().zip(weights).zip(present).filter(|set| set.1);
            let (mut kept, mut cumulated, mut sum) = (Vec::new(), Vec::new(), 0.0);
            for ((set, weight), _) in there {
                sum += weight;
                kept.push(set);
                cumulated.push(sum);
            }
            Ok((kept, cumulated))
        };
        Ok(match &self.balance {
            Balance::Foreground => {
                let set = map.foreground();
                if tallies.tally(volume, &set)?.total() == 0 {
                    return Err(empty("of a label above 0"));
                }
                Plan::Set(set)
            }
            Balance::Classes(classes) => {
                let set = |&(label, weight): &(i64, f64)| Ok((map.class(label)?, weight));
                let (sets, cumulated) = weighted(classes.iter().map(set).collect::<Result<_>>()?)?;
                if sets.is_empty() {
                    let labels: Vec<i64> = classes.iter().map(|class| class.0).collect();
                    return Err(empty(&format!("of the labels {labels:?}")));
                }
                Plan::Mix { sets, cumulated }
            }
            Balance::PosNeg { pos, neg } => {
                let sets = vec![(map.foreground(), *pos), (map.background(), *neg)];
                let (mut sets, mut cumulated) = weighted(sets)?;
                if sets.is_empty() {
                    // The side whose part is zero is all that there is.
                    let other = if *pos > 0.0 { map.background() } else { map.foreground() };
                    (sets, cumulated) = weighted(vec![(other, 1.0)])?;
                }
                if sets.is_empty() {
                    return Err(empty("of either side"));
                }
                Plan::Mix { sets, cumulated }
            }
            Balance::Forced { fraction } => {
                let sets = map.foreground_classes(volume, tallies);
                let (sets, _) = weighted(sets.into_iter().map(|set| (set, 1.0)).collect())?;
                let part = (fraction * (1u64 << 32) as f64).round_ties_even() as u64;
                Plan::Forced { part, sets }
            }
        })
    }
}

impl Balance {
    fn checked(self) -> Result<Self> {
        let is_weight = |w: f64| (0.0..f64::INFINITY).contains(&w);
        match self {
            Self::Classes(mut classes) => {
                classes.sort_by_key(|class| class.0);
                if let Some((label, weight)) = classes.iter().find(|class| !is_weight(class.1)) {
                    return Err(Error::usage(format!(
                        "probability {weight} of label {label}: expected a finite number, 0 or more"
                    )));
                }
                if let Some(pair) = classes.windows(2).find(|pair| pair[0].0 == pair[1].0) {
                    return Err(Error::usage(format!("label {} is named twice", pair[0].0)));
                }
                let sum: f64 = classes.iter().map(|class| class.1).sum();
                if sum == 0.0 || !sum.is_finite() {
                    return Err(Error::usage(format!(
                        "probabilities sum to {sum}: expected at least one label with more than 0"
                    )));
                }
                Ok(Self::Classes(classes))
            }
            Self::PosNeg { pos, neg }
                if !is_weight(pos)
                    || !is_weight(neg)
                    || !is_weight(pos + neg)
                    || pos + neg == 0.0 =>
            {
                Err(Error::usage(format!(
                    "pos {pos}, neg {neg}: expected finite numbers, 0 or more, not both 0"
                )))
            }
            Self::Forced { fraction } if !(0.0..=1.0).contains(&fraction) => {
                Err(Error::usage(format!("foreground fraction {fraction}: expected 0.0 to 1.0")))
            }
            checked => Ok(checked),
        }
    }
}

/// The label map of that name, or the first one of a subject.
pub(super) fn label_map(subject: &Subject, name: Option<&str>) -> Result<Volume> {
    if let Some(name) = name {
        return subject.volume(name);
    }
    for name in subject.volumes() {
        let volume = subject.volume(name)?;
        if volume.kind() == Kind::Labels {
            return Ok(volume);
        }
    }
    Err(Error::usage(format!(
        "subject {:?} has no label map, its volumes are {}: ingest one as labels, or name the volume",
        subject.name(),
        subject.volumes().join(", ")
    )))
}

/// Voxels of a label map, or of a one-hot one, that are no background.
pub(super) fn foreground_of(volume: &Volume) -> Vec<Class> {
    Map::of(volume).foreground()
}

/// What the channels of a label map mean.
#[derive(Clone, Copy)]
enum Map {
    /// This channel holds labels.
    Labels(usize),
    /// So many channels, each a class; 0 is the background.
    OneHot(usize),
}

impl Map {
    fn new(volume: &Volume, channel: Option<usize>) -> Result<Self> {
        match channel {
            Some(channel) => check_channel(volume, channel).map(|()| Self::Labels(channel)),
            None => Ok(Self::of(volume)),
        }
    }

    fn of(volume: &Volume) -> Self {
        match volume.layout().channel_count() {
            1 => Self::Labels(0),
            channels => Self::OneHot(channels),
        }
    }

    fn foreground(self) -> Vec<Class> {
        let class = |channel| Class { channel, of: Of::Foreground };
        match self {
            Self::Labels(channel) => vec![class(channel)],
            Self::OneHot(channels) => (1..channels).map(class).collect(),
        }
    }

    fn background(self) -> Vec<Class> {
        vec![match self {
            Self::Labels(channel) => Class { channel, of: Of::Background },
            Self::OneHot(_) => Class { channel: 0, of: Of::Foreground },
        }]
    }

    fn class(self, label: i64) -> Result<Vec<Class>> {
        match self {
            Self::Labels(channel) => Ok(vec![Class { channel, of: Of::Label(label) }]),
            Self::OneHot(channels) => {
                let channel = usize::try_from(label).ok().filter(|&channel| channel < channels);
                let channel = channel.ok_or_else(|| {
                    Error::usage(format!(
                        "label {label}: the map has {channels} channels, each a label from 0 on; choose one channel to use its ids"
                    ))
                })?;
                Ok(vec![Class { channel, of: Of::Foreground }])
            }
        }
    }

    /// The foreground, one set for each of its classes.
    fn foreground_classes(self, volume: &Volume, tallies: &Tallies) -> Vec<Vec<Class>> {
        match self {
            Self::Labels(channel) => {
                let labels = tallies.labels(volume.layout(), channel).into_iter();
                labels.map(|label| vec![Class { channel, of: Of::Label(label) }]).collect()
            }
            Self::OneHot(_) => self.foreground().into_iter().map(|class| vec![class]).collect(),
        }
    }
}

/// Refuses a channel that the volume does not have.
pub(super) fn check_channel(volume: &Volume, channel: usize) -> Result<()> {
    let channels = volume.layout().channel_count();
    if channel < channels {
        return Ok(());
    }
    let name = volume.name();
    Err(Error::usage(format!("channel {channel}: volume {name:?} has {channels}, from 0 on")))
}

/// A [`LabelSampler`] over one subject.
pub(super) struct LabelPlaces {
    pub(super) centres: Centres,
    volume: Volume,
    tallies: Arc<Tallies>,
    plan: Arc<Plan>,
}

/// What is drawn, in this order.
enum Plan {
    /// A voxel of the set.
    Set(Vec<Class>),
    /// A set by its weight, then a voxel of it.
    Mix { sets: Vec<Vec<Class>>, cumulated: Vec<f64> },
    /// Where forced, a set and a voxel of it; else any voxel. `part` is in units of 2⁻³².
    Forced { part: u64, sets: Vec<Vec<Class>> },
}

impl Plan {
    fn bytes(&self) -> usize {
        let sets = match self {
            Self::Set(set) => std::slice::from_ref(set),
            Self::Mix { sets, .. } | Self::Forced { sets, .. } => sets,
        };
        sets.iter().map(|set| 64 + set.len() * size_of::<Class>()).sum()
    }
}

impl LabelPlaces {
    pub(super) fn centre(&self, stream: &Stream<'_>, draws: &mut Draws) -> Result<[i64; 3]> {
        let set = match &*self.plan {
            Plan::Set(set) => set,
            Plan::Mix { sets, cumulated } => &sets[draws.pick(cumulated)],
            Plan::Forced { part, sets } if !sets.is_empty() && is_forced(stream, *part) => {
                &sets[draws.below(sets.len() as u64) as usize]
            }
            Plan::Forced { .. } => return Ok(any_voxel(&self.region(), draws)),
        };
        let tally = self.tallies.tally(&self.volume, set)?;
        tally.voxel(&self.volume, &self.region(), draws.below(tally.total()))
    }

    /// Adds the probability of each voxel.
    pub(super) fn add_probabilities(&self, map: &mut Array3<f64>) -> Result<()> {
        let (sets, parts): (&[Vec<Class>], Vec<f64>) = match &*self.plan {
            Plan::Set(set) => (std::slice::from_ref(set), vec![1.0]),
            Plan::Mix { sets, cumulated } => {
                let total = cumulated.last().copied().unwrap_or(1.0);
                let before = std::iter::once(&0.0).chain(cumulated);
                (
                    sets,
                    cumulated
                        .iter()
                        .zip(before)
                        .map(|(end, begin)| (end - begin) / total)
                        .collect(),
                )
            }
            Plan::Forced { part, sets } => {
                let forced = if sets.is_empty() { 0.0 } else { *part as f64 / (1u64 << 32) as f64 };
                places::add_uniform(map, &self.region(), 1.0 - forced);
                (sets, vec![forced / sets.len().max(1) as f64; sets.len()])
            }
        };
        for (set, part) in sets.iter().zip(parts) {
            let tally = self.tallies.tally(&self.volume, set)?;
            let each = part / tally.total() as f64;
            tally.visit(&self.volume, &self.region(), |region, is_member| {
                let values = is_member.iter().map(|&m| if m { each } else { 0.0 });
                places::add_box(map, region, values);
            })?;
        }
        Ok(())
    }

    fn region(&self) -> Region {
        self.centres.region()
    }
}

/// Whether sample n is forced: whether the multiples of `part`, counted from a random phase, pass a whole number there.
fn is_forced(stream: &Stream<'_>, part: u64) -> bool {
    const WHOLE: u64 = 1 << 32;
    let phase = Draws::new(&stream.shared()).below(WHOLE);
    (phase + stream.n * part) % WHOLE + part >= WHOLE
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forced_samples_are_spread_evenly() {
        let half = |fraction: f64| (fraction * (1u64 << 32) as f64).round_ties_even() as u64;
        for (seed, fraction) in (0..20).zip([0.0, 0.1, 0.33, 0.5, 0.77, 1.0].into_iter().cycle()) {
            let epoch = Epoch { seed, epoch: 0 };
            let forced: Vec<bool> = (0..2000)
                .map(|n| is_forced(&Stream { epoch, subject: "a", n, attempt: 0 }, half(fraction)))
                .collect();
            for k in [1, 3, 10, 100] {
                for run in forced.windows(k) {
                    let found = run.iter().filter(|&&f| f).count() as f64;
                    assert!(
                        (found - fraction * k as f64).abs() < 1.0,
                        "{fraction}: {found} of {k}"
                    );
                }
            }
        }
    }

    #[test]
    fn numbers_that_cannot_be_are_refused() {
        let new = |balance| LabelSampler::new([4; 3], Border::Clamp, None, balance);
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
            let message = new(balance).unwrap_err().to_string();
            assert!(message.contains(words), "{message}");
        }
        assert!(LabelSampler::new([0, 1, 1], Border::Clamp, None, Balance::Foreground).is_err());
    }
}
