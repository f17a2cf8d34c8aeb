//! The files of one volume in preparation: takes its chunks in any order, from any thread.
//!
//! # Invariants
//! - A shard file is written once, when the last of its chunks has come; until then its chunks are
//!   held encoded.
//! - The thread that brings the last chunk writes the shard, and receives the error of a full disk;
//!   flushing goes on in the background.

use std::io;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::journal::{Journal, ShardRecord};
use super::part::Part;
use super::sidecar::label_counts_writer::LabelCountsWriter;
use super::sidecar::nifti_header;
use super::sidecar::weight_sums::{self, WeightSums};
use super::spec::VolumeSpec;
use crate::array::ChunkEncoder;
use crate::array::flush::{FlushQueue, UnflushedFile};
use crate::array::labels::count_labels;
use crate::array::rows::InvalidVoxel;
use crate::array::shard_file::{EncodedChunk, write_shard};
use crate::array::shard_list::ShardList;
use crate::array::shards::OpenShard;
use crate::array::statistics::RunningStatistics;
use crate::array::weights::WeightFunction;
use crate::format::array::ArrayLayout;
use crate::format::attributes::{DocumentChecksums, Kind, SourceFile, StoredLevel};
use crate::format::document;
use crate::format::grid::{ChunkId, ShardId, iter_box};
use crate::format::index::ShardIdentity;
use crate::format::levels::{level_folder, shard_list_folder};
use crate::format::ome;
use crate::memory::collected;
use crate::sys::file::Access;
use crate::sys::folder::{Folder, refused};
use crate::{Error, Region, Result, Size3};

/// The files of a volume that is being written.
pub(super) struct VolumeFiles {
    shards: Arc<ShardStates>,
    /// Encoders that no thread uses now.
    encoders: Mutex<Vec<ChunkEncoder>>,
    flushes: Mutex<FlushQueue>,
}

/// The shards of the volume, shared with the threads that flush them.
struct ShardStates {
    folder: Folder,
    spec: VolumeSpec,
    /// The level that the shards are of.
    level: usize,
    /// In C order, channel slowest.
    states: Vec<Mutex<ShardState>>,
    /// Of a label map.
    label_counts: Option<LabelCountsWriter>,
    journal: Option<Journal>,
}

enum ShardState {
    Open(OpenChunks),
    Written(ShardRecord),
    /// Another part of the volume has it.
    Elsewhere,
}

/// The chunks of a shard that is not complete.
#[derive(Default)]
struct OpenChunks {
    awaited: usize,
    chunks: Vec<EncodedChunk>,
    facts: Vec<ChunkFacts>,
}

/// The facts about one chunk's voxels that are stored beside them.
struct ChunkFacts {
    index: u64,
    statistics: RunningStatistics,
    labels: Vec<(i64, u32)>,
    weight_sum: f64,
}

/// What is known of the voxels once all shards are written.
pub(super) struct WrittenShards {
    pub(super) files: u64,
    /// The crc32c of the list of shards, which is written.
    pub(super) crc32c: u32,
    statistics: RunningStatistics,
    weights: Vec<(u64, f64)>,
}

/// The reason why a chunk was refused.
pub(super) enum ChunkError {
    /// A voxel of a label map or of weights that is neither; its index `(z, y, x)`.
    Voxel { index: [i64; 3], message: String },
    /// The file system refused.
    Storage(Error),
}

impl ChunkError {
    /// The error of volume `name`.
    pub(super) fn of_volume(self, name: &str) -> Error {
        match self {
            Self::Voxel { message, .. } => Error::data(name, message),
            Self::Storage(error) => error,
        }
    }
}

impl VolumeFiles {
    /// The files of `spec` below `folder`; with a `journal`, the shards that it lists are written.
    /// Of a `part`, chunks of other shards are taken and left out.
    ///
    /// # Errors
    /// As [`VolumeSpec::check`]; [`Error::Data`] if the journal belongs to another volume,
    /// [`Error::Io`].
    pub(super) fn create(
        folder: Folder,
        spec: VolumeSpec,
        journal: Option<(&Folder, &str)>,
        part: Option<Part>,
    ) -> Result<Self> {
        spec.check()?;
        Self::create_at(0, folder, spec, journal, part)
    }

