//! Defines the command line and the parsers of its values.

mod change;
mod components;
mod ingest;
mod python;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use voxquarry::format::layout::Codec;
use voxquarry::{Error, Size3};

use crate::meeting::Meeting;
use crate::picture::{Convention, GreyWindow};
use crate::sampler::SamplerArgs;

pub(crate) use components::ComponentsArgs;
pub(crate) use ingest::IngestArgs;

/// Store 3-D medical images for fast reading of patches, in bounded memory.
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
  voxquarry fingerprint store.zarr --json > dataset_fingerprint.json
  voxquarry infer store.zarr/case01/ct --model net.pt --patch-size 96 --out pred.zarr/case01/seg
  voxquarry components pred.zarr/case01/seg --out pred.zarr/case01/lesions --connectivity 26
  voxquarry view store.zarr/case01 --overlay pred.zarr           # in a browser, offline
  voxquarry report store.zarr report.html                        # sizes, intensities, outliers
  voxquarry preview store.zarr/case01 case01.png
  voxquarry sample store.zarr --count 8 --sampler label         # where patches would lie
  voxquarry bench store.zarr                                    # patches per second on your data
  voxquarry demo                                                # on a built-in phantom

Exit codes: 0 success; 2 wrong arguments; 3 damaged or unsuitable data;
4 the environment (disk, permissions, interrupted).";

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Convert images to a store, once, for fast patches afterwards.
    Ingest(Box<IngestArgs>),
    /// Describe a store, a subject or a volume.
    Info(InfoArgs),
    /// Measure what nnU-Net's planner needs: spacings, sizes, foreground values, labels.
    Fingerprint(FingerprintArgs),
    /// Check a whole store: every index, checksum and chunk.
    Verify(VerifyArgs),
    /// Write a volume to an image file; its extension decides the format.
    Export(ExportArgs),
    /// Run a model over a volume; needs Python with the package.
    #[command(disable_help_flag = true)]
    Infer(PythonArgs),
    /// Join the parts of an inference, or of components, into their volume.
    Finalize(FinalizeArgs),
    /// Number the connected components of a label map, or join ids that were predicted in blocks.
    Components(ComponentsArgs),
    /// Show volumes, overlays and patches in a browser; needs Python with the package.
    #[command(disable_help_flag = true)]
    View(PythonArgs),
    /// Write a page about a data set: sizes, spacings, intensities, labels; needs Python with the
    /// package.
    #[command(disable_help_flag = true)]
    Report(PythonArgs),
    /// Draw three slices with the chunk grid, sampled patches and their coverage.
    Preview(PreviewArgs),
    /// Print where the patches of a sampler lie.
    Sample(SampleArgs),
    /// Measure patches per second on your data.
    Bench(BenchArgs),
    /// Compare layouts on the voxels of a file, with the one that ingest would choose.
    PlanLayout(PlanLayoutArgs),
    /// Run every step once on one image, and measure it.
    Demo(DemoArgs),
    /// Print a script with which a shell completes commands and options.
    Completions(CompletionsArgs),
    /// Write manual pages, one for each command.
    Man(ManArgs),
}

/// The whole command line, for completions and manual pages.
pub(crate) fn command_line() -> clap::Command {
    python::described(Cli::command())
}

