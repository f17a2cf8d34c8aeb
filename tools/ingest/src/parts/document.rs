//! The plan of an ingest in parts, as its file has it: every source with what identifies it, every
//! option that decides what is written, and the subjects that come of them.
//!
//! # Invariants
//! - What the file says decides every byte of the store, whichever process reads it.
//! - A file that was cut off or changed is refused: it names its own digest.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use voxquarry::format::attributes::{Kind, LabelName};
use voxquarry::{Affine, Dtype, Error, IfExists, Result, Size3};

use super::identity::Identity;
use super::planned_changes::PlannedChanges;
use crate::digest::hex;
use crate::formats::{ByteOrder, Place, RawVoxels, Stated};
use crate::input::VolumeInput;
use crate::manifest::{Manifest, Source};
use crate::options::IngestOptions;
use crate::report::Failure;

/// The version of the file.
const VERSION: u64 = 1;
/// Digits of a plan's name.
const NAME_DIGITS: usize = 16;

/// All that decides what an ingest in parts writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanDocument {
    version: u64,
    /// The store, absolute.
    pub(crate) store: PathBuf,
    /// The sources and options as the caller gave them, to be compared with a later call.
    pub(crate) asked: String,
    pub(crate) options: PlanOptions,
    /// By volume.
    pub(crate) label_names: BTreeMap<String, Vec<LabelName>>,
    pub(crate) cases: Vec<PlanCase>,
    /// Subjects that cannot be ingested, of a run that keeps going.
    pub(crate) failed: Vec<FailedCase>,
}

/// The options that decide what is written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanOptions {
    patch_sizes: Vec<Size3>,
    codec: String,
    levels: String,
    memory_bytes: u64,
    if_exists: String,
    pub(crate) keep_going: bool,
    grid_tolerance_mm: Option<f64>,
    grid_from: Option<String>,
    affine: Option<Affine>,
    raw: Option<PlannedRaw>,
    changes: PlannedChanges,
}

/// What files without a format hold.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PlannedRaw {
    shape: Vec<usize>,
    dtype: Dtype,
    offset: u64,
    is_big_endian: bool,
}

/// A subject of the manifest: what one part ingests as a whole.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PlanCase {
    pub(crate) name: String,
    splits: Vec<String>,
    /// Whether volumes on other grids become subjects of their own.
    is_split_by_grid: bool,
    pub(crate) sources: Vec<CaseSource>,
    /// The subjects that it becomes, mostly one of its own name.
    pub(crate) subjects: Vec<String>,
    /// Bytes of its voxels, by which parts are balanced.
    pub(crate) voxel_bytes: u64,
}

/// The source of one volume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseSource {
    pub(crate) volume: String,
    kind: Kind,
    is_weights: bool,
    pub(crate) path: PathBuf,
    member: Option<String>,
    named_in: String,
    pub(crate) identity: Identity,
}

/// A subject that cannot be ingested.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FailedCase {
    pub(crate) subject: String,
    pub(crate) volume: String,
    pub(crate) path: PathBuf,
    pub(crate) error: String,
}

/// The file.
#[derive(Serialize, Deserialize)]
struct SealedDocument {
    voxquarry_plan: String,
    plan: PlanDocument,
}

impl PlanDocument {
    /// More than the plan of ten million files takes.
    pub(super) const MOST_BYTES: u64 = 16 << 30;

