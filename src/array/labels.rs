//! Counts the labels in the voxels of one chunk.

use std::collections::BTreeMap;

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
        rule: if dtype == Dtype::UInt64 {
            "labels are smaller than 2⁶³, renumber them or store it as an image"
        } else {
            "label maps hold integers, store it as an image"
        },
    })
}

fn count_runs<'a, T: Voxel>(
    rows: impl Iterator<Item = &'a [T]>,
) -> Result<Vec<(i64, u32)>, (String, usize, usize)> {
    let mut runs: Vec<(i64, u32)> = Vec::new();
    for (y, row) in rows.enumerate() {
        let mut x = 0;
        while x < row.len() {
            let value = row[x];
            let length = row[x..].iter().take_while(|&&v| v == value).count();
            // NaN differs from itself: its run is empty, and it is no label.
            let label = value.to_label().ok_or_else(|| (shown(value), y, x))?;
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

/// The box of each label above 0 in a box of `extents`, from its first voxel: start and end,
/// `(z, y, x)`. Labels ascend.
pub(crate) fn label_boxes(voxels: &[u8], dtype: Dtype, extents: Size3) -> Vec<(i64, LabelBox)> {
    let mut boxes = BTreeMap::new();
    with_voxel!(dtype, T => {
        for (row, found) in rows::<T>(voxels, extents, Region::whole(extents)).enumerate() {
            add_row(&mut boxes, [row / extents[1], row % extents[1]], found);
        }
    });
    boxes.into_iter().collect()
}

/// The first voxel of a box, and one past the last, along each axis.
pub(crate) type LabelBox = [[usize; 2]; 3];

/// The smallest box that holds both.
pub(crate) fn joined(one: LabelBox, other: LabelBox) -> LabelBox {
    [0, 1, 2].map(|a| [one[a][0].min(other[a][0]), one[a][1].max(other[a][1])])
}

fn add_row<T: Voxel>(boxes: &mut BTreeMap<i64, LabelBox>, [z, y]: [usize; 2], row: &[T]) {
    let mut x = 0;
    while x < row.len() {
        let value = row[x];
        let length = row[x..].iter().take_while(|&&v| v == value).count().max(1);
        if let Some(label) = value.to_label().filter(|&label| label > 0) {
            let run = [[z, z + 1], [y, y + 1], [x, x + length]];
            boxes.entry(label).and_modify(|b| *b = joined(*b, run)).or_insert(run);
        }
        x += length;
    }
}

/// The exact value of a voxel that is no label: a float, or a `uint64` beyond all labels.
fn shown<T: Voxel>(voxel: T) -> String {
    match bytemuck::bytes_of(&voxel).try_into() {
        Ok(bytes) if T::DTYPE == Dtype::UInt64 => u64::from_le_bytes(bytes).to_string(),
        _ => voxel.to_f64().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_hold_each_label_and_nothing_around_it() {
        // (2, 2, 3)
        let voxels: [i16; 12] = [0, 5, 5, 0, 0, 0, 7, 0, 5, -1, 7, 7];
        let found = label_boxes(bytemuck::cast_slice(&voxels), Dtype::Int16, [2, 2, 3]);
        assert_eq!(found, [(5, [[0, 2], [0, 1], [1, 3]]), (7, [[1, 2], [0, 2], [0, 3]])]);
    }

    #[test]
    fn labels_are_counted_and_fractions_located() {
        let found = count_runs([&[3i16, 3, 0, -1][..], &[0, 3, 7, 7]].into_iter()).unwrap();
        assert_eq!(found, [(-1, 1), (3, 3), (7, 2)]);
        let fraction = count_runs([&[1.0f32, 0.5][..]].into_iter()).unwrap_err();
        assert_eq!(fraction, ("0.5".to_owned(), 0, 1));
        let large = [(1u64 << 63) - 1, (1 << 63) + 1];
        let beyond = count_runs([&large[..]].into_iter()).unwrap_err();
        assert_eq!(beyond, ("9223372036854775809".to_owned(), 0, 1));
        assert_eq!(count_runs([&[0.0f32][..], &[f32::NAN]].into_iter()).unwrap_err().1, 1);
    }
}
