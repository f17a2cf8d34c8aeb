//! Where the slices of a picture meet.

use std::str::FromStr;

use voxquarry::format::attributes::Kind;
use voxquarry::{Affine, Error, Padding, Result, Size3, Subject, Volume, Voxel, with_voxel};

/// The place that `--at` asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Meeting {
    Middle,
    Labels,
    /// `(x, y, z)` in the space of the affine.
    Position([f64; 3]),
}

impl FromStr for Meeting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "middle" => return Ok(Self::Middle),
            "labels" => return Ok(Self::Labels),
            _ => {}
        }
        let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
        match numbers.as_deref() {
            Ok(&[x, y, z]) if [x, y, z].iter().all(|n| n.is_finite()) => {
                Ok(Self::Position([x, y, z]))
            }
            _ => Err("expected middle, labels, or a position x,y,z as in 12,-40.5,88".to_owned()),
        }
    }
}

impl Meeting {
    /// The voxel of a subject's volumes at the place; `None` for the one in the middle, also where
    /// there are no labels.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a position outside of the volume; those of reading labels.
    pub(crate) fn voxel(self, subject: &Subject, volume: &Volume) -> Result<Option<Size3>> {
        match self {
            Self::Middle => Ok(None),
            Self::Labels => {
                for name in subject.volumes() {
                    let labels = subject.volume(name)?;
                    if labels.kind() == Kind::Labels {
                        return labelled(&labels);
                    }
                }
                Ok(None)
            }
            Self::Position(position) => {
                let size = volume.size();
                let index = index_of(volume.affine(), position).map(f64::round);
                let is_in = |axis: usize| index[axis] >= 0.0 && index[axis] < size[axis] as f64;
                if !(0..3).all(is_in) {
                    let [x, y, z] = position;
                    let [i, j, k] = index;
                    let reason = format!(
                        "the position {x},{y},{z} is the voxel {i},{j},{k} (z, y, x), outside of \
                         {}/{}, which has {size:?}",
                        subject.name(),
                        volume.name(),
                    );
                    return Err(Error::unsupported(reason, "choose another, or --at middle"));
                }
                Ok(Some(index.map(|n| n as usize)))
            }
        }
    }
}

/// The index `(z, y, x)` of a position `(x, y, z)`: Cramer's rule. Affines are not singular.
fn index_of(affine: &Affine, position: [f64; 3]) -> [f64; 3] {
    let rows = affine.0;
    let at: [f64; 3] = [0, 1, 2].map(|r| position[r] - rows[r][3]);
    let determinant = |column: [f64; 3], replaced: Option<usize>| {
        let m = |r: usize, c: usize| if replaced == Some(c) { column[r] } else { rows[r][c] };
        m(0, 0) * (m(1, 1) * m(2, 2) - m(1, 2) * m(2, 1))
            - m(0, 1) * (m(1, 0) * m(2, 2) - m(1, 2) * m(2, 0))
            + m(0, 2) * (m(1, 0) * m(2, 1) - m(1, 1) * m(2, 0))
    };
    let whole = determinant(at, None);
    [2, 1, 0].map(|axis| determinant(at, Some(axis)) / whole)
}

/// The planes with most labels of the chunk with most labels; `None` if there are none.
fn labelled(labels: &Volume) -> Result<Option<Size3>> {
    let counts = labels.label_counts()?;
    let voxels = |i: usize| counts.chunk(i).map(|(_, n)| u64::from(n)).sum::<u64>();
    // The first of equals.
    let fullest = (0..counts.chunks()).rev().max_by_key(|&i| voxels(i));
    let Some(fullest) = fullest.filter(|&i| voxels(i) > 0) else { return Ok(None) };
    let layout = labels.layout();
    let grid = [0, 1, 2].map(|a| layout.size[a].div_ceil(layout.chunk[a]));
    let in_channel = fullest % (grid[0] * grid[1] * grid[2]);
    let channel = fullest / (grid[0] * grid[1] * grid[2]);
    let chunk =
        [in_channel / grid[2] / grid[1], in_channel / grid[2] % grid[1], in_channel % grid[2]];
    let start = [0, 1, 2].map(|a| chunk[a] * layout.chunk[a]);
    let extent = [0, 1, 2].map(|a| layout.chunk[a].min(layout.size[a] - start[a]));
    let planes =
        with_voxel!(labels.dtype(), T => fullest_planes::<T>(labels, channel, start, extent))?;
    Ok(Some([0, 1, 2].map(|a| start[a] + planes[a])))
}

/// Of each axis, the plane of a box with most voxels other than 0.
fn fullest_planes<T: Voxel>(
    labels: &Volume,
    channel: usize,
    start: Size3,
    extent: Size3,
) -> Result<Size3> {
    let mut voxels = vec![T::default(); extent.iter().product()];
    let bytes = bytemuck::cast_slice_mut(&mut voxels);
    let start = start.map(|n| n as i64);
    labels.read_bytes(&[start], extent, Padding::None, channel..channel + 1, bytes)?;
    let mut counts = extent.map(|n| vec![0usize; n]);
    for (i, _) in voxels.iter().enumerate().filter(|(_, voxel)| voxel.to_f64() != 0.0) {
        let [_, y, x] = extent;
        for (axis, at) in [i / x / y, i / x % y, i % x].into_iter().enumerate() {
            counts[axis][at] += 1;
        }
    }
    let fullest = |counts: &Vec<usize>| (0..counts.len()).rev().max_by_key(|&i| counts[i]);
    Ok(counts.each_ref().map(|counts| fullest(counts).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_those_of_the_affine() {
        let mut affine = Affine([[0.0; 4]; 4]);
        affine.0 = [
            [0.0, -1.8, 0.6, 10.0],
            [1.9, 0.0, 0.1, -20.0],
            [0.1, 0.7, 2.5, 30.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let index = [3.0, 5.0, 7.0];
        let found = index_of(&affine, affine.apply(index));
        assert!((0..3).all(|a| (found[a] - index[a]).abs() < 1e-9), "{found:?}");
    }

    #[test]
    fn places_are_parsed() {
        assert_eq!("labels".parse(), Ok(Meeting::Labels));
        assert_eq!("12,-40.5, 88".parse(), Ok(Meeting::Position([12.0, -40.5, 88.0])));
        for text in ["", "1,2", "1,2,3,4", "nan,1,2", "label"] {
            assert!(text.parse::<Meeting>().unwrap_err().contains("middle"), "{text}");
        }
    }
}
