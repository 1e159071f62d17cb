//! The priority of measuring threads, and the CPUs they may use.

use std::fs;
use std::sync::Arc;
use std::thread;

use echomark::net::affinity;

use super::sys;
use crate::plan::{Plan, Priority, Target};

/// The niceness of `--priority auto`: before other work, but less so than `high`, so that a server on
/// the same CPU gets a tenth of it.
const AUTO_NICE: i32 = -10;
/// The niceness of `--priority high`.
const HIGH_NICE: i32 = -20;

/// The scheduling that the measuring threads of a run ask for.
#[derive(Clone, Debug)]
pub(crate) struct Scheduling {
    class: Class,
    /// The CPUs beside those of the embedded server's workers; empty if the threads may use all.
    cpus: Arc<[usize]>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Class {
    Normal,
    Nice(i32),
    /// The real-time class, or the niceness if that is refused.
    RealtimeOrNice(i32),
}

/// What decides the scheduling.
#[derive(Clone, Copy, Debug)]
struct Demand {
    priority: Priority,
    /// Measuring threads, those of background streams included.
    threads: usize,
    /// Worker threads of the embedded server.
    workers: usize,
}

/// The scheduling that a thread got.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Granted {
    pub(crate) nice: i32,
    pub(crate) is_realtime: bool,
    pub(crate) is_kept_apart: bool,
}

impl Default for Scheduling {
    fn default() -> Self {
        Self {
            class: Class::Normal,
            cpus: Arc::default(),
        }
    }
}

impl Scheduling {
    /// The scheduling for a plan on this host.
    pub(crate) fn of(plan: &Plan) -> Self {
        if plan.priority == Priority::Normal || !may_raise() {
            return Self::default();
        }
        let demand = Demand {
            priority: plan.priority,
            threads: plan.threads.get() + usize::from(plan.background.is_some()),
            workers: match plan.target {
                Target::Embedded { embedded_workers } => embedded_workers.get(),
                Target::Servers { .. } => 0,
            },
        };
        let allowed = affinity::allowed_cpus().unwrap_or_default();
        Self::on(demand, affinity::usable_cpus().get(), &allowed)
    }

    /// The scheduling where the process may fill `usable` CPUs, and run on the `allowed` ones.
    fn on(demand: Demand, usable: usize, allowed: &[usize]) -> Self {
        let Demand {
            priority,
            threads,
            workers,
        } = demand;
        let class = match priority {
            Priority::Normal => Class::Normal,
            // A thread that polls would keep the server from the only CPU.
            Priority::Auto if usable <= threads => Class::Normal,
            Priority::Auto => Class::Nice(AUTO_NICE),
            // Two CPUs stay for the server, and for the kernel's own threads.
            Priority::Realtime if usable > threads + 1 => Class::RealtimeOrNice(HIGH_NICE),
            Priority::High | Priority::Realtime => Class::Nice(HIGH_NICE),
        };
        // With a quota of the cgroup, the number of CPUs says nothing of which are free.
        let has_own_cpus = workers > 0 && usable == allowed.len() && workers + threads <= usable;
        Self {
            class,
            cpus: if class != Class::Normal && has_own_cpus {
                allowed[workers..].into()
            } else {
                Arc::default()
            },
        }
    }

    /// Whether the embedded server's workers have CPUs of their own, the first ones.
    pub(crate) fn keeps_apart(&self) -> bool {
        !self.cpus.is_empty()
    }

    /// Whether anything but the default is asked for.
    pub(crate) fn is_raised(&self) -> bool {
        self.class != Class::Normal
    }

    /// Gives the calling thread the priority without the CPUs: the probe competes for the CPU as
    /// the measuring threads do, and must not take theirs.
    pub(crate) fn apply_priority(&self) -> Granted {
        let nice = |nice| match sys::set_thread_nice(nice) {
            Ok(()) => Granted {
                nice,
                ..Granted::default()
            },
            Err(_) => Granted::default(),
        };
        match self.class {
            Class::Normal => Granted::default(),
            Class::Nice(value) => nice(value),
            Class::RealtimeOrNice(value) => match sys::set_thread_realtime() {
                Ok(()) => Granted {
                    is_realtime: true,
                    ..Granted::default()
                },
                Err(_) => nice(value),
            },
        }
    }

    /// Gives the calling thread the priority and the CPUs, as far as the system allows.
    pub(crate) fn apply(&self) -> Granted {
        Granted {
            is_kept_apart: self.keeps_apart() && affinity::bind_thread(&self.cpus).is_ok(),
            ..self.apply_priority()
        }
    }
}

