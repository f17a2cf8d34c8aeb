//! The errors of the library, and whose fault each is.
//!
//! Every error names its place (path, subject, chunk, offset), what was found, what was expected
//! and, where there is one, the remedy. Its [`Fault`] decides the exit code and the Python
//! exception.
//!
//! # Invariants
//! - Bytes of a file never panic; they become a [`Fault::Data`] error.

use std::borrow::Cow;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;
use rustix::process::{Resource, getrlimit};

use crate::dtype::Dtype;
use crate::geometry::{Region, Size3};

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The party that can remedy an error.
///
/// ```
/// use voxquarry::Fault;
///
/// let error = voxquarry::open("no/such/store").unwrap_err();
/// assert_eq!(error.fault(), Fault::Caller);
/// assert_eq!(error.fault().exit_code(), 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The caller: the request cannot be served as it is. Exit code 2.
    Caller,
    /// The data: bytes of a file are damaged or not in the format. Exit code 3.
    Data,
    /// The environment: disk, permissions, memory. Exit code 4.
    Environment,
}

impl Fault {
    /// The exit code of the `voxquarry` command for this fault.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Caller => 2,
            Self::Data => 3,
            Self::Environment => 4,
        }
    }
}

/// An error of the library.
///
/// ```
/// use voxquarry::Error;
///
/// # let store = "format-spec/golden/v1";
/// match voxquarry::open(store)?.subject("case07") {
///     Err(Error::NotFound { name, available, .. }) => {
///         assert_eq!((name.as_str(), available.len()), ("case07", 2));
///     }
///     other => panic!("{other:?}"),
/// }
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument or option with a value outside of what it accepts.
    #[error("{argument} {value}: expected {expected}")]
    InvalidArgument {
        /// The name of the argument, as in `patch_size`.
        argument: Cow<'static, str>,
        /// The value that was given.
        value: String,
        /// The values that are accepted.
        expected: String,
    },

    /// A request that the object cannot serve, whatever the values of its arguments.
    #[error("{reason}: {remedy}")]
    Unsupported {
        /// What was asked for, and why it cannot be done.
        reason: String,
        /// What to do instead.
        remedy: String,
    },

    /// A region that leaves the volume, read without padding.
    #[error(
        "region {start:?} of size {size:?} leaves the volume of {shape:?} voxels (z, y, x): \
         choose a padding"
    )]
    OutOfBounds {
        /// First voxel of the region, `(z, y, x)`.
        start: [i64; 3],
        /// Voxels of the region along each axis.
        size: Size3,
        /// Voxels of the volume along each axis.
        shape: Size3,
    },

    /// A patch that does not fit into the volume.
    #[error(
        "patch size {patch_size:?} is larger than the volume of {shape:?} voxels (z, y, x): choose \
         a smaller patch, or let patches leave the volume and pad them"
    )]
    PatchTooLarge {
        /// Voxels of the patch along each axis.
        patch_size: Size3,
        /// Voxels of the volume along each axis.
        shape: Size3,
    },

    /// A result that no memory can hold, whatever the machine.
    #[error("{what} exceeds the address space")]
    TooLarge {
        /// What was asked for.
        what: String,
    },

    /// A volume without a single voxel that a sampler may choose.
    #[error("{place}: no voxel {wanted}{}", nearer(*is_elsewhere, *patch_size, border))]
    NothingToSample {
        /// The volume.
        place: String,
        /// The voxels that the sampler looks for, as in `of the labels [1, 2]`.
        wanted: String,
        /// Voxels of the patch along each axis.
        patch_size: Size3,
        /// The border rule of the sampler: `exclude`, `clamp` or `pad`.
        border: &'static str,
        /// Whether the volume has such voxels, none of which may be a centre.
        is_elsewhere: bool,
    },

    /// Subjects in which a sampler can draw no patch.
    #[error(
        "no patch can be drawn in {found}: {}",
        if *is_too_large { "take larger patches" }
        else if *is_every { "sample by labels or weights that they have" }
        else { "leave them out, or draw their patches anywhere" }
    )]
    CannotSample {
        /// Their number, names and what they lack.
        found: String,
        /// Whether these are all subjects.
        is_every: bool,
        /// Whether another border rule would do for all of them.
        is_near_border: bool,
        /// Whether larger patches would do for all of them.
        is_too_large: bool,
    },

    /// Constraints that no attempt of a sampler fulfils.
    #[error(
        "sample {n} of subject {subject:?}: none of {attempts} attempts fulfils the constraints: \
         relax them, allow more attempts, or accept the best attempt"
    )]
    ConstraintsUnmet {
        /// The subject.
        subject: String,
        /// The number of the sample.
        n: u64,
        /// The attempts that were made.
        attempts: u32,
    },

    /// Work that is finished before all of it has been given.
    #[error("{what} is not complete: {missing}")]
    Incomplete {
        /// The volume or result.
        what: String,
        /// What is missing, and where it begins.
        missing: String,
    },

    /// A patch that begins where the grid has no patch.
    #[error("no patch of the grid begins at {start:?} (z, y, x): use the grid's own locations")]
    NotInGrid {
        /// First voxel of the patch, `(z, y, x)`.
        start: [i64; 3],
    },

    /// A patch that was added before.
    #[error("the patch that begins at {start:?} (z, y, x) was added before: each counts once")]
    AddedTwice {
        /// First voxel of the patch, `(z, y, x)`.
        start: [i64; 3],
    },

    /// A predicted value that is infinite or not a number.
    #[error(
        "the patch that begins at {start:?} (z, y, x) has {value} at {index:?} of channel \
         {channel}: find out why the model makes it, or keep such values"
    )]
    NonFinite {
        /// First voxel of the patch, `(z, y, x)`.
        start: [i64; 3],
        /// Index in the patch, `(z, y, x)`.
        index: Size3,
        /// The channel.
        channel: usize,
        /// The value.
        value: f64,
    },

    /// Kept work that was begun with other arguments.
    #[error(
        "{volume} was begun with other arguments ({found}; now {requested}): repeat those to \
         continue it, or start again"
    )]
    ResumeMismatch {
        /// Subject and volume.
        volume: String,
        /// The arguments of the kept work.
        found: String,
        /// The arguments of this call.
        requested: String,
    },

    /// A volume that is being written elsewhere.
    #[error(
        "another process, or an unfinished aggregator of this one, is writing this volume (it \
         holds {}): wait for it, drop the aggregator, or choose another name",
        .lock.display()
    )]
    Busy {
        /// The locked file.
        lock: PathBuf,
    },

    /// A subject or volume that is not there.
    #[error("no {kind} {name:?} in {}{}", .place.display(), did_you_mean(.available))]
    NotFound {
        /// `"subject"` or `"volume"`.
        kind: &'static str,
        /// The name asked for.
        name: String,
        /// Where it was looked for.
        place: PathBuf,
        /// A few of the names that exist there.
        available: Vec<String>,
    },

    /// The buffer's element type is not the volume's.
    #[error("the buffer holds {found}, the volume {expected}: convert after reading")]
    DtypeMismatch {
        /// The buffer's dtype.
        found: Dtype,
        /// The volume's dtype.
        expected: Dtype,
    },

    /// The buffer's length is not the region's voxel count.
    #[error("the buffer holds {found} voxels, the region {expected}")]
    BufferLength {
        /// Voxels in the buffer.
        found: usize,
        /// Voxels in the region, over all channels.
        expected: usize,
    },

    /// A path that is no store of this format.
    #[error("{}: not a voxquarry store: {reason}", .path.display())]
    NotAStore {
        /// The path that was opened.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },

    /// A file to be read that does not exist.
    #[error("{}no file {}: check the name and the folder", in_table(.named_in), .path.display())]
    NoSuchFile {
        /// The path.
        path: PathBuf,
        /// The table and line that name it; empty for arguments.
        named_in: String,
    },

    /// A store that needs a newer reader (or writer).
    #[error(
        "{}: needs the {role} feature {feature:?}, which this version does not know: \
         upgrade voxquarry",
        .path.display()
    )]
    UnknownFeature {
        /// The metadata document.
        path: PathBuf,
        /// `"reader"` or `"writer"`.
        role: &'static str,
        /// The flag's name.
        feature: String,
    },

    /// A metadata document that breaks the profile.
    #[error("{}: {message}", .path.display())]
    Metadata {
        /// The document.
        path: PathBuf,
        /// Key, what was found, what the profile asks for.
        message: String,
    },

    /// A source or store file whose content is wrong.
    #[error("{}: {message}", .path.display())]
    Data {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },

    /// A shard whose index cannot be trusted.
    #[error("{}: shard index: {message}", .path.display())]
    ShardIndex {
        /// The shard file.
        path: PathBuf,
        /// What is wrong with the index.
        message: String,
    },

    /// A chunk whose bytes are not the ones written.
    #[error(
        "{}: chunk {chunk} at byte {offset}: crc32c {found:#010x}, expected {expected:#010x}",
        .path.display()
    )]
    ChunkChecksum {
        /// The shard file.
        path: PathBuf,
        /// The chunk's place in its shard's index.
        chunk: u64,
        /// The chunk's first byte in the file.
        offset: u64,
        /// Computed over the bytes.
        found: u32,
        /// Stored behind the bytes.
        expected: u32,
    },

    /// A chunk that does not decode.
    #[error("{}: chunk {chunk} at byte {offset}: {message}", .path.display())]
    ChunkDecode {
        /// The shard file.
        path: PathBuf,
        /// The chunk's place in its shard's index.
        chunk: u64,
        /// The chunk's first byte in the file.
        offset: u64,
        /// What the decoder met.
        message: String,
    },

    /// Something that would be overwritten.
    #[error("{}: exists already: {remedy}", .path.display())]
    Exists {
        /// What is in the way.
        path: PathBuf,
        /// What to do about it.
        remedy: String,
    },

    /// A subject that exists already, made from something else than is asked for now.
    #[error(
        "{}: exists already, made from something else: {difference}: replace it, or leave it as \
         it is",
        .path.display()
    )]
    ExistsOtherwise {
        /// The subject.
        path: PathBuf,
        /// What differs: found and requested.
        difference: String,
    },

    /// Volumes that would vanish with the subject that is to be replaced.
    #[error(
        "{}: replacing it would remove its volumes {volumes:?}, which the new subject does not \
         have: add to the subject instead, or remove its folder first",
        .path.display()
    )]
    WouldRemove {
        /// The subject.
        path: PathBuf,
        /// Names of the volumes.
        volumes: Vec<String>,
    },

    /// Errors of several subjects.
    #[error("{}", list_of(.errors))]
    Several {
        /// The errors, at least one.
        errors: Vec<Error>,
    },

    /// A memory budget that is too small for the work.
    #[error(
        "{what} needs {} MiB of memory, {} MiB are allowed: allow more",
        .needed_bytes.div_ceil(1 << 20), .allowed_bytes >> 20
    )]
    MemoryBudget {
        /// What needs the memory.
        what: String,
        /// Bytes that are needed.
        needed_bytes: u64,
        /// Bytes that are allowed.
        allowed_bytes: u64,
    },

    /// Memory that could not be allocated.
    #[error("not enough memory for {what}: {} MiB", .bytes.div_ceil(1 << 20))]
    OutOfMemory {
        /// What was to be held in it.
        what: String,
        /// The bytes that were asked for.
        bytes: u64,
    },

    /// The operating system refused.
    #[error("{}: {action}: {source}{}", .path.display(), limit_of(.source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done, as "cannot open".
        action: &'static str,
        /// The system's answer.
        source: io::Error,
    },

    /// A patch of a queue that could not be read.
    #[error(
        "{subject}/{volume}: patch at {:?} of {:?} voxels: {source}",
        .region.start, .region.size
    )]
    InPatch {
        /// The subject it lies in.
        subject: String,
        /// The volume that was read.
        volume: String,
        /// The patch.
        region: Region,
        /// What went wrong.
        source: Box<Error>,
    },

    /// A subject of a queue in which no patch could be found.
    #[error("subject {subject:?}: {source}")]
    InSubject {
        /// Its name.
        subject: String,
        /// What went wrong.
        source: Box<Error>,
    },

    /// Work that the caller asked to stop.
    #[error("interrupted; nothing unfinished was published")]
    Interrupted,
}

