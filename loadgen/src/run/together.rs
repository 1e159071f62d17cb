//! The common start of several processes that make one run: all connections are made before, and the
//! time of day decides.

use std::thread;
use std::time::{Duration, SystemTime};

use echomark::net::clock::monotonic_ns;

use super::coordinator::POLL_INTERVAL;
use super::start::DELAY_NS;
use crate::analysis::shard::CommonStart;
use crate::engine::sys;
use crate::error::RunError;
use crate::observer::Control;
use crate::plan::Plan;

/// How long before the start the time of day is converted to the threads' clock. Until then, the time of
/// day may be adjusted; afterwards every thread needs a moment to wake up.
const LEAD: Duration = Duration::from_millis(20);
/// Readings of both clocks, of which the closest counts: this thread may lose its CPU between two.
const READINGS: usize = 5;

/// Agrees with the other processes on the start of a run, after the connections of this one are made.
pub(crate) trait Meeting: Send {
    /// The start, or `None` if the user stopped the run.
    fn agree(&mut self, control: &Control) -> Result<Option<SystemTime>, RunError>;
}

/// The start that the plan names, for a run that begins now.
pub(super) fn planned(plan: &Plan) -> Result<Option<SystemTime>, RunError> {
    let Some(start_at) = plan.shard.as_ref().and_then(|shard| shard.start_at) else {
        return Ok(None);
    };
    let start = start_at.resolve(SystemTime::now(), plan.ramp);
    start
        .map(Some)
        .ok_or_else(|| RunError::System(std::io::Error::other("the clock has no such time")))
}

/// Waits until shortly before `planned`, and returns it on CLOCK_MONOTONIC. If it has passed, the run
/// starts at once.
///
/// # Errors
/// [`RunError::Late`] if it is longer ago than the plan allows.
pub(super) fn await_start(
    planned: SystemTime,
    plan: &Plan,
    control: &Control,
) -> Result<u64, RunError> {
    loop {
        let soonest = monotonic_ns() + DELAY_NS;
        let (monotonic, time) = both_clocks();
        let Ok(left) = planned.duration_since(time) else {
            let by = time.duration_since(planned).unwrap_or_default();
            let by = by + Duration::from_nanos(DELAY_NS);
            let max_skew = plan.shard.as_ref().map_or(Duration::ZERO, |it| it.max_skew);
            if by > max_skew {
                return Err(RunError::Late { by, max_skew });
            }
            return Ok(soonest);
        };
        if control.is_stopped() {
            return Ok(soonest);
        }
        if left <= LEAD {
            return Ok(soonest.max(monotonic + left.as_nanos() as u64));
        }
        thread::sleep((left - LEAD).min(POLL_INTERVAL));
    }
}

/// What is known of the start at `start`, as soon as it has passed.
pub(super) fn note(start: u64, planned: Option<SystemTime>) -> CommonStart {
    thread::sleep(Duration::from_nanos(start.saturating_sub(monotonic_ns())));
    let (monotonic, time) = both_clocks();
    let clock = sys::clock_discipline();
    CommonStart {
        planned,
        start_ns: start,
        at: time - Duration::from_nanos(monotonic.saturating_sub(start)),
        is_synchronized: clock.is_some_and(|clock| clock.is_synchronized),
        max_error: clock.map(|clock| clock.max_error),
    }
}

/// CLOCK_MONOTONIC and the time of day at the same moment.
fn both_clocks() -> (u64, SystemTime) {
    let reading = || {
        let before = monotonic_ns();
        let time = SystemTime::now();
        let took = monotonic_ns() - before;
        (took, before + took / 2, time)
    };
    let mut closest = reading();
    for _ in 1..READINGS {
        let next = reading();
        if next.0 < closest.0 {
            closest = next;
        }
    }
    (closest.1, closest.2)
}
