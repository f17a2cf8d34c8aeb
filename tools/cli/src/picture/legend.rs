//! The legend below the panels: a bar from black to white with its values, and the names and
//! colours of the labels that the slices show.

use std::collections::{BTreeMap, BTreeSet};

use voxquarry::Volume;

use super::raster::{self, Colour, Raster, Rect};
use super::{FAINT_TEXT, TEXT};

const LINE: usize = 26;
const SWATCH: usize = 14;
const BAR_WIDTH: usize = 256;
const SPACE: usize = 10;
/// More labels are counted, not listed.
const MOST_LABELS: usize = 48;

/// What the legend says.
pub(super) struct Legend {
    /// The values that are black and white, for images.
    window: Option<[f64; 2]>,
    labels: Vec<(String, Colour)>,
    /// Labels that are shown and not listed.
    more: usize,
}

/// The colours of a label map: its own where it has some.
pub(super) struct LabelColours(BTreeMap<i64, Colour>);

impl LabelColours {
    pub(super) fn of(labels: Option<&Volume>) -> Self {
        let named = labels.map_or(&[][..], Volume::labels).iter();
        // Names of several labels are regions, whose labels have colours of their own.
        let mut colours = BTreeMap::new();
        for name in named.filter(|name| name.ids.len() == 1) {
            if let Some(colour) = name.color.as_deref().and_then(parse_colour) {
                colours.insert(name.ids[0], colour);
            }
        }
        Self(colours)
    }

    /// The colour of a label other than the background.
    pub(super) fn colour(&self, label: i64) -> Colour {
        self.0.get(&label).copied().unwrap_or_else(|| raster::label_colour(label))
    }
}

fn parse_colour(text: &str) -> Option<Colour> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6 && digits.is_ascii())?;
    let part = |i: usize| u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok();
    Some([part(0)?, part(1)?, part(2)?])
}

impl Legend {
    /// A legend of the labels that were seen in slices of `volume`.
    pub(super) fn new(
        window: Option<[f64; 2]>,
        volume: Option<&Volume>,
        seen: &BTreeSet<i64>,
        colours: &LabelColours,
    ) -> Self {
        let named = volume.map_or(&[][..], Volume::labels);
        let name = |label: i64| {
            let of_label = named.iter().filter(|name| name.ids.contains(&label));
            let narrowest = of_label.min_by_key(|name| name.ids.len());
            narrowest.map_or(format!("{label}"), |name| format!("{label} {}", name.name))
        };
        let listed = seen.iter().take(MOST_LABELS);
        let labels = listed.map(|&label| (name(label), colours.colour(label))).collect();
        Self { window, labels, more: seen.len().saturating_sub(MOST_LABELS) }
    }

    /// The height in a picture of that inner width.
    pub(super) fn height(&self, width: usize) -> usize {
        let rows = self.places(width).last().map_or(0, |&(_, row)| row + 1);
        (rows + usize::from(self.window.is_some())) * LINE
    }

    pub(super) fn draw(&self, raster: &mut Raster, left: usize, mut top: usize, width: usize) {
        if let Some([low, high]) = self.window {
            let ends = [low, high].map(number);
            raster.text(left, top, &ends[0], FAINT_TEXT);
            let bar = left + Raster::text_width(&ends[0]) + SPACE;
            for x in 0..BAR_WIDTH {
                let area = Rect { left: bar + x, top, width: 1, height: SWATCH };
                raster.fill(area, [x as u8; 3]);
            }
            let area = Rect { left: bar, top, width: BAR_WIDTH, height: SWATCH };
            raster.outline(area, 1, FAINT_TEXT, 1.0);
            raster.text(bar + BAR_WIDTH + SPACE, top, &ends[1], FAINT_TEXT);
            top += LINE;
        }
        for ((text, colour), (x, row)) in self.entries().into_iter().zip(self.places(width)) {
            let top = top + row * LINE;
            if let Some(colour) = colour {
                let area = Rect { left: left + x, top, width: SWATCH, height: SWATCH };
                raster.fill(area, colour);
            }
            raster.text(left + x + SWATCH + SPACE, top, &text, TEXT);
        }
    }

    fn entries(&self) -> Vec<(String, Option<Colour>)> {
        let labels = self.labels.iter().map(|(text, colour)| (text.clone(), Some(*colour)));
        let more = (self.more > 0).then(|| (format!("and {} more", self.more), None));
        labels.chain(more).collect()
    }

    /// The column and the row of each entry, in rows of at most `width` pixels.
    fn places(&self, width: usize) -> Vec<(usize, usize)> {
        let (mut x, mut row) = (0, 0);
        let mut places = Vec::new();
        for (text, _) in self.entries() {
            let wide = SWATCH + SPACE + Raster::text_width(&text);
            if x > 0 && x + wide > width {
                (x, row) = (0, row + 1);
            }
            places.push((x, row));
            x += wide + 2 * SPACE;
        }
        places
    }
}

/// A value in at most a few characters.
fn number(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.2e}");
    }
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_wrap_and_colours_are_read() {
        let colours = LabelColours(BTreeMap::from([(2, [1, 2, 3])]));
        let seen: BTreeSet<i64> = (1..60).collect();
        let legend = Legend::new(Some([0.0, 1.0]), None, &seen, &colours);
        let places = legend.places(400);
        assert_eq!((places.len(), legend.more), (MOST_LABELS + 1, 11));
        let texts = legend.entries();
        for (&(x, _), (text, _)) in places.iter().zip(&texts) {
            assert!(x + SWATCH + SPACE + Raster::text_width(text) <= 400);
        }
        assert_eq!(legend.height(400), (places.last().unwrap().1 + 2) * LINE);
        assert_eq!((texts[1].0.as_str(), texts[1].1), ("2", Some([1, 2, 3])));
        assert_eq!(parse_colour("#0a10ff"), Some([10, 16, 255]));
        for text in ["0a10ff", "#0a10f", "#0a10fg", "#é0a10", "#+a10ff0"] {
            assert_eq!(parse_colour(text), None, "{text}");
        }
    }

    #[test]
    fn numbers_are_short() {
        let found = [0.0, -160.0, 0.25, 1e-9, 1_234_567.0, 3.0004].map(number);
        assert_eq!(found, ["0", "-160", "0.25", "1.00e-9", "1.23e6", "3"]);
    }
}
