//! Results in a store: what decides their voxels, and where they lie.

use serde_json::json;

use super::aggregator::Aggregator;
use super::engine::{EnginePlan, TILE_PLANES};
use super::options::{AggregateOptions, Finish, Merge};
use super::plan::BlendPlan;
use super::sink::{PartSink, StoreSink};
use crate::format::array::ChunkCodec;
use crate::format::attributes::Kind;
use crate::format::layout::{self, Codec, VolumeShape};
use crate::sample::Grid;
use crate::store::{Part, Resume, StoreWriter, VolumeSpec};
use crate::{Affine, Dtype, Result, Size3};

/// The compression level of results: the quick search, because a slow one would keep the model
/// waiting.
const QUICK_LEVEL: i32 = 1;

impl Aggregator<StoreSink> {
    /// Blends into the new volume `(subject, volume)` of a store, with the affine of the volume
    /// that was predicted from. Its voxels are of `dtype`; `None`: [`Finish::default_dtype`].
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Unsupported`] and [`Error::TooLarge`] for options that
    /// do not fit the grid; [`Error::ResumeMismatch`] if the work to be resumed was begun with
    /// other arguments; [`Error::Exists`] if the subject has that volume; [`Error::Io`].
    pub fn to_store(
        grid: Grid,
        options: &AggregateOptions,
        dtype: impl Into<Option<Dtype>>,
        store: &StoreWriter,
        (subject, volume): (&str, &str),
        affine: Affine,
    ) -> Result<Self> {
        let result = StoredResult::new(grid, options, dtype.into(), volume, affine)?;
        let resume = match &options.resume {
            None => Resume::Never,
            Some(note) => Resume::With(result.arguments(subject, note)),
        };
        let box_size = result.box_size();
        let volume = store.add_volume(subject, result.spec, &resume)?;
        Self::new(result.engine, options, StoreSink::new(volume, box_size))
    }
}

impl Aggregator<PartSink> {
    /// Blends one part of the new volume `(subject, volume)` of a store: the shards of the part.
    /// Only patches that count for one of them are missing; see [`Aggregator::needed`].
    ///
    /// The part stays when its process ends, however it ends, and continues as with
    /// [`AggregateOptions::resume`], whose text is empty by default. All parts are to be given the
    /// same arguments; [`StoreWriter::finalize_volume`] makes the volume of them, which is that of
    /// one aggregator that was given all patches, byte for byte.
    ///
    /// ```
    /// use voxquarry::{Affine, AggregateOptions, Aggregator, GridSampler, Part, StoreWriter};
    ///
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("predictions.zarr");
    /// let grid = GridSampler::new([4, 4, 4], 2)?.grid([8, 8, 8])?;
    /// let (options, store) = (AggregateOptions::default(), StoreWriter::open(&path, None)?);
    /// let place = ("case01", "lesion");
    /// // Each part is a process of its own.
    /// for part in Part::all(3)? {
    ///     let (grid, affine) = (grid.clone(), Affine::IDENTITY);
    ///     let aggregator =
    ///         Aggregator::to_part(grid, &options, None, &store, place, affine, part)?;
    ///     for start in aggregator.needed()? {
    ///         aggregator.add(&[1.0f32; 64], &[start])?;
    ///     }
    ///     aggregator.finish()?;
    /// }
    /// assert_eq!(store.finalize_volume("case01", "lesion")?.size(), [8, 8, 8]);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Aggregator::to_store`] and [`StoreWriter::add_volume_part`].
    pub fn to_part(
        grid: Grid,
        options: &AggregateOptions,
        dtype: impl Into<Option<Dtype>>,
        store: &StoreWriter,
        (subject, volume): (&str, &str),
        affine: Affine,
        part: Part,
    ) -> Result<Self> {
        let result = StoredResult::new(grid, options, dtype.into(), volume, affine)?;
        let arguments = result.arguments(subject, options.resume.as_deref().unwrap_or_default());
        let box_size = result.box_size();
        let volume = store.add_volume_part(subject, result.spec, &arguments, part)?;
        Self::new(result.engine, options, PartSink::new(volume, box_size))
    }
}

