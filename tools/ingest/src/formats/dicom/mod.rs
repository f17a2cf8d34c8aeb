//! Reads DICOM: series of a folder, files with one frame or several, segmentations and doses.
//!
//! `parse` finds the elements of a file, `instance` and `enhanced` say what they mean, `scan`
//! groups frames into volumes, `arrange` and `geometry` order them; `stream` and `seg` yield
//! voxels, which `frame_bytes` reads and `codec` decodes.
//!
//! # Invariants
//! - The bytes of a file can neither cause a panic nor decide how much memory is allocated.
//! - Nothing about a person is kept (`origin`).
//!
//! Not here: mosaics, contours (RTSTRUCT), waveforms; lossy JPEG of 12 bits.

// DICOM's keywords are names, not code.
#![allow(clippy::doc_markdown)]

mod arrange;
mod bits;
mod codec;
mod dataset;
mod enhanced;
mod frame;
mod frame_bytes;
mod geometry;
mod header_input;
mod instance;
mod jpegls;
mod origin;
mod parse;
mod pixel_form;
mod rle;
mod scan;
mod seg;
mod seg_grid;
mod segments;
mod stream;
mod syntax;
mod tags;

use std::path::{Path, PathBuf};

use voxquarry::{Error, Result};

use super::format::{Format, FoundVolume, OpenedVolume, Place, alone};
use super::stated::Stated;
use crate::source::SourceVolume;
use arrange::{Arrangement, arrange};
use bits::Rescale;
use frame::Frame;
use frame_bytes::{FrameFiles, paths};
use instance::Instance;
use pixel_form::Photometric;
use scan::{Scan, ScannedVolume, has_dicom, scan};
use seg_grid::segment_grid;
use stream::{OpenedImage, common_dtype};

/// DICOM.
pub(super) struct Dicom;

impl Format for Dicom {
    fn name(&self) -> &'static str {
        "DICOM"
    }

    fn endings(&self) -> &'static [&'static str] {
        &[".dcm", ".dicom", ".ima"]
    }

    fn recognises(&self, _path: &Path, head: &[u8]) -> bool {
        parse::is_dicom(head)
    }

    fn recognises_folder(&self, folder: &Path) -> Result<bool> {
        has_dicom(folder)
    }

    fn volumes(&self, path: &Path) -> Result<Vec<FoundVolume>> {
        let scan = match scan(path) {
            Ok(scan) => scan,
            Err(error @ Error::Io { .. }) => return Err(error),
            // Whoever opens it gets the error, as one of its subject.
            Err(_) => return Ok(vec![alone(path)]),
        };
        let is_lone = scan.volumes.len() == 1;
        let found = |volume: &ScannedVolume| FoundVolume {
            name: Some(volume.name.clone()),
            kind: volume.kind,
            place: if is_lone {
                Place::File(path.to_owned())
            } else {
                Place::Member { path: path.to_owned(), member: volume.name.clone() }
            },
        };
        Ok(scan.volumes.iter().map(found).collect())
    }

    fn open(&self, place: &Place, stated: &Stated) -> Result<Box<dyn OpenedVolume>> {
        let scan = scan(place.path())?;
        let (index, volume) = select(&scan, place)?;
        let first = &scan.files[volume.frames[0].file];
        let notes = if index == 0 { scan.notes.clone() } else { Vec::new() };
        if let Some(segments) = &first.segments {
            let mut grid = segment_grid(&scan, volume, stated.affine)?;
            let (slices, frames): (Vec<usize>, Vec<Frame>) = grid.frames.into_iter().unzip();
            let (files, frames) = used(&scan.files, frames);
            grid.frames = slices.into_iter().zip(frames).collect();
            return Ok(Box::new(seg::open(files, grid, segments, notes)?));
        }
        let arranged = arrange(&scan.files, volume.frames.clone(), stated.affine)?;
        open_image(&scan.files, arranged, notes)
    }

    fn digested_files(&self, place: &Place) -> Result<Option<Vec<PathBuf>>> {
        let scan = scan(place.path())?;
        let (_, volume) = select(&scan, place)?;
        let first = &scan.files[volume.frames[0].file];
        let frames = if first.segments.is_some() {
            let placed = segment_grid(&scan, volume, None)?.frames;
            placed.into_iter().map(|(_, frame)| frame).collect()
        } else {
            // A stated affine changes nothing about which files are read.
            let any = Some(voxquarry::Affine::IDENTITY);
            arrange(&scan.files, volume.frames.clone(), any)?.frames
        };
        Ok(Some(paths(&used(&scan.files, frames).0)))
    }

    fn stored_name(&self, place: &Place) -> String {
        // Names of files and folders may be those of patients.
        match place {
            Place::File(_) => "DICOM".to_owned(),
            Place::Member { member, .. } => format!("DICOM::{member}"),
        }
    }
}

