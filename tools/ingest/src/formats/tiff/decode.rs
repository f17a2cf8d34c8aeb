//! Unpacks the segments of a page into planes.
//!
//! # Invariants
//! - A segment never unpacks to more than its own bytes, whatever its stream says.

use std::io::Read;

use flate2::read::ZlibDecoder;
use voxquarry::Result;
use weezl::BitOrder;
use weezl::LzwStatus;
use weezl::decode::Decoder as LzwDecoder;

use super::ifd::TiffFile;
use super::page::{Compression, Page, PageLayout, Predictor};
use crate::files::resized;
use crate::formats::{pack_bits, voxels};

/// The photometric interpretation of luminance and two colours.
const YCBCR: u64 = 6;
/// More than the tables of a JPEG stream take.
const TABLES_BYTES: u64 = 1 << 20;

/// Unpacks pages of one layout.
pub(super) struct Decoder {
    layout: PageLayout,
    packed: Vec<u8>,
    segment: Vec<u8>,
}

impl Decoder {
    /// A decoder of pages of a layout.
    pub(super) fn new(layout: PageLayout) -> Self {
        Self { layout, packed: Vec::new(), segment: Vec::new() }
    }

    /// Reads a page as `(samples, y, x)`, little endian: sample `i` goes to `planes[i]`.
    ///
    /// # Errors
    /// [`Error::Data`] if it is damaged, [`Error::Io`], [`Error::OutOfMemory`].
    pub(super) fn read(
        &mut self,
        file: &TiffFile,
        page: Page,
        planes: &mut [&mut [u8]],
    ) -> Result<()> {
        let (offsets, counts, tables) = match page {
            Page::At(at) => return self.read_plain(file, at, planes),
            Page::Listed { offsets, counts, tables } => (offsets, counts, tables),
        };
        let tables = match tables {
            Some(entry) => file.bytes_of(entry, TABLES_BYTES)?,
            None => Vec::new(),
        };
        let [across, down] = self.layout.grid();
        let runs = if self.layout.is_planar { self.layout.samples } else { 1 };
        for run in 0..runs {
            for row in 0..down {
                for column in 0..across {
                    let i = ((run * down + row) * across + column) as u64;
                    let (at, count) = (file.number(offsets, i)?, file.number(counts, i)?);
                    let targets = if runs > 1 { &mut planes[run..=run] } else { &mut planes[..] };
                    self.read_segment(file, at, count, [row, column], &tables, targets)?;
                }
            }
        }
        Ok(())
    }

    /// Rows that follow each other from byte `at` on.
    fn read_plain(&mut self, file: &TiffFile, at: u64, planes: &mut [&mut [u8]]) -> Result<()> {
        let (size, bytes) = (self.layout.dtype.size(), self.layout.plane_bytes());
        if let [plane] = planes {
            file.read(at, plane)?;
            swap(file, plane, size);
            return Ok(());
        }
        let rows = resized(&mut self.segment, bytes * planes.len())?;
        file.read(at, rows)?;
        swap(file, rows, size);
        voxels::split_runs(rows, planes, size);
        Ok(())
    }

