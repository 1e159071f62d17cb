//! The state that every part of a worker's loop uses: kernel, time, counters, shared control.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, field, warn};

use super::alarms::{AlarmOf, Alarms};
use super::control::{Control, Rules};
use super::kernel::Kernel;
use super::token::Deadline;
use super::told::Told;
use crate::admission::Permit;
use crate::memory::allocation::OutOfMemory;
use crate::metrics::{ProxyError, RefuseReason, WorkerMetrics};
use crate::timer::Timers;

/// The delay before a retry after the kernel had no memory, or did not wake another worker.
const RETRY_MS: u64 = 20;
/// How long before an alarm a worker stays awake: waking up takes tens of microseconds, and at times
/// hundreds (docs/calibration.md).
const ALARM_SPIN_NS: u64 = 250_000;

/// One worker's context, lent to each part of its loop in turn.
#[derive(Debug)]
pub(super) struct Context<K> {
    /// The worker's.
    pub(super) index: usize,
    pub(super) kernel: K,
    pub(super) control: Arc<Control>,
    pub(super) metrics: Arc<WorkerMetrics>,
    /// The limits that this worker applies now.
    pub(super) rules: Arc<Rules>,
    pub(super) timers: Timers,
    /// For the deadlines of one turn: with room for every connection's.
    pub(super) due: Vec<usize>,
    pub(super) clock: Clock,
    /// Of connections and UDP sockets with faults. While there are any, [`Deadline::Alarm`] is armed.
    alarms: Alarms,
    /// The last standstill of each endpoint that this worker has counted.
    pub(super) last_stalls: Vec<Option<u64>>,
    pub(super) refusals: Told<{ RefuseReason::ALL.len() }>,
    pub(super) proxy_errors: Told<{ ProxyError::ALL.len() }>,
}

/// The time, read at most once per turn of the loop and only on demand.
#[derive(Debug)]
pub(super) struct Clock {
    origin_ns: u64,
    now_ns: Option<u64>,
}

impl Clock {
    pub(super) fn now_ns(&mut self, kernel: &impl Kernel) -> u64 {
        *self.now_ns.get_or_insert_with(|| kernel.now_ns())
    }
}

impl<K: Kernel> Context<K> {
    pub(super) fn new(index: usize, kernel: K, control: Arc<Control>) -> Self {
        Self {
            index,
            metrics: Arc::clone(&control.metrics[index]),
            rules: control.rules(),
            last_stalls: vec![None; control.endpoints()],
            alarms: Alarms::default(),
            control,
            timers: Timers::new(0),
            due: Vec::new(),
            refusals: Told::default(),
            proxy_errors: Told::default(),
            clock: Clock {
                origin_ns: kernel.now_ns(),
                now_ns: None,
            },
            kernel,
        }
    }

    /// Begins a turn: the next use reads the time again.
    pub(super) fn forget_time(&mut self) {
        self.clock.now_ns = None;
    }

    pub(super) fn now_ns(&mut self) -> u64 {
        self.clock.now_ns(&self.kernel)
    }

    /// Milliseconds since the loop's creation: the ticks of its timers.
    pub(super) fn now_ms(&mut self) -> u64 {
        (self.now_ns() - self.clock.origin_ns) / 1_000_000
    }

    pub(super) fn arm(&mut self, deadline: Deadline, after_ms: u64) {
        let at = self.now_ms().saturating_add(after_ms);
        self.timers.arm(deadline.id(), at);
    }

    /// Sets or removes the alarm of a connection.
    pub(super) fn set_alarm_of_conn(&mut self, key: usize, at_ns: Option<u64>) {
        self.set_alarm(AlarmOf::Conn(key), at_ns);
    }

    /// Makes room for the alarm of a connection.
    pub(super) fn try_reserve_alarm_of_conn(&mut self, key: usize) -> Result<(), OutOfMemory> {
        if self.rules.has_faults() {
            self.alarms.try_reserve(AlarmOf::Conn(key).id())?;
        }
        Ok(())
    }

    /// Sets or removes an alarm.
    pub(super) fn set_alarm(&mut self, of: AlarmOf, at_ns: Option<u64>) {
        match at_ns {
            Some(at_ns) => {
                self.alarms.set(of.id(), at_ns);
                self.keep_timers_armed();
            }
            None => self.alarms.cancel(of.id()),
        }
    }

