//! Parses the elements of a file up to its pixels, and locates these.
//!
//! A file may have a preamble or none, meta elements or none, and elements that state no VR among
//! those that do.
//!
//! # Invariants
//! - Memory is bounded: values that are not read are skipped, those that are have a total bound, as
//!   has the depth of sequences.
//! - No pixel is read.
//!
//! Not here: what elements mean (`instance`).

use std::io::{self, ErrorKind};
use std::path::Path;

use voxquarry::{Error, Result};

use super::dataset::{DataElement, DataSet, ElementValue};
use super::header_input::HeaderInput;
use super::syntax::{
    EXPLICIT_BIG, EXPLICIT_LITTLE, IMPLICIT_LITTLE, PixelCoding, TransferSyntax, syntax_of,
};
use super::tags::{
    self, ITEM, ITEM_DELIMITER, SEQUENCE_DELIMITER, TRANSFER_SYNTAX_UID, Tag, holds_pixels,
};

/// Sequences within sequences; functional groups need four.
const DEEPEST: usize = 24;
/// The longest value that is kept, and all values of a file together.
const MAX_VALUE_BYTES: u64 = 4 << 20;
const MAX_KEPT_BYTES: usize = 32 << 20;
/// Elements and items of a file that are kept, and fragments of its pixels.
const MAX_KEPT: usize = 600_000;
const MAX_FRAGMENTS: usize = 1 << 20;
const UNDEFINED: u32 = u32::MAX;
/// VRs that are followed by two bytes without meaning and a length of 32 bits.
const LONG: [&[u8; 2]; 13] =
    [b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"];
const SHORT: [&[u8; 2]; 21] = [
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO", b"LT", b"PN",
    b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
];

/// The elements of a file that are kept, and where its pixels are.
#[derive(Clone, Debug)]
pub(super) struct ParsedFile {
    pub(super) data: DataSet,
    pub(super) syntax: TransferSyntax,
    /// Bytes before the deflated part, if there is one.
    pub(super) plain_bytes: u64,
    /// `None` of a file without pixels.
    pub(super) pixels: Option<PixelBlock>,
}

/// Where the pixels of a file are; offsets are those of the inflated file if it is deflated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PixelBlock {
    pub(super) tag: Tag,
    pub(super) bytes: PixelBytes,
    /// The file ends before its pixels do.
    pub(super) is_cut: bool,
    /// Whether they are stated as words of 16 bits.
    pub(super) is_words: bool,
}

/// The bytes of pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PixelBytes {
    /// One piece.
    Whole { offset: u64, bytes: u64 },
    /// Fragments of frames.
    Fragments {
        /// The offset and length of each.
        fragments: Vec<(u64, u32)>,
        /// Where frames begin, counted from the first fragment's tag; empty if it is not stated.
        frame_offsets: Vec<u64>,
    },
}

/// The tag, VR and length of an element.
struct ElementStart {
    tag: Tag,
    /// `None` where none is stated.
    vr: Option<[u8; 2]>,
    length: u32,
}

/// Whether a file that begins with `head` is DICOM.
pub(super) fn is_dicom(head: &[u8]) -> bool {
    if head.get(128..132) == Some(b"DICM") {
        return true;
    }
    // Without a preamble: two elements of group 2 or 8 in order, the first of them short.
    let Some(start) = head.first_chunk::<8>() else { return false };
    let is_big = start[0] == 0;
    let u16_at = |at: usize| {
        let pair = [*head.get(at)?, *head.get(at + 1)?];
        Some(if is_big { u16::from_be_bytes(pair) } else { u16::from_le_bytes(pair) })
    };
    let tag_at = |at: usize| Some((u16_at(at)?, u16_at(at + 2)?));
    let is_explicit = SHORT.contains(&&[start[4], start[5]]);
    let length = if is_explicit {
        u16_at(6).map(usize::from)
    } else {
        let bytes = [start[4], start[5], start[6], start[7]];
        (!is_big).then_some(u32::from_le_bytes(bytes) as usize)
    };
    let Some(length) = length.filter(|length| *length <= 256 && length.is_multiple_of(2)) else {
        return false;
    };
    match (tag_at(0), tag_at(8 + length)) {
        (Some(first @ (2 | 8, element)), Some(next @ (2 | 8, _))) => {
            element <= 0x20 && next > first
        }
        _ => false,
    }
}

