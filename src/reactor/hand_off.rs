//! Handing connections to other workers: one worker accepts, and the one with the fewest connections
//! serves. Each worker has an inbox of bounded size and is woken to look into it.

use std::sync::mpsc::{self, Receiver, SyncSender};

use super::connections::{Admitted, Connections};
use super::context::Context;
use super::control::Control;
use super::kernel::Kernel;
use crate::net::stream::Stream;

/// Connections that may wait in one inbox. When it is full the sender serves the connection itself,
/// so that nothing is lost and nothing blocks.
pub(crate) const MAX_INBOX: usize = 1024;

/// One worker's end of the exchange.
#[derive(Debug)]
pub(crate) struct HandOff<S> {
    inbox: Receiver<Admitted<S>>,
    max_inbox: usize,
    outboxes: Vec<SyncSender<Admitted<S>>>,
    /// Workers that were sent something in this turn.
    to_wake: Vec<bool>,
    last: usize,
    /// Whether this worker may still send, so that the others wait for it at the end of a drain.
    is_sender: bool,
    /// Whether a worker may still send to this one.
    has_senders: bool,
}

impl<S> HandOff<S> {
    /// The ends of an exchange among as many workers, with inboxes of this size.
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

    /// Announces that this worker will send. To be called before any worker of the server runs.
    pub(super) fn start_sending(&mut self, control: &Control) {
        self.is_sender = true;
        control.add_sender();
    }

    /// Sends a connection of worker `me` to the worker with the fewest. Returns it if that is this
    /// one, or if the other has no room.
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

    /// Nothing more will be sent by this worker. The last to say so wakes all.
    pub(super) fn stop_sending(&mut self, control: &Control) {
        if std::mem::take(&mut self.is_sender) && control.remove_sender() {
            self.to_wake.fill(true);
        }
    }

    /// Wakes the workers that were sent something.
    pub(super) fn wake_receivers(&mut self, kernel: &impl Kernel) {
        for (worker, is_due) in self.to_wake.iter_mut().enumerate() {
            if std::mem::take(is_due) {
                kernel.wake(worker);
            }
        }
    }

    /// Whether a worker may still send to this one.
    pub(super) fn has_senders(&self) -> bool {
        self.has_senders
    }
}

impl<S: Stream> HandOff<S> {
    /// Serves what others sent.
    pub(super) fn take<K>(&mut self, connections: &mut Connections<S>, cx: &mut Context<K>)
    where
        K: Kernel<Stream = S>,
    {
        // Asked before the inbox is emptied: the last sender has sent by then.
        let has_senders = cx.control.has_senders();
        // As many as an inbox holds; if it filled up again meanwhile, another wake-up has come.
        for _ in 0..=self.max_inbox {
            let Ok(admitted) = self.inbox.try_recv() else {
                break;
            };
            connections.open(admitted, cx);
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
    use crate::service::Service;

    /// The inboxes are not emptied, as if the other workers hung.
    #[test]
    fn what_an_inbox_has_no_room_for_is_kept() {
        const CONNECTIONS: usize = 5 * MAX_INBOX;
        let control = Control::new(&Limits::default(), 3, 1);
        let mut ends = HandOff::among(3, MAX_INBOX);
        let mut kept = Vec::new();
        for stream in 0..CONNECTIONS {
            let admitted = Admitted {
                stream,
                service: Service::Echo,
                permit: Permit::default(),
                peer: None,
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
