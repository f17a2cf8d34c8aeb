//! Builds DICOM files byte by byte, with its own way to encode elements.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use voxquarry::{Dataset, Region, Result, Volume, Voxel};
use voxquarry_ingest::{FindOptions, IngestOptions, IngestReport, NoopObserver, find, ingest};

pub const IMPLICIT: &str = "1.2.840.10008.1.2";
pub const EXPLICIT: &str = "1.2.840.10008.1.2.1";
pub const DEFLATED: &str = "1.2.840.10008.1.2.1.99";
pub const BIG: &str = "1.2.840.10008.1.2.2";
pub const RLE: &str = "1.2.840.10008.1.2.5";
pub const UNDEFINED: u32 = u32::MAX;

/// The value of an element.
#[derive(Clone)]
pub enum Value {
    Text(String),
    Us(Vec<u16>),
    Ul(Vec<u32>),
    Bytes(Vec<u8>),
    /// Items of a sequence, of stated or undefined lengths.
    Items(Vec<Elements>, bool),
    /// The fragments of encapsulated pixels, after a table of their offsets.
    Fragments(Vec<u32>, Vec<Vec<u8>>),
}

/// An element: tag, VR, value.
pub type Elements = Vec<(u32, &'static [u8; 2], Value)>;

pub fn text(tag: u32, vr: &'static [u8; 2], text: &str) -> (u32, &'static [u8; 2], Value) {
    (tag, vr, Value::Text(text.to_owned()))
}

pub fn us(tag: u32, number: u16) -> (u32, &'static [u8; 2], Value) {
    (tag, b"US", Value::Us(vec![number]))
}

pub fn decimals(tag: u32, numbers: &[f64]) -> (u32, &'static [u8; 2], Value) {
    let words: Vec<_> = numbers.iter().map(f64::to_string).collect();
    text(tag, b"DS", &words.join("\\"))
}

pub fn item(tag: u32, elements: Elements) -> (u32, &'static [u8; 2], Value) {
    (tag, b"SQ", Value::Items(vec![elements], true))
}

/// A file to build.
#[derive(Clone)]
pub struct DicomFile {
    pub syntax: &'static str,
    pub has_preamble: bool,
    pub elements: Elements,
}

/// How numbers and elements are encoded.
#[derive(Clone, Copy)]
struct Encoding {
    is_explicit: bool,
    is_big: bool,
}

impl Encoding {
    fn u16(self, number: u16) -> [u8; 2] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn u32(self, number: u32) -> [u8; 4] {
        if self.is_big { number.to_be_bytes() } else { number.to_le_bytes() }
    }

    fn tag(self, tag: u32) -> Vec<u8> {
        [self.u16((tag >> 16) as u16), self.u16(tag as u16)].concat()
    }

    fn element(self, (tag, vr, value): &(u32, &'static [u8; 2], Value)) -> Vec<u8> {
        let (mut bytes, is_undefined) = self.value(vr, value);
        if bytes.len() % 2 == 1 {
            bytes.push(if **vr == *b"UI" { 0 } else { b' ' });
        }
        let length = if is_undefined { UNDEFINED } else { bytes.len() as u32 };
        let mut out = self.tag(*tag);
        if self.is_explicit {
            out.extend(**vr);
            if matches!(**vr, [b'O', _]) || matches!(*vr, b"SQ" | b"UN" | b"UT") {
                out.extend([0, 0]);
                out.extend(self.u32(length));
            } else {
                out.extend(self.u16(length as u16));
            }
        } else {
            out.extend(self.u32(length));
        }
        out.extend(bytes);
        out
    }

    fn value(self, vr: &[u8; 2], value: &Value) -> (Vec<u8>, bool) {
        match value {
            Value::Text(text) => (text.as_bytes().to_vec(), false),
            Value::Us(numbers) => (numbers.iter().flat_map(|n| self.u16(*n)).collect(), false),
            Value::Ul(numbers) => (numbers.iter().flat_map(|n| self.u32(*n)).collect(), false),
            Value::Bytes(bytes) => {
                let mut bytes = bytes.clone();
                if self.is_big && vr == b"OW" {
                    bytes.as_chunks_mut::<2>().0.iter_mut().for_each(|pair| pair.reverse());
                }
                (bytes, false)
            }
            Value::Items(items, is_stated) => {
                let mut out = Vec::new();
                for item in items {
                    let elements: Vec<u8> = item.iter().flat_map(|e| self.element(e)).collect();
                    out.extend(self.tag(0xfffe_e000));
                    out.extend(self.u32(if *is_stated {
                        elements.len() as u32
                    } else {
                        UNDEFINED
                    }));
                    out.extend(elements);
                    if !is_stated {
                        out.extend([self.tag(0xfffe_e00d), vec![0; 4]].concat());
                    }
                }
                if !is_stated {
                    out.extend([self.tag(0xfffe_e0dd), vec![0; 4]].concat());
                }
                (out, !is_stated)
            }
            Value::Fragments(offsets, fragments) => {
                let table: Vec<u8> = offsets.iter().flat_map(|n| self.u32(*n)).collect();
                let mut out = Vec::new();
                for fragment in [&table].into_iter().chain(fragments) {
                    out.extend(self.tag(0xfffe_e000));
                    out.extend(self.u32(fragment.len() as u32));
                    out.extend(fragment);
                }
                out.extend([self.tag(0xfffe_e0dd), vec![0; 4]].concat());
                (out, true)
            }
        }
    }
}

impl DicomFile {
    /// Replaces an element, or adds it in its place.
    pub fn set(&mut self, element: (u32, &'static [u8; 2], Value)) -> &mut Self {
        self.elements.retain(|(tag, _, _)| *tag != element.0);
        let at = self.elements.partition_point(|(tag, _, _)| *tag < element.0);
        self.elements.insert(at, element);
        self
    }

    pub fn remove(&mut self, tag: u32) -> &mut Self {
        self.elements.retain(|(found, _, _)| *found != tag);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let plain = Encoding { is_explicit: true, is_big: false };
        let own = Encoding { is_explicit: self.syntax != IMPLICIT, is_big: self.syntax == BIG };
        let body: Vec<u8> = self.elements.iter().flat_map(|e| own.element(e)).collect();
        if !self.has_preamble {
            return body;
        }
        let mut out = vec![0; 128];
        out.extend(b"DICM");
        out.extend(plain.element(&text(0x0002_0010, b"UI", self.syntax)));
        if self.syntax == DEFLATED {
            let mut encoder =
                flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::default());
            std::io::Write::write_all(&mut encoder, &body).unwrap();
            out.extend(encoder.finish().unwrap());
        } else {
            out.extend(body);
        }
        out
    }

    pub fn write(&self, path: &Path) {
        fs::write(path, self.bytes()).unwrap();
    }
}

/// Bytes with a long period, which reveal a shift; `seed` changes all.
pub fn pattern(bytes: usize, seed: usize) -> Vec<u8> {
    (0..bytes).map(|i| ((i + seed * 101) * 37 + (i + seed) / 251 * 11 + 5) as u8).collect()
}

pub const ROWS: usize = 5;
pub const COLUMNS: usize = 6;

/// A slice of a CT: 5 rows 0.5 mm apart, 6 columns 0.25 mm apart, signed 16 bits.
pub fn slice(number: usize) -> DicomFile {
    let elements = vec![
        text(0x0008_0016, b"UI", "1.2.840.10008.5.1.4.1.1.2"),
        text(0x0008_0018, b"UI", &format!("1.2.3.4.{number}")),
        text(0x0008_0060, b"CS", "CT"),
        text(0x0018_0050, b"DS", "2.5"),
        text(0x0020_000e, b"UI", "1.2.3.4"),
        text(0x0020_0011, b"IS", "7"),
        text(0x0020_0013, b"IS", &(number + 1).to_string()),
        decimals(0x0020_0032, &[-10.0, 20.0, 2.5 * number as f64 - 100.0]),
        decimals(0x0020_0037, &[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]),
        us(0x0028_0002, 1),
        text(0x0028_0004, b"CS", "MONOCHROME2"),
        us(0x0028_0010, ROWS as u16),
        us(0x0028_0011, COLUMNS as u16),
        decimals(0x0028_0030, &[0.5, 0.25]),
        us(0x0028_0100, 16),
        us(0x0028_0101, 16),
        us(0x0028_0102, 15),
        us(0x0028_0103, 1),
        text(0x0028_1052, b"DS", "-1024"),
        text(0x0028_1053, b"DS", "1"),
        (0x7fe0_0010, b"OW", Value::Bytes(pattern(ROWS * COLUMNS * 2, number))),
    ];
    DicomFile { syntax: EXPLICIT, has_preamble: true, elements }
}

/// The voxels of a volume of such slices.
pub fn slices(numbers: impl IntoIterator<Item = usize>) -> Vec<u8> {
    numbers.into_iter().flat_map(|number| pattern(ROWS * COLUMNS * 2, number)).collect()
}

/// A folder for a series, beside which stores are made.
pub struct Study {
    pub root: TempDir,
}

impl Study {
    pub fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("study")).unwrap();
        Self { root }
    }

    /// A series of so many slices, whose names run against their places.
    pub fn of(count: usize) -> Self {
        let study = Self::new();
        for number in 0..count {
            study.add(&name(number), &slice(number));
        }
        study
    }

    pub fn add(&self, name: &str, file: &DicomFile) {
        file.write(&self.root.path().join("study").join(name));
    }

    /// Ingests the folder.
    pub fn ingest(&self) -> Result<IngestReport> {
        self.ingest_as(&IngestOptions::default())
    }

    pub fn ingest_as(&self, options: &IngestOptions) -> Result<IngestReport> {
        let found = find(&[self.root.path().join("study")], &FindOptions::default())?;
        ingest(&found.manifest, &self.root.path().join("store.zarr"), options, &NoopObserver)
    }

    /// What is wrong with the folder.
    pub fn refusal(&self) -> String {
        self.ingest().unwrap_err().to_string()
    }

    pub fn store(&self) -> Dataset {
        voxquarry::open(self.root.path().join("store.zarr")).unwrap()
    }

    pub fn volume(&self, name: &str) -> Volume {
        self.store().subject("study").unwrap().volume(name).unwrap()
    }
}

/// The name of a slice's file.
pub fn name(number: usize) -> String {
    format!("{:03}", 999 - number)
}

/// All voxels of a volume, as bytes.
pub fn voxels<T: Voxel>(volume: &Volume) -> Vec<u8> {
    let array = volume.read::<T>(Region::whole(volume.size())).unwrap();
    array.iter().flat_map(|voxel| bytemuck::bytes_of(voxel).to_vec()).collect()
}
