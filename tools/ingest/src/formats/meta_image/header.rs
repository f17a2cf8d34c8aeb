//! Parses the header of `MetaImage`: lines `Key = value`, of which the last names the voxels.
//!
//! # Invariants
//! - Any bytes can be parsed without a panic. A [`MetaHeader`] has extents whose product does not
//!   overflow, and a type that a store can hold.

use std::collections::BTreeMap;
use std::path::Path;

use voxquarry::{Affine, Dtype, Error, LengthUnit, Result, Size3};

use crate::formats::byte_input::ByteInput;
use crate::formats::file_chain::Start;
use crate::formats::file_names::{MAX_FILES, numbered, numbers};
use crate::formats::unpack::Packing;
use crate::formats::voxels::ByteOrder;
use crate::formats::voxels::MAX_VOXELS;
use crate::formats::world::{FROM_LPS, affine_of};

const MAX_LINE_BYTES: usize = 1 << 16;
/// A list of files is the longest part.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// Keys that a header begins with.
const FIRST_KEYS: [&str; 6] =
    ["ObjectType", "ObjectSubType", "NDims", "Comment", "Name", "BinaryData"];
const MODALITIES: [&str; 5] =
    ["MET_MOD_CT", "MET_MOD_MR", "MET_MOD_NM", "MET_MOD_US", "MET_MOD_OTHER"];
pub(super) const TYPES: [(&str, Dtype); 12] = [
    ("MET_CHAR", Dtype::Int8),
    ("MET_UCHAR", Dtype::UInt8),
    ("MET_SHORT", Dtype::Int16),
    ("MET_USHORT", Dtype::UInt16),
    ("MET_INT", Dtype::Int32),
    ("MET_UINT", Dtype::UInt32),
    ("MET_LONG_LONG", Dtype::Int64),
    ("MET_ULONG_LONG", Dtype::UInt64),
    ("MET_FLOAT", Dtype::Float32),
    ("MET_DOUBLE", Dtype::Float64),
    // Four bytes on every system, whatever C says.
    ("MET_LONG", Dtype::Int32),
    ("MET_ULONG", Dtype::UInt32),
];

/// Where the voxels are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DataPlace {
    /// Behind the header.
    Local,
    /// In files of equal shares, in order.
    Files(Vec<String>),
}

/// A parsed header.
pub(super) struct MetaHeader {
    pub(super) size: Size3,
    /// Axes that the header states.
    pub(super) dimensions: usize,
    /// Channels that the voxels interleave.
    pub(super) samples: usize,
    /// The extent of the fourth axis.
    pub(super) volumes: usize,
    pub(super) dtype: Dtype,
    pub(super) order: ByteOrder,
    pub(super) is_text: bool,
    pub(super) packing: Packing,
    pub(super) start: Start,
    pub(super) affine: Affine,
    pub(super) has_spacing: bool,
    pub(super) unit: Option<LengthUnit>,
    pub(super) slope: f64,
    pub(super) intercept: f64,
    pub(super) modality: Option<String>,
    pub(super) data: DataPlace,
    pub(super) notes: Vec<String>,
}

/// Whether a file begins like a header.
pub(super) fn begins(head: &[u8]) -> bool {
    let line = head.split(|&b| b == b'\n').find(|line| !line.trim_ascii().is_empty());
    let key = line.and_then(|line| str::from_utf8(line).ok()?.split_once('='));
    key.is_some_and(|(key, _)| FIRST_KEYS.contains(&key.trim()))
}

impl MetaHeader {
    /// Reads the header of a file, to the byte behind it.
    ///
    /// # Errors
    /// [`Error::Data`], [`Error::Io`].
    pub(super) fn read(path: &Path, input: &mut ByteInput) -> Result<Self> {
        let located = |message: String| Error::data(path, message);
        let mut fields = MetaFields::default();
        let data = loop {
            let Some(line) = input.read_line(MAX_LINE_BYTES)? else {
                let message = "the header has no ElementDataFile: it is cut short, or no MetaImage";
                return Err(located(message.to_owned()));
            };
            if input.position() > MAX_HEADER_BYTES {
                return Err(located(format!("the header has more than {MAX_HEADER_BYTES} bytes")));
            }
            let text = str::from_utf8(&line);
            let Some((key, value)) = text.ok().and_then(|text| text.split_once('=')) else {
                // Comments may be in any encoding.
                if line.trim_ascii().is_empty() || line.contains(&b'=') {
                    continue;
                }
                let text = String::from_utf8_lossy(&line[..line.len().min(60)]).into_owned();
                return Err(located(format!("the line {text:?}: expected Key = value")));
            };
            let (key, value) = (key.trim(), value.trim());
            if key == "ElementDataFile" {
                break value.to_owned();
            }
            fields.0.insert(key.to_owned(), value.to_owned());
        };
        let dims = fields.dims().map_err(located)?;
        let names = if data.split_whitespace().next() == Some("LIST") {
            let count = MetaFields::listed(&data, &dims).map_err(located)?;
            read_names(path, input, count)?
        } else {
            Vec::new()
        };
        fields.interpret(&dims, &data, names).map_err(located)
    }

