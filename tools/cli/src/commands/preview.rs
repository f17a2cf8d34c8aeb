//! `voxquarry preview`: draws slices of a volume with patches to a PNG, or a slice of each subject.

use std::path::Path;

use voxquarry::format::attributes::Kind;
use voxquarry::{
    Dataset, Epoch, Error, GridSampler, IfExists, RandomSampler, Region, Result, Size3, Subject,
    UniformSampler, Volume,
};

use super::{StoreItem, ingested_for};
use crate::SUCCESS;
use crate::args::PreviewArgs;
use crate::output::line;
use crate::picture::{self, Scene, Sheet, Style, Tile};

/// Patches of a random sampler whose coverage is shown.
const COVERAGE_PATCHES: u64 = 10_000;

pub(crate) fn run(args: &PreviewArgs) -> Result<u8> {
    if !args.out.extension().is_some_and(|e| e.eq_ignore_ascii_case("png")) {
        return Err(Error::invalid("file", args.out.display(), "a name that ends in .png"));
    }
    let if_exists = if args.overwrite { IfExists::Replace } else { IfExists::Error };
    let (subject, volume) = match StoreItem::open(&args.path)? {
        StoreItem::Subject(subject) => {
            let volume = first_shown(&subject)?;
            (subject, volume)
        }
        StoreItem::Volume(subject, volume) => (subject, volume),
        StoreItem::Dataset(dataset) => {
            contact_sheet(&dataset, args)?.write_png(&args.out, if_exists)?;
            line(&args.out.display().to_string());
            return Ok(SUCCESS);
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
    let style = style_of(args, &subject, &volume)?;
    draw_to(&subject, &volume, patches, coverage, (caption, style), (&args.out, if_exists))?;
    line(&args.out.display().to_string());
    Ok(SUCCESS)
}

/// The place and look that the arguments ask for, of one subject.
///
/// # Errors
/// A position outside of the volume; those of reading labels.
fn style_of(args: &PreviewArgs, subject: &Subject, volume: &Volume) -> Result<Style> {
    let at = args.at.voxel(subject, volume)?;
    Ok(Style { at, window: args.window.unwrap_or_default(), convention: args.convention })
}

/// The image of a subject that is drawn, or its label map if it has no image.
fn first_shown(subject: &Subject) -> Result<Volume> {
    let volume = first_of(subject, Kind::Image)?.or(first_of(subject, Kind::Labels)?);
    volume.ok_or_else(|| Error::metadata(subject.path(), "the subject has no volume"))
}

/// Draws one slice of each subject, or of as many as are asked for, evenly chosen.
fn contact_sheet(dataset: &Dataset, args: &PreviewArgs) -> Result<picture::Raster> {
    let names = dataset.subjects();
    if names.is_empty() {
        let reason = format!("{} has no subject", dataset.path().display());
        return Err(Error::unsupported(reason, "ingest one"));
    }
    let shown = names.len().min(args.subjects as usize);
    let which = if shown < names.len() { format!("{shown} of ") } else { String::new() };
    let store = dataset.path().file_name().unwrap_or_default().to_string_lossy();
    let title = format!("{store}: {which}{} subjects", names.len());
    let mut sheet = Sheet::new(&title, shown)?;
    for i in 0..shown {
        let subject = dataset.subject(&names[i * names.len() / shown])?;
        let volume = first_shown(&subject)?;
        sheet.add(&Tile {
            name: subject.name().to_owned(),
            labels: first_of(&subject, Kind::Labels)?,
            style: style_of(args, &subject, &volume)?,
            volume,
        })?;
    }
    Ok(sheet.finish())
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
    (caption, style): (String, Style),
    (out, if_exists): (&Path, IfExists),
) -> Result<()> {
    let labels = first_of(subject, Kind::Labels)?;
    let title = format!("{}/{}", subject.name(), volume.name());
    let scene = Scene { title, volume, labels: labels.as_ref(), patches, caption, coverage, style };
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

/// The first label map of a subject.
pub(super) fn first_labels(subject: &Subject) -> Result<Option<Volume>> {
    first_of(subject, Kind::Labels)
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
