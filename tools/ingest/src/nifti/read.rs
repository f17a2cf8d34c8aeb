//! Streams the voxels of a NIfTI file: plain, gzipped (any number of members), or a pair.
//!
//! # Invariants
//! - Nothing is allocated by a header's claim: a plain file's length is compared first, a gzipped one is read as it comes.
//! - A gzip checksum is compared before the stream counts as read.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};

use base64::prelude::{BASE64_STANDARD, Engine};
use flate2::bufread::GzDecoder;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use voxquarry::{Error, Result};

use super::header::{Header, Order, V1_BYTES, V2_BYTES, Version, is_version_two};
use super::pair_of;
use crate::source::{SourceDigest, SourceVolume, VoxelStream};

const BUFFER_BYTES: usize = 1 << 20;
/// Extensions beyond this are dropped: metadata documents are no place for megabytes.
const PREAMBLE_BYTES: u64 = 1 << 20;

/// Reads a file's header.
///
/// # Errors
/// [`Error::Data`] for what is no NIfTI file, is damaged, or holds what a store cannot; [`Error::Io`].
pub fn probe(path: &Path) -> Result<SourceVolume> {
    open_both(path).map(|(volume, ..)| volume)
}

/// Opens a file for reading its voxels in order.
///
/// # Errors
/// As [`probe`].
pub fn open(path: &Path) -> Result<(SourceVolume, Box<dyn VoxelStream>)> {
    let (volume, header, input) = open_both(path)?;
    let stream = NiftiStream { header, input, voxel: Vec::new() };
    Ok((volume, Box::new(stream)))
}

fn open_both(path: &Path) -> Result<(SourceVolume, Header, Input)> {
    let pair = pair_of(path);
    let header_path = pair.as_ref().map_or(path, |(header, _)| header);
    let mut input = Input::open(header_path)?;
    let mut preamble = Vec::new();
    input.read_up_to(&mut preamble, V1_BYTES)?;
    if is_version_two(&preamble) {
        input.read_up_to(&mut preamble, V2_BYTES)?;
    }
    let located = |message: String| Error::data(header_path, message);
    let header = Header::parse(&preamble).map_err(located)?;
    if header.pair && pair.is_none() {
        return Err(located("the voxels of this header are in a file of their own: name the .hdr/.img pair".into()));
    }
    let mut voxels = match &pair {
        None => {
            input.read_preamble(&mut preamble, header.vox_offset)?;
            input
        }
        Some((_, image)) => {
            input.read_up_to(&mut preamble, PREAMBLE_BYTES as usize)?;
            let mut image = Input::open(image)?;
            image.skip(header.vox_offset)?;
            image
        }
    };
    voxels.check_length(header.vox_offset, header.data_bytes())?;
    let volume = SourceVolume {
        size: header.size(),
        channels: header.channels(),
        interleaved: header.data_type.samples,
        dtype: header.data_type.dtype,
        affine: header.affine().map_err(located)?,
        slope: header.slope,
        intercept: header.intercept,
        origin: origin(&header, &preamble, pair.is_some()),
    };
    Ok((volume, header, voxels))
}

/// What export needs, and what people like to know.
fn origin(header: &Header, preamble: &[u8], pair: bool) -> Map<String, Value> {
    let whole = pair || preamble.len() as u64 == header.vox_offset;
    let kept = if whole { preamble } else { &preamble[..header.version.header_bytes()] };
    let finite = |v: f64| if v.is_finite() { json!(v) } else { Value::Null };
    let spatial = ["unknown", "meter", "mm", "micron"].get(usize::from(header.units & 7)).unwrap_or(&"unknown");
    let temporal = match header.units & 0x38 {
        8 => "sec",
        16 => "msec",
        24 => "usec",
        32 => "hz",
        40 => "ppm",
        48 => "rads",
        _ => "unknown",
    };
    let mut origin = json!({
        "format": "nifti",
        "version": if header.version == Version::One { 1 } else { 2 },
        "byte_order": if header.order == Order::Little { "little" } else { "big" },
        "pair": pair,
        "dim": header.dims,
        "datatype": header.data_type.code,
        "intent": {
            "code": header.intent_code,
            "name": header.intent_name,
            "parameters": header.intent_params.map(finite),
        },
        "units": { "spatial": spatial, "temporal": temporal },
        "preamble": BASE64_STANDARD.encode(kept),
    });
    if !whole {
        origin["extensions_dropped"] = json!(true);
    }
    match origin {
        Value::Object(map) => map,
        _ => unreachable!("an object was built"),
    }
}

