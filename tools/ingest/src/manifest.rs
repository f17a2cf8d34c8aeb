//! Lists the inputs of an ingest, each a volume of a subject, with the splits of the subjects and
//! the names of the labels.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;

use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::format::check_name;
use voxquarry::{Error, Result};

use crate::files::file_name;
use crate::formats;
use crate::input::VolumeInput;

/// One input that becomes one volume of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Subject it belongs to.
    pub subject: String,
    /// Name of the volume in the subject.
    pub volume: String,
    /// Image or labels.
    pub kind: Kind,
    /// The file, or the voxels.
    pub input: VolumeInput,
    /// Where the table lists it, as in `table.csv line 3`; empty for arguments.
    pub named_in: String,
}

impl Source {
    /// A source that no table lists.
    pub fn new(
        subject: impl Into<String>,
        volume: impl Into<String>,
        kind: Kind,
        input: impl Into<VolumeInput>,
    ) -> Self {
        let (subject, volume) = (subject.into(), volume.into());
        Self { subject, volume, kind, input: input.into(), named_in: String::new() }
    }
}

/// What a table or an option says about a volume.
///
/// ```
/// use voxquarry_ingest::SourceKind;
///
/// assert_eq!("labels".parse::<SourceKind>()?, SourceKind::Labels);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceKind {
    /// Intensities.
    Image,
    /// Integer ids.
    Labels,
    /// An image of weights for weighted sampling.
    Weights,
}

impl FromStr for SourceKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "image" => Ok(Self::Image),
            "labels" => Ok(Self::Labels),
            "weights" => Ok(Self::Weights),
            other => Err(Error::invalid("kind", format!("{other:?}"), "image, labels or weights")),
        }
    }
}

impl SourceKind {
    /// The kind in the store, and whether chunk sums are stored for sampling.
    pub(crate) fn parts(self) -> (Kind, bool) {
        match self {
            Self::Image => (Kind::Image, false),
            Self::Labels => (Kind::Labels, false),
            Self::Weights => (Kind::Image, true),
        }
    }
}

/// Volumes to ingest, grouped by subject in the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    subjects: Vec<(String, Vec<Source>)>,
    /// The place of each subject in `subjects`.
    places: HashMap<String, usize>,
    /// Subject and volume of each source of weights.
    weights: HashSet<(String, String)>,
    /// The splits that each subject belongs to.
    splits: HashMap<String, BTreeSet<String>>,
    /// The names of the labels of each volume.
    label_names: BTreeMap<String, Vec<LabelName>>,
    /// Whether volumes of each subject that lie on different grids become subjects of their own.
    are_split_by_grid: bool,
    /// The subjects of which that holds, if not of all.
    split_by_grid: BTreeSet<String>,
}

impl Manifest {
    /// A manifest without sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that the format does not allow, and
    /// [`Error::Unsupported`] for a volume that the subject has already.
    pub fn push(&mut self, source: Source) -> Result<()> {
        let located = |e: Error| located_in(&source.named_in, e);
        check_name("subject", &source.subject).map_err(located)?;
        check_name("volume", &source.volume).map_err(located)?;
        let place = *self.places.entry(source.subject.clone()).or_insert_with(|| {
            self.subjects.push((source.subject.clone(), Vec::new()));
            self.subjects.len() - 1
        });
        let group = &mut self.subjects[place].1;
        if group.iter().any(|other| other.volume == source.volume) {
            let twice =
                format!("subject {:?} names volume {:?} twice", source.subject, source.volume);
            return Err(located(Error::unsupported(twice, "give one of them another name")));
        }
        group.push(source);
        Ok(())
    }

    /// Adds a source of weights: an image whose chunk sums are stored beside it, for weighted
    /// sampling.
    ///
    /// # Errors
    /// As [`Manifest::push`].
    pub fn push_weights(&mut self, source: Source) -> Result<()> {
        let names = (source.subject.clone(), source.volume.clone());
        self.push(source)?;
        self.weights.insert(names);
        Ok(())
    }

    /// Adds a source as one of `kind`, which takes the place of its own.
    ///
    /// # Errors
    /// As [`Manifest::push`].
    pub fn push_as(&mut self, kind: SourceKind, source: Source) -> Result<()> {
        let (kind, is_weights) = kind.parts();
        let source = Source { kind, ..source };
        if is_weights { self.push_weights(source) } else { self.push(source) }
    }

    /// Whether a source was added as weights.
    pub fn is_weights(&self, source: &Source) -> bool {
        self.weights.contains(&(source.subject.clone(), source.volume.clone()))
    }

    /// Adds a file as volume `image` of a subject that is named after it.
    ///
    /// # Errors
    /// As [`Manifest::push`].
    pub fn push_file(&mut self, path: &Path) -> Result<()> {
        self.push(Source::new(subject_of(path), "image", Kind::Image, path))
    }

    /// Puts a subject into a split, such as `train`.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that the format does not allow.
    pub fn add_to_split(&mut self, subject: &str, split: &str) -> Result<()> {
        check_name("split", split)?;
        self.splits.entry(subject.to_owned()).or_default().insert(split.to_owned());
        Ok(())
    }

