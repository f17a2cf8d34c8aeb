//! What a run did: subjects written, skipped and failed.

use std::path::PathBuf;

use voxquarry::{Error, Result};

/// The result of a run.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct IngestReport {
    /// Subjects written, in their order.
    pub written: Vec<String>,
    /// Subjects that exist already and were skipped.
    pub skipped: Vec<String>,
    /// Subjects that could not be ingested; one that has several faults is listed with each.
    pub failed: Vec<Failure>,
    /// Sentences about what was decided for the caller, such as a grid that was adopted.
    pub notes: Vec<String>,
    /// Bytes of voxels read, uncompressed.
    pub voxel_bytes: u64,
    /// Bytes of the files that were written for them.
    pub stored_bytes: u64,
}

/// The reason why a subject could not be ingested.
#[derive(Debug)]
pub struct Failure {
    /// The subject.
    pub subject: String,
    /// The volume at fault; empty if it is the whole subject.
    pub volume: String,
    /// Its source file, or the subject's folder.
    pub path: PathBuf,
    /// What is wrong.
    pub error: Error,
}

impl IngestReport {
    /// The report of a run in which nothing was begun because of these.
    pub fn of_failures(failed: Vec<Failure>) -> Self {
        Self { failed, ..Self::default() }
    }

    /// The report, or the errors of the subjects that failed.
    ///
    /// # Errors
    /// That of the only failure as it is; [`Error::Several`].
    pub fn all_or_error(mut self) -> Result<Self> {
        match self.failed.len() {
            0 => Ok(self),
            1 => Err(self.failed.remove(0).error),
            _ => {
                let in_subject = |failure: Failure| Error::InSubject {
                    subject: failure.subject,
                    source: Box::new(failure.error),
                };
                Err(Error::Several { errors: self.failed.into_iter().map(in_subject).collect() })
            }
        }
    }
}
