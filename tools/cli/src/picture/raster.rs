//! An RGB picture that can be drawn on and written as PNG.

use std::io::{self, Write};
use std::path::Path;

use voxquarry::{Error, IfExists, Result};
use voxquarry_ingest::StagedFile;

use super::font;

pub(super) type Colour = [u8; 3];

/// A box of pixels.
#[derive(Clone, Copy)]
pub(super) struct Rect {
    pub(super) left: usize,
    pub(super) top: usize,
    pub(super) width: usize,
    pub(super) height: usize,
}

/// Pixels, row by row.
pub(crate) struct Raster {
    width: usize,
    pixels: Vec<Colour>,
}

/// Memory of the encoder beside its result.
const ENCODER_BYTES: usize = 1 << 20;

/// Pixels of a dot of a letter, along each side.
const DOT: usize = 2;

impl Raster {
    /// A picture of one colour.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub(super) fn new(width: usize, height: usize, colour: Colour) -> Result<Self> {
        let mut pixels = Vec::new();
        let bytes = size_of::<Colour>() as u64 * width as u64 * height as u64;
        let lacking = |_| Error::OutOfMemory { what: "a picture".to_owned(), bytes };
        pixels.try_reserve_exact(width * height).map_err(lacking)?;
        pixels.resize(width * height, colour);
        Ok(Self { width, pixels })
    }

    pub(super) fn set(&mut self, x: usize, y: usize, colour: Colour) {
        self.pixels[y * self.width + x] = colour;
    }

    pub(super) fn blend(&mut self, x: usize, y: usize, colour: Colour, opacity: f64) {
        let pixel = &mut self.pixels[y * self.width + x];
        for (below, above) in pixel.iter_mut().zip(colour) {
            let mixed = f64::from(*below) * (1.0 - opacity) + f64::from(above) * opacity;
            *below = mixed.round() as u8;
        }
    }

    pub(super) fn fill(&mut self, rect: Rect, colour: Colour) {
        for y in rect.top..rect.top + rect.height {
            self.pixels[y * self.width + rect.left..][..rect.width].fill(colour);
        }
    }

    /// Draws the border of a box, inside the box.
    pub(super) fn outline(&mut self, rect: Rect, thickness: usize, colour: Colour, opacity: f64) {
        let edge = |i: usize, n: usize| i < thickness || i + thickness >= n;
        for y in 0..rect.height {
            for x in 0..rect.width {
                if edge(y, rect.height) || edge(x, rect.width) {
                    self.blend(rect.left + x, rect.top + y, colour, opacity);
                }
            }
        }
    }

    pub(super) fn text_width(text: &str) -> usize {
        text.chars().count() * (font::WIDTH + 1) * DOT
    }

    /// Draws text with a shadow, which keeps it readable on bright voxels. It is cut at the right
    /// edge of the picture.
    pub(super) fn text(&mut self, left: usize, top: usize, text: &str, colour: Colour) {
        for (shift, colour) in [(1, [0; 3]), (0, colour)] {
            for (n, letter) in text.chars().enumerate() {
                for (column, bits) in font::columns(letter).into_iter().enumerate() {
                    for row in (0..font::HEIGHT).filter(|row| bits >> row & 1 == 1) {
                        let x = left + (n * (font::WIDTH + 1) + column) * DOT + shift;
                        self.dot(x, top + row * DOT + shift, colour);
                    }
                }
            }
        }
    }

    fn dot(&mut self, left: usize, top: usize, colour: Colour) {
        for y in top..top + DOT {
            for x in left..(left + DOT).min(self.width) {
                self.set(x, y, colour);
            }
        }
    }

    /// The bytes of a PNG file.
    ///
    /// # Errors
    /// Those of the encoder.
    pub(crate) fn png(&self) -> io::Result<Vec<u8>> {
        let height = self.pixels.len() / self.width;
        let mut bytes = Vec::new();
        // The encoder's own memory cannot be reserved; it is less than this.
        bytes.try_reserve(2 * size_of_val(&*self.pixels) + ENCODER_BYTES)?;
        bytes.shrink_to(0);
        let mut encoder = png::Encoder::new(&mut bytes, self.width as u32, height as u32);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        let encoded = encoder.write_header().and_then(|mut writer| {
            writer.write_image_data(self.pixels.as_flattened())?;
            writer.finish()
        });
        encoded.map_err(io::Error::other)?;
        Ok(bytes)
    }

    /// Writes the picture, which appears whole or not at all.
    ///
    /// # Errors
    /// [`Error::Exists`] as `if_exists` says, [`Error::Io`].
    pub(crate) fn write_png(&self, path: &Path, if_exists: IfExists) -> Result<()> {
        let bytes = self.png().map_err(Error::io(path, "cannot encode"))?;
        let (staged, mut file) = StagedFile::new(path, if_exists)?;
        file.write_all(&bytes).map_err(Error::io(path, "cannot write"))?;
        staged.publish(&file)
    }
}

/// A bright colour for item `n`; hues advance by the golden angle, which keeps neighbours distinct.
pub(super) fn distinct(n: usize) -> Colour {
    hue((n as f64 * 0.618_034 + 0.08).fract(), 0.85, 1.0)
}

/// The colour of a label other than the background.
pub(super) fn label_colour(label: i64) -> Colour {
    hue((label as f64 * 0.381_966 + 0.66).rem_euclid(1.0), 0.75, 0.95)
}

fn hue(hue: f64, saturation: f64, value: f64) -> Colour {
    [5.0, 3.0, 1.0].map(|offset| {
        let k = (offset + hue * 6.0).rem_euclid(6.0);
        let channel = value - value * saturation * k.min(4.0 - k).clamp(0.0, 1.0);
        (channel * 255.0).round() as u8
    })
}
