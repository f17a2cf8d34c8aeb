//! Draws patches centred on the voxels of a label map, balanced between its classes.
//!
//! The four balances give the distributions of other tools, for the same numbers:
//! - [`Balance::Foreground`]: TorchIO's `LabelSampler` without probabilities.
//! - [`Balance::Classes`]: TorchIO's with a dictionary, or with [`Border::Clamp`] MONAI's
//!   `RandCropByLabelClasses`.
//! - [`Balance::PosNeg`]: with [`Border::Clamp`] MONAI's `RandCropByPosNegLabel`.
//! - [`Balance::Forced`]: with [`Border::Pad`] nnU-Net's oversampling of the foreground.
//!
//! # Invariants
//! - Within a class every voxel that may be a centre is exactly equally likely: integers are drawn
//!   below integer counts.

mod balance;
mod class_index;
mod classes;
mod encoding;
mod label_draw;

pub use balance::Balance;
pub(super) use class_index::ClassIndexes;
pub(super) use classes::Class;
pub(super) use encoding::LabelEncoding;

use self::label_draw::{ClassChoice, LabelDraw, ReweightedChoice};
use super::border::{Border, Centres};
use super::chunk_weights::Reweighting;
use super::draw::{Draw, locations_method, probability_map_method};
use super::missing::Lack;
use super::volumes::{label_map, label_map_if_any};
use crate::format::grid::check_patch_size;
use crate::{Dataset, Error, Region, Result, Size3, Subject};

/// Draws patches whose centres have certain labels.
///
/// In a map with several channels, one-hot, each channel is a class and channel 0 the background;
/// [`LabelSampler::channel`] takes one channel as an ordinary label map.
///
/// ```
/// use voxquarry::{Balance, Dataset, Epoch, LabelSampler, OpenOptions};
///
/// # let store = "format-spec/golden/v1";
/// let subject = Dataset::open(store, &OpenOptions::default())?.subject("grid")?;
/// let balance = Balance::Classes(vec![(2, 1.0), (3, 1.0)]);
/// let sampler = LabelSampler::new([2, 4, 4], "labels-i32")?.balance(balance)?;
/// let locations = sampler.locations(&subject, 8, Epoch { seed: 42, epoch: 0 }, 0)?;
/// assert_eq!(locations.len(), 8);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSampler {
    patch_size: Size3,
    border: Border,
    labels: Option<String>,
    channel: Option<usize>,
    balance: Balance,
}

