//! What the fields of an NRRD header say about its voxels: axes, type, encoding and files.
//!
//! # Invariants
//! - An [`NrrdHeader`] has extents whose product does not overflow, and at most one axis of
//!   channels.

use std::path::Path;

use voxquarry::{Dtype, Error, Result, Size3};

use super::fields::{NrrdFields, vectors};
use crate::formats::file_chain::{FilePart, Start, beside};
use crate::formats::file_names::{MAX_FILES, numbered, numbers};
use crate::formats::raster::RasterLayout;
use crate::formats::text_numbers::TextEncoding;
use crate::formats::unpack::Packing;
use crate::formats::voxels::ByteOrder;
use crate::formats::voxels::MAX_VOXELS;

const MAX_AXES: usize = 16;

/// What a header says about the voxels.
pub(super) struct NrrdHeader {
    /// Extents of all axes, fastest first.
    pub(super) sizes: Vec<usize>,
    /// The axes of space, fastest first: two or three.
    pub(super) spatial: Vec<usize>,
    /// The axis of channels.
    list: Option<usize>,
    pub(super) channels: usize,
    dtype: Dtype,
    pub(super) order: ByteOrder,
    encoding: Encoding,
    lines: u64,
    start: Start,
    pub(super) notes: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Packed(Packing),
    Decimal,
    Hexadecimal,
}

