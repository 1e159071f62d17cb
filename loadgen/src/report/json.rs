//! The result file.

use std::io::{self, Write};

use serde::Serialize;

/// Writes the result of a run, a search or a comparison as JSON of schema 1, with a newline at the
/// end.
///
/// # Errors
/// The error of writing to `out`.
pub fn write(result: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, result)?;
    writeln!(out)?;
    out.flush()
}
