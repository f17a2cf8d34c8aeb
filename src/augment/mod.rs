//! Augmentation: random transforms of the patches of a queue, drawn as a pure function of the
//! seed, the epoch, the subject and the number of the patch.
//!
//! [`options`] says what may happen, [`draw`] decides what does, [`place`] makes one map of it to
//! read a patch by, and [`intensity`] changes the values that were read.
//! `docs/augmentation.md` defines every part, `docs/determinism.md` every random number.
//!
//! # Invariants
//! - What happens to a patch does not depend on threads, ranks, other patches, other volumes, the
//!   instruction set, or functions of the system's mathematics library.
//!
//! Not here: reading (`resample`), the order of patches (`queue`).

mod draw;
mod filter;
mod intensity;
mod math;
mod noise;
mod normalize;
mod options;
mod part;
mod place;
mod presets;

pub(crate) use draw::SampleKey;
pub(crate) use intensity::IntensityScratch;
pub use normalize::Normalization;
pub(crate) use normalize::ValueMap;
pub use options::Augment;
pub use part::AugmentPart;
pub(crate) use place::{PatchGrid, PatchPlace};
