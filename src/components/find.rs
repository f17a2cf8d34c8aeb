//! The first pass: finds the pieces of each box, joins those that touch, and numbers the objects.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

use super::cells::{Cell, CellGrid};
use super::frontier::Frontier;
use super::options::{ComponentOptions, Objects};
use super::pieces::{JoinRule, ObjectNumbers, Pieces};
use super::runs::{BoxPieces, BoxRuns, RunValues};
use crate::format::layout::chunk_size;
use crate::memory::{collected, reserve, zeroed};
use crate::store::Volume;
use crate::sys::executor::{Executor, groups};
use crate::{Dtype, Error, Result, Size3, Voxel, with_voxel};

/// The most voxels of a box, unless a chunk has more: larger boxes are not faster.
const BOX_VOXELS: u64 = 1 << 22;
/// The most bytes that a box takes for each voxel: itself, a run, its piece and its label, where
/// every voxel is a run and vectors are half empty.
const VOXEL_BYTES: u64 = 64;

/// The connected components of a volume, or its instance labels joined across blocks: found, and
/// to be written.
///
/// Objects are numbered from 1, in C order of their first voxels, as `scipy.ndimage.label` numbers
/// them.
///
/// ```
/// use voxquarry::{ComponentOptions, Components};
///
/// # let store = "format-spec/golden/v1";
/// let labels = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
/// let mut ignore = |_done: u64, _total: u64| -> voxquarry::Result<()> { Ok(()) };
/// let components = Components::find(&labels, &ComponentOptions::default(), &mut ignore)?;
/// let mut numbers = vec![0u32; labels.size().iter().product()];
/// components.write_into(&mut numbers, &mut ignore)?;
/// assert_eq!(numbers.iter().max(), Some(&components.count()));
/// # Ok::<(), voxquarry::Error>(())
/// ```
pub struct Components {
    pub(super) volume: Volume,
    pub(super) options: ComponentOptions,
    pub(super) cells: CellGrid,
    /// Extents of the boxes that are written, before they are rounded up to chunks.
    pub(super) written_step: Size3,
    pub(super) executor: Executor,
    ids: PieceIds,
    numbers: ObjectNumbers,
}

/// Called between boxes with the voxels that were visited and those of both passes; an error ends
/// the work.
pub(super) type Progress<'a> = &'a mut dyn FnMut(u64, u64) -> Result<()>;

/// How the pieces of a box are found again.
enum PieceIds {
    /// By the number of the box: its first piece, and that of the next box at the end.
    ByBox(Vec<u32>),
    /// By the block and the value.
    ByBlock(HashMap<(u64, u64), u32>),
}

/// What a box holds: its runs, and, where these are counted by box, its pieces.
struct Found {
    runs: BoxRuns,
    pieces: Option<BoxPieces>,
}

