//! Tables of a whole data set: `subject,volume,kind,path`, separated by commas, semicolons or tabs.
//!
//! A column `split` may name a split of the subject; other columns are ignored.

use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::{Error, Result};

use super::tree;
use crate::manifest::{Manifest, Source, SourceKind, located_in};

const COLUMNS: [&str; 4] = ["subject", "volume", "kind", "path"];

/// Whether a path is that of a table.
pub(super) fn is_table(path: &Path) -> bool {
    path.extension().is_some_and(|e| ["csv", "tsv"].iter().any(|t| e.eq_ignore_ascii_case(t)))
}

impl Manifest {
    /// Reads a table with the columns `subject,volume,kind,path`, and perhaps `split`. Relative
    /// paths start at the table's folder.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`], [`Error::Io`]; [`Error::Unsupported`] with the columns that were
    /// found; for its rows those of [`Manifest::push`] with their lines, several as
    /// [`Error::Several`].
    pub fn from_csv(table: &Path) -> Result<Self> {
        let mut manifest = Self::new();
        manifest.extend_from_csv(table)?;
        Ok(manifest)
    }

    pub(super) fn extend_from_csv(&mut self, table: &Path) -> Result<()> {
        let text = tree::read_text(table)?;
        let header = text.lines().next().unwrap_or_default();
        let count = |separator: u8| header.bytes().filter(|&b| b == separator).count();
        // The last of equals is the comma.
        let separator = [b'\t', b';', b','].into_iter().max_by_key(|&s| count(s)).unwrap_or(b',');
        let mut reader = csv::ReaderBuilder::new();
        let mut reader =
            reader.trim(csv::Trim::All).delimiter(separator).from_reader(text.as_bytes());
        let wrong = |reason: String| {
            let columns = "write a table with the columns subject,volume,kind,path";
            Error::unsupported(format!("{}: {reason}", table.display()), columns)
        };
        let headers = reader.headers().map_err(|e| wrong(e.to_string()))?.clone();
        let place = |name: &str| headers.iter().position(|header| header == name);
        let mut columns = [0; COLUMNS.len()];
        for (column, name) in columns.iter_mut().zip(COLUMNS) {
            *column = place(name).ok_or_else(|| {
                let found: Vec<_> = headers.iter().collect();
                wrong(format!("no column {name:?}, the columns found are {}", found.join(", ")))
            })?;
        }
        let (mut errors, mut rows) = (Vec::new(), 0);
        for record in reader.records() {
            rows += 1;
            let added = record.map_err(|e| wrong(e.to_string())).and_then(|record| {
                let split = place("split").map(|split| &record[split]);
                self.push_row(table, &record, columns, split.filter(|split| !split.is_empty()))
            });
            errors.extend(added.err());
        }
        match errors.len() {
            0 if rows == 0 => Err(wrong("the table has no rows".into())),
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Error::Several { errors }),
        }
    }

    fn push_row(
        &mut self,
        table: &Path,
        record: &csv::StringRecord,
        columns: [usize; COLUMNS.len()],
        split: Option<&str>,
    ) -> Result<()> {
        let line = record.position().map_or(0, csv::Position::line);
        let named_in = format!("{} line {line}", table.display());
        let [subject, volume, kind, path] = columns.map(|column| &record[column]);
        let kind = kind.parse::<SourceKind>().map_err(|e| located_in(&named_in, e))?;
        let path = table.parent().unwrap_or(Path::new("")).join(path);
        let source = Source::new(subject, volume, Kind::Image, path);
        self.push_as(kind, Source { named_in: named_in.clone(), ..source })?;
        match split {
            Some(split) => self.add_to_split(subject, split).map_err(|e| located_in(&named_in, e)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_grouped_by_subject_and_mistakes_name_their_line() {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("t.csv");
        let parse = |text: &str| {
            std::fs::write(&table, text).unwrap();
            Manifest::from_csv(&table)
        };
        let rows = "image,a.nii,s1,ct,train\nimage,b.nii,s2,ct,test\nlabels, b.nii ,s1,seg,\n\
                    weights,a.nii,s2,heat,test\n";
        let text = format!("\u{feff}kind,path,subject,volume,split\n{rows}");
        for separator in [",", ";", "\t"] {
            let manifest = parse(&text.replace(',', separator)).unwrap();
            let names: Vec<_> =
                manifest.subjects().iter().map(|(n, v)| (n.as_str(), v.len())).collect();
            assert_eq!(names, [("s1", 2), ("s2", 2)]);
            let heat = &manifest.subjects()[1].1[1];
            assert!(manifest.is_weights(heat) && heat.kind == Kind::Image);
            assert!(!manifest.is_weights(&manifest.subjects()[1].1[0]));
            assert_eq!(manifest.subjects()[0].1[1].kind, Kind::Labels);
            assert_eq!(manifest.splits_of("s1"), ["train"]);
            assert_eq!(manifest.splits_of("s2"), ["test"]);
        }
        let head = "subject,volume,kind,path\n";
        for (row, words) in [
            ("s,ct,picture,a.nii\n", ["line 2", "kind"]),
            ("s,ct,image,a.nii\ns,ct,image,b.nii\n", ["line 3", "twice"]),
            ("../s,ct,image,a.nii\n", ["line 2", "name"]),
            ("s,ct\n", ["line: 2", "fields"]),
            ("s,ct,picture,a.nii\n../s,ct,image,a.nii\n", ["2 errors", "line 3"]),
        ] {
            let message = parse(&format!("{head}{row}")).unwrap_err().to_string();
            assert!(words.iter().all(|w| message.contains(w)), "{message}");
        }
        let message = parse("subject;volume;path\n").unwrap_err().to_string();
        assert!(
            message.contains("\"kind\", the columns found are subject, volume, path"),
            "{message}"
        );
        assert!(parse(head).unwrap_err().to_string().contains("no rows"));
        let missing = folder.path().join("gone.csv");
        assert!(matches!(Manifest::from_csv(&missing), Err(Error::NoSuchFile { .. })));
    }
}
