//! Parses the header of an array: magic, version, and a dictionary in Python's notation.
//!
//! # Invariants
//! - Nothing is evaluated. An [`ArrayHeader`] has extents whose product does not overflow.

use voxquarry::{Dtype, Error, Result, Size3};

use crate::formats::voxels::ByteOrder;
use crate::formats::voxels::MAX_VOXELS;

pub(super) const MAGIC: &[u8] = b"\x93NUMPY";
/// A dictionary of three entries is never longer.
const MAX_HEADER_BYTES: usize = 1 << 16;

/// The description of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArrayHeader {
    pub(super) dtype: Dtype,
    pub(super) order: ByteOrder,
    pub(super) is_fortran: bool,
    pub(super) shape: Vec<usize>,
}

impl ArrayHeader {
    /// Reads a header by `fill`, which reads exactly so many bytes.
    ///
    /// # Errors
    /// Those of `fill`, and of a header that is none.
    pub(super) fn read(
        mut fill: impl FnMut(&mut [u8]) -> Result<()>,
        located: impl Fn(String) -> Error,
    ) -> Result<Self> {
        let mut start = [0; 8];
        fill(&mut start)?;
        if !start.starts_with(MAGIC) {
            return Err(located("it does not begin like an array of numpy".into()));
        }
        let mut length = [0; 4];
        match start[6] {
            1 => fill(&mut length[..2])?,
            2 | 3 => fill(&mut length)?,
            version => return Err(located(format!("its version is {version}: expected 1 to 3"))),
        }
        let bytes = u32::from_le_bytes(length) as usize;
        if bytes > MAX_HEADER_BYTES {
            return Err(located(format!("its header has {bytes} bytes: it is damaged")));
        }
        let mut text = vec![0; bytes];
        fill(&mut text)?;
        let text = String::from_utf8_lossy(&text);
        Self::parse(&text).map_err(located)
    }

    /// # Errors
    /// A message.
    fn parse(text: &str) -> Result<Self, String> {
        let damaged = || format!("its header is {:?}: it is damaged", text.trim());
        let descr = value_of(text, "descr").ok_or_else(damaged)?;
        let quoted = descr.strip_prefix(['\'', '"']);
        let Some(descr) = quoted.and_then(|rest| rest.split(['\'', '"']).next()) else {
            let remedy = "save one field as an array of its own";
            return Err(format!("it is a structured array, no volume: {remedy}"));
        };
        let (dtype, order) = dtype_of(descr)?;
        let fortran = value_of(text, "fortran_order").ok_or_else(damaged)?;
        let is_fortran = match () {
            () if fortran.starts_with("True") => true,
            () if fortran.starts_with("False") => false,
            () => return Err(damaged()),
        };
        let shape = value_of(text, "shape").and_then(|rest| rest.strip_prefix('('));
        let shape = shape.and_then(|rest| rest.split_once(')')).ok_or_else(damaged)?.0;
        let extents = shape.split(',').map(str::trim).filter(|word| !word.is_empty());
        // Python 2 wrote long numbers with an L.
        let shape: Option<Vec<usize>> =
            extents.map(|word| word.trim_end_matches('L').parse().ok()).collect();
        let shape = shape.ok_or_else(damaged)?;
        let voxels = shape.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent as u64));
        if voxels.is_none_or(|n| n > MAX_VOXELS) {
            return Err(format!("its shape is {shape:?}: more than any file holds"));
        }
        Ok(Self { dtype, order, is_fortran, shape })
    }

    /// Bytes of all elements.
    pub(super) fn voxel_bytes(&self) -> u64 {
        self.shape.iter().map(|&n| n as u64).product::<u64>() * self.dtype.size() as u64
    }

    /// The extents of the volume, and its channels.
    ///
    /// # Errors
    /// A message.
    pub(super) fn extents(&self) -> Result<(Size3, Option<usize>), String> {
        let found = match *self.shape {
            [y, x] => ([1, y, x], None),
            [z, y, x] => ([z, y, x], None),
            [c, z, y, x] => ([z, y, x], Some(c)),
            _ => ([0; 3], None),
        };
        if found.0.contains(&0) || found.1 == Some(0) {
            let expected = "expected (z, y, x) or (c, z, y, x), each at least 1";
            return Err(format!("an array of shape {:?} is no volume: {expected}", self.shape));
        }
        Ok(found)
    }
}

