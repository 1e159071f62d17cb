//! The standard process metrics of Prometheus.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::exposition::{Family, Samples, Value};
use crate::metrics::Kind;
use crate::net::{clock, descriptors};

/// Reads the metrics from the system, except for the start of the process, which [`start_time`]
/// reads once. Metrics that the system does not report are left out.
pub(super) fn families(start_time: Option<Duration>) -> Vec<Family> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let seconds = |time: Duration| Value::Real(time.as_secs_f64());
    let metrics = [
        (
            "process_cpu_seconds_total",
            "Processor time used by the process.",
            Kind::Counter,
            Some(seconds(clock::process_cpu_time())),
        ),
        (
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            Kind::Gauge,
            status_bytes(&status, "VmRSS:").map(Value::Integer),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space of the process.",
            Kind::Gauge,
            status_bytes(&status, "VmSize:").map(Value::Integer),
        ),
        (
            "process_open_fds",
            "Open descriptors.",
            Kind::Gauge,
            open_fds().map(Value::Integer),
        ),
        (
            "process_max_fds",
            "Descriptors that may be open.",
            Kind::Gauge,
            Some(Value::Integer(descriptors::descriptor_limit())),
        ),
        (
            "process_start_time_seconds",
            "Start of the process, in seconds since 1970.",
            Kind::Gauge,
            start_time.map(seconds),
        ),
    ];
    let told = metrics.into_iter().filter_map(|(name, help, kind, value)| {
        Some(Family {
            name,
            help,
            kind,
            samples: Samples::One(value?),
        })
    });
    told.collect()
}

/// When the process started, since 1970. The system computes it from the wall clock, so it is read
/// once to stay the same.
pub(super) fn start_time() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    let system = fs::read_to_string("/proc/stat").ok()?;
    let ticks = start_ticks(&stat)?;
    let boot: u64 = field(&system, "btime")?.parse().ok()?;
    let since_boot_s = ticks as f64 / clock::ticks_per_second() as f64;
    Duration::try_from_secs_f64(boot as f64 + since_boot_s).ok()
}

/// The number of open descriptors. Since Linux 6.2 it is the size of their directory; before, that
/// size is 0, and the entries have to be counted.
fn open_fds() -> Option<u64> {
    let directory = Path::new("/proc/self/fd");
    match fs::metadata(directory).ok()?.len() {
        // The directory itself is open while its entries are counted.
        0 => Some((fs::read_dir(directory).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

/// A size in proc_pid_status(5), which counts in kB of 1024 bytes.
fn status_bytes(status: &str, name: &str) -> Option<u64> {
    let kib: u64 = field(status, name)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// The first word behind `name` on a line that starts with it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = text.lines().map(str::split_ascii_whitespace);
    lines.find_map(|mut words| (words.next()? == name).then(|| words.next())?)
}

/// Field 22 of proc_pid_stat(5). The second, the program's name, may hold anything; its end is the
/// last parenthesis.
fn start_ticks(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::SystemTime;

    #[test]
    fn this_process_is_known() {
        let families = families(start_time());
        let value = |name: &str| match families.iter().find(|family| family.name == name) {
            Some(Family {
                samples: Samples::One(Value::Integer(value)),
                ..
            }) => *value,
            other => panic!("{name}: {other:?}"),
        };
        assert_eq!(families.len(), 6);
        let resident = value("process_resident_memory_bytes");
        assert!(resident > 100 << 10);
        assert!(value("process_virtual_memory_bytes") >= resident);
        let open = value("process_open_fds");
        assert!(open >= 3 && value("process_max_fds") >= open);
        let started = SystemTime::UNIX_EPOCH + start_time().unwrap();
        // The boot time is rounded to a second.
        assert!(started < SystemTime::now() + Duration::from_secs(2));
    }

    #[test]
    fn the_start_is_found_behind_any_name() {
        let stat = "7 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21";
        assert_eq!(start_ticks(stat), Some(4711));
        assert_eq!(start_ticks(""), None);
        assert_eq!(
            status_bytes("Name:\tx\nVmRSS:\t  12 kB\n", "VmRSS:"),
            Some(12 << 10)
        );
        assert_eq!(status_bytes("VmRSS:\n", "VmRSS:"), None);
    }
}
