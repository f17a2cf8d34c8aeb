//! The coarser levels of a volume, each a volume of its own to read.
//!
//! # Invariants
//! - A level's document is read at the level's first use, and checked as strictly as level 0's.
//!
//! Not here: making levels (`pyramid`).

use std::sync::Arc;

use super::listed::{check_voxels, listed};
use super::volume::{OpenLevels, OpenVolume, Origin, Volume};
use crate::array::handle::ArrayHandle;
use crate::format::array::ArrayLayout;
use crate::format::attributes::{StoredLevel, VolumeAttributes};
use crate::format::levels::{coarser, level_folder, shard_list_folder};
use crate::{Error, Result, Size3};

impl Volume {
    /// The factors of each level, `(z, y, x)`: how many voxels of level 0 one of the level covers.
    /// The first is `[1, 1, 1]`; most volumes have no other, and a level has only itself.
    ///
    /// ```
    /// # let store = "format-spec/golden/v1-levels";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
    /// assert_eq!(volume.levels(), [[1, 1, 1], [2, 1, 1], [4, 2, 2]]);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    pub fn levels(&self) -> Vec<Size3> {
        let coarser = self.attributes().levels.iter().map(|level| level.factors);
        [[1; 3]].into_iter().chain(coarser).collect()
    }

    /// Which level of its volume it is; 0 for the volume itself.
    pub fn level_number(&self) -> usize {
        self.own_level()
    }

    /// The volume at a level: 0 is the volume itself, 1 the next coarser one, and so on.
    ///
    /// It has the interface of a volume: extents, spacing, affine, statistics and voxels are the
    /// level's; it has no source; all else is the volume's. Label counts and sums of weights are
    /// computed where they are needed.
    ///
    /// ```
    /// # let store = "format-spec/golden/v1-levels";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
    /// let level = volume.level(2)?;
    /// assert_eq!((volume.size(), level.size()), ([6, 10, 20], [2, 5, 10]));
    /// assert!(volume.level(3).unwrap_err().to_string().contains("0 to 2"));
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if there is no such level; [`Error::Metadata`] if its document is
    /// missing, damaged or of another level; [`Error::Io`].
    pub fn level(&self, level: usize) -> Result<Volume> {
        if level == 0 {
            return Ok(self.clone());
        }
        let stored =
            self.attributes().levels.get(level - 1).zip(self.opened_levels().get(level - 1));
        let (stored, opened) = stored.ok_or_else(|| self.lacks_level(level))?;
        if let Some(volume) = opened.get() {
            return Ok(volume.clone());
        }
        let volume = self.open_level(level, stored)?;
        Ok(opened.get_or_init(|| volume).clone())
    }

    fn open_level(&self, level: usize, stored: &StoredLevel) -> Result<Volume> {
        let Some((folder, checksums)) = self.stored() else { return Err(self.lacks_level(level)) };
        let (finest, place) = (self.layout(), folder.join(level_folder(level)));
        let document = listed(&place, stored.level_crc32c, "volume")?;
        let layout = ArrayLayout::parse(&document)?;
        let expected = ArrayLayout { size: coarser(finest.size, stored.factors), ..finest.clone() };
        if layout.shape() != expected.shape() || layout.dtype != expected.dtype {
            let message = format!(
                "{:?} {}, expected {:?} {}: the level is of another volume",
                layout.shape(),
                layout.dtype,
                expected.shape(),
                expected.dtype
            );
            return Err(Error::metadata(document.path(), message));
        }
        check_voxels(&stored.statistics, &layout, document.path())?;
        let attributes = VolumeAttributes {
            affine: self.affine().scaled([1; 3], stored.factors),
            statistics: stored.statistics.clone(),
            shard_files: stored.shard_files,
            shards_crc32c: stored.shards_crc32c,
            summary_crc32c: None,
            nifti_crc32c: None,
            levels: Vec::new(),
            // An exporter would give the file of level 0 back.
            source: None,
            ..self.attributes().clone()
        };
        let list = (folder.join(shard_list_folder(level)), stored.shards_crc32c);
        let array = ArrayHandle::new(place.clone(), layout, list, self.array().context().clone());
        let content_id = u64::from(checksums.group_crc32c) << 32 | u64::from(stored.level_crc32c);
        Ok(Self::of(OpenVolume {
            name: self.name().to_owned(),
            origin: Origin::Level { folder: place, level, content_id },
            attributes,
            array: Arc::new(array),
            derived: self.derived_cache(),
            coarser: OpenLevels::default(),
        }))
    }

    fn lacks_level(&self, level: usize) -> Error {
        let expected = match self.attributes().levels.len() {
            0 => format!("0: {} has no other level; ingest it with levels", self.path().display()),
            last => format!("one of {}, 0 to {last}", self.path().display()),
        };
        Error::invalid("level", level, expected)
    }
}
