//! The command line, and the parsers of its values.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use voxquarry::IfExists;
use voxquarry::Size3;
use voxquarry::format::layout::Codec;

use crate::sampler::SamplerArgs;

/// Patches out of volumes bigger than RAM.
#[derive(Parser, Debug)]
#[command(name = "voxquarry", version, about, propagate_version = true, after_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const EXAMPLES: &str = "\
Examples:
  voxquarry ingest ct.nii.gz --out store.zarr --patch-size 96
  voxquarry ingest --subject case01 --image ct=ct.nii.gz --labels seg=seg.nii.gz --out store.zarr
  voxquarry ingest --manifest train.csv --out store.zarr        # columns subject,volume,kind,path
  voxquarry info store.zarr/case01
  voxquarry export store.zarr/case01/ct ct-again.nii.gz
  voxquarry preview store.zarr/case01 case01.png
  voxquarry sample store.zarr --count 8 --sampler label         # where patches would lie
  voxquarry bench store.zarr                                    # patches per second on your data
  voxquarry demo                                                # on a built-in phantom

Exit codes: 0 done; 2 the arguments; 3 the data; 4 the environment (disk, permissions, interrupted).";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Convert images to a store, once; patches are fast from then on.
    Ingest(IngestArgs),
    /// Say what a store, a subject or a volume holds.
    Info(InfoArgs),
    /// Walk a whole store: every checksum, every chunk, every index.
    Verify(VerifyArgs),
    /// Write a volume back to a file; the format follows the extension.
    Export(ExportArgs),
    /// Draw three slices with the chunk grid, sampled patches, and how often each voxel is covered.
    Preview(PreviewArgs),
    /// Print where a sampler's patches lie.
    Sample(SampleArgs),
    /// Measure patches per second on your own data.
    Bench(BenchArgs),
    /// Try layouts on a file's own voxels: what each would cost, and which ingest would choose.
    PlanLayout(PlanLayoutArgs),
    /// Run the whole way once on one image, and measure it.
    Demo(DemoArgs),
}

#[derive(Args, Debug)]
#[command(after_help = "\
A lone SOURCE becomes the subject of its file name, volume `image`. NIfTI is read: .nii, .nii.gz, .hdr/.img.
A run that was interrupted goes on when the same command is run again: nothing half-written is ever visible.

Example manifest:
  subject,volume,kind,path
  case01,ct,image,case01/ct.nii.gz
  case01,seg,labels,case01/seg.nii.gz")]
#[allow(clippy::struct_excessive_bools)] // Each is a switch of the command line.
pub(crate) struct IngestArgs {
    /// Image files, each a subject of its own.
    #[arg(
        required_unless_present_any = ["images", "labels", "weights", "manifest"],
        conflicts_with_all = ["images", "labels", "weights", "manifest"]
    )]
    pub(crate) sources: Vec<PathBuf>,
    /// The store; it is made if it is not there.
    #[arg(long, short, value_name = "STORE")]
    pub(crate) out: PathBuf,
    /// Patches you will read: one number for a cube, or z,y,x. Repeat for mixed use; the layout meets them in the middle.
    #[arg(long, value_name = "P", default_value = "96", value_parser = parse_patch)]
    pub(crate) patch_size: Vec<Size3>,
    /// Name of the subject.
    #[arg(long, conflicts_with = "manifest")]
    pub(crate) subject: Option<String>,
    /// A volume of intensities.
    #[arg(long = "image", value_name = "NAME=PATH", value_parser = parse_named, conflicts_with = "manifest")]
    pub(crate) images: Vec<(String, PathBuf)>,
    /// A label map or mask, on the same grid.
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_named, conflicts_with = "manifest")]
    pub(crate) labels: Vec<(String, PathBuf)>,
    /// A volume that samplers will draw by, on the same grid: finite, not negative.
    #[arg(long, value_name = "NAME=PATH", value_parser = parse_named, conflicts_with = "manifest")]
    pub(crate) weights: Vec<(String, PathBuf)>,
    /// Table of a whole data set: subject,volume,kind,path.
    #[arg(long, value_name = "TABLE.csv")]
    pub(crate) manifest: Option<PathBuf>,
    /// fast: decodes at memory speed; compact: fewest bytes; none: as they are.
    #[arg(long, default_value = "fast", value_parser = Codec::from_str)]
    pub(crate) codec: Codec,
    /// Memory that the run may use.
    #[arg(long, default_value = "1GiB", value_parser = parse_bytes)]
    pub(crate) memory: u64,
    /// Threads that encode; default: all cores.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Replace subjects that are there.
    #[arg(long, conflicts_with = "skip_existing")]
    pub(crate) overwrite: bool,
    /// Leave subjects that are there.
    #[arg(long)]
    pub(crate) skip_existing: bool,
    /// Say what would be done, and its peak memory.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print a JSON document on standard output.
    #[arg(long)]
    pub(crate) json: bool,
    /// No progress.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