    /// The files of a coarser level of a volume below `folder`; `spec` has the layout of the level.
    /// Nothing is counted or summed of it. What an interrupted writer left of it is removed.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn create_level(level: usize, folder: Folder, spec: &VolumeSpec) -> Result<Self> {
        for name in [level_folder(level), shard_list_folder(level)] {
            match folder.remove_tree(&name) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => {
                    return Err(refused(folder.path().join(name), "cannot remove")(e));
                }
                _ => {}
            }
        }
        // Of a kind whose voxels are not looked at.
        let spec = VolumeSpec { kind: Kind::Image, weight_sums: false, ..spec.clone() };
        Self::create_at(level, folder, spec, None, None)
    }

    fn create_at(
        number: usize,
        folder: Folder,
        spec: VolumeSpec,
        journal: Option<(&Folder, &str)>,
        part: Option<Part>,
    ) -> Result<Self> {
        let level = folder.join(level_folder(number));
        level.create_all().map_err(refused(level.path(), "cannot create"))?;
        let layout = &spec.layout;
        let open = |shard| {
            if part.is_some_and(|part| part_of_shard(layout, shard, part.count()) != part) {
                return Mutex::new(ShardState::Elsewhere);
            }
            let awaited = layout.shard_cells(layout.shard_at(shard)).map(|cells| cells.len());
            let awaited = awaited.iter().product();
            Mutex::new(ShardState::Open(OpenChunks { awaited, ..OpenChunks::default() }))
        };
        let count = layout.shard_count();
        let states = collected((0..count as usize).map(open), count, || {
            format!("a list of {count} shards")
        })?;
        // Those of a part wait in its journal for the others.
        let label_counts = match spec.kind {
            Kind::Labels if part.is_none() => Some(LabelCountsWriter::new(&folder, layout)?),
            _ => None,
        };
        let journal = match journal {
            Some(journal) => Some(reopen(journal, layout, &level, &states, label_counts.as_ref())?),
            None => None,
        };
        let level = number;
        let shards = Arc::new(ShardStates { folder, spec, level, states, label_counts, journal });
        Ok(Self { shards, encoders: Mutex::default(), flushes: Mutex::default() })
    }

    pub(super) fn spec(&self) -> &VolumeSpec {
        &self.shards.spec
    }

    /// The folder that they lie in.
    pub(super) fn folder(&self) -> &Folder {
        &self.shards.folder
    }

    /// Whether every shard that meets `region` is written, or is another part's.
    pub(super) fn is_written(&self, region: &Region) -> bool {
        let layout = &self.spec().layout;
        let cells = [0, 1, 2].map(|a| {
            region.start[a] as usize / layout.shard[a]
                ..(region.end(a) as usize).div_ceil(layout.shard[a])
        });
        (0..layout.channel_count()).all(|channel| {
            iter_box(cells.clone()).all(|at| {
                let number = layout.shard_number(ShardId { channel, at });
                !matches!(*self.shards.state(number), ShardState::Open(_))
            })
        })
    }

    /// Takes chunk `id`, which lies in one channel's `planes` of `source`; each chunk once.
    ///
    /// Returns the statistics of its voxels, or none if its shard is written already or is another
    /// part's.
    pub(super) fn put(
        &self,
        planes: &[&[u8]],
        source: &Region,
        id: ChunkId,
    ) -> Result<RunningStatistics, ChunkError> {
        let layout = &self.spec().layout;
        let (shard, slot) = layout.shard_of(id);
        let number = layout.shard_number(shard);
        if !matches!(*self.shards.state(number), ShardState::Open(_)) {
            return Ok(RunningStatistics::NONE);
        }
        let mut encoder = {
            let idle = self.encoders.lock().unwrap_or_else(PoisonError::into_inner).pop();
            idle.map_or_else(|| ChunkEncoder::new(layout), Ok).map_err(ChunkError::Storage)?
        };
        let mut facts = ChunkFacts::of(self.spec(), encoder.cut(layout, planes, source, id), id)?;
        self.shards.take_labels(&mut facts).map_err(ChunkError::Storage)?;
        let bytes = encoder.encode().map_err(ChunkError::Storage)?;
        self.encoders.lock().unwrap_or_else(PoisonError::into_inner).push(encoder);
        let statistics = facts.statistics;
        let complete = {
            let mut state = self.shards.state(number);
            let ShardState::Open(open) = &mut *state else { return Ok(statistics) };
            open.chunks.extend(bytes.map(|bytes| EncodedChunk { slot, bytes }));
            open.facts.push(facts);
            open.awaited -= 1;
            (open.awaited == 0).then(|| mem::take(open))
        };
        if let Some(complete) = complete {
            self.write(number, complete).map_err(ChunkError::Storage)?;
        }
        Ok(statistics)
    }

    /// Writes a complete shard, and lets a thread flush it.
    fn write(&self, number: usize, complete: OpenChunks) -> Result<()> {
        let OpenChunks { chunks, facts, .. } = complete;
        let (layout, folder) = (&self.spec().layout, &self.shards.folder);
        let level = folder.join(level_folder(self.shards.level));
        let written = write_shard(&level, layout, layout.shard_at(number), chunks)?;
        let (file, identity) = written.unzip();
        let identity = identity.map_or(0, ShardIdentity::value);
        let record = ShardRecord::new(self.spec(), number, identity, facts);
        let shards = self.shards.clone();
        let flush = move || shards.flush(record, file);
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).push(flush)
    }

    /// Waits until all shards are on the disk, and writes their list.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if chunks are missing, [`Error::Io`].
    pub(super) fn finish_shards(&self) -> Result<WrittenShards> {
        self.flush()?;
        let mut statistics = RunningStatistics::NONE;
        let mut weights = Vec::new();
        let mut shard_list = Vec::with_capacity(self.shards.states.len());
        for number in 0..self.shards.states.len() {
            let ShardState::Written(record) = &mut *self.shards.state(number) else {
                return Err(self.lacks_chunks());
            };
            statistics.merge(&record.statistics);
            weights.append(&mut record.weight_sums);
            shard_list.push(record.identity);
        }
        let shard_list = ShardList(shard_list);
        let list_folder = self.shards.folder.join(shard_list_folder(self.shards.level));
        let crc32c = shard_list.write(&list_folder)?;
        Ok(WrittenShards { files: shard_list.files(), crc32c, statistics, weights })
    }

    /// Writes sidecars and metadata beside the shards, and returns the checksums of the documents.
    /// `statistics` are those of all voxels; if `None`, those of the shards are merged. `levels`
    /// were made of the volume.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn finish(
        self,
        shards: WrittenShards,
        statistics: Option<RunningStatistics>,
        source: Option<SourceFile>,
        levels: Vec<StoredLevel>,
    ) -> Result<DocumentChecksums> {
        let (folder, spec) = (&self.shards.folder, self.spec());
        let summary_crc32c = match &self.shards.label_counts {
            Some(counts) => counts.write()?,
            None => None,
        };
        let level_crc32c = self.write_level_document()?;
        let mut attributes = spec.attributes(statistics.unwrap_or(shards.statistics).statistics());
        attributes.shard_files = shards.files;
        attributes.shards_crc32c = shards.crc32c;
        attributes.summary_crc32c = summary_crc32c;
        attributes.source = source;
        attributes.levels = levels;
        attributes.nifti_crc32c = nifti_header::write(folder, &attributes, &spec.layout)?;
        let image = spec.image.as_deref();
        let attributes = ome::group_attributes(&spec.name, &attributes, &spec.layout, image);
        let group = document::write_in(folder, &document::group(attributes))?;
        let checksums = DocumentChecksums { group_crc32c: crc32c::crc32c(&group), level_crc32c };
        if spec.weight_sums {
            let sums = WeightSums::from_chunks(shards.weights);
            sums.write(&folder.join(weight_sums::FOLDER), checksums)?;
        }
        Ok(checksums)
    }

    /// Completes a coarser level, and returns what the volume's document says of it.
    ///
    /// # Errors
    /// As [`VolumeFiles::finish_shards`].
    pub(super) fn finish_level(self, factors: Size3) -> Result<StoredLevel> {
        let shards = self.finish_shards()?;
        Ok(StoredLevel {
            factors,
            level_crc32c: self.write_level_document()?,
            shard_files: shards.files,
            shards_crc32c: shards.crc32c,
            statistics: shards.statistics.statistics(),
        })
    }

    /// Writes the document of the array, and returns its checksum.
    fn write_level_document(&self) -> Result<u32> {
        let folder = self.shards.folder.join(level_folder(self.shards.level));
        document::write_in(&folder, &self.spec().layout.to_json()).map(|text| crc32c::crc32c(&text))
    }

    /// Writes the documents of a part whose shards are all on the disk, which say what volume they
    /// are of; returns their checksums.
    ///
    /// # Errors
    /// [`Error::Incomplete`] if chunks are missing, [`Error::Io`].
    pub(super) fn finish_part(self) -> Result<DocumentChecksums> {
        self.flush()?;
        let mut merged = RunningStatistics::NONE;
        for number in 0..self.shards.states.len() {
            match &*self.shards.state(number) {
                ShardState::Open(_) => return Err(self.lacks_chunks()),
                ShardState::Written(record) => merged.merge(&record.statistics),
                ShardState::Elsewhere => {}
            }
        }
        let (folder, spec) = (&self.shards.folder, self.spec());
        let level_crc32c = self.write_level_document()?;
        let attributes = spec.attributes(merged.statistics());
        let attributes = ome::group_attributes(&spec.name, &attributes, &spec.layout, None);
        let group = document::write_in(folder, &document::group(attributes))?;
        Ok(DocumentChecksums { group_crc32c: crc32c::crc32c(&group), level_crc32c })
    }

    /// Takes a shard that lies in the folder already.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub(super) fn take_written(&self, mut record: ShardRecord) -> Result<()> {
        for (chunk, labels) in mem::take(&mut record.label_counts) {
            self.shards.label_counts.as_ref().map_or(Ok(()), |c| c.push(chunk, &labels))?;
        }
        let number = record.shard;
        *self.shards.state(number) = ShardState::Written(record);
        Ok(())
    }

    /// Waits for the disk.
    fn flush(&self) -> Result<()> {
        self.flushes.lock().unwrap_or_else(PoisonError::into_inner).finish()
    }

    fn lacks_chunks(&self) -> Error {
        let what = format!("volume {:?}", self.spec().name);
        Error::Incomplete { what, missing: "chunks are missing".to_owned() }
    }
}

