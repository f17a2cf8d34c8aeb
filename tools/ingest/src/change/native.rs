//! Copies of sources that are resampled: in the folder of the subject that is being prepared.
//!
//! # Invariants
//! - A copy is removed with the subject's work, whatever ends it.

use std::fs;
use std::path::PathBuf;

use voxquarry::format::attributes::Kind;
use voxquarry::format::layout::{self, VolumeShape};
use voxquarry::{
    Access, Dataset, IfExists, OpenOptions, Padding, Region, Result, StoreWriter, SubjectWriter,
    Volume, VolumeSpec, VolumeWriter,
};

use super::foreground::Foreground;
use super::planned::{COPY_CODEC, PlannedChange};
use super::values::widen;
use crate::copy::{copy_stream, open, unchanged};
use crate::files::zeroed;
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::planned::PlannedVolume;
use crate::source::{SourceDigest, VoxelStream};

const FOLDER: &str = "native";
const VOLUME: &str = "voxels";

/// The copies of a subject's sources.
pub(super) struct Copies<'a> {
    store: StoreWriter,
    options: &'a IngestOptions,
    observer: &'a dyn Observer,
}

/// A copy of a source, or of a part of one.
pub(super) struct NativeCopy {
    pub(super) volume: Volume,
    pub(super) digest: SourceDigest,
    pub(super) foreground: Foreground,
}

impl<'a> Copies<'a> {
    /// Begins the copies for a subject.
    ///
    /// # Errors
    /// [`voxquarry::Error::Io`].
    pub(super) fn new(
        subject: &SubjectWriter,
        options: &'a IngestOptions,
        observer: &'a dyn Observer,
    ) -> Result<Self> {
        let store = StoreWriter::open(subject.work_folder().join(FOLDER), options.threads)?;
        Ok(Self { store, options, observer })
    }

    /// Copies a source, with its values clipped.
    ///
    /// # Errors
    /// As [`crate::copy::ingest_volume`].
    pub(super) fn copy(
        &self,
        number: usize,
        planned: &PlannedVolume,
        change: &PlannedChange,
    ) -> Result<NativeCopy> {
        let (header, voxels) = open(&planned.source, self.options)?;
        unchanged(&planned.source, &header, &change.native)?;
        let name = format!("{number}");
        let mut subject = self.store.subject(&name)?;
        let mut writer = subject.volume(self.spec(planned.source.kind, change))?;
        let mut native = NativeStream {
            voxels,
            change,
            next: (0, 0),
            foreground: Foreground::default(),
            has_foreground: change.changes.crops
                && planned.source.kind == Kind::Image
                && !planned.is_weights,
        };
        let interleaved = change.native.interleaved;
        let layers = change.copy_layers;
        let (source, observer) = (&planned.source, self.observer);
        copy_stream(&mut native, &mut writer, interleaved, layers, source, observer)?;
        let foreground = native.foreground;
        let digest = native.voxels.finish()?;
        subject.publish([writer.finish()?], IfExists::Error)?;
        Ok(NativeCopy { volume: self.open(&name)?, digest, foreground })
    }

    /// Copies a part of a copy, which is removed.
    ///
    /// # Errors
    /// [`voxquarry::Error::Io`], [`voxquarry::Error::Interrupted`].
    pub(super) fn crop(
        &self,
        number: usize,
        kind: Kind,
        change: &PlannedChange,
        native: NativeCopy,
        region: Region,
    ) -> Result<NativeCopy> {
        let name = format!("{number} cropped");
        let shape = VolumeShape {
            channels: change.native.channels,
            size: region.size,
            dtype: change.copy.dtype,
            interleaved: 1,
        };
        let (patches, memory) = (&self.options.patch_sizes, self.options.memory_bytes);
        let copy = layout::choose(&shape, patches, COPY_CODEC, memory)?;
        let mut subject = self.store.subject(&name)?;
        let cropped = PlannedChange { copy, ..change.clone() };
        let mut writer = subject.volume(self.spec(kind, &cropped).interleaved(1))?;
        copy_region(&native.volume, region, &mut writer, self.observer)?;
        subject.publish([writer.finish()?], IfExists::Error)?;
        let NativeCopy { volume, digest, foreground } = native;
        drop(volume);
        self.remove(&format!("{number}"));
        Ok(NativeCopy { volume: self.open(&name)?, digest, foreground })
    }

