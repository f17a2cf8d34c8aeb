//! Orders the frames of a volume: along the normal of their planes, and into channels where several
//! lie at each place. Drops copies.
//!
//! # Invariants
//! - Every frame is used once, or was compared with the one that it is a copy of.
//! - What cannot be ordered is refused with the names of two files.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use voxquarry::{Affine, Error, Result};

use super::frame::{Frame, Phase, dot};
use super::frame_bytes::same_pixels;
use super::geometry::stack_grid;
use super::instance::Instance;
use crate::files::file_name;

/// Frames lie at one place if their positions differ by no more than this.
const SAME_MM: f64 = 1e-3;

/// Frames in the order of a volume.
#[derive(Clone, Debug)]
pub(super) struct Arrangement {
    /// `channels` times `slices` frames, those of a channel together.
    pub(super) frames: Vec<Frame>,
    pub(super) channels: usize,
    pub(super) affine: Affine,
    pub(super) notes: Vec<String>,
}

impl Arrangement {
    pub(super) fn slices(&self) -> usize {
        self.frames.len() / self.channels
    }
}

/// Orders the frames of a volume, which has at least one. A stated `affine` takes the place of
/// positions, as far as they are not needed for the order.
///
/// # Errors
/// [`Error::Data`] for gaps, copies that differ, and frames without a place; [`Error::Io`].
pub(super) fn arrange(
    files: &[Instance],
    mut frames: Vec<Frame>,
    stated: Option<Affine>,
) -> Result<Arrangement> {
    let mut notes = Vec::new();
    let first = &files[frames[0].file];
    let normal = frames[0].plane.normal();
    let is_placed = frames.iter().all(|frame| frame.plane.position.is_some());
    let Some(normal) = normal.filter(|_| is_placed) else {
        return unplaced(files, frames, stated);
    };
    let height = |frame: &Frame| dot(frame.plane.position.unwrap_or_default(), normal);
    frames.sort_by(|a, b| height(a).total_cmp(&height(b)));
    let is_same = |a: &Frame, b: &Frame| height(b) - height(a) <= SAME_MM;
    let mut places: Vec<Vec<Frame>> = frames.chunk_by(is_same).map(<[Frame]>::to_vec).collect();
    for place in &mut places {
        place.sort_by_key(|frame| (frame.order, frame.file, frame.number));
    }
    check_places(files, &places)?;
    drop_copies(files, &mut places, |a, b| a.uid == b.uid, &mut notes)?;
    let mut channels = channels_of(&mut places, &mut notes);
    if channels.is_none() {
        drop_copies(files, &mut places, |_, _| true, &mut notes)?;
        channels = channels_of(&mut places, &mut notes);
    }
    let Some(channels) = channels else { return Err(mixed(files, &places)) };
    let positions: Vec<_> =
        places.iter().map(|place| place[0].plane.position.unwrap_or_default()).collect();
    let affine = match (stated, stack_grid(&places[0][0].plane, &positions)) {
        (Some(affine), _) => affine,
        (None, Ok(grid)) => {
            notes.extend(grid.notes);
            grid.affine
        }
        (None, Err(uneven)) => {
            let [a, b] = uneven.between.map(|i| &places[i][0]);
            let message = format!(
                "{}: {}; add what is missing, or state an affine (--voxel-size) to stack them as \
                 they are",
                both(files, a, b),
                uneven.message,
            );
            return Err(Error::data(&first.path, message));
        }
    };
    let frames = (0..channels).flat_map(|c| places.iter().map(move |place| place[c].clone()));
    Ok(Arrangement { frames: frames.collect(), channels, affine, notes })
}

