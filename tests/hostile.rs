//! Damaged and malicious stores: an error or the right voxels, never a panic and never other
//! voxels; `verify` names the damage.
//!
//! No test catches panics: one fails it.

#[path = "hostile/documents.rs"]
mod documents;
#[path = "hostile/labels.rs"]
mod labels;
#[path = "hostile/shards.rs"]
mod shards;
#[path = "hostile/victim.rs"]
#[allow(unreachable_pub)]
mod victim;
#[path = "golden/voxels.rs"]
#[allow(unreachable_pub)]
mod voxels;
