//! Idle, stall and lifetime limits of a connection. No clock is read: times are the caller's
//! milliseconds.

use std::time::Duration;

use crate::config::Limits;
use crate::metrics::CloseReason;

/// The timeouts of an open connection.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Timeouts {
    idle_ms: Option<u64>,
    stall_ms: Option<u64>,
    stall_bytes: u64,
    lifetime_ms: Option<u64>,
}

impl Timeouts {
    /// The timeouts that `limits` set.
    pub(crate) fn new(limits: &Limits) -> Self {
        let ms = |limit: Option<Duration>| limit.map(whole_ms);
        Self {
            idle_ms: ms(limits.idle_timeout),
            stall_ms: ms(limits.stall_timeout),
            stall_bytes: limits.stall_bytes,
            lifetime_ms: ms(limits.lifetime),
        }
    }

    /// Whether there are none, so that no activity has to be recorded.
    pub(crate) fn is_empty(&self) -> bool {
        self.idle_ms.is_none() && self.stall_ms.is_none() && self.lifetime_ms.is_none()
    }
}

/// The recorded activity of one connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Activity {
    born_ms: u64,
    last_active_ms: u64,
    /// When the current stall window began; `None` while no byte moves and no output waits.
    window_start_ms: Option<u64>,
    window_bytes: u64,
}

/// What to do with a connection now.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Decision {
    /// Keep it, and check again at this time; never if `None`.
    Keep(Option<u64>),
    /// Close it, because it exceeded a limit.
    Close(CloseReason),
}

impl Activity {
    /// The activity of a connection that opened at `now_ms`.
    pub(crate) fn new(now_ms: u64) -> Self {
        Self {
            born_ms: now_ms,
            last_active_ms: now_ms,
            window_start_ms: None,
            window_bytes: 0,
        }
    }

    /// Records moved bytes, and returns the deadline of a stall window if they opened one: it may
    /// be the earliest deadline.
    pub(crate) fn note(&mut self, moved: u64, timeouts: &Timeouts, now_ms: u64) -> Option<u64> {
        if moved == 0 {
            return None;
        }
        self.last_active_ms = now_ms;
        self.window_bytes = self.window_bytes.saturating_add(moved);
        match (self.window_start_ms, timeouts.stall_ms) {
            (None, Some(stall_ms)) => {
                self.window_start_ms = Some(now_ms);
                self.window_bytes = moved;
                Some(now_ms.saturating_add(stall_ms))
            }
            _ => None,
        }
    }

    /// Checks the limits at `now_ms`. Blocked output opens a stall window or keeps it open.
    pub(crate) fn check(&mut self, timeouts: &Timeouts, blocked: Blocked, now_ms: u64) -> Decision {
        let over = |since: u64, limit: Option<u64>| {
            limit.is_some_and(|limit| now_ms.saturating_sub(since) >= limit)
        };
        if over(self.born_ms, timeouts.lifetime_ms) {
            return Decision::Close(CloseReason::Lifetime);
        }
        if over(self.last_active_ms, timeouts.idle_ms) {
            return Decision::Close(CloseReason::IdleTimeout);
        }
        if timeouts.stall_ms.is_none() {
            self.window_start_ms = None;
        } else if let Some(start) = self.window_start_ms
            && over(start, timeouts.stall_ms)
        {
            if self.window_bytes < timeouts.stall_bytes {
                return Decision::Close(CloseReason::Stalled);
            }
            self.window_start_ms = None;
        }
        // A peer that reads nothing never moves a byte, so open its stall window here.
        if self.window_start_ms.is_none() && timeouts.stall_ms.is_some() && blocked == Blocked::Yes
        {
            self.window_start_ms = Some(now_ms);
            self.window_bytes = 0;
        }
        let deadline = |since: u64, limit: Option<u64>| limit.map(|ms| since.saturating_add(ms));
        let deadlines = [
            deadline(self.born_ms, timeouts.lifetime_ms),
            deadline(self.last_active_ms, timeouts.idle_ms),
            self.window_start_ms
                .and_then(|start| deadline(start, timeouts.stall_ms)),
        ];
        Decision::Keep(deadlines.into_iter().flatten().min())
    }
}

/// Whether output waits for the peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Blocked {
    /// Output waits.
    Yes,
    /// No output waits.
    No,
}