/// Parses a file up to its pixels.
///
/// # Errors
/// [`Error::Data`] if it is damaged or no DICOM, [`Error::Unsupported`] if it is no regular file,
/// [`Error::Io`].
pub(super) fn parse(path: &Path) -> Result<ParsedFile> {
    let input = HeaderInput::open(path)?;
    let parser = Parser { input, is_big: false, kept: 0, kept_bytes: 0 };
    parser.file().map_err(|error| match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof => {
            Error::data(path, format!("no whole DICOM file: {error}"))
        }
        _ => Error::io(path, "cannot read")(error),
    })
}

pub(super) fn damaged(message: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, message.into())
}

struct Parser {
    input: HeaderInput,
    is_big: bool,
    kept: usize,
    kept_bytes: usize,
}

impl Parser {
    fn file(mut self) -> io::Result<ParsedFile> {
        let start = self.input.peek(132)?;
        if start.starts_with(&[0x1f, 0x8b]) {
            return Err(damaged("it is compressed with gzip, unpack it first"));
        }
        let has_preamble = start.get(128..132) == Some(b"DICM");
        if !has_preamble && !is_dicom(&self.input.peek(1024)?) {
            return Err(damaged("neither the mark DICM at byte 128 nor elements at byte 0"));
        }
        if has_preamble {
            self.input.skip(132)?;
        }
        let mut meta = DataSet::default();
        while self.input.peek(2)? == [2, 0] {
            let Some(start) = self.element_start(true)? else { break };
            self.element(&start, true, 0, &mut meta)?;
        }
        let stated = meta.word(TRANSFER_SYNTAX_UID);
        let (mut syntax, plain_bytes) = (syntax_of(&stated), self.input.position());
        if syntax.is_deflated {
            self.input.inflate()?;
        }
        let ahead = self.input.peek(8)?;
        if let Some(ahead) = ahead.first_chunk::<8>() {
            syntax = agreed(syntax, stated.is_empty(), *ahead);
        }
        self.is_big = syntax.is_big;
        let mut data = DataSet::default();
        let mut pixels = None;
        while let Some(start) = self.element_start(syntax.is_explicit)? {
            if holds_pixels(start.tag) {
                pixels = Some(self.pixels(&start, &data)?);
                break;
            }
            self.element(&start, syntax.is_explicit, 0, &mut data)?;
        }
        Ok(ParsedFile { data, syntax, plain_bytes, pixels })
    }

    fn u16(&mut self) -> io::Result<u16> {
        let bytes = self.input.array()?;
        Ok(if self.is_big { u16::from_be_bytes(bytes) } else { u16::from_le_bytes(bytes) })
    }

    fn u32(&mut self) -> io::Result<u32> {
        let bytes = self.input.array()?;
        Ok(if self.is_big { u32::from_be_bytes(bytes) } else { u32::from_le_bytes(bytes) })
    }

    /// The start of the next element; `None` at the end of the file.
    fn element_start(&mut self, is_explicit: bool) -> io::Result<Option<ElementStart>> {
        if self.input.is_at_end()? {
            return Ok(None);
        }
        let tag = u32::from(self.u16()?) << 16 | u32::from(self.u16()?);
        if !is_explicit || tag >> 16 == ITEM >> 16 {
            return Ok(Some(ElementStart { tag, vr: None, length: self.u32()? }));
        }
        let vr: [u8; 2] = self.input.array()?;
        if LONG.contains(&&vr) {
            self.u16()?;
            return Ok(Some(ElementStart { tag, vr: Some(vr), length: self.u32()? }));
        }
        let short: [u8; 2] = self.input.array()?;
        if vr.iter().all(u8::is_ascii_uppercase) {
            let order = if self.is_big { u16::from_be_bytes } else { u16::from_le_bytes };
            let length = u32::from(order(short));
            return Ok(Some(ElementStart { tag, vr: Some(vr), length }));
        }
        // Writers put elements without a VR into files that have them.
        let [a, b] = vr;
        let [c, d] = short;
        let order = if self.is_big { u32::from_be_bytes } else { u32::from_le_bytes };
        Ok(Some(ElementStart { tag, vr: None, length: order([a, b, c, d]) }))
    }

