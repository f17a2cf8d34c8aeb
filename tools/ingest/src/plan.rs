//! Plans an ingest: reads every header, chooses every layout, and finds all problems at once.
//!
//! # Invariants
//! - No voxel is read, and nothing is written.
//! - Each subject of a plan can be ingested, as far as headers tell.

use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout;
use voxquarry::{Error, Result};

use crate::files::exists;
use crate::grid;
use crate::input::VolumeInput;
use crate::labels::describe_labels;
use crate::manifest::{Manifest, Source, check_present};
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::planned::{PlannedSubject, PlannedVolume};
use crate::report::Failure;

/// The subjects that can be ingested, and those that cannot.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// Subjects whose volumes can be ingested, in the manifest's order.
    pub subjects: Vec<PlannedSubject>,
    /// All that is wrong with the others.
    pub failed: Vec<Failure>,
    /// Sentences about what was decided for the caller, such as a grid that was adopted.
    pub notes: Vec<String>,
    peak_memory_bytes: u64,
    scratch_bytes: u64,
}

impl Plan {
    /// The number of subjects that cannot be ingested.
    pub fn failed_subjects(&self) -> usize {
        // The failures of one subject follow each other.
        self.failed.chunk_by(|a, b| a.subject == b.subject).count()
    }

    /// Upper bound of the memory that the run takes.
    pub fn peak_memory_bytes(&self) -> u64 {
        self.peak_memory_bytes
    }

    /// Upper bound of the disk that copies of sources take while their voxels are changed.
    pub fn scratch_bytes(&self) -> u64 {
        self.scratch_bytes
    }
}

/// Reads every header and chooses every layout. What is wrong with a subject is listed in the plan.
///
/// # Errors
/// [`Error::InvalidArgument`] for options that fit no subject, [`Error::Interrupted`].
pub fn plan(manifest: &Manifest, options: &IngestOptions, observer: &dyn Observer) -> Result<Plan> {
    check_options(options)?;
    let mut plan = Plan::default();
    let of = manifest.subjects().len();
    for (done, (name, sources)) in manifest.subjects().iter().enumerate() {
        check_interrupt(observer)?;
        observer.event(Event::Planning { done, of });
        plan.add(name, sources, manifest, options);
    }
    let costs = plan.subjects.iter().map(PlannedSubject::own_memory_bytes);
    plan.peak_memory_bytes = layout::SHARED_BYTES + options.side_by_side().peak_bytes(costs);
    plan.scratch_bytes = scratch_bytes(&plan.subjects, options);
    Ok(plan)
}

/// Refuses options that fit no subject.
pub(crate) fn check_options(options: &IngestOptions) -> Result<()> {
    let sizes = &options.patch_sizes;
    if sizes.is_empty() || sizes.iter().flatten().any(|&n| n == 0) {
        let expected = "at least one, with at least 1 voxel along each axis";
        return Err(Error::invalid("patch_sizes", format!("{sizes:?}"), expected));
    }
    options.changes.check()
}

impl Plan {
    /// Plans one subject of the manifest.
    pub(crate) fn add(
        &mut self,
        name: &str,
        sources: &[Source],
        manifest: &Manifest,
        options: &IngestOptions,
    ) {
        let known = self.failed.len();
        let mut volumes = Vec::with_capacity(sources.len());
        for source in sources {
            match plan_volume(source, manifest, options) {
                Ok(volume) => volumes.push(volume),
                Err(error) => self.failed.push(Failure::of(source, error)),
            }
        }
        // Grids are compared only if all are known: the first may be the one that is missing.
        if self.failed.len() > known {
            return;
        }
        let splits = manifest.splits_of(name);
        if !manifest.is_split_by_grid(name) {
            self.add_settled(name.to_owned(), volumes, splits, options);
            return;
        }
        for (i, group) in grid::groups(volumes, options).into_iter().enumerate() {
            // The images of further grids name their subjects.
            let named = group.iter().find(|volume| volume.source.kind == Kind::Image);
            let volume = &named.unwrap_or(&group[0]).source.volume;
            let own = if i == 0 { name.to_owned() } else { format!("{name}_{volume}") };
            if i > 0 {
                self.notes.push(format!("{own} is a subject of its own: it lies on another grid"));
            }
            self.add_settled(own, group, splits.clone(), options);
        }
    }

    /// Adds a subject of volumes that should lie on one grid.
    fn add_settled(
        &mut self,
        name: String,
        mut volumes: Vec<PlannedVolume>,
        splits: Vec<String>,
        options: &IngestOptions,
    ) {
        for volume in &mut volumes {
            volume.source.subject.clone_from(&name);
        }
        match grid::settle(&mut volumes, options) {
            Ok(notes) => {
                if self.add_changes(&mut volumes, options).is_err() {
                    return;
                }
                let lacking =
                    |v: &PlannedVolume| Some((v.source.clone(), v.level_factors().err()?));
                let lacking: Vec<_> = volumes.iter().filter_map(lacking).collect();
                if !lacking.is_empty() {
                    let failure = |(source, error)| Failure::of(&source, error);
                    self.failed.extend(lacking.into_iter().map(failure));
                    return;
                }
                let read = volumes.iter().flat_map(|volume| {
                    let of = &volume.source.volume;
                    volume.notes.iter().map(move |note| format!("{of}: {note}"))
                });
                let notes = notes.into_iter().chain(read);
                self.notes.extend(notes.map(|note| format!("{name}: {note}")));
                self.subjects.push(PlannedSubject { name, volumes, splits });
            }
            Err(mismatches) => {
                let failure = |(i, error): (usize, Error)| Failure::of(&volumes[i].source, error);
                self.failed.extend(mismatches.into_iter().map(failure));
            }
        }
    }
}

