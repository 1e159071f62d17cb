//! Giving connections to other workers: one worker accepts, and the one with the fewest connections
//! serves. Each worker has an inbox of bounded size, and a waker tells it to look.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};

use super::{Control, Kernel, Reactor};
use crate::admission::Permit;
use crate::service::Service;

/// Connections that may wait in one inbox. When it is full the giver keeps the connection, so that
/// nothing is lost and nobody waits.
const INBOX: usize = 1024;

/// An admitted connection on its way to the worker that will serve it.
#[derive(Debug)]
pub(crate) struct Admitted<S> {
    pub(super) stream: S,
    pub(super) service: Service,
    pub(super) permit: Permit,
}

/// One worker's end of the exchange.
#[derive(Debug)]
pub(crate) struct HandOff<S> {
    inbox: Receiver<Admitted<S>>,
    outboxes: Vec<SyncSender<Admitted<S>>>,
    wakers: Arc<[mio::Waker]>,
    /// Workers that were given something in this turn.
    to_wake: Vec<bool>,
    last: usize,
}

impl<S> HandOff<S> {
    /// The ends of an exchange among as many workers as there are wakers.
    pub(crate) fn among(wakers: &Arc<[mio::Waker]>) -> Vec<Self> {
        let (outboxes, inboxes): (Vec<_>, Vec<_>) =
            wakers.iter().map(|_| mpsc::sync_channel(INBOX)).unzip();
        let ends = inboxes.into_iter().map(|inbox| Self {
            inbox,
            outboxes: outboxes.clone(),
            wakers: Arc::clone(wakers),
            to_wake: vec![false; wakers.len()],
            last: 0,
        });
        ends.collect()
    }

    /// Passes a connection of worker `me` on, unless that is the one to serve it.
    fn pass_on(&mut self, me: usize, control: &Control, given: Admitted<S>) -> Option<Admitted<S>> {
        let worker = control.least_loaded(self.last);
        self.last = worker;
        if worker == me {
            return Some(given);
        }
        control.add_load(worker);
        match self.outboxes[worker].try_send(given) {
            Ok(()) => {
                self.to_wake[worker] = true;
                None
            }
            Err(mpsc::TrySendError::Full(given) | mpsc::TrySendError::Disconnected(given)) => {
                control.remove_load(worker);
                Some(given)
            }
        }
    }

    fn wake(&mut self) {
        for (waker, given) in self.wakers.iter().zip(&mut self.to_wake) {
            if std::mem::take(given) {
                // Writing to an eventfd fails only if its counter is full, and then it wakes too.
                let _ = waker.wake();
            }
        }
    }
}

impl<K: Kernel> Reactor<K> {
    /// Gives a connection to the worker with the fewest; to this one if that is it, or if the
    /// other has no room.
    pub(super) fn give(&mut self, given: Admitted<K::Stream>) {
        let kept = match &mut self.hand_off {
            Some(hand_off) => hand_off.pass_on(self.index, &self.control, given),
            None => Some(given),
        };
        if let Some(given) = kept {
            self.keep(given);
        }
    }

    /// Serves a connection that this worker accepted.
    pub(super) fn keep(&mut self, given: Admitted<K::Stream>) {
        if self.hand_off.is_some() {
            self.control.add_load(self.index);
        }
        self.seat(given);
    }

    /// Wakes the workers that were given something.
    pub(super) fn wake_receivers(&mut self) {
        if let Some(hand_off) = &mut self.hand_off {
            hand_off.wake();
        }
    }

    /// Takes what others gave.
    pub(super) fn take_from_inbox(&mut self) {
        // Asked before the inbox is emptied: whoever is the last to give has given by then.
        let has_senders = self.control.has_senders();
        // As many as an inbox holds; if it filled up again meanwhile, another wake-up has come.
        for _ in 0..=INBOX {
            let Some(given) = self
                .hand_off
                .as_ref()
                .and_then(|it| it.inbox.try_recv().ok())
            else {
                break;
            };
            self.seat(given);
        }
        self.has_senders = has_senders;
    }

    /// Tells all workers that nobody will give them anything more.
    pub(super) fn end_sending(&mut self) {
        self.wake_receivers();
        if self.control.remove_sender()
            && let Some(hand_off) = &mut self.hand_off
        {
            hand_off.to_wake.fill(true);
            hand_off.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Limits;

    /// Nobody empties the inboxes, as if the other workers hung.
    #[test]
    fn what_an_inbox_has_no_room_for_is_kept() {
        const GIVEN: usize = 5 * INBOX;
        let control = Control::new(&Limits::default(), 3, 1);
        let polls: Vec<_> = (0..3).map(|_| mio::Poll::new().unwrap()).collect();
        let wakers = polls.iter().map(|poll| {
            let token = mio::Token(0);
            mio::Waker::new(poll.registry(), token).unwrap()
        });
        let mut ends = HandOff::among(&wakers.collect());
        let mut kept = Vec::new();
        for stream in 0..GIVEN {
            let given = Admitted {
                stream,
                service: Service::Echo,
                permit: Permit::default(),
            };
            if let Some(given) = ends[0].pass_on(0, &control, given) {
                control.add_load(0);
                kept.push(given.stream);
            }
        }
        for end in &ends[1..] {
            let given: Vec<_> = end.inbox.try_iter().map(|it| it.stream).collect();
            assert_eq!(given.len(), INBOX, "full, and not more");
            kept.extend(given);
        }
        kept.sort_unstable();
        assert!(kept.into_iter().eq(0..GIVEN), "each at one place");
    }
}
