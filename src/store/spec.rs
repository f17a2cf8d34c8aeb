//! The description of a volume that is to be written.

use crate::format::array::ArrayLayout;
use crate::format::attributes::{Kind, LabelName, Statistics, VolumeAttributes};
use crate::format::document::{Document, ZARR_JSON};
use crate::format::layout::Codec;
use crate::format::levels::{Levels, level_folder};
use crate::sys::folder::Folder;
use crate::{Affine, Error, LengthUnit, Result, Size3};

/// The properties of a volume that is to be written.
///
/// # Examples
/// ```
/// use voxquarry::format::attributes::Kind;
/// use voxquarry::format::layout::{self, Codec, VolumeShape};
/// use voxquarry::{Affine, Dtype, VolumeSpec};
///
/// let shape =
///     VolumeShape { channels: None, size: [40, 256, 256], dtype: Dtype::Int16, interleaved: 1 };
/// let layout = layout::choose(&shape, &[[24, 96, 96]], Codec::Fast, 64 << 20)?;
/// let spec = VolumeSpec::new("ct", Kind::Image, layout)
///     .patch_sizes(vec![[24, 96, 96]])
///     .affine(Affine::diagonal([5.0, 0.8, 0.8]))
///     .scaling(1.0, -1024.0);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct VolumeSpec {
    pub(crate) name: String,
    pub(crate) kind: Kind,
    pub(crate) layout: ArrayLayout,
    pub(crate) codec: Codec,
    pub(crate) patch_sizes: Vec<Size3>,
    pub(crate) affine: Affine,
    pub(crate) unit: Option<LengthUnit>,
    /// The image of the subject that a label map belongs to; the subject's writer knows it.
    pub(crate) image: Option<String>,
    pub(crate) slope: f64,
    pub(crate) intercept: f64,
    pub(crate) interleaved: usize,
    pub(crate) weight_sums: bool,
    pub(crate) labels: Vec<LabelName>,
    pub(crate) levels: Levels,
}

impl VolumeSpec {
    /// A volume called `name`, whose shape, dtype, chunks and shards are `layout`; see
    /// [`crate::format::layout::choose`]. Voxels are 1 mm wide unless [`affine`](Self::affine) is
    /// set.
    pub fn new(name: impl Into<String>, kind: Kind, layout: ArrayLayout) -> Self {
        Self {
            name: name.into(),
            kind,
            layout,
            codec: Codec::Fast,
            patch_sizes: Vec::new(),
            affine: Affine::IDENTITY,
            unit: None,
            image: None,
            slope: 1.0,
            intercept: 0.0,
            interleaved: 1,
            weight_sums: false,
            labels: Vec::new(),
            levels: Levels::default(),
        }
    }

    /// The codec that the layout was chosen for; only its name is recorded.
    #[must_use]
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// The patch sizes `(z, y, x)` that the layout was chosen for; they are recorded.
    #[must_use]
    pub fn patch_sizes(mut self, patch_sizes: Vec<Size3>) -> Self {
        self.patch_sizes = patch_sizes;
        self
    }

    /// The affine from voxel centres `(x, y, z)` to RAS+ millimetres.
    #[must_use]
    pub fn affine(mut self, affine: Affine) -> Self {
        self.affine = affine;
        self
    }

    /// The unit of the affine's positions, if the source states one; millimetres otherwise.
    #[must_use]
    pub fn unit(mut self, unit: Option<LengthUnit>) -> Self {
        self.unit = unit;
        self
    }

    /// Real value = stored value × `slope` + `intercept`.
    #[must_use]
    pub fn scaling(mut self, slope: f64, intercept: f64) -> Self {
        (self.slope, self.intercept) = (slope, intercept);
        self
    }

    /// The number of channels that each layer of [`crate::VolumeWriter`] holds; it divides the
    /// number of channels.
    #[must_use]
    pub fn interleaved(mut self, channels: usize) -> Self {
        self.interleaved = channels;
        self
    }

    /// Names of the labels of a label map, for users.
    #[must_use]
    pub fn labels(mut self, names: Vec<LabelName>) -> Self {
        self.labels = names;
        self
    }

    /// Writes the sum of each chunk's weights beside the volume, for weighted sampling.
    #[must_use]
    pub fn weight_sums(mut self) -> Self {
        self.weight_sums = true;
        self
    }