    /// A plan without subjects.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for options that no plan can have.
    pub(crate) fn new(store: PathBuf, asked: String, options: &IngestOptions) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            store,
            asked,
            options: PlanOptions::of(options)?,
            label_names: BTreeMap::new(),
            cases: Vec::new(),
            failed: Vec::new(),
        })
    }

    /// Reads a plan.
    ///
    /// # Errors
    /// [`Error::NoSuchFile`]; [`Error::Data`] for a file that is no plan, another version, or
    /// damaged; [`Error::Io`].
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let text = match fs::metadata(path).and_then(|found| {
            if found.len() > Self::MOST_BYTES {
                return Err(ErrorKind::FileTooLarge.into());
            }
            fs::read(path)
        }) {
            Ok(text) => text,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                return Err(Error::NoSuchFile { path: path.to_owned(), named_in: String::new() });
            }
            Err(e) => return Err(Error::io(path, "cannot read")(e)),
        };
        Self::parse(path, &text)
    }

    /// The plan that `text` holds, which was read from `path`.
    ///
    /// # Errors
    /// [`Error::Data`], as for [`PlanDocument::read`].
    pub(super) fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        let made_by = "it is no plan that `voxquarry ingest --plan` made, or it is damaged";
        let sealed: SealedDocument = serde_json::from_slice(text)
            .map_err(|e| Error::data(path, format!("{made_by}: make the plan again ({e})")))?;
        if sealed.plan.version != VERSION {
            let found = sealed.plan.version;
            let message =
                format!("a plan of version {found}, expected {VERSION}: make the plan again");
            return Err(Error::data(path, message));
        }
        if sealed.plan.digest()? != sealed.voxquarry_plan {
            let message = "its digest is another: it was changed or damaged; make the plan again";
            return Err(Error::data(path, message));
        }
        Ok(sealed.plan)
    }

    /// The text of the file.
    ///
    /// # Errors
    /// As [`PlanDocument::digest`].
    pub(crate) fn to_text(&self) -> Result<Vec<u8>> {
        let sealed = SealedDocument { voxquarry_plan: self.digest()?, plan: self.clone() };
        serde_json::to_vec_pretty(&sealed).map_err(|e| not_utf8(&e))
    }

    /// SHA-256 of what it says, in hexadecimal.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a path that is no UTF-8.
    pub(crate) fn digest(&self) -> Result<String> {
        digest_of(self)
    }

    /// A short name, for the folder of its unfinished work.
    ///
    /// # Errors
    /// As [`PlanDocument::digest`].
    pub(crate) fn name(&self) -> Result<String> {
        let mut name = self.digest()?;
        name.truncate(NAME_DIGITS);
        Ok(name)
    }

    /// What decides the files of a case: a case of another plan with the same digest has them, too.
    ///
    /// # Errors
    /// As [`PlanDocument::digest`].
    pub(crate) fn digest_of_case(&self, case: &PlanCase) -> Result<String> {
        digest_of(&(&self.options, &self.label_names, case))
    }

    /// The sources of some cases.
    ///
    /// # Errors
    /// Those of a manifest, for a plan that was made by hand.
    pub(crate) fn manifest<'a>(
        &self,
        cases: impl IntoIterator<Item = &'a PlanCase>,
    ) -> Result<Manifest> {
        let mut manifest = Manifest::new();
        for case in cases {
            for source in &case.sources {
                let whole = source.source(&case.name);
                if source.is_weights {
                    manifest.push_weights(whole)?;
                } else {
                    manifest.push(whole)?;
                }
            }
            for split in &case.splits {
                manifest.add_to_split(&case.name, split)?;
            }
            if case.is_split_by_grid {
                manifest.split_subject_by_grid(&case.name);
            }
        }
        for (volume, names) in &self.label_names {
            manifest.set_label_names(volume, names.clone());
        }
        Ok(manifest)
    }
}

impl PlanCase {
    /// A subject of the manifest, without the subjects that it becomes.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for voxels in memory, [`Error::Io`].
    pub(crate) fn new(name: &str, sources: &[Source], manifest: &Manifest) -> Result<Self> {
        let source = |source: &Source| -> Result<CaseSource> {
            let VolumeInput::Place(place) = &source.input else {
                let reason = format!("{name}/{}: an array has no file", source.volume);
                let remedy = "plan files, or ingest it without a plan";
                return Err(Error::unsupported(reason, remedy));
            };
            let path = std::path::absolute(place.path());
            let path = path.map_err(Error::io(place.path(), "cannot find"))?;
            let member = match place {
                Place::File(_) => None,
                Place::Member { member, .. } => Some(member.clone()),
            };
            Ok(CaseSource {
                volume: source.volume.clone(),
                kind: source.kind,
                is_weights: manifest.is_weights(source),
                identity: Identity::of(&source.input)?,
                path,
                member,
                named_in: source.named_in.clone(),
            })
        };
        Ok(Self {
            name: name.to_owned(),
            splits: manifest.splits_of(name),
            is_split_by_grid: manifest.is_split_by_grid(name),
            sources: sources.iter().map(source).collect::<Result<_>>()?,
            subjects: Vec::new(),
            voxel_bytes: 0,
        })
    }
}

impl PlanCase {
    /// The splits that it belongs to.
    pub(crate) fn splits(&self) -> &[String] {
        &self.splits
    }
}

