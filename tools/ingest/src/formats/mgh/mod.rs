//! Reads and writes MGH and MGZ, the format of `FreeSurfer`: `.mgh`, `.mgz`.
//!
//! A header of 284 bytes, all numbers big endian, then voxels with x fastest and frames slowest,
//! then numbers of the acquisition and tags. `write` writes files.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//! - Of the tags nothing is kept: they hold command lines, with names of people and machines.

mod write;

use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use voxquarry::{Affine, Dtype, Error, IfExists, Result};

use super::byte_input::ByteInput;
use super::export_spec::ExportSpec;
use super::file_chain::FileChain;
use super::format::{ExportFormat, Format, OpenedVolume, Place, VolumeExport};
use super::raster::{OpenedRaster, RasterLayout};
use super::stated::Stated;
use super::voxels::ByteOrder;
use super::voxels::MAX_VOXELS;
use crate::source::{SourceVolume, metadata};

const HEADER_BYTES: usize = 284;
/// The type codes that a store can hold.
const TYPES: [(i32, Dtype); 5] = [
    (0, Dtype::UInt8),
    (1, Dtype::Int32),
    (3, Dtype::Float32),
    (4, Dtype::Int16),
    (10, Dtype::UInt16),
];
/// The directions of a file that states none: coronal, as `FreeSurfer` has them.
const CORONAL: [f32; 9] = [-1.0, 0.0, 0.0, 0.0, 0.0, -1.0, 0.0, 1.0, 0.0];

/// The numbers behind the voxels.
const ACQUISITION: [&str; 5] = ["tr_ms", "flip_angle_rad", "te_ms", "ti_ms", "fov_mm"];

/// MGH and MGZ.
pub(super) struct Mgh;

impl Format for Mgh {
    fn name(&self) -> &'static str {
        "MGH"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".mgh", ".mgz", ".mgh.gz"]
    }

    fn recognises(&self, _path: &Path, head: &[u8]) -> bool {
        MghHeader::parse(head).is_ok()
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        Ok(Box::new(open_mgh(place.path(), stated.affine)?))
    }

    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>> {
        Ok(Some(vec![place.path().to_owned()]))
    }

    fn export(&self) -> Option<&dyn ExportFormat> {
        Some(self)
    }
}

impl ExportFormat for Mgh {
    fn stored_dtype(&self, dtype: Dtype) -> Dtype {
        match dtype {
            Dtype::Int8 => Dtype::Int16,
            Dtype::Float16 => Dtype::Float32,
            other => other,
        }
    }

    fn keeps_scaling(&self) -> bool {
        false
    }

    fn create(
        &self,
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        threads: usize,
    ) -> Result<Box<dyn VolumeExport>> {
        write::create(out, spec, if_exists, threads)
    }
}

/// The numbers of a header, checked.
struct MghHeader {
    /// Width, height, depth and frames.
    dims: [usize; 4],
    dtype: Dtype,
    has_directions: bool,
    steps: [f32; 3],
    /// The directions of x, y and z, each right, anterior and superior.
    directions: [f32; 9],
    centre: [f32; 3],
}

