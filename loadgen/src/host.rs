//! The client's machine, and its CPU time taken by others.

use std::fs;
use std::time::Duration;

use echomark::net::{affinity, clock};

use crate::result::Host;

/// Describes this machine from /proc.
pub fn describe() -> Host {
    Host {
        name: line("/proc/sys/kernel/hostname"),
        kernel: line("/proc/sys/kernel/osrelease"),
        cpu_model: fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| cpu_model(&text)),
        cpus: affinity::usable_cpus().get(),
    }
}

/// The identity of this kernel's run; `None` if /proc lacks it (random(4)).
pub(crate) fn boot_id() -> Option<String> {
    line("/proc/sys/kernel/random/boot_id")
}

/// CPU time of the whole machine since its start, in ticks (proc(5), /proc/stat).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct CpuTicks {
    total: u64,
    steal: u64,
}

impl CpuTicks {
    /// The present values; `None` if /proc lacks them.
    pub(crate) fn now() -> Option<Self> {
        Self::parse(&fs::read_to_string("/proc/stat").ok()?)
    }

    /// The share of the time since `earlier` that the hypervisor gave to other guests.
    pub(crate) fn steal_ratio_since(self, earlier: Self) -> Option<f64> {
        let total = self.total.checked_sub(earlier.total)?;
        let steal = self.steal.checked_sub(earlier.steal)?;
        (total > 0).then(|| steal as f64 / total as f64)
    }

    /// The CPU time since `earlier` that the hypervisor gave to other guests.
    pub(crate) fn stolen_since(self, earlier: Self) -> Duration {
        let ticks = self.steal.saturating_sub(earlier.steal);
        Duration::from_secs_f64(ticks as f64 / clock::ticks_per_second() as f64)
    }

    fn parse(stat: &str) -> Option<Self> {
        let fields = stat.lines().next()?.strip_prefix("cpu ")?;
        // user nice system idle iowait irq softirq steal; guest time is part of user time.
        let ticks: Vec<u64> = fields
            .split_whitespace()
            .take(8)
            .map(|field| field.parse().ok())
            .collect::<Option<_>>()?;
        Some(Self {
            total: ticks.iter().sum(),
            steal: *ticks.get(7)?,
        })
    }
}

fn cpu_model(cpuinfo: &str) -> Option<String> {
    let (_, model) = cpuinfo
        .lines()
        .find(|line| line.starts_with("model name"))?
        .split_once(':')?;
    Some(model.trim().to_owned())
}

fn line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steal_is_a_share_of_all_time() {
        let earlier = CpuTicks::parse("cpu  100 0 50 800 10 0 5 35 0 0\ncpu0 1\n").unwrap();
        let later = CpuTicks::parse("cpu  150 0 50 840 10 0 5 45 7 0\n").unwrap();
        assert_eq!(later.steal_ratio_since(earlier), Some(0.1));
        assert_eq!(earlier.steal_ratio_since(later), None);
        assert_eq!(earlier.steal_ratio_since(earlier), None);
        assert_eq!(CpuTicks::parse("cpu  1 2 3\n"), None);
    }
}
