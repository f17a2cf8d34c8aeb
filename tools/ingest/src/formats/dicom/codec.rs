//! Decodes the pixels of a frame with other people's codecs, whose faults stay within a frame.
//!
//! # Invariants
//! - The extents that the codec's own header states are compared with those of the file before it
//!   is asked to decode, and the length of its output before it is copied.
//! - A codec that panics is an error of the frame.

use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use jpeg_decoder::{ColorTransform, Decoder, PixelFormat};
use jpeg2k::{DecodeParameters, Image};

use super::jpegls;
use super::pixel_form::{Photometric, PixelForm, SampleType};
use super::rle;
use super::syntax::{PixelCoding, TransferSyntax};
use crate::formats::voxels;

/// Most tiles of a JPEG 2000 image, each of which takes memory.
const MAX_TILES: u64 = 4096;

/// Whether pixels of this form can be decoded, as far as headers tell.
///
/// # Errors
/// Why not, and the remedy.
pub(super) fn check(
    syntax: TransferSyntax,
    form: &PixelForm,
) -> Result<(), (String, &'static str)> {
    let remedy = "decompress the files first, for example with gdcmconv --raw";
    let is_whole = matches!(form.sample, SampleType::Integer { allocated: 8.., .. });
    match syntax.pixels {
        PixelCoding::Native => Ok(()),
        PixelCoding::Unknown => {
            Err((format!("its pixels are encoded as {}, which is not read", syntax.name), remedy))
        }
        _ if !is_whole => Err((
            format!("its pixels are no integers of 8 bits or more, in {}", syntax.name),
            remedy,
        )),
        PixelCoding::Jpeg | PixelCoding::JpegLs if form.stored_dtype().size() > 2 => {
            Err((format!("its pixels have 32 bits, which {} has not", syntax.name), remedy))
        }
        _ => Ok(()),
    }
}

/// Upper bound of the memory that decoding a frame takes, beside its encoded and decoded bytes.
pub(super) fn working_bytes(syntax: TransferSyntax, form: &PixelForm) -> u64 {
    let samples = form.pixels() as u64 * form.samples as u64;
    match syntax.pixels {
        // Samples of two bytes, coefficients, and the image.
        PixelCoding::Jpeg | PixelCoding::JpegLs => samples * 8 + (1 << 20),
        // Samples of four bytes: coefficients, the tile, the image; and passes of blocks.
        PixelCoding::Jpeg2000 => samples * 16 + (8 << 20),
        _ => 0,
    }
}

/// Decodes a frame into `out`, the samples of each plane together, little endian.
///
/// # Errors
/// What is wrong with the frame.
pub(super) fn decode(
    syntax: TransferSyntax,
    form: &PixelForm,
    encoded: &[u8],
    out: &mut [u8],
) -> Result<(), String> {
    let work = || match syntax.pixels {
        PixelCoding::Rle => rle::decode(encoded, form.stored_dtype().size(), form.samples, out),
        PixelCoding::Jpeg => jpeg(form, encoded, out),
        PixelCoding::JpegLs => jpeg_ls(form, encoded, out),
        PixelCoding::Jpeg2000 => jpeg2000(form, encoded, out),
        _ => unreachable!("`check` refused it"),
    };
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("its decoder panicked".to_owned()))
}

fn jpeg(form: &PixelForm, encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let head = jpeg_head(encoded).ok_or("it is no JPEG image")?;
    if [head.rows, head.columns, head.samples] != [form.rows, form.columns, form.samples] {
        return Err(format!(
            "its JPEG image has {} rows, {} columns and {} samples, expected {}, {} and {}",
            head.rows, head.columns, head.samples, form.rows, form.columns, form.samples
        ));
    }
    if head.bits > 8 && !head.is_lossless {
        return Err(format!(
            "its JPEG image is lossy with {} bits a sample, which is not read: decompress the \
             files first, for example with gdcmconv --raw",
            head.bits
        ));
    }
    let mut decoder = Decoder::new(Cursor::new(encoded));
    decoder.set_max_decoding_buffer_size(out.len().saturating_mul(2));
    if form.photometric == Photometric::Rgb {
        decoder.set_color_transform(ColorTransform::RGB);
    }
    let pixels = decoder.decode().map_err(|error| format!("its JPEG image: {error}"))?;
    let format = decoder.info().ok_or("its JPEG image has no description")?.pixel_format;
    let lengths = (form.pixels(), pixels.len());
    match (format, form.samples, form.stored_dtype().size()) {
        (PixelFormat::L8, 1, 1) if lengths.1 == lengths.0 => out.copy_from_slice(&pixels),
        (PixelFormat::L8, 1, 2) if lengths.1 == lengths.0 => {
            for (place, sample) in out.as_chunks_mut::<2>().0.iter_mut().zip(pixels) {
                *place = [sample, 0];
            }
        }
        (PixelFormat::L16, 1, 2) if lengths.1 == lengths.0 * 2 => {
            for (place, sample) in out.as_chunks_mut().0.iter_mut().zip(pixels.as_chunks().0) {
                *place = u16::from_ne_bytes(*sample).to_le_bytes();
            }
        }
        (PixelFormat::RGB24, 3, 1) if lengths.1 == lengths.0 * 3 => split(&pixels, 1, out),
        _ => return Err("its JPEG image has samples of another size than its header".to_owned()),
    }
    Ok(())
}