/// A duration in whole milliseconds, rounded up, so that no limit is shorter than configured.
pub(crate) fn whole_ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn timeouts(idle_ms: Option<u64>, stall_ms: Option<u64>, lifetime_ms: Option<u64>) -> Timeouts {
        Timeouts {
            idle_ms,
            stall_ms,
            stall_bytes: 100,
            lifetime_ms,
        }
    }

    #[test]
    fn drips_refresh_the_idle_limit_and_not_the_stall_limit() {
        let timeouts = timeouts(Some(50), Some(1000), None);
        let mut activity = Activity::new(0);
        for second in 0..25 {
            activity.note(2, &timeouts, second * 40);
            assert!(matches!(
                activity.check(&timeouts, Blocked::No, second * 40 + 39),
                Decision::Keep(Some(_))
            ));
        }
        activity.note(2, &timeouts, 1000);
        assert_eq!(
            activity.check(&timeouts, Blocked::No, 1000),
            Decision::Close(CloseReason::Stalled)
        );
    }

    #[test]
    fn a_peer_that_takes_nothing_stalls_after_its_first_window() {
        let timeouts = timeouts(None, Some(1000), None);
        let mut activity = Activity::new(0);
        assert_eq!(activity.note(1_000_000, &timeouts, 5), Some(1005));
        assert_eq!(
            activity.check(&timeouts, Blocked::Yes, 1005),
            Decision::Keep(Some(2005))
        );
        assert_eq!(
            activity.check(&timeouts, Blocked::Yes, 2005),
            Decision::Close(CloseReason::Stalled)
        );
    }

    #[test]
    fn a_peer_that_took_nothing_before_the_limit_was_set_stalls_too() {
        let mut activity = Activity::new(0);
        activity.note(1_000_000, &Timeouts::default(), 5);
        let timeouts = timeouts(None, Some(1000), None);
        assert_eq!(
            activity.check(&timeouts, Blocked::Yes, 70),
            Decision::Keep(Some(1070))
        );
        assert_eq!(
            activity.check(&timeouts, Blocked::Yes, 1070),
            Decision::Close(CloseReason::Stalled)
        );
    }

    #[test]
    fn a_silent_connection_is_idle_and_does_not_stall() {
        let timeouts = timeouts(None, Some(1000), None);
        let mut activity = Activity::new(0);
        assert_eq!(
            activity.check(&timeouts, Blocked::No, 1_000_000),
            Decision::Keep(None)
        );
        activity.note(100, &timeouts, 2_000_000);
        assert_eq!(
            activity.check(&timeouts, Blocked::No, 3_000_000),
            Decision::Keep(None)
        );
    }

    #[test]
    fn the_lifetime_is_absolute() {
        let timeouts = timeouts(Some(50), None, Some(500));
        let mut activity = Activity::new(0);
        for now in (0..500).step_by(10) {
            activity.note(u64::MAX, &timeouts, now);
            assert!(matches!(
                activity.check(&timeouts, Blocked::No, now),
                Decision::Keep(Some(_))
            ));
        }
        assert_eq!(
            activity.check(&timeouts, Blocked::No, 500),
            Decision::Close(CloseReason::Lifetime)
        );
    }

    proptest! {
        /// Checks only at the returned deadlines still enforce every limit, so the reactor can
        /// sleep until then.
        #[test]
        fn looking_only_when_due_misses_nothing(
            idle in prop::option::of(1_u64..200),
            stall in prop::option::of(1_u64..200),
            lifetime in prop::option::of(1_u64..2000),
            moves in prop::collection::vec((0_u64..150, 1_u64..80, any::<bool>()), 0..40),
        ) {
            let timeouts = timeouts(idle, stall, lifetime);
            let mut lazy = Activity::new(0);
            let mut due = match lazy.check(&timeouts, Blocked::No, 0) {
                Decision::Keep(due) => due,
                Decision::Close(_) => return Ok(()),
            };
            let (mut now, mut last_move) = (0, 0);
            let mut window: Option<(u64, u64)> = None;
            for (pause, moved, blocked) in moves {
                let blocked = if blocked { Blocked::Yes } else { Blocked::No };
                let next = now + pause;
                while let Some(at) = due.filter(|&at| at <= next) {
                    prop_assert!(at >= now, "a deadline in the past");
                    now = at;
                    match lazy.check(&timeouts, blocked, at) {
                        Decision::Keep(later) => {
                            prop_assert!(later.is_none_or(|later| later > at), "spins");
                            due = later;
                            window = window
                                .filter(|&(start, _)| stall.is_none_or(|s| at - start < s))
                                .or_else(|| (blocked == Blocked::Yes).then_some((at, 0)));
                        }
                        Decision::Close(reason) => {
                            match reason {
                                CloseReason::Lifetime => prop_assert_eq!(Some(at), lifetime),
                                CloseReason::IdleTimeout => {
                                    prop_assert_eq!(Some(at - last_move), idle);
                                }
                                CloseReason::Stalled => {
                                    let (start, bytes) = window.expect("a window");
                                    prop_assert_eq!(Some(at - start), stall);
                                    prop_assert!(bytes < 100);
                                }
                                other => prop_assert!(false, "closed for {:?}", other),
                            }
                            return Ok(());
                        }
                    }
                }
                now = next;
                prop_assert!(lifetime.is_none_or(|limit| now < limit));
                prop_assert!(idle.is_none_or(|limit| now - last_move < limit));
                last_move = now;
                if let Some(opened) = lazy.note(moved, &timeouts, now) {
                    due = Some(due.map_or(opened, |due| due.min(opened)));
                }
                let (start, bytes) = window.unwrap_or((now, 0));
                window = Some((start, bytes + moved));
            }
        }
    }
}
