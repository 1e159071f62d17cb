//! Stored results that a command reads.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use loadgen::report::html;
use loadgen::result::Stored;
use loadgen::result::stored::StoredError;
use loadgen::{RunResult, import};

use crate::cli::{is_same, is_stdout};
use crate::exit::Failure;

mod stream;

pub(crate) use stream::Stream;

/// Reads a result from a file: the JSON, the page that contains it, or the output of another tool. `-` is
/// stdin.
///
/// # Errors
/// A usage error: the file can't be read, or is no result.
pub(crate) fn read(path: &Path) -> Result<Stored, Failure> {
    let (name, content) = if is_stdout(path) {
        let mut content = Vec::new();
        let read = io::stdin().read_to_end(&mut content);
        ("stdin".to_owned(), read.map(|_| content))
    } else {
        (path.display().to_string(), fs::read(path))
    };
    let unreadable = |problem: String| Failure::usage(format!("cannot read {name}: {problem}"));
    let content = content.map_err(|error| unreadable(error.to_string()))?;
    let json = html::stored_result(&content).unwrap_or(&content);
    match (Stored::read(json), import::read(&content)) {
        (Err(StoredError::NotAResult(_)), Some(imported)) => imported
            .map(|result| Stored::Imported(Box::new(result)))
            .map_err(|error| unreadable(error.to_string())),
        (stored, _) => stored.map_err(|error| unreadable(error.to_string())),
    }
}

/// Reads the result of a run from a file.
///
/// # Errors
/// A usage error: the file can't be read, or is no result of a run.
pub(crate) fn read_run(path: &Path) -> Result<RunResult, Failure> {
    let kind = match read(path)? {
        Stored::Run(result) => return Ok(*result),
        stored => kind(&stored),
    };
    Err(no_run(path, kind))
}

/// What a result is of, which is not of a run.
pub(crate) fn kind(stored: &Stored) -> &'static str {
    match stored {
        Stored::Run(_) => "a run",
        Stored::Search(_) => "a search",
        Stored::Comparison(_) | Stored::SideBySide(_) => "a comparison",
        Stored::Imported(_) => "another tool",
        Stored::Watch(_) => "a watch",
    }
}

/// A usage error: the result of a run is needed.
pub(crate) fn no_run(path: &Path, kind: &str) -> Failure {
    Failure::usage(format!(
        "{} is the result of {kind}; give one of loadgen run",
        path.display()
    ))
}

/// Refuses an output that would overwrite a result that it is made from.
///
/// # Errors
/// A usage error.
pub(crate) fn keep(results: &[&PathBuf], output: Option<&Path>) -> Result<(), Failure> {
    let overwritten = |output: &&Path| results.iter().any(|result| is_same(result, output));
    // Stdin and stdout have the same sign.
    match output.filter(|it| !is_stdout(it)).filter(overwritten) {
        Some(output) => Err(Failure::usage(format!(
            "{} is one of the results that are read, and would be overwritten; write to another file",
            output.display()
        ))),
        None => Ok(()),
    }
}
