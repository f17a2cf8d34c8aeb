//! How the channels of a label map encode classes.

use super::class_index::ClassIndexes;
use super::classes::{Class, Membership};
use crate::sample::volumes::check_channel;
use crate::{Error, Result, Volume};

/// How the channels of a label map encode classes.
#[derive(Clone, Copy)]
pub(in crate::sample) enum LabelEncoding {
    /// This channel holds labels.
    Labels(usize),
    /// That many channels, each a class; channel 0 is the background.
    OneHot(usize),
}

impl LabelEncoding {
    /// The encoding of a map of which `channel` holds labels, if one was chosen.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a channel that the volume does not have.
    pub(super) fn new(volume: &Volume, channel: Option<usize>) -> Result<Self> {
        match channel {
            Some(channel) => check_channel(volume, channel).map(|()| Self::Labels(channel)),
            None => Ok(Self::of(volume)),
        }
    }

    /// The encoding of a whole map: one-hot if it has several channels.
    pub(in crate::sample) fn of(volume: &Volume) -> Self {
        match volume.layout().channel_count() {
            1 => Self::Labels(0),
            channels => Self::OneHot(channels),
        }
    }

    /// The classes that make up the foreground.
    pub(in crate::sample) fn foreground(self) -> Vec<Class> {
        let class = |channel| Class { channel, membership: Membership::Foreground };
        match self {
            Self::Labels(channel) => vec![class(channel)],
            Self::OneHot(channels) => (1..channels).map(class).collect(),
        }
    }

    /// The classes that make up the background.
    pub(super) fn background(self) -> Vec<Class> {
        vec![match self {
            Self::Labels(channel) => Class { channel, membership: Membership::Background },
            Self::OneHot(_) => Class { channel: 0, membership: Membership::Foreground },
        }]
    }

    /// The class of a label.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a label that is no channel of a one-hot map.
    pub(super) fn class(self, label: i64) -> Result<Vec<Class>> {
        let class = match self {
            Self::Labels(channel) => Class { channel, membership: Membership::Label(label) },
            Self::OneHot(channels) => {
                let channel = usize::try_from(label).ok().filter(|&channel| channel < channels);
                let expected = || {
                    format!(
                        "0 to {}, a channel of the one-hot map; choose one channel to sample by \
                         the labels in it",
                        channels - 1
                    )
                };
                let channel = channel.ok_or_else(|| Error::invalid("label", label, expected()))?;
                Class { channel, membership: Membership::Foreground }
            }
        };
        Ok(vec![class])
    }

    /// The foreground, one set for each of its classes.
    pub(super) fn foreground_classes(
        self,
        volume: &Volume,
        indexes: &ClassIndexes,
    ) -> Vec<Vec<Class>> {
        match self {
            Self::Labels(channel) => {
                let class = |label| vec![Class { channel, membership: Membership::Label(label) }];
                indexes.labels(volume.layout(), channel).into_iter().map(class).collect()
            }
            Self::OneHot(_) => self.foreground().into_iter().map(|class| vec![class]).collect(),
        }
    }
}