impl IngestArgs {
    pub(crate) fn existing(&self) -> IfExists {
        match (self.overwrite, self.skip_existing) {
            (true, _) => IfExists::Replace,
            (_, true) => IfExists::Skip,
            _ => IfExists::Error,
        }
    }
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  voxquarry info store.zarr
  voxquarry info store.zarr/case01/ct --json")]
pub(crate) struct InfoArgs {
    /// STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME.
    pub(crate) path: PathBuf,
    /// Print a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 all right; 3 damage was found, and is listed; 4 the disk cannot be read.

Example:
  voxquarry verify store.zarr")]
pub(crate) struct VerifyArgs {
    /// The store.
    pub(crate) store: PathBuf,
    /// Print a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
A volume that came from a NIfTI file gets its own header back, byte for byte. Channels of another volume become the fourth axis,
and float16, which NIfTI does not have, float32. The voxels stream: nothing is seen before the file is whole.

Example:
  voxquarry export store.zarr/case01/ct ct-again.nii.gz")]
pub(crate) struct ExportArgs {
    /// STORE/SUBJECT/VOLUME.
    pub(crate) volume: PathBuf,
    /// The file: .nii, .nii.gz, or .hdr/.img.
    pub(crate) out: PathBuf,
    /// Replace the file if it is there.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Threads that read, and compress a .gz, to the same bytes whatever their number; default: all cores.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
The slices lie in the middle, in true proportion; only they are read. A label map of the subject is laid over them, thin lines
are the borders of chunks, rectangles are patches: bright where the slice cuts them, faint where they lie before or behind it.
Below, heat: how many of 10,000 patches of a random sampler cover each voxel, its mean along the view.

Examples:
  voxquarry preview store.zarr/case01 case01.png
  voxquarry preview store.zarr/case01/ct ct.png --sampler grid --patch-size 64 --patches 40
  voxquarry preview store.zarr/case01 case01.png --sampler label --labels seg --probabilities 1=2,2=1")]
pub(crate) struct PreviewArgs {
    /// STORE/SUBJECT or STORE/SUBJECT/VOLUME; a subject shows its first image.
    pub(crate) path: PathBuf,
    /// The picture, a PNG.
    pub(crate) out: PathBuf,
    /// Patches to draw.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u64).range(..=1000))]
    pub(crate) patches: u64,
    /// Size of the patches; default: what the volume was ingested for.
    #[arg(long, value_name = "P", value_parser = parse_patch)]
    pub(crate) patch_size: Option<Size3>,
    #[command(flatten)]
    pub(crate) sampler: SamplerArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
A line is subject, number, and the start z, y, x. The same seed, epoch, subject and number give the same place everywhere.

Examples:
  voxquarry sample store.zarr --count 8 --patch-size 64
  voxquarry sample store.zarr/case01 --count 100 --sampler label --labels seg --probabilities 1=2,2=1 --json")]
pub(crate) struct SampleArgs {
    /// STORE or STORE/SUBJECT.
    pub(crate) path: PathBuf,
    /// Samples of each subject.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) count: u64,
    /// Number of the first.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first: u64,
    /// Size of the patches; default: what the subject was ingested for.
    #[arg(long, value_name = "P", value_parser = parse_patch)]
    pub(crate) patch_size: Option<Size3>,
    /// Print a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sampler: SamplerArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
For each volume's name, patches drawn uniformly from all subjects that have it are read into one
buffer a thread: first touch, each patch once, with checksums compared as in training, from
wherever its bytes are (what came from the disk is said; to measure the disk alone, empty the
page cache before); then warm, the same patches again. Nothing decoded is cached.

Examples:
  voxquarry bench store.zarr
  voxquarry bench store.zarr/case01/ct --patch-size 128 --seconds 5 --json")]
pub(crate) struct BenchArgs {
    /// STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME.
    pub(crate) path: PathBuf,
    /// Size of the patches; default: what the volume was ingested for.
    #[arg(long, value_name = "P", value_parser = parse_patch)]
    pub(crate) patch_size: Option<Size3>,
    /// Threads of the last pass; default: all cores.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Time of each pass.
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// Print a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
The chosen layout (*), chunks of half and twice its extent, and the other codecs are tried on a
sample from the middle of the file, 24 MiB at most: chunks that a patch meets and voxels decoded
for each of its own are computed for the whole volume, the ratio and the speed of one thread are
measured on the sample (air around it would compress better). Nothing is written but a temporary
folder.

Examples:
  voxquarry plan-layout ct.nii.gz
  voxquarry plan-layout ct.nii.gz --patch-size 96 --patch-size 1,512,512 --codec compact --json")]
pub(crate) struct PlanLayoutArgs {
    /// An image file.
    pub(crate) file: PathBuf,
    /// Patches you will read: one number for a cube, or z,y,x. Repeat for mixed use.
    #[arg(long, value_name = "P", default_value = "96", value_parser = parse_patch)]
    pub(crate) patch_size: Vec<Size3>,
    /// The codec that chunks are varied for: fast, compact or none.
    #[arg(long, default_value = "fast", value_parser = Codec::from_str)]
    pub(crate) codec: Codec,
    /// Print a JSON document.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Ingests, reads 1,000 random patches, runs a sliding window with a model that changes nothing, verifies, exports, compares the
export with the input, and draws a picture. What an earlier demo left in the folder is replaced.

Examples:
  voxquarry demo
  voxquarry demo --dir out --image t1.nii.gz --labels tissue.nii.gz --json")]
pub(crate) struct DemoArgs {
    /// Folder for everything the demo makes.
    #[arg(long, default_value = "voxquarry-demo")]
    pub(crate) dir: PathBuf,
    /// Image to run on; default: a built-in phantom.
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
    /// Label map on the same grid.
    #[arg(long, requires = "image")]
    pub(crate) labels: Option<PathBuf>,
    /// Print the figures as a JSON document at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

/// `96` or `24,256,256`.
pub(crate) fn parse_patch(text: &str) -> Result<Size3, String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[n]) if n > 0 => Ok([n; 3]),
        Ok(&[z, y, x]) if z > 0 && y > 0 && x > 0 => Ok([z, y, x]),
        _ => Err("expected one number, or z,y,x, each at least 1".into()),
    }
}

fn parse_named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), path.into()))
        }
        _ => Err("expected NAME=PATH, as ct=scan.nii.gz".into()),
    }
}

/// `2`, `0.5`: more than none, and no more than an hour.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected seconds, more than 0 and at most 3600".into()),
    }
}

/// `1GiB`, `500MB`, `4096`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    voxquarry_ingest::parse_bytes(text).map_err(|e| e.to_string())
}
