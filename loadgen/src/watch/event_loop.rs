//! The loop of a watch: sleep until a probe is due, a probe's time is over, or a socket has news.

use std::io;
use std::time::{Duration, SystemTime};

use mio::{Events, Interest, Poll, Token};

use super::address::Address;
use super::clock::Clock;
use super::presence::{Evidence, Gap, Presence};
use super::prober::Prober;
use super::series::Change;
use crate::engine::sys::{Alarm, SchedulerStatistics};
use crate::host::CpuTicks;
use crate::observer::Control;
use crate::observer::watch::{TargetStatus, WatchEvent, WatchObserver, WatchStatus};
use crate::plan::watch::WatchPlan;
use crate::result::watch::{TargetResult, WatchClient};

const ALARM: Token = Token(0);
const FIRST_SOCKET: usize = 1;
const MAX_EVENTS: usize = 1024;
/// The longest sleep. It bounds how long the user waits for the end, and how exactly it is known since when
/// the client did not run.
const MAX_SLEEP_NS: u64 = 10_000_000;
/// Time between two states for the observer.
const STATUS_NS: u64 = 200_000_000;
/// Time between two looks at what the system says of the thread.
const LOOK_NS: u64 = 1_000_000_000;

/// A watch that is going on.
pub(super) struct EventLoop<'a> {
    plan: &'a WatchPlan,
    observer: &'a mut dyn WatchObserver,
    clock: Clock,
    started: SystemTime,
    poll: Poll,
    alarm: Alarm,
    prober: Prober,
    presence: Presence,
    system: SystemState,
    status_due: u64,
}

/// What a watch found.
pub(super) struct Found {
    pub(super) started: SystemTime,
    pub(super) targets: Vec<TargetResult>,
    pub(super) client: WatchClient,
    pub(super) duration: Duration,
    pub(super) interrupted: bool,
}

impl<'a> EventLoop<'a> {
    /// # Errors
    /// The error of a system call.
    pub(super) fn new(
        plan: &'a WatchPlan,
        addresses: &[Address],
        observer: &'a mut dyn WatchObserver,
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let mut alarm = Alarm::new()?;
        poll.registry()
            .register(&mut alarm, ALARM, Interest::READABLE)?;
        let registry = poll.registry().try_clone()?;
        let clock = Clock::start();
        let nonce = clock.monotonic(0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Ok(Self {
            plan,
            observer,
            clock,
            started: SystemTime::now(),
            poll,
            alarm,
            prober: Prober::new(plan, addresses, registry, FIRST_SOCKET, nonce),
            presence: Presence::new(0, plan.interval.as_nanos() as u64 / 2),
            system: SystemState::look(0),
            status_due: 0,
        })
    }

    /// Watches until the time is over, or until the user ends it.
    ///
    /// # Errors
    /// The error of a system call.
    pub(super) fn run(mut self, control: &Control) -> io::Result<Found> {
        let mut events = Events::with_capacity(MAX_EVENTS);
        let length = self.plan.duration.map(|length| length.as_nanos() as u64);
        let mut is_ended = false;
        loop {
            self.sleep(&mut events, length.filter(|_| !is_ended))?;
            let now = self.clock.now();
            let gap = self.presence.wake(now);
            self.excuse(gap, now);
            for event in events.iter().filter(|event| event.token() != ALARM) {
                let Token(token) = event.token();
                let now = self.present();
                self.prober.ready(token, now);
            }
            let now = self.present();
            self.prober.expire(now);
            if !is_ended && length.is_some_and(|length| now >= length) {
                is_ended = true;
                self.prober.end_schedule();
            }
            self.prober.issue(now);
            self.report(now);
            if control.is_stopped() || is_ended && self.prober.is_settled() {
                return Ok(self.finish(is_ended));
            }
        }
    }

    /// The time, after what the client missed since it last looked at it was excused.
    fn present(&mut self) -> u64 {
        let now = self.clock.now();
        let gap = self.presence.go_on(now);
        self.excuse(gap, now);
        now
    }

    fn sleep(&mut self, events: &mut Events, end: Option<u64>) -> io::Result<()> {
        let now = self.present();
        let next = [self.prober.next_deadline(), end].into_iter().flatten();
        let wake = next.fold(now + MAX_SLEEP_NS, u64::min);
        self.presence.sleep(now, wake);
        self.alarm.set(self.clock.monotonic(wake))?;
        match self.poll.poll(events, None) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => Err(error),
            _ => Ok(()),
        }
    }