    /// The splits that a subject belongs to, sorted.
    pub fn splits_of(&self, subject: &str) -> Vec<String> {
        self.splits.get(subject).into_iter().flatten().cloned().collect()
    }

    /// The names of all splits, sorted.
    pub(crate) fn split_names(&self) -> Vec<String> {
        self.splits.values().flatten().cloned().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Names the labels of the volume called `volume`, in all subjects.
    pub fn set_label_names(&mut self, volume: &str, names: Vec<LabelName>) {
        if !names.is_empty() {
            self.label_names.insert(volume.to_owned(), names);
        }
    }

    /// The names of the labels of all volumes that have some, by volume.
    pub(crate) fn label_names(&self) -> &BTreeMap<String, Vec<LabelName>> {
        &self.label_names
    }

    /// The names of the labels of a source; none of an image.
    pub(crate) fn label_names_of(&self, source: &Source) -> Vec<LabelName> {
        let names = self.label_names.get(&source.volume);
        names.filter(|_| source.kind == Kind::Labels).cloned().unwrap_or_default()
    }

    /// Makes subjects of their own of volumes that lie on different grids.
    pub(crate) fn split_by_grid(&mut self) {
        self.are_split_by_grid = true;
    }

    /// As [`split_by_grid`](Self::split_by_grid), for the volumes of one subject.
    pub(crate) fn split_subject_by_grid(&mut self, subject: &str) {
        self.split_by_grid.insert(subject.to_owned());
    }

    pub(crate) fn is_split_by_grid(&self, subject: &str) -> bool {
        self.are_split_by_grid || self.split_by_grid.contains(subject)
    }

    pub(crate) fn has(&self, subject: &str) -> bool {
        self.places.contains_key(subject)
    }

    pub(crate) fn has_volume(&self, subject: &str, volume: &str) -> bool {
        let place = self.places.get(subject);
        place.is_some_and(|&place| self.subjects[place].1.iter().any(|s| s.volume == volume))
    }

    /// The name, with a number where the subject has a volume of that name.
    pub(crate) fn unused_name(&self, subject: &str, name: String) -> String {
        if !self.has_volume(subject, &name) {
            return name;
        }
        // There are fewer volumes than numbers.
        let numbered = (2..).map(|number: u64| format!("{name}_{number}"));
        let mut unused = numbered.filter(|name| !self.has_volume(subject, name));
        unused.next().expect("numbers do not end")
    }

    /// The names of all volumes, sorted.
    pub(crate) fn volume_names(&self) -> Vec<String> {
        let sources = self.subjects.iter().flat_map(|(_, sources)| sources);
        let names: BTreeSet<_> = sources.map(|source| source.volume.clone()).collect();
        names.into_iter().collect()
    }

    /// Sets the kind of all volumes of that name, and returns whether there are some.
    pub(crate) fn set_kind(&mut self, volume: &str, kind: SourceKind) -> bool {
        let (kind, is_weights) = kind.parts();
        let sources = self.subjects.iter_mut().flat_map(|(_, sources)| sources);
        let mut is_there = false;
        for source in sources.filter(|source| source.volume == volume) {
            is_there = true;
            source.kind = kind;
            let names = (source.subject.clone(), source.volume.clone());
            if is_weights {
                self.weights.insert(names);
            } else {
                self.weights.remove(&names);
            }
        }
        is_there
    }

    /// Leaves out the subjects that `is_wanted` refuses, by their names and splits.
    pub(crate) fn retain(&mut self, is_wanted: impl Fn(&str, &BTreeSet<String>) -> bool) {
        let none = BTreeSet::new();
        let splits = &self.splits;
        self.subjects.retain(|(name, _)| is_wanted(name, splits.get(name).unwrap_or(&none)));
        let names = self.subjects.iter().map(|(name, _)| name.clone());
        self.places = names.enumerate().map(|(place, name)| (name, place)).collect();
    }

    /// The subjects and their sources, in the order of first appearance.
    pub fn subjects(&self) -> &[(String, Vec<Source>)] {
        &self.subjects
    }
}

/// Puts the table and line before an error, where there are any.
pub(crate) fn located_in(named_in: &str, error: Error) -> Error {
    if named_in.is_empty() {
        return error;
    }
    match error {
        Error::InvalidArgument { argument, value, expected } => {
            Error::invalid(format!("{named_in}: {argument}"), value, expected)
        }
        Error::Unsupported { reason, remedy } => {
            Error::unsupported(format!("{named_in}: {reason}"), remedy)
        }
        other => other,
    }
}

/// Refuses a missing file. Opening reports every other fault.
pub(crate) fn check_present(path: &Path, named_in: &str) -> Result<()> {
    match path.try_exists() {
        Ok(false) => {
            Err(Error::NoSuchFile { path: path.to_owned(), named_in: named_in.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The name of a subject for a file: the file's name without the ending of its format.
pub fn subject_of(path: &Path) -> String {
    formats::stem(&file_name(path)).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_named_without_image_extensions() {
        for (name, stem) in [
            ("a/ct.nii.gz", "ct"),
            ("ct.NII", "ct"),
            ("x.y.hdr", "x.y"),
            (".nii", ".nii"),
            ("b.img.gz", "b"),
        ] {
            assert_eq!(subject_of(Path::new(name)), stem);
        }
    }
}
