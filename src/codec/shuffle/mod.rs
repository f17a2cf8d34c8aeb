//! Shuffles the bytes or bits of one block into planes, and back (§6 of the specification).
//!
//! Elements of t bytes become t planes of m bytes, one for each byte of the element. A bit shuffle
//! splits each of those into eight planes of m / 8 bytes, one for each bit. Planes compress better
//! than interleaved elements.
//!
//! Joining planes takes about half the time of a read. It handles groups of 64 elements, with the
//! widest instructions that the CPU has.
//!
//! # Invariants
//! - Every kernel gives the same bytes as [`portable`], which defines the shuffles: the tests named
//!   `kernels_agree` compare them.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod join;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod partial;
mod portable;
mod split;
#[cfg(target_arch = "x86_64")]
mod split_x86;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod v128;

pub(super) use join::{join, join_partial_rows, join_rows};
pub(super) use portable::GROUP;
pub(super) use split::split;