    /// Arms [`Deadline::Alarm`] behind the next alarm, if there is one.
    pub(super) fn keep_timers_armed(&mut self) {
        if let Some(next_ns) = self.alarms.next()
            && !self.timers.is_armed(Deadline::Alarm.id())
        {
            let next_ms = next_ns.saturating_sub(self.clock.origin_ns) / 1_000_000;
            self.timers
                .arm(Deadline::Alarm.id(), next_ms.saturating_add(2));
        }
    }

    /// Takes an alarm that is due at this time.
    pub(super) fn pop_alarm(&mut self, now_ns: u64) -> Option<AlarmOf> {
        self.alarms.pop_due(now_ns).map(AlarmOf::of)
    }

    /// How many alarms there are.
    pub(super) fn alarms(&self) -> usize {
        self.alarms.len()
    }

    /// How long the worker may sleep for the next alarm; `None` if it is woken.
    pub(super) fn sleep_until_alarm(&mut self) -> Option<Duration> {
        let next_ns = self.alarms.next()?;
        let sleep_ns = next_ns.saturating_sub(self.kernel.now_ns());
        let Some(sleep_ns) = sleep_ns.checked_sub(ALARM_SPIN_NS).filter(|it| *it > 0) else {
            return Some(Duration::ZERO);
        };
        match self.kernel.set_alarm(next_ns - ALARM_SPIN_NS) {
            Ok(()) => None,
            // A timeout is rounded up, so it ends a millisecond before.
            Err(_) => Some(Duration::from_millis(sleep_ns / 1_000_000)),
        }
    }

    /// Arms the retry after a lack of memory or a failed wake-up.
    pub(super) fn retry_soon(&mut self) {
        if !self.timers.is_armed(Deadline::Retry.id()) {
            self.arm(Deadline::Retry, RETRY_MS);
        }
    }

    /// Tells a refusal in the log, unless another of this reason was told lately.
    #[cold]
    pub(super) fn log_refusal(&mut self, peer: Option<IpAddr>, reason: RefuseReason) {
        let (worker, now_ms) = (self.index, self.now_ms());
        let (peer, reason_name) = (peer.map(field::display), reason.name());
        match self.refusals.note(reason as usize, now_ms) {
            Some(left_out) => {
                let also = (left_out > 0).then_some(left_out);
                warn!(
                    worker,
                    peer,
                    reason = reason_name,
                    also,
                    "connection refused"
                );
            }
            None => debug!(worker, peer, reason = reason_name, "connection refused"),
        }
    }

    /// Adds the client that a proxy told to a connection's permit.
    pub(super) fn identify(
        &mut self,
        permit: &mut Permit,
        client: IpAddr,
    ) -> Result<(), RefuseReason> {
        let Self {
            clock,
            control,
            kernel,
            rules,
            ..
        } = self;
        let now_ns = || clock.now_ns(kernel);
        let admission = &control.admission;
        admission.identify(&rules.policy, permit, client, now_ns)
    }

    /// Tells in the log that a connection has no good PROXY header, with the same restraint.
    #[cold]
    pub(super) fn log_proxy_error(&mut self, error: ProxyError) {
        let (worker, now_ms) = (self.index, self.now_ms());
        let reason = error.name();
        // A check of a port is no mistake.
        if error == ProxyError::NoData {
            debug!(worker, reason, "no PROXY header");
            return;
        }
        match self.proxy_errors.note(error as usize, now_ms) {
            Some(left_out) => {
                let also = (left_out > 0).then_some(left_out);
                warn!(worker, reason, also, "no good PROXY header");
            }
            None => debug!(worker, reason, "no good PROXY header"),
        }
    }

    /// Takes a permit for a connection from `peer` under the current limits.
    pub(super) fn acquire_permit(&mut self, peer: Option<IpAddr>) -> Result<Permit, RefuseReason> {
        let Self {
            clock,
            control,
            kernel,
            rules,
            ..
        } = self;
        let now_ns = || clock.now_ns(kernel);
        control.admission.acquire(&rules.policy, peer, now_ns)
    }
}