/// Refuses frames at one height that begin at different points.
fn check_places(files: &[Instance], places: &[Vec<Frame>]) -> Result<()> {
    let at = |frame: &Frame| frame.plane.position.unwrap_or_default();
    for place in places {
        let is_elsewhere = |frame: &&Frame| {
            at(frame).iter().zip(at(&place[0])).any(|(a, b)| (a - b).abs() > 2.0 * SAME_MM)
        };
        if let Some(moved) = place.iter().find(is_elsewhere) {
            let message = format!(
                "{} lie in one plane, but begin at {:?} and {:?}: they are no stack",
                both(files, &place[0], moved),
                at(&place[0]),
                at(moved),
            );
            return Err(Error::data(&files[place[0].file].path, message));
        }
    }
    Ok(())
}

/// The error of places with several frames that correspond to no others.
fn mixed(files: &[Instance], places: &[Vec<Frame>]) -> Error {
    let place = places.iter().max_by_key(|place| place.len()).expect("there is a frame");
    let count = places.iter().filter(|other| other.len() == place.len()).count();
    let message = format!(
        "{} lie at one place and differ; {count} of {} places have {} images, and nothing tells \
         which belong together: move those that do not belong to the volume elsewhere",
        both(files, &place[0], &place[1]),
        places.len(),
        place.len(),
    );
    Error::data(&files[place[0].file].path, message)
}

/// Orders frames that state no place.
fn unplaced(
    files: &[Instance],
    mut frames: Vec<Frame>,
    stated: Option<Affine>,
) -> Result<Arrangement> {
    let mut notes = Vec::new();
    let first = &files[frames[0].file];
    let is_one_file = frames.iter().all(|frame| frame.file == frames[0].file);
    if !is_one_file {
        frames.sort_by_key(|frame| (frame.order, frame.number));
        let is_ordered =
            frames.windows(2).all(|pair| pair[0].order.is_some() && pair[0].order < pair[1].order);
        if stated.is_none() || !is_ordered {
            let lacking = frames.iter().find(|frame| frame.plane.position.is_none());
            let lacking = lacking.unwrap_or(&frames[0]);
            let order = "; their instance numbers do not tell their order";
            let message = format!(
                "one of {} images without ImagePositionPatient or ImageOrientationPatient: ingest \
                 a file alone, or state an affine (--voxel-size){}",
                frames.len(),
                if is_ordered { "" } else { order },
            );
            return Err(Error::data(&files[lacking.file].path, message));
        }
        notes.push("its slices are in the order of their instance numbers".to_owned());
    }
    let plane = frames[0].plane;
    let affine = if let Some(affine) = stated {
        affine
    } else {
        let grid = stack_grid(&plane, &[plane.position.unwrap_or_default()]);
        let grid = grid.map_err(|uneven| Error::data(&first.path, uneven.message))?;
        notes.extend(grid.notes);
        grid.affine
    };
    if frames.len() > 1 && is_one_file {
        notes.push("its frames state no place: they are z steps in the file's order".to_owned());
    } else if plane.position.is_none() || plane.orientation.is_none() {
        notes.push("it states no place: it begins at 0".to_owned());
    }
    Ok(Arrangement { frames, channels: 1, affine, notes })
}

/// Removes frames that have the pixels of another at their place, of those files that `may_be`
/// copies.
fn drop_copies(
    files: &[Instance],
    places: &mut [Vec<Frame>],
    may_be: impl Fn(&Instance, &Instance) -> bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let mut dropped: Vec<String> = Vec::new();
    for place in places {
        let mut kept: Vec<Frame> = Vec::with_capacity(place.len());
        for frame in place.drain(..) {
            let file = &files[frame.file];
            let mut is_copy = false;
            for other in &kept {
                let is_candidate = other.file != frame.file && may_be(&files[other.file], file);
                if is_candidate && same_pixels(files, other, &frame)? {
                    is_copy = true;
                    break;
                }
            }
            if is_copy {
                dropped.push(file_name(&file.path));
            } else {
                kept.push(frame);
            }
        }
        *place = kept;
    }
    if let Some(name) = dropped.first() {
        let count = dropped.len();
        notes.push(format!("{count} copies of its images were left out, as {name}"));
    }
    Ok(())
}

