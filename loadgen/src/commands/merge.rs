//! `loadgen merge`: the union of results of several hosts or processes.

use std::io;
use std::path::Path;

use loadgen::merge::Union;
use loadgen::report::json;

use crate::cli::{MergeArgs, is_stdout};
use crate::commands::outputs::{self, OutputFile, not_written};
use crate::commands::stored::{self, Stream};
use crate::exit::{DONE, Failure, INVALID};

/// Merges the results, writes the union, and returns the exit code.
pub(crate) fn run(args: &MergeArgs) -> Result<u8, Failure> {
    stored::keep(
        &args.results.iter().collect::<Vec<_>>(),
        args.json.as_deref(),
    )?;
    let mut union = Union::default();
    for path in &args.results {
        if is_stdout(path) {
            for result in Stream::of(io::stdin().lock()) {
                let (name, result) = result?;
                union.add(name, result).map_err(Failure::usage)?;
            }
        } else {
            let result = stored::read_run(path)?;
            union
                .add(path.display().to_string(), result)
                .map_err(Failure::usage)?;
        }
    }
    let union = union.finish().map_err(Failure::usage)?;
    let stdout = Path::new("-");
    match args.json.as_deref() {
        Some(path) if is_stdout(path) => {
            json::write(&union, io::BufWriter::new(io::stdout().lock()))
                .map_err(|error| not_written(stdout, error))?;
        }
        path => {
            if let Some(path) = path {
                OutputFile::open(path)
                    .and_then(|file| file.write(|out| json::write(&union, out)))
                    .map_err(|error| not_written(path, error))?;
            }
            if !args.quiet {
                outputs::print(&union).map_err(|error| not_written(stdout, error))?;
            }
        }
    }
    let is_invalid = union.verdict.status == loadgen::result::Status::Invalid;
    Ok(if is_invalid && !args.allow_invalid {
        INVALID
    } else {
        DONE
    })
}
