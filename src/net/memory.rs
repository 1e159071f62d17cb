//! The memory that this process may use.

use std::fs;
use std::path::{Component, Path};
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};

/// The part of the usable memory that may hold backlogs, unless configured: a quarter, so that the
/// kernel's buffers of the same connections (net.ipv4.tcp_mem) and everything else find room, and
/// no more than this, because a backlog saves a system call and nothing else.
const MAX_SHARE: u64 = 1 << 30;

/// The memory for backlogs that [`usable`] memory allows, as found by the first call: later, a
/// sandbox may hide the system's files.
pub(crate) fn share_for_backlogs() -> u64 {
    static SHARE: OnceLock<u64> = OnceLock::new();
    *SHARE.get_or_init(|| usable().map_or(MAX_SHARE, |usable| (usable / 4).min(MAX_SHARE)))
}

/// The memory that this process may use: what the machine has, or less by its cgroup's limit or by
/// its own on address space and data (getrlimit(2)). `None` if nothing is known.
fn usable() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let own = [Resource::As, Resource::Data].map(|it| getrlimit(it).current);
    let limits = own.into_iter().chain([
        machine.as_deref().and_then(total),
        cgroup_limit(Path::new("/sys/fs/cgroup")),
    ]);
    limits.flatten().min()
}

/// The machine's memory by the text of /proc/meminfo.
fn total(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|it| it.strip_prefix("MemTotal:"));
    let kilobytes: u64 = total?.strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

/// The lowest limit of this process's cgroup and of those above it (cgroups(7)): memory.max of the
/// second version, memory.limit_in_bytes of the first.
fn cgroup_limit(root: &Path) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let limits = text.lines().flat_map(|line| {
        // hierarchy-ID:controllers:path, and the second version has no controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if controllers.is_empty() {
            lowest(root, path, "memory.max")
        } else if controllers.split(',').any(|it| it == "memory") {
            lowest(&root.join("memory"), path, "memory.limit_in_bytes")
        } else {
            None
        }
    });
    limits.min()
}

/// The lowest number in the files of this name from `root` down to the cgroup at `path`. In a
/// container the path may be that of the host, and only the root is there.
fn lowest(root: &Path, path: &str, name: &str) -> Option<u64> {
    let read = |folder: &Path| -> Option<u64> {
        let text = fs::read_to_string(folder.join(name)).ok()?;
        // `max` is no number and no limit.
        text.trim().parse().ok()
    };
    let mut folder = root.to_owned();
    let mut lowest = read(&folder);
    for component in Path::new(path).components() {
        if let Component::Normal(name) = component {
            folder.push(name);
            lowest = lowest.into_iter().chain(read(&folder)).min();
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_memory_and_a_share_of_it() {
        let usable = usable().expect("a limit is known");
        assert!(usable > 1 << 20, "{usable}");
        assert!((1..=MAX_SHARE).contains(&share_for_backlogs()));
    }

    #[test]
    fn the_machines_memory_is_read() {
        let text = "MemTotal:        8144888 kB\nMemFree:         1000000 kB\n";
        assert_eq!(total(text), Some(8_144_888 * 1024));
        assert_eq!(total("MemFree: 1 kB\n"), None);
    }

    #[test]
    fn the_lowest_limit_on_the_way_down_counts() {
        let root = std::env::temp_dir().join(format!("cgroups-{}", std::process::id()));
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/memory.max"), "3000\n").unwrap();
        fs::write(root.join("a/b/memory.max"), "max\n").unwrap();
        assert_eq!(lowest(&root, "/a/b", "memory.max"), Some(3000));
        fs::write(root.join("a/b/memory.max"), "2000\n").unwrap();
        assert_eq!(lowest(&root, "/a/b", "memory.max"), Some(2000));
        assert_eq!(lowest(&root, "/elsewhere/../x", "memory.max"), None);
        fs::remove_dir_all(&root).unwrap();
    }
}