    /// The coarser levels that are made of the volume once all its voxels are written: means of an
    /// image, the most frequent ids of a label map.
    ///
    /// ```
    /// use voxquarry::VolumeSpec;
    /// use voxquarry::format::attributes::Kind;
    /// use voxquarry::format::layout::{self, Codec, VolumeShape};
    /// use voxquarry::format::levels::Levels;
    /// use voxquarry::{Dtype, IfExists, StoreWriter};
    ///
    /// let (size, dtype) = ([8, 16, 16], Dtype::UInt8);
    /// let shape = VolumeShape { channels: None, size, dtype, interleaved: 1 };
    /// let layout = layout::choose(&shape, &[[8; 3]], Codec::Fast, 64 << 20)?;
    /// let spec = VolumeSpec::new("ct", Kind::Image, layout).levels(Levels::Count(1));
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let path = folder.path().join("store.zarr");
    /// let mut subject = StoreWriter::open(&path, None)?.subject("case01")?;
    /// let mut volume = subject.volume(spec)?;
    /// while volume.next_planes() > 0 {
    ///     volume.write_layer(&vec![7; volume.layer_bytes()])?;
    /// }
    /// subject.publish([volume.finish()?], IfExists::Error)?;
    /// let ct = voxquarry::open(&path)?.subject("case01")?.volume("ct")?;
    /// assert_eq!(ct.level(1)?.size(), [4, 8, 8]);
    /// # Ok::<(), voxquarry::Error>(())
    /// ```
    #[must_use]
    pub fn levels(mut self, levels: Levels) -> Self {
        self.levels = levels;
        self
    }

    /// The factors of these levels (§8).
    ///
    /// # Errors
    /// As [`Levels::factors`].
    pub(super) fn level_factors(&self) -> Result<Vec<Size3>> {
        self.levels.factors(self.layout.size, self.affine.spacing_mm())
    }

    /// Checks what no volume can be.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`], [`Error::Unsupported`].
    pub(super) fn check(&self) -> Result<()> {
        let remedy = "choose the layout with `format::layout`";
        self.layout.validate().map_err(|reason| Error::unsupported(reason, remedy))?;
        let invertible = "give a finite and invertible affine";
        self.affine.validate().map_err(|reason| Error::unsupported(reason, invertible))?;
        let channels = self.layout.channel_count();
        if self.interleaved == 0 || !channels.is_multiple_of(self.interleaved) {
            let expected = format!("a divisor of the {channels} channels");
            return Err(Error::invalid("interleaved", self.interleaved, expected));
        }
        self.level_factors().map(drop)
    }

    /// The attributes of the volume, without what depends on its files.
    pub(super) fn attributes(&self, statistics: Statistics) -> VolumeAttributes {
        VolumeAttributes {
            kind: self.kind,
            affine: self.affine,
            unit: self.unit,
            slope: self.slope,
            intercept: self.intercept,
            patch_sizes: self.patch_sizes.clone(),
            codec: self.codec.name().to_owned(),
            statistics,
            shard_files: 0,
            shards_crc32c: 0,
            summary_crc32c: None,
            nifti_crc32c: None,
            levels: Vec::new(),
            labels: self.labels.clone(),
            source: None,
        }
    }

    /// The description that the documents of a part give of the whole volume.
    ///
    /// # Errors
    /// [`Error::Metadata`] if they are damaged or missing, [`Error::Io`].
    pub(super) fn of_part(name: &str, folder: &Folder) -> Result<Self> {
        let read = |folder: &Folder| {
            let missing = || Error::metadata(folder.path().join(ZARR_JSON), "missing");
            Document::read_in(folder)?.ok_or_else(missing)
        };
        let attributes = VolumeAttributes::parse(&read(folder)?.voxquarry()?)?;
        let layout = ArrayLayout::parse(&read(&folder.join(level_folder(0)))?)?;
        Ok(Self {
            codec: attributes.codec.parse()?,
            patch_sizes: attributes.patch_sizes,
            affine: attributes.affine,
            unit: attributes.unit,
            slope: attributes.slope,
            intercept: attributes.intercept,
            labels: attributes.labels,
            ..Self::new(name, attributes.kind, layout)
        })
    }
}