struct NiftiStream {
    header: Header,
    input: Input,
    /// Interleaved samples of one plane, for RGB.
    voxel: Vec<u8>,
}

impl VoxelStream for NiftiStream {
    fn next_steps(&mut self, steps: usize, out: &mut [u8]) -> Result<()> {
        let (samples, width) = (self.header.data_type.samples, self.header.data_type.dtype.size());
        if samples == 1 {
            self.input.read_exact(out)?;
            if self.header.order == Order::Big {
                out.chunks_exact_mut(width).for_each(<[u8]>::reverse);
            }
            return Ok(());
        }
        let plane = out.len() / samples / steps;
        self.voxel.resize(plane * samples, 0);
        for z in 0..steps {
            self.input.read_exact(&mut self.voxel)?;
            for sample in 0..samples {
                let to = &mut out[(sample * steps + z) * plane..][..plane];
                for (to, voxel) in to.iter_mut().zip(self.voxel.chunks_exact(samples)) {
                    *to = voxel[sample];
                }
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<SourceDigest> {
        self.input.drain()?;
        Ok(self.input.digest())
    }
}

/// A file, decompressed where it is gzipped, its bytes hashed as they pass.
struct Input {
    path: PathBuf,
    file_bytes: u64,
    body: Body,
}

enum Body {
    Plain(BufReader<Hashing>),
    Gzip(Members),
}

impl Input {
    fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::io(path, "cannot open"))?;
        let metadata = file.metadata().map_err(Error::io(path, "cannot read the length of"))?;
        if !metadata.is_file() {
            return Err(Error::usage(format!("{}: not a file", path.display())));
        }
        let hashing = Hashing { file, sha256: Sha256::new(), bytes: 0 };
        let mut reader = BufReader::with_capacity(BUFFER_BYTES, hashing);
        let start = reader.fill_buf().map_err(Error::io(path, "cannot read"))?;
        let gzip = start.starts_with(&[0x1f, 0x8b]);
        let body = if gzip { Body::Gzip(Members::new(reader)) } else { Body::Plain(reader) };
        Ok(Self { path: path.to_owned(), file_bytes: metadata.len(), body })
    }

    fn error(&self, error: io::Error) -> Error {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let message = match (&self.body, error.kind()) {
            (Body::Plain(_), UnexpectedEof) => "ends before its last voxel".to_owned(),
            (Body::Gzip(_), UnexpectedEof) => "gzip stream is cut short".to_owned(),
            (Body::Gzip(_), InvalidData | InvalidInput) => format!("gzip stream is damaged ({error})"),
            _ => return Error::io(&self.path, "cannot read")(error),
        };
        Error::data(&self.path, format!("{message}: copy or download the file again"))
    }

    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match &mut self.body {
            Body::Plain(reader) => reader.read(out),
            Body::Gzip(members) => members.read(out),
        }
    }

    fn read_exact(&mut self, out: &mut [u8]) -> Result<()> {
        let result = match &mut self.body {
            Body::Plain(reader) => reader.read_exact(out),
            Body::Gzip(members) => members.read_exact(out),
        };
        result.map_err(|e| self.error(e))
    }

    /// Appends to `out` until it has `bytes`, or the file ends.
    fn read_up_to(&mut self, out: &mut Vec<u8>, bytes: usize) -> Result<()> {
        let mut piece = [0; 4096];
        while out.len() < bytes {
            let want = piece.len().min(bytes - out.len());
            let n = self.read(&mut piece[..want]).map_err(|e| self.error(e))?;
            if n == 0 {
                break;
            }
            out.extend_from_slice(&piece[..n]);
        }
        Ok(())
    }

