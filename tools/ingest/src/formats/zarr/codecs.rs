//! The codecs of a chunk: from the bytes of a file to elements.
//!
//! # Invariants
//! - No codec makes more bytes of a file than the metadata allow: those that could are decoded here
//!   into memory of that size, others by `zarrs`.
//! - A codec that panics is damage.

use std::borrow::Cow;
use std::error::Error;
use std::io::{self, Cursor, Read};
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};

use bzip2::read::MultiBzDecoder;
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use zarrs::array::{
    ArrayToBytesCodecTraits, BytesRepresentation, BytesToBytesCodecTraits, CodecChain,
    CodecOptions, DataType, FillValue,
};
use zarrs::plugin::ZarrVersion;

/// Bytes that any chunk may take beside twice its elements, packed or not.
const SLACK: u64 = 1 << 20;

/// The codecs of chunks of one shape.
#[derive(Debug)]
pub(super) struct ChunkCodecs {
    /// From elements to bytes.
    array: CodecChain,
    /// From bytes to bytes, in the order of encoding, each with what it decodes to.
    bytes: Vec<BytesPacking>,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill_value: FillValue,
    options: CodecOptions,
    /// Bytes of the elements.
    decoded_bytes: u64,
    /// Bytes of an encoded chunk, if they do not depend on the elements.
    fixed_bytes: Option<u64>,
}

#[derive(Debug)]
struct BytesPacking {
    codec: std::sync::Arc<dyn BytesToBytesCodecTraits>,
    method: Method,
    decoded: BytesRepresentation,
}

#[derive(Clone, Copy, Debug)]
enum Method {
    Gzip,
    Zlib,
    Bzip2,
    Zstd,
    Blosc,
    /// Does not make more bytes than it gets.
    Other,
}

impl ChunkCodecs {
    /// The codecs of `chain`, for chunks of `shape`.
    ///
    /// # Errors
    /// A message about codecs that cannot encode such elements.
    pub(super) fn new(
        chain: &CodecChain,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill_value: &FillValue,
        element_bytes: usize,
    ) -> Result<Self, String> {
        let elements = shape.iter().try_fold(element_bytes as u64, |n, m| n.checked_mul(m.get()));
        // As many again for what codecs add.
        let decoded_bytes =
            elements.filter(|&n| n <= isize::MAX as u64 / 4).ok_or("its chunks are too large")?;
        let array = CodecChain::new(
            chain.array_to_array_codecs().to_vec(),
            chain.array_to_bytes_codec().clone(),
            Vec::new(),
        );
        let text = |error: zarrs::array::CodecError| error.to_string();
        let mut decoded =
            array.encoded_representation(shape, data_type, fill_value).map_err(text)?;
        let mut bytes = Vec::new();
        for codec in chain.bytes_to_bytes_codecs() {
            let method = method_of(&**codec);
            bytes.push(BytesPacking { codec: codec.clone(), method, decoded });
            decoded = codec.encoded_representation(&decoded);
        }
        let fixed_bytes = match decoded {
            BytesRepresentation::FixedSize(bytes) => Some(bytes),
            _ => None,
        };
        Ok(Self {
            array,
            bytes,
            shape: shape.to_vec(),
            data_type: data_type.clone(),
            fill_value: fill_value.clone(),
            // Several chunks are decoded side by side; rayon's global threads stay unused.
            options: CodecOptions::default().with_concurrent_target(1),
            decoded_bytes,
            fixed_bytes,
        })
    }

    /// Bytes of the elements of a chunk.
    pub(super) fn decoded_bytes(&self) -> u64 {
        self.decoded_bytes
    }

    /// Bytes of an encoded chunk, if all have as many.
    pub(super) fn fixed_bytes(&self) -> Option<u64> {
        self.fixed_bytes
    }

    /// More bytes than an encoded chunk has.
    pub(super) fn most_bytes(&self) -> u64 {
        self.limit(BytesRepresentation::UnboundedSize)
    }

