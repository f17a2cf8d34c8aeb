//! Memory whose size comes from a file or an argument: it is reserved, or an error names its bytes.
//!
//! The allocator ends the process where it cannot serve an ordinary request.

use bytemuck::Zeroable;

use crate::error::{Error, Result};

/// Reserves room for `more` elements of `what`.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn reserve<T>(
    values: &mut Vec<T>,
    more: usize,
    what: impl FnOnce() -> String,
) -> Result<()> {
    values.try_reserve(more).map_err(|_| {
        let bytes = (values.len() as u64).saturating_add(more as u64);
        Error::OutOfMemory { what: what(), bytes: bytes.saturating_mul(size_of::<T>() as u64) }
    })
}

/// So many zeros of `what`.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn zeroed<T: Zeroable>(count: usize, what: impl FnOnce() -> String) -> Result<Vec<T>> {
    bytemuck::allocation::try_zeroed_vec(count).map_err(|()| {
        let bytes = (count as u64).saturating_mul(size_of::<T>() as u64);
        Error::OutOfMemory { what: what(), bytes }
    })
}

/// Whether there is memory for so many bytes of what cannot be reserved itself. Another thread may
/// take it before they are allocated.
pub(crate) fn has_room(bytes: usize) -> bool {
    Vec::<u8>::new().try_reserve_exact(bytes).is_ok()
}

/// The `count` elements of `values`, of `what`.
///
/// # Errors
/// [`Error::OutOfMemory`].
pub(crate) fn collected<T>(
    values: impl IntoIterator<Item = T>,
    count: u64,
    what: impl FnOnce() -> String,
) -> Result<Vec<T>> {
    try_collected(values.into_iter().map(Ok), count, what)
}

/// As [`collected`], up to the first error.
///
/// # Errors
/// [`Error::OutOfMemory`], and that error.
pub(crate) fn try_collected<T>(
    values: impl Iterator<Item = Result<T>>,
    count: u64,
    what: impl FnOnce() -> String,
) -> Result<Vec<T>> {
    let mut all = Vec::new();
    reserve(&mut all, usize::try_from(count).unwrap_or(usize::MAX), what)?;
    for value in values {
        all.push(value?);
    }
    Ok(all)
}
