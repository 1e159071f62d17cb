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

use tempfile::NamedTempFile;

use crate::report::{Metric, Sample};
use crate::server::Watcher;

/// Operations of the short and of the long run: enough that what varies in each cancels, few enough for
/// programs that are slowed down a hundred times.
const LENGTHS: [u64; 2] = [2_000, 12_000];

/// Counts of less than this per operation are left out of the names.
const MIN_NAMED: f64 = 0.0005;

/// `run` runs the program under a watcher for so many operations and returns when the watcher has
/// written its file. The notes have the calls by name, and why something could not be counted.
pub(crate) fn count(mut run: impl FnMut(Watcher, u64) -> io::Result<()>) -> Sample {
    let mut sample = Sample::default();
    let mut difference = |watcher: fn(_) -> Watcher, parse: fn(&str) -> BTreeMap<String, f64>| {
        let mut counts: BTreeMap<String, f64> = BTreeMap::new();
        let operations = (LENGTHS[1] - LENGTHS[0]) as f64;
        for (length, sign) in LENGTHS.into_iter().zip([-1.0, 1.0]) {
            let file = NamedTempFile::new()?;
            run(watcher(file.path().to_owned()), length)?;
            for (name, count) in parse(&fs::read_to_string(file.path())?) {
                *counts.entry(name).or_default() += sign * count / operations;
            }
        }
        match counts.is_empty() {
            true => Err(io::Error::other("nothing was counted")),
            false => Ok(counts),
        }
    };
    match difference(Watcher::Strace, parse_strace) {
        Ok(calls) => {
            sample.set(Metric::Calls, calls.values().sum());
            let named = calls.iter().filter(|(_, calls)| calls.abs() >= MIN_NAMED);
            let named = named.map(|(name, calls)| format!("{name} {calls:.3}"));
            sample.note(named.collect::<Vec<_>>().join(", "));
        }
        Err(e) => sample.note(format!("no system calls were counted: {e}")),
    }
    match difference(Watcher::Callgrind, parse_callgrind) {
        Ok(totals) => sample.set(Metric::Instructions, totals.values().sum()),
        Err(e) => sample.note(format!("no instructions were counted: {e}")),
    }
    sample
}

/// Calls by name from the table of `strace -c`, whose column of errors may be empty.
fn parse_strace(table: &str) -> BTreeMap<String, f64> {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let _share: f64 = fields.first()?.parse().ok()?;
        let (calls, name) = (fields.get(3)?.parse().ok()?, *fields.last()?);
        (fields.len() >= 5 && name != "total").then(|| (name.to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

/// The total of a file of callgrind's.
fn parse_callgrind(text: &str) -> BTreeMap<String, f64> {
    let total = |name: &str| text.lines().rev().find_map(|line| line.strip_prefix(name));
    let total = total("totals:").or_else(|| total("summary:"));
    let count = total.and_then(|total| total.split_whitespace().next()?.parse().ok());
    count
        .map(|count| ("instructions".to_owned(), count))
        .into_iter()
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
    fn counts_are_read_in_all_forms() {
        let expected = [
            ("access", 1.0),
            ("recvfrom", 11_050.0),
            ("sendto", 10_050.0),
        ];
        assert_eq!(
            parse_strace(TABLE),
            expected
                .map(|(name, calls)| (name.to_owned(), calls))
                .into()
        );
        assert_eq!(parse_strace("strace: exec failed"), BTreeMap::new());
        let total = |text| parse_callgrind(text).get("instructions").copied();
        assert_eq!(
            total("events: Ir\nsummary: 120\nfn=x\ntotals: 123456\n"),
            Some(123_456.0)
        );
        assert_eq!(total("events: Ir\nsummary: 120\n"), Some(120.0));
        assert_eq!(total("events: Ir\n"), None);
    }

    #[test]
    fn what_both_runs_have_in_common_cancels() {
        let sample = count(|watcher, operations| match watcher {
            Watcher::Callgrind(file) => {
                fs::write(file, format!("totals: {}\n", 1000 + 56 * operations))
            }
            Watcher::Strace(file) => {
                let (reads, waits) = (operations + 50, operations / 10 + 5);
                let table =
                    format!("1 1 1 {reads} recvfrom\n1 1 1 {waits} 3 epoll_wait\n1 1 1 77 mmap\n");
                fs::write(file, table)
            }
            Watcher::None => unreachable!(),
        });
        assert_eq!(sample.get(Metric::Instructions), Some(56.0));
        assert!(
            (sample.get(Metric::Calls).unwrap() - 1.1).abs() < 1e-9,
            "{sample:?}"
        );
        assert!(
            sample.notes.contains("epoll_wait 0.100, recvfrom 1.000"),
            "{sample:?}"
        );
    }

    #[test]
    fn what_can_t_be_counted_is_noted() {
        let sample = count(|_, _| Err(io::Error::other("not installed")));
        assert!(sample.values.is_empty());
        assert_eq!(sample.notes.len(), 2);
    }
}
