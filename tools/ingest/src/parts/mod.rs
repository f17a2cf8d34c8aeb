//! An ingest that several processes share: a plan, its parts, and the step that publishes them.
//!
//! A plan names every source and who owns it. Each part writes its own subjects into a folder that
//! nobody sees ([`UnpublishedSubjects`]), and marks those that are done. Finalizing counts them,
//! compares their checksums and renames them into the store.
//!
//! # Invariants
//! - Which part has a subject depends on the plan and the number of parts alone.
//! - A store has the unfinished parts of one plan, and those of one count.
//! - A subject counts as done only if its case, its sources and all options are those of the plan.
//!
//! Not here: how subjects are ingested (`ingest`), and how they are hidden (the library).

mod document;
mod finalize;
mod identity;
mod notes;
mod owners;
mod planned_changes;
mod run;

use std::io::Write;
use std::path::{Path, PathBuf};

use voxquarry::{Error, IfExists, Part, Result, UnpublishedSubjects};

use crate::manifest::Manifest;
use crate::observer::{Event, NoopObserver, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::plan::{Plan, check_options};
use crate::planned::PlannedSubject;
use crate::report::{Failure, IngestReport};
use crate::staged_file::StagedFile;
use document::{FailedCase, PlanCase, PlanDocument};
use notes::Notes;

/// What an ingest in parts does: every source, every option, and who owns what.
///
/// ```
/// use voxquarry::Part;
/// use voxquarry_ingest::{IngestOptions, Manifest, NoopObserver, PartsPlan};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let (ct, store) = (folder.path().join("ct.npy"), folder.path().join("store.zarr"));
/// # let head = "{'descr': '|u1', 'fortran_order': False, 'shape': (8, 8, 8), }";
/// # let head = format!("{head:<117}\n");
/// # let magic = &b"\x93NUMPY\x01\x00\x76\x00"[..];
/// # std::fs::write(&ct, [magic, head.as_bytes(), &[7; 512]].concat()).unwrap();
/// let mut manifest = Manifest::new();
/// manifest.push_file(&ct)?;
/// let options = IngestOptions::default();
/// let made = PartsPlan::make(&manifest, &store, &options, "", &NoopObserver)?;
/// made.plan.install()?;
/// // Each part is a process of its own.
/// for part in Part::all(2)? {
///     let (report, result) = made.plan.run_part(part, &options, &NoopObserver);
///     result.and(report.all_or_error().map(drop))?;
/// }
/// made.plan.finalize(&NoopObserver).1?;
/// assert_eq!(voxquarry::open(&store)?.subjects(), ["ct"]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PartsPlan {
    document: PlanDocument,
}

/// A plan that was made, and what is wrong with subjects that are not in it.
#[derive(Debug)]
#[non_exhaustive]
pub struct MadePlan {
    /// The plan.
    pub plan: PartsPlan,
    /// Subjects that cannot be ingested.
    pub failed: Vec<Failure>,
    /// Sentences about what was decided for the caller.
    pub notes: Vec<String>,
}

impl PartsPlan {
    /// Reads every header, and plans the ingest of what the manifest names into the store at
    /// `out`. `asked` describes the caller's arguments; see [`PartsPlan::asked`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for options that fit no subject; [`Error::Unsupported`] for
    /// sources that are no files, and options that no plan can have; [`Error::Interrupted`].
    pub fn make(
        manifest: &Manifest,
        out: &Path,
        options: &IngestOptions,
        asked: impl Into<String>,
        observer: &dyn Observer,
    ) -> Result<MadePlan> {
        check_options(options)?;
        let store = std::path::absolute(out).map_err(Error::io(out, "cannot find"))?;
        let mut document = PlanDocument::new(store, asked.into(), options)?;
        document.label_names = manifest.label_names().clone();
        let (mut failed, mut notes) = (Vec::new(), Vec::new());
        let of = manifest.subjects().len();
        for (done, (name, sources)) in manifest.subjects().iter().enumerate() {
            check_interrupt(observer)?;
            observer.event(Event::Planning { done, of });
            let mut plan = Plan::default();
            plan.add(name, sources, manifest, options);
            if !plan.subjects.is_empty() {
                // Before the headers of another version of a file could be read.
                let mut case = PlanCase::new(name, sources, manifest)?;
                case.subjects = plan.subjects.iter().map(|s| s.name.clone()).collect();
                case.voxel_bytes = plan.subjects.iter().map(PlannedSubject::voxel_bytes).sum();
                document.cases.push(case);
            }
            failed.append(&mut plan.failed);
            notes.append(&mut plan.notes);
        }
        document.failed = failed.iter().map(FailedCase::of).collect();
        Ok(MadePlan { plan: Self { document }, failed, notes })
    }

