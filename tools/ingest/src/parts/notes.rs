//! Notes beside the unpublished subjects of a plan: the plan, the number of parts, locks, and what
//! became of each case.
//!
//! # Invariants
//! - A note appears whole, and is reached through no link.
//! - A case is noted as done after its subjects are; the note has their checksums.

use std::fs::File;
use std::io;
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
/// More than any note about a case takes.
const NOTE_BYTES: u64 = 64 << 20;
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
pub(super) struct Notes<'a>(&'a UnpublishedSubjects);

impl<'a> Notes<'a> {
    pub(super) fn of(unpublished: &'a UnpublishedSubjects) -> Self {
        Self(unpublished)
    }

    /// The plan; `None` before it was installed.
    pub(super) fn plan(&self) -> Result<Option<PlanDocument>> {
        let text = self.0.note(PLAN, PlanDocument::MOST_BYTES)?;
        text.map(|text| PlanDocument::parse(&self.0.folder().join(PLAN), &text)).transpose()
    }

    /// Keeps the plan's text.
    pub(super) fn keep_plan(&self, text: &[u8]) -> Result<()> {
        self.0.write_note(PLAN, text)
    }

    /// Whether the plan is installed.
    pub(super) fn has_plan(&self) -> Result<bool> {
        self.0.has_note(PLAN)
    }

    /// The numbers of parts that were begun.
    pub(super) fn counts(&self) -> Result<Vec<usize>> {
        let names = self.0.note_names()?;
        Ok(names.iter().filter_map(|name| name.strip_prefix(COUNT)?.parse().ok()).collect())
    }

    /// Lets parts of another number be run.
    pub(super) fn forget_count(&self) -> Result<()> {
        let counts = self.counts()?;
        counts.iter().try_for_each(|count| self.0.remove_note(&format!("{COUNT}{count}")))
    }

    /// Notes how many parts there are.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if another number was begun.
    pub(super) fn agree_on_count(&self, part: Part) -> Result<()> {
        let own = format!("{COUNT}{}", part.count());
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
        // Its name says all, so nothing is staged: other parts may write it at the same time.
        drop(self.0.try_lock(&own)?);
        // Of two that begin at one time, one sees the other's.
        if let Some(n) = other(self.counts()?) {
            self.0.remove_note(&own)?;
            return refused(n);
        }
        Ok(())
    }

    /// Locks what `name` stands for until the result is dropped; waits for another process.
    pub(super) fn lock(&self, name: &str, observer: &dyn Observer) -> Result<File> {
        let name = format!("{name}.lock");
        loop {
            if let Some(lock) = self.0.try_lock(&name)? {
                return Ok(lock);
            }
            check_interrupt(observer)?;
            thread::sleep(PATIENCE);
        }
    }

    /// What a case became; `None` if it is not done, or if its note is of something else.
    pub(super) fn done(&self, case: &str, digest: &str) -> Result<Option<DoneCase>> {
        let done: Option<DoneCase> = self.read(DONE, case)?;
        Ok(done.filter(|done| done.digest == digest))
    }

    pub(super) fn set_done(&self, case: &str, done: &DoneCase) -> Result<()> {
        self.write(DONE, case, done)?;
        self.0.remove_note(&format!("{FAILED}/{case}"))
    }

    pub(super) fn failed(&self, case: &str) -> Result<Option<Vec<FailedCase>>> {
        self.read(FAILED, case)
    }

    pub(super) fn set_failed(&self, case: &str, failed: &[FailedCase]) -> Result<()> {
        self.write(FAILED, case, &failed)
    }

    /// What a note says; `None` if there is none, or none that can be understood.
    fn read<T: DeserializeOwned>(&self, folder: &str, case: &str) -> Result<Option<T>> {
        // What is damaged, or no file, is done once more.
        match self.0.note(&format!("{folder}/{case}"), NOTE_BYTES) {
            Ok(text) => Ok(text.and_then(|text| serde_json::from_slice(&text).ok())),
            Err(Error::Data { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn write(&self, folder: &str, case: &str, value: &impl Serialize) -> Result<()> {
        let name = format!("{folder}/{case}");
        let text = serde_json::to_vec(value).map_err(|e| {
            Error::io(self.0.folder().join(&name), "cannot word")(io::Error::other(e))
        })?;
        self.0.write_note(&name, &text)
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
