//! Arguments of a queue: which volumes of which subjects are read, and how they are padded.

use pyo3::prelude::*;
use pyo3::types::{PyMapping, PyString};
use voxquarry::{Padding, QueueVolume};

use crate::arguments::{channels, padding};
use crate::errors::{invalid, raise, unsupported};

/// The keys of a batch beside its volumes.
pub(crate) const KEYS: [&str; 2] = ["location", "subject"];

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

/// The padding of each volume; the sampler's own where none is given.
pub(crate) fn paddings(
    volumes: &[String],
    value: Option<&Bound<'_, PyAny>>,
    default: Padding,
) -> PyResult<Vec<Padding>> {
    let mapping = value.and_then(|value| value.cast::<PyMapping>().ok());
    if let Some(mapping) = mapping {
        refuse_unread(mapping, volumes, "padding names")?;
    }
    let of = |name: &String| {
        let own = match mapping {
            Some(mapping) if mapping.contains(name)? => Some(mapping.get_item(name)?),
            Some(_) => None,
            None => value.cloned(),
        };
        match own.filter(|value| !value.is_none()) {
            Some(value) => padding(Some(&value)),
            None => Ok(default),
        }
    };
    volumes.iter().map(of).collect()
}

/// The volumes as the queue reads them; `chosen` are the channels, of all volumes or by volume.
pub(crate) fn queue_volumes(
    names: &[String],
    paddings: &[Padding],
    chosen: Option<&Bound<'_, PyAny>>,
) -> PyResult<Vec<QueueVolume>> {
    let mapping = chosen.and_then(|chosen| chosen.cast::<PyMapping>().ok());
    if let Some(mapping) = mapping {
        refuse_unread(mapping, names, "channels name")?;
    }
    let volume = |(name, &padding): (&String, &Padding)| {
        let own = match mapping {
            Some(mapping) if mapping.contains(name)? => Some(mapping.get_item(name)?),
            Some(_) => None,
            None => chosen.cloned(),
        };
        let volume = QueueVolume::new(name).padding(padding);
        Ok(match own.filter(|own| !own.is_none()) {
            Some(own) => volume.channels(channels(&own)?),
            None => volume,
        })
    };
    names.iter().zip(paddings).map(volume).collect()
}

/// Refuses a mapping that names a volume that is not read; `what` begins the message.
fn refuse_unread(mapping: &Bound<'_, PyMapping>, names: &[String], what: &str) -> PyResult<()> {
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
