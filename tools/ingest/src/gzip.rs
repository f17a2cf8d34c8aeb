//! Writes one gzip member on several threads.
//!
//! The stream is cut into blocks. Each is deflated for itself, with the 32 KiB before it as dictionary, and ends with a sync
//! flush, that is on a whole byte: one after the other they are one deflate stream, as `pigz` makes it. Files of several
//! members would be simpler, but some readers stop at the first.
//!
//! # Invariants
//! - The bytes depend on the stream alone, not on threads nor on how it came in.
//! - A thread has at most [`IN_FLIGHT`] blocks, raw and deflated; one more is being filled.
//! - Threads end with the writer, whether it is finished or dropped.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use flate2::{Compress, Compression, Crc, FlushCompress};

/// Raw bytes of a block: enough that dictionary and flush cost nothing, few enough that small files use all threads.
const BLOCK_BYTES: usize = 1 << 20;
/// As far as deflate looks back.
const DICTIONARY_BYTES: usize = 32 << 10;
/// Blocks a thread: one that it deflates and one that waits.
const IN_FLIGHT: usize = 2;
/// Deflate, no name, no time, system unknown: the same volume gives the same file.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A gzip member that grows in `inner`.
pub(crate) struct GzipWriter<W> {
    inner: W,
    filling: DeflateBlock,
    /// Blocks that threads have, the oldest first.
    awaited: VecDeque<Receiver<io::Result<DeflateBlock>>>,
    idle: Vec<DeflateBlock>,
    crc: Crc,
    pool: DeflatePool,
}

/// A piece of the stream.
struct DeflateBlock {
    /// The dictionary, then what is to be deflated.
    raw: Vec<u8>,
    dictionary_bytes: usize,
    deflated: Vec<u8>,
    crc: Crc,
}

struct DeflateJob {
    block: DeflateBlock,
    /// How its deflate stream ends.
    end: FlushCompress,
    done: SyncSender<io::Result<DeflateBlock>>,
}

impl<W: Write> GzipWriter<W> {
    /// Begins a member, which up to `threads` threads will deflate; they are started as blocks come.
    ///
    /// # Errors
    /// Those of `inner`.
    pub(crate) fn new(mut inner: W, threads: usize) -> io::Result<Self> {
        inner.write_all(&HEADER)?;
        let (filling, awaited, idle) = (DeflateBlock::new(), VecDeque::new(), Vec::new());
        Ok(Self { inner, filling, awaited, idle, crc: Crc::new(), pool: DeflatePool::new(threads) })
    }

    /// Takes the next bytes of the stream.
    ///
    /// # Errors
    /// Those of `inner`, perhaps for bytes of an earlier call; the member is of no use afterwards.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - (self.filling.raw.len() - self.filling.dictionary_bytes);
            if room == 0 {
                // More is to come: this block is not the last.
                self.submit(FlushCompress::Sync)?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.filling.raw.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Ends the member.
    ///
    /// # Errors
    /// As [`write_all`](Self::write_all).
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.submit(FlushCompress::Finish)?;
        while !self.awaited.is_empty() {
            self.collect()?;
        }
        self.inner.write_all(&self.crc.sum().to_le_bytes())?;
        self.inner.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.inner)
    }

    /// Hands the block to a thread, and begins the next with its end as dictionary.
    fn submit(&mut self, end: FlushCompress) -> io::Result<()> {
        if self.awaited.len() == self.pool.limit * IN_FLIGHT {
            self.collect()?;
        }
        let mut next = self.idle.pop().unwrap_or_else(DeflateBlock::new);
        next.begin_after(&self.filling);
        let block = std::mem::replace(&mut self.filling, next);
        let (done, result) = sync_channel(1);
        self.pool.take(DeflateJob { block, end, done })?;
        self.awaited.push_back(result);
        Ok(())
    }

    /// Waits for the oldest block and writes it.
    fn collect(&mut self) -> io::Result<()> {
        let Some(result) = self.awaited.pop_front() else { return Ok(()) };
        let block = result.recv().map_err(io::Error::other)??;
        self.inner.write_all(&block.deflated)?;
        self.crc.combine(&block.crc);
        self.idle.push(block);
        Ok(())
    }
}

impl DeflateBlock {
    fn new() -> Self {
        let raw = Vec::with_capacity(DICTIONARY_BYTES + BLOCK_BYTES);
        Self { raw, dictionary_bytes: 0, deflated: Vec::new(), crc: Crc::new() }
    }

    fn begin_after(&mut self, last: &DeflateBlock) {
        let tail = last.raw.len().saturating_sub(DICTIONARY_BYTES);
        self.raw.clear();
        self.raw.extend_from_slice(&last.raw[tail..]);
        self.dictionary_bytes = self.raw.len();
    }

    fn deflate(&mut self, compress: &mut Compress, end: FlushCompress) -> io::Result<()> {
        let (dictionary, own) = self.raw.split_at(self.dictionary_bytes);
        self.crc.reset();
        self.crc.update(own);
        compress.reset();
        if !dictionary.is_empty() {
            compress.set_dictionary(dictionary)?;
        }
        self.deflated.clear();
        loop {
            // A literal takes at most 9 bits, so once is enough; were it not, no room would be left.
            self.deflated.reserve(own.len() + own.len() / 8 + 1024);
            let rest = &own[compress.total_in() as usize..];
            compress.compress_vec(rest, &mut self.deflated, end)?;
            if self.deflated.len() < self.deflated.capacity() {
                return Ok(());
            }
        }
    }
}