/// The part of `count` that has a shard: parts divide the shard grid, and have all channels of
/// their cells, because a patch has all channels.
pub(super) fn part_of_shard(layout: &ArrayLayout, number: usize, count: usize) -> Part {
    let cells = layout.shard_grid().iter().product::<usize>();
    let cell = number % cells;
    // The last part whose share begins at the cell or before it.
    let part = ((cell as u128 + 1) * count as u128).div_ceil(cells as u128) as usize - 1;
    Part::new(part, count).expect("a part of the count")
}

impl ChunkFacts {
    /// The facts about the `voxels` of chunk `id`.
    fn of(spec: &VolumeSpec, voxels: &[u8], id: ChunkId) -> Result<Self, ChunkError> {
        let layout = &spec.layout;
        let inside = layout.chunk_region(id.at);
        let invalid = |voxel: InvalidVoxel| ChunkError::Voxel {
            index: voxel.index(inside.start),
            message: voxel.message(inside.start),
        };
        let labels = if spec.kind == Kind::Labels {
            count_labels(voxels, layout.dtype, layout.chunk, inside).map_err(invalid)?
        } else {
            Vec::new()
        };
        let weight_sum = if spec.weight_sums {
            let function = WeightFunction::new(layout.dtype, (spec.slope, spec.intercept));
            function.sum(voxels, layout.chunk, inside).map_err(invalid)?
        } else {
            0.0
        };
        let statistics = RunningStatistics::of(voxels, layout, id.at);
        Ok(Self { index: layout.chunk_index(id), statistics, labels, weight_sum })
    }
}

