//! System calls that fail on demand: strace(1) injects the errors.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::wait_for;

/// A command that becomes `program` with a tracer, which injects `faults`, such as
/// `accept4:error=EMFILE:when=1..9` (strace(1)). Calls are counted per thread.
pub(crate) fn with_faults(faults: &[&str], program: impl AsRef<Path>) -> Command {
    with_recorded_faults(faults, program, "/dev/null")
}

/// As [`with_faults`]; the traced calls are written to `file`, those that failed on demand with the mark
/// `(INJECTED)`.
pub(crate) fn with_recorded_faults(
    faults: &[&str],
    program: impl AsRef<Path>,
    file: impl AsRef<Path>,
) -> Command {
    let mut command = tracer();
    command.arg(format!("--output={}", file.as_ref().display()));
    // -D: the child is the program itself; the tracer is its grandchild and ends with it.
    // --seccomp-bpf: untraced calls run at full speed.
    command.args(["-D", "--seccomp-bpf", "-f"]);
    let calls: Vec<_> = faults
        .iter()
        .filter_map(|fault| fault.split(':').next())
        .collect();
    command.arg(format!("--trace={}", calls.join(",")));
    for fault in faults {
        command.arg(format!("--inject={fault}"));
    }
    command.arg(program.as_ref());
    command
}

/// The trace of a [`recorder`] whose program has ended. Its calls must include exit_group.
#[track_caller]
pub(crate) fn recorded(file: &Path) -> String {
    // The tracer outlives the program by a moment.
    wait_for("the end of the trace", || {
        let text = fs::read_to_string(file).expect("the trace is there");
        text.contains("exit_group(").then_some(text)
    })
}

/// strace(1) without any output of its own. The tests that use it require it.
pub(crate) fn tracer() -> Command {
    let mut command = Command::new("strace");
    command.args(["--quiet=all", "--signal=none", "--output=/dev/null"]);
    command
}

/// A command that becomes `echod` with a tracer, which writes these calls to a file, each with its
/// thread.
pub(crate) fn recorder(file: &Path, calls: &str) -> Command {
    let mut command = tracer();
    command
        .args(["-D", "--seccomp-bpf", "-f", "--string-limit=0"])
        .arg(format!("--trace={calls}"))
        .arg(format!("--output={}", file.display()))
        .arg(super::echod::PROGRAM);
    command
}
