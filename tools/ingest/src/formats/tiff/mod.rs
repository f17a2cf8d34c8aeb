//! Reads TIFF and BigTIFF: stacks of pages in one file, ImageJ's hyperstacks, OME-TIFF of one or
//! several files.
//!
//! Pages become planes. Samples of a pixel, such as RGB, and channels with pages of their own
//! become channels. Values are those that are stored, also where 0 means white.
//!
//! `ifd` finds the pages of a file, `page` interprets one, `stack` says which plane a page is,
//! `decode` unpacks it.
//!
//! # Invariants
//! - No other file is read, but those beside the file that OME-XML names.
//!
//! Not here: pyramids and thumbnails, whose pages are left out.

// The names of programs are no code.
#![allow(clippy::doc_markdown)]

mod decode;
mod ifd;
mod page;
mod stack;
mod write;

use std::ops::Range;
use std::path::{Path, PathBuf};

use serde_json::json;
use voxquarry::{Dtype, Error, IfExists, Result};

use super::export_spec::ExportSpec;
use super::format::{
    ExportFormat, Format, FoundVolume, OpenedVolume, Place, VolumeExport, alone, only_one,
};
use super::slabs::{self, PlaneShape, PlaneSource};
use super::stated::Stated;
use crate::source::{SourceVolume, VoxelStream, metadata};
use decode::Decoder;
use ifd::{TiffFile, tag};
use page::{Page, PageLayout};
use stack::{PageOf, Stack};
use write::StackWriter;

/// A reduced image, in the tag that says what a page is for.
const REDUCED: u64 = 1;
/// The photometric interpretation of pixels that are numbers of colours.
const PALETTE: u64 = 3;

/// TIFF.
pub(super) struct Tiff;

impl Format for Tiff {
    fn name(&self) -> &'static str {
        "TIFF"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".tif", ".tiff", ".ome.tif", ".ome.tiff", ".btf", ".ome.btf"]
    }

    fn recognises(&self, _path: &Path, head: &[u8]) -> bool {
        ifd::form(head).is_some()
    }

    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        let file = TiffFile::open(path)?;
        let names = images(&file)?;
        if names.len() < 2 {
            return Ok(vec![alone(path)]);
        }
        let member = |(i, name)| FoundVolume {
            name: Some(name),
            kind: None,
            place: Place::Member { path: path.to_owned(), member: i },
        };
        Ok((0..).map(|i: usize| i.to_string()).zip(names).map(member).collect())
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        let path = place.path();
        let image = match place {
            Place::Member { member, .. } => member.parse().map_err(|_| {
                let expected = "the number of an image of its OME-XML";
                Error::invalid("source", format!("{}::{member}", path.display()), expected)
            })?,
            Place::File(_) => {
                let file = TiffFile::open(path)?;
                let count = images(&file)?.len();
                if count > 1 {
                    only_one(path, (0..count).map(|i| i.to_string()).collect())?;
                }
                0
            }
        };
        Ok(Box::new(OpenedStack::new(path, image, stated)?))
    }

    fn digested_files(&self, _place: &Place) -> Result<Option<Vec<PathBuf>>> {
        Ok(None)
    }

    fn export(&self) -> Option<&dyn ExportFormat> {
        Some(self)
    }
}

impl ExportFormat for Tiff {
    fn keeps_scaling(&self) -> bool {
        false
    }

    fn stored_dtype(&self, dtype: Dtype) -> Dtype {
        // OME-TIFF has no float16.
        if dtype == Dtype::Float16 { Dtype::Float32 } else { dtype }
    }

    fn create(
        &self,
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        _threads: usize,
    ) -> Result<Box<dyn VolumeExport>> {
        Ok(Box::new(StackWriter::create(out, spec, if_exists)?))
    }
}

/// The names of the images of a file that OME-XML describes; none for other files.
fn images(file: &TiffFile) -> Result<Vec<String>> {
    let first = file.directory(file.first_page()?)?;
    let text = first.description(file)?;
    match stack::ome_document(&text) {
        None => Ok(Vec::new()),
        Some(document) => Ok(stack::ome_images(&document.map_err(|reason| file.damaged(reason))?)),
    }
}

