//! A contact sheet: one slice of each subject of a data set, with its name.
//!
//! # Invariants
//! - Only the slices are read, one subject at a time.

use voxquarry::format::attributes::Kind;
use voxquarry::{Result, Volume};

use super::legend::LabelColours;
use super::orient;
use super::raster::{Raster, Rect};
use super::slice::{Reduce, SliceImage};
use super::{BACKGROUND, FAINT_TEXT, Panel, Style, TEXT};

/// The side of a picture on the sheet, and the space between two.
const SIDE: usize = 220;
const GAP: usize = 14;
const LINE: usize = 24;
/// Most pictures in a row.
const COLUMNS: usize = 6;

/// What a sheet shows of a subject: an image or a label map, and labels over an image.
pub(crate) struct Tile {
    pub(crate) name: String,
    pub(crate) volume: Volume,
    pub(crate) labels: Option<Volume>,
    /// The style, with the place of this subject.
    pub(crate) style: Style,
}

/// An empty sheet for a number of subjects, with a title.
pub(crate) struct Sheet {
    raster: Raster,
    columns: usize,
    drawn: usize,
}

impl Sheet {
    /// # Errors
    /// [`voxquarry::Error::OutOfMemory`].
    pub(crate) fn new(title: &str, count: usize) -> Result<Self> {
        let columns = count.clamp(1, COLUMNS);
        let rows = count.div_ceil(columns).max(1);
        let title_width = Raster::text_width(title) + 2 * GAP;
        let width = (columns * (SIDE + GAP) + GAP).max(title_width);
        let height = rows * (SIDE + LINE + GAP) + 2 * GAP + LINE;
        let mut raster = Raster::new(width, height, BACKGROUND)?;
        raster.text(GAP, GAP, title, TEXT);
        Ok(Self { raster, columns, drawn: 0 })
    }

    /// Draws the axial slice of the next subject.
    ///
    /// # Errors
    /// Those of reading.
    pub(crate) fn add(&mut self, tile: &Tile) -> Result<()> {
        let (column, row) = (self.drawn % self.columns, self.drawn / self.columns);
        self.drawn += 1;
        let (left, top) = (GAP + column * (SIDE + GAP), 2 * GAP + LINE + row * (SIDE + LINE + GAP));
        let volume = &tile.volume;
        let [view, ..] = orient::views(volume, &tile.style);
        let (size, spacing) = (volume.size(), volume.spacing_mm());
        let extents = [view.up, view.across].map(|axis| size[axis] as f64 * spacing[axis]);
        let scale = SIDE as f64 / extents[0].max(extents[1]);
        let [height, width] = extents.map(|mm| ((mm * scale).round() as usize).clamp(2, SIDE));
        let area =
            Rect { left: left + (SIDE - width) / 2, top: top + (SIDE - height) / 2, width, height };
        let panel = Panel { view: &view, area, size: [size[view.up], size[view.across]] };
        let is_image = volume.kind() == Kind::Image;
        let image = is_image.then(|| SliceImage::read(volume, &view, Reduce::Mean)).transpose()?;
        let window = tile.style.window.of(image.iter().flat_map(SliceImage::values).copied());
        panel.draw_image(&mut self.raster, image.as_ref(), window);
        let labels = if is_image { tile.labels.as_ref() } else { Some(volume) };
        if let Some(labels) = labels {
            let slice = SliceImage::read(labels, &view, Reduce::Pick)?;
            let colours = LabelColours::of(Some(labels));
            panel.draw_labels(&mut self.raster, &slice, is_image, &colours);
        }
        // A name that is too long ends in dots.
        let fitting = SIDE / Raster::text_width("m");
        let name = if tile.name.chars().count() > fitting {
            let begin: String = tile.name.chars().take(fitting - 2).collect();
            format!("{begin}..")
        } else {
            tile.name.clone()
        };
        self.raster.text(left, top + SIDE + 4, &name, FAINT_TEXT);
        Ok(())
    }

    /// The sheet as it is.
    pub(crate) fn finish(self) -> Raster {
        self.raster
    }
}
