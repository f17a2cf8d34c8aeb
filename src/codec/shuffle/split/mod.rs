//! Makes the planes of a block: what an encoder does, and [`super::join`] undoes.
//!
//! # Invariants
//! - Every kernel gives the same bytes as [`scalar`], which is the shuffles' definition.

#[cfg(target_arch = "x86_64")]
mod x86;

use super::super::kernel::Kernel;
use super::transpose8;
use crate::codec::planes::Grouping;

/// Groups the bytes or bits of `elements`, of `t` bytes each, by significance into `out`; both hold whole elements.
///
/// For bits, elements whose count is no multiple of 8 stay as they are.
pub(in crate::codec) fn split(
    kernel: Kernel,
    grouping: Grouping,
    elements: &[u8],
    out: &mut [u8],
    t: usize,
) {
    if grouping == Grouping::Bits && !(elements.len() / t).is_multiple_of(8) {
        out.copy_from_slice(elements);
        return;
    }
    let done = match kernel {
        Kernel::Portable => 0,
        #[cfg(target_arch = "x86_64")]
        _ => match t {
            1 => x86::split::<1>(kernel, grouping, elements, out),
            2 => x86::split::<2>(kernel, grouping, elements, out),
            4 => x86::split::<4>(kernel, grouping, elements, out),
            8 => x86::split::<8>(kernel, grouping, elements, out),
            _ => unreachable!("elements of {t} bytes: data types have 1, 2, 4 or 8"),
        },
    };
    scalar(grouping, elements, out, t, done);
}

/// As [`split`], from the element `first` on, which is the first of eight for bits.
fn scalar(grouping: Grouping, elements: &[u8], out: &mut [u8], t: usize, first: usize) {
    let m = elements.len() / t;
    for (k, plane) in out.chunks_exact_mut(m).enumerate() {
        match grouping {
            Grouping::Bytes => {
                for (to, element) in plane.iter_mut().zip(elements.chunks_exact(t)).skip(first) {
                    *to = element[k];
                }
            }
            Grouping::Bits => {
                let row = m / 8;
                for group in first / 8..row {
                    let bytes = std::array::from_fn(|i| elements[(8 * group + i) * t + k]);
                    let bits = transpose8(u64::from_le_bytes(bytes)).to_le_bytes();
                    for (j, byte) in bits.into_iter().enumerate() {
                        plane[j * row + group] = byte;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_agree() {
        for &kernel in Kernel::available() {
            for t in [1, 2, 4, 8] {
                for m in [1, 8, 9, 63, 64, 72, 200, 1000, 4096] {
                    let elements: Vec<u8> =
                        (0..m * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
                    for grouping in [Grouping::Bytes, Grouping::Bits] {
                        let (mut expected, mut found) = (vec![0; m * t], vec![0xa5; m * t]);
                        if grouping == Grouping::Bits && m % 8 != 0 {
                            expected.clone_from(&elements);
                        } else {
                            scalar(grouping, &elements, &mut expected, t, 0);
                        }
                        split(kernel, grouping, &elements, &mut found, t);
                        assert!(found == expected, "{kernel:?} {grouping:?} t {t} m {m}");
                    }
                }
            }
        }
    }

    #[test]
    fn bits_lie_where_the_specification_says() {
        // Bit j of byte k of element i lies at bit i mod 8 of byte (8·k + j)·(m / 8) + i div 8.
        let (t, m) = (2, 16);
        for (i, k, j) in [(0, 0, 0), (9, 1, 3), (15, 1, 7), (6, 0, 5)] {
            let (mut elements, mut found) = (vec![0; m * t], vec![0; m * t]);
            elements[i * t + k] = 1 << j;
            split(Kernel::Portable, Grouping::Bits, &elements, &mut found, t);
            let mut expected = vec![0; m * t];
            expected[(8 * k + j) * (m / 8) + i / 8] = 1 << (i % 8);
            assert_eq!(found, expected);
        }
    }
}
