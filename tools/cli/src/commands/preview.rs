//! `voxquarry preview`: draws slices of a volume with patches to a PNG.

use std::path::Path;
use std::process::ExitCode;

use voxquarry::format::attributes::Kind;
use voxquarry::{
    Epoch, Error, GridSampler, IfExists, RandomSampler, Region, Result, Size3, Subject,
    UniformSampler, Volume,
};

use super::{StoreItem, ingested_for};
use crate::args::PreviewArgs;
use crate::output::line;
use crate::picture::{self, Scene};

/// Patches of a random sampler whose coverage is shown.
const COVERAGE_PATCHES: u64 = 10_000;

pub(crate) fn run(args: &PreviewArgs) -> Result<ExitCode> {
    if !args.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        return Err(Error::invalid("file", args.out.display(), "a name that ends in .png"));
    }
    let if_exists = if args.overwrite { IfExists::Replace } else { IfExists::Error };
    let (subject, volume) = match StoreItem::open(&args.path)? {
        StoreItem::Subject(subject) => {
            let volume = first_of(&subject, Kind::Image)?.or(first_of(&subject, Kind::Labels)?);
            let none = || Error::metadata(subject.path(), "the subject has no volume");
            let volume = volume.ok_or_else(none)?;
            (subject, volume)
        }
        StoreItem::Volume(subject, volume) => (subject, volume),
        StoreItem::Dataset(dataset) => {
            let first = dataset.subjects().first();
            let example = first.map_or(String::new(), |name| format!(", such as {name:?}"));
            let reason = format!("{} is a whole store", dataset.path().display());
            let remedy = format!("name a subject{example}, as in STORE/SUBJECT");
            return Err(Error::unsupported(reason, remedy));
        }
    };
    let size = args.patch_size.unwrap_or_else(|| ingested_for(&volume));
    let (patches, coverage, caption) = if let Some(sampler) = args.sampler.random(size)? {
        random_patches(&subject, &sampler, args)?
    } else {
        let (patches, caption) = grid_patches(&subject, size, args.patches)?;
        (patches, Vec::new(), caption)
    };
    let (patches, coverage) = (&patches, &coverage);
    draw_to(&subject, &volume, patches, coverage, caption, (&args.out, if_exists))?;
    line(&args.out.display().to_string());
    Ok(ExitCode::SUCCESS)
}

/// Draws a volume and the labels of its subject to a PNG file.
///
/// # Errors
/// Those of reading, [`Error::Exists`] as the file's [`IfExists`] says, and [`Error::Io`].
pub(crate) fn draw_to(
    subject: &Subject,
    volume: &Volume,
    patches: &[Region],
    coverage: &[Region],
    caption: String,
    (out, if_exists): (&Path, IfExists),
) -> Result<()> {
    let labels = first_of(subject, Kind::Labels)?;
    let title = format!("{}/{}", subject.name(), volume.name());
    let scene = Scene { title, volume, labels: labels.as_ref(), patches, caption, coverage };
    picture::draw(&scene)?.write_png(out, if_exists)
}

/// Draws patches uniformly; returns them and a caption.
///
/// # Errors
/// [`Error::PatchTooLarge`].
pub(crate) fn uniform_patches(
    subject: &Subject,
    size: Size3,
    n: u64,
    seed: u64,
) -> Result<(Vec<Region>, String)> {
    let sampler = UniformSampler::new(size)?;
    let locations = sampler.locations(subject, n, Epoch { seed, epoch: 0 }, 0)?;
    let regions = locations.into_iter().map(|location| location.region).collect();
    Ok((regions, format!("{n} patches of {}, uniform, seed {seed}", times(size))))
}

/// Returns the patches to draw, the patches whose coverage is shown, and a caption.
fn random_patches(
    subject: &Subject,
    sampler: &RandomSampler,
    args: &PreviewArgs,
) -> Result<(Vec<Region>, Vec<Region>, String)> {
    // A subject has no space for that many patches that keep a distance.
    let n = args.patches;
    let covering = if n == 0 || args.sampler.min_distance.is_some() { n } else { COVERAGE_PATCHES };
    let locations = sampler.locations(subject, n.max(covering), args.sampler.epoch(), 0)?;
    let coverage: Vec<Region> = locations.into_iter().map(|location| location.region).collect();
    let patches = coverage[..n as usize].to_vec();
    let size = times(sampler.patch_size());
    Ok((patches, coverage, format!("{n} patches of {size}, {}", args.sampler.name())))
}

/// Returns patches of a grid without overlap, at most `n`, evenly chosen; and a caption.
fn grid_patches(subject: &Subject, size: Size3, n: u64) -> Result<(Vec<Region>, String)> {
    let sampler = GridSampler::new(size, 0)?;
    let grid = sampler.grid(subject.size()?)?;
    let n = grid.len().min(n as usize);
    let regions = (0..n).map(|i| Region::new(grid.start(i * grid.len() / n), size)).collect();
    Ok((regions, format!("{n} of {} patches of {}, grid", grid.len(), times(size))))
}

fn times([z, y, x]: Size3) -> String {
    format!("{z} x {y} x {x}")
}

fn first_of(subject: &Subject, kind: Kind) -> Result<Option<Volume>> {
    for name in subject.volumes() {
        let volume = subject.volume(name)?;
        if volume.kind() == kind {
            return Ok(Some(volume));
        }
    }
    Ok(None)
}
