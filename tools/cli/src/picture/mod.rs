//! Draws three orthogonal slices of a volume with its labels, chunks and patches as a picture.
//!
//! `style` says what users choose, `orient` finds the views, `slice` reads them, `coverage` counts
//! the patches that cover their voxels, `legend` explains values and labels, and `raster` and
//! `font` draw pixels. This module arranges the parts; `sheet` shows many subjects.
//!
//! # Invariants
//! - Only the slices are read, band by band. Memory is the picture plus one band, whatever the
//!   volume's size.

mod coverage;
mod font;
mod legend;
mod orient;
mod raster;
mod sheet;
mod slice;
mod style;

use std::collections::BTreeSet;

use voxquarry::format::attributes::Kind;
use voxquarry::{Region, Result, Volume};

use coverage::CoverageMap;
use legend::{LabelColours, Legend};
use orient::View;
use raster::{Colour, Rect};
use slice::{Reduce, SliceImage};

pub(crate) use raster::Raster;
pub(crate) use sheet::{Sheet, Tile};
pub(crate) use style::{Convention, GreyWindow, Style};

/// The contents of a picture.
pub(crate) struct Scene<'a> {
    /// The name of the volume, as in `case01/ct`.
    pub(crate) title: String,
    pub(crate) volume: &'a Volume,
    pub(crate) labels: Option<&'a Volume>,
    pub(crate) patches: &'a [Region],
    /// A description of the patches.
    pub(crate) caption: String,
    /// Patches whose coverage is shown in a second row; empty for no such row.
    pub(crate) coverage: &'a [Region],
    pub(crate) style: Style,
}

const BACKGROUND: Colour = [17, 19, 24];
const TEXT: Colour = [226, 230, 238];
const FAINT_TEXT: Colour = [140, 148, 162];
const GRID: Colour = [255, 255, 255];

const MARGIN: usize = 28;
const GAP: usize = 22;
const LINE: usize = 26;
/// The width of all three panels together, and the largest height of one, in pixels.
const PANELS_WIDTH: f64 = 1500.0;
const PANELS_HEIGHT: f64 = 620.0;
/// Smallest extent of a panel, so that flat volumes are visible.
const THINNEST: usize = 12;
/// Smallest distance between grid lines, in pixels.
const CLOSEST_LINES: f64 = 6.0;
/// Voxels larger than this many pixels are drawn as blocks, without interpolation.
const BLOCKS_FROM: f64 = 8.0;

/// Draws the scene.
///
/// # Errors
/// Those of reading the volumes.
pub(crate) fn draw(scene: &Scene<'_>) -> Result<Raster> {
    let volume = scene.volume;
    let size = volume.size();
    let views = orient::views(volume, &scene.style);
    let coverage = views.each_ref().map(|view| CoverageMap::new(scene.coverage, size, view));
    let highest = coverage.iter().map(CoverageMap::highest).fold(0.0, f64::max);
    let slices = Slices::read(scene, &views)?;
    let mut page = Page::new(scene, &views, highest);
    page.legend_height = slices.legend.height(page.width - 2 * MARGIN);
    let mut raster = Raster::new(page.width, page.height(), BACKGROUND)?;
    raster.text(MARGIN, MARGIN, &scene.title, TEXT);

    let step = grid_step(volume, page.pixels_per_mm).map_or([0; 3], |(step, _)| step);
    let mut left = page.left;
    for (i, view) in views.iter().enumerate() {
        let panel =
            Panel { view, area: page.area(i, left), size: [size[view.up], size[view.across]] };
        raster.text(left, MARGIN + LINE + 4, &view.title(size), FAINT_TEXT);
        panel.draw_image(&mut raster, slices.greys.get(i), slices.window);
        if let Some(labels) = slices.labels.get(i) {
            panel.draw_labels(&mut raster, labels, !slices.greys.is_empty(), &slices.colours);
        }
        panel.draw_grid(&mut raster, step);
        for (n, patch) in scene.patches.iter().enumerate() {
            panel.draw_patch(&mut raster, patch, raster::distinct(n));
        }
        panel.draw_directions(&mut raster);
        if !scene.coverage.is_empty() {
            let area = Rect { top: panel.area.top + page.tallest + GAP, ..panel.area };
            let below = Panel { area, ..panel };
            below.draw_coverage(&mut raster, &coverage[i], highest);
        }
        left += page.columns[i] + GAP;
    }
    for (i, line) in page.lines.iter().enumerate() {
        raster.text(MARGIN, page.lines_top() + i * LINE, line, FAINT_TEXT);
    }
    let top = page.lines_top() + page.lines.len() * LINE;
    slices.legend.draw(&mut raster, MARGIN, top, page.width - 2 * MARGIN);
    Ok(raster)
}

