//! Reads voxels that are written as text: decimal numbers, or pairs of hexadecimal digits.
//!
//! # Invariants
//! - A number that its dtype does not hold is an error, never rounded or wrapped.
//! - Memory is a buffer and one word, whatever the file holds.

use std::path::Path;

use voxquarry::{Dtype, Error, Result, Voxel, with_voxel};

use super::byte_input::ByteInput;

/// No number that a program writes is longer.
const MAX_WORD_BYTES: usize = 400;
const BUFFER_BYTES: usize = 1 << 16;

/// How voxels are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextEncoding {
    /// Decimal numbers between white space or commas. They are read as little endian voxels.
    Decimal(Dtype),
    /// Pairs of hexadecimal digits, with white space anywhere.
    Hexadecimal,
}

impl TextEncoding {
    /// The shortest text of so many bytes of voxels.
    pub(crate) fn least_bytes(self, bytes: u64) -> u64 {
        match self {
            Self::Decimal(dtype) => (2 * (bytes / dtype.size() as u64)).saturating_sub(1),
            Self::Hexadecimal => bytes.saturating_mul(2),
        }
    }
}

/// Reads numbers one after the other.
pub(crate) struct TextNumbers {
    encoding: TextEncoding,
    buffer: Vec<u8>,
    at: usize,
    /// Numbers, or bytes, that were read.
    done: u64,
}

impl TextNumbers {
    pub(crate) fn new(encoding: TextEncoding) -> Self {
        Self { encoding, buffer: Vec::new(), at: 0, done: 0 }
    }

    /// Reads the next voxels as binary.
    ///
    /// # Errors
    /// [`Error::Data`] if there is something else than a number that the dtype holds, or nothing;
    /// [`Error::Io`].
    pub(crate) fn fill(
        &mut self,
        path: &Path,
        input: &mut ByteInput,
        out: &mut [u8],
    ) -> Result<()> {
        let mut word = Vec::with_capacity(32);
        let width = match self.encoding {
            TextEncoding::Decimal(dtype) => dtype.size(),
            TextEncoding::Hexadecimal => 1,
        };
        for voxel in out.chunks_exact_mut(width) {
            self.next_word(input, &mut word)?;
            let text = str::from_utf8(&word).unwrap_or("�");
            let is_read = match self.encoding {
                TextEncoding::Decimal(dtype) => with_voxel!(dtype, T => store::<T>(text, voxel)),
                TextEncoding::Hexadecimal => {
                    let byte = u8::from_str_radix(text, 16).ok();
                    byte.filter(|_| text.len() == 2).map(|byte| voxel[0] = byte)
                }
            };
            if is_read.is_none() {
                return Err(self.error(path, text));
            }
            self.done += 1;
        }
        Ok(())
    }

    fn error(&self, path: &Path, text: &str) -> Error {
        let n = self.done + 1;
        let expected = match self.encoding {
            TextEncoding::Decimal(dtype) => format!("number {n} is {text:?}: expected {dtype}"),
            TextEncoding::Hexadecimal => format!("byte {n} is {text:?}: expected two digits"),
        };
        let ends = if text.is_empty() { "the text ends early, " } else { "" };
        Error::data(path, format!("{ends}{expected}: write the file again"))
    }

    /// The next number, or the next two digits; empty at the end.
    fn next_word(&mut self, input: &mut ByteInput, word: &mut Vec<u8>) -> Result<()> {
        word.clear();
        let longest = match self.encoding {
            TextEncoding::Decimal(_) => MAX_WORD_BYTES,
            TextEncoding::Hexadecimal => 2,
        };
        loop {
            if self.at == self.buffer.len() {
                self.buffer.resize(BUFFER_BYTES, 0);
                let count = input.read(&mut self.buffer)?;
                self.buffer.truncate(count);
                self.at = 0;
                if count == 0 {
                    return Ok(());
                }
            }
            let byte = self.buffer[self.at];
            self.at += 1;
            let is_number = !(byte.is_ascii_whitespace() || byte == b',');
            if is_number {
                word.push(byte);
            }
            let ends = !is_number && matches!(self.encoding, TextEncoding::Decimal(_));
            if word.len() == longest || (ends && !word.is_empty()) {
                return Ok(());
            }
        }
    }
}

/// Writes a number that the type holds.
fn store<T: Voxel>(text: &str, voxel: &mut [u8]) -> Option<()> {
    let mut put = |bytes: &[u8]| voxel.copy_from_slice(bytes);
    match T::DTYPE {
        Dtype::Int64 => put(&text.parse::<i64>().ok()?.to_le_bytes()),
        Dtype::UInt64 => put(&text.parse::<u64>().ok()?.to_le_bytes()),
        // A number that is rounded twice would be another.
        Dtype::Float32 => put(&text.parse::<f32>().ok()?.to_le_bytes()),
        Dtype::Float64 => put(&text.parse::<f64>().ok()?.to_le_bytes()),
        _ => put(bytemuck::bytes_of(&T::from_f64_exact(text.parse().ok()?)?)),
    }
    Some(())
}
