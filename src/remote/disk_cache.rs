//! The folder that keeps fetched chunks: a sparse file for each shard, shared by processes.
//!
//! A file has the shard's length, then a byte for each of its chunks, which is 1 when the chunk is
//! there, then a footer. It is named by the shard's identity, so that a shard that was replaced on
//! the server is another file here.
//!
//! # Invariants
//! - A file appears whole, with the shard's index and its footer, by one rename.
//! - A chunk is marked after its bytes are written. So a process that is killed leaves at most
//!   bytes without a mark; what a power cut leaves, the chunk's checksum tells.
//! - A shard that is dropped is unlinked, never cut: its readers keep a whole file.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use rustix::fs::{CWD, FlockOperation, RenameFlags, flock, renameat_with};
use rustix::io::{Errno, retry_on_intr};

use super::options::RemoteOptions;
use crate::format::index::{tail_bytes, u32_at};
use crate::{Error, Result};

const SHARDS: &str = "shards";
/// The file that is locked while the sum of bytes changes, and holds it.
const LEDGER: &str = "used";
const TEMPORARY: &str = "tmp-";
/// After this time a file that no name was given belongs to a process that has died.
const ABANDONED: Duration = Duration::from_hours(1);
/// A file's time of use is noted when it is older than this.
const USE: Duration = Duration::from_secs(20);

const MAGIC: &[u8; 8] = b"vxqcach1";
const FOOTER: usize = 512;
/// Where the version begins in the footer, and the bytes that it has.
const VERSION: usize = 40;
const VERSION_BYTES: usize = FOOTER - VERSION - 4;

/// The cache's folder, and the part of it for one store.
#[derive(Debug)]
pub(super) struct DiskCache {
    folder: PathBuf,
    shards: PathBuf,
    bound: u64,
}

/// A file of the cache.
#[derive(Debug)]
pub(super) struct CacheFile {
    pub(super) file: File,
    pub(super) path: PathBuf,
    /// Bytes of the shard.
    pub(super) bytes: u64,
    /// The shard's version when its index was fetched; empty if the server did not say.
    pub(super) version: String,
}

/// The names of a shard in the cache: what its file has to agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct ShardName {
    pub(super) identity: u64,
    pub(super) slots: usize,
}

impl ShardName {
    fn file_name(self) -> String {
        format!("{:016x}-{}", self.identity, self.slots)
    }
}

impl DiskCache {
    /// Opens or creates the cache, and makes room in it if it holds more than it may.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without a folder for caches; [`Error::Io`].
    pub(super) fn open(options: &RemoteOptions, store: &str) -> Result<Self> {
        let Some(folder) = options.folder() else {
            let reason = "a store behind a URL keeps what it fetches, and HOME names no folder";
            return Err(Error::unsupported(reason, "choose a folder on a local disk (cache_dir)"));
        };
        let folder = std::path::absolute(&folder).unwrap_or(folder);
        let shards = folder.join(store).join(SHARDS);
        let mut builder = DirBuilder::new();
        // What was fetched with somebody's rights is for their eyes.
        let created = builder.recursive(true).mode(0o700).create(&shards);
        created.map_err(Error::io(&shards, "cannot create the cache"))?;
        let cache = Self { folder, shards, bound: options.get_cache_disk_bytes() };
        // The sum may be wrong: a process that was killed did not add what it wrote.
        let ledger = cache.ledger().map_err(Error::io(&cache.folder, "cannot open the cache"))?;
        cache.sweep(&ledger, cache.bound)?;
        Ok(cache)
    }

    /// The store's folder.
    pub(super) fn store_folder(&self) -> &Path {
        self.shards.parent().unwrap_or(&self.shards)
    }

