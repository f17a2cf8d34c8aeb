//! Ingests source files into a store: plans, streams voxels, publishes subjects.
//!
//! # Invariants
//! - The plan reads every header. Its memory is an upper bound of what the run uses.
//! - A subject is published whole or not at all. Subjects published before an error stay.

use std::path::Path;
use std::sync::mpsc::sync_channel;
use std::thread;

use voxquarry::format::array::ArrayLayout;
use voxquarry::format::attributes::{Kind, SourceFile};
use voxquarry::format::layout::{self, VolumeShape};
use voxquarry::{
    Dataset, Error, FinishedVolume, IfExists, OpenOptions, Result, StoreWriter, SubjectWriter,
    VolumeSpec, VolumeWriter,
};

use crate::labels::{describe_labels, labels_of};
use crate::manifest::{Manifest, Source};
use crate::nifti;
use crate::observer::{Event, Observer, check_interrupt};
use crate::options::IngestOptions;
use crate::source::{SourceVolume, VoxelStream};

/// A subject of the plan.
#[derive(Debug)]
pub struct PlannedSubject {
    /// Its name.
    pub name: String,
    /// Its volumes.
    pub volumes: Vec<PlannedVolume>,
}

/// A volume of the plan.
#[derive(Debug)]
pub struct PlannedVolume {
    /// The source file.
    pub source: Source,
    /// The contents of its header.
    pub header: SourceVolume,
    /// How it will be cut into chunks and shards.
    pub layout: ArrayLayout,
    /// Upper bound of the memory that writing it takes.
    pub memory: layout::IngestMemory,
    /// Whether the sums of its chunks will be stored beside it, for weighted sampling.
    pub is_weights: bool,
}

/// The result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IngestReport {
    /// Subjects written.
    pub written: Vec<String>,
    /// Subjects that existed already and were skipped.
    pub skipped: Vec<String>,
    /// Bytes of voxels read.
    pub voxel_bytes: u64,
}

impl PlannedVolume {
    /// Bytes of its voxels, before compression.
    pub fn voxel_bytes(&self) -> u64 {
        self.layout.shape().iter().map(|&n| n as u64).product::<u64>()
            * self.layout.dtype.size() as u64
    }

    fn shape(&self) -> VolumeShape {
        shape_of(&self.header)
    }
}

pub(crate) fn shape_of(header: &SourceVolume) -> VolumeShape {
    VolumeShape {
        channels: header.channels,
        size: header.size,
        dtype: header.dtype,
        interleaved: header.interleaved,
    }
}

/// Reads every header and chooses every layout.
///
/// # Errors
/// For the first source that cannot be ingested: [`Error::InvalidArgument`],
/// [`Error::MemoryBudget`], [`Error::Data`], [`Error::Io`].
pub fn plan(manifest: &Manifest, options: &IngestOptions) -> Result<Vec<PlannedSubject>> {
    if options.patch_sizes.is_empty() || options.patch_sizes.iter().flatten().any(|&n| n == 0) {
        return Err(Error::invalid(
            "patch_sizes",
            format!("{:?}", options.patch_sizes),
            "at least one, with at least 1 voxel along each axis",
        ));
    }
    let volume = |source: &Source| {
        let header = probe(source)?;
        let shape = shape_of(&header);
        let layout =
            layout::choose(&shape, &options.patch_sizes, options.codec, options.memory_bytes)
                .map_err(|e| in_file(&source.path, e))?;
        let memory = layout::ingest_memory(&shape, &layout, options.memory_bytes);
        let is_weights = manifest.is_weights(source);
        Ok(PlannedVolume { source: source.clone(), header, layout, memory, is_weights })
    };
    let subject = |(name, sources): &(String, Vec<Source>)| {
        let volumes = sources.iter().map(volume).collect::<Result<Vec<_>>>()?;
        for other in &volumes[1..] {
            let first = &volumes[0];
            if first.header.size != other.header.size
                || !first.header.affine.agrees_with(&other.header.affine, first.header.size)
            {
                return Err(Error::data(&other.source.path, describe_grid_mismatch(first, other)));
            }
        }
        Ok(PlannedSubject { name: name.clone(), volumes })
    };
    manifest.subjects().iter().map(subject).collect()
}

