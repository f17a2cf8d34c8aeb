//! The attributes `voxquarry` and `ome` of groups (§§3 and 4).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::document::Node;
use super::levels::check_factors;
use crate::{Affine, Error, LengthUnit, Result, Size3};

/// The version of the format that this crate reads and writes (§3).
pub const VERSION: u64 = 1;

/// The meaning of a volume's voxels.
///
/// ```
/// assert_eq!(voxquarry::format::attributes::Kind::Labels.name(), "labels");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Kind {
    /// Intensities.
    Image,
    /// Integer ids; the store also counts them for each chunk.
    Labels,
}

impl Kind {
    /// The name in metadata.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Labels => "labels",
        }
    }
}

/// Statistics of a volume's stored values; `None` if no voxel is finite.
///
/// ```
/// # let store = "format-spec/golden/v1";
/// let subject = voxquarry::open(store)?.subject("grid")?;
/// let statistics = subject.volume("u8")?.statistics().clone();
/// assert_eq!((statistics.voxels, statistics.non_finite), (6 * 10 * 20, 0));
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Statistics {
    /// Voxels, over all channels.
    pub voxels: u64,
    /// NaN and infinite voxels, which the other statistics leave out.
    pub non_finite: u64,
    /// Smallest value.
    pub min: Option<serde_json::Number>,
    /// Largest value.
    pub max: Option<serde_json::Number>,
    /// Arithmetic mean.
    pub mean: Option<f64>,
    /// Population standard deviation.
    pub std: Option<f64>,
}

/// The file that a volume was converted from.
///
/// ```
/// # let store = "format-spec/golden/v1";
/// let subject = voxquarry::open(store)?.subject("grid")?;
/// let volume = subject.volume("u8")?;
/// let source = volume.source().expect("it was converted from a file");
/// assert_eq!(source.sha256.len(), 64);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFile {
    /// The file's name, without its folder.
    pub name: String,
    /// The file's length.
    pub bytes: u64,
    /// SHA-256 of the file's bytes, in hexadecimal.
    pub sha256: String,
    /// Properties that an exporter needs to write the file again.
    #[serde(default)]
    pub origin: Map<String, Value>,
}

/// The name of a label, or of a region of several labels (§4).
///
/// ```
/// use voxquarry::format::attributes::LabelName;
///
/// let tumour = LabelName { ids: vec![2, 3], name: "tumour".to_owned(), color: None };
/// let text = serde_json::to_string(&tumour).unwrap();
/// assert_eq!(text, r#"{"ids":[2,3],"name":"tumour"}"#);
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct LabelName {
    /// The ids of voxels that have the name.
    pub ids: Vec<i64>,
    /// The name.
    pub name: String,
    /// Its colour, as `#rrggbb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub color: Option<String>,
}

/// A coarser level of a volume (§8).
///
/// ```
/// # let store = "format-spec/golden/v1-levels";
/// let volume = voxquarry::open(store)?.subject("grid")?.volume("u8")?;
/// let factors: Vec<_> = volume.attributes().levels.iter().map(|level| level.factors).collect();
/// assert_eq!(factors, [[2, 1, 1], [4, 2, 2]]);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredLevel {
    /// The voxels of level `0` in one of its own, along `(z, y, x)`.
    pub factors: Size3,
    /// The crc32c of the bytes of its `zarr.json`.
    pub level_crc32c: u32,
    /// Its shards that have a file.
    pub shard_files: u64,
    /// The crc32c of its shard list (§8).
    pub shards_crc32c: u32,
    /// Statistics of its stored values.
    pub statistics: Statistics,
}

/// `attributes.voxquarry` of a volume's group (§4).
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::attributes::{Kind, VolumeAttributes};
/// use voxquarry::format::document::Document;
///
/// # let store = "format-spec/golden/v1";
/// let folder = Path::new(store).join("grid/u8");
/// let document = Document::read(&folder)?.expect("a group");
/// let attributes = VolumeAttributes::parse(&document.voxquarry()?)?;
/// assert_eq!(attributes.kind, Kind::Image);
/// assert_eq!(attributes.statistics.voxels, 6 * 10 * 20);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct VolumeAttributes {
    /// The meaning of the voxels.
    pub kind: Kind,
    /// Maps voxel centres `(x, y, z)` to RAS+ positions, in `unit`.
    pub affine: Affine,
    /// The unit that the source states for the affine; millimetres if it states none.
    pub unit: Option<LengthUnit>,
    /// A real value is the stored value × slope + intercept.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// The patch sizes that the layout was chosen for, `(z, y, x)`.
    pub patch_sizes: Vec<Size3>,
    /// `fast`, `compact` or `none`.
    pub codec: String,
    /// Statistics of the stored values.
    pub statistics: Statistics,
    /// Shards that have a file.
    pub shard_files: u64,
    /// The crc32c of the shard list's values (§8).
    pub shards_crc32c: u32,
    /// The crc32c of the label counts' values (§8); only of label maps.
    pub summary_crc32c: Option<u32>,
    /// The crc32c of the NIfTI header (§8); `None` if there is none.
    pub nifti_crc32c: Option<u32>,
    /// Its levels 1, 2, …; most volumes have none.
    pub levels: Vec<StoredLevel>,
    /// Names of labels, for users; only of label maps.
    pub labels: Vec<LabelName>,
    /// The file that the volume was converted from.
    pub source: Option<SourceFile>,
}