    fn spec(&self, kind: Kind, change: &PlannedChange) -> VolumeSpec {
        let native = &change.native;
        let scaling = if change.is_real { (native.slope, native.intercept) } else { (1.0, 0.0) };
        VolumeSpec::new(VOLUME, kind, change.copy.clone())
            .codec(COPY_CODEC)
            .patch_sizes(self.options.patch_sizes.clone())
            .scaling(scaling.0, scaling.1)
            .interleaved(native.interleaved)
    }

    fn open(&self, name: &str) -> Result<Volume> {
        let threads = self.options.thread_count();
        // Mapped pages would count as memory of the run.
        let options = OpenOptions::default().cache_bytes(0).threads(threads).access(Access::Read);
        Dataset::open(self.store.path(), &options)?.subject(name)?.volume(VOLUME)
    }

    /// Removes what was copied of a volume. What cannot be removed goes with the subject's work.
    pub(super) fn remove(&self, name: &str) {
        let folder: PathBuf = self.store.path().join(name);
        let _ = fs::remove_dir_all(folder);
    }

    /// Removes all copies of a volume.
    pub(super) fn remove_all(&self, number: usize) {
        self.remove(&format!("{number}"));
        self.remove(&format!("{number} cropped"));
    }
}

/// Writes a part of a volume, channel by channel.
fn copy_region(
    volume: &Volume,
    region: Region,
    writer: &mut VolumeWriter,
    observer: &dyn Observer,
) -> Result<()> {
    let plane_bytes = region.size[1] * region.size[2] * volume.dtype().size();
    let mut layer = zeroed(writer.layer_bytes())?;
    for channel in 0..volume.layout().channel_count() {
        let mut z = 0;
        while z < region.size[0] {
            check_interrupt(observer)?;
            let planes = writer.next_planes();
            let bytes = &mut layer[..planes * plane_bytes];
            let start = [region.start[0] + z as i64, region.start[1], region.start[2]];
            let size = [planes, region.size[1], region.size[2]];
            volume.read_bytes(&[start], size, Padding::None, channel..channel + 1, bytes)?;
            writer.write_layer(bytes)?;
            observer.event(Event::Encoded(bytes.len() as u64));
            z += planes;
        }
    }
    Ok(())
}

/// Yields the voxels of a source as their copy holds them.
struct NativeStream<'a> {
    voxels: Box<dyn VoxelStream>,
    change: &'a PlannedChange,
    /// The group of channels and the z step that come next.
    next: (usize, usize),
    foreground: Foreground,
    has_foreground: bool,
}

impl VoxelStream for NativeStream<'_> {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let PlannedChange { native, copy, clip, .. } = self.change;
        let count = out.len() / copy.dtype.size();
        let start = out.len() - count * native.dtype.size();
        self.voxels.next_steps(steps, &mut out[start..])?;
        let z = self.next.1;
        if self.has_foreground {
            for channel in out[start..].chunks_exact((out.len() - start) / native.interleaved) {
                self.foreground.take(channel, z, native);
            }
        }
        self.next.1 = z + steps;
        if self.next.1 == native.size[0] {
            self.next = (self.next.0 + 1, 0);
        }
        if start > 0 {
            widen(native.dtype, copy.dtype, out);
        }
        if let Some(clip) = clip {
            clip.apply(copy.dtype, out);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<SourceDigest> {
        self.voxels.finish()
    }
}