/// What the panels show: no greys of a label map, no labels where there are none.
struct Slices {
    greys: Vec<SliceImage>,
    window: [f64; 2],
    labels: Vec<SliceImage>,
    colours: LabelColours,
    legend: Legend,
}

impl Slices {
    fn read(scene: &Scene<'_>, views: &[View; 3]) -> Result<Self> {
        let volume = scene.volume;
        let is_image = volume.kind() == Kind::Image;
        let all = |volume: Option<&Volume>, reduce: Reduce| -> Result<Vec<SliceImage>> {
            let shown = volume.iter().flat_map(|volume| views.iter().map(move |v| (volume, v)));
            shown.map(|(volume, view)| SliceImage::read(volume, view, reduce)).collect()
        };
        let greys = all(Some(volume).filter(|_| is_image), Reduce::Mean)?;
        let window = scene.style.window.of(greys.iter().flat_map(SliceImage::values).copied());
        let label_map = if is_image { scene.labels } else { Some(volume) };
        let labels = all(label_map, Reduce::Pick)?;
        let colours = LabelColours::of(label_map);
        let values = labels.iter().flat_map(SliceImage::values);
        let seen: BTreeSet<i64> =
            values.filter(|v| v.is_finite()).map(|&v| v as i64).filter(|&v| v != 0).collect();
        let legend = Legend::new(is_image.then_some(window), label_map, &seen, &colours);
        Ok(Self { greys, window, labels, colours, legend })
    }
}

/// The sizes of a picture's parts, in pixels.
struct Page {
    pixels_per_mm: f64,
    /// Of each panel.
    widths: [usize; 3],
    heights: [usize; 3],
    tallest: usize,
    /// Space for each panel and its title.
    columns: [usize; 3],
    /// Where the first column begins.
    left: usize,
    width: usize,
    /// Height of the second row of panels, with its gap; 0 without coverage.
    second_row: usize,
    /// The lines of text below the panels, and the height of the legend below them.
    lines: Vec<String>,
    legend_height: usize,
}

impl Page {
    fn new(scene: &Scene<'_>, views: &[View; 3], highest: f64) -> Self {
        let (size, spacing) = (scene.volume.size(), scene.volume.spacing_mm());
        let extent_mm = |axis: usize| size[axis] as f64 * spacing[axis];
        let wide: f64 = views.iter().map(|v| extent_mm(v.across)).sum();
        let tall = views.iter().map(|v| extent_mm(v.up)).fold(0.0, f64::max);
        let pixels_per_mm = (PANELS_WIDTH / wide).min(PANELS_HEIGHT / tall);
        let pixels =
            |axis: usize| ((extent_mm(axis) * pixels_per_mm).round() as usize).max(THINNEST);
        let widths = views.each_ref().map(|v| pixels(v.across));
        let heights = views.each_ref().map(|v| pixels(v.up));
        let tallest = heights.into_iter().max().expect("three views");

        let mut lines = captions(scene, pixels_per_mm);
        lines.extend((!scene.coverage.is_empty()).then(|| coverage_caption(scene, highest)));
        let text_width = lines.iter().map(|l| Raster::text_width(l)).max().unwrap_or(0);
        // A column is as wide as its title, so that the titles of thin panels do not overlap.
        let columns: [usize; 3] =
            [0, 1, 2].map(|i| widths[i].max(Raster::text_width(&views[i].title(size))));
        let columns_width = columns.iter().sum::<usize>() + 2 * GAP;
        let inner = columns_width.max(text_width);
        Self {
            pixels_per_mm,
            widths,
            heights,
            tallest,
            columns,
            left: MARGIN + (inner - columns_width) / 2,
            width: inner + 2 * MARGIN,
            second_row: if scene.coverage.is_empty() { 0 } else { tallest + GAP },
            lines,
            legend_height: 0,
        }
    }

    /// The pixels of panel `i`, whose column begins at `left`.
    fn area(&self, i: usize, left: usize) -> Rect {
        Rect {
            left: left + (self.columns[i] - self.widths[i]) / 2,
            top: MARGIN + 2 * LINE + (self.tallest - self.heights[i]) / 2,
            width: self.widths[i],
            height: self.heights[i],
        }
    }

