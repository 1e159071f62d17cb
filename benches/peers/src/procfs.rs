//! What /proc tells of a server: its children, the memory that it holds, and how long it was kept
//! waiting for a processor.

use std::fs;
use std::io;
use std::time::Duration;

use serde::Serialize;

use crate::sys;

/// What a server has used of the processors since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Time on a processor in nanoseconds, in user mode and in the kernel.
    pub cpu_ns: u64,
    /// Time that its threads were ready to run and had no processor, in nanoseconds.
    pub waited_ns: u64,
}

/// Memory of a server in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Resident: VmRSS of the first process, and what only they have of its children.
    pub resident: u64,
    /// Anonymous pages, which are what it allocated.
    pub anonymous: u64,
}

/// What the process `pid`, with all its threads, and its descendants have used.
///
/// Children that were waited for count too, with the resolution of a clock tick (10 ms as a rule).
///
/// # Errors
/// Where there is no such process.
pub fn usage(pid: u32) -> io::Result<Usage> {
    let mut usage = Usage::default();
    for process in tree(pid) {
        // A child may have ended since it was listed; it then counts among those waited for.
        match sys::process_cpu_ns(process) {
            Ok(ns) => usage.cpu_ns += ns,
            Err(e) if process == pid => return Err(e),
            Err(_) => {}
        }
        usage.waited_ns += waited_ns(process);
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    usage.cpu_ns +=
        parse_children_ticks(&stat).unwrap_or(0) * (1_000_000_000 / sys::ticks_per_second());
    Ok(usage)
}

/// The memory of the process `pid` and of its descendants.
///
/// # Errors
/// Where there is no such process, or its memory may not be read.
pub fn memory(pid: u32) -> io::Result<Memory> {
    let rollup = read_rollup(pid)?;
    let mut memory = Memory {
        resident: rollup.resident,
        anonymous: rollup.anonymous,
    };
    for child in tree(pid).into_iter().skip(1) {
        if let Ok(rollup) = read_rollup(child) {
            memory.resident += rollup.private;
            memory.anonymous += rollup.private_dirty;
        }
    }
    Ok(memory)
}

/// `pid` and its descendants, parents before children.
#[must_use]
pub fn tree(pid: u32) -> Vec<u32> {
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&process) = found.get(next) {
        next += 1;
        for task in tasks(process) {
            let children = fs::read_to_string(format!("/proc/{process}/task/{task}/children"));
            let children = children.unwrap_or_default();
            found.extend(
                children
                    .split_whitespace()
                    .filter_map(|c| c.parse::<u32>().ok()),
            );
        }
    }
    found
}

/// Waits until `pid` has used no processor for some time, so that what it does on its own after its
/// start is over, for a second at the most.
pub fn await_quiet(pid: u32) {
    const STEP: Duration = Duration::from_millis(5);
    let mut before = usage(pid).map_or(0, |u| u.cpu_ns);
    for _ in 0..200 {
        std::thread::sleep(STEP);
        let after = usage(pid).map_or(0, |u| u.cpu_ns);
        if after == before {
            return;
        }
        before = after;
    }
}

fn tasks(process: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else {
        return Vec::new();
    };
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok()).collect()
}

fn waited_ns(process: u32) -> u64 {
    let of_task = |task| {
        let text = fs::read_to_string(format!("/proc/{process}/task/{task}/schedstat")).ok()?;
        parse_schedstat(&text)
    };
    tasks(process).into_iter().filter_map(of_task).sum()
}

/// The second number of schedstat: nanoseconds in a run queue (sched-stats.rst).
fn parse_schedstat(text: &str) -> Option<u64> {
    text.split_whitespace().nth(1)?.parse().ok()
}

/// cutime + cstime of /proc/PID/stat, in clock ticks (proc_pid_stat(5)).
fn parse_children_ticks(stat: &str) -> Option<u64> {
    // The second field is a name in parentheses, which may itself contain both.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_whitespace().skip(13);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Rollup {
    resident: u64,
    anonymous: u64,
    private: u64,
    private_dirty: u64,
}

fn read_rollup(pid: u32) -> io::Result<Rollup> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    parse_rollup(&text)
        .ok_or_else(|| io::Error::other(format!("/proc/{pid}/smaps_rollup has no Rss")))
}

/// smaps_rollup, which adds up the pages as they are; VmRSS of /proc/PID/status may lag behind.
fn parse_rollup(text: &str) -> Option<Rollup> {
    let field = |name: &str| -> Option<u64> {
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(':'))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib * 1024)
    };
    let private_dirty = field("Private_Dirty")?;
    Some(Rollup {
        resident: field("Rss")?,
        anonymous: field("Anonymous")?,
        private: field("Private_Clean")? + private_dirty,
        private_dirty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rollup_is_read_by_name_and_in_bytes() {
        let text = "5606-7ffc ---p 00000000 00:00 0                          [rollup]\n\
            Rss:                1768 kB\nPss:                 386 kB\nPss_Anon:            112 kB\n\
            Private_Clean:        16 kB\nPrivate_Dirty:       112 kB\nAnonymous:           120 kB\n";
        let expected = Rollup {
            resident: 1768 * 1024,
            anonymous: 120 * 1024,
            private: 128 * 1024,
            private_dirty: 112 * 1024,
        };
        assert_eq!(parse_rollup(text), Some(expected));
        assert_eq!(parse_rollup("Rss: 1 kB\n"), None);
    }

    #[test]
    fn schedstat_tells_the_time_in_the_queue() {
        assert_eq!(parse_schedstat("425683 74957 3\n"), Some(74_957));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "77 (a) b (c) S 1 77 77 0 -1 4194304 100 200 0 0 7 8 30 12 20 0 1 0 12345 1 1";
        assert_eq!(parse_children_ticks(stat), Some(42));
        assert_eq!(parse_children_ticks("77 no name"), None);
    }

    #[test]
    fn our_own_process_can_be_measured() {
        let pid = std::process::id();
        let before = usage(pid).unwrap();
        let mut sum = 0_u64;
        while usage(pid).unwrap().cpu_ns < before.cpu_ns + 2_000_000 {
            sum = std::hint::black_box(sum + 1);
        }
        assert!(memory(pid).unwrap().resident > 100_000);
        assert!(tree(pid).contains(&pid));
    }
}
