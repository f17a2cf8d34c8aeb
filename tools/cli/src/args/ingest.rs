//! The arguments of `voxquarry ingest`.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use voxquarry::format::layout::Codec;
use voxquarry::format::levels::Levels;
use voxquarry::{Affine, Dtype, Error, IfExists, Part, Size3};
use voxquarry_ingest::{ByteOrder, Layout, RawVoxels, SourceKind};

use super::change::{ChangeArgs, parse_dtype};
use super::{parse_bytes, parse_patch};

#[derive(Args, Debug)]
#[command(after_help = "\
A SOURCE is an image file, which becomes volume `image` of a subject named after it; a folder; a
dataset.json; a table; or names with * and ? in quotes. The layout of a folder is recognised:
  nnunet   dataset.json with channel_names; volumes image (or the channels' names) and label
  msd      dataset.json with training: Medical Segmentation Decathlon; volumes image and label
  bids     folders sub-*; volumes T1w, acq-high_bold, …; labels in derivatives
  pattern  a template of {subject}, {volume}, {kind}, {split} and *
  others   a folder of images, or a folder for each subject
What was recognised and what was ignored is told. Formats are recognised by content:
  NIfTI .nii .nii.gz .hdr/.img   NRRD .nrrd .nhdr   MetaImage .mha .mhd   MGH .mgh .mgz
  TIFF .tif .tiff   HDF5 .h5   Zarr and OME-Zarr folders   NumPy .npy .npz
  voxels and nothing else, with --raw-shape
FILE::NAME is one of several volumes in a file.

A subject appears when it is complete. To continue an interrupted run, run the same command again:
subjects that were made from the same files (by SHA-256) with the same options are skipped.

Several processes, on one machine or many that see the files, share an ingest by a plan:
  voxquarry ingest data --out store.zarr --plan plan.json      once: reads all headers
  voxquarry ingest --plan plan.json --part 3/16                in 16 processes: 0/16 to 15/16
  voxquarry ingest --plan plan.json --finalize                 once: publishes all in one step
Nothing is visible before the last. The options are the plan's; --threads and --jobs are each
process' own.

Examples:
  voxquarry ingest Dataset001_Liver --out store.zarr --keep-going --report report.json
  voxquarry ingest data --pattern \"{subject}/{subject}_{volume}.nii.gz\" --out store.zarr
  voxquarry ingest --subject case01 --labels seg=seg.nii.gz --out store.zarr --add
  voxquarry ingest data --out store.zarr --canonical --spacing 1,1,1 --clip -1000,1000

Example manifest:
  subject,volume,kind,path
  case01,ct,image,case01/ct.nii.gz
  case01,seg,labels,case01/seg.nii.gz")]
#[allow(clippy::struct_excessive_bools)] // Each is a flag of the command line.
pub(crate) struct IngestArgs {
    /// Image files, folders, tables, or names with * and ?.
    #[arg(
        required_unless_present_any = [
            "images", "labels", "weights", "manifest", "pattern", "part", "finalize"
        ],
        conflicts_with_all = ["images", "labels", "weights", "manifest"]
    )]
    pub(crate) sources: Vec<PathBuf>,
    /// The store; created if it does not exist. With --part and --finalize a --plan names it, too.
    #[arg(long, short, value_name = "STORE", required_unless_present = "plan")]
    out: Option<PathBuf>,
    /// Size of the patches you will read: one number for a cube, or z,y,x. Repeat it to optimise
    /// the layout for several sizes.
    #[arg(long, value_name = "P", default_value = "96", value_parser = parse_patch)]
    pub(crate) patch_size: Vec<Size3>,
    /// The layout of folders: nnunet, msd, bids, pattern or auto.
    #[arg(long, default_value = "auto", value_parser = Layout::from_str)]
    pub(crate) layout: Layout,
    /// Where the files of subjects lie below a SOURCE (default: this folder), as in
    /// {subject}/{volume}.nii.gz.
    #[arg(long, conflicts_with_all = ["images", "labels", "weights", "manifest"])]
    pub(crate) pattern: Option<String>,
    /// The kind of the volumes of this name, where layout and name say otherwise: image, labels or
    /// weights.
    #[arg(long, value_name = "VOLUME=KIND", value_parser = parse_kind)]
    pub(crate) kind: Vec<(String, SourceKind)>,
    /// Only these subjects: a split such as train, or names with *; separated by commas.
    #[arg(long, value_name = "SPLIT|NAMES", value_delimiter = ',')]
    pub(crate) subset: Vec<String>,
    /// Name of the subject; default: the name of its first file.
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) subject: Option<String>,
    /// An image, such as CT or MR.
    #[arg(
        long = "image",
        value_name = "NAME=PATH",
        value_parser = parse_named,
        conflicts_with = "manifest"
    )]
    pub(crate) images: Vec<(String, PathBuf)>,
    /// A label map or mask on the same grid.
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_named, conflicts_with = "manifest")]
    pub(crate) labels: Vec<(String, PathBuf)>,
    /// Weights for weighted sampling on the same grid, finite and not negative.
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_named, conflicts_with = "manifest")]
    pub(crate) weights: Vec<(String, PathBuf)>,
    /// A table of a whole dataset, with the columns subject,volume,kind,path, and perhaps split;
    /// separated by commas, semicolons or tabs.
    #[arg(long, value_name = "TABLE.csv")]
    pub(crate) manifest: Option<PathBuf>,
    /// Compression: fast (decodes at memory speed), compact (smallest) or none.
    #[arg(long, default_value = "fast", value_parser = Codec::from_str)]
    pub(crate) codec: Codec,
    /// Coarser levels of every volume, for viewers and patches at several scales: their number, or
    /// auto for as many as make the longest axis at most 128 voxels.
    #[arg(long, value_name = "N|auto", default_value = "0", value_parser = Levels::from_str)]
    pub(crate) levels: Levels,
    /// Memory that the run may use, as in 500MB or 2GiB.
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    pub(crate) memory: u64,
    /// Threads that encode; default: one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Subjects that are ingested at the same time, if the memory suffices; default: two for each
    /// thread, at least four.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// Replace subjects that exist; with --add, their volumes of the same names.
    #[arg(long, conflicts_with = "skip_existing")]
    pub(crate) overwrite: bool,
    /// Skip subjects that exist, by name alone; with --add, their volumes of the same names.
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// Add volumes to subjects that exist, which keep their other volumes.
    #[arg(long)]
    pub(crate) add: bool,
    /// Ingest the subjects that can be ingested, list the others, and exit with 3. The same command
    /// later takes those that were mended.
    #[arg(long)]
    pub(crate) keep_going: bool,
    /// Write what was done, skipped and failed to this file, which is replaced.
    #[arg(long, value_name = "FILE.json")]
    pub(crate) report: Option<PathBuf>,
    /// How far the voxels of a subject's volumes may lie apart, because of rounded headers;
    /// default: a tenth of the smallest spacing. Volumes within it get one affine.
    #[arg(long, value_name = "MM", value_parser = parse_millimetres)]
    pub(crate) grid_tolerance: Option<f64>,
    /// The volume whose affine all volumes of its subject get, whatever their headers say.
    #[arg(long, value_name = "VOLUME")]
    pub(crate) grid_from: Option<String>,
    /// The affine of every volume of this run, instead of a wrong one in its header: 16 numbers row
    /// by row, separated by commas, or a text file with them. It maps x, y, z to RAS+ millimetres.
    #[arg(long, value_name = "FILE|NUMBERS", value_parser = parse_affine)]
    pub(crate) affine: Option<Affine>,
    /// The size of the voxels in millimetres, instead of a wrong affine: axes parallel to the
    /// world's, origin at the first voxel. Nothing is resampled.
    #[arg(long, value_name = "Z,Y,X", value_parser = parse_voxel_size, conflicts_with = "affine")]
    pub(crate) voxel_size: Option<Affine>,
    /// Files whose names tell no format hold voxels of this shape, in C order, and nothing else:
    /// three numbers, or four with channels.
    #[arg(long, value_name = "[C,]Z,Y,X", value_delimiter = ',', requires = "raw_dtype")]
    pub(crate) raw_shape: Vec<usize>,
    /// The element type of these voxels, as uint16 or float32.
    #[arg(long, value_name = "DTYPE", value_parser = parse_dtype, requires = "raw_shape")]
    pub(crate) raw_dtype: Option<Dtype>,
    /// Bytes before the first of these voxels.
    #[arg(long, value_name = "BYTES", default_value = "0", requires = "raw_shape")]
    pub(crate) raw_offset: u64,
    /// The byte order of these voxels: little or big.
    #[arg(
        long,
        value_name = "ORDER",
        default_value = "little",
        value_parser = parse_order,
        requires = "raw_shape"
    )]
    pub(crate) raw_byte_order: ByteOrder,
    /// Write a plan to this file, for processes on any machines that share the ingest; see below.
    #[arg(long, value_name = "FILE.json", conflicts_with_all = ["dry_run", "add"])]
    pub(crate) plan: Option<PathBuf>,
    /// Ingest part I of N of a plan: 3/16 is part 3 of 0 to 15, and 16/16 is 0/16. The same command
    /// continues a part that was killed.
    #[arg(long, value_name = "I/N", value_parser = Part::from_str, conflicts_with = "dry_run")]
    pub(crate) part: Option<Part>,
    /// Publish all parts of a plan in one step, once they are done.
    #[arg(long, conflicts_with_all = ["part", "dry_run"])]
    pub(crate) finalize: bool,
    /// Print the plan and its peak memory, and write nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
    #[command(flatten)]
    pub(crate) changes: ChangeArgs,
}