/// Splits interleaved samples of `width` bytes into the three planes of `out`.
pub(super) fn split(pixels: &[u8], width: usize, out: &mut [u8]) {
    let plane = out.len() / 3;
    let mut planes: Vec<&mut [u8]> = out.chunks_exact_mut(plane).collect();
    if width == 1 {
        voxels::split(pixels, &mut planes);
        return;
    }
    for (i, sample) in pixels.chunks_exact(width).enumerate() {
        let at = i / 3 * width;
        planes[i % 3][at..at + width].copy_from_slice(sample);
    }
}

/// What the frame header of a JPEG image states.
struct JpegHead {
    rows: usize,
    columns: usize,
    samples: usize,
    bits: u8,
    is_lossless: bool,
}

/// Finds the frame header of a JPEG image.
fn jpeg_head(encoded: &[u8]) -> Option<JpegHead> {
    let mut at = 2;
    if encoded.get(..2) != Some(&[0xff, 0xd8]) {
        return None;
    }
    loop {
        let [0xff, marker] = *encoded.get(at..)?.first_chunk()? else { return None };
        match marker {
            // Fill bytes, and markers without a length.
            0xff => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                let [_, _, bits, a, b, c, d, samples] = *encoded.get(at + 2..)?.first_chunk()?;
                return Some(JpegHead {
                    rows: usize::from(u16::from_be_bytes([a, b])),
                    columns: usize::from(u16::from_be_bytes([c, d])),
                    samples: usize::from(samples),
                    bits,
                    is_lossless: marker == 0xc3,
                });
            }
            0xd9 | 0xda => return None,
            _ => {
                let length = u16::from_be_bytes(*encoded.get(at + 2..)?.first_chunk()?);
                at += 2 + usize::from(length.max(2));
            }
        }
    }
}

fn jpeg_ls(form: &PixelForm, encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    let found = jpegls::extents(encoded).ok_or("it is no JPEG-LS image")?;
    let expected = [form.rows, form.columns, form.samples];
    if found != expected {
        return Err(format!("its JPEG-LS image is {found:?}, expected {expected:?}"));
    }
    jpegls::decode(encoded, form.stored_dtype().size(), out)
}

fn jpeg2000(form: &PixelForm, encoded: &[u8], out: &mut [u8]) -> Result<(), String> {
    check_jpeg2000(form, encoded)?;
    let parameters = DecodeParameters::new().ignore_pclr_cmap_cdef().strict(true);
    let image = Image::from_bytes_with(encoded, parameters)
        .map_err(|error| format!("its JPEG 2000 image: {error}"))?;
    let components = image.components();
    if components.len() != form.samples {
        return Err("its JPEG 2000 image has another number of samples".to_owned());
    }
    for (component, plane) in components.iter().zip(out.chunks_exact_mut(out.len() / form.samples))
    {
        let extents = [component.height() as usize, component.width() as usize];
        if extents != [form.rows, form.columns] || component.data().len() != form.pixels() {
            return Err("its JPEG 2000 image has other extents than its header".to_owned());
        }
        let samples = component.data().iter();
        match form.stored_dtype().size() {
            1 => plane.iter_mut().zip(samples).for_each(|(place, v)| *place = *v as u8),
            2 => {
                let places = plane.as_chunks_mut().0.iter_mut();
                places.zip(samples).for_each(|(place, v)| *place = (*v as u16).to_le_bytes());
            }
            _ => {
                let places = plane.as_chunks_mut().0.iter_mut();
                places.zip(samples).for_each(|(place, v)| *place = v.to_le_bytes());
            }
        }
    }
    Ok(())
}

/// Compares the extents in the first marker segment of a codestream with those expected.
fn check_jpeg2000(form: &PixelForm, encoded: &[u8]) -> Result<(), String> {
    // Within the boxes of a JP2 file it may lie anywhere in the beginning.
    let start = encoded.windows(4).take(4096).position(|mark| mark == [0xff, 0x4f, 0xff, 0x51]);
    let size = start.and_then(|start| encoded.get(start + 4..start + 4 + 38));
    let size = size.ok_or("it is no JPEG 2000 image")?;
    let number = |at: usize| {
        let bytes = [size[at], size[at + 1], size[at + 2], size[at + 3]];
        u64::from(u32::from_be_bytes(bytes))
    };
    // Lsiz, Rsiz, then the reference grid, the image in it, and its tiles.
    let [x, y, x0, y0, tile_x, tile_y, tile_x0, tile_y0] =
        [4, 8, 12, 16, 20, 24, 28, 32].map(number);
    let samples = usize::from(u16::from_be_bytes([size[36], size[37]]));
    let extents = (y.saturating_sub(y0), x.saturating_sub(x0), samples);
    if extents != (form.rows as u64, form.columns as u64, form.samples) {
        return Err(format!(
            "its JPEG 2000 image has {} rows, {} columns and {} samples, expected {}, {} and {}",
            extents.0, extents.1, extents.2, form.rows, form.columns, form.samples
        ));
    }
    let tiles = |end: u64, first: u64, step: u64| {
        if step == 0 { u64::MAX } else { end.saturating_sub(first).div_ceil(step) }
    };
    if tiles(x, tile_x0, tile_x).saturating_mul(tiles(y, tile_y0, tile_y)) > MAX_TILES {
        return Err(format!("its JPEG 2000 image has more than {MAX_TILES} tiles"));
    }
    Ok(())
}