    /// Reads or skips the value of an element.
    fn element(
        &mut self,
        start: &ElementStart,
        is_explicit: bool,
        depth: usize,
        into: &mut DataSet,
    ) -> io::Result<()> {
        let &ElementStart { tag, vr, length } = start;
        let is_kept = tags::is_kept(tag);
        let is_sequence = tags::is_sequence(tag);
        if length == UNDEFINED && matches!(vr.as_ref(), Some(b"OB" | b"OW")) {
            // The pixels of an icon.
            return self.fragments().map(|_| ());
        }
        if length == UNDEFINED || (is_kept && is_sequence && length > 0) {
            // What has no known VR is encoded without VRs (PS3.5, 6.2.2).
            let is_explicit = is_explicit && vr != Some(*b"UN");
            let end = (length != UNDEFINED).then(|| self.input.position() + u64::from(length));
            let items = self.items(end, is_explicit, is_kept && is_sequence, depth)?;
            if is_kept && is_sequence {
                self.keep(0)?;
                into.0.push(DataElement { tag, value: ElementValue::Items(items) });
            }
            return Ok(());
        }
        let length = u64::from(length);
        let at = |what: &str| format!("element ({:04x},{:04x}) {what}", tag >> 16, tag & 0xffff);
        if self.input.left().is_some_and(|left| length > left) {
            return Err(damaged(at(&format!("has {length} bytes, more than the file"))));
        }
        if !is_kept || is_sequence {
            return self.input.skip(length);
        }
        if length > MAX_VALUE_BYTES {
            return Err(damaged(at(&format!("has {length} bytes, more than {MAX_VALUE_BYTES}"))));
        }
        self.keep(length as usize)?;
        let mut bytes = self.input.bytes(length as usize)?;
        if self.is_big {
            swap(&mut bytes, vr);
        }
        into.0.push(DataElement { tag, value: ElementValue::Bytes(bytes.into()) });
        Ok(())
    }

    /// Counts what is kept.
    fn keep(&mut self, bytes: usize) -> io::Result<()> {
        self.kept += 1;
        self.kept_bytes += bytes;
        if self.kept > MAX_KEPT || self.kept_bytes > MAX_KEPT_BYTES {
            return Err(damaged(format!(
                "its header has more than {MAX_KEPT} elements or {MAX_KEPT_BYTES} bytes to read"
            )));
        }
        Ok(())
    }

    /// Reads the items of a sequence, to its delimiter or to `end`.
    fn items(
        &mut self,
        end: Option<u64>,
        is_explicit: bool,
        is_kept: bool,
        depth: usize,
    ) -> io::Result<Vec<DataSet>> {
        if depth == DEEPEST {
            return Err(damaged(format!("sequences within sequences, more than {DEEPEST}")));
        }
        let mut items = Vec::new();
        loop {
            if end.is_some_and(|end| self.input.position() >= end) {
                return Ok(items);
            }
            let Some(start) = self.element_start(is_explicit)? else {
                return Err(damaged("it ends within a sequence"));
            };
            match start.tag {
                ITEM => {}
                SEQUENCE_DELIMITER => return Ok(items),
                _ => return Err(damaged("a sequence holds what is no item")),
            }
            if !is_kept && start.length != UNDEFINED {
                self.input.skip(u64::from(start.length))?;
                continue;
            }
            let mut item = DataSet::default();
            let item_end = self.input.position() + u64::from(start.length);
            let item_end = (start.length != UNDEFINED).then_some(item_end);
            self.item(item_end, is_explicit, depth + 1, &mut item)?;
            if is_kept {
                self.keep(0)?;
                items.push(item);
            }
        }
    }

