//! Datasets of open volumes, which need not be of one store.
//!
//! # Invariants
//! - The volumes of a subject lie on one grid.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::dataset::{Contents, Dataset, OpenDataset};
use super::options::OpenOptions;
use super::volume::Volume;
use crate::format::check_name;
use crate::{Error, Result};

impl Dataset {
    /// A dataset of open volumes, which need not be of one store: each with its subject and its
    /// name there. Every volume keeps its own cache; `options` say how many threads draw samples
    /// and read queues, and the default of a queue's cache.
    ///
    /// ```
    /// use voxquarry::{Dataset, OpenOptions};
    ///
    /// # let store = "format-spec/golden/v1";
    /// let volume = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
    /// let dataset = Dataset::of_volumes([("case01", "ct", volume)], &OpenOptions::default())?;
    /// assert_eq!(dataset.subject("case01")?.volume("ct")?.name(), "ct");
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that no subject or volume can have, or that is there
    /// twice; [`Error::Unsupported`] for volumes of a subject on different grids.
    pub fn of_volumes<S: Into<String>>(
        volumes: impl IntoIterator<Item = (S, S, Volume)>,
        options: &OpenOptions,
    ) -> Result<Self> {
        let mut subjects: BTreeMap<String, BTreeMap<String, Volume>> = BTreeMap::new();
        let mut path = None;
        for (subject, name, volume) in volumes {
            let (subject, name) = (subject.into(), name.into());
            check_name("subject", &subject)?;
            check_name("volume", &name)?;
            path.get_or_insert_with(|| volume.path().to_owned());
            let others = subjects.entry(subject.clone()).or_default();
            if let Some(first) = others.values().next() {
                check_grid(&subject, first, &name, &volume)?;
            }
            if others.insert(name.clone(), volume.named(&name)).is_some() {
                let found = format!("{subject}/{name}");
                return Err(Error::invalid("volume", found, "each volume of a subject once"));
            }
        }
        let names = subjects.keys().cloned().collect();
        let contents = Contents::Volumes { path: path.unwrap_or_default(), subjects };
        Ok(Self(Arc::new(OpenDataset::new(contents, names, options))))
    }
}

/// Checks that a volume lies on the grid of the subject's first one.
fn check_grid(subject: &str, first: &Volume, name: &str, volume: &Volume) -> Result<()> {
    let (one, other) = (first.size(), volume.size());
    let agrees = || first.affine().agrees_with(volume.affine(), one);
    let is_same_unit = || first.unit() == volume.unit();
    if one == other && is_same_unit() && agrees() {
        return Ok(());
    }
    let reason = if one == other {
        format!("subject {subject:?}: the affines of {:?} and {name:?} differ", first.name())
    } else {
        format!("subject {subject:?}: {:?} has {one:?} voxels, {name:?} {other:?}", first.name())
    };
    Err(Error::unsupported(reason, "put volumes of different grids into different subjects"))
}
