//! Counts the labels in the voxels of one chunk.

use super::rows::{InvalidVoxel, rows};
use crate::{Dtype, Region, Result, Size3, Voxel, with_voxel};

/// Counts the voxels of each label in `inside`, the first voxels of a box of `extents`. Labels
/// ascend; label 0 is left out.
///
/// # Errors
/// The first voxel, in C order, that is no label.
pub(crate) fn count_labels(
    voxels: &[u8],
    dtype: Dtype,
    extents: Size3,
    inside: Region,
) -> Result<Vec<(i64, u32)>, InvalidVoxel> {
    let counted = with_voxel!(dtype, T => count_runs(rows::<T>(voxels, extents, inside)));
    counted.map_err(|(value, row, x)| InvalidVoxel {
        index: [row / inside.size[1], row % inside.size[1], x],
        value,
        rule: "label maps hold integers, store it as an image",
    })
}

fn count_runs<'a, T: Voxel>(
    rows: impl Iterator<Item = &'a [T]>,
) -> Result<Vec<(i64, u32)>, (f64, usize, usize)> {
    let mut runs: Vec<(i64, u32)> = Vec::new();
    for (y, row) in rows.enumerate() {
        let mut x = 0;
        while x < row.len() {
            let value = row[x];
            let length = row[x..].iter().take_while(|&&v| v == value).count();
            // NaN differs from itself: its run is empty, and it is no label.
            let label = value.to_label().ok_or_else(|| (value.to_f64(), y, x))?;
            x += length;
            match runs.last_mut() {
                _ if label == 0 => {}
                Some((last, count)) if *last == label => *count += length as u32,
                _ => runs.push((label, length as u32)),
            }
        }
    }
    runs.sort_unstable_by_key(|run| run.0);
    runs.dedup_by(|next, first| {
        first.0 == next.0 && {
            first.1 += next.1;
            true
        }
    });
    Ok(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_counted_and_fractions_located() {
        let found = count_runs([&[3i16, 3, 0, -1][..], &[0, 3, 7, 7]].into_iter()).unwrap();
        assert_eq!(found, [(-1, 1), (3, 3), (7, 2)]);
        assert_eq!(count_runs([&[1.0f32, 0.5][..]].into_iter()).unwrap_err(), (0.5, 0, 1));
        assert_eq!(count_runs([&[0.0f32][..], &[f32::NAN]].into_iter()).unwrap_err().1, 1);
    }
}
