//! Parses sizes in bytes as people write them.

use voxquarry::{Error, Result};

/// Parses `4096`, `500MB` (10⁶), `1.5GiB` (2³⁰); units in upper or lower case.
///
/// # Errors
/// [`Error::InvalidArgument`] for anything else.
pub fn parse_bytes(text: &str) -> Result<u64> {
    const UNITS: [(&str, f64); 10] = [
        ("", 1.0),
        ("b", 1.0),
        ("kb", 1e3),
        ("mb", 1e6),
        ("gb", 1e9),
        ("tb", 1e12),
        ("kib", 1024.0),
        ("mib", 1_048_576.0),
        ("gib", 1_073_741_824.0),
        ("tib", 1_099_511_627_776.0),
    ];
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let unit = text[digits..].trim().to_ascii_lowercase();
    let factor = UNITS.iter().find(|u| u.0 == unit).map(|u| u.1);
    let bytes = text[..digits].parse::<f64>().ok().zip(factor).map(|(n, f)| n * f);
    match bytes {
        Some(bytes) if bytes < 9.0e18 => Ok(bytes as u64),
        _ => Err(Error::invalid("size", format!("{text:?}"), "a number and a unit, as in 256MiB")),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn sizes_have_decimal_and_binary_units() {
        for (text, bytes) in [
            ("4096", 4096),
            ("1GiB", 1 << 30),
            ("500 mb", 500_000_000),
            ("1.5KiB", 1536),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(parse_bytes(text).unwrap(), bytes);
        }
        for text in ["", "GiB", "1XB", "-1", "1e3", "1.2.3MB", "99999999TiB"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }
}
