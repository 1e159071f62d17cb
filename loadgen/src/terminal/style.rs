//! What the progress line, the full-screen view and the table look alike in.

use std::env;
use std::io::{self, IsTerminal};

use loadgen::report::text::Colors;

/// Whether colours are wanted: unless NO_COLOR is set and not empty (no-color.org).
pub(crate) fn wants_color() -> bool {
    env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The colours of a table on stdout: on a terminal that has them, unless the user wants none.
pub(crate) fn of_stdout() -> Colors {
    let is_dumb = env::var_os("TERM").is_some_and(|term| term == "dumb");
    if io::stdout().is_terminal() && !is_dumb && wants_color() {
        Colors::Ansi
    } else {
        Colors::None
    }
}

/// A bar of `width` characters that is filled up to `ratio`.
pub(crate) fn bar(ratio: f64, width: usize) -> String {
    let filled = ((ratio * width as f64) as usize).min(width);
    "█".repeat(filled) + &"░".repeat(width - filled)
}