    fn limit(&self, decoded: BytesRepresentation) -> u64 {
        let most = self.decoded_bytes.saturating_mul(2).saturating_add(SLACK);
        decoded.size().unwrap_or(most).min(most)
    }

    /// The elements of a chunk, in C order and in the host's byte order.
    ///
    /// # Errors
    /// A message about the damage; [`io::ErrorKind::OutOfMemory`].
    pub(super) fn decode(&self, encoded: Vec<u8>) -> io::Result<Vec<u8>> {
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode_any(encoded)));
        decoded.unwrap_or_else(|_| Err(damaged("a decoder does not accept its bytes")))
    }

    fn decode_any(&self, encoded: Vec<u8>) -> io::Result<Vec<u8>> {
        let mut bytes = encoded;
        for packing in self.bytes.iter().rev() {
            bytes = packing.decode(bytes, self.limit(packing.decoded), &self.options)?;
        }
        // Copies of the elements, one for each codec at a time.
        drop(reserved(self.decoded_bytes)?);
        let decoded = self.array.decode(
            Cow::Owned(bytes),
            &self.shape,
            &self.data_type,
            &self.fill_value,
            &self.options,
        );
        let elements = decoded.and_then(|elements| Ok(elements.into_fixed()?)).map_err(damaged)?;
        if elements.len() as u64 != self.decoded_bytes {
            let (found, wanted) = (elements.len(), self.decoded_bytes);
            return Err(damaged(format!("{found} bytes were decoded of {wanted}")));
        }
        Ok(elements.into_owned())
    }
}

fn method_of(codec: &dyn BytesToBytesCodecTraits) -> Method {
    let name = codec.name(ZarrVersion::V3).unwrap_or_default();
    match name.strip_prefix("numcodecs.").unwrap_or(&name) {
        "gzip" => Method::Gzip,
        "zlib" => Method::Zlib,
        "bz2" => Method::Bzip2,
        "zstd" => Method::Zstd,
        "blosc" => Method::Blosc,
        _ => Method::Other,
    }
}

impl BytesPacking {
    /// What `encoded` is packed from, at most `limit` bytes.
    fn decode(&self, encoded: Vec<u8>, limit: u64, options: &CodecOptions) -> io::Result<Vec<u8>> {
        let input = || Cursor::new(&encoded);
        match self.method {
            Method::Gzip => read_bounded(MultiGzDecoder::new(input()), limit),
            Method::Zlib => read_bounded(ZlibDecoder::new(input()), limit),
            Method::Bzip2 => read_bounded(MultiBzDecoder::new(input()), limit),
            Method::Zstd => {
                let mut decoded = reserved(limit)?;
                match zstd_safe::decompress(&mut decoded, &encoded) {
                    Ok(_) => Ok(decoded),
                    Err(code) => Err(damaged(zstd_safe::get_error_name(code))),
                }
            }
            Method::Blosc | Method::Other => {
                if matches!(self.method, Method::Blosc) {
                    check_blosc(&encoded, limit)?;
                    drop(reserved(limit)?);
                }
                let decoded = self.codec.decode(Cow::Owned(encoded), &self.decoded, options);
                Ok(decoded.map_err(damaged)?.into_owned())
            }
        }
    }
}

/// Compares the lengths that a Blosc frame states with those of its bytes and of a chunk.
fn check_blosc(frame: &[u8], limit: u64) -> io::Result<()> {
    let word = |at: usize| frame.get(at..at + 4).and_then(|bytes| bytes.try_into().ok());
    let (Some(decoded), Some(encoded)) = (word(4), word(12)) else {
        return Err(damaged("a Blosc frame is cut"));
    };
    let [decoded, encoded] = [decoded, encoded].map(u32::from_le_bytes).map(u64::from);
    if encoded > frame.len() as u64 || decoded > limit {
        return Err(damaged("a Blosc frame is cut, or holds more than a chunk"));
    }
    Ok(())
}

