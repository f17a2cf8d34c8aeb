//! Joins byte planes straight into rows that begin and end anywhere.
//!
//! The kernels for whole groups would need a buffer, and a copy of a part of it. Here a row is
//! joined in vectors of elements, the last of which ends with the row, so a few elements are joined
//! twice but nothing is copied.
#![allow(unsafe_code)]

use super::v128::{self, interleaved};
use crate::codec::strided::RowsMut;

/// Elements that are joined at a time.
const STEP: usize = v128::BYTES;

/// Elements that are joined at a time in rows with fewer than [`STEP`].
const SHORT_STEP: usize = STEP / 2;

/// Joins elements into `rows`: those of the first row begin at element `first`, those of each other
/// row `stride` elements after those of the row before.
pub(super) fn join<const T: usize>(
    planes: &[&[u8]; T],
    first: usize,
    stride: usize,
    rows: &mut RowsMut<'_>,
) {
    for (i, row) in rows.iter_mut().enumerate() {
        let (elements, _) = row.as_chunks_mut();
        let at = first + i * stride;
        let mut parts = *planes;
        for part in &mut parts {
            *part = &part[at..][..elements.len()];
        }
        match elements.len() {
            STEP.. => join_row::<T, STEP>(&parts, elements),
            SHORT_STEP.. => join_row::<T, SHORT_STEP>(&parts, elements),
            _ => {
                for (i, element) in elements.iter_mut().enumerate() {
                    *element = parts.map(|part| part[i]);
                }
            }
        }
    }
}

/// Joins a row of `N` elements or more.
#[inline(always)]
fn join_row<const T: usize, const N: usize>(planes: &[&[u8]; T], row: &mut [[u8; T]]) {
    let last = row.len() - N;
    for at in (0..last).step_by(N).chain([last]) {
        // Loops, not `map`, whose closures are not always inlined.
        let mut bytes = [v128::zero(); T];
        for (bytes, plane) in bytes.iter_mut().zip(planes) {
            // SAFETY: the slice has N bytes.
            *bytes = unsafe { v128::load::<N>(plane[at..][..N].as_ptr()) };
        }
        let step = row[at..][..N].as_mut_ptr().cast::<u8>();
        // The elements of a short step are in the first vectors.
        for (k, vector) in interleaved(bytes).into_iter().take(T * N / STEP).enumerate() {
            // SAFETY: the step has as many vectors.
            unsafe { v128::store(step.add(k * STEP), vector) };
        }
    }
}
