//! Draws patches that hold a whole object: a label of an instance map, by its box.
//!
//! # Invariants
//! - A patch holds every voxel of its object. Every place at which it does, and that the border
//!   rule allows, is equally likely.
//!
//! Not here: the boxes of labels (`store`).

use std::sync::Arc;

use super::border::{Border, check_fits};
use super::boxes::ProbabilityMap;
use super::chunk_weights::Reweighting;
use super::draw::{Draw, locations_method, probability_map_method};
use super::missing::Lack;
use super::random::{RandomStream, StreamKey};
use super::volumes::{check_channel, label_map, label_map_if_any};
use crate::format::grid::check_patch_size;
use crate::store::derive;
use crate::{Error, Region, Result, Size3, Subject, Volume};

/// Which object a sample is of.
///
/// ```
/// use voxquarry::{ObjectOrder, ObjectSampler};
///
/// let sampler = ObjectSampler::new([64, 64, 64], "cells")?.order(ObjectOrder::Each);
/// assert_eq!(sampler.get_order(), ObjectOrder::Each);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ObjectOrder {
    /// Any, each equally likely.
    #[default]
    Random,
    /// Sample `n` is of object `n` modulo their number, ascending by label: as many samples as
    /// there are objects hold each of them once.
    Each,
}

/// Draws patches that hold an object wholly. The objects of a subject are the labels above 0 of a
/// label map whose boxes fit into a patch.
///
/// ```
/// use voxquarry::{Epoch, ObjectSampler};
///
/// # let store = "format-spec/golden/v1";
/// let subject = voxquarry::open(store)?.subject("grid")?;
/// let sampler = ObjectSampler::new([6, 10, 20], "labels-i32")?;
/// let objects = sampler.objects(&subject)?;
/// assert!(!objects.is_empty());
/// let found = sampler.locations(&subject, 8, Epoch::default(), 0)?;
/// assert_eq!(found.len(), 8);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct ObjectSampler {
    patch_size: Size3,
    border: Border,
    labels: Option<String>,
    channel: usize,
    order: ObjectOrder,
}

impl ObjectSampler {
    /// A sampler of patches of `patch_size` voxels, `(z, y, x)`, by the volume `labels` of each
    /// subject, or by its first label map if `None`. The patches stay inside the volume.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a size of zero.
    pub fn new<'a>(patch_size: Size3, labels: impl Into<Option<&'a str>>) -> Result<Self> {
        check_patch_size(patch_size)?;
        let labels = labels.into().map(str::to_owned);
        let (border, order) = (Border::default(), ObjectOrder::default());
        Ok(Self { patch_size, border, labels, channel: 0, order })
    }

    /// Sets what is done with patches that would leave the volume: with [`Border::Pad`] they may,
    /// otherwise they never do.
    #[must_use]
    pub fn border(self, border: Border) -> Self {
        Self { border, ..self }
    }

    /// Sets the channel of the label map that holds the objects.
    #[must_use]
    pub fn channel(self, channel: usize) -> Self {
        Self { channel, ..self }
    }

    /// Sets which object a sample is of.
    #[must_use]
    pub fn order(self, order: ObjectOrder) -> Self {
        Self { order, ..self }
    }

    locations_method!();

    probability_map_method!();

    /// The labels above 0 of a subject, ascending, each with its box; those that do not fit into a
    /// patch, and are never drawn, too.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a subject without a label map, [`Error::NotFound`] and
    /// [`Error::InvalidArgument`] for a volume or channel that it does not have; errors of reading
    /// the volume.
    pub fn objects(&self, subject: &Subject) -> Result<Vec<(i64, Region)>> {
        let volume = label_map(subject, self.labels.as_deref())?;
        Ok(self.boxes(&volume)?.to_vec())
    }

    /// Whether a box fits into a patch.
    pub fn fits(&self, object: &Region) -> bool {
        (0..3).all(|a| object.size[a] <= self.patch_size[a])
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

    /// The channel of the label map that holds the objects.
    pub fn get_channel(&self) -> usize {
        self.channel
    }

    /// Which object a sample is of.
    pub fn get_order(&self) -> ObjectOrder {
        self.order
    }

    fn boxes(&self, volume: &Volume) -> Result<Arc<Vec<(i64, Region)>>> {
        check_channel(volume, self.channel)?;
        derive::label_boxes(volume, self.channel)
    }

    /// Why no patch can be drawn in a subject.
    pub(super) fn lack(&self, subject: &Subject) -> Result<Option<Lack>> {
        let volume = match label_map_if_any(subject, self.labels.as_deref())? {
            Ok(volume) => volume,
            Err(lack) => return Ok(Some(lack)),
        };
        if self.border != Border::Pad {
            check_fits(self.patch_size, volume.size())?;
        }
        let boxes = self.boxes(&volume)?;
        let has_any = boxes.iter().any(|(_, object)| self.fits(object));
        let lack =
            || Lack { is_too_large: !boxes.is_empty(), ..Lack::new(self.nothing(boxes.len())) };
        Ok((!has_any).then(lack))
    }

    fn nothing(&self, labels: usize) -> String {
        match labels {
            0 => "no voxel of a label above 0".to_owned(),
            n => format!("no box of its {n} labels fits into {:?} voxels", self.patch_size),
        }
    }

    pub(super) fn bind(
        &self,
        subject: &Subject,
        reweighting: Option<Reweighting<'_>>,
    ) -> Result<Box<dyn Draw>> {
        if reweighting.is_some() {
            return Err(Error::unsupported(
                "a sampler of whole objects has no weights of chunks",
                "weigh the subjects, or take another random sampler",
            ));
        }
        let volume = label_map(subject, self.labels.as_deref())?;
        if self.border != Border::Pad {
            check_fits(self.patch_size, volume.size())?;
        }
        let boxes = self.boxes(&volume)?;
        let fitting: Vec<usize> = (0..boxes.len()).filter(|&i| self.fits(&boxes[i].1)).collect();
        if fitting.is_empty() {
            let reason = format!("{}: {}", volume.path().display(), self.nothing(boxes.len()));
            return Err(Error::unsupported(reason, "take larger patches, or leave it out"));
        }
        let size = volume.size();
        Ok(Box::new(ObjectDraw { sampler: self.clone(), size, boxes, fitting }))
    }
}

