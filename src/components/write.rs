//! The second pass: writes the number of each voxel's object into an array, a volume, or a part of
//! a volume.

use serde_json::json;

use super::cells::{Cell, CellGrid};
use super::find::{Components, Progress, map_all, patch_sizes, voxels};
use crate::format::attributes::Kind;
use crate::format::layout::{self, Codec, VolumeShape};
use crate::memory::zeroed;
use crate::store::{ChunkedVolumeWriter, Part, Resume, StoreWriter, Volume, VolumeSpec};
use crate::sys::executor::groups;
use crate::{Dtype, Error, Result, Voxel, with_voxel};

impl Components {
    /// Writes the labels of all voxels into `labels`, `(z, y, x)` in C order.
    ///
    /// # Errors
    /// [`Error::BufferLength`]; [`Error::InvalidArgument`] if the type does not hold the number of
    /// objects; [`Error::Data`] if the volume changed meanwhile; errors of reading it.
    pub fn write_into<T: Voxel>(
        &self,
        labels: &mut [T],
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let size = self.volume.size();
        if labels.len() as u64 != voxels(size) {
            let expected = voxels(size) as usize;
            return Err(Error::BufferLength { found: labels.len(), expected });
        }
        if T::from_f64_exact(f64::from(self.count())).is_none() {
            let expected = format!("one that holds {} labels", self.count());
            return Err(Error::invalid("dtype", T::DTYPE, expected));
        }
        let boxes = CellGrid::new(size, self.written_step, self.written_step);
        self.for_boxes(
            &boxes,
            progress,
            |target| self.labels_of::<T>(target),
            |target, voxels| {
                let [_, ny, nx] = target.size;
                for (i, row) in voxels.chunks_exact(nx).enumerate() {
                    let (z, y) = (target.start[0] + i / ny, target.start[1] + i % ny);
                    let to = (z * size[1] + y) * size[2] + target.start[2];
                    labels[to..to + nx].copy_from_slice(row);
                }
            },
        )
    }

    /// Writes the labels as the new volume `(subject, volume)` of a store, with the affine of the
    /// volume that they are of. Nothing is visible before it is complete, and nothing stays of an
    /// unfinished one.
    ///
    /// # Errors
    /// As [`Components::dtype`]; [`Error::Exists`] if the subject has that volume; [`Error::Data`]
    /// if its other volumes have another grid, or if the volume changed meanwhile; [`Error::Io`];
    /// errors of reading it.
    pub fn to_store(
        &self,
        store: &StoreWriter,
        (subject, volume): (&str, &str),
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<Volume> {
        let writer = store.add_volume(subject, self.spec(volume)?, &Resume::Never)?;
        self.put_all(&writer, progress)?;
        writer.publish()
    }

    /// Writes one part of the shards of the new volume `(subject, volume)`, which stays when its
    /// process ends, however it ends, and is continued by the same call.
    /// [`StoreWriter::finalize_volume`] makes the volume of all parts: that of
    /// [`Components::to_store`], byte for byte.
    ///
    /// # Errors
    /// As [`Components::to_store`] and [`StoreWriter::add_volume_part`].
    pub fn to_part(
        &self,
        store: &StoreWriter,
        (subject, volume): (&str, &str),
        part: Part,
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<()> {
        let spec = self.spec(volume)?;
        let arguments = self.arguments(&spec);
        let writer = store.add_volume_part(subject, spec, &arguments, part)?;
        self.put_all(writer.chunks(), progress)?;
        writer.finish()
    }

    fn put_all(&self, writer: &ChunkedVolumeWriter, progress: Progress<'_>) -> Result<()> {
        let chunk = writer.layout().chunk;
        let step = [0, 1, 2].map(|a| self.written_step[a].next_multiple_of(chunk[a]));
        let boxes = CellGrid::new(self.volume.size(), step, step);
        let put = |target: &Cell| {
            let region = target.region();
            if writer.is_written(&region) {
                return Ok(());
            }
            with_voxel!(writer.layout().dtype, T => {
                let voxels = self.labels_of::<T>(target)?;
                let slabs = [bytemuck::cast_slice(&voxels)];
                let mut chunks = 0..writer.chunks_in(&region);
                chunks.try_for_each(|number| writer.put_chunk(&region, &slabs, number))
            })
        };
        self.for_boxes(&boxes, progress, put, |_, ()| {})
    }

    /// Does `work` for every box, on all threads, and `then` for the results in their order.
    fn for_boxes<R: Send>(
        &self,
        boxes: &CellGrid,
        progress: Progress<'_>,
        work: impl Fn(&Cell) -> Result<R> + Sync + Send,
        mut then: impl FnMut(&Cell, R),
    ) -> Result<()> {
        let mut visited = voxels(self.volume.size());
        let total = 2 * visited;
        for group in groups(boxes.len(), self.executor.threads()) {
            progress(visited, total)?;
            let done = map_all(&self.executor, group.clone(), |number| work(&boxes.cell(number)))?;
            for (number, result) in group.zip(done) {
                let target = boxes.cell(number);
                then(&target, result);
                visited += voxels(target.size);
            }
        }
        progress(total, total)
    }

    /// The labels of a box.
    fn labels_of<T: Voxel>(&self, target: &Cell) -> Result<Vec<T>> {
        let what = || format!("a box of {:?} labels", target.size);
        let mut labels = zeroed::<T>(self.volume.voxels_in(target.size, 1)?, what)?;
        for cell in self.cells.meeting(target) {
            let (runs, start, numbers) = self.numbers_in(&cell, target)?;
            let [_, ny, nx] = target.size;
            let shift = |a: usize| start[a] as i64 - target.start[a] as i64;
            // A place in the target, if it is one.
            let inside = |a: usize, n: usize| {
                let at = shift(a) + n as i64;
                usize::try_from(at).ok().filter(|&at| at < target.size[a])
            };
            let clamped = |x: u32| (shift(2) + i64::from(x)).clamp(0, nx as i64) as usize;
            for ([z, y], row) in runs.rows() {
                let (Some(z), Some(y)) = (inside(0, z), inside(1, y)) else { continue };
                let labels = &mut labels[(z * ny + y) * nx..][..nx];
                for i in row {
                    let run = runs.runs()[i];
                    let label = T::from_f64_rounded(f64::from(numbers[i]));
                    labels[clamped(run.start)..clamped(run.end)].fill(label);
                }
            }
        }
        Ok(labels)
    }

    /// How the labels lie in a store.
    fn spec(&self, name: &str) -> Result<VolumeSpec> {
        let (size, dtype): (_, Dtype) = (self.volume.size(), self.dtype()?);
        let shape = VolumeShape { channels: None, size, dtype, interleaved: 1 };
        let (patches, codec) = (patch_sizes(&self.volume), Codec::default());
        let memory = self.options.memory_bytes;
        let layout = layout::choose_for_spilling(&shape, &patches, codec, memory);
        Ok(VolumeSpec::new(name, Kind::Labels, layout)
            .codec(codec)
            .patch_sizes(patches)
            .affine(*self.volume.affine())
            .unit(self.volume.attributes().unit))
    }

    /// Everything that decides the labels and their place in the store.
    fn arguments(&self, spec: &VolumeSpec) -> String {
        let options = &self.options;
        json!({
            "volume": self.volume.content_id(),
            "objects": format!("{:?}", options.objects),
            "connectivity": options.connectivity.neighbours(),
            "min_voxels": options.min_voxels,
            "largest": options.largest,
            "layout": spec.layout.to_json(),
        })
        .to_string()
    }
}