/// The niceness of this process's autogroup (sched(7)), raised until it is dropped. Where the kernel
/// groups the processes of each session, niceness has no effect beyond the session, and its group's
/// own does.
#[derive(Debug)]
pub(crate) struct SessionPriority {
    before: i32,
    pub(crate) nice: i32,
}

const AUTOGROUP: &str = "/proc/self/autogroup";
const AUTOGROUPS_ENABLED: &str = "/proc/sys/kernel/sched_autogroup_enabled";

impl SessionPriority {
    /// `None` if the user asks for no such priority, there are no such groups, the group has this
    /// priority already, or the system refuses.
    pub(crate) fn take(priority: Priority, scheduling: &Scheduling) -> Option<Self> {
        let nice = match (priority, scheduling.class) {
            // It concerns every program of the session, and stays if this one is killed.
            (Priority::Auto | Priority::Normal, _) | (_, Class::Normal) => return None,
            (_, Class::Nice(nice) | Class::RealtimeOrNice(nice)) => nice,
        };
        if fs::read_to_string(AUTOGROUPS_ENABLED).ok()?.trim() != "1" {
            return None;
        }
        let before = autogroup_nice(&fs::read_to_string(AUTOGROUP).ok()?)?;
        if before <= nice {
            return None;
        }
        fs::write(AUTOGROUP, nice.to_string()).ok()?;
        Some(Self { before, nice })
    }
}

impl Drop for SessionPriority {
    fn drop(&mut self) {
        // Lowering the priority is always allowed.
        let _ = fs::write(AUTOGROUP, self.before.to_string());
    }
}

/// The niceness in a line such as `/autogroup-25 nice 0`.
fn autogroup_nice(line: &str) -> Option<i32> {
    line.trim().rsplit_once("nice ")?.1.parse().ok()
}

/// Keeps the memory of this process from being paged out, until it is dropped.
#[derive(Debug)]
pub(crate) struct MemoryLock(());

impl MemoryLock {
    /// `None` if the system refuses. Only a little precision is lost.
    pub(crate) fn take() -> Option<Self> {
        sys::lock_memory().ok().map(|()| Self(()))
    }
}

impl Drop for MemoryLock {
    fn drop(&mut self) {
        sys::unlock_memory();
    }
}

/// Whether this process may raise a thread's priority. Tried on a thread that then ends, because
/// capabilities and RLIMIT_NICE both decide.
fn may_raise() -> bool {
    thread::Builder::new()
        .spawn(|| sys::set_thread_nice(AUTO_NICE).is_ok())
        .is_ok_and(|thread| thread.join().unwrap_or(false))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scheduling(priority: Priority, threads: usize, usable: usize) -> Scheduling {
        let demand = Demand {
            priority,
            threads,
            workers: 1,
        };
        let allowed: Vec<usize> = (0..usable).collect();
        Scheduling::on(demand, usable, &allowed)
    }

    #[test]
    fn a_cpu_is_left_for_the_server_and_the_kernel() {
        use Class::{Nice, Normal, RealtimeOrNice};
        for (priority, threads, usable, class) in [
            (Priority::Normal, 1, 8, Normal),
            (Priority::Auto, 1, 1, Normal),
            (Priority::Auto, 2, 2, Normal),
            (Priority::Auto, 1, 2, Nice(AUTO_NICE)),
            (Priority::High, 2, 2, Nice(HIGH_NICE)),
            (Priority::Realtime, 1, 2, Nice(HIGH_NICE)),
            (Priority::Realtime, 1, 3, RealtimeOrNice(HIGH_NICE)),
        ] {
            let found = scheduling(priority, threads, usable).class;
            assert_eq!(found, class, "{priority:?}, {threads} threads on {usable}");
        }
    }

    #[test]
    fn the_niceness_of_a_session_is_read() {
        assert_eq!(autogroup_nice("/autogroup-25 nice 0\n"), Some(0));
        assert_eq!(autogroup_nice("/autogroup-25 nice -10\n"), Some(-10));
        assert_eq!(autogroup_nice("/\n"), None);
    }

    #[test]
    fn threads_keep_off_the_embedded_server_s_cpus_if_there_are_enough() {
        let cpus = |priority, threads, usable| scheduling(priority, threads, usable).cpus.to_vec();
        assert_eq!(cpus(Priority::Auto, 1, 2), [1]);
        assert_eq!(cpus(Priority::Auto, 2, 4), [1, 2, 3]);
        assert!(cpus(Priority::High, 2, 2).is_empty());
        assert!(cpus(Priority::Normal, 1, 2).is_empty());
    }
}
