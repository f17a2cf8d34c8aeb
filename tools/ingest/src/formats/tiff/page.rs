//! What a page's voxels are like, and how they are stored.

use voxquarry::{Dtype, Error, Result};

use super::ifd::{Directory, Entry, TiffFile, tag};

/// How the bytes of a segment are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Lzw,
    Deflate,
    Zstd,
    PackBits,
    Jpeg,
}

/// What is undone after unpacking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    None,
    /// Differences of neighbours in a row.
    Differences,
    /// Differences of the bytes of floats, most significant bytes first.
    Floats,
}

/// What all pages of a volume have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageLayout {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) samples: usize,
    pub(super) dtype: Dtype,
    /// 1 for masks of bits, which become bytes of 0 and 1.
    pub(super) bits: usize,
    pub(super) compression: Compression,
    pub(super) predictor: Predictor,
    /// Whether each sample has segments of its own.
    pub(super) is_planar: bool,
    pub(super) photometric: u64,
    /// Width and height of a segment: a tile, or a strip.
    pub(super) segment: [usize; 2],
    pub(super) is_tiled: bool,
}

/// A page, and where its segments are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Page {
    /// Lists of offsets and bytes of its segments; the tables of its JPEG streams.
    Listed { offsets: Entry, counts: Entry, tables: Option<Entry> },
    /// All rows follow each other from this byte on.
    At(u64),
}

impl PageLayout {
    /// The layout of a page.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for what is not read, with its name; [`Error::Data`].
    pub(super) fn of(file: &TiffFile, page: &Directory) -> Result<Self> {
        let number = |tag, default| page.number(file, tag, default);
        let extent = |name: &str, n: u64| {
            usize::try_from(n).ok().filter(|&n| n > 0 && i32::try_from(n).is_ok()).ok_or_else(
                || file.damaged(format!("its {name} is {n}: expected at least one pixel")),
            )
        };
        let width = extent("width", number(tag::WIDTH, 0)?)?;
        let height = extent("height", number(tag::HEIGHT, 0)?)?;
        let samples = extent("number of samples", number(tag::SAMPLES, 1)?)?;
        if samples > 1024 {
            return Err(file.damaged(format!("its pixels have {samples} samples")));
        }
        let compression = compression(file, number(tag::COMPRESSION, 1)?)?;
        if number(tag::FILL_ORDER, 1)? != 1 || number(tag::IMAGE_DEPTH, 1)? != 1 {
            return Err(unsupported(file, "its bits are reversed, or its tiles have a depth"));
        }
        let (dtype, bits) = element(file, page, samples)?;
        let predictor = match number(tag::PREDICTOR, 1)? {
            1 => Predictor::None,
            2 if bits > 1 => Predictor::Differences,
            3 if matches!(dtype, Dtype::Float16 | Dtype::Float32 | Dtype::Float64) => {
                Predictor::Floats
            }
            other => return Err(unsupported(file, &format!("its predictor is {other}"))),
        };
        let is_tiled = page.get(tag::TILE_WIDTH).is_some();
        let segment = if is_tiled {
            let wide = extent("width of tiles", number(tag::TILE_WIDTH, 0)?)?;
            [wide, extent("height of tiles", number(tag::TILE_HEIGHT, 0)?)?]
        } else {
            let rows = number(tag::ROWS_PER_STRIP, u64::from(u32::MAX))?.min(height as u64);
            [width, extent("number of rows in a strip", rows)?]
        };
        Ok(Self {
            width,
            height,
            samples,
            dtype,
            bits,
            compression,
            predictor,
            is_planar: samples > 1 && number(tag::PLANAR, 1)? == 2,
            photometric: number(tag::PHOTOMETRIC, 1)?,
            segment,
            is_tiled,
        })
    }

    /// Samples at each pixel of a segment.
    pub(super) fn together(&self) -> usize {
        if self.is_planar { 1 } else { self.samples }
    }

    /// Bytes of a row of a segment, unpacked.
    pub(super) fn row_bytes(&self) -> usize {
        let elements = self.segment[0].saturating_mul(self.together());
        if self.bits == 1 {
            elements.div_ceil(8)
        } else {
            elements.saturating_mul(self.dtype.size())
        }
    }

    /// Bytes of a whole segment, unpacked.
    pub(super) fn segment_bytes(&self) -> usize {
        self.row_bytes().saturating_mul(self.segment[1])
    }

