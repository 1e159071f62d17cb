//! `loadgen man` and `loadgen completions`: documents for man(1) and for shells.

use std::io::{self, Write};

use crate::cli::{CompletionsArgs, ManArgs};
use crate::exit::{DONE, Failure};

/// Prints a page of the manual.
pub(crate) fn run(args: &ManArgs) -> Result<u8, Failure> {
    print(&args.page().map_err(Failure::usage)?)
}

/// Prints the completions of a shell.
pub(crate) fn completions(args: &CompletionsArgs) -> Result<u8, Failure> {
    print(&args.script())
}

fn print(text: &str) -> Result<u8, Failure> {
    match io::stdout().write_all(text.as_bytes()) {
        // A reader that closed the pipe wants no more output.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::of_run(format!("cannot write to stdout: {error}")))
        }
        Ok(()) | Err(_) => Ok(DONE),
    }
}
