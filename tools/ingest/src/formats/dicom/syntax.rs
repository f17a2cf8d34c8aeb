//! The transfer syntaxes: how a file's elements and pixels are encoded.
//!
//! `docs/ingest.md` has the same table.

/// How the pixels of a file are encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PixelCoding {
    /// Not encoded.
    Native,
    /// Run lengths of DICOM.
    Rle,
    /// JPEG baseline and lossless.
    Jpeg,
    /// JPEG-LS.
    JpegLs,
    /// JPEG 2000 and HTJ2K.
    Jpeg2000,
    /// One that cannot be read.
    Unknown,
}

/// A transfer syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TransferSyntax {
    pub(super) uid: &'static str,
    pub(super) name: &'static str,
    pub(super) pixels: PixelCoding,
    pub(super) is_explicit: bool,
    pub(super) is_big: bool,
    pub(super) is_deflated: bool,
}

const fn encapsulated(
    uid: &'static str,
    name: &'static str,
    pixels: PixelCoding,
) -> TransferSyntax {
    TransferSyntax { uid, name, pixels, is_explicit: true, is_big: false, is_deflated: false }
}

/// What a file without a transfer syntax has, if it states no VRs.
pub(super) const IMPLICIT_LITTLE: TransferSyntax = TransferSyntax {
    is_explicit: false,
    ..encapsulated("1.2.840.10008.1.2", "implicit VR little endian", Native)
};
pub(super) const EXPLICIT_LITTLE: TransferSyntax =
    encapsulated("1.2.840.10008.1.2.1", "explicit VR little endian", Native);
pub(super) const EXPLICIT_BIG: TransferSyntax = TransferSyntax {
    is_big: true,
    ..encapsulated("1.2.840.10008.1.2.2", "explicit VR big endian", Native)
};
const DEFLATED: TransferSyntax = TransferSyntax {
    is_deflated: true,
    ..encapsulated("1.2.840.10008.1.2.1.99", "deflated explicit VR little endian", Native)
};

use PixelCoding::{Jpeg, Jpeg2000, JpegLs, Native, Rle, Unknown};

/// All transfer syntaxes that are known by name.
const SYNTAXES: [TransferSyntax; 27] = [
    IMPLICIT_LITTLE,
    EXPLICIT_LITTLE,
    EXPLICIT_BIG,
    DEFLATED,
    encapsulated("1.2.840.10008.1.2.1.98", "encapsulated uncompressed explicit VR", Native),
    encapsulated("1.2.840.10008.1.2.5", "RLE lossless", Rle),
    encapsulated("1.2.840.10008.1.2.4.50", "JPEG baseline", Jpeg),
    encapsulated("1.2.840.10008.1.2.4.51", "JPEG extended", Jpeg),
    encapsulated("1.2.840.10008.1.2.4.57", "JPEG lossless", Jpeg),
    encapsulated("1.2.840.10008.1.2.4.70", "JPEG lossless, first-order prediction", Jpeg),
    encapsulated("1.2.840.10008.1.2.4.80", "JPEG-LS lossless", JpegLs),
    encapsulated("1.2.840.10008.1.2.4.81", "JPEG-LS near-lossless", JpegLs),
    encapsulated("1.2.840.10008.1.2.4.90", "JPEG 2000 lossless", Jpeg2000),
    encapsulated("1.2.840.10008.1.2.4.91", "JPEG 2000", Jpeg2000),
    encapsulated("1.2.840.10008.1.2.4.201", "HTJ2K lossless", Jpeg2000),
    encapsulated("1.2.840.10008.1.2.4.202", "HTJ2K lossless RPCL", Jpeg2000),
    encapsulated("1.2.840.10008.1.2.4.203", "HTJ2K", Jpeg2000),
    encapsulated("1.2.840.10008.1.2.4.53", "JPEG spectral selection", Unknown),
    encapsulated("1.2.840.10008.1.2.4.55", "JPEG full progression", Unknown),
    encapsulated("1.2.840.10008.1.2.4.92", "JPEG 2000 multi-component lossless", Unknown),
    encapsulated("1.2.840.10008.1.2.4.93", "JPEG 2000 multi-component", Unknown),
    encapsulated("1.2.840.10008.1.2.4.100", "MPEG2", Unknown),
    encapsulated("1.2.840.10008.1.2.4.102", "MPEG-4 H.264", Unknown),
    encapsulated("1.2.840.10008.1.2.4.107", "HEVC H.265", Unknown),
    encapsulated("1.2.840.10008.1.2.4.110", "JPEG XL lossless", Unknown),
    encapsulated("1.2.840.10008.1.2.4.111", "JPEG XL recompression", Unknown),
    encapsulated("1.2.840.10008.1.2.4.112", "JPEG XL", Unknown),
];

/// The syntax of a UID. One that is not known has explicit VRs, as all that are not retired have,
/// and pixels that cannot be read.
pub(super) fn syntax_of(uid: &str) -> TransferSyntax {
    let known = SYNTAXES.into_iter().find(|syntax| syntax.uid == uid);
    known.unwrap_or_else(|| encapsulated("", "a transfer syntax that is not known", Unknown))
}