impl ShardRecord {
    fn new(spec: &VolumeSpec, shard: usize, identity: u64, mut facts: Vec<ChunkFacts>) -> Self {
        // In C order, so that the statistics do not depend on the order in which the chunks came.
        facts.sort_unstable_by_key(|facts| facts.index);
        let mut statistics = RunningStatistics::NONE;
        for chunk in &facts {
            statistics.merge(&chunk.statistics);
        }
        let weight_sums = if spec.weight_sums {
            facts.iter().map(|chunk| (chunk.index, chunk.weight_sum)).collect()
        } else {
            Vec::new()
        };
        let has_labels = facts.into_iter().filter(|chunk| !chunk.labels.is_empty());
        let label_counts = has_labels.map(|chunk| (chunk.index, chunk.labels)).collect();
        Self { shard, identity, statistics, label_counts, weight_sums }
    }
}

impl ShardStates {
    /// Collects a chunk's label counts, and leaves them in `facts` only for the journal.
    fn take_labels(&self, facts: &mut ChunkFacts) -> Result<()> {
        if let Some(counts) = &self.label_counts {
            counts.push(facts.index, &facts.labels)?;
        }
        if self.journal.is_none() {
            facts.labels = Vec::new();
        }
        Ok(())
    }

    /// Waits until the disk has a shard, and records it.
    fn flush(&self, mut record: ShardRecord, file: Option<UnflushedFile>) -> Result<()> {
        file.map_or(Ok(()), UnflushedFile::flush)?;
        if let Some(journal) = &self.journal {
            let noted = journal.append(&record);
            noted.map_err(Error::io(self.folder.path(), "cannot append to the journal of"))?;
        }
        record.label_counts = Vec::new();
        let number = record.shard;
        *self.state(number) = ShardState::Written(record);
        Ok(())
    }

