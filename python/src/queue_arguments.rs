//! Arguments of a queue: which volumes of which subjects are read, and how they are padded.

use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString};
use voxquarry::{Normalization, Orientation, QueueVolume};

use crate::arguments::{bytes, channels, padding};
use crate::augment::Augment;
use crate::dataset::Dataset;
use crate::errors::{invalid, raise, unsupported};
use crate::resampled::spacing_of;

/// The keys of a batch beside its volumes.
pub(crate) const KEYS: [&str; 2] = ["location", "subject"];

/// The key of an augmented batch's transforms.
pub(crate) const TRANSFORM: &str = "transform";

/// The names in `value`; without it, the volumes of the first subject.
pub(crate) fn volume_names(
    py: Python<'_>,
    store: &voxquarry::Dataset,
    value: Option<&Bound<'_, PyAny>>,
    subjects: Option<&[(String, u64)]>,
) -> PyResult<Vec<String>> {
    let volumes = if let Some(value) = value {
        names(value, "volumes")?
    } else {
        let first = match subjects {
            Some(subjects) => subjects.first().map(|(name, _)| name),
            None => store.subjects().first(),
        };
        let open = || first.map(|name| store.subject(name)).transpose();
        py.detach(open).map_err(raise)?.map_or(Vec::new(), |s| s.volumes().to_vec())
    };
    match volumes.iter().find(|name| KEYS.contains(&name.as_str())) {
        None => Ok(volumes),
        Some(name) => Err(unsupported(
            format!("volume {name:?}: every batch uses that name for something else"),
            "ingest the volume under another name",
        )),
    }
}

/// One name, or a list of names.
fn names(value: &Bound<'_, PyAny>, what: &'static str) -> PyResult<Vec<String>> {
    if let Ok(name) = value.cast::<PyString>() {
        return Ok(vec![name.to_str()?.to_owned()]);
    }
    let listed = || value.try_iter()?.map(|name| name?.extract()).collect::<PyResult<_>>();
    listed().map_err(|_| invalid(what, value, "a name or a list of names"))
}

/// Subjects and their numbers of patches, from names, a mapping or pairs.
pub(crate) fn subjects(value: &Bound<'_, PyAny>, each: u64) -> PyResult<Vec<(String, u64)>> {
    let error =
        || invalid("subjects", value, "names, or a mapping from names to numbers of patches");
    if let Ok(mapping) = value.cast::<PyMapping>() {
        let pairs = mapping.items()?;
        return pairs.extract().map_err(|_| error());
    }
    if let Ok(pairs) = value.extract::<Vec<(String, u64)>>() {
        return Ok(pairs);
    }
    let names = names(value, "subjects").map_err(|_| error())?;
    Ok(names.into_iter().map(|name| (name, each)).collect())
}

/// What is chosen for all volumes, or by volume.
pub(crate) struct VolumeChoices<'a, 'py> {
    pub(crate) padding: Option<&'a Bound<'py, PyAny>>,
    pub(crate) channels: Option<&'a Bound<'py, PyAny>>,
    pub(crate) normalize: Option<&'a Bound<'py, PyAny>>,
}

impl VolumeChoices<'_, '_> {
    /// The volumes as the queue reads them.
    pub(crate) fn queue_volumes(&self, names: &[String]) -> PyResult<Vec<QueueVolume>> {
        refuse_unread(self.padding, names, "padding names")?;
        refuse_unread(self.channels, names, "channels name")?;
        refuse_unread(self.normalize, names, "normalize names")?;
        let volume = |name: &String| {
            let mut volume = QueueVolume::new(name);
            if let Some(own) = own(self.padding, name)? {
                volume = volume.padding(padding(Some(&own))?);
            }
            if let Some(own) = own(self.channels, name)? {
                volume = volume.channels(channels(&own)?);
            }
            if let Some(own) = own(self.normalize.filter(|value| is_mapping(value)), name)? {
                volume = volume.normalize(normalization(&own)?);
            }
            Ok(volume)
        };
        names.iter().map(volume).collect()
    }

