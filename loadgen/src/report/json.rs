//! The result file.

use std::io::{self, Write};

use serde::Serialize;

/// Writes a result, of a run or of a search, as JSON of schema 1, with a newline at the end.
///
/// # Errors
/// What writing to `out` reports.
pub fn write(result: &impl Serialize, mut out: impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut out, result)?;
    writeln!(out)?;
    out.flush()
}