    fn read_segment(
        &mut self,
        file: &TiffFile,
        at: u64,
        count: u64,
        [row, column]: [usize; 2],
        tables: &[u8],
        planes: &mut [&mut [u8]],
    ) -> Result<()> {
        let layout = self.layout;
        let [width, height] = layout.segment;
        // The last strip has the rows that are left, tiles are always whole.
        let stored =
            if layout.is_tiled { height } else { height.min(layout.height - row * height) };
        let rows = height.min(layout.height - row * height);
        let bytes = layout.row_bytes() * stored;
        let segment = resized(&mut self.segment, bytes)?;
        if count == 0 {
            // Sparse files leave out segments of zeros.
            segment.fill(0);
        } else {
            let packed = packed(file, &mut self.packed, at, count, bytes, &layout)?;
            unpack(&layout, packed, tables, segment).map_err(|reason| {
                file.damaged(format!("the segment at byte {at} is damaged ({reason})"))
            })?;
            order(file, &layout, segment);
        }
        let size = layout.dtype.size();
        let columns = width.min(layout.width - column * width);
        for y in 0..rows {
            let source = &segment[y * layout.row_bytes()..][..layout.row_bytes()];
            let start = ((row * height + y) * layout.width + column * width) * size;
            let targets = planes.iter_mut().map(|plane| &mut plane[start..start + columns * size]);
            if layout.bits == 1 {
                for (sample, target) in targets.enumerate() {
                    for (x, voxel) in target.iter_mut().enumerate() {
                        let bit = x * layout.together() + sample;
                        *voxel = source[bit / 8] >> (7 - bit % 8) & 1;
                    }
                }
                continue;
            }
            let mut targets: Vec<_> = targets.collect();
            let source = &source[..columns * layout.together() * size];
            match &mut targets[..] {
                [target] => target.copy_from_slice(source),
                targets => voxels::split_runs(source, targets, size),
            }
        }
        Ok(())
    }
}

/// Reads the packed bytes of a segment.
fn packed<'a>(
    file: &TiffFile,
    buffer: &'a mut Vec<u8>,
    at: u64,
    count: u64,
    bytes: usize,
    layout: &PageLayout,
) -> Result<&'a [u8]> {
    // What is not compressed may be padded; of what is, nobody makes much more than it was.
    let most = match layout.compression {
        Compression::None => bytes as u64,
        _ => (bytes as u64).saturating_mul(2).saturating_add(1 << 16),
    };
    if count > most && layout.compression != Compression::None {
        return Err(file.damaged(format!("a segment of {bytes} bytes is packed into {count}")));
    }
    let count = count.min(most) as usize;
    let packed = resized(buffer, count)?;
    file.read(at, packed)?;
    Ok(packed)
}

/// Unpacks a segment.
fn unpack(
    layout: &PageLayout,
    packed: &[u8],
    tables: &[u8],
    out: &mut [u8],
) -> std::result::Result<(), String> {
    let short = |found: usize, wanted: usize| format!("{found} of {wanted} bytes");
    match layout.compression {
        Compression::None => match packed.get(..out.len()) {
            Some(whole) => out.copy_from_slice(whole),
            None => return Err(short(packed.len(), out.len())),
        },
        Compression::Deflate => {
            ZlibDecoder::new(packed).read_exact(out).map_err(|error| error.to_string())?;
        }
        Compression::Zstd => {
            let n = zstd_safe::decompress(out, packed)
                .map_err(|code| zstd_safe::get_error_name(code).to_owned())?;
            if n < out.len() {
                return Err(short(n, out.len()));
            }
        }
        Compression::Lzw => {
            let n = lzw(packed, out)?;
            if n < out.len() {
                return Err(short(n, out.len()));
            }
        }
        Compression::PackBits => {
            let n = pack_bits::unpack(packed, out);
            if n < out.len() {
                return Err(short(n, out.len()));
            }
        }
        Compression::Jpeg => jpeg(layout, packed, tables, out)?,
    }
    Ok(())
}

/// Unpacks LZW, also without a code for the end, and returns the bytes.
fn lzw(packed: &[u8], out: &mut [u8]) -> std::result::Result<usize, String> {
    let mut decoder = LzwDecoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let (mut read, mut written) = (0, 0);
    while written < out.len() {
        let step = decoder.decode_bytes(&packed[read..], &mut out[written..]);
        read += step.consumed_in;
        written += step.consumed_out;
        match step.status {
            Ok(LzwStatus::Ok) => {}
            Ok(LzwStatus::Done | LzwStatus::NoProgress) => break,
            Err(error) => return Err(error.to_string()),
        }
    }
    Ok(written)
}

