//! Writes one gzip member on several threads.
//!
//! The stream is cut into blocks. Each block is deflated on its own, with the 32 KiB before it as
//! dictionary, and ends with a sync flush, which aligns it to a byte. The concatenated blocks are
//! one deflate stream, as `pigz` makes it. One member for each block would be simpler, but some
//! readers stop after the first member.
//!
//! # Invariants
//! - The bytes depend on the stream alone: not on the number of threads, nor on the lengths of the
//!   writes.
//! - For each thread at most [`IN_FLIGHT`] blocks exist, raw and deflated; one more is being
//!   filled.
//! - The threads end when the writer is finished or dropped.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};

use flate2::{Compress, Compression, Crc, FlushCompress};

use crate::files::check_room;

/// Raw bytes of a block: so many that dictionary and flush cost next to nothing, so few that small
/// files use all threads.
const BLOCK_BYTES: usize = 1 << 20;
/// The largest distance that deflate refers back.
const DICTIONARY_BYTES: usize = 32 << 10;
/// Blocks for each thread: one being deflated and one waiting.
const IN_FLIGHT: usize = 2;
/// More than a compressor takes.
const DEFLATE_BYTES: usize = 512 << 10;
/// Method deflate, no name, no time, unknown system: equal volumes give equal files.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// Writes one gzip member to `inner`.
pub(crate) struct GzipWriter<W> {
    inner: W,
    filling: DeflateBlock,
    /// The results of the blocks handed to the threads, oldest first.
    awaited: VecDeque<Receiver<io::Result<DeflateBlock>>>,
    idle: Vec<DeflateBlock>,
    crc: Crc,
    pool: DeflatePool,
}

/// A piece of the stream, before and after compression.
struct DeflateBlock {
    /// The dictionary, followed by the bytes to deflate.
    raw: Vec<u8>,
    dictionary_bytes: usize,
    deflated: Vec<u8>,
    crc: Crc,
}

struct DeflateJob {
    block: DeflateBlock,
    /// How the deflate stream ends: with a sync flush, or for good.
    end: FlushCompress,
    done: SyncSender<io::Result<DeflateBlock>>,
}

impl<W: Write> GzipWriter<W> {
    /// Begins a member that up to `threads` threads deflate; each is started when a block first
    /// needs it.
    ///
    /// # Errors
    /// Those of `inner`.
    pub(crate) fn new(mut inner: W, threads: usize) -> io::Result<Self> {
        inner.write_all(&HEADER)?;
        let (filling, awaited, idle) = (DeflateBlock::new()?, VecDeque::new(), Vec::new());
        Ok(Self { inner, filling, awaited, idle, crc: Crc::new(), pool: DeflatePool::new(threads) })
    }

    /// Appends bytes to the stream.
    ///
    /// # Errors
    /// Those of `inner`, possibly for bytes of an earlier call. The member cannot be continued
    /// after an error.
    pub(crate) fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = BLOCK_BYTES - (self.filling.raw.len() - self.filling.dictionary_bytes);
            if room == 0 {
                // Submitted only when more bytes follow, so that the last block ends the stream.
                self.submit(FlushCompress::Sync)?;
                continue;
            }
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.filling.raw.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes what remains and the trailer.
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

    /// Submits the block, and begins the next one with the end of this one as its dictionary.
    fn submit(&mut self, end: FlushCompress) -> io::Result<()> {
        if self.awaited.len() >= self.pool.limit * IN_FLIGHT {
            self.collect()?;
        }
        let mut next = self.idle.pop().map_or_else(DeflateBlock::new, Ok)?;
        next.begin_after(&self.filling);
        let block = std::mem::replace(&mut self.filling, next);
        let (done, result) = sync_channel(1);
        self.pool.submit(DeflateJob { block, end, done })?;
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
    fn new() -> io::Result<Self> {
        let mut raw = Vec::new();
        raw.try_reserve_exact(DICTIONARY_BYTES + BLOCK_BYTES)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(Self { raw, dictionary_bytes: 0, deflated: Vec::new(), crc: Crc::new() })
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
            // A literal takes at most 9 bits, so one turn suffices. The loop guards against a full
            // buffer.
            let bound = own.len() + own.len() / 8 + 1024;
            self.deflated.try_reserve(bound).map_err(|_| io::ErrorKind::OutOfMemory)?;
            let rest = &own[compress.total_in() as usize..];
            compress.compress_vec(rest, &mut self.deflated, end)?;
            if self.deflated.len() < self.deflated.capacity() {
                return Ok(());
            }
        }
    }
}

