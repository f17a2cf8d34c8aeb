//! Reads the bytes of a header in order, with a look ahead; inflates those of a deflated file.
//!
//! # Invariants
//! - Memory is two small buffers, and the values that the caller asks for.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::DeflateDecoder;
use voxquarry::{Error, Result};

use crate::files::{check_room, open_without_waiting};

/// Most headers fit; what follows are pixels, which are not read here.
const BUFFER_BYTES: usize = 8 << 10;
/// More than a decompressor takes.
const INFLATE_BYTES: usize = 128 << 10;
/// The most bytes of a deflated header.
const MAX_INFLATED_BYTES: u64 = 256 << 20;

/// A file that is read from its first byte on.
pub(super) struct HeaderInput {
    body: HeaderBytes,
    position: u64,
    /// The length of the file; `None` if it is deflated.
    length: Option<u64>,
}

enum HeaderBytes {
    Plain(BufReader<File>),
    Inflated(Box<BufReader<DeflateDecoder<BufReader<File>>>>),
    /// While one becomes the other.
    Neither,
}

impl HeaderInput {
    /// Opens a regular file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if it is none, [`Error::Io`].
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = open_without_waiting(path)?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot open"))?;
        if !metadata.is_file() {
            let reason = format!("{} is not a regular file", path.display());
            return Err(Error::unsupported(reason, "name an image file"));
        }
        let body = HeaderBytes::Plain(BufReader::with_capacity(BUFFER_BYTES, file));
        Ok(Self { body, position: 0, length: Some(metadata.len()) })
    }

    /// What follows is deflated.
    pub(super) fn inflate(&mut self) -> io::Result<()> {
        check_room(INFLATE_BYTES)?;
        self.body = match std::mem::replace(&mut self.body, HeaderBytes::Neither) {
            HeaderBytes::Plain(file) => {
                let decoder = DeflateDecoder::new(file);
                let reader = BufReader::with_capacity(BUFFER_BYTES, decoder);
                HeaderBytes::Inflated(Box::new(reader))
            }
            other => other,
        };
        self.length = None;
        Ok(())
    }

    /// Bytes that were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes that follow, if that is known.
    pub(super) fn left(&self) -> Option<u64> {
        self.length.map(|length| length.saturating_sub(self.position))
    }

    fn reader(&mut self) -> &mut dyn BufRead {
        match &mut self.body {
            HeaderBytes::Plain(reader) => reader,
            HeaderBytes::Inflated(reader) => reader,
            HeaderBytes::Neither => unreachable!("only within `inflate`"),
        }
    }

    pub(super) fn is_at_end(&mut self) -> io::Result<bool> {
        Ok(self.reader().fill_buf()?.is_empty())
    }

    /// The next bytes without reading them; fewer at the end, or at the end of the buffer.
    pub(super) fn peek(&mut self, count: usize) -> io::Result<Vec<u8>> {
        if let HeaderBytes::Plain(reader) = &mut self.body
            && reader.buffer().len() < count
        {
            // Going nowhere by a real seek empties the buffer, so that the next read fills it.
            io::Seek::seek(reader, io::SeekFrom::Current(0))?;
        }
        let ahead = self.reader().fill_buf()?;
        Ok(ahead[..count.min(ahead.len())].to_vec())
    }

    /// The next bytes.
    pub(super) fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    /// So many bytes; the caller bounds them.
    pub(super) fn bytes(&mut self, count: usize) -> io::Result<Vec<u8>> {
        check_room(count)?;
        let mut bytes = vec![0; count];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, out: &mut [u8]) -> io::Result<()> {
        self.reader().read_exact(out).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => {
                io::Error::new(ErrorKind::UnexpectedEof, "it ends within an element")
            }
            _ => error,
        })?;
        self.position += out.len() as u64;
        Ok(())
    }

    /// Passes over bytes.
    pub(super) fn skip(&mut self, count: u64) -> io::Result<()> {
        let short = || io::Error::new(ErrorKind::UnexpectedEof, "it ends within an element");
        if self.left().is_some_and(|left| count > left) {
            return Err(short());
        }
        if let HeaderBytes::Plain(reader) = &mut self.body {
            // The file's length is less than 2^63.
            reader.seek_relative(count as i64)?;
        } else {
            if self.position.saturating_add(count) > MAX_INFLATED_BYTES {
                let message = format!("a deflated header of more than {MAX_INFLATED_BYTES} bytes");
                return Err(io::Error::new(ErrorKind::InvalidData, message));
            }
            let skipped = io::copy(&mut self.reader().take(count), &mut io::sink())?;
            if skipped < count {
                return Err(short());
            }
        }
        self.position += count;
        Ok(())
    }
}