/// The text behind `'key':`.
fn value_of<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let at = text.find(&format!("'{key}'")).or_else(|| text.find(&format!("\"{key}\"")))?;
    text[at + key.len() + 2..].trim_start().strip_prefix(':').map(str::trim_start)
}

fn dtype_of(descr: &str) -> Result<(Dtype, ByteOrder), String> {
    let order = if descr.starts_with('>') { ByteOrder::Big } else { ByteOrder::Little };
    let dtype = match descr.trim_start_matches(['<', '>', '|', '=']) {
        // False and True are 0 and 1.
        "b1" | "?" | "u1" => Dtype::UInt8,
        "i1" => Dtype::Int8,
        "u2" => Dtype::UInt16,
        "i2" => Dtype::Int16,
        "u4" => Dtype::UInt32,
        "i4" => Dtype::Int32,
        "u8" => Dtype::UInt64,
        "i8" => Dtype::Int64,
        "f2" => Dtype::Float16,
        "f4" => Dtype::Float32,
        "f8" => Dtype::Float64,
        other => {
            let what = match other.chars().next() {
                Some('O') => "Python objects, which are never unpickled: convert it to numbers",
                Some('c') => "complex numbers: save the real and the imaginary part as channels",
                Some('f') => "floating point numbers that a store lacks: convert it to float64",
                _ => "no numbers that a store can hold: convert it",
            };
            return Err(format!("its dtype {descr:?} is of {what}"));
        }
    };
    Ok((dtype, order))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_every_notation_are_read() {
        for text in [
            "{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3, 4), }",
            "{'shape': (2L, 3L, 4L,), \"descr\":\"<i2\", 'fortran_order' : False}   \n",
        ] {
            let header = ArrayHeader::parse(text).unwrap();
            assert_eq!((header.dtype, header.shape), (Dtype::Int16, vec![2, 3, 4]), "{text}");
        }
        for (text, word) in [
            ("{'descr': '|O', 'fortran_order': False, 'shape': (2,)}", "unpickled"),
            ("{'descr': '<c8', 'fortran_order': False, 'shape': (2,)}", "complex"),
            ("{'descr': '<f16', 'fortran_order': False, 'shape': (2,)}", "float64"),
            ("{'descr': '<U3', 'fortran_order': False, 'shape': (2,)}", "convert"),
            ("{'descr': [('a', '<i2')], 'fortran_order': False, 'shape': (2,)}", "structured"),
            ("{'descr': '<i2', 'fortran_order': Fals, 'shape': (2,)}", "damaged"),
            ("{'descr': '<i2', 'fortran_order': False, 'shape': (-2,)}", "damaged"),
            ("{'descr': '<i2', 'fortran_order': False}", "damaged"),
            (
                "{'descr': '<i2', 'fortran_order': False, 'shape': (99999999999, 99999999999)}",
                "more",
            ),
        ] {
            let message = ArrayHeader::parse(text).unwrap_err();
            assert!(message.contains(word), "{message}");
        }
        for shape in ["()", "(7,)", "(2, 0, 3)", "(0, 1, 1, 1)", "(1, 2, 3, 4, 5)"] {
            let text = format!("{{'descr': '<i2', 'fortran_order': False, 'shape': {shape}}}");
            let message = ArrayHeader::parse(&text).unwrap().extents().unwrap_err();
            assert!(message.contains("no volume"), "{message}");
        }
    }
}
