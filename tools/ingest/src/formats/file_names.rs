//! The names of files that a header gives as a pattern of numbers, and numbers in a header's text.
//!
//! # Invariants
//! - A pattern gives at most [`MAX_FILES`] names.

/// More files of one volume are a mistake of a header.
pub(crate) const MAX_FILES: usize = 100_000;

/// The names that a pattern such as `slice%03d.raw` gives for numbers from `first` to `last`.
///
/// # Errors
/// A message.
pub(crate) fn numbered(
    pattern: &str,
    [first, last, step]: [i64; 3],
) -> Result<Vec<String>, String> {
    let (before, width, after) = split_pattern(pattern).ok_or_else(|| {
        format!(
            "the pattern {pattern:?}: expected one %d, %i or %u, perhaps with a width as in %03d"
        )
    })?;
    let steps = last.checked_sub(first).and_then(|span| span.checked_div(step));
    let count = steps.and_then(|steps| steps.checked_add(1)).filter(|&n| n > 0);
    let count = count.and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= MAX_FILES);
    let Some(count) = count else {
        return Err(format!("the numbers {first} to {last} by {step}: expected 1 to {MAX_FILES}"));
    };
    let number = |i: usize| first + i as i64 * step;
    Ok((0..count)
        .map(|i| match width {
            Width::Zeros(width) => format!("{before}{:0width$}{after}", number(i)),
            Width::Blanks(width) => format!("{before}{:width$}{after}", number(i)),
        })
        .collect())
}

enum Width {
    Zeros(usize),
    Blanks(usize),
}

/// The text before the number, its width, and the text after it.
fn split_pattern(pattern: &str) -> Option<(&str, Width, &str)> {
    let (before, rest) = pattern.split_once('%')?;
    let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (width, rest) = rest.split_at(digits);
    let after = rest.strip_prefix(['d', 'i', 'u'])?;
    let number = if width.is_empty() { 0 } else { width.parse().ok().filter(|&n| n <= 32)? };
    let width = if width.starts_with('0') { Width::Zeros(number) } else { Width::Blanks(number) };
    (!after.contains('%')).then_some((before, width, after))
}

/// Numbers between white space.
pub(crate) fn numbers<T: std::str::FromStr>(text: &str) -> Option<Vec<T>> {
    text.split_whitespace().map(|word| word.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_printf() {
        assert_eq!(numbered("p%02d.raw", [8, 10, 1]).unwrap(), ["p08.raw", "p09.raw", "p10.raw"]);
        assert_eq!(numbered("%d", [5, 1, -2]).unwrap(), ["5", "3", "1"]);
        assert_eq!(numbered("a%i", [1, 6, 2]).unwrap(), ["a1", "a3", "a5"]);
        assert_eq!(numbered("%3u.x", [7, 7, 9]).unwrap(), ["  7.x"]);
        for (pattern, span) in [
            ("p.raw", [1, 2, 1]),
            ("%d%d", [1, 2, 1]),
            ("%s", [1, 2, 1]),
            ("%99d", [1, 2, 1]),
            ("%d", [1, 2, 0]),
            ("%d", [2, 1, 1]),
            ("%d", [0, i64::MAX, 1]),
            ("%d", [i64::MIN, i64::MAX, 1]),
            ("%d", [i64::MIN, 0, i64::MIN]),
        ] {
            assert!(numbered(pattern, span).is_err(), "{pattern} {span:?}");
        }
    }
}