impl MghHeader {
    /// # Errors
    /// A message.
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() < HEADER_BYTES {
            return Err(format!("{} bytes are no header of MGH, which has 284", bytes.len()));
        }
        let i32_at = |at: usize| {
            i32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let f32_at = |at: usize| f32::from_bits(i32_at(at).cast_unsigned());
        if i32_at(0) != 1 {
            return Err(format!("its version is {}: MGH has 1", i32_at(0)));
        }
        let code = i32_at(20);
        let Some(&(_, dtype)) = TYPES.iter().find(|(known, _)| *known == code) else {
            let message = "0 (uint8), 1 (int32), 3 (float32), 4 (int16) and 10 (uint16) can be \
                           stored: convert it with mri_convert --out_data_type";
            return Err(format!("its voxels have type {code}: {message}"));
        };
        let mut dims = [0; 4];
        for (i, extent) in dims.iter_mut().enumerate() {
            let found = i32_at(4 + 4 * i);
            *extent = usize::try_from(found).unwrap_or(0);
            if *extent == 0 {
                return Err(format!("its extent {i} is {found}: expected at least 1"));
            }
        }
        let product = dims.iter().try_fold(1u64, |n, &extent| n.checked_mul(extent as u64));
        if product.is_none_or(|n| n > MAX_VOXELS) {
            return Err(format!("its extents are {dims:?}: more than any file holds"));
        }
        let has_directions = [bytes[28], bytes[29]] != [0, 0];
        let floats = |at: usize, i: usize| f32_at(at + 4 * i);
        Ok(Self {
            dims,
            dtype,
            has_directions,
            steps: [0, 1, 2].map(|i| if has_directions { floats(30, i) } else { 1.0 }),
            directions: std::array::from_fn(|i| {
                if has_directions { floats(42, i) } else { CORONAL[i] }
            }),
            centre: [0, 1, 2].map(|i| if has_directions { floats(78, i) } else { 0.0 }),
        })
    }

    /// The affine as nibabel computes it: products in `float32`, sums in `float64`, and the result
    /// in `float32` again.
    fn affine(&self) -> Affine {
        let mut affine = Affine::IDENTITY;
        for row in 0..3 {
            let mut centre = 0.0;
            for column in 0..3 {
                let step = f64::from(self.directions[3 * column + row] * self.steps[column]);
                affine.0[row][column] = step;
                centre += step * self.dims[column] as f64;
            }
            let origin = f64::from(self.centre[row]) - centre / 2.0;
            affine.0[row][3] = f64::from(origin as f32);
        }
        affine
    }

    fn voxel_bytes(&self) -> u64 {
        self.dims.iter().map(|&n| n as u64).product::<u64>() * self.dtype.size() as u64
    }
}

fn open_mgh(path: &Path, stated: Option<Affine>) -> Result<OpenedRaster> {
    let mut input = ByteInput::open(path)?;
    let mut bytes = Vec::new();
    input.read_up_to(&mut bytes, HEADER_BYTES)?;
    let located = |message: String| Error::data(path, message);
    let header = MghHeader::parse(&bytes).map_err(located)?;
    let affine = stated.unwrap_or_else(|| header.affine());
    affine.validate().map_err(|e| located(format!("{e}: correct the header first")))?;
    input.expect(HEADER_BYTES as u64 + header.voxel_bytes())?;
    let [x, y, z, frames] = header.dims;
    let origin = [("format", json!("mgh")), ("directions", json!(header.has_directions))];
    let volume = SourceVolume {
        size: [z, y, x],
        channels: (frames > 1).then_some(frames),
        interleaved: 1,
        dtype: header.dtype,
        affine,
        unit: None,
        slope: 1.0,
        intercept: 0.0,
        origin: metadata(origin),
    };
    let mut notes = Vec::new();
    if !header.has_directions && stated.is_none() {
        let coronal = "the file states no directions: coronal ones and steps of 1 mm are \
                       assumed, as FreeSurfer does";
        notes.push(coronal.to_owned());
    }
    Ok(OpenedRaster {
        layout: RasterLayout::planes(volume.size, volume.dtype, ByteOrder::Big),
        bytes: Box::new(FileChain::continuing(path, input, header.voxel_bytes())),
        volume,
        notes,
        label_names: Vec::new(),
        footer: acquisition,
    })
}

/// The numbers of the acquisition behind the voxels, as far as there are any.
fn acquisition(footer: Option<&[u8]>) -> Map<String, Value> {
    let numbers = footer
        .unwrap_or_default()
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_be_bytes(*bytes));
    let known = ACQUISITION.into_iter().zip(numbers).filter(|(_, number)| number.is_finite());
    known.map(|(name, number)| (name.to_owned(), json!(number))).collect()
}