impl Components {
    /// Reads the volume once. `progress` is called between boxes with the voxels that were visited,
    /// and the voxels of this pass and of writing; its error ends the work.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for floats and channels, [`Error::InvalidArgument`] for options;
    /// [`Error::OutOfMemory`]; errors of reading the volume.
    pub fn find(
        volume: &Volume,
        options: &ComponentOptions,
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<Self> {
        options.check()?;
        check_volume(volume)?;
        let executor = Executor::new(Some(options.threads.unwrap_or_else(|| volume.threads())));
        let chosen = box_step(volume, options, executor.threads());
        let (size, step) = (volume.size(), options.block_size.unwrap_or(chosen));
        let (rule, cells) = match options.objects {
            Objects::Foreground => (JoinRule::All, CellGrid::new(size, step, step)),
            Objects::EqualValues => (JoinRule::EqualKeys, CellGrid::new(size, step, step)),
            Objects::BlockIds(block) => (JoinRule::OtherKeys, CellGrid::new(size, block, step)),
        };
        let mut ids = PieceIds::new(options.objects, cells.len())?;
        let mut pieces = Pieces::new(rule);
        let mut frontier = Frontier::new(size, &cells, options.connectivity)?;
        let (mut visited, total) = (0, 2 * voxels(size));
        let values = run_values(options.objects);
        for group in groups(cells.len(), executor.threads()) {
            progress(visited, total)?;
            let found = map_all(&executor, group.clone(), |number| {
                let runs = read_runs(volume, &cells.cell(number), values)?;
                let pieces = match options.objects {
                    Objects::BlockIds(_) => None,
                    _ => Some(runs.pieces(options.connectivity)?),
                };
                Ok(Found { runs, pieces })
            })?;
            for (number, found) in group.zip(found) {
                let cell = cells.cell(number);
                let of_run = ids.add(&mut pieces, &found, &cell, cells.block_of(&cell), size)?;
                frontier.take(&cell, &found.runs, &of_run, &mut pieces);
                visited += voxels(cell.size);
            }
        }
        ids.end(&pieces);
        let numbers = pieces.number(options)?;
        let written_step = match options.objects {
            Objects::BlockIds(_) => chosen,
            _ => cells.step(),
        };
        let (volume, options) = (volume.clone(), options.clone());
        Ok(Self { volume, options, cells, written_step, executor, ids, numbers })
    }

    /// How many objects there are.
    pub fn count(&self) -> u32 {
        self.numbers.count
    }

    /// The type of the labels that are written to a store.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if the type that was asked for does not hold the number of
    /// objects.
    pub fn dtype(&self) -> Result<Dtype> {
        let count = f64::from(self.count());
        let holds = |dtype: &Dtype| {
            !dtype.is_float() && with_voxel!(*dtype, T => T::from_f64_exact(count).is_some())
        };
        let smallest = [Dtype::UInt8, Dtype::UInt16, Dtype::UInt32].into_iter().find(holds);
        let smallest = smallest.expect("32 bits hold the number of pieces");
        match self.options.dtype {
            None => Ok(smallest),
            Some(dtype) if holds(&dtype) => Ok(dtype),
            Some(dtype) => {
                let expected = format!("one that holds {count} labels, such as {smallest}");
                Err(Error::invalid("dtype", dtype, expected))
            }
        }
    }

    /// The runs of the part of a box that lies in `target`, or of more of the box; where they
    /// begin; and the number of each run's object.
    ///
    /// # Errors
    /// [`Error::Data`] if the voxels are not those of the first pass.
    pub(super) fn numbers_in(
        &self,
        cell: &Cell,
        target: &Cell,
    ) -> Result<(BoxRuns, Size3, Vec<u32>)> {
        let changed = || {
            let message = "its voxels changed while it was read: begin again";
            Error::data(self.volume.path(), message)
        };
        let values = run_values(self.options.objects);
        match &self.ids {
            PieceIds::ByBox(first) => {
                let runs = read_runs(&self.volume, cell, values)?;
                let BoxPieces { mut of_run, count } = runs.pieces(self.options.connectivity)?;
                let number = self.cells.number(cell.at);
                if first[number + 1] - first[number] != count {
                    return Err(changed());
                }
                for piece in &mut of_run {
                    *piece = self.numbers.of_piece[(first[number] + *piece) as usize];
                }
                Ok((runs, cell.start, of_run))
            }
            PieceIds::ByBlock(ids) => {
                let part = cell.within(target).expect("a box that meets the target");
                let runs = read_runs(&self.volume, &part, values)?;
                let block = self.cells.block_of(cell);
                let mut of_run = Vec::new();
                reserve(&mut of_run, runs.runs().len(), || "labels of a box".to_owned())?;
                for run in runs.runs() {
                    let piece = *ids.get(&(block, run.value)).ok_or_else(changed)?;
                    of_run.push(self.numbers.of_piece[piece as usize]);
                }
                Ok((runs, part.start, of_run))
            }
        }
    }
}

impl PieceIds {
    fn new(objects: Objects, cells: usize) -> Result<Self> {
        if let Objects::BlockIds(_) = objects {
            return Ok(Self::ByBlock(HashMap::new()));
        }
        let mut first = Vec::new();
        reserve(&mut first, cells.saturating_add(1), || format!("a list of {cells} boxes"))?;
        Ok(Self::ByBox(first))
    }

    /// Adds the pieces of the next box of a volume of `size`, and returns that of each run.
    fn add(
        &mut self,
        pieces: &mut Pieces,
        Found { runs, pieces: found }: &Found,
        cell: &Cell,
        block: u64,
        size: Size3,
    ) -> Result<Vec<u32>> {
        let base = pieces.next_number();
        if let Self::ByBox(first) = self {
            first.push(base);
        }
        let count = runs.runs().len() as u64;
        let mut of_run = collected([], count, || format!("{count} runs of a box"))?;
        for ([z, y], row) in runs.rows() {
            let row_start = ((cell.start[0] + z) * size[1] + cell.start[1] + y) * size[2];
            for i in row {
                let run = runs.runs()[i];
                let first = (row_start + cell.start[2]) as u64 + u64::from(run.start);
                let piece = match (&mut *self, found) {
                    (Self::ByBlock(ids), _) => piece_of_id(ids, pieces, (block, run.value), first)?,
                    (Self::ByBox(_), Some(found)) => {
                        let piece = base.saturating_add(found.of_run[i]);
                        if piece == pieces.next_number() {
                            pieces.add(first, run.value)?;
                        }
                        piece
                    }
                    (Self::ByBox(_), None) => unreachable!("a box without its pieces"),
                };
                pieces.extend(piece, first, run.len());
                of_run.push(piece);
            }
        }
        Ok(of_run)
    }

