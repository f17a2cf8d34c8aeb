//! The sources that were found so far: every layout adds to them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use voxquarry::Result;
use voxquarry::format::attributes::Kind;

use crate::files::is_folder;
use crate::formats::{FoundVolume, Place, volumes_in};
use crate::input::VolumeInput;
use crate::manifest::{Manifest, Source};

/// The sources of a data set, and sentences about how they were found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// The sources.
    pub manifest: Manifest,
    /// What was recognised, and what was ignored.
    pub notes: Vec<String>,
}

impl Found {
    /// Adds an image to a subject. If it is one volume it gets the name `volume`; several have
    /// names of their own.
    pub(super) fn add_image(
        &mut self,
        subject: &str,
        volume: &str,
        kind: Kind,
        input: impl Into<VolumeInput>,
    ) -> Result<()> {
        let input = input.into();
        let VolumeInput::Place(Place::File(path)) = &input else {
            return self.manifest.push(Source::new(subject, volume, kind, input));
        };
        let (found, is_folder) = (volumes_in(path)?, is_folder(path)?);
        // Each series of a study may have a folder, and the name of its modality.
        let is_study = is_folder && found.iter().all(|volume| volume.name.is_some());
        if found.len() > 1 || is_study {
            // What lies in one file or study need not lie on one grid.
            self.manifest.split_subject_by_grid(subject);
        }
        for FoundVolume { name, kind: stated, place } in found {
            let name = name.map(|name| plain_name(&name)).filter(|name| !name.is_empty());
            let by_name = name.as_ref().map(|name| kind_of_name(name));
            let kind = stated.or(by_name).unwrap_or(kind);
            let mut name = name.unwrap_or_else(|| volume.to_owned());
            if is_study {
                name = self.manifest.unused_name(subject, name);
            }
            self.manifest.push(Source::new(subject, &name, kind, place))?;
        }
        Ok(())
    }

    /// Says which volumes hold labels, where that follows from their names alone.
    pub(super) fn note_kinds(&mut self) {
        let labels = self.manifest.subjects().iter().flat_map(|(_, sources)| sources);
        let labels = labels.filter(|source| source.kind == Kind::Labels);
        let labels: BTreeSet<_> = labels.map(|source| source.volume.as_str()).collect();
        if !labels.is_empty() {
            let labels: Vec<_> = labels.into_iter().collect();
            self.notes.push(format!("by their names these are labels: {}", labels.join(", ")));
        }
    }

    /// Says which files were left out, with the first few names.
    pub(super) fn ignore(&mut self, files: &[PathBuf], why: &str) {
        const SHOWN: usize = 3;
        if files.is_empty() {
            return;
        }
        let mut names: Vec<_> =
            files.iter().take(SHOWN).map(|path| path.display().to_string()).collect();
        if files.len() > SHOWN {
            names.push(format!("… ({} in all)", files.len()));
        }
        self.notes.push(format!("ignored, because {why}: {}", names.join(", ")));
    }
}

/// Whether a volume of this name holds labels, as far as names tell.
pub(super) fn kind_of_name(volume: &str) -> Kind {
    const LABELS: [&str; 11] = [
        "label",
        "labels",
        "seg",
        "segs",
        "segmentation",
        "mask",
        "masks",
        "dseg",
        "gt",
        "annotation",
        "annotations",
    ];
    let lower = volume.to_lowercase();
    let mut words = lower.split(|c: char| !c.is_alphanumeric());
    if words.any(|word| LABELS.contains(&word)) { Kind::Labels } else { Kind::Image }
}

/// A name of a volume or split made of any text: without separators, and not hidden.
pub(super) fn plain_name(text: &str) -> String {
    let plain = text.trim().replace(['/', '\\'], "_").replace(char::is_control, "_");
    plain.trim_start_matches(['.', '_']).to_owned()
}