/// Arguments that the Python package reads.
#[derive(Args, Debug)]
pub(crate) struct PythonArgs {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    pub(crate) arguments: Vec<OsString>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Run it once, after `voxquarry infer … --part 0/N` to N-1/N. The volume appears in one step, and its
files are those of one process without parts. Running it again does nothing.

Example:
  voxquarry finalize pred.zarr/case01/seg")]
pub(crate) struct FinalizeArgs {
    /// STORE/SUBJECT/VOLUME, the --out of the parts.
    pub(crate) volume: PathBuf,
    /// Remove the unfinished parts instead.
    #[arg(long)]
    pub(crate) discard: bool,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    /// Print nothing but errors.
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Examples:
  voxquarry info store.zarr
  voxquarry info store.zarr/case01/ct --json")]
pub(crate) struct InfoArgs {
    /// STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME.
    pub(crate) path: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Every voxel of the foreground counts, over all subjects; nothing is sampled. The keys of --json are
those of nnU-Net's dataset_fingerprint.json, and subjects, channel_names and labels.

Examples:
  voxquarry fingerprint store.zarr
  voxquarry fingerprint store.zarr --volumes t1,flair --labels seg --json")]
pub(crate) struct FingerprintArgs {
    /// The store.
    pub(crate) store: PathBuf,
    /// The images whose channels are numbered in this order; default: those of the first subject.
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    pub(crate) volumes: Vec<String>,
    /// The label map whose voxels above 0 are the foreground; default: the only one.
    #[arg(long, value_name = "NAME")]
    pub(crate) labels: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Exit codes: 0 no damage; 3 damage was found and is listed; 4 the disk cannot be read.

Example:
  voxquarry verify store.zarr")]
pub(crate) struct VerifyArgs {
    /// The store.
    pub(crate) store: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
The format follows the ending: NIfTI .nii .nii.gz .hdr/.img, NRRD .nrrd .nhdr, MetaImage .mha .mhd,
MGH .mgh .mgz, NumPy .npy. A volume that came from a NIfTI file gets its own header back, byte for
byte, in a NIfTI file. In a new header, channels become the fourth axis. Float16, which only NumPy
has, is written as float32. Only NIfTI holds slope and intercept; other files get real values. NumPy
has no affine. The file appears when it is complete.

Example:
  voxquarry export store.zarr/case01/ct ct-again.nii.gz")]
pub(crate) struct ExportArgs {
    /// STORE/SUBJECT/VOLUME.
    pub(crate) volume: PathBuf,
    /// The image file, whose ending is one of those below.
    pub(crate) out: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Threads that read, and compress a .gz file; default: one for each core. The bytes do not
    /// depend on it.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Of a subject or a volume, three slices in true proportion; only they are read. A label map of the
subject is drawn over them, and below are its names and the values of black and white. Of a store,
one axial slice of each subject, with its name. Thin lines are the borders of chunks. Rectangles are
patches: bright if they intersect the slice, faint if they lie before or behind it. The row below
shows how many of 10,000 patches of a random sampler cover each voxel, as the mean along the view.

Examples:
  voxquarry preview store.zarr/case01 case01.png
  voxquarry preview store.zarr sheet.png --at labels
  voxquarry preview store.zarr/case01/ct ct.png --window lung --at 12,-40.5,88
  voxquarry preview store.zarr/case01/ct ct.png --sampler grid --patch-size 64 --patches 40
  voxquarry preview store.zarr/case01 out.png --sampler label --probabilities 1=2,2=1")]
pub(crate) struct PreviewArgs {
    /// STORE (a contact sheet), STORE/SUBJECT (its first image) or STORE/SUBJECT/VOLUME.
    pub(crate) path: PathBuf,
    /// The picture, a PNG file.
    pub(crate) out: PathBuf,
    /// Replace the file if it exists.
    #[arg(long)]
    pub(crate) overwrite: bool,
    /// Where the slices meet: middle, labels (where most of the subject's first label map is), or a
    /// position x,y,z in the affine's RAS+ space.
    #[arg(long, default_value = "middle", allow_hyphen_values = true, value_name = "PLACE")]
    pub(crate) at: Meeting,
    /// Real values that are black and white: LOW,HIGH, or lung, bone, soft or brain for CT;
    /// default: percentiles of the slices.
    #[arg(
        long,
        allow_hyphen_values = true,
        value_name = "WINDOW",
        value_parser = GreyWindow::from_str
    )]
    pub(crate) window: Option<GreyWindow>,
    /// The patient's right is on the left (radiological) or on the right (neurological).
    #[arg(long, value_enum, default_value_t = Convention::Radiological)]
    pub(crate) convention: Convention,
    /// Most subjects on a contact sheet, evenly chosen.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 60,
        value_parser = clap::value_parser!(u64).range(1..=1000)
    )]
    pub(crate) subjects: u64,
    /// Number of patches to draw.
    #[arg(
        long,
        value_name = "N",
        default_value_t = 12,
        value_parser = clap::value_parser!(u64).range(..=1000)
    )]
    pub(crate) patches: u64,
    /// Size of the patches; default: the size that the volume was ingested for.
    #[arg(long, value_name = "P", value_parser = parse_patch)]
    pub(crate) patch_size: Option<Size3>,
    #[command(flatten)]
    pub(crate) sampler: SamplerArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
A line is the subject, the number of the sample, and its start z, y, x. Equal seeds, epochs,
subjects and numbers give equal patches on every machine.

Examples:
  voxquarry sample store.zarr --count 8 --patch-size 64
  voxquarry sample store.zarr/case01 --sampler label --labels seg --probabilities 1=2,2=1 --json")]
pub(crate) struct SampleArgs {
    /// STORE or STORE/SUBJECT.
    pub(crate) path: PathBuf,
    /// Number of samples from each subject.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub(crate) count: u64,
    /// Number of the first sample.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) first: u64,
    /// Size of the patches; default: the size that the subject was ingested for.
    #[arg(long, value_name = "P", value_parser = parse_patch)]
    pub(crate) patch_size: Option<Size3>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) sampler: SamplerArgs,
}

#[derive(Args, Debug)]
#[command(after_help = "\
For each volume name, patches are drawn uniformly from all subjects that have it, and read into one
buffer for each thread. The first pass reads each patch once, with checksums compared as in
training, from the page cache or the disk; bytes that came from the disk are listed. To measure
the disk alone, empty the page cache before. The warm passes read the same patches again. Decoded
chunks are not cached. Last, a queue delivers batches as in training.

With --against, the queue is compared with loaders of other projects that read the same images from
files, each in a process of its own. The Python package does it, and the loaders' packages are
needed, too.

Examples:
  voxquarry bench store.zarr
  voxquarry bench store.zarr --against monai,torchio --picture gain.svg
  voxquarry bench store.zarr/case01/ct --patch-size 128 --seconds 5 --json")]
