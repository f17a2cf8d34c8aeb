//! The volumes of one subject, as their sources have them or changed.
//!
//! # Invariants
//! - All volumes of a subject are cropped to one box.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use voxquarry::format::attributes::Kind;
use voxquarry::{FinishedVolume, Region, Result, SubjectWriter};

use super::foreground::Foreground;
use super::native::{Copies, NativeCopy};
use super::resample::write_changed;
use crate::copy::ingest_volume;
use crate::observer::{Event, Observer};
use crate::options::IngestOptions;
use crate::planned::{PlannedSubject, PlannedVolume};

/// The volumes of a subject that were written.
pub(crate) struct WrittenVolumes {
    pub(crate) finished: Vec<FinishedVolume>,
    /// Bytes of their voxels.
    pub(crate) voxel_bytes: u64,
    /// Sentences about what was decided for the caller.
    pub(crate) notes: Vec<String>,
}

/// Writes the volumes of a planned subject; `current` is the number of the one at work.
///
/// # Errors
/// As [`ingest_volume`] and [`write_changed`].
pub(crate) fn ingest_volumes(
    subject: &mut SubjectWriter,
    planned: &PlannedSubject,
    current: &AtomicUsize,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<WrittenVolumes> {
    let counting = CountingObserver { observer, bytes: AtomicU64::new(0) };
    let written = write_volumes(subject, planned, current, options, &counting)?;
    // What was cropped away counts as done.
    let left = planned.work_bytes().saturating_sub(counting.bytes.into_inner());
    if left > 0 {
        observer.event(Event::Encoded(left));
    }
    Ok(written)
}

fn write_volumes(
    subject: &mut SubjectWriter,
    planned: &PlannedSubject,
    current: &AtomicUsize,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<WrittenVolumes> {
    let begin = |i: usize| {
        current.store(i, Ordering::Relaxed);
        let volume = &planned.volumes[i].source.volume;
        observer.event(Event::Volume { subject: &planned.name, volume });
    };
    let mut written = WrittenVolumes { finished: Vec::new(), voxel_bytes: 0, notes: Vec::new() };
    let mut copies = None;
    let mut copied: Vec<Option<NativeCopy>> = planned.volumes.iter().map(|_| None).collect();
    let mut region = None;
    if planned.volumes.iter().any(PlannedVolume::awaits_crop) {
        let copies = copies.insert(Copies::new(subject, options, observer)?);
        for (i, volume) in planned.volumes.iter().enumerate() {
            if let Some(change) = &volume.change {
                begin(i);
                copied[i] = Some(copies.copy(i, volume, change)?);
            }
        }
        region = Some(foreground(planned, &copied, &mut written.notes));
    }
    for (i, volume) in planned.volumes.iter().enumerate() {
        begin(i);
        let Some(change) = &volume.change else {
            written.finished.push(ingest_volume(subject, volume, options, observer)?);
            written.voxel_bytes += volume.voxel_bytes();
            continue;
        };
        let copies = match &mut copies {
            Some(copies) => copies,
            none => none.insert(Copies::new(subject, options, observer)?),
        };
        let copy = match copied[i].take() {
            Some(copy) => copy,
            None => copies.copy(i, volume, change)?,
        };
        let crop = region.filter(|_| change.changes.crops && change.crop.is_none());
        let cropped = match crop {
            Some(region) => &volume.cropped(region, options)?,
            None => volume,
        };
        let change = cropped.change.as_ref().expect("a changed volume");
        let copy = match change.crop.filter(|_| change.copies_crop()) {
            Some(region) => copies.crop(i, volume.source.kind, change, copy, region)?,
            None => copy,
        };
        written.finished.push(write_changed(subject, cropped, change, &copy, options, observer)?);
        written.voxel_bytes += cropped.voxel_bytes();
        drop(copy);
        copies.remove_all(i);
    }
    Ok(written)
}

/// Counts what an observer hears of.
struct CountingObserver<'a> {
    observer: &'a dyn Observer,
    bytes: AtomicU64,
}

impl Observer for CountingObserver<'_> {
    fn event(&self, event: Event<'_>) {
        if let Event::Encoded(bytes) = event {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        self.observer.event(event);
    }

    fn interrupted(&self) -> bool {
        self.observer.interrupted()
    }
}

/// The box of the voxels of all images that are not 0; the whole grid, and a note, if there is
/// none.
fn foreground(
    planned: &PlannedSubject,
    copied: &[Option<NativeCopy>],
    notes: &mut Vec<String>,
) -> Region {
    let mut all = Foreground::default();
    copied.iter().flatten().for_each(|copy| all.merge(copy.foreground));
    all.region().unwrap_or_else(|| {
        let is_image = |v: &PlannedVolume| v.source.kind == Kind::Image && !v.is_weights;
        let reason = if planned.volumes.iter().any(is_image) {
            "all voxels of its images are 0"
        } else {
            "it has no image"
        };
        notes.push(format!("{}: not cropped: {reason}", planned.name));
        let first = planned.volumes.iter().find_map(|volume| volume.change.as_ref());
        Region::whole(first.expect("a volume that is cropped").native.size)
    })
}
