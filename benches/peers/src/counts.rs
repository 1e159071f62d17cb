//! What does not vary from run to run: system calls and user-space instructions per operation, as
//! strace and callgrind count them.
//!
//! A program runs twice, for a few and for many operations, and the difference of the counts is
//! divided by the difference of the operations. Starting, connecting and ending are in both and cancel.
//! What depends on timing, such as how two threads of a runtime wake each other, does not cancel exactly,
//! and may show as a small count, even a negative one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::scratch::Scratch;

/// Counts per operation.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// System calls, all together; nothing if they could not be counted.
    pub calls: Option<f64>,
    /// System calls by name, those that matter.
    pub by_name: BTreeMap<String, f64>,
    /// Instructions in user space.
    pub instructions: Option<f64>,
    /// Why something could not be counted.
    pub notes: Vec<String>,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// System calls, by strace.
    Calls,
    /// User-space instructions, by callgrind.
    Instructions,
}

/// Operations of the short and of the long run.
pub type Lengths = (u64, u64);

/// Counts that are less than this per operation are left out of the names.
const MATTERS: f64 = 0.0005;

/// Counts with `run`, which runs a program under the words of a watcher for so many operations and
/// returns when the watcher has written its file.
pub fn count(
    (short, long): Lengths,
    mut run: impl FnMut(Kind, &[String], u64) -> io::Result<()>,
) -> Counts {
    let mut counts = Counts::default();
    let operations = (long - short) as f64;
    let mut both = |kind: Kind| -> io::Result<(String, String)> {
        let mut texts = Vec::new();
        for length in [short, long] {
            let file = Scratch::new(kind.program());
            run(kind, &kind.words(file.path()), length)?;
            texts.push(fs::read_to_string(file.path()).map_err(|e| {
                io::Error::new(e.kind(), format!("{} left nothing: {e}", kind.program()))
            })?);
        }
        let long = texts.pop().unwrap_or_default();
        Ok((texts.pop().unwrap_or_default(), long))
    };
    match both(Kind::Calls) {
        Ok((short, long)) => {
            let (short, long) = (parse_strace(&short), parse_strace(&long));
            counts.by_name = differences(&short, &long, operations);
            counts.calls = (!long.is_empty()).then(|| counts.by_name.values().sum());
            counts.by_name.retain(|_, calls| calls.abs() >= MATTERS);
        }
        Err(e) => counts.notes.push(format!("system calls: {e}")),
    }
    match both(Kind::Instructions) {
        Ok((short, long)) => match (parse_callgrind(&short), parse_callgrind(&long)) {
            (Some(short), Some(long)) => {
                counts.instructions = Some((long as f64 - short as f64) / operations);
            }
            _ => counts
                .notes
                .push("instructions: callgrind wrote no total".to_owned()),
        },
        Err(e) => counts.notes.push(format!("instructions: {e}")),
    }
    counts
}

impl Kind {
    fn program(self) -> &'static str {
        match self {
            Self::Calls => "strace",
            Self::Instructions => "valgrind",
        }
    }

    fn words(self, file: &Path) -> Vec<String> {
        let file = file.display();
        let words: &[&str] = match self {
            Self::Calls => &["strace", "-f", "-c", "-o", &file.to_string()],
            Self::Instructions => &[
                "valgrind",
                "--tool=callgrind",
                "--combine-dumps=yes",
                &format!("--callgrind-out-file={file}"),
            ],
        };
        words.iter().map(ToString::to_string).collect()
    }
}

/// Calls by name from the table of `strace -c`, whose column of errors may be empty.
fn parse_strace(table: &str) -> BTreeMap<String, u64> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let share: Option<f64> = fields.first()?.parse().ok();
        share?;
        let name = *fields.last()?;
        let calls = fields.get(3)?.parse().ok()?;
        (fields.len() >= 5 && name != "total").then(|| (name.to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

/// The total of a file of callgrind's.
fn parse_callgrind(text: &str) -> Option<u64> {
    let total = |name: &str| text.lines().rev().find_map(|l| l.strip_prefix(name));
    let total = total("totals:").or_else(|| total("summary:"))?;
    total.split_whitespace().next()?.parse().ok()
}

fn differences(
    short: &BTreeMap<String, u64>,
    long: &BTreeMap<String, u64>,
    operations: f64,
) -> BTreeMap<String, f64> {
    let names = short.keys().chain(long.keys());
    let of = |calls: &BTreeMap<String, u64>, name| calls.get(name).copied().unwrap_or(0) as f64;
    names
        .map(|name| {
            (
                name.clone(),
                (of(long, name) - of(short, name)) / operations,
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 60.12    0.120000          12     10050           sendto
 39.00    0.080000           7     11050      1000 recvfrom
  0.88    0.000100         100         1         1 access
------ ----------- ----------- --------- --------- ----------------
100.00    0.200100           9     21101      1001 total
";

    #[test]
    fn calls_are_read_with_and_without_errors() {
        let calls = parse_strace(TABLE);
        let expected = [("access", 1), ("recvfrom", 11_050), ("sendto", 10_050)];
        assert_eq!(calls, expected.map(|(n, c)| (n.to_owned(), c)).into());
        assert_eq!(parse_strace("strace: exec failed"), BTreeMap::new());
    }

    #[test]
    fn the_total_is_read_in_both_forms() {
        assert_eq!(
            parse_callgrind("events: Ir\nsummary: 120\nfn=x\ntotals: 123456\n"),
            Some(123_456)
        );
        assert_eq!(parse_callgrind("events: Ir\nsummary: 120\n"), Some(120));
        assert_eq!(parse_callgrind("events: Ir\n"), None);
    }

    #[test]
    fn what_both_runs_have_in_common_cancels() {
        let mut run = |kind: Kind, words: &[String], operations: u64| {
            let path = match kind {
                Kind::Calls => words.last().unwrap().clone(),
                Kind::Instructions => words.last().unwrap().split_once('=').unwrap().1.to_owned(),
            };
            let text = match kind {
                Kind::Calls => format!(
                    "1 1 1 {} recvfrom\n1 1 1 {} 3 epoll_wait\n1 1 1 77 mmap\n1 1 1 5 total\n",
                    operations + 50,
                    operations / 10 + 5
                ),
                Kind::Instructions => format!("totals: {}\n", 1_000_000 + 56 * operations),
            };
            fs::write(path, text)
        };
        let counts = count((1000, 11_000), &mut run);
        assert_eq!(counts.instructions, Some(56.0));
        assert_eq!(counts.calls, Some(1.1));
        let names: Vec<_> = counts.by_name.into_iter().collect();
        assert_eq!(
            names,
            [("epoll_wait".to_owned(), 0.1), ("recvfrom".to_owned(), 1.0)]
        );
        assert!(counts.notes.is_empty());
    }

    #[test]
    fn what_can_t_be_counted_is_said() {
        let counts = count((1, 2), |_, _, _| Err(io::Error::other("not installed")));
        assert_eq!((counts.calls, counts.instructions), (None, None));
        assert_eq!(counts.notes.len(), 2);
        assert!(counts.notes[0].contains("not installed"));
    }
}
