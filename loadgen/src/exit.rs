//! Exit codes, and the one-line reason of a failed command.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use loadgen::report::text;

/// The command succeeded.
pub(crate) const DONE: u8 = 0;
/// It failed at run time.
pub(crate) const FAILED: u8 = 1;
/// Its command line, or a file that it names, is wrong.
pub(crate) const USAGE: u8 = 2;
/// The result is invalid.
pub(crate) const INVALID: u8 = 97;
/// A comparison found a regression.
pub(crate) const REGRESSION: u8 = 98;
/// A search found that the objective is not met, or a run that servers have other shares of the
/// connections than expected.
pub(crate) const OBJECTIVE_NOT_MET: u8 = 99;
/// The user ended it early.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    code: u8,
    problem: String,
}

impl Failure {
    pub(crate) fn usage(problem: String) -> Self {
        Self {
            code: USAGE,
            problem,
        }
    }

    pub(crate) fn of_run(problem: String) -> Self {
        Self {
            code: FAILED,
            problem,
        }
    }

    /// Prints the reason, and returns the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        complain(&self.problem);
        ExitCode::from(self.code)
    }
}

/// Writes the problem to stderr: in one line, which a terminal gets in lines of its width. A closed
/// stderr is no reason to fail.
pub(crate) fn complain(problem: &str) {
    let message = format!("loadgen: {problem}");
    let _ = if io::stderr().is_terminal() {
        write!(
            io::stderr(),
            "{}",
            text::wrapped(&message, "loadgen: ".len())
        )
    } else {
        writeln!(io::stderr(), "{message}")
    };
}
