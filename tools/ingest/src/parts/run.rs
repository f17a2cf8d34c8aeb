//! Runs one part: ingests the cases that it owns and that are not done.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::sync::{Mutex, MutexGuard, PoisonError};

use voxquarry::{Error, IfExists, Part, Result, StoreWriter, UnpublishedSubjects};

use super::document::{FailedCase, PlanCase, PlanDocument};
use super::notes::{DoneCase, DoneSubject, Notes};
use super::owners::owners;
use crate::existing::outstanding;
use crate::ingest::ingest_planned;
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::plan::{Plan, plan};
use crate::report::{Failure, IngestReport};

/// See [`PartsPlan::run_part`](super::PartsPlan::run_part).
pub(super) fn run_part(
    document: &PlanDocument,
    part: Part,
    machine: &IngestOptions,
    observer: &dyn Observer,
    report: &mut IngestReport,
) -> Result<()> {
    let again = format!("make the plan again, then run part {part} again");
    let unpublished = open(document, &format!("part {part}"), &again)?;
    Notes::of(&unpublished).agree_on_count(part)?;
    let options = document.options.options()?.threads(machine.threads).jobs(machine.jobs);
    let run = PartRun { document, part, again, unpublished: &unpublished, options, observer };
    let _lock = run.lock()?;
    run.run(report)
}

/// The folder of a plan that the store waits for.
///
/// # Errors
/// [`Error::Unsupported`] if it waits for another, or for none.
pub(super) fn open(
    document: &PlanDocument,
    what: &str,
    again: &str,
) -> Result<UnpublishedSubjects> {
    let name = document.name()?;
    let store = document.store.display();
    if let Some(unpublished) = UnpublishedSubjects::open(&document.store, &name)?
        && Notes::of(&unpublished).has_plan()?
    {
        return Ok(unpublished);
    }
    let others = UnpublishedSubjects::names(&document.store)?;
    let Some(other) = others.iter().find(|other| **other != name) else {
        let reason = format!("{what}: {store} does not wait for plan {name}");
        return Err(Error::unsupported(reason, format!("unless it was finalized, {again}")));
    };
    let reason = format!("{what} is of plan {name}, and {store} waits for plan {other}");
    Err(Error::unsupported(reason, format!("use that plan's file, or {again}")))
}

/// One part of a plan.
struct PartRun<'a> {
    document: &'a PlanDocument,
    part: Part,
    /// What to do about a source that has changed.
    again: String,
    unpublished: &'a UnpublishedSubjects,
    options: IngestOptions,
    observer: &'a dyn Observer,
}

