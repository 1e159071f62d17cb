//! What the progress line and the full-screen view look alike in.

use std::env;

/// Whether colours are wanted: unless NO_COLOR is set and not empty (no-color.org).
pub(crate) fn wants_color() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A bar of `width` characters that is filled up to `ratio`.
pub(crate) fn bar(ratio: f64, width: usize) -> String {
    let filled = ((ratio * width as f64) as usize).min(width);
    "█".repeat(filled) + &"░".repeat(width - filled)
}