const VERSION_KEYS: [&str; 3] = ["version", "reader_features", "writer_features"];

/// Checks the node, version and reader features of a dataset's or volume's attributes.
///
/// # Errors
/// [`Error::Metadata`] for another node or version; [`Error::UnknownFeature`] for an unknown
/// feature.
pub fn check_version(node: &Node<'_>, kind: &str) -> Result<()> {
    node.expect("node", &Value::from(kind))?;
    let version: u64 = node.parse("version")?;
    if version != VERSION {
        return Err(node
            .error("version", &format!("found {version}, expected {VERSION}: upgrade voxquarry")));
    }
    check_features(node, "reader")?;
    node.parse::<Vec<String>>("writer_features").map(drop)
}

/// Checks the features of `role` (`"reader"` or `"writer"`); version 1 defines none.
///
/// # Errors
/// [`Error::Metadata`] if the list is missing; [`Error::UnknownFeature`] if it names a feature.
pub fn check_features(node: &Node<'_>, role: &'static str) -> Result<()> {
    let features: Vec<String> = node.parse(&format!("{role}_features"))?;
    match features.into_iter().next() {
        Some(feature) => Err(Error::UnknownFeature { path: node.path().to_owned(), role, feature }),
        None => Ok(()),
    }
}

/// The `attributes` of a dataset's group.
pub fn dataset() -> Value {
    json!({ "voxquarry": versioned("dataset") })
}

/// The names of the subjects that a dataset's group lists, sorted; `None` if it lists none.
///
/// # Errors
/// [`Error::Metadata`] for a list of anything but names of subjects.
pub fn parse_subjects(node: &Node<'_>) -> Result<Option<Vec<String>>> {
    if node.get("subjects").is_none() {
        return Ok(None);
    }
    let mut subjects: Vec<String> = node.parse("subjects")?;
    if let Some(name) = subjects.iter().find(|name| super::check_name("subject", name).is_err()) {
        return Err(node.error("subjects", &format!("{name:?} is no name of a subject")));
    }
    subjects.sort_unstable();
    subjects.dedup();
    Ok(Some(subjects))
}

/// The checksums of the two documents of a volume, which its subject lists (§3).
///
/// ```
/// use std::path::Path;
/// use voxquarry::format::attributes::parse_subject;
/// use voxquarry::format::document::Document;
///
/// # let store = "format-spec/golden/v1";
/// let folder = Path::new(store).join("one voxel");
/// let document = Document::read(&folder)?.expect("a group");
/// let volumes = parse_subject(&document.voxquarry()?, "one voxel")?;
/// assert_ne!(volumes["f32"].group_crc32c, volumes["labels-f32"].group_crc32c);
/// # Ok::<(), voxquarry::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DocumentChecksums {
    /// The crc32c of the bytes of the volume group's `zarr.json`.
    pub group_crc32c: u32,
    /// The crc32c of the bytes of level `0`'s `zarr.json`.
    pub level_crc32c: u32,
}

/// The volumes of a subject by their names.
pub type VolumeList = BTreeMap<String, DocumentChecksums>;

/// The `attributes` of the group of the subject `name`.
pub fn subject(name: &str, volumes: &VolumeList, splits: &[String]) -> Value {
    let mut attributes = json!({ "node": "subject", "name": name, "volumes": volumes });
    if !splits.is_empty() {
        attributes["splits"] = json!(splits);
    }
    json!({ "voxquarry": attributes })
}

/// Parses the names of the splits that a subject belongs to; most have none.
///
/// # Errors
/// [`Error::Metadata`] if they are no list of names.
pub fn parse_splits(node: &Node<'_>) -> Result<Vec<String>> {
    let splits: Vec<String> =
        node.get("splits").map_or(Ok(Vec::new()), |_| node.parse("splits"))?;
    match splits.iter().find(|name| super::check_name("split", name).is_err()) {
        Some(name) => Err(node.error("splits", &format!("{name:?} is no name of a split"))),
        None => Ok(splits),
    }
}