    /// Excuses what the client can't know because it did not run.
    fn excuse(&mut self, gap: Option<Gap>, now: u64) {
        if let Some(gap) = gap {
            self.prober.excuse(gap);
            if self.presence.is_told(gap) {
                self.tell_gap(gap, now);
            }
        }
        if now >= self.system.at + LOOK_NS {
            self.system = SystemState::look(now);
        }
    }

    fn tell_gap(&mut self, gap: Gap, now: u64) {
        let later = SystemState::look(now);
        let cause = later.since(&self.system).cause(gap);
        self.system = later;
        self.presence.note(gap, cause);
        self.observer.event(&WatchEvent::ClientAbsent {
            start: Duration::from_nanos(gap.from),
            end: Duration::from_nanos(gap.until),
            cause,
        });
    }

    /// Tells the observer what happened, and from time to time how it stands.
    fn report(&mut self, now: u64) {
        for reconnection in self.prober.reconnections.drain(..) {
            self.observer.event(&WatchEvent::Reconnected {
                target: reconnection.target,
                connection: reconnection.connection,
                at: Duration::from_nanos(reconnection.at),
                after: Duration::from_nanos(reconnection.after),
            });
        }
        self.report_changes();
        if now >= self.status_due {
            self.status_due = now + STATUS_NS;
            self.observer.status(&self.status(now));
        }
    }

    fn report_changes(&mut self) {
        for series in &mut self.prober.series {
            let (target, kind) = (series.target, series.kind);
            while let Some(change) = series.take_change() {
                self.observer.event(&match change {
                    Change::Began {
                        connection,
                        start,
                        class,
                        error,
                    } => WatchEvent::OutageBegan {
                        target,
                        kind,
                        connection,
                        start: Duration::from_nanos(start),
                        class,
                        error: error.map(String::from),
                    },
                    Change::Ended {
                        connection,
                        stretch,
                    } => WatchEvent::Ended {
                        target,
                        kind,
                        connection,
                        start: Duration::from_nanos(stretch.start),
                        end: Duration::from_nanos(stretch.end),
                        class: stretch.class,
                        probes: stretch.probes,
                    },
                });
            }
        }
    }

    fn status(&self, now: u64) -> WatchStatus {
        let targets = self.prober.series.iter().map(|series| {
            let (outages, longest, total) = series.outages(now);
            let out = series.out_since();
            TargetStatus {
                target: series.target,
                kind: series.kind,
                out: out.map(|(since, class)| (Duration::from_nanos(since), class)),
                answered: series.answered(),
                failed: series.failed(),
                late: series.late(),
                outages,
                longest: Duration::from_nanos(longest),
                total: Duration::from_nanos(total),
                p50_ns: series.quantile(0.5),
                p99_ns: series.quantile(0.99),
                max_ns: series.max(),
                bin: Duration::from_nanos(series.bins().bin_ns()),
                bins: series.bins().bins().to_vec(),
            }
        });
        let (absences, absent) = self.presence.total();
        WatchStatus {
            elapsed: Duration::from_nanos(now),
            targets: targets.collect(),
            absences: (absences, Duration::from_nanos(absent)),
        }
    }

    fn finish(mut self, is_ended: bool) -> Found {
        let now = self.clock.now();
        self.prober.finish(now);
        self.report_changes();
        self.observer.status(&self.status(now));
        let targets = self.prober.series.iter();
        let targets = targets.map(|series| {
            let target = &self.plan.targets[series.target];
            series.result(target.to_string())
        });
        Found {
            started: self.started,
            targets: targets.collect(),
            client: self.presence.result(self.prober.error.take()),
            duration: Duration::from_nanos(now),
            interrupted: self.plan.duration.is_some() && !is_ended,
        }
    }
}

/// What the system says of this thread and of the host.
struct SystemState {
    at: u64,
    suspended: u64,
    scheduler: Option<SchedulerStatistics>,
    ticks: Option<CpuTicks>,
}

impl SystemState {
    fn look(now: u64) -> Self {
        Self {
            at: now,
            suspended: Clock::suspended(),
            scheduler: SchedulerStatistics::of_this_thread(),
            ticks: CpuTicks::now(),
        }
    }

    fn since(&self, earlier: &Self) -> Evidence {
        let waited = self.scheduler.zip(earlier.scheduler);
        let waited = waited.map(|(now, then)| now.run_delay.saturating_sub(then.run_delay));
        let stolen = self.ticks.zip(earlier.ticks);
        let stolen = stolen.map(|(now, then)| now.stolen_since(then));
        Evidence {
            suspended: self.suspended.saturating_sub(earlier.suspended),
            waited_for_cpu: waited.unwrap_or_default().as_nanos() as u64,
            stolen: stolen.unwrap_or_default().as_nanos() as u64,
        }
    }
}
