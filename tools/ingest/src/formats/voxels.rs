//! Swaps byte order, and converts between interleaved samples in a file and separate planes in a
//! volume.
//!
//! Not here: reading and writing the bytes.

/// Upper bound of the voxels that a header may state: more than any disk holds, and eight bytes
/// each do not overflow.
pub(crate) const MAX_VOXELS: u64 = 1 << 59;

/// The order of the bytes of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(unreachable_pub)]
pub enum ByteOrder {
    /// The least first.
    Little,
    /// The greatest first.
    Big,
}

impl ByteOrder {
    /// Its name in metadata.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Little => "little",
            Self::Big => "big",
        }
    }
}

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

/// Splits units of `planes.len()` runs of `run` bytes each: run `i` of each unit goes to
/// `planes[i]`. Runs beyond the end of a plane are left out.
pub(crate) fn split_runs(units: &[u8], planes: &mut [&mut [u8]], run: usize) {
    let is_exact = planes.iter().all(|plane| plane.len() * planes.len() == units.len());
    match run {
        1 if is_exact && matches!(planes.len(), 3 | 4) => split(units, planes),
        1 => split_fixed::<1>(units, planes),
        2 => split_fixed::<2>(units, planes),
        4 => split_fixed::<4>(units, planes),
        8 => split_fixed::<8>(units, planes),
        _ => {
            let samples = planes.len();
            for (i, plane) in planes.iter_mut().enumerate() {
                let own = units.chunks_exact(run).skip(i).step_by(samples);
                for (out, from) in plane.chunks_exact_mut(run).zip(own) {
                    out.copy_from_slice(from);
                }
            }
        }
    }
}

fn split_fixed<const N: usize>(units: &[u8], planes: &mut [&mut [u8]]) {
    let (runs, samples) = (units.as_chunks::<N>().0, planes.len());
    for (i, plane) in planes.iter_mut().enumerate() {
        let own = runs.iter().skip(i).step_by(samples);
        for (out, run) in plane.as_chunks_mut::<N>().0.iter_mut().zip(own) {
            *out = *run;
        }
    }
}

/// Splits voxels of `planes.len()` samples: sample `i` of each voxel goes to `planes[i]`.
pub(crate) fn split(voxels: &[u8], planes: &mut [&mut [u8]]) {
    match planes {
        [r, g, b] => split_each([r, g, b], voxels),
        [r, g, b, a] => split_each([r, g, b, a], voxels),
        _ => unreachable!("RGB or RGBA"),
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
    fn runs_of_any_width_are_split() {
        for run in [1, 2, 3, 4, 8] {
            for samples in [1, 2, 3, 5] {
                let units: Vec<u8> = (0..run * samples * 4).map(|i| i as u8).collect();
                let mut planes = vec![vec![0; run * 4]; samples];
                let mut parts: Vec<_> = planes.iter_mut().map(|plane| &mut plane[..]).collect();
                split_runs(&units, &mut parts, run);
                for (sample, plane) in planes.iter().enumerate() {
                    for (i, &byte) in plane.iter().enumerate() {
                        let at = (i / run * samples + sample) * run + i % run;
                        assert_eq!(byte, units[at], "run {run}, sample {sample} of {samples}");
                    }
                }
            }
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