/// The threads.
struct DeflatePool {
    limit: usize,
    /// Hung up to end them.
    jobs: Option<SyncSender<DeflateJob>>,
    waiting: Arc<Mutex<Receiver<DeflateJob>>>,
    threads: Vec<JoinHandle<()>>,
}

impl DeflatePool {
    fn new(limit: usize) -> Self {
        let limit = limit.max(1);
        let (jobs, waiting) = sync_channel(limit * IN_FLIGHT);
        let waiting = Arc::new(Mutex::new(waiting));
        Self { limit, jobs: Some(jobs), waiting, threads: Vec::new() }
    }

    fn take(&mut self, job: DeflateJob) -> io::Result<()> {
        if self.threads.len() < self.limit {
            let waiting = self.waiting.clone();
            let named = Builder::new().name(format!("voxquarry-gzip-{}", self.threads.len()));
            match named.spawn(move || work(&waiting)) {
                Ok(thread) => self.threads.push(thread),
                Err(e) if self.threads.is_empty() => return Err(e),
                // Those that the system granted do it, later.
                Err(_) => self.limit = self.threads.len(),
            }
        }
        let jobs = self.jobs.as_ref().expect("hung up by drop alone");
        jobs.send(job).map_err(|_| io::Error::other("no thread is left"))
    }
}

impl Drop for DeflatePool {
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn work(waiting: &Mutex<Receiver<DeflateJob>>) {
    // Level 6. Level 4 is a fifth faster, but label maps get a fifth larger; beyond 6, images gain less than a hundredth.
    let mut compress = Compress::new(Compression::default(), false);
    loop {
        // Whoever has the lock waits for the next block, the others for the lock.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(DeflateJob { mut block, end, done }) = next else { return };
        let deflated = block.deflate(&mut compress, end);
        // Nobody waits for it any more if the writer was dropped.
        let _ = done.send(deflated.map(|()| block));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::bufread::GzDecoder;

    use super::*;

    fn zip(bytes: &[u8], threads: usize, piece: usize) -> Vec<u8> {
        let mut writer = GzipWriter::new(Vec::new(), threads).unwrap();
        bytes.chunks(piece).for_each(|piece| writer.write_all(piece).unwrap());
        writer.finish().unwrap()
    }

    /// What the first member holds; nothing may follow it.
    fn unzip(mut member: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(&mut member).read_to_end(&mut bytes).unwrap();
        assert!(member.is_empty(), "{} bytes after the member", member.len());
        bytes
    }

    /// Noise that a generator of that seed makes.
    fn noise(len: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// Steps as slow as an image's, with noise in every third byte.
    fn smooth(len: usize) -> Vec<u8> {
        let noise = noise(len, 7);
        (0..len).map(|i| if i % 3 == 0 { noise[i] & 7 } else { (i >> 9) as u8 }).collect()
    }

    #[test]
    fn any_number_of_threads_makes_the_same_member_of_the_same_stream() {
        let ends = [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 2 * BLOCK_BYTES];
        for len in ends.into_iter().chain([9 * BLOCK_BYTES + 12_345]) {
            let bytes = smooth(len);
            let member = zip(&bytes, 1, 1 << 16);
            assert!(unzip(&member) == bytes, "{len} bytes");
            for (threads, piece) in [(1, 1 << 24), (2, 99_991), (8, BLOCK_BYTES), (8, 3_000_001)] {
                assert!(zip(&bytes, threads, piece) == member, "{len}: {threads} threads, {piece}");
            }
        }
    }

    #[test]
    fn what_does_not_shrink_hardly_grows() {
        let bytes = noise(3 * BLOCK_BYTES + 5, 1);
        let member = zip(&bytes, 2, bytes.len());
        assert!(unzip(&member) == bytes);
        assert!(member.len() < bytes.len() + bytes.len() / 1000, "{} bytes", member.len());
    }

    #[test]
    fn a_block_is_told_what_came_before_it() {
        let period = noise(30_000, 2);
        let bytes: Vec<u8> = period.iter().copied().cycle().take(4 * BLOCK_BYTES).collect();
        let member = zip(&bytes, 2, bytes.len());
        assert!(unzip(&member) == bytes);
        // The period once, not once a block, and the 16,000 matches that repeat it.
        assert!(member.len() < 3 * period.len(), "{} bytes", member.len());
    }

    /// Has room for so many bytes.
    struct Full(usize);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let room = self.0.checked_sub(bytes.len());
            self.0 = room.ok_or(io::ErrorKind::StorageFull)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_ends_it_wherever_it_strikes() {
        let bytes = noise(7 * BLOCK_BYTES, 3);
        let whole = zip(&bytes, 2, bytes.len()).len();
        let attempt = |room| {
            let mut writer = GzipWriter::new(Full(room), 2)?;
            bytes.chunks(100_000).try_for_each(|piece| writer.write_all(piece))?;
            writer.finish().map(drop)
        };
        for room in [0, 9, 10, 10 + BLOCK_BYTES / 2, whole / 2, whole - 9, whole - 8, whole - 1] {
            let error = attempt(room).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{room}: {error}");
        }
        attempt(whole).unwrap();
    }

    #[test]
    fn a_writer_that_is_dropped_leaves_no_thread() {
        let mut writer = GzipWriter::new(Vec::new(), 3).unwrap();
        writer.write_all(&noise(5 * BLOCK_BYTES, 4)).unwrap();
        let waiting = Arc::downgrade(&writer.pool.waiting);
        assert_eq!(waiting.strong_count(), 4, "three threads and the writer");
        drop(writer);
        assert_eq!(waiting.strong_count(), 0);
    }
}
