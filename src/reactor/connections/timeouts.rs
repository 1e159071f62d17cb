//! The deadlines of connections: timeouts that began with them or came by a reload, and the end of
//! their lingering.

use super::{Connections, Entry, Limited};
use crate::memory::allocation::{OutOfMemory, try_box};
use crate::metrics::CloseReason;
use crate::net::stream::Stream;
use crate::reactor::context::Context;
use crate::reactor::kernel::Kernel;
use crate::reactor::token::Deadline;
use crate::timeouts::{Activity, Blocked, Decision};

impl<S: Stream> Connections<S> {
    /// Handles a connection's deadline: it lingered long enough, broke a timeout, or gets a new
    /// deadline.
    pub(in crate::reactor) fn expire<K>(&mut self, key: usize, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(Entry { conn, limited }) = self.table.get_mut(key) else {
            return;
        };
        if conn.is_closed() {
            return;
        }
        if let Some(reason) = conn.lingering() {
            self.close(key, reason);
            return;
        }
        if conn.is_awaiting_header() && cx.rules.handshake_ms.is_some() {
            self.expire_header(key, cx);
            return;
        }
        let Some(
            [
                Limited {
                    activity,
                    tls,
                    faults,
                    ..
                },
            ],
        ) = limited.as_deref_mut()
        else {
            return;
        };
        let handshake_end = tls.as_ref().and_then(|it| it[0].handshake_end_ms());
        if handshake_end.is_some_and(|end| end <= cx.now_ms()) {
            self.end_handshake(key, cx);
            return;
        }
        let awaits_peer = faults.as_ref().is_some_and(|it| it[0].awaits_peer());
        let blocked = if conn.is_blocked() || awaits_peer {
            Blocked::Yes
        } else {
            Blocked::No
        };
        let now_ms = cx.now_ms();
        let decision = match activity {
            Some(activity) => activity.check(&cx.rules.timeouts, blocked, now_ms),
            None => Decision::Keep(None),
        };
        match decision {
            Decision::Keep(deadline) => {
                let id = Deadline::Conn(key).id();
                match deadline.into_iter().chain(handshake_end).min() {
                    Some(deadline) => cx.timers.arm(id, deadline),
                    None => cx.timers.cancel(id),
                }
            }
            Decision::Close(reason) => self.linger(key, reason, cx),
        }
    }

    /// Starts the timeouts of a connection.
    pub(super) fn start_timeouts<K>(&mut self, key: usize, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        if let Some(entry) = self.table.get_mut(key)
            && let Some(limited) = &mut entry.limited
        {
            limited[0].activity = Some(Activity::new(cx.now_ms()));
            self.expire(key, cx);
        }
    }

    /// Applies changed timeouts to open connections. The timeouts of a connection that had none
    /// begin now.
    pub(in crate::reactor) fn apply_timeouts<K>(&mut self, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let has_timeouts = !cx.rules.timeouts.is_empty();
        for key in self.keys() {
            let Some(entry) = self.table.get_mut(key).filter(|it| it.is_served()) else {
                continue;
            };
            match &mut entry.limited {
                Some(limited) if limited[0].activity.is_some() => {
                    if has_timeouts {
                        self.expire(key, cx);
                    } else {
                        limited[0].activity = None;
                        // Only a handshake may still have a deadline.
                        self.expire(key, cx);
                    }
                }
                _ if !has_timeouts => {}
                Some(_) => self.start_timeouts(key, cx),
                none => match try_box(Limited::default()) {
                    Ok(limited) => {
                        *none = Some(limited);
                        self.start_timeouts(key, cx);
                    }
                    Err(OutOfMemory) => self.close(key, CloseReason::Memory),
                },
            }
        }
    }
}