    /// Reads the plan in a file.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`]; [`Error::Data`] for a file that is no plan or was changed;
    /// [`Error::Io`].
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { document: PlanDocument::read(path)? })
    }

    /// The plan whose parts the store at `out` waits for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it waits for none, [`Error::Data`], [`Error::Io`].
    pub fn installed(out: &Path) -> Result<Self> {
        let store = out.display();
        for name in UnpublishedSubjects::names(out)? {
            let Some(unpublished) = UnpublishedSubjects::open(out, &name)? else { continue };
            if let Some(document) = Notes::of(&unpublished).plan()? {
                let mut plan = Self { document };
                plan.set_store(out)?;
                return Ok(plan);
            }
        }
        let reason = format!("{store} waits for no part of an ingest");
        Err(Error::unsupported(reason, "make a plan first, or give the plan's file"))
    }

    /// Writes the plan to a file, which is replaced.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for paths that are no UTF-8, [`Error::Io`].
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = self.document.to_text()?;
        let (staged, mut file) = StagedFile::new(path, IfExists::Replace)?;
        file.write_all(&text).map_err(Error::io(path, "cannot write"))?;
        staged.publish(&file)
    }

    /// Lets the store wait for the parts of this plan, from now on of any count. It takes the place
    /// of other plans; of their parts it takes over what is the same, and returns how many subjects
    /// of the manifest that are.
    ///
    /// # Errors
    /// [`Error::NotAStore`], [`Error::Io`].
    pub fn install(&self) -> Result<usize> {
        let (document, name) = (&self.document, self.document.name()?);
        let new = UnpublishedSubjects::create(&document.store, &name)?;
        let _lock = Notes::of(&new).lock("plan", &NoopObserver)?;
        Notes::of(&new).forget_count()?;
        let mut taken = 0;
        for other in UnpublishedSubjects::names(&document.store)? {
            if other == name {
                continue;
            }
            let Some(old) = UnpublishedSubjects::open(&document.store, &other)? else { continue };
            for case in &document.cases {
                let digest = document.digest_of_case(case)?;
                taken += usize::from(notes::take_over(&new, &old, &case.name, &digest)?);
            }
            old.remove()?;
        }
        Notes::of(&new).keep_plan(&document.to_text()?)?;
        Ok(taken)
    }

    /// Moves the plan to a store at another path: this machine's name for the same place.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn set_store(&mut self, out: &Path) -> Result<()> {
        self.document.store = absolute(out)?;
        Ok(())
    }

    /// The store, absolute.
    pub fn store(&self) -> &Path {
        &self.document.store
    }

    /// What the caller asked for when the plan was made.
    pub fn asked(&self) -> &str {
        &self.document.asked
    }

    /// Whether subjects that fail are listed, and the others ingested.
    pub fn keeps_going(&self) -> bool {
        self.document.options.keep_going
    }

    /// The number of subjects in the plan.
    pub fn subjects(&self) -> usize {
        self.document.cases.iter().map(|case| case.subjects.len()).sum()
    }

    /// Bytes of all voxels, before compression.
    pub fn voxel_bytes(&self) -> u64 {
        self.document.cases.iter().map(|case| case.voxel_bytes).sum()
    }

    /// Ingests the subjects of a part that are not done. Of `machine` only the threads and the
    /// subjects side by side count; all else is the plan's. The report tells what was done,
    /// whatever the result: subjects that were done before count as skipped.
    ///
    /// Another process that works on the same part is waited for.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the store waits for the parts of another plan or count; what no
    /// subject is to blame for, as for [`ingest_planned`](crate::ingest_planned).
    pub fn run_part(
        &self,
        part: Part,
        machine: &IngestOptions,
        observer: &dyn Observer,
    ) -> (IngestReport, Result<()>) {
        let mut report = IngestReport::default();
        let result = run::run_part(&self.document, part, machine, observer, &mut report);
        (report, result)
    }

    /// Publishes the subjects of all parts, and forgets the plan. A new store appears in one step;
    /// in a store that is there, subjects appear one after the other, each whole. A plan that was
    /// finalized before changes nothing.
    ///
    /// # Errors
    /// [`Error::Incomplete`] with the parts that have to be run, [`Error::Exists`],
    /// [`Error::Unsupported`] if the store waits for another plan, [`Error::Io`].
    pub fn finalize(&self, observer: &dyn Observer) -> (IngestReport, Result<()>) {
        let mut report = IngestReport::default();
        let result = finalize::finalize(&self.document, observer, &mut report);
        (report, result)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(Error::io(path, "cannot find"))
}