    /// Notes that there are no more boxes.
    fn end(&mut self, pieces: &Pieces) {
        if let Self::ByBox(first) = self {
            first.push(pieces.next_number());
        }
    }
}

/// The piece of an id in a block, which is new at its first voxel.
fn piece_of_id(
    ids: &mut HashMap<(u64, u64), u32>,
    pieces: &mut Pieces,
    (block, id): (u64, u64),
    first: u64,
) -> Result<u32> {
    if let Some(&piece) = ids.get(&(block, id)) {
        return Ok(piece);
    }
    let bytes = 2 * (ids.len() as u64 + 1) * size_of::<((u64, u64), u32)>() as u64;
    let what = format!("a table of {} ids of blocks", ids.len() + 1);
    ids.try_reserve(1).map_err(|_| Error::OutOfMemory { what, bytes })?;
    let piece = pieces.add(first, block)?;
    ids.insert((block, id), piece);
    Ok(piece)
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Components")
            .field("volume", &self.volume.path())
            .field("count", &self.count())
            .finish_non_exhaustive()
    }
}

/// Where runs of a box end.
fn run_values(objects: Objects) -> RunValues {
    match objects {
        Objects::Foreground => RunValues::Any,
        Objects::EqualValues | Objects::BlockIds(_) => RunValues::Equal,
    }
}

/// Checks that a volume can have objects.
fn check_volume(volume: &Volume) -> Result<()> {
    let name = volume.name();
    if volume.dtype().is_float() {
        let reason = format!("volume {name:?} holds {}, of which no two may touch", volume.dtype());
        let remedy = "make integers of it first, as by a threshold";
        return Err(Error::unsupported(reason, remedy));
    }
    if let Some(channels) = volume.channels() {
        let reason = format!("volume {name:?} has a channel axis of {channels}");
        let remedy = "make one label map of its channels first, or store one channel without axis";
        return Err(Error::unsupported(reason, remedy));
    }
    Ok(())
}

/// The patch sizes that the result's layout is chosen for: those of the volume.
pub(super) fn patch_sizes(volume: &Volume) -> Vec<Size3> {
    match &volume.attributes().patch_sizes[..] {
        [] => vec![[96; 3]],
        sizes => sizes.to_vec(),
    }
}

/// Extents of boxes that are whole chunks of the volume and of any result.
fn box_step(volume: &Volume, options: &ComponentOptions, threads: usize) -> Size3 {
    let (size, chunk) = (volume.size(), volume.layout().chunk);
    let most = (options.memory_bytes / 2 / threads as u64 / VOXEL_BYTES).min(BOX_VOXELS);
    let patches = patch_sizes(volume);
    let results = [Dtype::UInt8, Dtype::UInt16, Dtype::UInt32, Dtype::UInt64];
    let results = results.map(|dtype| chunk_size(size, dtype, &patches));
    let own = [0, 1, 2].map(|a| results.iter().map(|chunk| chunk[a]).fold(1, usize::max));
    let common = [0, 1, 2].map(|a| own[a].max(chunk[a]));
    let mut step = if voxels(common) <= most { common } else { own };
    while let Some(a) = (0..3).filter(|&a| step[a] < size[a]).min_by_key(|&a| step[a]) {
        if 2 * voxels(step) > most {
            break;
        }
        step[a] *= 2;
    }
    step
}

/// So many voxels; a volume has fewer than 2⁶³.
pub(super) fn voxels(size: Size3) -> u64 {
    size.iter().fold(1, |product: u64, &n| product.saturating_mul(n as u64))
}

/// The results of `work` for some numbers, in their order.
pub(super) fn map_all<R: Send>(
    executor: &Executor,
    numbers: Range<usize>,
    work: impl Fn(usize) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    executor.map(numbers.len(), || (), |(), n| work(numbers.start + n))
}

fn read_runs(volume: &Volume, cell: &Cell, values: RunValues) -> Result<BoxRuns> {
    let region = cell.region();
    let what = || format!("a box of {:?} voxels", region.size);
    with_voxel!(volume.dtype(), T => {
        let mut voxels = zeroed::<T>(volume.voxels_in(region.size, 1)?, what)?;
        volume.read_into(region, &mut voxels)?;
        BoxRuns::of(&voxels, cell.size, values)
    })
}