/// Unpacks a JPEG stream, whose tables may be elsewhere.
fn jpeg(
    layout: &PageLayout,
    packed: &[u8],
    tables: &[u8],
    out: &mut [u8],
) -> std::result::Result<(), String> {
    use jpeg_decoder::{ColorTransform, Decoder as JpegDecoder, PixelFormat};
    // Without the mark of the tables' end, and the mark of the stream's start.
    let tables = tables.strip_suffix(b"\xff\xd9").unwrap_or(tables);
    let stream = if tables.is_empty() { packed } else { packed.get(2..).unwrap_or_default() };
    let mut decoder = JpegDecoder::new(tables.chain(stream));
    decoder.set_max_decoding_buffer_size(out.len().saturating_mul(4));
    if layout.together() == 3 {
        let is_coded = layout.photometric == YCBCR;
        let transform = if is_coded { ColorTransform::YCbCr } else { ColorTransform::RGB };
        decoder.set_color_transform(transform);
    }
    decoder.read_info().map_err(|error| error.to_string())?;
    let info = decoder.info().ok_or("no frame")?;
    let samples = match info.pixel_format {
        PixelFormat::L8 => 1,
        PixelFormat::RGB24 => 3,
        PixelFormat::CMYK32 => 4,
        PixelFormat::L16 => return Err("more than 8 bits".to_owned()),
    };
    let rows = out.len() / layout.row_bytes();
    let [width, height] = [usize::from(info.width), usize::from(info.height)];
    if samples != layout.together() || width != layout.segment[0] || height < rows {
        return Err(format!("a frame of {width} × {height} pixels of {samples} samples"));
    }
    let pixels = decoder.decode().map_err(|error| error.to_string())?;
    out.copy_from_slice(pixels.get(..out.len()).ok_or("too few pixels")?);
    Ok(())
}

fn swap(file: &TiffFile, bytes: &mut [u8], size: usize) {
    if file.is_big_endian {
        voxels::swap(bytes, size);
    }
}

/// Undoes the predictor, and makes numbers little endian.
fn order(file: &TiffFile, layout: &PageLayout, segment: &mut [u8]) {
    let size = layout.dtype.size();
    if layout.compression == Compression::Jpeg {
        return;
    }
    if layout.predictor != Predictor::Floats && layout.bits > 1 {
        swap(file, segment, size);
    }
    match layout.predictor {
        Predictor::None => {}
        Predictor::Differences => {
            for row in segment.chunks_exact_mut(layout.row_bytes()) {
                match size {
                    1 => add::<1>(row, layout.together(), |a, b| [a[0].wrapping_add(b[0])]),
                    2 => add::<2>(row, layout.together(), |a, b| {
                        u16::from_le_bytes(a).wrapping_add(u16::from_le_bytes(b)).to_le_bytes()
                    }),
                    4 => add::<4>(row, layout.together(), |a, b| {
                        u32::from_le_bytes(a).wrapping_add(u32::from_le_bytes(b)).to_le_bytes()
                    }),
                    _ => add::<8>(row, layout.together(), |a, b| {
                        u64::from_le_bytes(a).wrapping_add(u64::from_le_bytes(b)).to_le_bytes()
                    }),
                }
            }
        }
        Predictor::Floats => {
            let mut bytes = vec![0; layout.row_bytes()];
            for row in segment.chunks_exact_mut(layout.row_bytes()) {
                add::<1>(row, layout.together(), |a, b| [a[0].wrapping_add(b[0])]);
                let n = row.len() / size;
                for (i, element) in bytes.chunks_exact_mut(size).enumerate() {
                    // The most significant bytes of all come first.
                    for (b, byte) in element.iter_mut().rev().enumerate() {
                        *byte = row[b * n + i];
                    }
                }
                row.copy_from_slice(&bytes);
            }
        }
    }
}

/// Adds to each element the one `samples` before it.
fn add<const N: usize>(row: &mut [u8], samples: usize, sum: impl Fn([u8; N], [u8; N]) -> [u8; N]) {
    let (elements, _) = row.as_chunks_mut::<N>();
    for i in samples..elements.len() {
        elements[i] = sum(elements[i - samples], elements[i]);
    }
}