    /// The normalisation of all images, unless each volume has its own.
    pub(crate) fn normalization(&self) -> PyResult<Option<Normalization>> {
        self.normalize.filter(|value| !is_mapping(value)).map(normalization).transpose()
    }
}

fn is_mapping(value: &Bound<'_, PyAny>) -> bool {
    value.cast::<PyMapping>().is_ok()
}

/// What is chosen for a volume, if anything is.
fn own<'py>(
    chosen: Option<&Bound<'py, PyAny>>,
    name: &String,
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let Some(chosen) = chosen else { return Ok(None) };
    let own = match chosen.cast::<PyMapping>() {
        Ok(mapping) if mapping.contains(name)? => mapping.get_item(name)?,
        Ok(_) => return Ok(None),
        Err(_) => chosen.clone(),
    };
    Ok((!own.is_none()).then_some(own))
}

/// `"zscore"` or a window.
fn normalization(value: &Bound<'_, PyAny>) -> PyResult<Normalization> {
    let is_zscore = value.cast::<PyString>().is_ok_and(|text| text == "zscore");
    let window = value.extract::<(f64, f64)>().map(|(low, high)| Normalization::Window(low, high));
    let found = if is_zscore { Some(Normalization::ZScore) } else { window.ok() };
    let expected = "\"zscore\", two numbers, or a mapping from volumes to these";
    found.ok_or_else(|| invalid("normalize", value, expected))
}

/// Spacing and orientation of a view.
type ViewOf = (Option<[f64; 3]>, Option<Orientation>);

/// The store of a `Dataset`, or of a `ResampledDataset` with its spacing and orientation.
pub(crate) fn dataset_of<'py>(
    value: &Bound<'py, PyAny>,
) -> PyResult<(Bound<'py, Dataset>, Option<ViewOf>)> {
    if let Ok(dataset) = value.cast::<Dataset>() {
        return Ok((dataset.clone(), None));
    }
    let refused = || invalid("dataset", value, "a Dataset, or a view that its at() gave");
    let class = value.py().import("voxquarry._resampled")?.getattr("ResampledDataset")?;
    if !value.is_instance(&class)? {
        return Err(refused());
    }
    let spacing = value.getattr("_spacing")?;
    let spacing = (!spacing.is_none()).then(|| spacing_of(&spacing)).transpose()?;
    let turn: Option<String> = value.getattr("_orientation")?.extract()?;
    let turn = turn.map(|turn| turn.parse::<Orientation>()).transpose().map_err(raise)?;
    Ok((value.getattr("_of")?.cast_into().map_err(|_| refused())?, Some((spacing, turn))))
}

/// The augmentation of a queue over `volumes`.
pub(crate) fn augmentation(
    augment: Option<&Bound<'_, Augment>>,
    is_view: bool,
    volumes: &[String],
) -> PyResult<Option<voxquarry::Augment>> {
    let has_transform = is_view || augment.is_some();
    if has_transform && volumes.iter().any(|name| name == TRANSFORM) {
        return Err(unsupported(
            format!(
                "volume {TRANSFORM:?}: batches with transforms use that name for something else"
            ),
            "ingest the volume under another name",
        ));
    }
    Ok(augment.map(|augment| augment.get().inner.clone()))
}

/// A number of bytes, if there is one.
pub(crate) fn size(value: Option<&Bound<'_, PyAny>>, name: &'static str) -> PyResult<Option<u64>> {
    value.map(|value| bytes(value, name)).transpose()
}

/// Refuses a mapping that names a volume that is not read; `what` begins the message.
fn refuse_unread(value: Option<&Bound<'_, PyAny>>, names: &[String], what: &str) -> PyResult<()> {
    let Some(Ok(mapping)) = value.map(|value| value.cast::<PyMapping>()) else { return Ok(()) };
    for name in mapping.keys()?.iter() {
        if !name.extract::<String>().is_ok_and(|name| names.contains(&name)) {
            return Err(unsupported(
                format!("{what} {}, which is not read", name.repr()?),
                "leave it out, or add it to volumes",
            ));
        }
    }
    Ok(())
}