impl LabelSampler {
    /// Draws the same kind of voxels, each a patch, anywhere in the volume.
    pub(super) fn of_voxels(&self) -> Self {
        Self { patch_size: [1; 3], border: Border::Exclude, ..self.clone() }
    }

    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, by the volume `labels` of each
    /// subject, or by its first label map if `None`. The patches stay inside the volume, and all
    /// labels above 0 are foreground.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of zero.
    pub fn new<'a>(patch_size: Size3, labels: impl Into<Option<&'a str>>) -> Result<Self> {
        check_patch_size(patch_size)?;
        Ok(Self {
            patch_size,
            border: Border::default(),
            labels: labels.into().map(str::to_owned),
            channel: None,
            balance: Balance::default(),
        })
    }

    /// Sets what is done with patches that would leave the volume.
    #[must_use]
    pub fn border(self, border: Border) -> Self {
        Self { border, ..self }
    }

    /// Takes one channel of the map as an ordinary label map.
    #[must_use]
    pub fn channel(self, channel: usize) -> Self {
        Self { channel: Some(channel), ..self }
    }

    /// Sets how often each class is at the centre of a patch.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for numbers out of range, or a label that is listed twice.
    pub fn balance(self, balance: Balance) -> Result<Self> {
        Ok(Self { balance: balance.validated()?, ..self })
    }

    locations_method!();

    probability_map_method!();

    /// Checks that some subject has each label of [`Balance::Classes`] with a part above 0. Because
    /// a sampler leaves out the labels that a subject lacks, a label that all subjects lack would
    /// go unnoticed.
    ///
    /// # Errors
    /// [`Error::Unsupported`] with the labels that no subject has, or for a subject without a label
    /// map; errors of reading the label counts.
    pub fn check(&self, dataset: &Dataset) -> Result<()> {
        let Balance::Classes(classes) = &self.balance else { return Ok(()) };
        let drawn = classes.iter().filter(|class| class.1 > 0.0);
        let mut unseen: Vec<i64> = drawn.map(|class| class.0).collect();
        for name in dataset.subjects() {
            if unseen.is_empty() {
                break;
            }
            let volume = label_map(&dataset.subject(name)?, self.labels.as_deref())?;
            let encoding = LabelEncoding::new(&volume, self.channel)?;
            let set = |&label: &i64| encoding.class(label);
            let sets = unseen.iter().map(set).collect::<Result<Vec<_>>>()?;
            let indexes = ClassIndexes::of(&volume, Region::whole(volume.size()))?;
            let mut is_present = indexes.are_present(&volume, &sets)?.into_iter();
            unseen.retain(|_| is_present.next() == Some(false));
        }
        if unseen.is_empty() {
            return Ok(());
        }
        let store = dataset.path().display();
        Err(Error::unsupported(
            format!("{store}: no subject has a voxel of the labels {unseen:?}"),
            "leave these labels out of the balance",
        ))
    }

    /// Voxels of a patch, `(z, y, x)`.
    pub fn patch_size(&self) -> Size3 {
        self.patch_size
    }

    /// What is done with patches that would leave the volume.
    pub fn get_border(&self) -> Border {
        self.border
    }

    /// The volume that holds the labels; `None`: the first label map of each subject.
    pub fn labels(&self) -> Option<&str> {
        self.labels.as_deref()
    }

    /// The channel that is taken as a label map, if one was chosen.
    pub fn get_channel(&self) -> Option<usize> {
        self.channel
    }

    /// How often each class is at the centre of a patch; classes in ascending order.
    pub fn get_balance(&self) -> &Balance {
        &self.balance
    }

    /// Why no patch can be drawn in a subject.
    pub(super) fn lack(&self, subject: &Subject) -> Result<Option<Lack>> {
        let volume = match label_map_if_any(subject, self.labels.as_deref())? {
            Ok(volume) => volume,
            Err(lack) => return Ok(Some(lack)),
        };
        let centres = Centres::new(volume.size(), self.patch_size, self.border)?;
        let indexes = ClassIndexes::of(&volume, centres.region())?;
        let sets = self.balance.sought(LabelEncoding::new(&volume, self.channel)?)?;
        if sets.is_empty() || indexes.is_any_present(&volume, &sets)? {
            return Ok(None);
        }
        let is_elsewhere = indexes.is_any_in_volume(&volume, &sets);
        Ok(Some(centres.lack(&self.balance.wanted(), is_elsewhere)))
    }

    pub(super) fn bind(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
    ) -> Result<Box<dyn Draw>> {
        let volume = label_map(subject, self.labels.as_deref())?;
        let centres = Centres::new(volume.size(), self.patch_size, self.border)?;
        let indexes = ClassIndexes::of(&volume, centres.region())?;
        let encoding = LabelEncoding::new(&volume, self.channel)?;
        let (region, channel, balance) = (centres.region(), self.channel, &self.balance);
        let choice =
            volume.derived(format!("choice {region:?} {channel:?} {balance:?}"), || {
                let choice = ClassChoice::new(balance, encoding, &volume, &indexes, &centres)?;
                let bytes = choice.bytes();
                Ok((choice, bytes))
            })?;
        let reweighted = |Reweighting { weights, .. }| {
            let name = format!("{} {region:?} {channel:?} {balance:?}", weights.name());
            volume.derived(name, || {
                let found = ReweightedChoice::new(&choice, weights, &volume, &indexes, &centres)?;
                let bytes = found.bytes();
                Ok((found, bytes))
            })
        };
        let reweighted = reweighting.map(reweighted).transpose()?;
        Ok(Box::new(LabelDraw { centres, volume, indexes, choice, reweighted }))
    }
}