/// Describes the volume that a source becomes.
fn probe(source: &Source) -> Result<SourceVolume> {
    let header = nifti::probe(&source.path)?;
    Ok(if source.kind == Kind::Labels { describe_labels(header) } else { header })
}

/// Opens a source for reading the voxels that it becomes.
fn open(source: &Source) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
    let (header, voxels) = nifti::open(&source.path)?;
    if source.kind != Kind::Labels {
        return Ok((header, voxels));
    }
    let labels = labels_of(source.path.clone(), &header, voxels);
    Ok((describe_labels(header), labels))
}

/// Names the source file in an error about its memory.
fn in_file(path: &Path, error: Error) -> Error {
    match error {
        Error::MemoryBudget { what, needed_bytes, allowed_bytes } => Error::MemoryBudget {
            what: format!("{}: {what}", path.display()),
            needed_bytes,
            allowed_bytes,
        },
        other => other,
    }
}

fn describe_grid_mismatch(first: &PlannedVolume, other: &PlannedVolume) -> String {
    let (a, b) = (&first.header, &other.header);
    let difference = if a.size == b.size {
        format!("its affine is {:?}, expected {:?}", b.affine.0, a.affine.0)
    } else {
        format!("it has {:?} voxels (z, y, x), expected {:?}", b.size, a.size)
    };
    let path = first.source.path.display();
    format!(
        "lies on another grid than {path} of the same subject: {difference}: \
         resample it, or make it a subject of its own"
    )
}