    /// The top of the first line of text below the panels.
    fn lines_top(&self) -> usize {
        MARGIN + 2 * LINE + self.tallest + GAP + self.second_row
    }

    fn height(&self) -> usize {
        self.lines_top() + self.lines.len() * LINE + self.legend_height + MARGIN - LINE / 2
    }
}

fn coverage_caption(scene: &Scene<'_>, highest: f64) -> String {
    let (n, [z, y, x]) = (scene.coverage.len(), scene.volume.size());
    let voxels = scene.coverage.iter().map(|patch| patch.clip([z, y, x]).len() as f64).sum::<f64>();
    format!(
        "coverage: how many of {n} patches cover a voxel, mean along the view, \
         black 0 to yellow {highest:.0}; mean of all voxels {:.0}",
        voxels / (z as f64 * y as f64 * x as f64)
    )
}

fn captions(scene: &Scene<'_>, pixels_per_mm: f64) -> Vec<String> {
    let volume = scene.volume;
    let times =
        |shape: &[usize]| shape.iter().map(ToString::to_string).collect::<Vec<_>>().join(" x ");
    let [z, y, x] = volume.spacing();
    // The font has ASCII alone.
    let unit = volume.unit().symbol().replace('µ', "u");
    let mut first = format!(
        "{} {}, voxels of {z:.3} x {y:.3} x {x:.3} {unit} (z, y, x)",
        times(&volume.shape()),
        volume.dtype()
    );
    if let Some(n) = volume.channels().filter(|_| slice::colours(volume).is_none()) {
        first = format!("{first}, channel 0 of {n}");
    }
    if let Some(labels) = scene.labels.filter(|_| volume.kind() == Kind::Image) {
        first = format!("{first}, labels: {}", labels.name());
    }
    let grid = match grid_step(volume, pixels_per_mm) {
        Some((step, what)) => format!("lines: {what} of {}", times(&step)),
        None => "no lines: chunks are too small to draw".to_owned(),
    };
    let second = if scene.patches.is_empty() { grid } else { format!("{grid}; {}", scene.caption) };
    vec![first, second]
}

/// The finest grid whose lines can be told apart: that of chunks, or of shards.
fn grid_step(volume: &Volume, pixels_per_mm: f64) -> Option<([usize; 3], &'static str)> {
    let (layout, spacing) = (volume.layout(), volume.spacing_mm());
    [(layout.chunk, "chunks"), (layout.shard, "shards")].into_iter().find(|(step, _)| {
        (0..3).all(|a| {
            step[a] >= layout.size[a]
                || step[a] as f64 * spacing[a] * pixels_per_mm >= CLOSEST_LINES
        })
    })
}

/// One view and its area in the picture.
struct Panel<'a> {
    view: &'a View,
    area: Rect,
    /// Voxels up and across.
    size: [usize; 2],
}