    fn state(&self, number: usize) -> MutexGuard<'_, ShardState> {
        self.states[number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens the journal, and marks the shards that it lists and whose files exist as written.
fn reopen(
    (folder, name): (&Folder, &str),
    layout: &ArrayLayout,
    level: &Folder,
    states: &[Mutex<ShardState>],
    label_counts: Option<&LabelCountsWriter>,
) -> Result<Journal> {
    let (journal, records) = Journal::open(folder, name)?;
    for mut record in records {
        let of_another = || {
            let message = "the journal is of another volume: start again";
            Error::data(folder.path().join(name), message)
        };
        if !record.is_of(layout) {
            return Err(of_another());
        }
        let mut state = states[record.shard].lock().unwrap_or_else(PoisonError::into_inner);
        match *state {
            ShardState::Elsewhere => return Err(of_another()),
            // It was damaged once, and written again.
            ShardState::Written(_) => continue,
            ShardState::Open(_) => {}
        }
        let key = layout.shard_key(layout.shard_at(record.shard));
        let slots = layout.shard_chunks().iter().product();
        // A shard whose file was removed, cut off or changed is written again.
        if OpenShard::listed(level, &key, slots, Access::Read, record.identity).is_ok() {
            for (chunk, labels) in mem::take(&mut record.label_counts) {
                label_counts.map_or(Ok(()), |counts| counts.push(chunk, &labels))?;
            }
            *state = ShardState::Written(record);
        }
    }
    Ok(journal)
}
