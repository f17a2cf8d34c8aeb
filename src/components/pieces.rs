//! The pieces of objects in all boxes: which belong together, and the number of each object.

use std::cmp::Reverse;

use super::options::ComponentOptions;
use super::runs::join;
use crate::memory::{collected, reserve, zeroed};
use crate::{Error, Result};

/// Stands for the background in tables of pieces.
pub(super) const BACKGROUND: u32 = 0;

/// Which pieces that touch across a face belong together, by their keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JoinRule {
    All,
    /// Those with one key, which is their value.
    EqualKeys,
    /// Those of different keys, which are their blocks.
    OtherKeys,
}

/// The pieces that were found so far, with numbers from 1.
#[derive(Debug)]
pub(super) struct Pieces {
    rule: JoinRule,
    parent: Vec<u32>,
    /// The place of each piece's first voxel in the volume, in C order.
    first: Vec<u64>,
    voxels: Vec<u64>,
    keys: Vec<u64>,
}

/// The object of each piece.
#[derive(Debug)]
pub(super) struct ObjectNumbers {
    /// By piece; 0 for the background, and for objects that do not stay.
    pub(super) of_piece: Vec<u32>,
    /// How many objects there are.
    pub(super) count: u32,
}

impl Pieces {
    pub(super) fn new(rule: JoinRule) -> Self {
        // The background is a piece of its own, which never touches anything.
        let keys = if rule == JoinRule::All { vec![] } else { vec![0] };
        Self { rule, parent: vec![BACKGROUND], first: vec![0], voxels: vec![0], keys }
    }

    /// The number of the next piece.
    pub(super) fn next_number(&self) -> u32 {
        self.parent.len() as u32
    }

    /// Adds a piece whose first voxel is `first`, without a voxel, and returns its number.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], [`Error::Unsupported`] for more than 2³² - 1.
    pub(super) fn add(&mut self, first: u64, key: u64) -> Result<u32> {
        let number = u32::try_from(self.parent.len()).ok().filter(|&n| n < u32::MAX);
        let number = number.ok_or_else(|| {
            Error::unsupported(
                "the volume has more than 4,294,967,294 pieces of objects",
                "smooth it, or clear isolated voxels first",
            )
        })?;
        let what = || format!("a table of {number} pieces of objects");
        reserve(&mut self.parent, 1, what)?;
        reserve(&mut self.first, 1, what)?;
        reserve(&mut self.voxels, 1, what)?;
        self.parent.push(number);
        self.first.push(first);
        self.voxels.push(0);
        if self.rule != JoinRule::All {
            reserve(&mut self.keys, 1, what)?;
            self.keys.push(key);
        }
        Ok(number)
    }

    /// Adds voxels to a piece, the first of which is `first`.
    pub(super) fn extend(&mut self, piece: u32, first: u64, voxels: u64) {
        let piece = piece as usize;
        self.first[piece] = self.first[piece].min(first);
        self.voxels[piece] += voxels;
    }

    /// Notes that two pieces of different boxes touch.
    pub(super) fn touch(&mut self, one: u32, other: u32) {
        let key = |piece: u32| self.keys[piece as usize];
        let belong = match self.rule {
            JoinRule::All => true,
            JoinRule::EqualKeys => key(one) == key(other),
            JoinRule::OtherKeys => key(one) != key(other),
        };
        if belong {
            join(&mut self.parent, one, other);
        }
    }

    /// Numbers the objects that stay, in C order of their first voxels.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn number(self, options: &ComponentOptions) -> Result<ObjectNumbers> {
        let Self { mut parent, mut first, mut voxels, .. } = self;
        let what = || format!("the objects of {} pieces", parent.len());
        let mut of_piece = zeroed::<u32>(parent.len(), what)?;
        // A parent comes before its pieces.
        for piece in 1..parent.len() {
            let root = parent[parent[piece] as usize] as usize;
            if root != piece {
                parent[piece] = root as u32;
                first[root] = first[root].min(first[piece]);
                voxels[root] += voxels[piece];
            }
        }
        let stays = |&piece: &u32| {
            parent[piece as usize] == piece && voxels[piece as usize] >= options.min_voxels
        };
        let all = 1..parent.len() as u32;
        let count = all.clone().filter(stays).count() as u64;
        let mut objects = collected(all.filter(stays), count, || format!("{count} objects"))?;
        let first = |piece: u32| first[piece as usize];
        if let Some(most) = options.largest.filter(|&most| most < objects.len()) {
            objects.sort_unstable_by_key(|&piece| (Reverse(voxels[piece as usize]), first(piece)));
            objects.truncate(most);
        }
        objects.sort_unstable_by_key(|&piece| first(piece));
        for (number, &piece) in (1..).zip(&objects) {
            of_piece[piece as usize] = number;
        }
        for piece in 1..parent.len() {
            of_piece[piece] = of_piece[parent[piece] as usize];
        }
        Ok(ObjectNumbers { of_piece, count: objects.len() as u32 })
    }
}