/// Memory for so many bytes.
fn reserved(bytes: u64) -> io::Result<Vec<u8>> {
    let mut memory = Vec::new();
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    memory.try_reserve_exact(bytes).map_err(|_| io::Error::from(io::ErrorKind::OutOfMemory))?;
    Ok(memory)
}

fn read_bounded(decoder: impl Read, limit: u64) -> io::Result<Vec<u8>> {
    let mut decoded = reserved(limit)?;
    decoder.take(limit + 1).read_to_end(&mut decoded)?;
    if decoded.len() as u64 > limit {
        return Err(damaged(format!("it holds more than the {limit} bytes of a chunk")));
    }
    Ok(decoded)
}

fn damaged(reason: impl Into<Box<dyn Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use zarrs::array::data_type;
    use zarrs::metadata::v3::MetadataV3;

    use super::*;

    fn codecs(json: &str, shape: [u64; 2]) -> ChunkCodecs {
        let metadata: Vec<MetadataV3> = serde_json::from_str(json).unwrap();
        let shape = shape.map(|n| NonZeroU64::new(n).unwrap());
        let chain = CodecChain::from_metadata(&metadata).unwrap();
        let (data_type, fill) = (data_type::uint8(), FillValue::from(0u8));
        ChunkCodecs::new(&chain, &shape, &data_type, &fill, 1).unwrap()
    }

    #[test]
    fn more_than_a_chunk_is_not_decoded() {
        let name = |codec: &str| format!(r#"[{{"name":"bytes"}},{codec}]"#);
        let gzip = name(r#"{"name":"gzip","configuration":{"level":1}}"#);
        let zstd = name(r#"{"name":"zstd","configuration":{"level":1,"checksum":false}}"#);
        let pack_gzip = |bytes: &[u8]| {
            let mut to = GzEncoder::new(Vec::new(), Compression::fast());
            to.write_all(bytes).unwrap();
            to.finish().unwrap()
        };
        let pack_zstd = |bytes: &[u8]| {
            let mut to = Vec::with_capacity(zstd_safe::compress_bound(bytes.len()));
            zstd_safe::compress(&mut to, bytes, 1).unwrap();
            to
        };
        for (json, pack) in [(gzip, &pack_gzip as &dyn Fn(&[u8]) -> Vec<u8>), (zstd, &pack_zstd)] {
            let codecs = codecs(&json, [4, 5]);
            assert_eq!(codecs.decode(pack(&[7; 20])).unwrap(), [7; 20]);
            for bytes in [0, 19, 21, 100_000_000] {
                assert!(codecs.decode(pack(&vec![7; bytes])).is_err(), "{json}: {bytes}");
            }
            for end in 0..pack(&[7; 20]).len() {
                assert!(codecs.decode(pack(&[7; 20])[..end].to_vec()).is_err(), "{json}: {end}");
            }
        }
    }

    #[test]
    fn a_frame_that_states_more_is_refused() {
        let json = r#"[{"name":"bytes"},{"name":"blosc","configuration":
            {"cname":"lz4","clevel":1,"shuffle":"noshuffle","blocksize":0}}]"#;
        let codecs = codecs(json, [4, 5]);
        let mut frame = vec![2, 1, 2, 1, 20, 0, 0, 0, 20, 0, 0, 0, 36, 0, 0, 0];
        frame.extend([9; 20]);
        assert_eq!(codecs.decode(frame.clone()).unwrap(), [9; 20]);
        for (at, byte) in [(4, 21), (7, 127), (12, 200), (15, 255)] {
            let mut frame = frame.clone();
            frame[at] = byte;
            assert!(codecs.decode(frame).is_err(), "{at}");
        }
        assert!(codecs.decode(frame[..15].to_vec()).is_err());
    }
}
