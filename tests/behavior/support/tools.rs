//! Tests that need a tool which is not installed: each says in one line that it is skipped, and a last line
//! says how many were skipped for which tools. With [`REQUIRED`] in the environment they fail instead.
//!
//! The tests of both crates include this file.

use std::collections::BTreeMap;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::{Mutex, Once, PoisonError};
use std::{env, fs, io};

/// The variable that makes a skipped test a failed one.
const REQUIRED: &str = "ECHOMARK_TESTS_REQUIRE_TOOLS";

/// How many tests were skipped for want of each tool.
static SKIPPED: Mutex<BTreeMap<String, usize>> = Mutex::new(BTreeMap::new());

/// Returns from the test that calls it, which is then skipped, unless each of these programs is on the PATH.
macro_rules! require {
    ($($tool:expr),+ $(,)?) => {
        for tool in [$($tool),+] {
            if !$crate::support::tools::is_installed(tool) {
                return $crate::support::tools::skip(tool, std::any::type_name_of_val(&|| ()));
            }
        }
    };
}

/// Skips the test that calls it unless Python has a module, which comes in a package of this name.
#[allow(unused_macros, reason = "only one of the crates has such tests")]
macro_rules! require_python {
    ($module:expr, $package:expr) => {
        $crate::support::tools::require!("python3");
        if !$crate::support::tools::python_has($module) {
            let tool = concat!("Python's ", $package);
            return $crate::support::tools::skip(tool, std::any::type_name_of_val(&|| ()));
        }
    };
}

#[allow(unused_imports, reason = "only one of the crates has such tests")]
pub(crate) use {require, require_python};

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

/// Notes that a test can't run without `tool`. `place` is the type of a closure in the test.
#[track_caller]
pub(crate) fn skip(tool: &str, place: &str) {
    let test = place.trim_end_matches("::{{closure}}");
    let test = test.split_once("::").map_or(test, |(_, test)| test);
    assert!(
        env::var_os(REQUIRED).is_none(),
        "{tool} is not available, and {REQUIRED} is set"
    );
    static AT_END: Once = Once::new();
    AT_END.call_once(|| {
        sys::atexit(summarize);
    });
    say(&format!("skipped: {test} needs {tool}"));
    let mut skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    *skipped.entry(tool.to_owned()).or_default() += 1;
}

/// Prints the last line of a test program.
extern "C" fn summarize() {
    let skipped = SKIPPED.lock().unwrap_or_else(PoisonError::into_inner);
    let counts: Vec<_> = skipped
        .iter()
        .map(|(tool, count)| format!("{count} for {tool}"))
        .collect();
    let total: usize = skipped.values().sum();
    let which = counts.join(", ");
    say(&format!(
        "skipped {total} tests, because tools are missing: {which}"
    ));
}

/// Prints a line on stderr, which the test harness does not capture.
fn say(line: &str) {
    // Nothing depends on it.
    let _ = io::stderr().write_all(format!("{line}\n").as_bytes());
}

mod sys {
    #![expect(unsafe_code, reason = "std has no hook at the end of a test program")]

    // SAFETY: atexit(3) has this signature, and takes any function.
    unsafe extern "C" {
        pub(super) safe fn atexit(function: extern "C" fn()) -> i32;
    }
}