impl Error {
    /// The party that can remedy the error.
    pub fn fault(&self) -> Fault {
        match self {
            Self::InvalidArgument { .. }
            | Self::Unsupported { .. }
            | Self::OutOfBounds { .. }
            | Self::PatchTooLarge { .. }
            | Self::TooLarge { .. }
            | Self::NothingToSample { .. }
            | Self::CannotSample { .. }
            | Self::ConstraintsUnmet { .. }
            | Self::Incomplete { .. }
            | Self::NotInGrid { .. }
            | Self::AddedTwice { .. }
            | Self::NonFinite { .. }
            | Self::ResumeMismatch { .. }
            | Self::Busy { .. }
            | Self::MemoryBudget { .. }
            | Self::NotFound { .. }
            | Self::DtypeMismatch { .. }
            | Self::BufferLength { .. }
            | Self::NotAStore { .. }
            | Self::NoSuchFile { .. }
            | Self::Exists { .. }
            | Self::ExistsOtherwise { .. }
            | Self::WouldRemove { .. } => Fault::Caller,
            Self::UnknownFeature { .. }
            | Self::Metadata { .. }
            | Self::Data { .. }
            | Self::ShardIndex { .. }
            | Self::ChunkChecksum { .. }
            | Self::ChunkDecode { .. } => Fault::Data,
            Self::Io { .. } | Self::OutOfMemory { .. } | Self::Interrupted => Fault::Environment,
            Self::InPatch { source, .. } | Self::InSubject { source, .. } => source.fault(),
            // The gravest: what the caller cannot correct decides.
            Self::Several { errors } => {
                let faults = errors.iter().map(Self::fault);
                faults.max_by_key(|fault| fault.exit_code()).unwrap_or(Fault::Caller)
            }
        }
    }