impl IngestArgs {
    /// The store.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] if only a plan could name it.
    pub(crate) fn out(&self) -> voxquarry::Result<&Path> {
        let missing = || Error::invalid("out", "is missing", "--out STORE");
        self.out.as_deref().ok_or_else(missing)
    }

    /// The store, if it is named.
    pub(crate) fn named_out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Whether any source is named.
    pub(crate) fn names_sources(&self) -> bool {
        let named = [&self.images, &self.labels, &self.weights];
        !self.sources.is_empty()
            || named.iter().any(|paths| !paths.is_empty())
            || self.manifest.is_some()
            || self.pattern.is_some()
    }

    /// What files without a format hold, if that is stated.
    pub(crate) fn raw(&self) -> voxquarry::Result<Option<RawVoxels>> {
        let Some(dtype) = self.raw_dtype else { return Ok(None) };
        let mut voxels = RawVoxels::of_shape(&self.raw_shape, dtype)?;
        (voxels.offset, voxels.order) = (self.raw_offset, self.raw_byte_order);
        Ok(Some(voxels))
    }

    pub(crate) fn if_exists(&self) -> IfExists {
        match (self.overwrite, self.skip_existing) {
            (true, _) => IfExists::Replace,
            (_, true) => IfExists::Skip,
            _ => IfExists::Error,
        }
    }
}

