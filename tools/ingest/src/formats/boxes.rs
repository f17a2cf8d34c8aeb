//! Reads the planes of an array that is stored in chunks, chunk by chunk.
//!
//! # Invariants
//! - Memory is one box of a chunk's extents beside the caller's planes.
//! - A chunk is decoded once for the planes that are read together.

use std::ops::Range;

use voxquarry::Result;

use super::axes::Axes;
use super::slabs::PlaneSource;
use crate::files::resized;

/// An array of which boxes can be read.
pub(crate) trait BoxSource: Send {
    /// Reads a box of elements, little endian, in C order of the array's axes.
    ///
    /// # Errors
    /// [`voxquarry::Error::Data`] if they are damaged, [`voxquarry::Error::Io`].
    fn read(&mut self, starts: &[usize], counts: &[usize], out: &mut [u8]) -> Result<()>;
}

/// The planes of an array.
pub(crate) struct Boxes<S> {
    source: S,
    axes: Axes,
    /// Extents of a chunk along the array's axes.
    chunk: Vec<usize>,
    element_bytes: usize,
    scratch: Vec<u8>,
}

impl<S: BoxSource> Boxes<S> {
    /// The planes of the array `source`, with chunks of `chunk` elements along its axes.
    pub(crate) fn new(source: S, axes: Axes, chunk: Vec<usize>, element_bytes: usize) -> Self {
        Self { source, axes, chunk, element_bytes, scratch: Vec::new() }
    }
}

impl<S: BoxSource> PlaneSource for Boxes<S> {
    fn read(&mut self, group: usize, z: Range<usize>, out: &mut [u8]) -> Result<()> {
        let (starts, counts) = self.axes.slice(group, &z);
        let strides = self.axes.strides(z.len());
        let mut at = starts.clone();
        loop {
            // From `at` to the end of the chunk, or of what is wanted.
            let ends: Vec<usize> = (0..at.len())
                .map(|a| {
                    let chunk = self.chunk[a].max(1);
                    ((at[a] / chunk + 1) * chunk).min(starts[a] + counts[a])
                })
                .collect();
            let extents: Vec<usize> = ends.iter().zip(&at).map(|(end, at)| end - at).collect();
            let bytes = extents.iter().product::<usize>() * self.element_bytes;
            let part = resized(&mut self.scratch, bytes)?;
            self.source.read(&at, &extents, part)?;
            let offset = (0..at.len()).map(|a| (at[a] - starts[a]) * strides[a]).sum();
            scatter(part, &extents, &strides, self.element_bytes, out, offset);
            // The last axis first.
            let Some(axis) = (0..at.len()).rev().find(|&a| ends[a] < starts[a] + counts[a]) else {
                return Ok(());
            };
            at[axis] = ends[axis];
            at[axis + 1..].copy_from_slice(&starts[axis + 1..]);
        }
    }
}

/// Copies a box into an array with other strides, in elements.
fn scatter(
    part: &[u8],
    extents: &[usize],
    strides: &[usize],
    size: usize,
    out: &mut [u8],
    offset: usize,
) {
    let (Some((&n, inner)), Some((&stride, inner_strides))) =
        (extents.split_first(), strides.split_first())
    else {
        out[offset * size..][..size].copy_from_slice(part);
        return;
    };
    if inner.is_empty() && stride == 1 {
        out[offset * size..][..n * size].copy_from_slice(part);
        return;
    }
    for (i, part) in part.chunks_exact(part.len() / n).enumerate() {
        scatter(part, inner, inner_strides, size, out, offset + i * stride);
    }
}

impl Axes {
    /// Steps in elements of `(interleaved, planes, y, x)` along the array's axes.
    fn strides(&self, planes: usize) -> Vec<usize> {
        let [_, y, x] = self.size();
        self.each([planes.saturating_mul(y * x), y * x, x, 1], 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Elements that are their own numbers.
    struct Numbers(Vec<usize>);

    impl BoxSource for Numbers {
        fn read(&mut self, starts: &[usize], counts: &[usize], out: &mut [u8]) -> Result<()> {
            for (i, element) in out.chunks_exact_mut(2).enumerate() {
                let (mut rest, mut number, mut stride) = (i, 0, 1);
                for axis in (0..counts.len()).rev() {
                    number += (starts[axis] + rest % counts[axis]) * stride;
                    rest /= counts[axis];
                    stride *= self.0[axis];
                }
                element.copy_from_slice(&(number as u16).to_le_bytes());
            }
            Ok(())
        }
    }

    #[test]
    fn planes_are_those_of_the_array_whatever_the_chunks_are() {
        for (shape, names) in [
            ([2, 5, 6, 7], ["c", "z", "y", "x"]),
            ([5, 6, 7, 2], ["z", "y", "x", "c"]),
            ([1, 5, 6, 7], ["t", "z", "y", "x"]),
        ] {
            let axes = Axes::by_name(&shape, &names.map(String::from)).unwrap();
            let steps: Vec<usize> =
                (0..4).map(|a| shape[a + 1..].iter().product::<usize>()).collect();
            let step = |name: &str| names.iter().position(|n| *n == name).map_or(0, |a| steps[a]);
            for chunk in [[1, 1, 1, 1], [2, 3, 4, 2], [9, 9, 9, 9], [3, 2, 7, 1]] {
                let together = axes.interleaved();
                for group in 0..axes.channels().unwrap_or(1) / together {
                    let source = Numbers(shape.to_vec());
                    let mut boxes = Boxes::new(source, axes.clone(), chunk.to_vec(), 2);
                    let mut out = vec![0; together * 3 * 6 * 7 * 2];
                    boxes.read(group, 1..4, &mut out).unwrap();
                    for (i, element) in out.chunks_exact(2).enumerate() {
                        let (x, y, z, c) = (i % 7, i / 7 % 6, i / 42 % 3 + 1, i / 126);
                        let number = (group * together + c) * step("c")
                            + z * step("z")
                            + y * step("y")
                            + x * step("x");
                        assert_eq!(element, (number as u16).to_le_bytes(), "{chunk:?}");
                    }
                }
            }
        }
    }
}