impl PartRun<'_> {
    fn lock(&self) -> Result<File> {
        let name = format!("{}-of-{}", self.part.number(), self.part.count());
        Notes::of(self.unpublished).lock(&name, self.observer)
    }

    fn run(&self, report: &mut IngestReport) -> Result<()> {
        let todo = self.todo(report)?;
        let stops =
            |report: &IngestReport| !report.failed.is_empty() && !self.document.options.keep_going;
        let result = if stops(report) { Ok(()) } else { self.ingest(&todo, report, &stops) };
        result.and(self.note_failures(&todo, &report.failed))
    }

    /// The cases of the part that are not done, and whose sources are those of the plan.
    fn todo(&self, report: &mut IngestReport) -> Result<Vec<&PlanCase>> {
        let cases = &self.document.cases;
        let owners = owners(cases, self.part.count());
        let own = cases.iter().zip(owners).filter(|(_, owner)| *owner == self.part.number());
        let mut todo = Vec::new();
        for (case, _) in own {
            check_interrupt(self.observer)?;
            if done(self.document, self.unpublished, case)?.is_some() {
                report.skipped.extend(case.subjects.iter().cloned());
                continue;
            }
            // What a process that was killed here left unnoted.
            for subject in &case.subjects {
                self.unpublished.remove_subject(subject)?;
            }
            match self.check_sources(case) {
                Ok(()) => todo.push(case),
                Err(failure) => report.failed.push(*failure),
            }
        }
        Ok(todo)
    }

    fn ingest(
        &self,
        todo: &[&PlanCase],
        report: &mut IngestReport,
        stops: &dyn Fn(&IngestReport) -> bool,
    ) -> Result<()> {
        let manifest = self.document.manifest(todo.iter().copied())?;
        let mut plan = plan(&manifest, &self.options, self.observer)?;
        let is_known = |failure: &Failure| {
            let mut known = self.document.failed.iter();
            known.any(|k| k.subject == failure.subject && k.volume == failure.volume)
        };
        plan.failed.retain(|failure| !is_known(failure));
        report.failed.append(&mut plan.failed);
        report.notes.append(&mut plan.notes);
        self.compare(todo, &mut plan, report);
        if stops(report) {
            return Ok(());
        }
        let marking = Marking::new(self, todo);
        self.leave_out_existing(&mut plan, &marking, report)?;
        if stops(report) {
            return Ok(());
        }
        let options = self.options.clone().if_exists(IfExists::Error);
        let (done, result) = ingest_planned(plan, &self.unpublished.path(), &options, &marking);
        let (failed, fatal) = marking.end();
        let is_changed = |name: &String| failed.iter().any(|failure| failure.subject == *name);
        report.written.extend(done.written.into_iter().filter(|name| !is_changed(name)));
        report.failed.extend(done.failed);
        report.failed.extend(failed);
        report.notes.extend(done.notes);
        report.voxel_bytes += done.voxel_bytes;
        report.stored_bytes += done.stored_bytes;
        fatal.map_or(result, Err)
    }

    /// Leaves out cases that have become other subjects than those of the plan.
    fn compare(&self, todo: &[&PlanCase], plan: &mut Plan, report: &mut IngestReport) {
        let found: BTreeSet<String> = plan.subjects.iter().map(|s| s.name.clone()).collect();
        let mut expected = BTreeSet::new();
        for case in todo {
            let is_failed = |name: &String| report.failed.iter().any(|f| f.subject == *name);
            let lost = case.subjects.iter().find(|name| !found.contains(*name));
            if let Some(lost) = lost.filter(|name| !is_failed(name)) {
                let source = &case.sources[0];
                let message = format!("subject {lost:?} does not come of it: {}", self.again);
                report.failed.push(Failure {
                    subject: lost.clone(),
                    volume: source.volume.clone(),
                    path: source.path.clone(),
                    error: Error::data(&source.path, message),
                });
            } else {
                expected.extend(case.subjects.iter().cloned());
            }
        }
        plan.subjects.retain(|subject| expected.contains(&subject.name));
    }

    /// Decides about subjects that are in the store: it was no part of the plan what they are.
    fn leave_out_existing(
        &self,
        plan: &mut Plan,
        marking: &Marking<'_>,
        report: &mut IngestReport,
    ) -> Result<()> {
        let store = StoreWriter::open(&self.document.store, Some(1))?;
        let mut splits = HashMap::new();
        for subject in &mut plan.subjects {
            // Nothing of the store changes before all parts are done.
            splits.insert(subject.name.clone(), std::mem::take(&mut subject.splits));
        }
        let mut found = IngestReport::default();
        let subjects = std::mem::take(&mut plan.subjects);
        let todo = outstanding(&store, subjects, &self.options, self.observer, &mut found)?;
        plan.subjects = todo.into_iter().map(|outstanding| outstanding.planned).collect();
        for subject in &mut plan.subjects {
            subject.splits = splits.remove(&subject.name).unwrap_or_default();
        }
        found.skipped.iter().for_each(|name| marking.skip(name));
        report.skipped.append(&mut found.skipped);
        report.failed.append(&mut found.failed);
        report.notes.append(&mut found.notes);
        Ok(())
    }

    /// Checks that the sources of a case are those of the plan.
    fn check_sources(&self, case: &PlanCase) -> Result<(), Box<Failure>> {
        for source in &case.sources {
            let whole = source.source(&case.name);
            if let Err(error) = source.identity.check(&whole.input, &self.again) {
                return Err(Box::new(Failure::of(&whole, error)));
            }
        }
        Ok(())
    }

    /// Notes which cases failed, for the report of the whole.
    fn note_failures(&self, todo: &[&PlanCase], failed: &[Failure]) -> Result<()> {
        let mut by_case: BTreeMap<&str, Vec<FailedCase>> = BTreeMap::new();
        for failure in failed {
            let is_its = |case: &&&PlanCase| {
                case.name == failure.subject || case.subjects.contains(&failure.subject)
            };
            // Those whose sources have changed are not among `todo`.
            let case = todo.iter().find(is_its).map_or(&*failure.subject, |case| &case.name);
            by_case.entry(case).or_default().push(FailedCase::of(failure));
        }
        let notes = Notes::of(self.unpublished);
        by_case.iter().try_for_each(|(case, failed)| notes.set_failed(case, failed))
    }
}