/// A result that is about to be written.
struct StoredResult {
    engine: EnginePlan,
    spec: VolumeSpec,
}

impl StoredResult {
    fn new(
        grid: Grid,
        options: &AggregateOptions,
        dtype: Option<Dtype>,
        volume: &str,
        affine: Affine,
    ) -> Result<Self> {
        options.check_resume()?;
        let plan = BlendPlan::new(grid, options, dtype)?;
        let affine = affine.scaled(options.scale.up, options.scale.down);
        let spec = volume_spec(&plan, options, volume, affine);
        let chunk = spec.layout.chunk;
        let planes = if chunk[0].is_multiple_of(TILE_PLANES) { TILE_PLANES } else { chunk[0] };
        let engine = EnginePlan::new(plan, [planes, chunk[1], chunk[2]]);
        Ok(Self { engine, spec })
    }

    /// Extents of the boxes that the volume is written in: whole chunks, as wide as tiles.
    fn box_size(&self) -> Size3 {
        let [_, tile_y, tile_x] = self.engine.tile_size;
        [self.spec.layout.chunk[0], tile_y, tile_x]
    }

    fn arguments(&self, subject: &str, note: &str) -> String {
        resume_arguments(&self.engine.plan, &self.spec, subject, note)
    }
}

/// How the result lies in a store.
fn volume_spec(
    plan: &BlendPlan,
    options: &AggregateOptions,
    name: &str,
    affine: Affine,
) -> VolumeSpec {
    let channels = plan.out_channels();
    let interleaved = channels.unwrap_or(1);
    let shape = VolumeShape { channels, size: plan.target.size(), dtype: plan.dtype, interleaved };
    let patch_sizes = vec![plan.target.patch_size()];
    let codec = Codec::default();
    let mut layout = layout::choose_for_spilling(&shape, &patch_sizes, codec, options.memory_bytes);
    if let ChunkCodec::Blosc(parameters) = &mut layout.codec {
        parameters.level = QUICK_LEVEL;
    }
    let (slope, intercept) = match plan.finish {
        Finish::Quantize { slope, intercept } => (slope, intercept),
        _ => (1.0, 0.0),
    };
    let is_labels = channels.is_none()
        && !plan.dtype.is_float()
        && (plan.finish.is_argmax()
            || plan.merge == Merge::Vote
            || matches!(plan.finish, Finish::Threshold(_)));
    VolumeSpec::new(name, if is_labels { Kind::Labels } else { Kind::Image }, layout)
        .codec(codec)
        .patch_sizes(patch_sizes)
        .affine(affine)
        .unit(options.unit)
        .scaling(slope, intercept)
        .interleaved(interleaved)
}

/// Everything that decides the voxels of a result and their place in the store: work can only be
/// resumed with the same.
fn resume_arguments(plan: &BlendPlan, spec: &VolumeSpec, subject: &str, note: &str) -> String {
    let grid = &plan.grid;
    let starts = [0, 1, 2].map(|a| grid.axis_starts(a));
    let mut arguments = json!({
        "subject": subject,
        "volume": spec.name,
        "size": grid.size(),
        "patch_size": grid.patch_size(),
        "overlap": grid.overlap(),
        "margins": grid.margins(),
        "starts": starts,
        "target": plan.target.size(),
        "channels": plan.channels,
        "window": format!("{:?}", plan.window),
        "finish": plan.finish.to_string(),
        "affine": spec.affine,
        "layout": spec.layout.to_json(),
        "note": note,
    });
    if plan.merge != Merge::Mean {
        arguments["merge"] = plan.merge.name().into();
    }
    if let Some(outside) = &plan.outside {
        arguments["mask"] = outside.identity().into();
    }
    arguments.to_string()
}