/// Parses `attributes.voxquarry` of the group of the subject `name`.
///
/// # Errors
/// [`Error::Metadata`] with the first key that is wrong, also for the group of another subject.
pub fn parse_subject(node: &Node<'_>, name: &str) -> Result<VolumeList> {
    node.expect("node", &Value::from("subject"))?;
    let written = node.string("name")?;
    if written != name {
        let reason = format!(
            "this is the subject {written:?}, found in the place of {name:?}: was its folder \
             renamed, or a file exchanged? Put it back, or ingest it again"
        );
        return Err(node.error("name", &reason));
    }
    let volumes: VolumeList = node.parse("volumes")?;
    match volumes.keys().find(|name| super::check_name("volume", name).is_err()) {
        Some(name) => Err(node.error("volumes", &format!("{name:?} is no name of a volume"))),
        None => Ok(volumes),
    }
}

fn versioned(node: &str) -> Value {
    let [version, reader, writer] = VERSION_KEYS;
    json!({ "node": node, version: VERSION, reader: [], writer: [] })
}

impl VolumeAttributes {
    /// Parses and checks `attributes.voxquarry` of a volume's group.
    ///
    /// # Errors
    /// [`Error::Metadata`] with the first key that is wrong; [`Error::UnknownFeature`] for an
    /// unknown reader feature.
    pub fn parse(node: &Node<'_>) -> Result<Self> {
        check_version(node, "volume")?;
        node.expect("affine_index_order", &Value::from("xyz"))?;
        let affine: Affine = node.parse("affine")?;
        affine.validate().map_err(|e| node.error("affine", &e))?;
        let [slope, intercept] = ["slope", "intercept"].map(|key| node.parse::<f64>(key));
        let codec = node.string("codec")?;
        if !["fast", "compact", "none"].contains(&codec) {
            return Err(
                node.error("codec", &format!("found {codec:?}, expected fast, compact or none"))
            );
        }
        let kind = node.parse("kind")?;
        let levels: Vec<StoredLevel> =
            node.get("levels").map_or(Ok(Vec::new()), |_| node.parse("levels"))?;
        let checked = check_factors(levels.iter().map(|level| level.factors));
        checked.map_err(|reason| node.error("levels", &reason))?;
        Ok(Self {
            kind,
            affine,
            unit: node.get("unit").map(|_| node.parse("unit")).transpose()?,
            slope: slope?,
            intercept: intercept?,
            patch_sizes: node.parse("patch_sizes")?,
            codec: codec.to_owned(),
            statistics: node.parse("statistics")?,
            shard_files: node.parse("shard_files")?,
            shards_crc32c: node.parse("shards_crc32c")?,
            summary_crc32c: match kind {
                Kind::Labels => {
                    node.get("summary_crc32c").map(|_| node.parse("summary_crc32c")).transpose()?
                }
                Kind::Image => None,
            },
            nifti_crc32c: node
                .get("nifti_crc32c")
                .map(|_| node.parse("nifti_crc32c"))
                .transpose()?,
            levels,
            labels: node.get("labels").map_or(Ok(Vec::new()), |_| node.parse("labels"))?,
            source: node.get("source").map(|_| node.parse("source")).transpose()?,
        })
    }

    /// The object `voxquarry` of the group's attributes.
    pub fn to_json(&self) -> Value {
        let mut attributes = versioned("volume");
        attributes["kind"] = json!(self.kind);
        attributes["affine"] = json!(self.affine);
        attributes["affine_index_order"] = json!("xyz");
        if let Some(unit) = self.unit {
            attributes["unit"] = json!(unit);
        }
        attributes["slope"] = json!(self.slope);
        attributes["intercept"] = json!(self.intercept);
        attributes["patch_sizes"] = json!(self.patch_sizes);
        attributes["codec"] = json!(self.codec);
        attributes["statistics"] = json!(self.statistics);
        attributes["shard_files"] = json!(self.shard_files);
        attributes["shards_crc32c"] = json!(self.shards_crc32c);
        if let Some(crc32c) = self.summary_crc32c {
            attributes["summary_crc32c"] = json!(crc32c);
        }
        if let Some(crc32c) = self.nifti_crc32c {
            attributes["nifti_crc32c"] = json!(crc32c);
        }
        if !self.levels.is_empty() {
            attributes["levels"] = json!(self.levels);
        }
        if !self.labels.is_empty() {
            attributes["labels"] = json!(self.labels);
        }
        if let Some(source) = &self.source {
            attributes["source"] = json!(source);
        }
        attributes
    }
}