    /// Upper bound of the memory that unpacking takes.
    pub(super) fn working_bytes(&self) -> u64 {
        // A segment, its packed bytes, and what a decoder of JPEG takes.
        (self.segment_bytes() as u64).saturating_mul(5).saturating_add(1 << 20)
    }

    /// Segments along x and y.
    pub(super) fn grid(&self) -> [usize; 2] {
        [self.width.div_ceil(self.segment[0]), self.height.div_ceil(self.segment[1])]
    }

    /// Bytes of one sample of a page.
    pub(super) fn plane_bytes(&self) -> usize {
        self.width.saturating_mul(self.height).saturating_mul(self.dtype.size())
    }

    /// Whether a page is one run of bytes, so that pages without a directory may follow.
    pub(super) fn is_plain(&self) -> bool {
        self.compression == Compression::None
            && !self.is_tiled
            && self.bits > 1
            && self.predictor == Predictor::None
            && self.together() == self.samples
    }
}

impl Page {
    /// The lists of a page's segments.
    ///
    /// # Errors
    /// [`Error::Data`] if they are missing, or have fewer entries than the page has segments.
    pub(super) fn of(file: &TiffFile, page: &Directory, layout: &PageLayout) -> Result<Self> {
        let lists = if layout.is_tiled {
            [tag::TILE_OFFSETS, tag::TILE_COUNTS]
        } else {
            [tag::STRIP_OFFSETS, tag::STRIP_COUNTS]
        };
        let [Some(offsets), Some(counts)] = lists.map(|tag| page.get(tag)) else {
            return Err(file.damaged("a page does not say where its voxels are"));
        };
        let [across, down] = layout.grid();
        let planes = if layout.is_planar { layout.samples } else { 1 };
        let wanted = (across as u64).saturating_mul(down as u64).saturating_mul(planes as u64);
        if offsets.count < wanted || counts.count < wanted {
            let found = offsets.count.min(counts.count);
            return Err(file.damaged(format!("a page has {found} of its {wanted} segments")));
        }
        Ok(Self::Listed { offsets, counts, tables: page.get(tag::JPEG_TABLES) })
    }
}

pub(super) fn unsupported(file: &TiffFile, what: &str) -> Error {
    let reason = format!("{}: {what}", file.path.display());
    Error::unsupported(reason, "save it again uncompressed, with tifffile or ImageJ")
}

fn compression(file: &TiffFile, code: u64) -> Result<Compression> {
    let name = match code {
        1 => return Ok(Compression::None),
        5 => return Ok(Compression::Lzw),
        8 | 32946 => return Ok(Compression::Deflate),
        50000 => return Ok(Compression::Zstd),
        32773 => return Ok(Compression::PackBits),
        7 => return Ok(Compression::Jpeg),
        2..=4 => "a fax code",
        6 => "JPEG of an old kind",
        33003 | 33004 | 33005 | 34712 => "JPEG 2000",
        34887 => "LERC",
        34925 | 50001 | 50002 | 52546 => "LZMA, WebP or JPEG XL",
        _ => "unknown",
    };
    Err(unsupported(file, &format!("its compression is {name} (code {code})")))
}

/// The type of its samples, and their bits.
fn element(file: &TiffFile, page: &Directory, samples: usize) -> Result<(Dtype, usize)> {
    let all = |tag, default: u64| -> Result<u64> {
        let Some(entry) = page.get(tag) else { return Ok(default) };
        let first = file.number(entry, 0)?;
        for i in 1..entry.count.min(samples as u64) {
            if file.number(entry, i)? != first {
                return Err(unsupported(file, "its samples are of several types"));
            }
        }
        Ok(first)
    };
    let (bits, format) = (all(tag::BITS, 1)?, all(tag::SAMPLE_FORMAT, 1)?);
    let dtype = match (format, bits) {
        (1 | 4, 1 | 8) => Dtype::UInt8,
        (2, 8) => Dtype::Int8,
        (1 | 4, 16) => Dtype::UInt16,
        (2, 16) => Dtype::Int16,
        (1 | 4, 32) => Dtype::UInt32,
        (2, 32) => Dtype::Int32,
        (1 | 4, 64) => Dtype::UInt64,
        (2, 64) => Dtype::Int64,
        (3, 16) => Dtype::Float16,
        (3, 32) => Dtype::Float32,
        (3, 64) => Dtype::Float64,
        (format, bits) => {
            let kind = if matches!(format, 5 | 6) { "complex" } else { "sample" };
            return Err(unsupported(file, &format!("its {kind} values have {bits} bits")));
        }
    };
    Ok((dtype, bits as usize))
}
