//! Finds the volumes of a subject that decide where its patches lie.

use super::missing::Lack;
use crate::format::attributes::Kind;
use crate::{Error, Result, Subject, Volume};

/// The label map called `name`, or the first label map of the subject.
///
/// # Errors
/// [`Error::NotFound`] for a name that the subject does not have, [`Error::Unsupported`] for a
/// subject without a label map; what opening the volume returns.
pub(super) fn label_map(subject: &Subject, name: Option<&str>) -> Result<Volume> {
    if let Some(name) = name {
        return subject.volume(name);
    }
    if let Ok(volume) = label_map_if_any(subject, None)? {
        return Ok(volume);
    }
    Err(Error::unsupported(
        format!(
            "subject {:?} has no label map among its volumes {}",
            subject.name(),
            subject.volumes().join(", ")
        ),
        "ingest one of them as labels, or name the volume to sample by",
    ))
}

/// As [`label_map`], or what the subject lacks.
///
/// # Errors
/// What opening the volume returns.
pub(super) fn label_map_if_any(
    subject: &Subject,
    name: Option<&str>,
) -> Result<Result<Volume, Lack>> {
    if let Some(name) = name {
        return volume_if_any(subject, name);
    }
    for name in subject.volumes() {
        let volume = subject.volume(name)?;
        if volume.kind() == Kind::Labels {
            return Ok(Ok(volume));
        }
    }
    Ok(Err(Lack::new("no label map")))
}

/// The volume called `name`, or what the subject lacks.
///
/// # Errors
/// What opening the volume returns.
pub(super) fn volume_if_any(subject: &Subject, name: &str) -> Result<Result<Volume, Lack>> {
    if subject.volumes().iter().any(|volume| volume == name) {
        return subject.volume(name).map(Ok);
    }
    Ok(Err(Lack::new(format!("no volume {name:?}"))))
}

/// Checks that a volume has that channel.
///
/// # Errors
/// [`Error::InvalidArgument`] if it does not.
pub(super) fn check_channel(volume: &Volume, channel: usize) -> Result<()> {
    let channels = volume.layout().channel_count();
    if channel < channels {
        return Ok(());
    }
    let expected = format!("0 to {}, a channel of volume {:?}", channels - 1, volume.name());
    Err(Error::invalid("channel", channel, expected))
}