    /// Reads the elements of an item, to its delimiter or to `end`.
    fn item(
        &mut self,
        end: Option<u64>,
        is_explicit: bool,
        depth: usize,
        into: &mut DataSet,
    ) -> io::Result<()> {
        while end.is_none_or(|end| self.input.position() < end) {
            let Some(start) = self.element_start(is_explicit)? else {
                return Err(damaged("it ends within an item"));
            };
            match start.tag {
                ITEM_DELIMITER => return Ok(()),
                ITEM | SEQUENCE_DELIMITER => return Err(damaged("an item without an end")),
                _ => self.element(&start, is_explicit, depth, into)?,
            }
        }
        Ok(())
    }

    /// Locates the pixels, whose element starts here.
    fn pixels(&mut self, start: &ElementStart, data: &DataSet) -> io::Result<PixelBlock> {
        let (tag, is_words) = (start.tag, start.vr == Some(*b"OW"));
        if start.length != UNDEFINED {
            let (offset, bytes) = (self.input.position(), u64::from(start.length));
            let is_cut = self.input.left().is_some_and(|left| bytes > left);
            let bytes = PixelBytes::Whole { offset, bytes };
            return Ok(PixelBlock { tag, bytes, is_cut, is_words });
        }
        let (mut frame_offsets, fragments, is_cut) = self.fragments()?;
        if data.has(tags::EXTENDED_OFFSET_TABLE) {
            frame_offsets = data.u64s(tags::EXTENDED_OFFSET_TABLE);
        }
        let bytes = PixelBytes::Fragments { fragments, frame_offsets };
        Ok(PixelBlock { tag, bytes, is_cut, is_words })
    }

    /// Reads the table of offsets, and passes over the fragments.
    #[allow(clippy::type_complexity)]
    fn fragments(&mut self) -> io::Result<(Vec<u64>, Vec<(u64, u32)>, bool)> {
        let (mut offsets, mut fragments, mut is_first) = (Vec::new(), Vec::new(), true);
        loop {
            // Some writers leave out the delimiter.
            let Some(start) = self.element_start(false)? else {
                return Ok((offsets, fragments, is_first));
            };
            match start.tag {
                SEQUENCE_DELIMITER => return Ok((offsets, fragments, false)),
                ITEM => {}
                _ => return Err(damaged("among the fragments of pixels is something else")),
            }
            let length = u64::from(start.length);
            if is_first {
                if length > MAX_VALUE_BYTES {
                    return Err(damaged("the table of frames is too long"));
                }
                let table = self.input.bytes(length as usize)?;
                let numbers = table.as_chunks().0.iter();
                offsets = numbers.map(|n| u64::from(u32::from_le_bytes(*n))).collect();
                is_first = false;
                continue;
            }
            fragments.push((self.input.position(), start.length));
            if self.input.left().is_some_and(|left| length > left) {
                return Ok((offsets, fragments, true));
            }
            if fragments.len() > MAX_FRAGMENTS {
                return Err(damaged(format!("pixels of more than {MAX_FRAGMENTS} fragments")));
            }
            self.input.skip(length)?;
        }
    }
}

/// The syntax that the first element has, where a file states none or another.
fn agreed(stated: TransferSyntax, states_none: bool, ahead: [u8; 8]) -> TransferSyntax {
    let vr = [ahead[4], ahead[5]];
    let has_vr = SHORT.contains(&&vr) || LONG.contains(&&vr);
    match () {
        () if states_none && ahead[0] == 0 && has_vr => EXPLICIT_BIG,
        () if states_none && has_vr => EXPLICIT_LITTLE,
        () if states_none => IMPLICIT_LITTLE,
        () if stated == IMPLICIT_LITTLE && has_vr => EXPLICIT_LITTLE,
        () if stated.is_explicit && !has_vr && stated.pixels == PixelCoding::Native => {
            TransferSyntax { is_explicit: stated.is_big, ..stated }
        }
        () => stated,
    }
}

/// Makes the numbers of a big endian value little endian.
fn swap(bytes: &mut [u8], vr: Option<[u8; 2]>) {
    let width = match vr.as_ref() {
        Some(b"US" | b"SS" | b"AT" | b"OW") => 2,
        Some(b"UL" | b"SL" | b"FL" | b"OF" | b"OL") => 4,
        Some(b"FD" | b"OD" | b"OV" | b"SV" | b"UV") => 8,
        _ => 1,
    };
    crate::formats::voxels::swap(bytes, width);
}
