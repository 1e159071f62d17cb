//! Connections of endpoints with faults: what they need after they were pumped.

use super::{Connections, Entry, Limited, MAX_LINGER_MS};
use crate::conn::Next;
use crate::conn::faulty::{Faulty, Order};
use crate::metrics::CloseReason;
use crate::net::stream::Stream;
use crate::reactor::context::Context;
use crate::reactor::kernel::Kernel;
use crate::reactor::token::Deadline;

impl<S: Stream> Connections<S> {
    /// Does what a fault ordered in the last call of `pump`, and sets the alarm for the next one.
    pub(super) fn obey_faults<K>(&mut self, key: usize, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        let Some(entry) = self.table.get_mut(key) else {
            return;
        };
        let Some(faulty) = entry.faulty() else {
            return;
        };
        let (order, wake_ns) = (faulty.take_order(), faulty.wake_ns());
        cx.set_alarm_of_conn(key, wake_ns);
        match order {
            None => {}
            Some(Order::Reset) => {
                entry.conn.cut_off(CloseReason::Fault);
                self.close(key, CloseReason::Fault);
            }
            Some(Order::Close) => {
                let next = self.end_over(key, CloseReason::Fault);
                cx.arm(Deadline::Conn(key), MAX_LINGER_MS);
                self.follow(key, next, cx);
            }
        }
    }

    /// As [`Conn::linger_after_failure`], of a connection with or without TLS.
    fn end_over(&mut self, key: usize, reason: CloseReason) -> Next {
        let Some(entry) = self.table.get_mut(key) else {
            return Next::Wait;
        };
        let Some((conn, secured, _)) = entry.secured() else {
            return entry.conn.linger_after_failure(reason);
        };
        conn.over(
            |socket| secured.over(socket, &mut self.lent),
            |conn| conn.linger_after_failure(reason),
        )
    }
}

impl<S: Stream> Entry<S> {
    /// What a connection of an endpoint with faults has for them.
    pub(super) fn faulty(&mut self) -> Option<&mut Faulty> {
        let [Limited { faults, .. }] = self.limited.as_deref_mut()?;
        faults.as_deref_mut().map(|[faulty]| faulty)
    }

    /// Whether an answer has not left that a fault holds back.
    pub(super) fn holds_back(&self) -> bool {
        let Some([Limited { faults, .. }]) = self.limited.as_deref() else {
            return false;
        };
        faults.as_deref().is_some_and(|[it]| it.holds_back())
    }
}