    /// The file of a shard, if it is here.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn find(&self, name: ShardName) -> Result<Option<CacheFile>> {
        let path = self.shards.join(name.file_name());
        let file = match File::options().read(true).write(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::io(path, "cannot open")(e)),
        };
        match read_footer(&file, name) {
            Ok(Some((bytes, version))) => Ok(Some(CacheFile { file, path, bytes, version })),
            // Cut or damaged, or of another version of this library.
            Ok(None) => {
                let _ = fs::remove_file(&path);
                Ok(None)
            }
            Err(e) => Err(Error::io(path, "cannot read")(e)),
        }
    }

    /// Makes the file of a shard of `bytes` bytes, of which `tail` are the last.
    ///
    /// # Errors
    /// [`Error::Io`], of a full disk too.
    pub(super) fn create(
        &self,
        name: ShardName,
        bytes: u64,
        tail: &[u8],
        version: &str,
    ) -> Result<CacheFile> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let temporary = self.shards.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let path = self.shards.join(name.file_name());
        let write = || {
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&temporary)?;
            let footer = footer(name, bytes, version);
            file.set_len(bytes + (name.slots + FOOTER) as u64)?;
            file.write_all_at(tail, bytes - tail.len() as u64)?;
            file.write_all_at(&footer, bytes + name.slots as u64)?;
            Ok(file)
        };
        let written =
            self.with_room(write).map_err(Error::io(&temporary, "cannot write the cache"));
        let file = match written {
            Ok(file) => file,
            Err(error) => {
                let _ = fs::remove_file(&temporary);
                return Err(error);
            }
        };
        match renameat_with(CWD, &temporary, CWD, &path, RenameFlags::NOREPLACE) {
            Ok(()) => {}
            // Another process was quicker.
            Err(Errno::EXIST) => {
                let _ = fs::remove_file(&temporary);
                if let Some(found) = self.find(name)? {
                    return Ok(found);
                }
            }
            // Not every file system knows the flag; then the later file wins, which is as good.
            Err(_) => {
                let renamed = fs::rename(&temporary, &path);
                renamed.map_err(Error::io(&path, "cannot publish"))?;
            }
        }
        self.note(tail.len() as u64 + (name.slots + FOOTER) as u64)?;
        let version = clipped(version);
        Ok(CacheFile { file, path, bytes, version })
    }

    /// Writes some bytes; on a full disk, drops what was not used for longest and tries again.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn with_room<T>(&self, write: impl Fn() -> io::Result<T>) -> io::Result<T> {
        match write() {
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
                ) =>
            {
                let ledger = self.ledger()?;
                let used = used_bytes(&ledger)?;
                self.sweep(&ledger, used / 2).map_err(io::Error::other)?;
                drop(ledger);
                write()
            }
            written => written,
        }
    }

    /// Notes that `bytes` were written, and drops shards if that is more than the cache may hold.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn note(&self, bytes: u64) -> Result<()> {
        let noted = || -> io::Result<(File, u64)> {
            let ledger = self.ledger()?;
            let used = used_bytes(&ledger)?.saturating_add(bytes);
            ledger.write_all_at(&used.to_le_bytes(), 0)?;
            Ok((ledger, used))
        };
        let (ledger, used) =
            noted().map_err(Error::io(self.folder.join(LEDGER), "cannot write"))?;
        if used > self.bound { self.sweep(&ledger, self.bound) } else { Ok(()) }
    }

    /// The file with the sum, locked until it is dropped.
    fn ledger(&self) -> io::Result<File> {
        let path = self.folder.join(LEDGER);
        let file =
            File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        retry_on_intr(|| flock(&file, FlockOperation::LockExclusive))?;
        Ok(file)
    }

    /// Counts all bytes, and drops the shards that were not used for longest until at most
    /// nine tenths of `bound` are left if there are more than `bound`.
    fn sweep(&self, mut ledger: &File, bound: u64) -> Result<()> {
        let mut files = self.files().map_err(Error::io(&self.folder, "cannot list the cache"))?;
        let mut used: u64 = files.iter().map(|file| file.1).sum();
        if used > bound {
            files.sort_unstable_by(|a, b| (a.0, &a.2).cmp(&(b.0, &b.2)));
            for (_, bytes, path) in files {
                if used <= bound - bound / 10 {
                    break;
                }
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(Error::io(path, "cannot drop")(e));
                    }
                    _ => used -= bytes,
                }
            }
        }
        let written =
            ledger.seek(SeekFrom::Start(0)).and_then(|_| ledger.write_all(&used.to_le_bytes()));
        written.map_err(Error::io(self.folder.join(LEDGER), "cannot write"))
    }

    /// The files of all stores: when each was last used, and the bytes that it takes.
    fn files(&self) -> io::Result<Vec<(SystemTime, u64, PathBuf)>> {
        let mut found = Vec::new();
        for store in fs::read_dir(&self.folder)? {
            let entries = match fs::read_dir(store?.path().join(SHARDS)) {
                // Nothing else is of the cache.
                Err(e) if is_absent(&e) => continue,
                entries => entries?,
            };
            for entry in entries {
                let path = entry?.path();
                let metadata = match path.symlink_metadata() {
                    Ok(metadata) if metadata.is_file() => metadata,
                    Err(e) if !is_absent(&e) => return Err(e),
                    _ => continue,
                };
                let used = metadata.modified()?;
                let age = SystemTime::now().duration_since(used).unwrap_or_default();
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                if !name.starts_with(TEMPORARY) {
                    found.push((used, metadata.blocks() * 512, path));
                } else if age > ABANDONED {
                    let _ = fs::remove_file(&path);
                }
            }
        }
        Ok(found)
    }
}

