//! The small files of a store: each is fetched whole, with those that are read after it.
//!
//! # Invariants
//! - A file that was fetched is not fetched again while it is remembered, so a reader sees the
//!   documents of one time; their checksums (§3) tell those of another.
//! - At most [`REMEMBERED_BYTES`] are remembered.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lru::LruCache;

use super::client::{Client, Wanted, wait_for};
use super::failure::Failure;
use crate::format::document::ZARR_JSON;
use crate::format::limits::METADATA_BYTES;
use crate::sys::fork::PerProcess;

const REMEMBERED_BYTES: usize = 64 << 20;
/// What an entry takes beside the file's bytes.
const ENTRY_BYTES: usize = 256;

/// Folders of a volume that it may have; some servers deny knowledge of what is not there.
const OPTIONAL: [&str; 2] = ["sums", "nifti"];

/// The small files of one store.
#[derive(Debug)]
pub(super) struct Documents(PerProcess<Mutex<Remembered>>);

#[derive(Debug)]
struct Remembered {
    /// `None` for a file that is not there.
    files: LruCache<PathBuf, Option<Vec<u8>>>,
    bytes: usize,
}

impl Remembered {
    fn none() -> Mutex<Self> {
        Mutex::new(Self { files: LruCache::unbounded(), bytes: 0 })
    }

    fn keep(&mut self, path: PathBuf, file: Option<Vec<u8>>) {
        let size = |file: &Option<Vec<u8>>| ENTRY_BYTES + file.as_ref().map_or(0, Vec::len);
        self.bytes += size(&file);
        if let Some(old) = self.files.put(path, file) {
            self.bytes -= size(&old);
        }
        while self.bytes > REMEMBERED_BYTES {
            let Some((_, old)) = self.files.pop_lru() else { return };
            self.bytes -= size(&old);
        }
    }
}

impl Documents {
    pub(super) fn new() -> Self {
        Self(PerProcess::new(Remembered::none()))
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.0.get(Remembered::none).lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a small file, of at most `limit` bytes.
    pub(super) fn read(&self, client: &Client, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
        let missing = || Failure::new(io::ErrorKind::NotFound, "the server has no such file");
        if let Some(known) = self.remembered().files.get(path) {
            return match known {
                Some(bytes) if bytes.len() as u64 <= limit => Ok(bytes.clone()),
                Some(_) => {
                    let message = format!("longer than {limit} bytes");
                    Err(Failure::new(io::ErrorKind::InvalidData, message).into_io())
                }
                None => Err(missing().into_io()),
            };
        }
        // What is wrong with the companions shows when they are read.
        let companions = companions(path).into_iter().map(|path| (path, METADATA_BYTES));
        let files = [(path.to_owned(), limit)].into_iter().chain(companions);
        let requests = files.filter_map(|(path, limit)| {
            let key = key_of(&path)?;
            Some(async move { (path, client.get(&key, &Wanted::Whole { limit }).await) })
        });
        let fetched = wait_for(async { Ok(all(requests).await) });
        let mut answers = fetched.map_err(Failure::into_io)?.into_iter();
        // A name that is no text is none of a store's.
        let fetched = answers.next().map_or_else(|| Err(missing()), |(_, answer)| answer);
        for (path, other) in answers {
            if let Ok(other) = other {
                self.remembered().keep(path, Some(other.bytes));
            }
        }
        let is_optional = || path.iter().any(|part| OPTIONAL.iter().any(|name| part == *name));
        let file = match fetched {
            Ok(answer) => Some(answer.bytes),
            Err(failure) if failure.kind == io::ErrorKind::NotFound => None,
            Err(failure) if failure.kind == io::ErrorKind::PermissionDenied && is_optional() => {
                None
            }
            Err(failure) => return Err(failure.into_io()),
        };
        self.remembered().keep(path.to_owned(), file.clone());
        file.ok_or_else(|| missing().into_io())
    }
}

/// The name of a file below the store, as a server has it.
pub(super) fn key_of(path: &Path) -> Option<String> {
    let parts: Option<Vec<&str>> = path.iter().map(std::ffi::OsStr::to_str).collect();
    parts.map(|parts| parts.join("/"))
}

/// The files that are read after the document at `path`, so that they are asked for with it.
fn companions(path: &Path) -> Vec<PathBuf> {
    let parts: Vec<_> = path.iter().filter_map(std::ffi::OsStr::to_str).collect();
    let Some(folder) = path.parent() else { return Vec::new() };
    let beside = |names: &[&str]| names.iter().map(|name| folder.join(name)).collect();
    match parts[..] {
        [_, _, ZARR_JSON] => beside(&["0/zarr.json", "shards/zarr.json", "shards/c/0"]),
        [_, _, "summary", ZARR_JSON] => {
            let arrays = ["offsets", "labels", "counts"];
            let files =
                arrays.map(|array| ["zarr.json", "c/0"].map(|f| folder.join(array).join(f)));
            files.into_iter().flatten().collect()
        }
        [_, _, "shards" | "sums" | "nifti", ZARR_JSON] => beside(&["c/0"]),
        _ => Vec::new(),
    }
}

/// The results of several futures, which run together.
async fn all<T>(futures: impl IntoIterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut running: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut is_ready = true;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => is_ready = false,
                }
            }
        }
        if is_ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn companions_are_those_of_a_volume() {
        let of = |path: &str| -> Vec<String> {
            companions(Path::new(path)).iter().map(|path| key_of(path).unwrap()).collect()
        };
        assert_eq!(
            of("s/v/zarr.json"),
            ["s/v/0/zarr.json", "s/v/shards/zarr.json", "s/v/shards/c/0"]
        );
        assert_eq!(of("s/v/summary/zarr.json").len(), 6);
        assert_eq!(of("s/v/sums/zarr.json"), ["s/v/sums/c/0"]);
        assert!(of("zarr.json").is_empty() && of("s/zarr.json").is_empty());
        assert!(of("s/v/0/zarr.json").is_empty());
    }

    #[test]
    fn what_is_remembered_stays_in_its_bound() {
        let files = Remembered::none();
        let mut files = files.lock().unwrap();
        for i in 0..100 {
            files.keep(PathBuf::from(format!("{}", i % 90)), Some(vec![0; 1 << 20]));
            assert!(files.bytes <= REMEMBERED_BYTES);
        }
        let sum: usize =
            files.files.iter().map(|(_, f)| ENTRY_BYTES + f.as_ref().unwrap().len()).sum();
        assert_eq!(sum, files.bytes);
        assert!(files.files.contains(Path::new("9")));
    }
}