pub(crate) struct BenchArgs {
    /// STORE, STORE/SUBJECT or STORE/SUBJECT/VOLUME.
    pub(crate) path: PathBuf,
    /// Size of the patches; default: the size that the volume was ingested for.
    #[arg(long, value_name = "P", value_parser = parse_patch)]
    pub(crate) patch_size: Option<Size3>,
    /// Threads of the last pass and of the queue; default: one for each core.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) threads: Option<u16>,
    /// Seconds for each pass; for each loader, 10 by default.
    #[arg(long, value_name = "S", default_value = "2", value_parser = parse_seconds)]
    pub(crate) seconds: Duration,
    /// Compare with these loaders: monai, torchio, nnunet, nibabel.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) against: Vec<String>,
    /// Subjects that are compared at most, chosen evenly; default: 4.
    #[arg(long, value_name = "N", requires = "against")]
    pub(crate) subjects: Option<usize>,
    /// Draw the comparison into a new .svg file.
    #[arg(long, value_name = "FILE", requires = "against")]
    pub(crate) picture: Option<PathBuf>,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Tries the layout that ingest would choose (*), chunks of half and of twice its extent, and the other
codecs. The chunks that a patch intersects and the voxels that are decoded for each of its voxels
are computed for the whole volume. The ratio and the speed of one thread are measured on a sample
of at most 24 MiB from the middle of the file; air around it would compress better. Writes to a
temporary folder only.

Examples:
  voxquarry plan-layout ct.nii.gz
  voxquarry plan-layout ct.nii.gz --patch-size 96 --patch-size 1,512,512 --codec compact --json")]
pub(crate) struct PlanLayoutArgs {
    /// An image file.
    pub(crate) file: PathBuf,
    /// Size of the patches you will read: one number for a cube, or z,y,x. Repeat it to compare
    /// several sizes.
    #[arg(long, value_name = "P", default_value = "96", value_parser = parse_patch)]
    pub(crate) patch_size: Vec<Size3>,
    /// The codec for which several chunk sizes are tried: fast, compact or none.
    #[arg(long, default_value = "fast", value_parser = Codec::from_str)]
    pub(crate) codec: Codec,
    /// Print the result as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Ingests an image, reads 1,000 random patches, blends sliding-window patches of an identity model,
verifies the store, exports the image, compares the export with the input, and draws a picture.
Replaces the files of an earlier demo in the folder.

Examples:
  voxquarry demo
  voxquarry demo --dir out --image t1.nii.gz --labels tissue.nii.gz --json")]
pub(crate) struct DemoArgs {
    /// Folder for the files of the demo.
    #[arg(long, default_value = "voxquarry-demo")]
    pub(crate) dir: PathBuf,
    /// Image file; default: a built-in phantom.
    #[arg(long)]
    pub(crate) image: Option<PathBuf>,
    /// Label map on the same grid.
    #[arg(long, requires = "image")]
    pub(crate) labels: Option<PathBuf>,
    /// Print the results as JSON at the end.
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Where shells look for such scripts:
  bash        ~/.local/share/bash-completion/completions/voxquarry
  zsh         a folder of $fpath, as _voxquarry
  fish        ~/.config/fish/completions/voxquarry.fish
  powershell  add it to the file $PROFILE
  elvish      add it to ~/.config/elvish/rc.elv

Examples:
  voxquarry completions zsh > ~/.zfunc/_voxquarry
  source <(voxquarry completions bash)                          # for this shell only")]
pub(crate) struct CompletionsArgs {
    /// The shell.
    pub(crate) shell: Shell,
}

#[derive(Args, Debug)]
#[command(after_help = "\
Pages of that name are replaced. Programs look for them in folders man1 of $MANPATH.

Examples:
  voxquarry man ~/.local/share/man/man1
  man voxquarry-ingest")]
pub(crate) struct ManArgs {
    /// The folder, which is made if it is missing.
    pub(crate) folder: PathBuf,
}

/// Parses a patch size: `96` or `24,256,256`.
pub(crate) fn parse_patch(text: &str) -> Result<Size3, String> {
    let numbers: Result<Vec<usize>, _> = text.split(',').map(|n| n.trim().parse()).collect();
    match numbers.as_deref() {
        Ok(&[n]) if n > 0 => Ok([n; 3]),
        Ok(&[z, y, x]) if z > 0 && y > 0 && x > 0 => Ok([z, y, x]),
        _ => Err("expected one number or z,y,x, each at least 1, as in 96 or 24,256,256".into()),
    }
}

/// Parses seconds, more than 0 and at most an hour: `2`, `0.5`.
fn parse_seconds(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected more than 0 and at most 3600 seconds".into()),
    }
}

/// Parses a size in bytes: `1GiB`, `500MB`, `4096`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    voxquarry_ingest::parse_bytes(text).map_err(|e| match e {
        // clap names the option and its value.
        Error::InvalidArgument { expected, .. } => format!("expected {expected}"),
        other => other.to_string(),
    })
}