impl NrrdHeader {
    /// # Errors
    /// A message.
    pub(super) fn of(fields: &NrrdFields) -> Result<Self, String> {
        let axes = fields.number("dimension", 0usize)?;
        if !(2..=MAX_AXES).contains(&axes) {
            return Err(format!("its dimension is {axes}: expected 2 to 4 axes"));
        }
        let text = fields.need("sizes")?;
        let sizes = numbers::<usize>(text).filter(|s| s.len() == axes && !s.contains(&0));
        let sizes = sizes.ok_or_else(|| {
            format!("the field \"sizes\" is {text:?}: expected {axes} extents from 1 on")
        })?;
        let voxels = sizes.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent as u64));
        if voxels.is_none_or(|n| n > MAX_VOXELS) {
            return Err(format!("its sizes are {text}: more than any file holds"));
        }
        let (spatial, list, notes) = roles(fields, &sizes)?;
        let dtype = dtype_of(fields.need("type")?)?;
        let encoding = encoding_of(fields.need("encoding")?)?;
        let is_one_byte = dtype.size() == 1 || encoding == Encoding::Decimal;
        let order = match fields.get("endian").map(str::to_lowercase).as_deref() {
            Some("big") if !is_one_byte => ByteOrder::Big,
            Some("little" | "big") => ByteOrder::Little,
            None if is_one_byte => ByteOrder::Little,
            found => {
                let found = found.unwrap_or("missing");
                return Err(format!("its endian is {found}: expected little or big"));
            }
        };
        let skip = fields.number("byteskip", 0i64)?;
        let start = match (u64::try_from(skip), encoding) {
            (Ok(bytes), _) => Start::Bytes(bytes),
            (Err(_), Encoding::Packed(Packing::Plain)) if skip == -1 => Start::Tail,
            _ => return Err(format!("its byte skip is {skip}: expected 0 or more, or -1 for raw")),
        };
        Ok(Self {
            channels: list.map_or(1, |axis| sizes[axis]),
            sizes,
            spatial,
            list,
            dtype,
            order,
            encoding,
            lines: fields.number("lineskip", 0u64)?,
            start,
            notes,
        })
    }

    /// The encoding's name in headers.
    pub(super) fn encoding_name(&self) -> &'static str {
        match self.encoding {
            Encoding::Packed(Packing::Plain) => "raw",
            Encoding::Packed(packing) => packing.name(),
            Encoding::Decimal => "ascii",
            Encoding::Hexadecimal => "hex",
        }
    }

    /// How the volume lies in the bytes.
    pub(super) fn layout(&self) -> RasterLayout {
        let extent = |i: usize| self.spatial.get(i).map_or(1, |&axis| self.sizes[axis]);
        let size: Size3 = [extent(2), extent(1), extent(0)];
        let planes = RasterLayout::planes(size, self.dtype, self.order);
        let Some(list) = self.list.filter(|_| self.channels > 1) else { return planes };
        let faster = self.spatial.iter().filter(|&&axis| axis < list).count();
        match faster {
            // A plane of a volume of two axes is a z step of it.
            _ if faster == self.spatial.len() => planes,
            0 => RasterLayout { samples: self.channels, run: 1, ..planes },
            1 => RasterLayout { samples: self.channels, run: size[2], ..planes },
            _ => RasterLayout { samples: self.channels, ..planes },
        }
    }

    pub(super) fn voxel_bytes(&self) -> u64 {
        self.sizes.iter().map(|&n| n as u64).product::<u64>() * self.dtype.size() as u64
    }

    /// The voxels that a file yields.
    pub(super) fn part(&self, path: &Path, bytes: u64) -> FilePart {
        let (packing, text) = match self.encoding {
            Encoding::Packed(packing) => (packing, None),
            Encoding::Decimal => (Packing::Plain, Some(TextEncoding::Decimal(self.dtype))),
            Encoding::Hexadecimal => (Packing::Plain, Some(TextEncoding::Hexadecimal)),
        };
        let (path, lines, start) = (path.to_owned(), self.lines, self.start);
        FilePart { path, lines, start, packing, text, bytes }
    }

    /// The files of the voxels, or `None` if they are behind the header.
    ///
    /// # Errors
    /// [`Error::Data`].
    pub(super) fn parts(&self, path: &Path, fields: &NrrdFields) -> Result<Option<Vec<FilePart>>> {
        let Some(data) = fields.get("datafile") else { return Ok(None) };
        let names = self.files(data, &fields.files);
        let names = names.map_err(|message| Error::data(path, message))?;
        let each = self.voxel_bytes() / names.len() as u64;
        let parts = names.iter().map(|name| Ok(self.part(&beside(path, name)?, each)));
        parts.collect::<Result<_>>().map(Some)
    }

    /// The names of the files, which have equal shares of the voxels.
    fn files(&self, data: &str, listed: &[String]) -> Result<Vec<String>, String> {
        let words: Vec<&str> = data.split_whitespace().collect();
        let (names, axes) = match words[..] {
            ["LIST"] => (listed.to_vec(), None),
            ["LIST", axes] => (listed.to_vec(), Some(axes)),
            [pattern, first, last, step, ref rest @ ..]
                if pattern.contains('%') && rest.len() < 2 =>
            {
                let span = numbers::<i64>(&[first, last, step].join(" "));
                let span: Option<[i64; 3]> = span.and_then(|span| span.try_into().ok());
                let expected = || format!("the data file {data:?}: expected first, last and step");
                (numbered(pattern, span.ok_or_else(expected)?)?, rest.first().copied())
            }
            ["SKIPLIST", ..] => {
                return Err("data files of a SKIPLIST are not supported: merge them".into());
            }
            // A name may have blanks.
            _ => return Ok(vec![data.to_owned()]),
        };
        let axes = axes.map_or(Ok(self.sizes.len() - 1), str::parse);
        let axes = axes.ok().filter(|n| (1..=self.sizes.len()).contains(n));
        let axes = axes.ok_or_else(|| format!("the data file {data:?}: expected a dimension"))?;
        let outer = self.sizes[axes..].iter().map(|&n| n as u64).product::<u64>();
        let (count, slowest) = (names.len() as u64, self.sizes[self.sizes.len() - 1] as u64);
        let fits = if axes == self.sizes.len() {
            count > 0 && slowest.is_multiple_of(count)
        } else {
            count == outer
        };
        if !fits || names.len() > MAX_FILES {
            let sizes = &self.sizes;
            return Err(format!("it names {count} data files, which do not fit sizes {sizes:?}"));
        }
        Ok(names)
    }
}