/// The volume that a place names, and its number.
fn select<'a>(scan: &'a Scan, place: &Place) -> Result<(usize, &'a ScannedVolume)> {
    let names: Vec<_> = scan.volumes.iter().map(|volume| volume.name.as_str()).collect();
    let names = names.join(", ");
    let path = place.path().display();
    match (place, &scan.volumes[..]) {
        (Place::File(_), [volume]) => Ok((0, volume)),
        (Place::File(_), _) => {
            let reason = format!("{path} holds several volumes: {names}");
            Err(Error::unsupported(
                reason,
                "name the folder as a source of its own, or one of them",
            ))
        }
        (Place::Member { member, .. }, volumes) => {
            let found = volumes.iter().enumerate().find(|(_, volume)| volume.name == *member);
            found.ok_or_else(|| {
                let reason = format!("{path} holds no volume {member:?}");
                Error::unsupported(reason, format!("name one of {names}"))
            })
        }
    }
}

/// The files that frames use, in the order of the frames, which are given the numbers of these
/// files.
fn used(files: &[Instance], mut frames: Vec<Frame>) -> (Vec<Instance>, Vec<Frame>) {
    let mut numbers = vec![None; files.len()];
    let mut kept = Vec::new();
    for frame in &mut frames {
        let number = numbers[frame.file].get_or_insert_with(|| {
            kept.push(files[frame.file].clone());
            kept.len() - 1
        });
        frame.file = *number;
    }
    (kept, frames)
}

/// An image whose frames are in order.
fn open_image(
    files: &[Instance],
    arranged: Arrangement,
    mut notes: Vec<String>,
) -> Result<Box<dyn OpenedVolume>> {
    let (slices, channels) = (arranged.slices(), arranged.channels);
    notes.extend(arranged.notes);
    let (files, frames) = used(files, arranged.frames);
    for file in &files {
        codec::check(file.syntax, &file.form).map_err(|(reason, remedy)| {
            Error::unsupported(format!("{}: {reason}", file.path.display()), remedy)
        })?;
    }
    let first = &files[0];
    let stored = common_dtype(files.iter().map(|file| file.form.stored_dtype()));
    let rescale = frames[0].rescale;
    let is_real = frames.iter().any(|frame| frame.rescale != rescale);
    if is_real {
        notes.push("its slices have slopes of their own: voxels are real values, float32".into());
    } else if files.iter().any(|file| file.form.stored_dtype() != stored) {
        notes.push(format!("its slices have several dtypes: voxels are {stored}"));
    }
    if files.iter().any(|file| file.has_lut) {
        notes.push("it has a table of values (Modality LUT), which is not applied".into());
    }
    match first.form.photometric {
        Photometric::Monochrome1 => {
            notes.push("its large values are dark (MONOCHROME1): they are not inverted".into());
        }
        Photometric::Palette => notes.push("its palette is not applied".into()),
        _ => {}
    }
    let same = Rescale { slope: 1.0, intercept: 0.0 };
    let Rescale { slope, intercept } = if is_real { same } else { rescale };
    let (samples, form) = (first.form.samples, first.form);
    let all = channels * samples;
    let volume = SourceVolume {
        size: [slices, form.rows, form.columns],
        channels: (all > 1).then_some(all),
        interleaved: samples,
        dtype: if is_real { voxquarry::Dtype::Float32 } else { stored },
        affine: arranged.affine,
        unit: None,
        slope,
        intercept,
        origin: first.origin.clone(),
    };
    volume.affine.validate().map_err(|e| Error::data(&first.path, e))?;
    let files = FrameFiles::new(files)?;
    Ok(Box::new(OpenedImage { volume, files, frames, is_real, notes }))
}
