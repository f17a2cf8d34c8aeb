//! The voxels of a subject, block by block, with the foreground of its label map.

use voxquarry::{Padding, Region, Result, Size3, Subject, Volume, Voxel, with_voxel};

/// Voxels of a block; a single row of chunks may have more.
const BLOCK_VOXELS: usize = 2 << 20;

/// The images and the label map of a subject.
pub(super) struct MeasuredSubject {
    pub(super) images: Vec<Volume>,
    pub(super) labels: Option<Volume>,
}

/// A block of one channel.
pub(super) struct Block<'a> {
    /// The channel's number among those of all images.
    pub(super) channel: usize,
    pub(super) region: Region,
    /// Real values.
    pub(super) values: &'a [f64],
    /// Whether each voxel has a label above 0; empty if none has.
    pub(super) foreground: &'a [bool],
    /// Bytes of the stored voxels.
    pub(super) bytes: u64,
}

impl MeasuredSubject {
    /// Opens the volumes that are measured; a subject may lack the label map.
    ///
    /// # Errors
    /// As [`Subject::volume`].
    pub(super) fn open(subject: &Subject, images: &[String], labels: Option<&str>) -> Result<Self> {
        let images = images.iter().map(|name| subject.volume(name)).collect::<Result<_>>()?;
        let has = |name: &&str| subject.volumes().iter().any(|volume| volume == name);
        let labels = labels.filter(has).map(|name| subject.volume(name)).transpose()?;
        Ok(Self { images, labels })
    }

    pub(super) fn size(&self) -> Size3 {
        self.images[0].size()
    }

    /// Channels of all images.
    pub(super) fn channel_count(&self) -> usize {
        self.images.iter().map(|volume| volume.layout().channel_count()).sum()
    }

    /// Names of these channels.
    pub(super) fn channel_names(&self) -> Vec<String> {
        let names = |volume: &Volume| -> Vec<String> {
            let name = volume.name();
            match volume.channels() {
                None | Some(1) => vec![name.to_owned()],
                Some(count) => (0..count).map(|channel| format!("{name} {channel}")).collect(),
            }
        };
        self.images.iter().flat_map(names).collect()
    }

    /// Bytes of the voxels of the images.
    pub(super) fn bytes(&self) -> u64 {
        self.images.iter().map(Volume::voxel_bytes).sum()
    }

    /// Bytes of memory that measuring takes: a block and the counts of each channel.
    pub(super) fn memory_bytes(&self) -> u64 {
        /// Six bins, and the counts of the first pass.
        const COUNTED: u64 = 7 << 19;
        // Stored voxels of up to 8 bytes, values, those of the foreground, and its mark.
        let block = self.block().iter().product::<usize>() as u64 * 25;
        block + COUNTED * self.channel_count() as u64
    }

    /// Calls `take` with every block of every channel; if `is_foreground`, only with those that
    /// have a voxel of the foreground.
    ///
    /// # Errors
    /// Those of reading, and of `take`.
    pub(super) fn blocks(
        &self,
        is_foreground: bool,
        mut take: impl FnMut(&Block<'_>) -> Result<()>,
    ) -> Result<()> {
        let (size, block) = (self.size(), self.block());
        let (mut stored, mut values, mut foreground) = (Vec::new(), Vec::new(), Vec::new());
        for z in (0..size[0]).step_by(block[0]) {
            for y in (0..size[1]).step_by(block[1]) {
                let extents = [block[0].min(size[0] - z), block[1].min(size[1] - y), size[2]];
                let region = Region::new([z as i64, y as i64, 0], extents);
                self.read_foreground(&region, &mut stored, &mut values, &mut foreground)?;
                if is_foreground && foreground.is_empty() {
                    continue;
                }
                let mut channel = 0;
                for volume in &self.images {
                    for own in 0..volume.layout().channel_count() {
                        read(volume, &region, own, &mut stored, &mut values)?;
                        let (values, foreground) = (&values[..], &foreground[..]);
                        let bytes = stored.len() as u64;
                        take(&Block { channel, region, values, foreground, bytes })?;
                        channel += 1;
                    }
                }
            }
        }
        Ok(())
    }

    /// Marks the voxels of a block that have a label above 0 in any channel.
    fn read_foreground(
        &self,
        region: &Region,
        stored: &mut Vec<u8>,
        values: &mut Vec<f64>,
        foreground: &mut Vec<bool>,
    ) -> Result<()> {
        foreground.clear();
        let Some(labels) = &self.labels else { return Ok(()) };
        for channel in 0..labels.layout().channel_count() {
            read(labels, region, channel, stored, values)?;
            if values.iter().any(|&label| label > 0.0) {
                foreground.resize(values.len(), false);
                for (is_there, &label) in foreground.iter_mut().zip(values.iter()) {
                    *is_there |= label > 0.0;
                }
            }
        }
        Ok(())
    }

    /// Extents of a block: whole chunks of the first image, and whole rows.
    fn block(&self) -> Size3 {
        let (size, chunk) = (self.size(), self.images[0].layout().chunk);
        let depth = chunk[0].min(size[0]);
        let rows = BLOCK_VOXELS / (depth * size[2]).max(1) / chunk[1] * chunk[1];
        [depth, rows.clamp(chunk[1].min(size[1]), size[1]), size[2]]
    }
}

/// Reads real values of a channel.
fn read(
    volume: &Volume,
    region: &Region,
    channel: usize,
    stored: &mut Vec<u8>,
    values: &mut Vec<f64>,
) -> Result<()> {
    let dtype = volume.dtype();
    stored.resize(region.len() * dtype.size(), 0);
    let channels = channel..channel + 1;
    volume.read_bytes(&[region.start], region.size, Padding::None, channels, stored)?;
    let (slope, intercept) = volume.slope_intercept();
    values.clear();
    with_voxel!(dtype, T => {
        let voxels = stored.chunks_exact(size_of::<T>());
        let real = |bytes| bytemuck::pod_read_unaligned::<T>(bytes).to_f64() * slope + intercept;
        values.extend(voxels.map(real));
    });
    Ok(())
}
