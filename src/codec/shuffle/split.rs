//! Splits elements into planes with the best kernel of the CPU.

#[cfg(target_arch = "aarch64")]
use super::neon;
use super::portable;
#[cfg(target_arch = "x86_64")]
use super::split_x86;
use crate::codec::planes::PlaneKind;
use crate::sys::isa::Isa;

/// Splits `elements`, of `t` bytes each, into planes in `out`, which is as long.
///
/// A number of elements that is no multiple of 8 cannot be split into bits: they are copied.
pub(in crate::codec) fn split(
    isa: Isa,
    kind: PlaneKind,
    elements: &[u8],
    out: &mut [u8],
    t: usize,
) {
    if kind == PlaneKind::Bits && !(elements.len() / t).is_multiple_of(8) {
        out.copy_from_slice(elements);
        return;
    }
    let done = match isa {
        Isa::Base => 0,
        #[cfg(target_arch = "aarch64")]
        Isa::Neon => match t {
            1 => neon::split::<1>(kind, elements, out),
            2 => neon::split::<2>(kind, elements, out),
            4 => neon::split::<4>(kind, elements, out),
            8 => neon::split::<8>(kind, elements, out),
            _ => unreachable!("elements of {t} bytes: data types have 1, 2, 4 or 8"),
        },
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2 | Isa::Avx512 | Isa::Avx512Gfni => match t {
            1 => split_x86::split::<1>(isa, kind, elements, out),
            2 => split_x86::split::<2>(isa, kind, elements, out),
            4 => split_x86::split::<4>(isa, kind, elements, out),
            8 => split_x86::split::<8>(isa, kind, elements, out),
            _ => unreachable!("elements of {t} bytes: data types have 1, 2, 4 or 8"),
        },
    };
    portable::split(kind, elements, out, t, done);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_agree() {
        for isa in Isa::all() {
            for t in [1, 2, 4, 8] {
                for m in [1, 8, 9, 63, 64, 72, 200, 1000, 4096] {
                    let elements: Vec<u8> =
                        (0..m * t).map(|i| (i * 37 + i / 7 + i * i / 91) as u8).collect();
                    for kind in [PlaneKind::Bytes, PlaneKind::Bits] {
                        let (mut expected, mut found) = (vec![0; m * t], vec![0xa5; m * t]);
                        if kind == PlaneKind::Bits && m % 8 != 0 {
                            expected.clone_from(&elements);
                        } else {
                            portable::split(kind, &elements, &mut expected, t, 0);
                        }
                        split(isa, kind, &elements, &mut found, t);
                        assert!(found == expected, "{isa:?} {kind:?} t {t} m {m}");
                    }
                }
            }
        }
    }
}
