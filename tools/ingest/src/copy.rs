//! Copies the voxels of one source file into a volume of a store.
//!
//! # Invariants
//! - Memory is at most what the plan says.

use std::sync::mpsc::sync_channel;
use std::thread;

use voxquarry::format::attributes::{Kind, SourceFile};
use voxquarry::{Error, FinishedVolume, Result, SubjectWriter, VolumeSpec, VolumeWriter};

use crate::files::zeroed;
use crate::labels::{describe_labels, labels_of};
use crate::manifest::Source;
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::planned::PlannedVolume;
use crate::source::{SourceVolume, VoxelStream};

/// Writes a planned volume of `subject`, and returns it complete.
///
/// # Errors
/// [`Error::Data`] if the file is damaged or not as planned, [`Error::Interrupted`] if the observer
/// asked to stop, [`Error::Io`].
pub(crate) fn ingest_volume(
    subject: &mut SubjectWriter,
    planned: &PlannedVolume,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<FinishedVolume> {
    let (header, mut stream) = open(&planned.source, options)?;
    unchanged(&planned.source, &header, &planned.header)?;
    let mut writer = subject.volume(spec_of(planned, options))?;
    let (layers, interleaved) = (planned.memory.layers, planned.header.interleaved);
    copy_stream(stream.as_mut(), &mut writer, interleaved, layers, &planned.source, observer)?;
    let digest = stream.finish()?;
    let (name, mut origin) = (planned.source.input.name(), header.origin);
    origin.extend(digest.origin);
    writer.set_source(SourceFile { name, bytes: digest.bytes, sha256: digest.sha256, origin });
    finish(writer, observer)
}

/// Completes a volume, and makes its levels.
///
/// # Errors
/// [`Error::Interrupted`], [`Error::Io`].
pub(crate) fn finish(writer: VolumeWriter, observer: &dyn Observer) -> Result<FinishedVolume> {
    writer.finish_observed(&mut |bytes| {
        observer.event(Event::Encoded(bytes));
        check_interrupt(observer)
    })
}

/// Checks that a source is still what it was when its header was read for the plan.
///
/// # Errors
/// [`Error::Data`] if it is not.
pub(crate) fn unchanged(source: &Source, now: &SourceVolume, then: &SourceVolume) -> Result<()> {
    if now.shape().plane_bytes() == then.shape().plane_bytes() && now.size == then.size {
        return Ok(());
    }
    let message = "it changed while it was being ingested: run the ingest again";
    Err(Error::data(source.input.location(), message))
}

/// What a planned volume is written as.
pub(crate) fn spec_of(planned: &PlannedVolume, options: &IngestOptions) -> VolumeSpec {
    let header = &planned.header;
    let spec = VolumeSpec::new(&planned.source.volume, planned.source.kind, planned.layout.clone())
        .codec(options.codec)
        .patch_sizes(options.patch_sizes.clone())
        .affine(header.affine)
        // A stated affine is in millimetres, whatever the header says.
        .unit(header.unit.filter(|_| options.stated.affine.is_none()))
        .scaling(header.slope, header.intercept)
        .interleaved(header.interleaved)
        .labels(planned.label_names.clone())
        .levels(options.levels);
    if planned.is_weights { spec.weight_sums() } else { spec }
}

/// Names the source in an error of the writer, which does not know whose voxels it complains about.
pub(crate) fn located(source: &Source, error: Error) -> Error {
    match error {
        Error::Data { path, message } if !path.starts_with(source.input.location()) => {
            Error::data(source.input.location(), message)
        }
        other => other,
    }
}

/// Writes all voxels of a stream, with so many layers in memory.
///
/// # Errors
/// As [`ingest_volume`].
pub(crate) fn copy_stream(
    stream: &mut dyn VoxelStream,
    writer: &mut VolumeWriter,
    interleaved: usize,
    layers: usize,
    source: &Source,
    observer: &dyn Observer,
) -> Result<()> {
    let copied = if layers > 1 {
        copy_overlapped(stream, writer, interleaved, observer)
    } else {
        copy(stream, writer, observer)
    };
    copied.map_err(|error| located(source, error))
}

/// Alternates between reading and encoding, with one layer in memory.
fn copy(
    stream: &mut dyn VoxelStream,
    writer: &mut VolumeWriter,
    observer: &dyn Observer,
) -> Result<()> {
    let mut layer = zeroed(writer.layer_bytes())?;
    let plane_bytes = layer_plane_bytes(writer);
    while writer.next_planes() > 0 {
        check_interrupt(observer)?;
        let planes = writer.next_planes();
        let bytes = &mut layer[..planes * plane_bytes];
        stream.next_steps(planes, bytes)?;
        writer.write_layer(bytes)?;
        observer.event(Event::Encoded(bytes.len() as u64));
    }
    Ok(())
}

/// Reads the next layer on a second thread while the current one is encoded; alternates if the
/// system grants no second thread.
fn copy_overlapped(
    stream: &mut dyn VoxelStream,
    writer: &mut VolumeWriter,
    interleaved: usize,
    observer: &dyn Observer,
) -> Result<()> {
    let (layer_bytes, plane_bytes) = (writer.layer_bytes(), layer_plane_bytes(writer));
    let layout = writer.layout().clone();
    let depths = (0..layout.chunk_grid()[0])
        .map(|i| layout.chunk[0].min(layout.size[0] - i * layout.chunk[0]));
    let outer = layout.channel_count() / interleaved;
    let schedule = (0..outer).flat_map(|_| depths.clone());
    // Two buffers in all: one is being filled, the other encoded.
    let (full, filled) = sync_channel::<Result<(usize, Vec<u8>)>>(1);
    let (give_back, empty) = sync_channel::<Vec<u8>>(2);
    let mut spare = vec![zeroed(layer_bytes)?, zeroed(layer_bytes)?];
    let reading = &mut *stream;
    let is_begun = thread::scope(|scope| {
        let read = move || {
            for planes in schedule {
                let Some(mut layer) = spare.pop().or_else(|| empty.recv().ok()) else { return };
                let read = reading.next_steps(planes, &mut layer[..planes * plane_bytes]);
                let failed = read.is_err();
                // The receiver is gone only after an error of its own.
                if full.send(read.map(|()| (planes, layer))).is_err() || failed {
                    return;
                }
            }
        };
        let named = thread::Builder::new().name("voxquarry-read".into());
        if named.spawn_scoped(scope, read).is_err() {
            return Ok(false);
        }
        // Moved in, so that an early return drops them and the reader stops waiting for a buffer.
        let (filled, give_back) = (filled, give_back);
        while writer.next_planes() > 0 {
            check_interrupt(observer)?;
            let (planes, layer) =
                filled.recv().expect("the reader sends every layer or an error")?;
            let bytes = &layer[..planes * plane_bytes];
            writer.write_layer(bytes)?;
            observer.event(Event::Encoded(bytes.len() as u64));
            // The reader is gone after its last layer, so sending may fail.
            let _ = give_back.send(layer);
        }
        Ok(true)
    })?;
    if is_begun { Ok(()) } else { copy(stream, writer, observer) }
}

fn layer_plane_bytes(writer: &VolumeWriter) -> usize {
    let layout = writer.layout();
    writer.layer_bytes() / layout.chunk[0].min(layout.size[0])
}

/// Opens a source for reading the voxels that it becomes.
///
/// # Errors
/// Those of its headers.
pub(crate) fn open(
    source: &Source,
    options: &IngestOptions,
) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
    let opened = source.input.open(&options.stated)?;
    let header = opened.volume().clone();
    let voxels = opened.stream()?;
    if source.kind != Kind::Labels {
        return Ok((header, voxels));
    }
    let labels = labels_of(source.input.location().to_owned(), &header, voxels);
    Ok((describe_labels(header), labels))
}