    /// The innermost error, without the subject and the patch that it occurred in.
    pub fn root(&self) -> &Self {
        match self {
            Self::InPatch { source, .. } | Self::InSubject { source, .. } => source.root(),
            other => other,
        }
    }

    /// Whether a file could not be opened because too many are open.
    pub(crate) fn is_out_of_descriptors(&self) -> bool {
        matches!(self.root(), Self::Io { source, .. } if is_out_of_descriptors(source))
    }

    /// An argument whose `value` is not what it accepts.
    pub fn invalid(
        argument: impl Into<Cow<'static, str>>,
        value: impl fmt::Display,
        expected: impl Into<String>,
    ) -> Self {
        let (argument, value) = (argument.into(), value.to_string());
        Self::InvalidArgument { argument, value, expected: expected.into() }
    }

    /// A request that cannot be served, and what to do instead.
    pub fn unsupported(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::Unsupported { reason: reason.into(), remedy: remedy.into() }
    }

    /// A file whose content is wrong.
    pub fn data(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Data { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// A metadata document that breaks the profile.
    pub fn metadata(path: impl AsRef<Path>, message: impl Into<String>) -> Self {
        Self::Metadata { path: path.as_ref().to_owned(), message: message.into() }
    }

    /// For `map_err`: a refusal of the operating system while doing `action` on `path`.
    pub fn io(path: impl AsRef<Path>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_owned();
        move |source| Self::Io { path, action, source }
    }
}

/// Whether the process or the system has no descriptor left for one more open file.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE))
}

/// The limit that was met, and what to do about it, if this process has too many files open.
fn limit_of(error: &io::Error) -> String {
    if Errno::from_io_error(error) != Some(Errno::MFILE) {
        return String::new();
    }
    let most = getrlimit(Resource::Nofile).current.map_or_else(String::new, |n| format!(" {n}"));
    format!(
        ": this process may have{most} files open (ulimit -n), and needs all of them: allow more, \
         as with `ulimit -n 1024`, or close some"
    )
}

/// The first errors, and the number of the others.
fn list_of(errors: &[Error]) -> String {
    const SHOWN: usize = 20;
    let mut lines = vec![format!("{} errors", errors.len())];
    lines.extend(errors.iter().take(SHOWN).map(ToString::to_string));
    if errors.len() > SHOWN {
        lines.push(format!("… and {} more", errors.len() - SHOWN));
    }
    lines.join("\n  ")
}

fn in_table(named_in: &str) -> String {
    if named_in.is_empty() { String::new() } else { format!("{named_in}: ") }
}

/// Why none of the wanted voxels may be a centre, and what helps.
fn nearer(is_elsewhere: bool, patch_size: Size3, border: &str) -> String {
    if !is_elsewhere {
        return ": sample it by what it has, or leave it out".to_owned();
    }
    format!(
        " can be the centre of a patch of {patch_size:?} voxels with the border rule {border:?}: \
         pad the volume, or choose a smaller patch or another border rule"
    )
}

fn did_you_mean(available: &[String]) -> String {
    if available.is_empty() {
        String::new()
    } else {
        format!("; there is {}", available.join(", "))
    }
}