/// A file, and its pages of one layout.
#[allow(clippy::struct_field_names)]
struct Pages {
    file: TiffFile,
    layout: PageLayout,
    pages: Vec<Page>,
    description: String,
    /// Pixels per unit along x and y.
    resolution: Option<[f64; 2]>,
    /// Pages of another size, or reduced ones.
    left_out: usize,
}

impl Pages {
    fn of(path: &Path) -> Result<Self> {
        let file = TiffFile::open(path)?;
        let chain = file.chain()?;
        let first = file.directory(chain[0])?;
        let layout = PageLayout::of(&file, &first)?;
        let (mut pages, mut left_out) = (Vec::with_capacity(chain.len()), 0);
        for at in chain {
            let page = file.directory(at)?;
            let is_reduced = page.number(&file, tag::SUBFILE, 0)? & REDUCED != 0;
            if is_reduced || PageLayout::of(&file, &page).ok().as_ref() != Some(&layout) {
                left_out += 1;
                continue;
            }
            pages.push(Page::of(&file, &page, &layout)?);
        }
        if pages.is_empty() {
            return Err(file.damaged("it has reduced images alone"));
        }
        let fraction = |tag| first.get(tag).and_then(|entry| file.fraction(entry));
        let resolution = fraction(tag::X_RESOLUTION).zip(fraction(tag::Y_RESOLUTION));
        let description = first.description(&file)?;
        let resolution = resolution.map(|(x, y)| [x, y]);
        Ok(Self { file, layout, pages, description, resolution, left_out })
    }

    /// Adds pages without a directory: a file beyond 4 GiB has one for the first alone.
    fn extend(&mut self, wanted: usize) -> Result<()> {
        let [Page::Listed { offsets, .. }] = self.pages[..] else { return Ok(()) };
        if wanted <= 1 || !self.layout.is_plain() {
            return Ok(());
        }
        let bytes = (self.layout.plane_bytes() as u64).saturating_mul(self.layout.samples as u64);
        let first = self.file.number(offsets, 0)?;
        if bytes.saturating_mul(wanted as u64).saturating_add(first) > self.file.bytes {
            return Ok(());
        }
        self.pages = (0..wanted as u64).map(|i| Page::At(first + i * bytes)).collect();
        Ok(())
    }
}

/// A stack whose pages were found.
struct OpenedStack {
    pages: Pages,
    /// The pages, for each channel, for each z.
    order: Vec<PageOf>,
    volume: SourceVolume,
    notes: Vec<String>,
}

impl OpenedStack {
    fn new(path: &Path, image: usize, stated: &Stated) -> Result<Self> {
        let mut pages = Pages::of(path)?;
        let samples = pages.layout.samples;
        let Stack { channels, depth, pages: order, affine, mut notes } = describe(&pages, image)?;
        let own = order.iter().filter(|(file, _)| file.is_none()).map(|(_, page)| page + 1).max();
        pages.extend(own.unwrap_or(0))?;
        if let Some(own) = own.filter(|&own| own > pages.pages.len()) {
            let found = pages.pages.len();
            let reason = format!("its description states {own} pages, it has {found}");
            return Err(pages.file.damaged(format!("{reason}: copy or export it again")));
        }
        if pages.left_out > 0 {
            notes.push(format!("{} pages of another size are left out", pages.left_out));
        }
        if pages.layout.photometric == PALETTE {
            notes.push("its pixels are numbers of colours, which are kept as they are".to_owned());
        }
        let (affine, unit) = stated.geometry(affine, &mut notes);
        let all = channels.map_or((samples > 1).then_some(samples), |n| Some(n * samples));
        let origin = [("format", json!("tiff"))];
        let volume = SourceVolume {
            size: [depth, pages.layout.height, pages.layout.width],
            channels: all,
            interleaved: samples,
            dtype: pages.layout.dtype,
            affine,
            unit,
            slope: 1.0,
            intercept: 0.0,
            origin: metadata(origin),
        };
        Ok(Self { pages, order, volume, notes })
    }
}

