//! System calls that fail on demand: strace(1) answers them in the kernel's place.

use std::fs;
use std::path::Path;
use std::process::Command;

use super::wait_for;

/// A command that becomes `program` with a tracer beside it, which answers some of its calls:
/// each of `faults` is what strace(1) calls an injection, such as `accept4:error=EMFILE:when=1..9`.
/// Calls are counted for each thread on its own.
pub(crate) fn with_faults(faults: &[&str], program: impl AsRef<Path>) -> Command {
    let mut command = tracer();
    // -D: the child is the program itself, and the tracer its grandchild, which ends with it.
    // --seccomp-bpf: calls of no interest run as fast as ever.
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

/// What a [`recorder`] wrote whose program has ended. The names it was given include exit_group.
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

/// A command that becomes `echod` with a tracer beside it, which writes the calls of these names to a
/// file, each with its thread.
pub(crate) fn recorder(file: &Path, calls: &str) -> Command {
    let mut command = tracer();
    command
        .args(["-D", "--seccomp-bpf", "-f", "--string-limit=0"])
        .arg(format!("--trace={calls}"))
        .arg(format!("--output={}", file.display()))
        .arg(super::echod::PROGRAM);
    command
}
