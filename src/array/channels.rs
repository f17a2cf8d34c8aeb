//! A choice of channels of an array.

use std::ops::Range;

use crate::{Error, Result};

/// Channels that are read, in the order in which the reader wants them.
///
/// A range converts into it.
///
/// ```
/// use voxquarry::Channels;
///
/// let channels = Channels::new([5, 0, 2])?;
/// assert_eq!(channels.len(), 3);
/// assert_eq!(Channels::from(0..3).len(), 3);
/// assert!(Channels::new([1, 1]).is_err());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Channels {
    /// Channels in ascending order, each with its place in the output.
    places: Vec<(usize, usize)>,
}

impl Channels {
    /// Those channels, each once.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] without a channel, or for one that is listed twice.
    pub fn new(channels: impl IntoIterator<Item = usize>) -> Result<Self> {
        let mut places: Vec<(usize, usize)> =
            channels.into_iter().enumerate().map(|(place, channel)| (channel, place)).collect();
        places.sort_unstable();
        if places.is_empty() {
            return Err(Error::invalid("channels", "[]", "at least one"));
        }
        match places.windows(2).find(|pair| pair[0].0 == pair[1].0) {
            None => Ok(Self { places }),
            Some(pair) => Err(Error::invalid("channels", pair[0].0, "each channel once")),
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Checks that an array of `count` channels has all of them.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if it has not, or if there is none.
    pub(crate) fn check(&self, count: usize) -> Result<()> {
        match self.places.last() {
            Some(&(last, _)) if last < count => Ok(()),
            last => {
                let found = last.map_or_else(|| "[]".to_owned(), |last| last.0.to_string());
                let expected = match count {
                    1 => "0, the only channel".to_owned(),
                    _ => format!("some of 0 to {}", count.saturating_sub(1)),
                };
                Err(Error::invalid("channels", found, expected))
            }
        }
    }

    /// The channels, ascending.
    pub(crate) fn ascending(&self) -> impl Iterator<Item = usize> + '_ {
        self.places.iter().map(|&(channel, _)| channel)
    }

    /// The channels in the order of the output.
    pub(crate) fn in_order(&self) -> Vec<usize> {
        let mut channels = vec![0; self.places.len()];
        self.places.iter().for_each(|&(channel, place)| channels[place] = channel);
        channels
    }

    /// The place of one of the channels in the output.
    pub(crate) fn place(&self, channel: usize) -> usize {
        // Of consecutive channels, as nearly always, the index is known.
        let first = self.places.first().map_or(0, |first| first.0);
        match self.places.get(channel.wrapping_sub(first)) {
            Some(&(found, place)) if found == channel => place,
            _ => {
                let found = self.places.binary_search_by_key(&channel, |one| one.0);
                self.places[found.expect("a channel of the choice")].1
            }
        }
    }
}

impl From<Range<usize>> for Channels {
    fn from(channels: Range<usize>) -> Self {
        let places = channels.enumerate().map(|(place, channel)| (channel, place)).collect();
        Self { places }
    }
}

impl From<&Channels> for Channels {
    fn from(channels: &Channels) -> Self {
        channels.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_those_of_the_list() {
        for list in [vec![7, 3, 5], vec![0], vec![2, 1, 0], vec![4, 5, 6], vec![9, 100, 10]] {
            let channels = Channels::new(list.iter().copied()).unwrap();
            for (place, &channel) in list.iter().enumerate() {
                assert_eq!(channels.place(channel), place, "{list:?}");
            }
            assert!(channels.ascending().is_sorted());
            let last = list.iter().max().unwrap();
            assert!(channels.check(last + 1).is_ok() && channels.check(*last).is_err());
        }
        assert!(Channels::new([]).is_err() && Channels::new([3, 1, 3]).is_err());
        assert!(Channels::from(2..2).check(5).is_err());
    }
}