/// The axes of space, that of channels, and what was assumed.
type Roles = (Vec<usize>, Option<usize>, Vec<String>);

fn roles(fields: &NrrdFields, sizes: &[usize]) -> Result<Roles, String> {
    let (axes, mut notes) = (sizes.len(), Vec::new());
    let directions = fields.get("spacedirections").map(|text| {
        let found = vectors(text).filter(|found| found.len() == axes);
        found.ok_or_else(|| format!("its space directions are {text:?}: expected {axes} vectors"))
    });
    let directions = directions.transpose()?;
    let kinds = fields.words("kinds", axes)?;
    let spatial: Vec<usize> = if let Some(directions) = &directions {
        (0..axes).filter(|&axis| directions[axis].is_some()).collect()
    } else if let Some(kinds) = &kinds {
        let is_space =
            |kind: &str| ["domain", "space", "???", "none"].contains(&kind.to_lowercase().as_str());
        (0..axes).filter(|&axis| is_space(kinds[axis])).collect()
    } else {
        (0..axes).collect()
    };
    let (mut spatial, mut others) = (spatial, Vec::new());
    if spatial.len() == 4 && axes == 4 && directions.is_none() {
        notes.push("it does not say what its axes are: the slowest is taken for channels".into());
        spatial.pop();
    }
    others.extend((0..axes).filter(|axis| !spatial.contains(axis) && sizes[*axis] > 1));
    if !(2..=3).contains(&spatial.len()) || others.len() > 1 {
        return Err(format!(
            "it has {} axes of space and {} of channels in sizes {sizes:?}: expected 2 or 3 of \
             space and 1 of channels, slice it first (unu slice)",
            spatial.len(),
            others.len()
        ));
    }
    let list = others.first().copied();
    if let (Some(list), Some(kinds)) = (list, &kinds)
        && kinds[list].to_lowercase().contains("complex")
    {
        notes.push("real and imaginary parts are channels".into());
    }
    Ok((spatial, list, notes))
}

fn dtype_of(text: &str) -> Result<Dtype, String> {
    let words: String = text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    let known = [
        (Dtype::Int8, "|signed char|int8|int8_t|"),
        (Dtype::UInt8, "|uchar|unsigned char|uint8|uint8_t|"),
        (Dtype::Int16, "|short|short int|signed short|signed short int|int16|int16_t|"),
        (Dtype::UInt16, "|ushort|unsigned short|unsigned short int|uint16|uint16_t|"),
        (Dtype::Int32, "|int|signed int|int32|int32_t|"),
        (Dtype::UInt32, "|uint|unsigned int|uint32|uint32_t|"),
        (
            Dtype::Int64,
            "|longlong|long long|long long int|signed long long|signed long long int|int64|\
             int64_t|",
        ),
        (Dtype::UInt64, "|ulonglong|unsigned long long|unsigned long long int|uint64|uint64_t|"),
        (Dtype::Float32, "|float|"),
        (Dtype::Float64, "|double|"),
    ];
    let found = known.into_iter().find(|(_, names)| names.contains(&format!("|{words}|")));
    let message = || format!("its type is {text:?}, which a store cannot hold");
    found.map(|(dtype, _)| dtype).ok_or_else(message)
}

fn encoding_of(text: &str) -> Result<Encoding, String> {
    Ok(match text.to_lowercase().as_str() {
        "raw" => Encoding::Packed(Packing::Plain),
        "gzip" | "gz" => Encoding::Packed(Packing::Gzip),
        "bzip2" | "bz2" => Encoding::Packed(Packing::Bzip2),
        "ascii" | "text" | "txt" => Encoding::Decimal,
        "hex" => Encoding::Hexadecimal,
        _ => {
            let known = "raw, gzip, bzip2, ascii or hex";
            return Err(format!("its encoding is {text:?}: expected {known}"));
        }
    })
}
