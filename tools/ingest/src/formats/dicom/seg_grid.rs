//! Places the frames of a segmentation on slices: those of the series that it was made on, if that
//! is at hand, otherwise those of its own that hold something.
//!
//! # Invariants
//! - Every frame lies on a slice, within a tenth of a voxel.

use voxquarry::{Affine, Error, Result};

use super::arrange::arrange;
use super::frame::{Frame, dot};
use super::geometry::stack_grid;
use super::instance::Instance;
use super::scan::{Scan, ScannedVolume, is_same_plane};

/// A frame may lie beside its place by that part of a voxel.
const MAX_OFF_VOXELS: f64 = 0.1;
/// More slices than any scanner makes.
const MAX_SLICES: usize = 1 << 14;

/// The frames of a segmentation, and the slices that they lie on.
pub(super) struct SegmentGrid {
    /// Each frame with its slice, in the order of slices.
    pub(super) frames: Vec<(usize, Frame)>,
    pub(super) slices: usize,
    pub(super) affine: Affine,
    pub(super) notes: Vec<String>,
}

/// Places the frames of a segmentation.
///
/// # Errors
/// [`Error::Data`] if their places are unknown, or on no common grid.
pub(super) fn segment_grid(
    scan: &Scan,
    volume: &ScannedVolume,
    stated: Option<Affine>,
) -> Result<SegmentGrid> {
    let first = &scan.files[volume.frames[0].file];
    let is_placed = volume.frames.iter().all(|frame| frame.plane.position.is_some());
    if !is_placed || volume.frames[0].plane.normal().is_none() {
        return Err(Error::data(&first.path, "its segments do not state where they lie"));
    }
    let mut grid = match on_series(scan, volume) {
        Some(grid) => grid,
        None => on_own(first, &volume.frames)?,
    };
    grid.affine = stated.unwrap_or(grid.affine);
    grid.frames.sort_by_key(|(slice, frame)| (*slice, frame.segment, frame.file, frame.number));
    Ok(grid)
}

/// The grid of the series that a segmentation refers to, if all frames lie on it.
fn on_series(scan: &Scan, volume: &ScannedVolume) -> Option<SegmentGrid> {
    let (file, plane) = (&scan.files[volume.frames[0].file], &volume.frames[0].plane);
    let extents = |file: &Instance| (file.form.rows, file.form.columns);
    let is_series = |other: &&ScannedVolume| {
        let of = &scan.files[other.frames[0].file];
        of.segments.is_none()
            && of.series == file.referenced_series
            && extents(of) == extents(file)
            && is_same_plane(&other.frames[0].plane, plane)
    };
    let series = scan.volumes.iter().find(is_series)?;
    let arranged = arrange(&scan.files, series.frames.clone(), None).ok()?;
    let (slices, affine) = (arranged.slices(), arranged.affine);
    let slice_of = |frame: &Frame| {
        let index = index_of(&affine, frame.plane.position?)?;
        let nearest = index.map(f64::round);
        let is_near = index.iter().zip(nearest).all(|(a, b)| (a - b).abs() <= MAX_OFF_VOXELS);
        let is_inside = (0.0..slices as f64).contains(&nearest[2]);
        (is_near && is_inside && nearest[..2] == [0.0, 0.0]).then_some(nearest[2] as usize)
    };
    let frames = volume.frames.iter().map(|frame| Some((slice_of(frame)?, frame.clone())));
    let frames = frames.collect::<Option<Vec<_>>>()?;
    let notes = vec![format!("it lies on the grid of {}", series.name)];
    Some(SegmentGrid { frames, slices, affine, notes })
}

/// The voxel index (x, y, z) of a position in LPS+.
fn index_of(affine: &Affine, position: [f64; 3]) -> Option<[f64; 3]> {
    let column = |i: usize| [affine.0[0][i], affine.0[1][i], affine.0[2][i]];
    let [x, y, z] = position;
    let at = [-x - affine.0[0][3], -y - affine.0[1][3], z - affine.0[2][3]];
    let cross = |a: [f64; 3], b: [f64; 3]| {
        [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]
    };
    let (a, b, c) = (column(0), column(1), column(2));
    let volume = dot(a, cross(b, c));
    let index = [dot(at, cross(b, c)), dot(at, cross(c, a)), dot(at, cross(a, b))];
    let index = index.map(|v| v / volume);
    index.iter().all(|v| v.is_finite()).then_some(index)
}

/// Slices of its own: the smallest distance of two frames is that of slices, and those without a
/// frame are empty.
fn on_own(file: &Instance, frames: &[Frame]) -> Result<SegmentGrid> {
    let normal = frames[0].plane.normal().expect("the caller has checked it");
    let position = |frame: &Frame| frame.plane.position.expect("the caller has checked it");
    let mut sorted: Vec<Frame> = frames.to_vec();
    let height = |frame: &Frame| dot(position(frame), normal);
    sorted.sort_by(|a, b| height(a).total_cmp(&height(b)));
    let (first, last) = (&sorted[0], &sorted[sorted.len() - 1]);
    let (low, whole) = (height(first), height(last) - height(first));
    let gaps = sorted.windows(2).map(|pair| height(&pair[1]) - height(&pair[0]));
    let smallest = gaps.filter(|gap| *gap > 1e-3).fold(f64::INFINITY, f64::min);
    let steps = if smallest.is_finite() { (whole / smallest).round() } else { 0.0 };
    if steps >= MAX_SLICES as f64 {
        let message = format!("its segments lie {smallest} mm apart over {whole} mm");
        return Err(Error::data(&file.path, message));
    }
    let slices = steps as usize + 1;
    let step = if slices == 1 { 1.0 } else { whole / steps };
    let (origin, end) = (position(first), position(last));
    let place = |slice: usize| {
        let part = if slices == 1 { 0.0 } else { slice as f64 / steps };
        [0, 1, 2].map(|i| origin[i] + (end[i] - origin[i]) * part)
    };
    let mut placed = Vec::with_capacity(sorted.len());
    for frame in sorted {
        let slice = ((height(&frame) - low) / step).round() as usize;
        let (found, expected) = (position(&frame), place(slice));
        let off = (0..3).map(|i| (found[i] - expected[i]).abs()).fold(0.0, f64::max);
        if off > MAX_OFF_VOXELS * step.abs() {
            let message = format!(
                "frame {} lies {off:.4} mm beside slices {step:.4} mm apart: put the series that \
                 it was made on into the same folder",
                frame.number + 1
            );
            return Err(Error::data(&file.path, message));
        }
        placed.push((slice, frame));
    }
    let positions: Vec<_> = (0..slices).map(place).collect();
    let grid = stack_grid(&placed[0].1.plane, &positions)
        .map_err(|uneven| Error::data(&file.path, uneven.message))?;
    let mut notes = grid.notes;
    notes.push(format!(
        "its grid are the {slices} slices from its first segment to its last: put the series that \
         it was made on into the same folder for that one's"
    ));
    Ok(SegmentGrid { frames: placed, slices, affine: grid.affine, notes })
}