impl Plan {
    /// Plans the changes of the volumes of a subject. What is wrong is listed.
    fn add_changes(
        &mut self,
        volumes: &mut [PlannedVolume],
        options: &IngestOptions,
    ) -> Result<(), ()> {
        let known = self.failed.len();
        for volume in volumes {
            let Source { kind, .. } = volume.source;
            let changes = options.changes.of(kind, volume.is_weights, &volume.header.affine);
            if changes.is_none() {
                continue;
            }
            let changed = volume.become_changed(changes, options);
            let location = volume.source.input.location();
            let checked = changed
                .map_err(|error| in_file(location, error))
                .and_then(|()| check_memory(location, volume.memory.bytes, options));
            if let Err(error) = checked {
                self.failed.push(Failure::of(&volume.source, error));
            }
        }
        if self.failed.len() > known { Err(()) } else { Ok(()) }
    }
}

/// The most that copies of sources take, of as many subjects as run side by side.
fn scratch_bytes(subjects: &[PlannedSubject], options: &IngestOptions) -> u64 {
    let mut bytes: Vec<u64> = subjects.iter().map(PlannedSubject::scratch_bytes).collect();
    bytes.sort_unstable_by(|a, b| b.cmp(a));
    bytes.iter().take(options.side_by_side().limit).sum()
}

impl Failure {
    /// The failure of one source.
    pub(crate) fn of(source: &Source, error: Error) -> Self {
        let Source { subject, volume, input, .. } = source.clone();
        Self { subject, volume, path: input.location().to_owned(), error }
    }
}

fn plan_volume(
    source: &Source,
    manifest: &Manifest,
    options: &IngestOptions,
) -> Result<PlannedVolume> {
    if let VolumeInput::Place(place) = &source.input {
        check_present(place.path(), &source.named_in)?;
    }
    let opened = source.input.open(&options.stated)?;
    let header = opened.volume().clone();
    let header = if source.kind == Kind::Labels { describe_labels(header) } else { header };
    let shape = header.shape();
    let layout = layout::choose(&shape, &options.patch_sizes, options.codec, options.memory_bytes)
        .map_err(|e| in_file(source.input.location(), e))?;
    let reading_bytes = opened.working_bytes(layout.chunk[0].min(shape.size[0]));
    let beside = options.thread_count() as u64 * layout::encoder_memory(&layout, source.kind)
        + options.levels_memory(&layout)
        + reading_bytes;
    let left = options.memory_bytes.saturating_sub(beside);
    let mut memory = layout::ingest_memory(&shape, &layout, left);
    memory.bytes = memory.bytes.saturating_add(beside);
    check_memory(source.input.location(), memory.bytes, options)?;
    let is_weights = manifest.is_weights(source);
    let mut label_names = manifest.label_names_of(source);
    if label_names.is_empty() && source.kind == Kind::Labels {
        label_names = opened.label_names();
    }
    let source = source.clone();
    let notes = opened.notes();
    Ok(PlannedVolume {
        source,
        header,
        layout,
        memory,
        is_weights,
        label_names,
        notes,
        levels: options.levels,
        reading_bytes,
        change: None,
    })
}

/// Checks that a volume can be written in the memory that is allowed.
fn check_memory(location: &Path, needed_bytes: u64, options: &IngestOptions) -> Result<()> {
    if needed_bytes <= options.memory_bytes {
        return Ok(());
    }
    let what = "a layer of chunks of this volume, and what encodes it on all threads".into();
    let allowed_bytes = options.memory_bytes;
    Err(in_file(location, Error::MemoryBudget { what, needed_bytes, allowed_bytes }))
}

/// Names the source file in an error about its memory.
fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::MemoryBudget { what, needed_bytes, allowed_bytes } => Error::MemoryBudget {
            what: format!("{}: {what}", path.display()),
            needed_bytes,
            allowed_bytes,
        },
        other => other,
    }
}

/// Bytes that are free on the disk of `out`, which need not exist yet.
///
/// # Errors
/// [`Error::Io`].
pub fn free_bytes(out: &Path) -> Result<u64> {
    let out = std::path::absolute(out).map_err(Error::io(out, "cannot find"))?;
    let mut folder = &*out;
    while !exists(folder)? {
        folder = folder.parent().unwrap_or(Path::new("/"));
    }
    let disk = rustix::fs::statvfs(folder);
    let disk = disk.map_err(|e| Error::io(folder, "cannot ask for free space of")(e.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