/// What a case became, if it is done: its subjects are those that its part noted, wherever they
/// are.
pub(super) fn done(
    document: &PlanDocument,
    unpublished: &UnpublishedSubjects,
    case: &PlanCase,
) -> Result<Option<DoneCase>> {
    let digest = document.digest_of_case(case)?;
    let Some(done) = Notes::of(unpublished).done(&case.name, &digest)? else { return Ok(None) };
    for subject in &done.subjects {
        let expected = Some(subject.crc32c);
        if unpublished.checksum(&subject.name)? != expected
            && unpublished.published_checksum(&subject.name)? != expected
        {
            return Ok(None);
        }
    }
    Ok(Some(done))
}

/// Notes cases as done when their last subject is.
struct Marking<'a> {
    run: &'a PartRun<'a>,
    state: Mutex<MarkState<'a>>,
}

struct MarkState<'a> {
    /// The case of each subject.
    cases: HashMap<&'a str, &'a PlanCase>,
    /// By the name of the case.
    done: HashMap<&'a str, DoneCase>,
    failed: Vec<Failure>,
    fatal: Option<Error>,
}

impl<'a> Marking<'a> {
    fn new(run: &'a PartRun<'a>, todo: &[&'a PlanCase]) -> Self {
        let mut cases = HashMap::new();
        for case in todo {
            cases.extend(case.subjects.iter().map(|subject| (&**subject, *case)));
        }
        let (done, failed, fatal) = (HashMap::new(), Vec::new(), None);
        Self { run, state: Mutex::new(MarkState { cases, done, failed, fatal }) }
    }

    fn end(self) -> (Vec<Failure>, Option<Error>) {
        let state = self.state.into_inner().unwrap_or_else(PoisonError::into_inner);
        (state.failed, state.fatal)
    }

    fn state(&self) -> MutexGuard<'_, MarkState<'a>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a subject that the store has.
    fn skip(&self, subject: &str) {
        self.note(subject, |done| {
            done.skipped.push(subject.to_owned());
            Ok(())
        });
    }

    /// Notes a subject that was written.
    fn written(&self, name: &str, voxel_bytes: u64, stored_bytes: u64) {
        self.note(name, |done| {
            let unpublished = self.run.unpublished;
            let crc32c = unpublished.checksum(name)?.ok_or_else(|| {
                let path = unpublished.path().join(name);
                Error::data(path, "it was removed while its part was running")
            })?;
            let name = name.to_owned();
            done.subjects.push(DoneSubject { name, crc32c, voxel_bytes, stored_bytes });
            Ok(())
        });
    }

    /// Changes the note of a subject's case, and keeps it when it is complete.
    fn note(&self, subject: &str, change: impl FnOnce(&mut DoneCase) -> Result<()>) {
        let mut state = self.state();
        let Some(&case) = state.cases.get(subject) else { return };
        let changed = self.change(&mut state, case, change);
        if let Err(error) = changed {
            state.fatal.get_or_insert(error);
        }
    }

    fn change(
        &self,
        state: &mut MarkState<'a>,
        case: &'a PlanCase,
        change: impl FnOnce(&mut DoneCase) -> Result<()>,
    ) -> Result<()> {
        let digest = self.run.document.digest_of_case(case)?;
        let empty = || DoneCase { digest, subjects: Vec::new(), skipped: Vec::new() };
        let done = state.done.entry(&case.name).or_insert_with(empty);
        change(done)?;
        if done.subjects.len() + done.skipped.len() < case.subjects.len() {
            return Ok(());
        }
        // A source that was exchanged while it was read may be half of each.
        if let Err(failure) = self.run.check_sources(case) {
            state.failed.push(*failure);
            return Ok(());
        }
        Notes::of(self.run.unpublished).set_done(&case.name, done)
    }
}

impl Observer for Marking<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Published { subject, voxel_bytes, stored_bytes } = event {
            self.written(subject, voxel_bytes, stored_bytes);
        }
        self.run.observer.event(event);
    }

    fn interrupted(&self) -> bool {
        self.state().fatal.is_some() || self.run.observer.interrupted()
    }
}