/// Threads that deflate blocks, or the caller's if the system grants no other.
struct DeflatePool {
    limit: usize,
    /// `None` once the threads are to end.
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

    fn submit(&mut self, job: DeflateJob) -> io::Result<()> {
        if self.threads.len() < self.limit {
            let waiting = self.waiting.clone();
            let named = Builder::new().name(format!("voxquarry-gzip-{}", self.threads.len()));
            match named.spawn(move || work(&waiting)) {
                Ok(thread) => self.threads.push(thread),
                // The system grants no more threads: the ones there are do all the work.
                Err(_) => self.limit = self.threads.len(),
            }
        }
        if self.threads.is_empty() {
            job.run(&mut None);
            return Ok(());
        }
        let jobs = self.jobs.as_ref().expect("only drop closes the channel");
        jobs.send(job).map_err(|_| io::Error::other("the compression threads have ended"))
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
    let mut compress = None;
    loop {
        // One thread waits for the next block with the lock held, the others wait for the lock.
        let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = next else { return };
        job.run(&mut compress);
    }
}

impl DeflateJob {
    fn run(self, compress: &mut Option<Compress>) {
        let Self { mut block, end, done } = self;
        // The compressor itself panics without memory.
        let room = if compress.is_none() { check_room(DEFLATE_BYTES) } else { Ok(()) };
        let deflated = room.and_then(|()| {
            // Level 6. Level 4 is 20 % faster, but label maps grow by 20 %; above 6, images shrink
            // by less than 1 %.
            let new = || Compress::new(Compression::default(), false);
            block.deflate(compress.get_or_insert_with(new), end)
        });
        // The receiver is gone if the writer was dropped.
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

    /// The content of a single member, with nothing after it.
    fn unzip(mut member: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        GzDecoder::new(&mut member).read_to_end(&mut bytes).unwrap();
        assert!(member.is_empty(), "{} bytes after the member", member.len());
        bytes
    }

    /// Pseudorandom bytes from a seed.
    fn noise(len: usize, mut state: u64) -> Vec<u8> {
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        (0..len).map(|_| next()).collect()
    }

    /// Slowly rising bytes as an image has, with noise in every third one.
    fn smooth(len: usize) -> Vec<u8> {
        let noise = noise(len, 7);
        (0..len).map(|i| if i % 3 == 0 { noise[i] & 7 } else { (i >> 9) as u8 }).collect()
    }

    #[test]
    fn the_member_does_not_depend_on_threads_or_write_lengths() {
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
    fn incompressible_bytes_hardly_grow() {
        let bytes = noise(3 * BLOCK_BYTES + 5, 1);
        let member = zip(&bytes, 2, bytes.len());
        assert!(unzip(&member) == bytes);
        assert!(member.len() < bytes.len() + bytes.len() / 1000, "{} bytes", member.len());
    }

    #[test]
    fn a_block_refers_back_into_the_one_before() {
        let period = noise(30_000, 2);
        let bytes: Vec<u8> = period.iter().copied().cycle().take(4 * BLOCK_BYTES).collect();
        let member = zip(&bytes, 2, bytes.len());
        assert!(unzip(&member) == bytes);
        // The period is stored once, not once for each block, plus the 16,000 matches that repeat
        // it.
        assert!(member.len() < 3 * period.len(), "{} bytes", member.len());
    }

    /// Accepts a limited number of bytes.
    struct LimitedSink(usize);

    impl Write for LimitedSink {
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
    fn a_full_disk_is_an_error_at_every_position() {
        let bytes = noise(7 * BLOCK_BYTES, 3);
        let whole = zip(&bytes, 2, bytes.len()).len();
        let attempt = |room| {
            let mut writer = GzipWriter::new(LimitedSink(room), 2)?;
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
    fn dropping_a_writer_ends_its_threads() {
        let mut writer = GzipWriter::new(Vec::new(), 3).unwrap();
        writer.write_all(&noise(5 * BLOCK_BYTES, 4)).unwrap();
        let waiting = Arc::downgrade(&writer.pool.waiting);
        assert_eq!(waiting.strong_count(), 4, "three threads and the writer hold it");
        drop(writer);
        assert_eq!(waiting.strong_count(), 0);
    }
}
