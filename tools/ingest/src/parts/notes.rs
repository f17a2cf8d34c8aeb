//! Notes beside the unpublished subjects of a plan: the plan, the number of parts, locks, and what
//! became of each case.
//!
//! # Invariants
//! - A note appears whole.
//! - A case is noted as done after its subjects are; the note has their checksums.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use voxquarry::{Error, Part, Result, UnpublishedSubjects};

use super::document::{FailedCase, PlanDocument};
use crate::observer::{Observer, check_interrupt};

const PLAN: &str = "plan.json";
const DONE: &str = "done";
const FAILED: &str = "failed";
/// Before the number of parts, in the name of an empty file.
const COUNT: &str = "of-";
/// How often a locked file is looked at.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a part made of a case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DoneCase {
    /// What decided it.
    pub(super) digest: String,
    pub(super) subjects: Vec<DoneSubject>,
    /// Subjects that were in the store, made of the same sources with the same options, or that
    /// were to be skipped by their names.
    pub(super) skipped: Vec<String>,
}

/// A subject that was written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DoneSubject {
    pub(super) name: String,
    /// Of its document.
    pub(super) crc32c: u32,
    pub(super) voxel_bytes: u64,
    pub(super) stored_bytes: u64,
}

/// The notes of one plan.
pub(super) struct Notes<'a> {
    folder: &'a Path,
}

impl<'a> Notes<'a> {
    pub(super) fn of(unpublished: &'a UnpublishedSubjects) -> Self {
        Self { folder: unpublished.folder() }
    }

    /// The plan; `None` before it was installed.
    pub(super) fn plan(&self) -> Result<Option<PlanDocument>> {
        match PlanDocument::read(&self.folder.join(PLAN)) {
            Ok(plan) => Ok(Some(plan)),
            Err(Error::NoSuchFile { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Keeps the plan's text.
    pub(super) fn keep_plan(&self, text: &[u8]) -> Result<()> {
        self.write(&self.folder.join(PLAN), text)
    }

    /// Whether the plan is installed.
    pub(super) fn has_plan(&self) -> Result<bool> {
        let path = self.folder.join(PLAN);
        path.try_exists().map_err(Error::io(&path, "cannot look at"))
    }

    /// The numbers of parts that were begun.
    pub(super) fn counts(&self) -> Result<Vec<usize>> {
        let failed = |e| Error::io(self.folder, "cannot list")(e);
        let mut counts = Vec::new();
        for entry in fs::read_dir(self.folder).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let count: Option<usize> =
                name.to_str().and_then(|name| name.strip_prefix(COUNT)?.parse().ok());
            counts.extend(count);
        }
        Ok(counts)
    }

    /// Lets parts of another number be run.
    pub(super) fn forget_count(&self) -> Result<()> {
        for count in self.counts()? {
            remove(&self.folder.join(format!("{COUNT}{count}")))?;
        }
        Ok(())
    }

    /// Notes how many parts there are.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if another number was begun.
    pub(super) fn agree_on_count(&self, part: Part) -> Result<()> {
        let own = self.folder.join(format!("{COUNT}{}", part.count()));
        let other = |counts: Vec<usize>| counts.into_iter().find(|&n| n != part.count());
        let refused = |n: usize| {
            let reason = format!("part {part}: parts of {n} were begun");
            let remedy = format!("run those (0/{n} to {}/{n}), or make the plan again", n - 1);
            Err(Error::unsupported(reason, remedy))
        };
        let counts = self.counts()?;
        if counts.contains(&part.count()) {
            return Ok(());
        }
        if let Some(n) = other(counts) {
            return refused(n);
        }
        File::create(&own).map_err(Error::io(&own, "cannot create"))?;
        // Of two that begin at one time, one sees the other's.
        if let Some(n) = other(self.counts()?) {
            remove(&own)?;
            return refused(n);
        }
        Ok(())
    }

    /// Locks what `name` stands for until the result is dropped; waits for another process.
    pub(super) fn lock(&self, name: &str, observer: &dyn Observer) -> Result<File> {
        let path = self.folder.join(format!("{name}.lock"));
        let file = File::options().create(true).append(true).open(&path);
        let file = file.map_err(Error::io(&path, "cannot open"))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => {
                    check_interrupt(observer)?;
                    thread::sleep(PATIENCE);
                }
                Err(TryLockError::Error(e)) => return Err(Error::io(&path, "cannot lock")(e)),
            }
        }
    }

    /// What a case became; `None` if it is not done, or if its note is of something else.
    pub(super) fn done(&self, case: &str, digest: &str) -> Result<Option<DoneCase>> {
        let done: Option<DoneCase> = read(&self.folder.join(DONE).join(case))?;
        Ok(done.filter(|done| done.digest == digest))
    }

    pub(super) fn set_done(&self, case: &str, done: &DoneCase) -> Result<()> {
        self.write_json(DONE, case, done)?;
        remove(&self.folder.join(FAILED).join(case))
    }

    pub(super) fn failed(&self, case: &str) -> Result<Option<Vec<FailedCase>>> {
        read(&self.folder.join(FAILED).join(case))
    }

    pub(super) fn set_failed(&self, case: &str, failed: &[FailedCase]) -> Result<()> {
        self.write_json(FAILED, case, &failed)
    }

    fn write_json(&self, folder: &str, case: &str, value: &impl Serialize) -> Result<()> {
        let path = self.folder.join(folder).join(case);
        let text = serde_json::to_vec(value);
        let text = text.map_err(|e| Error::io(&path, "cannot word")(io::Error::other(e)))?;
        let above = path.parent().expect("a file in a folder");
        fs::create_dir_all(above).map_err(Error::io(above, "cannot create"))?;
        self.write(&path, &text)
    }

    /// Writes a file that appears whole.
    fn write(&self, path: &Path, text: &[u8]) -> Result<()> {
        let staged = tempfile::NamedTempFile::new_in(self.folder);
        let mut staged = staged.map_err(Error::io(self.folder, "cannot create a file in"))?;
        let written = staged.write_all(text).and_then(|()| staged.as_file().sync_all());
        written.map_err(Error::io(path, "cannot write"))?;
        let kept = staged.persist(path).map_err(|e| e.error);
        kept.map(drop).map_err(Error::io(path, "cannot put in place"))
    }
}

/// Takes a case that is done out of another plan's folder; returns whether there was one.
pub(super) fn take_over(
    new: &UnpublishedSubjects,
    old: &UnpublishedSubjects,
    case: &str,
    digest: &str,
) -> Result<bool> {
    let Some(done) = Notes::of(old).done(case, digest)? else { return Ok(false) };
    let is_there = |subject: &DoneSubject| -> Result<bool> {
        let checksums = [old.checksum(&subject.name)?, new.checksum(&subject.name)?];
        Ok(checksums.contains(&Some(subject.crc32c)))
    };
    for subject in &done.subjects {
        if !is_there(subject)? {
            return Ok(false);
        }
    }
    // It counts only when the subjects are there, too.
    Notes::of(new).set_done(case, &done)?;
    for subject in &done.subjects {
        if new.checksum(&subject.name)? != Some(subject.crc32c) {
            new.take_subject(old, &subject.name)?;
        }
    }
    Ok(true)
}

/// The content of a note; `None` if there is none, or none that can be read.
fn read<T: DeserializeOwned>(path: &PathBuf) -> Result<Option<T>> {
    match fs::read(path) {
        // What is damaged is done once more.
        Ok(text) => Ok(serde_json::from_slice(&text).ok()),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io(path, "cannot read")(e)),
    }
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(Error::io(path, "cannot remove")(e)),
        _ => Ok(()),
    }
}