impl CaseSource {
    /// The source that it was made of.
    pub(crate) fn source(&self, subject: &str) -> Source {
        let path = self.path.clone();
        let place = match &self.member {
            None => Place::File(path),
            Some(member) => Place::Member { path, member: member.clone() },
        };
        let mut source = Source::new(subject, &self.volume, self.kind, place);
        source.named_in.clone_from(&self.named_in);
        source
    }
}

impl PlanOptions {
    fn of(options: &IngestOptions) -> Result<Self> {
        // Without `..`: an option that is added has to be recorded, or not to decide anything.
        let IngestOptions {
            patch_sizes,
            codec,
            levels,
            memory_bytes,
            threads: _,
            jobs: _,
            if_exists,
            is_addition,
            keep_going,
            grid_tolerance_mm,
            grid_from,
            stated: Stated { affine, raw },
            changes,
        } = options;
        if *is_addition {
            return Err(Error::unsupported(
                "an ingest in parts cannot add volumes to subjects that exist",
                "add them without a plan, or plan all volumes together",
            ));
        }
        let if_exists = match if_exists {
            IfExists::Error => "error",
            IfExists::Skip => "skip",
            IfExists::Replace => "replace",
        };
        let raw = raw.as_ref().map(|raw| PlannedRaw {
            shape: raw.channels.into_iter().chain(raw.size).collect(),
            dtype: raw.dtype,
            offset: raw.offset,
            is_big_endian: raw.order == ByteOrder::Big,
        });
        Ok(Self {
            patch_sizes: patch_sizes.clone(),
            codec: codec.name().to_owned(),
            levels: levels.to_string(),
            memory_bytes: *memory_bytes,
            if_exists: if_exists.to_owned(),
            keep_going: *keep_going,
            grid_tolerance_mm: *grid_tolerance_mm,
            grid_from: grid_from.clone(),
            affine: *affine,
            raw,
            changes: PlannedChanges::of(changes),
        })
    }

    /// The options of a run on this machine.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`] for a plan that was made by hand.
    pub(crate) fn options(&self) -> Result<IngestOptions> {
        let raw = self.raw.as_ref().map(|raw| -> Result<RawVoxels> {
            let mut voxels = RawVoxels::of_shape(&raw.shape, raw.dtype)?;
            voxels.offset = raw.offset;
            voxels.order = if raw.is_big_endian { ByteOrder::Big } else { ByteOrder::Little };
            Ok(voxels)
        });
        let options = IngestOptions::default()
            .patch_sizes(self.patch_sizes.clone())
            .codec(self.codec.parse()?)
            .levels(self.levels.parse()?)
            .memory_bytes(self.memory_bytes)
            .if_exists(self.if_exists()?)
            .keep_going(self.keep_going)
            .grid_tolerance_mm(self.grid_tolerance_mm)
            .grid_from(self.grid_from.clone())
            .affine(self.affine)
            .raw(raw.transpose()?);
        Ok(IngestOptions { changes: self.changes.changes(), ..options })
    }

    /// What happens to subjects that exist.
    ///
    /// # Errors
    /// As [`PlanOptions::options`].
    pub(crate) fn if_exists(&self) -> Result<IfExists> {
        match &*self.if_exists {
            "error" => Ok(IfExists::Error),
            "skip" => Ok(IfExists::Skip),
            "replace" => Ok(IfExists::Replace),
            other => Err(Error::invalid("if_exists", other, "error, skip or replace")),
        }
    }
}

fn digest_of(value: &impl Serialize) -> Result<String> {
    let mut sha256 = Sha256::new();
    sha256.update(serde_json::to_vec(value).map_err(|e| not_utf8(&e))?);
    Ok(hex(sha256))
}

// All else that a plan has is made of text and numbers.
fn not_utf8(error: &serde_json::Error) -> Error {
    Error::unsupported(format!("a plan cannot name every path ({error})"), "rename the files")
}

impl FailedCase {
    pub(crate) fn of(failure: &Failure) -> Self {
        let Failure { subject, volume, path, error } = failure;
        let (subject, volume, path) = (subject.clone(), volume.clone(), path.clone());
        Self { subject, volume, path, error: error.to_string() }
    }

    /// The failure that it was made of, as far as its text tells.
    pub(crate) fn failure(&self) -> Failure {
        let Self { subject, volume, path, error } = self.clone();
        let place = format!("{}: ", path.display());
        let message = error.strip_prefix(&place).unwrap_or(&error);
        let error = Error::data(&path, message);
        Failure { subject, volume, path, error }
    }
}
