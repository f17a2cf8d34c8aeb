//! Measures how fast patches are read: each thread reads them into a buffer of its own, again and
//! again.
//!
//! Not here: the choice of patches (`trial`, and the command's `bench`).

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use voxquarry::{Error, Padding, Region, Result, Volume};

/// A patch to read, all channels.
#[derive(Clone, Debug)]
pub struct Patch {
    /// The volume.
    pub volume: Volume,
    /// The patch, wholly inside the volume.
    pub region: Region,
}

impl Patch {
    /// Bytes of its voxels.
    ///
    /// # Errors
    /// As [`Volume::voxels_in`].
    pub fn bytes(&self) -> Result<usize> {
        Ok(self.volume.voxels_in(self.region.size, 1)? * self.volume.dtype().size())
    }
}

/// When a pass ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// After the last patch, or after that time.
    Last(Duration),
    /// After that time; the patches are repeated as long as it lasts.
    Time(Duration),
}

/// The result of a pass.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pass {
    /// Patches that were read.
    pub patches: u64,
    /// Bytes of their voxels.
    pub bytes: u64,
    /// Time that the pass took.
    pub seconds: f64,
}

impl Pass {
    /// Patches per second.
    pub fn patches_per_second(&self) -> f64 {
        self.patches as f64 / self.seconds
    }

    /// Bytes of voxels per second.
    pub fn bytes_per_second(&self) -> f64 {
        self.bytes as f64 / self.seconds
    }
}

/// Reads the patches in order, divided among `threads`. Each thread reads at least one patch, as
/// long as one is left.
///
/// # Errors
/// Those of [`Volume::read_bytes`]; [`Error::Io`] if the system refuses a thread.
pub fn read_patches(patches: &[Patch], threads: usize, until: Until) -> Result<Pass> {
    let (Until::Last(limit) | Until::Time(limit)) = until;
    let lengths = patches.iter().map(Patch::bytes).collect::<Result<Vec<_>>>()?;
    let longest = lengths.iter().copied().max().unwrap_or(0);
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let work = || -> Result<Pass> {
        let (mut buffer, mut pass) = (vec![0; longest], Pass::default());
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if patches.is_empty() || (matches!(until, Until::Last(_)) && number >= patches.len()) {
                return Ok(pass);
            }
            let at = number % patches.len();
            let Patch { volume, region } = &patches[at];
            let (out, channels) = (&mut buffer[..lengths[at]], volume.layout().channel_count());
            volume.read_bytes(&[region.start], region.size, Padding::None, 0..channels, out)?;
            pass.patches += 1;
            pass.bytes += lengths[at] as u64;
            if started.elapsed() >= limit {
                return Ok(pass);
            }
        }
    };
    let parts = thread::scope(|scope| {
        // With fewer threads the figures would be of something else.
        let begin = |i| {
            let named = thread::Builder::new().name(format!("voxquarry-measure-{i}"));
            named.spawn_scoped(scope, work).map_err(Error::io("thread", "cannot start"))
        };
        let workers = (0..threads).map(begin).collect::<Result<Vec<_>>>()?;
        let join = |worker: thread::ScopedJoinHandle<'_, Result<Pass>>| {
            worker.join().expect("reading does not panic")
        };
        workers.into_iter().map(join).collect::<Result<Vec<_>>>()
    })?;
    Ok(Pass {
        patches: parts.iter().map(|part| part.patches).sum(),
        bytes: parts.iter().map(|part| part.bytes).sum(),
        seconds: started.elapsed().as_secs_f64(),
    })
}