    /// Bytes of all voxels.
    pub(super) fn voxel_bytes(&self) -> u64 {
        let extents = self.size.into_iter().chain([self.samples, self.volumes, self.dtype.size()]);
        extents.map(|n| n as u64).product()
    }
}

/// The names of files, one for each line.
fn read_names(path: &Path, input: &mut ByteInput, count: usize) -> Result<Vec<String>> {
    let mut names = Vec::new();
    while names.len() < count {
        let Some(line) = input.read_line(MAX_LINE_BYTES)? else {
            let message = format!("it lists {} files, expected {count}", names.len());
            return Err(Error::data(path, message));
        };
        let name = String::from_utf8(line)
            .map_err(|_| Error::data(path, "the name of a listed file is no UTF-8: rename it"))?;
        if !name.trim().is_empty() {
            names.push(name.trim().to_owned());
        }
    }
    Ok(names)
}

/// The values of a header by their keys.
#[derive(Default)]
struct MetaFields(BTreeMap<String, String>);

impl MetaFields {
    /// The first of several keys that is there.
    fn get(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.0.get(*key)).map(String::as_str)
    }

    fn is_true(&self, keys: &[&str]) -> Option<bool> {
        self.get(keys).map(|value| value.starts_with(['T', 't', '1']))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, String> {
        let Some(text) = self.get(&[key]) else { return Ok(None) };
        let number = text.parse().map_err(|_| format!("{key} is {text:?}: expected a number"));
        number.map(Some)
    }

    fn list(&self, keys: &[&str], count: usize) -> Result<Option<Vec<f64>>, String> {
        let Some(text) = self.get(keys) else { return Ok(None) };
        let found = numbers::<f64>(text).filter(|found| found.len() == count);
        found.map(Some).ok_or_else(|| format!("{} is {text:?}: expected {count} numbers", keys[0]))
    }

    /// The extents, x first.
    fn dims(&self) -> Result<Vec<usize>, String> {
        if let Some(object) = self.get(&["ObjectType"]).filter(|object| *object != "Image") {
            return Err(format!("it holds the object {object:?}, no image"));
        }
        let text = self.get(&["DimSize"]).ok_or("the header has no DimSize")?;
        let dims = numbers::<usize>(text).filter(|dims| !dims.contains(&0));
        let dims =
            dims.ok_or_else(|| format!("DimSize is {text:?}: expected extents from 1 on"))?;
        let count = self.number("NDims")?.unwrap_or(dims.len());
        if dims.len() != count {
            return Err(format!("DimSize is {text:?}, and NDims is {count}"));
        }
        if !(2..=10).contains(&count) || dims.get(4..).is_some_and(|d| d.iter().any(|&n| n > 1)) {
            return Err(format!("DimSize is {text:?}: expected 2 to 4 axes, split it first"));
        }
        Ok(dims)
    }

    fn samples(&self) -> Result<usize, String> {
        let samples = self.number("ElementNumberOfChannels")?.unwrap_or(1);
        if samples == 0 { Err("ElementNumberOfChannels is 0".into()) } else { Ok(samples) }
    }

    /// The number of files of a list: `LIST`, `LIST 3` or `LIST 3D`, with the axes of each file.
    fn listed(data: &str, dims: &[usize]) -> Result<usize, String> {
        let text = data["LIST".len()..].trim().trim_end_matches(['D', 'd']);
        let axes = if text.is_empty() { Ok(dims.len() - 1) } else { text.parse::<usize>() };
        let axes = axes.ok().filter(|axes| (1..=dims.len()).contains(axes));
        let axes = axes.ok_or_else(|| format!("ElementDataFile is {data:?}: expected LIST"))?;
        let count = dims[axes..].iter().try_fold(1usize, |n, &extent| n.checked_mul(extent));
        let count = count.filter(|&n| n <= MAX_FILES);
        count.ok_or_else(|| format!("DimSize is {dims:?}: more than {MAX_FILES} files"))
    }

    fn data_place(data: &str, names: Vec<String>, dims: &[usize]) -> Result<DataPlace, String> {
        if !names.is_empty() {
            return Ok(DataPlace::Files(names));
        }
        if ["LOCAL", "Local", "local"].contains(&data) {
            return Ok(DataPlace::Local);
        }
        if !data.contains('%') {
            return Ok(DataPlace::Files(vec![data.to_owned()]));
        }
        let mut words = data.split_whitespace();
        let pattern = words.next().unwrap_or_default();
        let span: Option<Vec<i64>> = words.map(|word| word.parse().ok()).collect();
        let expected = "a pattern, the first and the last number, perhaps the step";
        let span = match span.as_deref() {
            Some(&[first, last]) => [first, last, 1],
            Some(&[first, last, step]) => [first, last, step],
            _ => return Err(format!("ElementDataFile is {data:?}: expected {expected}")),
        };
        let names = numbered(pattern, span)?;
        let outer: usize = dims[2..].iter().product();
        if !outer.is_multiple_of(names.len()) {
            let count = names.len();
            return Err(format!(
                "{data:?} gives {count} files for {outer} planes: expected {outer}"
            ));
        }
        Ok(DataPlace::Files(names))
    }

    fn dtype(&self) -> Result<Dtype, String> {
        let text = self.get(&["ElementType"]).ok_or("the header has no ElementType")?;
        let name = text.strip_suffix("_ARRAY").unwrap_or(text);
        let dtype = TYPES.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype);
        dtype.ok_or_else(|| format!("ElementType is {text:?}, which a store cannot hold"))
    }

    /// The affine in RAS+, and whether the spacing is stated.
    fn affine(&self, dims: usize) -> Result<(Affine, bool), String> {
        let used = dims.min(3);
        let spacing = self.list(&["ElementSpacing", "ElementSize"], dims)?;
        let origin = self.list(&["Offset", "Position", "Origin"], dims)?;
        let matrix = self.list(&["TransformMatrix", "Rotation", "Orientation"], dims * dims)?;
        let mut columns = [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]];
        for (axis, column) in columns.iter_mut().enumerate().take(used) {
            if let Some(matrix) = &matrix {
                column[..used].copy_from_slice(&matrix[axis * dims..][..used]);
            }
            let step = spacing.as_ref().map_or(1.0, |spacing| spacing[axis]);
            *column = column.map(|v| v * step);
        }
        let mut start = [0.0; 3];
        if let Some(origin) = origin {
            start[..used].copy_from_slice(&origin[..used]);
        }
        Ok((affine_of(columns, start, FROM_LPS), spacing.is_some()))
    }

    fn start(&self, packing: Packing) -> Result<Start, String> {
        if self.number::<i64>("HeaderSizePerSlice")?.is_some_and(|bytes| bytes != 0) {
            return Err("HeaderSizePerSlice is not supported: write the file again".into());
        }
        let bytes = self.number::<i64>("HeaderSize")?.unwrap_or(0);
        match u64::try_from(bytes) {
            Ok(0) => Ok(Start::Bytes(0)),
            _ if packing != Packing::Plain => {
                Err(format!("HeaderSize is {bytes} beside CompressedData: expected 0"))
            }
            Ok(bytes) => Ok(Start::Bytes(bytes)),
            Err(_) if bytes == -1 => Ok(Start::Tail),
            Err(_) => Err(format!("HeaderSize is {bytes}: expected -1 or more")),
        }
    }

    fn unit(&self) -> (Option<LengthUnit>, Vec<String>) {
        let Some(text) = self.get(&["DistanceUnits"]) else { return (None, Vec::new()) };
        match text {
            "mm" => (Some(LengthUnit::Millimeter), Vec::new()),
            "um" => (Some(LengthUnit::Micrometer), Vec::new()),
            "m" => (Some(LengthUnit::Meter), Vec::new()),
            "?" | "" => (None, Vec::new()),
            _ => (None, vec![format!("its unit {text:?} is not known: millimetres are assumed")]),
        }
    }

    fn interpret(
        &self,
        dims: &[usize],
        data: &str,
        names: Vec<String>,
    ) -> Result<MetaHeader, String> {
        let extent = |axis: usize| dims.get(axis).copied().unwrap_or(1);
        let (samples, volumes) = (self.samples()?, extent(3));
        if samples > 1 && volumes > 1 {
            return Err("it has a fourth axis and channels: split it first".into());
        }
        let product = dims.iter().try_fold(samples as u64, |n, &e| n.checked_mul(e as u64));
        if product.is_none_or(|n| n > MAX_VOXELS) {
            return Err(format!("DimSize is {dims:?}: more than any file holds"));
        }
        let is_text = self.is_true(&["BinaryData"]) == Some(false);
        let is_packed = self.is_true(&["CompressedData"]) == Some(true);
        if is_text && is_packed {
            return Err("BinaryData is False beside CompressedData: write the file again".into());
        }
        let packing = if is_packed { Packing::Zlib } else { Packing::Plain };
        let is_big = self.is_true(&["BinaryDataByteOrderMSB", "ElementByteOrderMSB"]) == Some(true);
        let (affine, has_spacing) = self.affine(dims.len())?;
        let (unit, notes) = self.unit();
        let slope = self.number("ElementToIntensityFunctionSlope")?.unwrap_or(1.0);
        let intercept = self.number("ElementToIntensityFunctionOffset")?.unwrap_or(0.0);
        if !f64::is_normal(slope) || !f64::is_finite(intercept) {
            return Err(format!(
                "its slope is {slope}, its offset {intercept}: correct the header"
            ));
        }
        let is_plain = |text: &&str| MODALITIES.contains(text);
        Ok(MetaHeader {
            size: [extent(2), extent(1), extent(0)],
            dimensions: dims.len(),
            samples,
            volumes,
            dtype: self.dtype()?,
            order: if is_big { ByteOrder::Big } else { ByteOrder::Little },
            is_text,
            packing,
            start: self.start(packing)?,
            affine,
            has_spacing,
            unit,
            slope,
            intercept,
            modality: self.get(&["Modality"]).filter(is_plain).map(str::to_owned),
            data: Self::data_place(data, names, dims)?,
            notes,
        })
    }
}
