//! Names of the parts of a store (§§2 and 9).

use super::{document, limits};
use crate::{Error, Result};

/// The folder of a store that holds unfinished work (§9).
pub const PARTIAL_DIR: &str = ".voxquarry-partial";

/// Checks the name of a subject or volume (§2); `kind` is `"subject"` or `"volume"`.
///
/// # Errors
/// [`Error::InvalidArgument`] with the rule that is broken.
pub fn check_name(kind: &str, name: &str) -> Result<()> {
    let expected = if name.is_empty() || name.len() > limits::NAME_BYTES {
        format!("1 to {} bytes", limits::NAME_BYTES)
    } else if name.starts_with('.') || name.starts_with("__") {
        "a name that does not begin with '.' or '__'".into()
    } else if name == document::ZARR_JSON {
        "another name: the metadata has this one".into()
    } else if name.chars().any(|c| matches!(c, '/' | '\\') || c.is_control()) {
        "a name without '/', '\\' and control characters".into()
    } else {
        return Ok(());
    };
    Err(Error::invalid(format!("{kind} name"), format!("{name:?}"), expected))
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_follow_the_specification() {
        for good in ["case01", "BraTS 2021 0001", "sub-01_T1w", "Ärzte", "a.nii"] {
            assert!(check_name("subject", good).is_ok(), "{good}");
        }
        for bad in
            ["", ".hidden", "..", "__x", "a/b", "a\\b", "a\nb", "zarr.json", &"x".repeat(201)]
        {
            assert!(check_name("subject", bad).is_err(), "{bad}");
        }
    }
}
