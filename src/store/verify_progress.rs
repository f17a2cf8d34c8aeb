//! How far a verification has come, told to a function that may end it.
//!
//! # Invariants
//! - What is done never shrinks, is at most the total, and reaches it at the end, whatever damage
//!   hides.
//! - The function is called on the thread of the caller of `verify`: Python hears Ctrl-C only
//!   there.

use super::dataset::Dataset;
use super::volume::Volume;
use crate::Result;
use crate::format::levels::coarser;

/// How far [`verify`](crate::verify) has come.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct VerifyProgress<'a> {
    /// The volume that is being checked, `subject/volume`; empty while the volumes are counted.
    pub volume: &'a str,
    /// Bytes of voxels that were checked, before compression, of all levels.
    pub done: u64,
    /// Bytes of all voxels of the store; 0 while the volumes are counted.
    pub total: u64,
}

/// Counts what was checked.
pub(super) struct Steps<'a> {
    progress: &'a mut dyn FnMut(VerifyProgress<'_>) -> Result<()>,
    volume: String,
    done: u64,
    /// What was told last.
    told: u64,
    /// What is done at the end of the volume.
    volume_end: u64,
    total: u64,
}

impl<'a> Steps<'a> {
    /// Counts the bytes of a store. What damage hides counts nothing.
    ///
    /// # Errors
    /// That of `progress`, which is called for every subject.
    pub(super) fn count(
        dataset: &Dataset,
        progress: &'a mut dyn FnMut(VerifyProgress<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut total: u64 = 0;
        for name in dataset.subjects() {
            progress(VerifyProgress { volume: "", done: 0, total: 0 })?;
            let Ok(subject) = dataset.subject(name) else { continue };
            let volumes = subject.volumes().iter().filter_map(|name| subject.volume(name).ok());
            let bytes = volumes.map(|volume| bytes_of(&volume));
            total = bytes.fold(total, u64::saturating_add);
        }
        Ok(Self { progress, volume: String::new(), done: 0, told: 0, volume_end: 0, total })
    }

    /// Begins a volume.
    ///
    /// # Errors
    /// That of the function.
    pub(super) fn begin(&mut self, subject: &str, volume: &Volume) -> Result<()> {
        self.volume = format!("{subject}/{}", volume.name());
        self.volume_end = self.done.saturating_add(bytes_of(volume)).min(self.total);
        self.tell()
    }

    /// Counts `bytes` of the volume.
    ///
    /// # Errors
    /// That of the function.
    pub(super) fn add(&mut self, bytes: u64) -> Result<()> {
        self.done = self.done.saturating_add(bytes).min(self.volume_end);
        self.tell()
    }

    /// Ends the volume: what of it could not be checked counts, too.
    pub(super) fn end_volume(&mut self) {
        self.done = self.volume_end;
    }

    /// Says that all is done, unless it was said.
    ///
    /// # Errors
    /// That of the function.
    pub(super) fn end(&mut self) -> Result<()> {
        self.done = self.total;
        if self.told < self.total { self.tell() } else { Ok(()) }
    }

    fn tell(&mut self) -> Result<()> {
        let (volume, done, total) = (self.volume.as_str(), self.done, self.total);
        self.told = done;
        (self.progress)(VerifyProgress { volume, done, total })
    }
}

/// Bytes of the voxels of all levels of a volume.
fn bytes_of(volume: &Volume) -> u64 {
    let layout = volume.layout();
    let voxel = (layout.channel_count() * layout.dtype.size()) as u64;
    let of_level = |factors| {
        let size = coarser(layout.size, factors);
        size.iter().fold(voxel, |bytes, &n| bytes.saturating_mul(n as u64))
    };
    volume.levels().into_iter().map(of_level).fold(0, u64::saturating_add)
}
