//! A file without a name that holds pieces of any length, each written once and read back once.
//!
//! It is not mapped as [`Scratch`](super::Scratch) is: the system grants a process some ten thousand maps, and pieces may be more.
//!
//! # Invariants
//! - A piece is read back as it was written, or not at all: file systems of networks may tell of a full disk after the write.
//! - The file holds no more pieces than were there at one time.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::fs::{FallocateFlags, fallocate};

use super::scratch::nameless;
use crate::{Error, Result};

/// Rooms are whole blocks of the file system, so that all of a piece's disk space is given back with it.
const BLOCK_BYTES: usize = 4096;

/// Pieces of bytes on a disk; gone when dropped, or when the process ends however it ends.
#[derive(Debug)]
pub(crate) struct Spill {
    path: PathBuf,
    file: File,
    rooms: Mutex<Rooms>,
}

/// What of the file is taken.
#[derive(Debug, Default)]
struct Rooms {
    end_bytes: u64,
    /// Pieces that were given back, by the length of their rooms.
    free: BTreeMap<usize, Vec<Piece>>,
}

/// Where a piece lies, for the spill that gave it.
#[derive(Debug)]
pub(crate) struct Piece {
    offset: u64,
    bytes: usize,
    crc32c: u32,
}

impl Rooms {
    /// The offset of a new room.
    fn append(&mut self, bytes: usize) -> u64 {
        let offset = self.end_bytes;
        self.end_bytes += bytes as u64;
        offset
    }
}

impl Piece {
    fn room_bytes(&self) -> usize {
        self.bytes.next_multiple_of(BLOCK_BYTES)
    }
}

impl Spill {
    /// An empty one, on the disk of `folder`.
    ///
    /// # Errors
    /// [`Error::Io`] if the folder is not writable.
    pub(crate) fn new(folder: &Path) -> Result<Self> {
        let (file, path) = nameless(folder)?;
        Ok(Self { path, file, rooms: Mutex::default() })
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a piece.
    ///
    /// # Errors
    /// [`Error::Io`] if the disk has no room.
    pub(crate) fn put(&self, bytes: &[u8]) -> Result<Piece> {
        let mut piece = Piece { offset: 0, bytes: bytes.len(), crc32c: crc32c::crc32c(bytes) };
        piece.offset = {
            let mut rooms = self.rooms();
            let free = rooms.free.get_mut(&piece.room_bytes()).and_then(Vec::pop);
            free.map_or_else(|| rooms.append(piece.room_bytes()), |room| room.offset)
        };
        match self.file.write_all_at(bytes, piece.offset) {
            Ok(()) => Ok(piece),
            Err(e) => {
                self.free(piece);
                Err(Error::io(&self.path, "cannot write scratch space")(e))
            }
        }
    }

    /// Reads a piece back into `out`, which has its length.
    ///
    /// # Errors
    /// [`Error::Io`], also if these are not the bytes that were written.
    pub(crate) fn read(&self, piece: &Piece, out: &mut [u8]) -> Result<()> {
        let read = self.file.read_exact_at(out, piece.offset).and_then(|()| {
            let found = crc32c::crc32c(out);
            let (same, expected) = (found == piece.crc32c, piece.crc32c);
            same.then_some(()).ok_or_else(|| {
                io::Error::other(format!(
                    "the disk gave other bytes at {} than were written: crc32c {found:#010x}, expected {expected:#010x}",
                    piece.offset
                ))
            })
        });
        read.map_err(Error::io(&self.path, "cannot read scratch space"))
    }

    /// Gives a piece's room back, to other pieces and to the disk.
    pub(crate) fn free(&self, piece: Piece) {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        // Where a file system knows no holes, the disk space goes with the file.
        let _ = fallocate(&self.file, hole, piece.offset, piece.room_bytes() as u64);
        self.rooms().free.entry(piece.room_bytes()).or_default().push(piece);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn filled(value: u8, len: usize) -> Vec<u8> {
        vec![value; len]
    }

    #[test]
    fn rooms_are_used_again_and_given_back() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::new(folder.path()).unwrap();
        let used = || spill.file.metadata().unwrap();
        assert_eq!(folder.path().read_dir().unwrap().count(), 0, "the file has no name");
        let pieces = [1, 5000, 0, 4096].map(|len| spill.put(&filled(len as u8, len)).unwrap());
        assert_eq!(pieces.each_ref().map(|p| p.offset), [0, 4096, 12_288, 12_288]);
        let read = |piece: &Piece| {
            let mut out = filled(77, piece.bytes);
            spill.read(piece, &mut out).unwrap();
            out
        };
        for (piece, len) in pieces.iter().zip([1, 5000, 0, 4096]) {
            assert_eq!(read(piece), filled(len as u8, len));
        }
        let [_one, long, _none, block] = pieces;
        let before = used().blocks();
        spill.free(long);
        assert!(used().blocks() < before, "the disk has its blocks back");
        // A room of the same blocks is taken, whatever the piece's own length; no other.
        let (again, fresh) = (spill.put(&filled(9, 8192)).unwrap(), spill.put(&[3; 2]).unwrap());
        assert_eq!((again.offset, fresh.offset), (4096, 16_384));
        assert_eq!((read(&again), read(&block)), (filled(9, 8192), filled(0, 4096)));
    }

    #[test]
    fn what_the_disk_changed_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let spill = Spill::new(folder.path()).unwrap();
        let piece = spill.put(&[1, 2, 3]).unwrap();
        spill.file.write_all_at(&[0], piece.offset + 1).unwrap();
        let error = spill.read(&piece, &mut [0; 3]).unwrap_err().to_string();
        assert!(error.contains("scratch") && error.contains("than were written"), "{error}");
    }

    #[test]
    fn a_full_disk_is_an_error_and_its_room_stays_free() {
        let full = File::options().read(true).write(true).open("/dev/full").unwrap();
        let spill = Spill { path: "/dev/full".into(), file: full, rooms: Mutex::default() };
        for _ in 0..2 {
            let error = spill.put(&[1]).unwrap_err().to_string();
            assert!(error.starts_with("/dev/full: cannot write scratch space"), "{error}");
        }
        assert_eq!(spill.rooms().end_bytes, BLOCK_BYTES as u64);
    }
}
