//! Reads and writes arrays of numpy: `.npy`, and the members of `.npz`.
//!
//! `header` reads what describes an array, `archive` the list of a `.npz`; `fortran` gathers the
//! layers of arrays whose first axis is fastest; `write` writes arrays.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//! - Nothing is unpickled.

mod archive;
mod fortran;
mod header;
mod write;

use std::path::{Path, PathBuf};

use serde_json::json;
use voxquarry::{Affine, Error, IfExists, Result, Size3};

use super::byte_input::ByteInput;
use super::export_spec::ExportSpec;
use super::file_chain::FileChain;
use super::format::{
    ExportFormat, Format, FoundVolume, OpenedVolume, Place, VolumeExport, alone, only_one,
};
use super::raster::{OpenedRaster, RasterLayout, VoxelBytes, no_footer};
use super::stated::Stated;
use crate::memory::DigestedStream;
use crate::source::{SourceVolume, VoxelStream, metadata};
use archive::Member;
use fortran::OpenedFortran;
use header::ArrayHeader;

/// Arrays of numpy.
pub(super) struct Numpy;

impl Format for Numpy {
    fn name(&self) -> &'static str {
        "NumPy"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".npy", ".npz"]
    }

    fn recognises(&self, path: &Path, head: &[u8]) -> bool {
        head.starts_with(header::MAGIC) || (is_archive(path) && head.starts_with(b"PK"))
    }

    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        if !is_archive(path) {
            return Ok(vec![alone(path)]);
        }
        // Damage is found when the volume is opened.
        let members = volumes_of(path).unwrap_or_default();
        if members.len() < 2 {
            return Ok(vec![alone(path)]);
        }
        let found = members.into_iter().map(|member| {
            let place = Place::Member { path: path.to_owned(), member: member.name.clone() };
            FoundVolume { name: Some(member.name), kind: None, place }
        });
        Ok(found.collect())
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        let path = place.path();
        let source = match place {
            Place::File(path) if !is_archive(path) => ArraySourceFile::plain(path),
            Place::File(path) => ArraySourceFile::member(path, only_volume(path)?),
            Place::Member { path, member } => {
                let members = archive::members(path)?;
                let names =
                    || members.iter().map(|m| m.name.as_str()).collect::<Vec<_>>().join(", ");
                let found = members.iter().find(|known| known.name == *member);
                let found = found.cloned().ok_or_else(|| {
                    Error::data(path, format!("it has no array {member:?}; it has {}", names()))
                })?;
                ArraySourceFile::member(path, found)
            }
        };
        source.open(path, stated)
    }

    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>> {
        // A change of another array of the file is no change of this one.
        Ok((!is_archive(place.path())).then(|| vec![place.path().to_owned()]))
    }

    fn export_endings(&self) -> &'static [&'static str] {
        &[".npy"]
    }

    fn export(&self) -> Option<&dyn ExportFormat> {
        Some(self)
    }
}

impl ExportFormat for Numpy {
    fn keeps_scaling(&self) -> bool {
        false
    }

    fn create(
        &self,
        out: &Path,
        spec: &ExportSpec,
        if_exists: IfExists,
        _threads: usize,
    ) -> Result<Box<dyn VolumeExport>> {
        write::create(out, spec, if_exists)
    }
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"))
}

/// The arrays of an archive that are volumes: of three or four axes.
fn volumes_of(path: &Path) -> Result<Vec<Member>> {
    let mut members = archive::members(path)?;
    members.retain(|member| {
        let source = ArraySourceFile::member(path, member.clone());
        source.header().is_ok_and(|(header, _)| header.shape.len() > 2)
    });
    Ok(members)
}

/// The array of an archive that holds one volume.
fn only_volume(path: &Path) -> Result<Member> {
    let mut all = archive::members(path)?;
    if all.len() == 1 {
        // Opening it says what may be wrong.
        return Ok(all.remove(0));
    }
    let volumes = volumes_of(path)?;
    let name = only_one(path, volumes.iter().map(|member| member.name.clone()).collect())?;
    let found = volumes.into_iter().find(|member| member.name == name);
    Ok(found.expect("it is one of them"))
}

