//! Byte and bit shuffles of one block (§6), portable.
//!
//! Elements of t bytes become t planes of equal bytes, or 8 t planes of bits, which compress better than interleaved ones.

/// Groups the bytes of `elements` by significance into `out`; both hold whole elements of `t` bytes and perhaps a rest.
pub(super) fn shuffle_bytes(elements: &[u8], out: &mut [u8], t: usize) {
    let m = elements.len() / t;
    for k in 0..t {
        for (to, element) in out[k * m..(k + 1) * m].iter_mut().zip(elements.chunks_exact(t)) {
            *to = element[k];
        }
    }
    out[m * t..].copy_from_slice(&elements[m * t..]);
}

/// Undoes [`shuffle_bytes`].
pub(super) fn unshuffle_bytes(planes: &[u8], out: &mut [u8], t: usize) {
    let m = planes.len() / t;
    for k in 0..t {
        for (from, element) in planes[k * m..(k + 1) * m].iter().zip(out.chunks_exact_mut(t)) {
            element[k] = *from;
        }
    }
    out[m * t..].copy_from_slice(&planes[m * t..]);
}

/// Undoes the bit shuffle; a block whose element count is no multiple of 8 was never shuffled.
pub(super) fn unshuffle_bits(planes: &[u8], out: &mut [u8], t: usize) {
    let m = planes.len() / t;
    if m % 8 != 0 {
        out.copy_from_slice(planes);
        return;
    }
    let row = m / 8;
    for k in 0..t {
        for group in 0..row {
            // Eight bits of eight elements: an 8×8 bit matrix, transposed.
            let bits: [u8; 8] = std::array::from_fn(|j| planes[(8 * k + j) * row + group]);
            for (i, byte) in
                transpose8(u64::from_le_bytes(bits)).to_le_bytes().into_iter().enumerate()
            {
                out[(8 * group + i) * t + k] = byte;
            }
        }
    }
    out[m * t..].copy_from_slice(&planes[m * t..]);
}

/// Bit-shuffles `elements` into `out`.
pub(super) fn shuffle_bits(elements: &[u8], out: &mut [u8], t: usize) {
    let m = elements.len() / t;
    if m % 8 != 0 {
        out.copy_from_slice(elements);
        return;
    }
    let row = m / 8;
    for k in 0..t {
        for group in 0..row {
            let bytes: [u8; 8] = std::array::from_fn(|i| elements[(8 * group + i) * t + k]);
            for (j, byte) in
                transpose8(u64::from_le_bytes(bytes)).to_le_bytes().into_iter().enumerate()
            {
                out[(8 * k + j) * row + group] = byte;
            }
        }
    }
    out[m * t..].copy_from_slice(&elements[m * t..]);
}

/// Transposes an 8×8 bit matrix whose row r is byte r (Hacker's Delight, 7-3).
fn transpose8(mut x: u64) -> u64 {
    for (mask, shift) in
        [(0x00aa_00aa_00aa_00aa, 7), (0x0000_cccc_0000_cccc, 14), (0x0000_0000_f0f0_f0f0, 28)]
    {
        let t = (x ^ (x >> shift)) & mask;
        x ^= t ^ (t << shift);
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transpose_swaps_row_and_column() {
        for row in 0..8 {
            for column in 0..8 {
                assert_eq!(transpose8(1 << (8 * row + column)), 1 << (8 * column + row));
            }
        }
    }

    #[test]
    fn shuffles_undo_each_other() {
        for t in [1, 2, 3, 4, 8, 16] {
            for len in [0, 1, 7, 8 * t, 8 * t + 1, 40 * t, 41 * t] {
                let elements: Vec<u8> = (0..len).map(|i| (i * 37 + i / 7) as u8).collect();
                let (mut planes, mut back) = (vec![0; len], vec![0; len]);
                shuffle_bytes(&elements, &mut planes, t);
                unshuffle_bytes(&planes, &mut back, t);
                assert_eq!(back, elements, "bytes, t {t}, len {len}");
                shuffle_bits(&elements, &mut planes, t);
                unshuffle_bits(&planes, &mut back, t);
                assert_eq!(back, elements, "bits, t {t}, len {len}");
            }
        }
    }
}
