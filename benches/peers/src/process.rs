//! Processes: the processors they run on, and what the kernel reports of their use of processors
//! and memory.

use std::io;
use std::process::Command;
use std::thread;
use std::time::Duration;

use procfs::process::Process;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;

use crate::sys::{self, cpu_time};

/// What a server has used of the processors since it started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Time on a processor, in user mode and in the kernel.
    pub(crate) cpu: Duration,
    /// Time that its threads were ready to run and had no processor.
    pub(crate) waited: Duration,
}

impl Usage {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(earlier.cpu),
            waited: self.waited.saturating_sub(earlier.waited),
        }
    }
}

/// Memory of a server in bytes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Memory {
    /// Resident: all of the first process, and what is not shared of its children.
    pub(crate) resident: u64,
    /// Anonymous pages, which are what it allocated.
    pub(crate) anonymous: u64,
}

/// What the process `pid`, with all its threads, and its descendants have used. Children that
/// were waited for count too, with the resolution of a clock tick (10 ms as a rule).
pub(crate) fn usage(pid: u32) -> io::Result<Usage> {
    let stat = open(pid)?.stat().map_err(io::Error::other)?;
    let ticks = Duration::from_secs((stat.cutime + stat.cstime) as u64);
    let mut usage = Usage {
        cpu: ticks / procfs::ticks_per_second() as u32,
        waited: Duration::ZERO,
    };
    for process in family(pid) {
        // A child may have ended since it was listed; it then counts among those waited for.
        match cpu_time(process.pid as u32) {
            Ok(time) => usage.cpu += time,
            Err(e) if process.pid as u32 == pid => return Err(e),
            Err(_) => {}
        }
        for task in process.tasks().into_iter().flatten().flatten() {
            let delay = task.schedstat().map_or(0, |stat| stat.run_delay);
            usage.waited += Duration::from_nanos(delay);
        }
    }
    Ok(usage)
}

/// The memory of the process `pid` and of its descendants. smaps_rollup adds up the pages as they are;
/// VmRSS of /proc/PID/status may lag behind.
pub(crate) fn memory(pid: u32) -> io::Result<Memory> {
    let mut memory = Memory::default();
    for process in family(pid) {
        let rollup = match process.smaps_rollup() {
            Ok(rollup) => rollup.memory_map_rollup,
            Err(e) if process.pid as u32 == pid => return Err(io::Error::other(e)),
            Err(_) => continue,
        };
        let map = rollup.iter().next().map(|rollup| &rollup.extension.map);
        let bytes = |name| map.and_then(|map| map.get(name)).copied().unwrap_or(0);
        if process.pid as u32 == pid {
            memory.resident += bytes("Rss");
            memory.anonymous += bytes("Anonymous");
        } else {
            memory.resident += bytes("Private_Clean") + bytes("Private_Dirty");
            memory.anonymous += bytes("Private_Dirty");
        }
    }
    Ok(memory)
}

/// `pid` and its descendants, parents before children.
pub(crate) fn family(pid: u32) -> Vec<Process> {
    let mut found: Vec<Process> = open(pid).into_iter().collect();
    let mut next = 0;
    while let Some(process) = found.get(next) {
        next += 1;
        let tasks = process.tasks().into_iter().flatten().flatten();
        let children = tasks.flat_map(|task| task.children()).flatten();
        found.append(&mut children.flat_map(open).collect());
    }
    found
}

/// Waits until `pid` has used no processor for some time, so that what it does on its own after its
/// start is over, for a second at the most.
pub(crate) fn await_quiet(pid: u32) {
    let mut before = Duration::MAX;
    for _ in 0..200 {
        let now = usage(pid).map_or(Duration::ZERO, |usage| usage.cpu);
        if now == before {
            return;
        }
        before = now;
        thread::sleep(Duration::from_millis(5));
    }
}

/// The processors that this process may run on, in ascending order.
pub(crate) fn allowed_cpus() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU)
        .filter(|cpu| set.is_set(*cpu))
        .collect())
}

/// Binds the calling thread, and what it starts from now on, to these processors.
pub(crate) fn pin(cpus: &[usize]) -> io::Result<()> {
    Ok(sched_setaffinity(None, &set_of(cpus))?)
}

/// The command will run on these processors, and be killed when this driver ends.
pub(crate) fn pin_command(command: &mut Command, cpus: &[usize]) {
    let set = set_of(cpus);
    let prepare = move || {
        set_parent_process_death_signal(Some(Signal::KILL))?;
        Ok(sched_setaffinity(None, &set)?)
    };
    sys::before_exec(command, prepare);
}

fn set_of(cpus: &[usize]) -> CpuSet {
    let mut set = CpuSet::new();
    for cpu in cpus {
        set.set(*cpu);
    }
    set
}

fn open(pid: u32) -> io::Result<Process> {
    Process::new(pid as i32).map_err(io::Error::other)
}