impl Panel<'_> {
    /// The position of a pixel's centre in a slice of `cells`, as `(up, across)`.
    fn place(&self, x: usize, y: usize, cells: [usize; 2]) -> [f64; 2] {
        let up = 1.0 - (y as f64 + 0.5) / self.area.height as f64;
        let across = (x as f64 + 0.5) / self.area.width as f64;
        let flipped = |part: f64, flip: bool| if flip { 1.0 - part } else { part };
        [
            flipped(up, self.view.flip_up) * cells[0] as f64,
            flipped(across, self.view.flip_across) * cells[1] as f64,
        ]
    }

    fn draw_image(&self, raster: &mut Raster, field: Option<&SliceImage>, window: [f64; 2]) {
        let Some(field) = field else {
            return raster.fill(self.area, [0; 3]);
        };
        let cells = field.cells(self.view);
        let pixels_per_voxel = (self.area.height as f64 / self.size[0] as f64)
            .max(self.area.width as f64 / self.size[1] as f64);
        for y in 0..self.area.height {
            for x in 0..self.area.width {
                let at = self.place(x, y, cells);
                let value = if pixels_per_voxel > BLOCKS_FROM {
                    field.nearest(self.view, at)
                } else {
                    field.linear(self.view, at)
                };
                let level = style::grey(value, window);
                raster.set(self.area.left + x, self.area.top + y, [level; 3]);
            }
        }
    }

    /// Draws labels as translucent colour with a contour, or more opaque without an image below.
    fn draw_labels(
        &self,
        raster: &mut Raster,
        field: &SliceImage,
        over_image: bool,
        colours: &LabelColours,
    ) {
        const FILL: f64 = 0.30;
        const CONTOUR: f64 = 0.75;
        let cells = field.cells(self.view);
        let label = |x: usize, y: usize| field.nearest(self.view, self.place(x, y, cells));
        for y in 0..self.area.height {
            for x in 0..self.area.width {
                let here = label(x, y);
                if here == 0.0 || !here.is_finite() {
                    continue;
                }
                let differs = |x: usize, y: usize| label(x, y).to_bits() != here.to_bits();
                let border = (x > 0 && differs(x - 1, y))
                    || (y > 0 && differs(x, y - 1))
                    || (x + 1 < self.area.width && differs(x + 1, y))
                    || (y + 1 < self.area.height && differs(x, y + 1));
                let opacity = match (over_image, border) {
                    (true, false) => FILL,
                    (true, true) => CONTOUR,
                    (false, _) => 0.6,
                };
                let colour = colours.colour(here as i64);
                raster.blend(self.area.left + x, self.area.top + y, colour, opacity);
            }
        }
    }

    fn draw_coverage(&self, raster: &mut Raster, coverage: &CoverageMap, highest: f64) {
        for y in 0..self.area.height {
            for x in 0..self.area.width {
                let value = coverage.at(self.place(x, y, coverage.cells));
                let colour = coverage::colour(value / highest.max(f64::MIN_POSITIVE));
                raster.set(self.area.left + x, self.area.top + y, colour);
            }
        }
    }

    fn draw_grid(&self, raster: &mut Raster, step: [usize; 3]) {
        const OPACITY: f64 = 0.20;
        let inner = |axis: usize, size: usize| {
            (1..).map(move |i| i * step[axis]).take_while(move |&at| step[axis] > 0 && at < size)
        };
        for voxel in inner(self.view.across, self.size[1]) {
            let x = self.area.left + self.column(voxel as f64);
            (0..self.area.height).for_each(|y| raster.blend(x, self.area.top + y, GRID, OPACITY));
        }
        for voxel in inner(self.view.up, self.size[0]) {
            let y = self.area.top + self.row(voxel as f64);
            (0..self.area.width).for_each(|x| raster.blend(self.area.left + x, y, GRID, OPACITY));
        }
    }

    /// The pixel column in the panel of a border between voxels.
    fn column(&self, voxel: f64) -> usize {
        let part = voxel.clamp(0.0, self.size[1] as f64) / self.size[1] as f64;
        let part = if self.view.flip_across { 1.0 - part } else { part };
        ((part * self.area.width as f64).round() as usize).min(self.area.width - 1)
    }

    /// The pixel row in the panel of a border between voxels.
    fn row(&self, voxel: f64) -> usize {
        let part = voxel.clamp(0.0, self.size[0] as f64) / self.size[0] as f64;
        let part = if self.view.flip_up { part } else { 1.0 - part };
        ((part * self.area.height as f64).round() as usize).min(self.area.height - 1)
    }

    fn draw_patch(&self, raster: &mut Raster, patch: &Region, colour: Colour) {
        let View { normal, index, across, up, .. } = *self.view;
        let is_cut = patch.start[normal] <= index as i64 && patch.end(normal) > index as i64;
        let ends = |axis: usize| [patch.start[axis] as f64, patch.end(axis) as f64];
        let mut columns = ends(across).map(|v| self.area.left + self.column(v));
        let mut rows = ends(up).map(|v| self.area.top + self.row(v));
        columns.sort_unstable();
        rows.sort_unstable();
        let rect = Rect {
            left: columns[0],
            top: rows[0],
            width: columns[1] - columns[0] + 1,
            height: rows[1] - rows[0] + 1,
        };
        let (thickness, opacity) = if is_cut { (2, 0.95) } else { (1, 0.5) };
        raster.outline(rect, thickness, colour, opacity);
    }

    fn draw_directions(&self, raster: &mut Raster) {
        const SMALLEST: usize = 60;
        let Rect { left, top, width, height } = self.area;
        if width < SMALLEST || height < SMALLEST {
            return;
        }
        let [west, east, north] = self.view.directions();
        let middle = top + height / 2 - 7;
        raster.text(left + 6, middle, west, TEXT);
        raster.text(left + width - 16, middle, east, TEXT);
        raster.text(left + width / 2 - 5, top + 6, north, TEXT);
    }
}