impl CacheFile {
    /// Bytes behind the shard.
    pub(super) fn more_bytes(name: ShardName) -> u64 {
        (name.slots + FOOTER) as u64
    }

    /// The last bytes of the shard, its index.
    ///
    /// # Errors
    /// Those of the system.
    pub(super) fn tail(&self, slots: usize) -> io::Result<Vec<u8>> {
        let mut tail = vec![0; tail_bytes(slots)];
        let start = self.bytes.checked_sub(tail.len() as u64).ok_or(io::ErrorKind::InvalidData)?;
        self.file.read_exact_at(&mut tail, start)?;
        Ok(tail)
    }

    /// Whether the file was dropped; notes that it was used if it was not.
    pub(super) fn is_dropped(file: &File) -> bool {
        let Ok(metadata) = file.metadata() else { return true };
        let now = SystemTime::now();
        let is_old = |used: SystemTime| now.duration_since(used).is_ok_and(|age| age > USE);
        if metadata.modified().is_ok_and(is_old) {
            // Without it the file only seems older.
            let _ = file.set_modified(now);
        }
        metadata.nlink() == 0
    }
}

/// The sum in the ledger.
fn used_bytes(mut ledger: &File) -> io::Result<u64> {
    let mut bytes = Vec::with_capacity(8);
    ledger.seek(SeekFrom::Start(0))?;
    ledger.take(8).read_to_end(&mut bytes)?;
    // Any other length is that of a new file.
    Ok(bytes.try_into().map_or(0, u64::from_le_bytes))
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// The part of a version that a footer holds; a longer one stands for itself by its checksum.
fn clipped(version: &str) -> String {
    if version.len() <= VERSION_BYTES {
        return version.to_owned();
    }
    format!("crc32c:{:08x}:{}", crc32c::crc32c(version.as_bytes()), version.len())
}

/// Whether two versions are the same, of which the first may have come from a footer.
pub(super) fn is_same_version(kept: &str, found: &str) -> bool {
    kept == clipped(found)
}

fn footer(name: ShardName, bytes: u64, version: &str) -> [u8; FOOTER] {
    let mut footer = [0; FOOTER];
    let version = clipped(version);
    footer[..8].copy_from_slice(MAGIC);
    let numbers = [bytes, name.slots as u64, name.identity, version.len() as u64];
    for (field, number) in footer[8..VERSION].chunks_exact_mut(8).zip(numbers) {
        field.copy_from_slice(&number.to_le_bytes());
    }
    footer[VERSION..VERSION + version.len()].copy_from_slice(version.as_bytes());
    let checksum = crc32c::crc32c(&footer[..FOOTER - 4]);
    footer[FOOTER - 4..].copy_from_slice(&checksum.to_le_bytes());
    footer
}

/// The shard's length and version, if the file is whole and of that shard.
fn read_footer(file: &File, name: ShardName) -> io::Result<Option<(u64, String)>> {
    let length = file.metadata()?.len();
    let Some(bytes) = length.checked_sub(CacheFile::more_bytes(name)) else { return Ok(None) };
    let mut found = [0; FOOTER];
    file.read_exact_at(&mut found, length - FOOTER as u64)?;
    if u32_at(&found, FOOTER - 4) != crc32c::crc32c(&found[..FOOTER - 4]) {
        return Ok(None);
    }
    let version_bytes = u32_at(&found, VERSION - 8) as usize;
    let version = found.get(VERSION..VERSION + version_bytes.min(VERSION_BYTES));
    let version = version.and_then(|text| std::str::from_utf8(text).ok()).map(str::to_owned);
    Ok(version.filter(|version| footer(name, bytes, version) == found).map(|v| (bytes, v)))
}
