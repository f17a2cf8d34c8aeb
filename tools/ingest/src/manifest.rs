//! Lists the inputs of an ingest, each a volume of a subject; from arguments or from a CSV table.

use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::format::check_name;
use voxquarry::{Error, Result};

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

/// Volumes to ingest, grouped by subject in the order of first appearance.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    subjects: Vec<(String, Vec<Source>)>,
    /// Subject and volume of each source of weights.
    weights: Vec<(String, String)>,
}

impl Manifest {
    /// A manifest without sources.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a name that the format does not allow, [`Error::Unsupported`]
    /// for a volume that the subject has already, and [`Error::NoSuchFile`].
    pub fn push(&mut self, source: Source) -> Result<()> {
        let located = |e: Error| located_in(&source.named_in, e);
        check_name("subject", &source.subject).map_err(located)?;
        check_name("volume", &source.volume).map_err(located)?;
        let known = self.subjects.iter().position(|(name, _)| *name == source.subject);
        let group = known.unwrap_or_else(|| {
            self.subjects.push((source.subject.clone(), Vec::new()));
            self.subjects.len() - 1
        });
        let group = &mut self.subjects[group].1;
        if group.iter().any(|other| other.volume == source.volume) {
            let twice =
                format!("subject {:?} names volume {:?} twice", source.subject, source.volume);
            return Err(located(Error::unsupported(twice, "give one of them another name")));
        }
        if let VolumeInput::File(path) = &source.input {
            check_present(path, &source.named_in)?;
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
        self.weights.push(names);
        Ok(())
    }

    /// Whether a source was added as weights.
    pub fn is_weights(&self, source: &Source) -> bool {
        self.weights
            .iter()
            .any(|(subject, volume)| *subject == source.subject && *volume == source.volume)
    }

    /// Adds a file as volume `image` of a subject that is named after it.
    ///
    /// # Errors
    /// As [`Manifest::push`].
    pub fn push_file(&mut self, path: &Path) -> Result<()> {
        let (subject, input) = (subject_of(path), path.into());
        self.push(Source {
            subject,
            volume: "image".into(),
            kind: Kind::Image,
            input,
            named_in: String::new(),
        })
    }

    /// Reads a table with the columns `subject,volume,kind,path`. Relative paths start at the
    /// table's folder.
    ///
    /// # Errors
    /// [`Error::Io`], and the errors of [`Manifest::push`] with the line of the table.
    pub fn from_csv(table: &Path) -> Result<Self> {
        check_present(table, "")?;
        let file = std::fs::File::open(table).map_err(Error::io(table, "cannot open"))?;
        let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(file);
        let wrong = |reason: String| {
            let columns = "write a CSV table with the columns subject,volume,kind,path";
            Error::unsupported(format!("{}: {reason}", table.display()), columns)
        };
        let headers = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
        let column = |name: &str| {
            let place = headers.iter().position(|h| h.trim_start_matches('\u{feff}') == name);
            place.ok_or_else(|| wrong(format!("no column {name:?}")))
        };
        let [subject, volume, kind, path] =
            [column("subject")?, column("volume")?, column("kind")?, column("path")?];
        let folder = table.parent().unwrap_or(Path::new(""));
        let mut manifest = Self::new();
        for record in reader.records() {
            let record = record.map_err(|e| wrong(e.to_string()))?;
            let line = record.position().map_or(0, csv::Position::line);
            let named_in = format!("{} line {line}", table.display());
            let (kind, is_weights) = match &record[kind] {
                "image" => (Kind::Image, false),
                "labels" => (Kind::Labels, false),
                "weights" => (Kind::Image, true),
                other => {
                    let (kind, found) = (format!("{named_in}: kind"), format!("{other:?}"));
                    return Err(Error::invalid(kind, found, "image, labels or weights"));
                }
            };
            let input = folder.join(&record[path]).into();
            let (subject, volume) = (record[subject].to_owned(), record[volume].to_owned());
            let source = Source { subject, volume, kind, input, named_in };
            if is_weights {
                manifest.push_weights(source)?;
            } else {
                manifest.push(source)?;
            }
        }
        if manifest.subjects.is_empty() {
            return Err(wrong("the table has no rows".into()));
        }
        Ok(manifest)
    }

    /// The subjects and their sources, in the order of first appearance.
    pub fn subjects(&self) -> &[(String, Vec<Source>)] {
        &self.subjects
    }
}

/// Puts the table and line before an error, where there are any.
fn located_in(named_in: &str, error: Error) -> Error {
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
fn check_present(path: &Path, named_in: &str) -> Result<()> {
    match path.try_exists() {
        Ok(false) => {
            Err(Error::NoSuchFile { path: path.to_owned(), named_in: named_in.to_owned() })
        }
        _ => Ok(()),
    }
}

/// The name of a subject for a file: the file's name without its image extensions.
pub fn subject_of(path: &Path) -> String {
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let stem = |name: &str, extension: &str| {
        let cut = name.len().checked_sub(extension.len())?;
        (cut > 0 && name.is_char_boundary(cut) && name[cut..].eq_ignore_ascii_case(extension))
            .then(|| name[..cut].to_owned())
    };
    let bare = stem(&name, ".gz").unwrap_or(name);
    [".nii", ".hdr", ".img"].iter().find_map(|e| stem(&bare, e)).unwrap_or(bare)
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

    #[test]
    fn tables_are_grouped_by_subject_and_mistakes_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.nii", "b.nii"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let table = folder.path().join("t.csv");
        let parse = |text: &str| {
            std::fs::write(&table, text).unwrap();
            Manifest::from_csv(&table)
        };
        let rows =
            "image,a.nii,s1,ct\nimage,b.nii,s2,ct\nlabels, b.nii ,s1,seg\nweights,a.nii,s2,heat\n";
        let manifest = parse(&format!("kind,path,subject,volume\n{rows}")).unwrap();
        let names: Vec<_> =
            manifest.subjects().iter().map(|(n, v)| (n.as_str(), v.len())).collect();
        assert_eq!(names, [("s1", 2), ("s2", 2)]);
        let heat = &manifest.subjects()[1].1[1];
        assert!(manifest.is_weights(heat) && heat.kind == Kind::Image);
        assert!(!manifest.is_weights(&manifest.subjects()[1].1[0]));
        assert_eq!(manifest.subjects()[0].1[1].kind, Kind::Labels);
        let head = "subject,volume,kind,path\n";
        for (row, words) in [
            ("s,ct,image,gone.nii\n", ["line 2", "no file"]),
            ("s,ct,picture,a.nii\n", ["line 2", "kind"]),
            ("s,ct,image,a.nii\ns,ct,image,b.nii\n", ["line 3", "twice"]),
            ("../s,ct,image,a.nii\n", ["line 2", "name"]),
            ("s,ct\n", ["line: 2", "fields"]),
        ] {
            let message = parse(&format!("{head}{row}")).unwrap_err().to_string();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        }
        assert!(parse("subject,volume,path\n").unwrap_err().to_string().contains("kind"));
        assert!(parse(head).unwrap_err().to_string().contains("no rows"));
    }
}