/// Puts the frames of each place into the order of channels, and returns how many these are;
/// `None` if the frames of different places do not correspond.
fn channels_of(places: &mut [Vec<Frame>], notes: &mut Vec<String>) -> Option<usize> {
    let channels = places[0].len();
    if places.iter().any(|place| place.len() != channels) {
        return None;
    }
    if channels == 1 {
        return Some(1);
    }
    let by = ORDERS.into_iter().find(|(_, key)| is_order(places, *key));
    let by = if let Some((name, key)) = by {
        for place in places.iter_mut() {
            place.sort_by(|a, b| compare(&key(&a.phase), &key(&b.phase)));
        }
        if name.contains("gradient") {
            // Directions have no order but that in which they were acquired.
            let mut channels: Vec<usize> = (0..channels).collect();
            channels.sort_by_key(|&c| (places[0][c].order, places[0][c].number));
            for place in places.iter_mut() {
                *place = channels.iter().map(|&c| place[c].clone()).collect();
            }
        }
        name
    } else {
        // Places are sorted by this already.
        let differs = |pair: &[Frame]| pair[0].order < pair[1].order;
        let is_order =
            |place: &Vec<Frame>| place[0].order.is_some() && place.windows(2).all(differs);
        places.iter().all(is_order).then_some("instance numbers")?
    };
    notes.push(format!("{channels} images lie at each place: they are channels, by {by}"));
    Some(channels)
}

/// A key of numbers that may order channels; empty if there is none.
type PhaseKey = fn(&Phase) -> Vec<f64>;

/// What may order channels, in the order in which it is tried.
const ORDERS: [(&str, PhaseKey); 6] = [
    ("dimension indices", |phase| phase.dimensions.iter().map(|&i| f64::from(i)).collect()),
    ("temporal position", |phase| phase.temporal.iter().map(|&t| t as f64).collect()),
    ("b-value and gradient", |phase| phase.diffusion.clone()),
    ("trigger time", |phase| phase.trigger.into_iter().collect()),
    ("acquisition number", |phase| phase.acquisition.iter().map(|&n| n as f64).collect()),
    ("temporal position, b-value and gradient", |phase| {
        phase.temporal.iter().map(|&t| t as f64).chain(phase.diffusion.iter().copied()).collect()
    }),
];

/// Whether the keys of the frames at each place are the same, and all different.
fn is_order(places: &[Vec<Frame>], key: PhaseKey) -> bool {
    let keys = |place: &Vec<Frame>| {
        let mut keys: Vec<_> = place.iter().map(|frame| key(&frame.phase)).collect();
        keys.sort_by(|a, b| compare(a, b));
        keys
    };
    let first = keys(&places[0]);
    let is_set =
        first.iter().all(|key| !key.is_empty()) && first.windows(2).all(|pair| pair[0] != pair[1]);
    is_set && places[1..].iter().all(|place| keys(place) == first)
}

fn compare(a: &[f64], b: &[f64]) -> Ordering {
    let each = a.iter().zip(b).map(|(a, b)| a.total_cmp(b));
    each.fold(Ordering::Equal, Ordering::then).then(a.len().cmp(&b.len()))
}

/// The names of two frames' files, with the numbers of frames where there are several.
fn both(files: &[Instance], a: &Frame, b: &Frame) -> String {
    let name = |frame: &Frame| {
        let file = &files[frame.file];
        let name = file_name(&file.path);
        if file.frame_count == 1 { name } else { format!("{name} frame {}", frame.number + 1) }
    };
    format!("{} and {}", name(a), name(b))
}

/// Whether several frames lie at one place, so that what tells them apart makes volumes of them.
pub(super) fn has_repeated_places(frames: &[&Frame]) -> bool {
    let Some(normal) = frames[0].plane.normal() else { return false };
    let heights = frames.iter().filter_map(|frame| Some(dot(frame.plane.position?, normal)));
    let mut seen = BTreeSet::new();
    heights.into_iter().any(|height| !seen.insert((height / SAME_MM).round() as i64))
}
