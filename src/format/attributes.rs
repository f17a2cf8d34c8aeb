//! The attributes `voxquarry` and `ome` of groups: §§3 and 4 of the specification.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::VERSION;
use super::document::Node;
use crate::{Affine, Error, Result, Size3};

/// What the voxels of a volume are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Intensities.
    Image,
    /// Integer ids; per-chunk counts stand beside the voxels.
    Labels,
}

impl Kind {
    /// The name in metadata and manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Labels => "labels",
        }
    }
}

/// Figures over a volume's stored values; `None` where no voxel is finite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Statistics {
    /// Voxels over all channels.
    pub voxels: u64,
    /// NaN and infinite voxels; the other figures leave them out.
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

/// Where a volume came from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SourceFile {
    /// File name without its folder.
    pub name: String,
    /// Length of the file.
    pub bytes: u64,
    /// Digest of the file as it lay on disk.
    pub sha256: String,
    /// What an exporter needs to give the file back.
    #[serde(default)]
    pub origin: Map<String, Value>,
}

/// `attributes.voxquarry` of a volume.
#[derive(Clone, Debug, PartialEq)]
pub struct VolumeAttributes {
    /// What the voxels are.
    pub kind: Kind,
    /// Voxel centre to RAS+ mm.
    pub affine: Affine,
    /// Stored value × slope + intercept = real value.
    pub slope: f64,
    /// See `slope`.
    pub intercept: f64,
    /// What the layout was chosen for.
    pub patch_sizes: Vec<Size3>,
    /// `fast`, `compact` or `none`.
    pub codec: String,
    /// Figures over the stored values.
    pub statistics: Statistics,
    /// Shards that have a file.
    pub shard_files: u64,
    /// Where it came from.
    pub source: Option<SourceFile>,
}

const VERSION_KEYS: [&str; 3] = ["version", "reader_features", "writer_features"];

/// Checks `node`, version and reader features of a dataset's or volume's attributes.
///
/// # Errors
/// [`Error::Metadata`] for another node or version, [`Error::UnknownFeature`].
pub fn check_version(node: &Node<'_>, kind: &str) -> Result<()> {
    node.expect("node", &Value::from(kind))?;
    let version: u64 = node.parse("version")?;
    if version != VERSION {
        return Err(node.error(
            "version",
            &format!("found {version}, this reader knows {VERSION}: upgrade voxquarry"),
        ));
    }
    check_features(node, "reader")?;
    node.parse::<Vec<String>>("writer_features").map(drop)
}

/// Checks that no feature of `role` (`reader` or `writer`) is unknown; version 1 knows none.
///
/// # Errors
/// [`Error::UnknownFeature`].
pub fn check_features(node: &Node<'_>, role: &'static str) -> Result<()> {
    let features: Vec<String> = node.parse(&format!("{role}_features"))?;
    match features.into_iter().next() {
        Some(feature) => Err(Error::UnknownFeature { path: node.path().to_owned(), role, feature }),
        None => Ok(()),
    }
}

/// `attributes` of a dataset's group.
pub fn dataset() -> Value {
    json!({ "voxquarry": versioned("dataset") })
}

/// `attributes` of a subject's group.
pub fn subject() -> Value {
    json!({ "voxquarry": { "node": "subject" } })
}

fn versioned(node: &str) -> Value {
    let [version, reader, writer] = VERSION_KEYS;
    json!({ "node": node, version: VERSION, reader: [], writer: [] })
}

impl VolumeAttributes {
    /// Parses and checks `attributes.voxquarry` of a volume's group.
    ///
    /// # Errors
    /// [`Error::Metadata`], [`Error::UnknownFeature`].
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
        Ok(Self {
            kind: node.parse("kind")?,
            affine,
            slope: slope?,
            intercept: intercept?,
            patch_sizes: node.parse("patch_sizes")?,
            codec: codec.to_owned(),
            statistics: node.parse("statistics")?,
            shard_files: node.parse("shard_files")?,
            source: node.get("source").map(|_| node.parse("source")).transpose()?,
        })
    }

    /// `attributes` of a volume's group; `channels` tells whether the array has that axis.
    pub fn to_json(&self, name: &str, has_channels: bool) -> Value {
        let mut ours = versioned("volume");
        ours["kind"] = json!(self.kind);
        ours["affine"] = json!(self.affine);
        ours["affine_index_order"] = json!("xyz");
        ours["slope"] = json!(self.slope);
        ours["intercept"] = json!(self.intercept);
        ours["patch_sizes"] = json!(self.patch_sizes);
        ours["codec"] = json!(self.codec);
        ours["statistics"] = json!(self.statistics);
        ours["shard_files"] = json!(self.shard_files);
        if let Some(source) = &self.source {
            ours["source"] = json!(source);
        }
        json!({ "ome": ome(name, has_channels, self.affine.spacing_mm()), "voxquarry": ours })
    }
}

/// OME-Zarr 0.5 multiscales metadata of one level.
fn ome(name: &str, has_channels: bool, spacing_mm: [f64; 3]) -> Value {
    let mut axes: Vec<Value> =
        ["z", "y", "x"].map(|a| json!({ "name": a, "type": "space", "unit": "millimeter" })).into();
    let mut scale = spacing_mm.to_vec();
    if has_channels {
        axes.insert(0, json!({ "name": "c", "type": "channel" }));
        scale.insert(0, 1.0);
    }
    json!({
        "version": "0.5",
        "multiscales": [{
            "name": name,
            "axes": axes,
            "datasets": [{ "path": "0", "coordinateTransformations": [{ "type": "scale", "scale": scale }] }],
        }],
    })
}