/// Ingests what the manifest names into the store at `out`.
///
/// `options.if_exists` decides about a subject that exists already. An interrupted run continues
/// when it is started again: while some subjects are missing, those that were ingested from the
/// same files count as done.
///
/// # Errors
/// As [`plan`], [`Error::Exists`], [`Error::NotAStore`], and [`Error::Interrupted`] if the observer
/// asked to stop.
pub fn ingest(
    manifest: &Manifest,
    out: &Path,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<IngestReport> {
    let planned = plan(manifest, options)?;
    let store = StoreWriter::open(out, options.threads)?;
    let mut report = IngestReport::default();
    let present: Vec<bool> = planned.iter().map(|s| store.has_subject(&s.name)).collect();
    let resumes = present.iter().any(|p| !p);
    let mut todo = Vec::new();
    for (subject, present) in planned.iter().zip(present) {
        match options.if_exists {
            _ if !present => todo.push(subject),
            IfExists::Replace => todo.push(subject),
            IfExists::Skip => report.skipped.push(subject.name.clone()),
            IfExists::Error if resumes && is_from_same_files(&store, subject) => {
                report.skipped.push(subject.name.clone());
            }
            IfExists::Error => {
                let remedy = "replace it, or skip it".to_owned();
                return Err(Error::Exists { path: out.join(&subject.name), remedy });
            }
        }
    }
    let bytes = todo.iter().flat_map(|s| &s.volumes).map(PlannedVolume::voxel_bytes).sum();
    observer.event(Event::Begin { subjects: todo.len(), skipped: report.skipped.len(), bytes });
    for subject in todo {
        let mut writer = store.subject(&subject.name)?;
        let mut finished = Vec::new();
        for volume in &subject.volumes {
            observer.event(Event::Volume { subject: &subject.name, volume: &volume.source.volume });
            finished.push(ingest_volume(&mut writer, volume, options, observer)?);
            report.voxel_bytes += volume.voxel_bytes();
        }
        // An observer that asked to stop at the last layer must not see the subject appear.
        check_interrupt(observer)?;
        writer.publish(finished, options.if_exists)?;
        observer.event(Event::Published { subject: &subject.name });
        report.written.push(subject.name.clone());
    }
    Ok(report)
}

/// Whether a published subject came from the planned files: same volumes, kinds, file names and
/// lengths.
fn is_from_same_files(store: &StoreWriter, planned: &PlannedSubject) -> bool {
    let same = || -> Result<bool> {
        let subject =
            Dataset::open(store.path(), &OpenOptions::default())?.subject(&planned.name)?;
        for volume in &planned.volumes {
            let found = subject.volume(&volume.source.volume)?;
            let bytes = std::fs::metadata(&volume.source.path).map(|m| m.len()).ok();
            let name = file_name(&volume.source);
            let same_source =
                found.source().is_some_and(|s| s.name == name && Some(s.bytes) == bytes);
            if !same_source || found.kind() != volume.source.kind {
                return Ok(false);
            }
        }
        Ok(subject.volumes().len() == planned.volumes.len())
    };
    same().unwrap_or(false)
}

fn file_name(source: &Source) -> String {
    source.path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

fn ingest_volume(
    subject: &mut SubjectWriter,
    planned: &PlannedVolume,
    options: &IngestOptions,
    observer: &dyn Observer,
) -> Result<FinishedVolume> {
    let (header, mut stream) = open(&planned.source)?;
    if shape_of(&header).plane_bytes() != planned.shape().plane_bytes()
        || header.size != planned.header.size
    {
        return Err(Error::data(
            &planned.source.path,
            "the file changed while it was being ingested: run the ingest again",
        ));
    }
    let mut spec =
        VolumeSpec::new(&planned.source.volume, planned.source.kind, planned.layout.clone())
            .codec(options.codec)
            .patch_sizes(options.patch_sizes.clone())
            .affine(header.affine)
            .scaling(header.slope, header.intercept)
            .interleaved(header.interleaved);
    if planned.is_weights {
        spec = spec.weight_sums();
    }
    let mut writer = subject.volume(spec)?;
    let located = |e: Error| match e {
        // The writer does not know the source file, whose voxels it complains about.
        Error::Data { message, .. } => Error::data(&planned.source.path, message),
        other => other,
    };
    if planned.memory.layers > 1 {
        copy_overlapped(stream.as_mut(), &mut writer, planned, observer).map_err(located)?;
    } else {
        copy(stream.as_mut(), &mut writer, observer).map_err(located)?;
    }
    let digest = stream.finish()?;
    let (name, mut origin) = (file_name(&planned.source), header.origin);
    origin.extend(digest.origin);
    writer.set_source(SourceFile { name, bytes: digest.bytes, sha256: digest.sha256, origin });
    writer.finish()
}

/// Alternates between reading and encoding, with one layer in memory.
fn copy(
    stream: &mut dyn VoxelStream,
    writer: &mut VolumeWriter,
    observer: &dyn Observer,
) -> Result<()> {
    let mut layer = vec![0; writer.layer_bytes()];
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

/// Reads the next layer on a second thread while the current one is encoded.
fn copy_overlapped(
    stream: &mut dyn VoxelStream,
    writer: &mut VolumeWriter,
    planned: &PlannedVolume,
    observer: &dyn Observer,
) -> Result<()> {
    let (layer_bytes, plane_bytes) = (writer.layer_bytes(), layer_plane_bytes(writer));
    let layout = &planned.layout;
    let depths = (0..layout.chunk_grid()[0])
        .map(|i| layout.chunk[0].min(layout.size[0] - i * layout.chunk[0]));
    let outer = layout.channel_count() / planned.header.interleaved;
    let schedule = (0..outer).flat_map(|_| depths.clone());
    // Two buffers in all: one is being filled, the other encoded.
    let (full, filled) = sync_channel::<Result<(usize, Vec<u8>)>>(1);
    let (give_back, empty) = sync_channel::<Vec<u8>>(2);
    thread::scope(|scope| {
        scope.spawn(move || {
            let mut spare = vec![Vec::new(), Vec::new()];
            for planes in schedule {
                let Some(mut layer) = spare.pop().or_else(|| empty.recv().ok()) else { return };
                layer.resize(layer_bytes, 0);
                let read = stream.next_steps(planes, &mut layer[..planes * plane_bytes]);
                let failed = read.is_err();
                // The receiver is gone only after an error of its own.
                if full.send(read.map(|()| (planes, layer))).is_err() || failed {
                    return;
                }
            }
        });
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
        Ok(())
    })
}

fn layer_plane_bytes(writer: &VolumeWriter) -> usize {
    let layout = writer.layout();
    writer.layer_bytes() / layout.chunk[0].min(layout.size[0])
}
