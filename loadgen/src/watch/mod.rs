//! A watch: how long a server did not answer, whom, and how it failed.
//!
//! Persistent connections ask at a fixed interval, and new connections are made at a rate, for each target.
//! The times are fixed, whatever the answers are: a blackout of three seconds is three seconds. An outage is a
//! stretch in which probes had no answer within the timeout; a late answer is late, and no outage.
//!
//! The pure parts take times as parameters and know no socket:
//!
//! - `schedule`: when probes are due.
//! - `lane`: the probes of one connection, judged in their order: where outages begin and end.
//! - `stretches`, `timeline`, `series`: what is known of a target, in bounded memory.
//! - `presence`: when the client itself did not run.
//! - `classify`: what errors of sockets say about a server. `probe`: the bytes of a probe.
//!
//! Around them: `address`, `channel`, `connection`, `prober` with the sockets of all lanes, `clock`, and the
//! `event_loop`.

mod address;
mod channel;
mod classify;
mod clock;
mod connection;
mod event_loop;
mod lane;
mod presence;
mod probe;
mod prober;
mod schedule;
mod series;
mod stretches;
mod timeline;

use event_loop::EventLoop;

use crate::error::RunError;
use crate::host;
use crate::observer::Control;
use crate::observer::watch::WatchObserver;
use crate::plan::watch::WatchPlan;
use crate::result::Tool;
use crate::result::watch::{WatchKind, WatchResult};

/// Watches until the plan's time is over, or until `control` ends it. `None` if that was before the first
/// probe.
///
/// # Errors
/// The options don't go together, a target's name has no address, or a system call failed. A target that does not answer is no error.
pub fn run(
    plan: &WatchPlan,
    control: &Control,
    observer: &mut dyn WatchObserver,
) -> Result<Option<WatchResult>, RunError> {
    plan.check().map_err(RunError::Watch)?;
    let Some(addresses) = address::resolve(plan, control)? else {
        return Ok(None);
    };
    let event_loop = EventLoop::new(plan, &addresses, observer).map_err(RunError::System)?;
    let found = event_loop.run(control).map_err(RunError::System)?;
    Ok(Some(WatchResult {
        schema: 1,
        kind: WatchKind::Watch,
        tool: Tool::this(),
        started_at: humantime::format_rfc3339_millis(found.started).to_string(),
        interrupted: found.interrupted,
        duration_s: found.duration.as_secs_f64(),
        host: host::describe(),
        plan: plan.clone(),
        targets: found.targets,
        client: found.client,
    }))
}
