//! Tests whose tools are missing: each prints one line that it is skipped, and a last line counts
//! them by tool. With [`REQUIRED`] in the environment, a missing tool fails the test instead; a
//! feature that the kernel or a container lacks still skips it.
//!
//! The tests of both crates include this file.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::{env, fs, io};

/// The variable that turns the skip for a missing tool into a failure.
const REQUIRED: &str = "ECHOMARK_TESTS_REQUIRE_TOOLS";

/// The number of skipped tests by missing requirement.
static SKIPPED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Skips the calling test, because this machine lacks a feature.
macro_rules! skip {
    ($need:expr) => {
        return $crate::support::tools::skip_test(std::any::type_name_of_val(&|| ()), $need)
    };
}

/// Skips the calling test, because a tool is not installed.
macro_rules! skip_without {
    ($tool:expr) => {
        $crate::support::tools::fail_if_required($tool);
        $crate::support::tools::skip!($tool)
    };
}

/// Skips the calling test unless each of these programs is on the PATH.
macro_rules! require {
    ($($tool:expr),+ $(,)?) => {
        for tool in [$($tool),+] {
            if !$crate::support::tools::is_installed(tool) {
                $crate::support::tools::skip_without!(tool);
            }
        }
    };
}

/// Skips the calling test unless Python has a module, which comes in a package of this name.
#[allow(unused_macros, reason = "only one of the crates has such tests")]
macro_rules! require_python {
    ($module:expr, $package:expr) => {
        if !$crate::support::tools::python_has($module) {
            $crate::support::tools::skip_without!(concat!("python3 with ", $package));
        }
    };
}

#[allow(unused_imports, reason = "each of the crates uses some")]
pub(crate) use {require, require_python, skip, skip_without};

/// Whether a program of this name is on the PATH.
pub(crate) fn is_installed(tool: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| {
        fs::metadata(directory.join(tool))
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

#[allow(dead_code, reason = "only one of the crates has such tests")]
pub(crate) fn python_has(module: &str) -> bool {
    Command::new("python3")
        .args(["-c", &format!("import {module}")])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Fails the calling test if tools are required.
#[track_caller]
pub(crate) fn fail_if_required(tool: &str) {
    assert!(
        env::var_os(REQUIRED).is_none(),
        "this test needs {tool}, and {REQUIRED} is set"
    );
}

/// Records a skipped test. `place` is the type name of a closure in the test.
pub(crate) fn skip_test(place: &str, need: &str) {
    let test = name_of(place);
    static AT_END: Once = Once::new();
    AT_END.call_once(|| {
        sys::atexit(summarize);
    });
    say(&format!("skipped: {test} needs {need}"));
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    *skipped.entry(need.to_owned()).or_default() += 1;
}

/// The test that a closure of this type name is in.
pub(crate) fn name_of(place: &str) -> &str {
    let test = place.trim_end_matches("::{{closure}}");
    test.split_once("::").map_or(test, |(_, test)| test)
}

/// Prints the last line of a test program.
extern "C" fn summarize() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let counts: Vec<_> = skipped
        .iter()
        .map(|(need, count)| format!("{count} need {need}"))
        .collect();
    let total: usize = skipped.values().sum();
    let which = counts.join(", ");
    say(&format!("skipped {total} tests for want of tools: {which}"));
}

/// Prints a line on stderr, which the test harness does not capture.
pub(crate) fn say(line: &str) {
    // A lost line is harmless.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

mod sys {
    #![expect(unsafe_code, reason = "std has no hook at the end of a test program")]

    // SAFETY: atexit(3) has this signature, and takes any function.
    unsafe extern "C" {
        pub(super) safe fn atexit(function: extern "C" fn()) -> i32;
    }
}
