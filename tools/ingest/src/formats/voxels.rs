//! Swaps byte order, and converts between interleaved samples in a file and separate planes in a
//! volume.
//!
//! Not here: reading and writing the bytes (`input`, `write`).

/// Reverses the bytes of each element of `width` bytes, in place.
pub(crate) fn swap(bytes: &mut [u8], width: usize) {
    match width {
        2 => swap_each::<2>(bytes),
        4 => swap_each::<4>(bytes),
        8 => swap_each::<8>(bytes),
        _ => {}
    }
}

fn swap_each<const N: usize>(bytes: &mut [u8]) {
    bytes.as_chunks_mut::<N>().0.iter_mut().for_each(|number| number.reverse());
}

/// Splits voxels of `planes.len()` samples: sample `i` of each voxel goes to `planes[i]`.
pub(crate) fn split(voxels: &[u8], planes: &mut [&mut [u8]]) {
    match planes {
        [r, g, b] => split_each([r, g, b], voxels),
        [r, g, b, a] => split_each([r, g, b, a], voxels),
        _ => unreachable!("RGB or RGBA"),
    }
}

/// Splits voxels of `planes.len()` samples of `size` bytes each, as [`split`] does for bytes.
pub(crate) fn split_elements(voxels: &[u8], size: usize, planes: &mut [&mut [u8]]) {
    let samples = planes.len();
    for (channel, plane) in planes.iter_mut().enumerate() {
        let elements = voxels.chunks_exact(size).skip(channel).step_by(samples);
        for (to, from) in plane.chunks_exact_mut(size).zip(elements) {
            to.copy_from_slice(from);
        }
    }
}

fn split_each<const N: usize>(mut planes: [&mut [u8]; N], voxels: &[u8]) {
    for (i, voxel) in voxels.as_chunks::<N>().0.iter().enumerate() {
        for (plane, &sample) in planes.iter_mut().zip(voxel) {
            plane[i] = sample;
        }
    }
}

/// Interleaves planes, the inverse of [`split`].
pub(crate) fn join(planes: &[&[u8]], voxels: &mut [u8]) {
    match *planes {
        [r, g, b] => join_each([r, g, b], voxels),
        [r, g, b, a] => join_each([r, g, b, a], voxels),
        _ => unreachable!("RGB or RGBA"),
    }
}

fn join_each<const N: usize>(planes: [&[u8]; N], voxels: &mut [u8]) {
    for (i, voxel) in voxels.as_chunks_mut::<N>().0.iter_mut().enumerate() {
        *voxel = planes.map(|plane| plane[i]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn swapping_reverses_each_element() {
        for (width, expected) in [
            (1, [1, 2, 3, 4, 5, 6, 7, 8]),
            (2, [2, 1, 4, 3, 6, 5, 8, 7]),
            (4, [4, 3, 2, 1, 8, 7, 6, 5]),
            (8, [8, 7, 6, 5, 4, 3, 2, 1]),
        ] {
            let mut bytes = [1, 2, 3, 4, 5, 6, 7, 8];
            swap(&mut bytes, width);
            assert_eq!(bytes, expected);
        }
    }

    #[test]
    fn joining_inverts_splitting() {
        let voxels = [1, 2, 3, 4, 5, 6];
        let [mut r, mut g, mut b] = [[0; 2]; 3];
        split(&voxels, &mut [&mut r, &mut g, &mut b]);
        assert_eq!([r, g, b], [[1, 4], [2, 5], [3, 6]]);
        let mut joined = [0; 6];
        join(&[&r, &g, &b], &mut joined);
        assert_eq!(joined, voxels);
    }
}