/// A file of an array: a whole one, or a member of an archive.
#[derive(Clone)]
struct ArraySourceFile {
    path: PathBuf,
    member: Option<Member>,
}

impl ArraySourceFile {
    fn plain(path: &Path) -> Self {
        Self { path: path.to_owned(), member: None }
    }

    fn member(path: &Path, member: Member) -> Self {
        Self { path: path.to_owned(), member: Some(member) }
    }

    /// The description of the array, and its bytes.
    fn header(&self) -> Result<(ArrayHeader, Box<dyn VoxelBytes>)> {
        let located = |message: String| Error::data(&self.path, self.named(&message));
        let Some(member) = &self.member else {
            let mut input = ByteInput::open_plain(&self.path)?;
            let header = ArrayHeader::read(|out| input.read_exact(out), located)?;
            let bytes = header.voxel_bytes();
            input.expect(input.position() + bytes)?;
            return Ok((header, Box::new(FileChain::continuing(&self.path, input, bytes))));
        };
        let mut bytes = member.open(&self.path)?;
        let header = ArrayHeader::read(|out| bytes.fill(out), located)?;
        bytes.expect(header.voxel_bytes())?;
        Ok((header, Box::new(bytes)))
    }

    fn named(&self, message: &str) -> String {
        let member = self.member.as_ref();
        member.map_or(message.to_owned(), |m| format!("array {}: {message}", m.name))
    }

    fn open(self, path: &Path, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        let (header, bytes) = self.header()?;
        let (size, channels) = header.extents().map_err(|e| Error::data(path, self.named(&e)))?;
        let mut notes = Vec::new();
        let (affine, _) = stated.geometry(None, &mut notes);
        let volume = describe(&header, size, channels, affine);
        let is_member = self.member.is_some();
        let opened: Box<dyn OpenedVolume> = if header.is_fortran && header.shape.len() > 1 {
            notes.push(
                "its first axis is fastest (Fortran order): the file is read once for each layer \
                 of chunks"
                    .to_owned(),
            );
            let reopen = Box::new(move || self.header().map(|(_, bytes)| bytes));
            Box::new(OpenedFortran::new(path, volume, header.order, reopen, notes))
        } else {
            let layout = RasterLayout::planes(size, header.dtype, header.order);
            let label_names = Vec::new();
            let footer = no_footer;
            Box::new(OpenedRaster { volume, layout, bytes, notes, label_names, footer })
        };
        Ok(if is_member { Box::new(OpenedMember(opened)) } else { opened })
    }
}

fn describe(
    header: &ArrayHeader,
    size: Size3,
    channels: Option<usize>,
    affine: Affine,
) -> SourceVolume {
    let entries = [
        ("format", json!("numpy")),
        ("byte_order", json!(header.order.name())),
        ("fortran_order", json!(header.is_fortran)),
        ("shape", json!(header.shape)),
    ];
    SourceVolume {
        size,
        channels,
        interleaved: if header.is_fortran { channels.unwrap_or(1) } else { 1 },
        dtype: header.dtype,
        affine,
        unit: None,
        slope: 1.0,
        intercept: 0.0,
        origin: metadata(entries),
    }
}

/// An array of an archive, whose digest is that of its voxels.
struct OpenedMember(Box<dyn OpenedVolume>);

impl OpenedVolume for OpenedMember {
    fn volume(&self) -> &SourceVolume {
        self.0.volume()
    }

    fn working_bytes(&self, steps: usize) -> u64 {
        self.0.working_bytes(steps)
    }

    fn notes(&self) -> Vec<String> {
        self.0.notes()
    }

    fn stream(self: Box<Self>) -> Result<Box<dyn VoxelStream>> {
        let volume = self.0.volume().clone();
        Ok(Box::new(DigestedStream::new(self.0.stream()?, &volume)))
    }
}