    /// Reads on to the first voxel at `offset`; keeps the bytes before it if they are few.
    fn read_preamble(&mut self, preamble: &mut Vec<u8>, offset: u64) -> Result<()> {
        self.read_up_to(preamble, offset.min(PREAMBLE_BYTES) as usize)?;
        self.skip(offset - preamble.len() as u64)
    }

    fn skip(&mut self, mut bytes: u64) -> Result<()> {
        let mut piece = vec![0; 1 << 16];
        while bytes > 0 {
            let want = bytes.min(piece.len() as u64) as usize;
            self.read_exact(&mut piece[..want])?;
            bytes -= want as u64;
        }
        Ok(())
    }

    /// A plain file's length is known: what it lacks is said before anything is read.
    fn check_length(&self, offset: u64, data_bytes: u64) -> Result<()> {
        let needed = offset.saturating_add(data_bytes);
        match self.body {
            Body::Plain(_) if self.file_bytes < needed => Err(Error::data(
                &self.path,
                format!("has {} bytes, its header speaks of {needed}: it is cut short, copy or download it again", self.file_bytes),
            )),
            _ => Ok(()),
        }
    }

    /// Reads to the end, so that a gzip checksum is compared and every byte is hashed.
    fn drain(&mut self) -> Result<()> {
        let mut piece = vec![0; 1 << 16];
        while self.read(&mut piece).map_err(|e| self.error(e))? > 0 {}
        Ok(())
    }

    fn digest(self) -> SourceDigest {
        let hashing = match self.body {
            Body::Plain(reader) => reader.into_inner(),
            Body::Gzip(members) => members.into_hashing(),
        };
        let sha256 = hashing.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        SourceDigest { sha256, bytes: hashing.bytes }
    }
}

/// A file whose bytes are hashed as they are read.
struct Hashing {
    file: File,
    sha256: Sha256,
    bytes: u64,
}

impl Read for Hashing {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let n = self.file.read(out)?;
        self.sha256.update(&out[..n]);
        self.bytes += n as u64;
        Ok(n)
    }
}

/// The members of a gzip file, one behind the other, as one stream.
struct Members {
    /// `None` only while a member is exchanged for the next.
    state: Option<MemberState>,
}

enum MemberState {
    Within(GzDecoder<BufReader<Hashing>>),
    Ended(BufReader<Hashing>),
}

impl Members {
    fn new(reader: BufReader<Hashing>) -> Self {
        Self { state: Some(MemberState::Within(GzDecoder::new(reader))) }
    }

    fn into_hashing(self) -> Hashing {
        match self.state.expect("a state between calls") {
            MemberState::Within(decoder) => decoder.into_inner().into_inner(),
            MemberState::Ended(reader) => reader.into_inner(),
        }
    }
}

impl Read for Members {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        loop {
            let Some(MemberState::Within(decoder)) = &mut self.state else { return Ok(0) };
            let n = decoder.read(out)?;
            if n > 0 || out.is_empty() {
                return Ok(n);
            }
            let Some(MemberState::Within(decoder)) = self.state.take() else { unreachable!("matched above") };
            let mut reader = decoder.into_inner();
            let next = next_member(&mut reader);
            // The state is put back before an error leaves, so that a digest can still be asked for.
            self.state = Some(match next {
                Ok(true) => MemberState::Within(GzDecoder::new(reader)),
                _ => MemberState::Ended(reader),
            });
            next?;
        }
    }
}

/// Skips zeros behind a member, as gzip does (tapes padded with them), and tells whether another one follows.
fn next_member(reader: &mut BufReader<Hashing>) -> io::Result<bool> {
    loop {
        let rest = reader.fill_buf()?;
        match rest.iter().position(|&b| b != 0) {
            None if rest.is_empty() => return Ok(false),
            None => {
                let n = rest.len();
                reader.consume(n);
            }
            Some(zeros) => {
                let gzip = rest[zeros] == 0x1f;
                reader.consume(zeros);
                return if gzip { Ok(true) } else { Err(io::Error::new(io::ErrorKind::InvalidData, "bytes that are no gzip member follow")) };
            }
        }
    }
}
