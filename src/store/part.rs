//! A part of work that several processes share, as in `3/16`.
//!
//! # Invariants
//! - The parts of one count are disjoint, and together they are everything.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use crate::{Error, Result};

/// One of several equal parts of some work. Parts are numbered from 0; the count as number is part
/// 0 too, so that what counts from 1 needs no arithmetic.
///
/// ```
/// use voxquarry::Part;
///
/// let part: Part = "3/16".parse()?;
/// assert_eq!((part.number(), part.count()), (3, 16));
/// assert_eq!(Part::new(16, 16)?, Part::new(0, 16)?);
/// assert!("17/16".parse::<Part>().is_err());
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    number: usize,
    count: usize,
}

impl Part {
    /// More parts than any cluster runs.
    const MOST: usize = 1 << 20;

    /// Part `number` of `count`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a number above the count, and a count that is 0 or above a
    /// million.
    pub fn new(number: usize, count: usize) -> Result<Self> {
        if count == 0 || count > Self::MOST || number > count {
            let expected = format!(
                "I/N, N from 1 to {}, I from 0 to N - 1 or from 1 to N, as in 3/16",
                Self::MOST
            );
            return Err(Error::invalid("part", format!("{number}/{count}"), expected));
        }
        Ok(Self { number: number % count, count })
    }

    /// All parts of a count.
    ///
    /// # Errors
    /// As [`Part::new`].
    pub fn all(count: usize) -> Result<impl Iterator<Item = Self>> {
        Self::new(0, count)?;
        Ok((0..count).map(move |number| Self { number, count }))
    }

    /// Its number, from 0.
    pub fn number(&self) -> usize {
        self.number
    }

    /// The number of all parts.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Its share of `total` things in a row; shares differ by at most one thing.
    ///
    /// ```
    /// let shares = voxquarry::Part::all(3)?.map(|part| part.share(7));
    /// assert_eq!(shares.collect::<Vec<_>>(), [0..2, 2..4, 4..7]);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    pub fn share(&self, total: usize) -> Range<usize> {
        let bound = |n: usize| (n as u128 * total as u128 / self.count as u128) as usize;
        bound(self.number)..bound(self.number + 1)
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.number, self.count)
    }
}

impl FromStr for Part {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let numbers =
            text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        let (number, count) = numbers.ok_or_else(|| {
            Error::invalid("part", format!("{text:?}"), "I/N, as in 3/16: part 3 of 0 to 15")
        })?;
        Self::new(number, count)
    }
}

/// The first of `parts` in words, and how many there are: `parts 3/16 and 5/16`.
pub(super) fn list_of(parts: &[Part]) -> String {
    const SHOWN: usize = 10;
    let names: Vec<String> = parts.iter().take(SHOWN).map(ToString::to_string).collect();
    match names.split_last() {
        None => "no part".to_owned(),
        Some((only, [])) => format!("part {only}"),
        Some(_) if parts.len() > SHOWN => {
            format!("parts {} and {} more", names.join(", "), parts.len() - SHOWN)
        }
        Some((last, rest)) => format!("parts {} and {last}", rest.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_disjoint_and_cover_everything() {
        for count in [1, 2, 3, 7, 16, 100] {
            for total in [0, 1, 2, 15, 16, 17, 65_536, usize::MAX] {
                let mut next = 0;
                for part in Part::all(count).unwrap() {
                    let share = part.share(total);
                    assert_eq!(share.start, next, "{part} of {total}");
                    assert!(share.len() - total / count <= 1);
                    next = share.end;
                }
                assert_eq!(next, total);
            }
        }
    }

    #[test]
    fn numbers_count_from_0_or_from_1() {
        let from = |first: usize| (first..first + 4).map(|n| Part::new(n, 4).unwrap().number());
        let mut from_1: Vec<_> = from(1).collect();
        from_1.sort_unstable();
        assert_eq!(from_1, from(0).collect::<Vec<_>>());
        for text in ["", "3", "a/3", "4/3", "0/0", "-1/3", "1/9999999999", "1/3/5", "1.5/3"] {
            assert!(text.parse::<Part>().is_err(), "{text}");
        }
    }

    #[test]
    fn parts_are_named_in_words() {
        let parts: Vec<Part> = Part::all(16).unwrap().collect();
        assert_eq!(list_of(&parts[3..4]), "part 3/16");
        assert_eq!(list_of(&parts[3..6]), "parts 3/16, 4/16 and 5/16");
        assert!(list_of(&parts).ends_with("9/16 and 6 more"));
    }
}
