//! Handing connections to other workers: one worker accepts, and the worker with the fewest
//! connections serves. Each worker has a bounded inbox and is woken to empty it.

use std::sync::mpsc::{self, Receiver, SyncSender};

use super::connections::{Admitted, Connections};
use super::context::Context;
use super::control::Control;
use super::kernel::Kernel;
use crate::net::stream::Stream;

/// The size of an inbox. When it is full, the sender serves the connection itself, so that no
/// connection is lost and no worker blocks.
pub(crate) const MAX_INBOX: usize = 1024;

/// One worker's inbox, and its senders to all others.
#[derive(Debug)]
pub(crate) struct HandOff<S> {
    inbox: Receiver<Admitted<S>>,
    max_inbox: usize,
    outboxes: Vec<SyncSender<Admitted<S>>>,
    /// Workers that received a connection in this turn.
    to_wake: Vec<bool>,
    last: usize,
    /// Whether this worker may still send; the others wait for it at the end of a drain.
    is_sender: bool,
    /// Whether a worker may still send to this one.
    has_senders: bool,
}

impl<S> HandOff<S> {
    /// The hand-offs of `workers` workers, with inboxes of this size.
    pub(crate) fn among(workers: usize, max_inbox: usize) -> Vec<Self> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) =
            (0..workers).map(|_| mpsc::sync_channel(max_inbox)).unzip();
        let ends = inboxes.into_iter().map(|inbox| Self {
            inbox,
            max_inbox,
            outboxes: outboxes.clone(),
            to_wake: vec![false; workers],
            last: 0,
            is_sender: false,
            has_senders: true,
        });
        ends.collect()
    }

    /// Registers this worker as a sender. Call it before any worker of the server runs.
    pub(super) fn start_sending(&mut self, control: &Control) {
        self.is_sender = true;
        control.add_sender();
    }

    /// Sends a connection of worker `me` to the worker with the fewest. Returns the connection if
    /// that is this worker, or if the inbox is full.
    pub(super) fn pass_on(
        &mut self,
        me: usize,
        control: &Control,
        admitted: Admitted<S>,
    ) -> Option<Admitted<S>> {
        let worker = control.least_loaded(self.last);
        self.last = worker;
        if worker == me {
            return Some(admitted);
        }
        control.add_handed_off(worker);
        match self.outboxes[worker].try_send(admitted) {
            Ok(()) => {
                self.to_wake[worker] = true;
                None
            }
            Err(mpsc::TrySendError::Full(kept) | mpsc::TrySendError::Disconnected(kept)) => {
                control.remove_handed_off(worker);
                Some(kept)
            }
        }
    }

    /// Deregisters this worker as a sender. The last sender wakes all workers.
    pub(super) fn stop_sending(&mut self, control: &Control) {
        if std::mem::take(&mut self.is_sender) && control.remove_sender() {
            self.to_wake.fill(true);
        }
    }

    /// Wakes the workers that received a connection. Where that fails, another turn tries again.
    pub(super) fn wake_receivers<K: Kernel>(&mut self, cx: &mut Context<K>) {
        for (worker, is_due) in self.to_wake.iter_mut().enumerate() {
            *is_due = *is_due && cx.kernel.wake(worker).is_err();
        }
        if self.has_to_wake() {
            cx.retry_soon();
        }
    }

    /// Whether a worker does not know yet of a connection in its inbox.
    pub(super) fn has_to_wake(&self) -> bool {
        self.to_wake.contains(&true)
    }

    /// Whether a worker may still send to this one.
    pub(super) fn has_senders(&self) -> bool {
        self.has_senders
    }
}

impl<S: Stream> HandOff<S> {
    /// Adds the connections in the inbox.
    pub(super) fn take<K>(&mut self, connections: &mut Connections<S>, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        // Read before the inbox is emptied: without senders, everything is in it by then.
        let has_senders = cx.control.has_senders();
        // At most one full inbox; if it fills again meanwhile, another wake-up comes.
        for _ in 0..=self.max_inbox {
            let Ok(admitted) = self.inbox.try_recv() else {
                break;
            };
            // A refusal is counted; this worker accepts nothing that it could stop accepting.
            let _ = connections.open(admitted, cx);
            cx.control.remove_handed_off(cx.index);
        }
        self.has_senders = has_senders;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admission::Permit;
    use crate::config::Limits;
    use crate::memory::Budget;
    use crate::reactor::connections::{Introduction, Security};
    use crate::reactor::control::Rules;
    use crate::service::Service;

    /// No inbox is emptied, as if the other workers hung.
    #[test]
    fn a_full_inbox_leaves_the_connection_to_the_sender() {
        const CONNECTIONS: usize = 5 * MAX_INBOX;
        let control = Control::new(
            Rules::new(&Limits::default(), None),
            Budget::new(None),
            3,
            1,
        );
        let mut ends = HandOff::among(3, MAX_INBOX);
        let mut kept = Vec::new();
        for stream in 0..CONNECTIONS {
            let admitted = Admitted {
                stream,
                endpoint: 0,
                service: Service::Echo,
                security: Security::None,
                permit: Permit::default(),
                peer: None,
                introduction: Introduction::None,
                faults: None,
            };
            if let Some(admitted) = ends[0].pass_on(0, &control, admitted) {
                control.metrics[0].active.add(1);
                kept.push(admitted.stream);
            }
        }
        for end in &ends[1..] {
            let sent: Vec<_> = end.inbox.try_iter().map(|it| it.stream).collect();
            assert_eq!(sent.len(), MAX_INBOX, "full, and not more");
            kept.extend(sent);
        }
        kept.sort_unstable();
        assert!(kept.into_iter().eq(0..CONNECTIONS), "each at one place");
    }
}