/// The stack that a file's description describes, or that its pages are.
fn describe(pages: &Pages, image: usize) -> Result<Stack> {
    let (text, samples) = (&pages.description, pages.layout.samples);
    let located = |reason: String| pages.file.damaged(reason);
    if let Some(document) = stack::ome_document(text) {
        let document = document.map_err(located)?;
        return stack::ome(&document, image, samples).map_err(located);
    }
    let described = stack::imagej(text, pages.resolution, pages.pages.len());
    match described.or_else(|| stack::shaped(text, samples)) {
        Some(stack) => stack.map_err(located),
        None => Ok(stack::bare(pages.pages.len())),
    }
}

impl OpenedVolume for OpenedStack {
    fn volume(&self) -> &SourceVolume {
        &self.volume
    }

    fn working_bytes(&self, _steps: usize) -> u64 {
        self.pages.layout.working_bytes()
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let volume = self.volume.clone();
        let source = TiffPlanes {
            depth: volume.size[0],
            decoder: Decoder::new(self.pages.layout),
            main: self.pages,
            order: self.order,
            beside: None,
        };
        Ok(slabs::stream(source, &volume, 1))
    }
}

/// The planes of a stack.
struct TiffPlanes {
    main: Pages,
    /// The file beside it that was read last.
    beside: Option<(String, Pages)>,
    order: Vec<PageOf>,
    depth: usize,
    decoder: Decoder,
}

impl PlaneSource for TiffPlanes {
    fn read(&mut self, group: usize, z: Range<usize>, out: &mut [u8]) -> Result<()> {
        let (steps, samples) = (z.len(), self.main.layout.samples);
        let plane = out.len() / steps / samples;
        for (i, z) in z.enumerate() {
            let (file, page) = self.order[group * self.depth + z].clone();
            let channels = out.chunks_exact_mut(steps * plane);
            let mut planes: Vec<_> =
                channels.map(|channel| &mut channel[i * plane..][..plane]).collect();
            let pages = match file {
                None => &self.main,
                Some(name) => beside(&mut self.beside, &self.main, name)?,
            };
            let page = pages.pages.get(page).copied().ok_or_else(|| {
                pages.file.damaged(format!("OME-XML names its page {page}, which it does not have"))
            })?;
            self.decoder.read(&pages.file, page, &mut planes)?;
        }
        Ok(())
    }
}

/// A file of one page, for folders of planes.
pub(super) struct TiffPlane(Pages);

impl TiffPlane {
    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::Data`] if it has several pages, and those of TIFF files.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let pages = Pages::of(path)?;
        match pages.pages.len() {
            1 => Ok(Self(pages)),
            n => Err(pages
                .file
                .damaged(format!("it has {n} pages: expected one plane in each file"))),
        }
    }

    pub(super) fn shape(&self) -> PlaneShape {
        let PageLayout { width, height, samples, dtype, .. } = self.0.layout;
        PlaneShape { size: [height, width], samples, dtype }
    }

    pub(super) fn working_bytes(&self) -> u64 {
        self.0.layout.working_bytes()
    }

    /// Reads the page: sample `i` goes to `planes[i]`.
    ///
    /// # Errors
    /// As [`Decoder::read`].
    pub(super) fn read(self, planes: &mut [&mut [u8]]) -> Result<()> {
        Decoder::new(self.0.layout).read(&self.0.file, self.0.pages[0], planes)
    }
}

/// The pages of the file of that name beside the main one.
fn beside<'a>(
    kept: &'a mut Option<(String, Pages)>,
    main: &'a Pages,
    name: String,
) -> Result<&'a Pages> {
    let path = main.file.path.with_file_name(&name);
    if path == main.file.path {
        return Ok(main);
    }
    if kept.as_ref().is_none_or(|(known, _)| *known != name) {
        let pages = Pages::of(&path)?;
        if pages.layout != main.layout {
            return Err(pages.file.damaged("its pages are unlike those of the other files"));
        }
        *kept = Some((name, pages));
    }
    Ok(&kept.as_ref().expect("set above").1)
}