/// Parses a byte order.
fn parse_order(text: &str) -> Result<ByteOrder, String> {
    match text {
        "little" => Ok(ByteOrder::Little),
        "big" => Ok(ByteOrder::Big),
        _ => Err("expected little or big".into()),
    }
}

/// Parses a named file: `ct=scan.nii.gz`.
fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("expected NAME=PATH, as in ct=scan.nii.gz".into()),
    }
}

/// Parses the kind of a volume: `heat=weights`.
fn parse_kind(text: &str) -> Result<(String, SourceKind), String> {
    let parsed = text.split_once('=').and_then(|(name, kind)| Some((name, kind.parse().ok()?)));
    match parsed {
        Some((name, kind)) if !name.is_empty() => Ok((name.to_owned(), kind)),
        _ => Err("expected VOLUME=KIND with image, labels or weights, as in heat=weights".into()),
    }
}

/// Parses a distance: `0.05`.
fn parse_millimetres(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(mm) if mm >= 0.0 && mm.is_finite() => Ok(mm),
        _ => Err("expected millimetres, 0 or more, as in 0.05".into()),
    }
}

/// Parses an affine: 16 numbers, or the name of a file that holds them.
fn parse_affine(text: &str) -> Result<Affine, String> {
    /// Longer files hold something else.
    const LONGEST: u64 = 1 << 16;
    let expected = "expected 16 numbers, four for each row, or a text file with them";
    let numbers = |text: &str| -> Option<Vec<f64>> {
        let words = text.split(|c: char| c.is_whitespace() || c == ',').filter(|w| !w.is_empty());
        words.map(|word| word.parse().ok()).collect()
    };
    let found = if let Some(found) = numbers(text) {
        found
    } else {
        let metadata = std::fs::metadata(text).map_err(|e| format!("{e}: {expected}"))?;
        if !metadata.is_file() || metadata.len() > LONGEST {
            return Err(expected.into());
        }
        let content = std::fs::read_to_string(text).map_err(|e| e.to_string())?;
        numbers(&content).ok_or(expected)?
    };
    let rows: Result<[f64; 16], _> = found.try_into();
    let rows = rows.map_err(|found| format!("{} numbers: {expected}", found.len()))?;
    let affine = Affine([0, 1, 2, 3].map(|row| [0, 1, 2, 3].map(|column| rows[4 * row + column])));
    affine.validate().map(|()| affine)
}

/// Parses the size of a voxel: `5,0.8,0.8`.
fn parse_voxel_size(text: &str) -> Result<Affine, String> {
    let numbers: Result<Vec<f64>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[z, y, x]) if [z, y, x].iter().all(|&n| n > 0.0 && n.is_finite()) => {
            Ok(Affine::diagonal([z, y, x]))
        }
        _ => Err("expected millimetres along z,y,x, as in 5,0.8,0.8".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn affines_are_numbers_or_a_file_of_numbers() {
        let text = "-1,0,0,9, 0,2,0,8, 0,0,3,7, 0,0,0,1";
        let affine = parse_affine(text).unwrap();
        assert_eq!(affine.0[0], [-1.0, 0.0, 0.0, 9.0]);
        assert_eq!(affine.spacing_mm(), [3.0, 2.0, 1.0]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, text.replace(',', "\n")).unwrap();
        assert_eq!(parse_affine(path.to_str().unwrap()).unwrap(), affine);
        for (text, reason) in [
            ("1,0,0,9", "4 numbers"),
            ("1,0,0,0, 0,1,0,0, 0,0,0,0, 0,0,0,1", "singular"),
            ("gone.txt", "expected 16"),
        ] {
            assert!(parse_affine(text).unwrap_err().contains(reason), "{text}");
        }
        assert_eq!(parse_voxel_size("5,0.8,0.7").unwrap().spacing_mm(), [5.0, 0.8, 0.7]);
        for text in ["5", "1,2,0", "1,2,nan"] {
            assert!(parse_voxel_size(text).is_err(), "{text}");
        }
    }
}