/// An [`ObjectSampler`] bound to one subject.
struct ObjectDraw {
    sampler: ObjectSampler,
    /// Voxels of the volume.
    size: Size3,
    boxes: Arc<Vec<(i64, Region)>>,
    /// The boxes that fit into a patch.
    fitting: Vec<usize>,
}

impl ObjectDraw {
    /// The starts of the patches that hold an object.
    fn starts(&self, object: &Region) -> Region {
        let (patch, border) = (self.sampler.patch_size, self.sampler.border);
        let range = [0, 1, 2].map(|a| {
            let (first, last) = (object.end(a) - patch[a] as i64, object.start[a]);
            match border {
                Border::Pad => (first, last),
                _ => (first.max(0), last.min(self.size[a] as i64 - patch[a] as i64)),
            }
        });
        Region::new(range.map(|r| r.0), range.map(|(first, last)| (last - first + 1) as usize))
    }
}

impl Draw for ObjectDraw {
    fn patch_size(&self) -> Size3 {
        self.sampler.patch_size
    }

    fn start(&self, key: &StreamKey<'_>) -> Result<[i64; 3]> {
        let (mut random, count) = (RandomStream::new(key), self.fitting.len() as u64);
        let nth = match self.sampler.order {
            ObjectOrder::Random => random.below(count),
            ObjectOrder::Each => key.n % count,
        };
        let starts = self.starts(&self.boxes[self.fitting[nth as usize]].1);
        Ok([0, 1, 2].map(|a| starts.start[a] + random.below(starts.size[a] as u64) as i64))
    }

    fn add_probabilities(&self, map: &mut ProbabilityMap<'_>) -> Result<()> {
        let each = 1.0 / self.fitting.len() as f64;
        for &i in &self.fitting {
            let mut centres = self.starts(&self.boxes[i].1);
            centres.start =
                [0, 1, 2].map(|a| centres.start[a] + (self.sampler.patch_size[a] / 2) as i64);
            if !centres.is_inside(self.size) {
                return Err(Error::unsupported(
                    "patches around an object may be centred outside of the volume",
                    "take another border than pad",
                ));
            }
            map.add_evenly(&centres, each);
        }
        Ok(())
    }
}
