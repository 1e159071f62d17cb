//! A connection of an endpoint with faults: what comes in is taken message by message, and what is
//! decided about each is done at its time. A message is what one read returned.
//!
//! Plain connections come across nothing of this. Such a connection keeps no backlog: what its socket
//! does not take stays with what it holds back.

use std::io;

use super::connection::{Conn, Input, Next, State};
use super::held::{Action, Held, MAX_MESSAGE, Room};
use super::scratch::Scratch;
use crate::faults::{Answer, Draws, Faults, Outcome, Time};
use crate::memory::Budget;
use crate::memory::allocation::OutOfMemory;
use crate::metrics::{CloseReason, Fault, WorkerMetrics};
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;

/// Messages in one call, so that others get their turn.
const MAX_MESSAGES_PER_PUMP: usize = 4;

/// What such a connection has beside its stream.
#[derive(Debug)]
pub(crate) struct Faulty {
    /// The index of its endpoint in the server.
    pub(crate) endpoint: usize,
    /// Its number at the endpoint.
    number: u64,
    /// Messages that have come.
    messages: u64,
    held: Held,
    /// No more is read: the input has ended, or the last message of the connection has come.
    is_complete: bool,
    /// What is to be done with the connection.
    order: Option<Order>,
    /// When it has to be pumped without an event.
    wake_ns: Option<u64>,
}

/// What becomes of a connection by a fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Order {
    /// A reset.
    Reset,
    /// The end behind what was sent, with its input discarded.
    Close,
}

/// The outcome of a look for a message.
enum Taken {
    /// What there was.
    All,
    /// The read was interrupted.
    Interrupted,
    /// A message for whose answer there was no memory.
    Lost,
}

/// What a worker lends to the connection.
pub(crate) struct Means<'a, T, P> {
    pub(crate) faults: &'a Faults,
    pub(crate) time: T,
    /// The last standstill of the endpoint that was counted.
    pub(crate) last_stall: &'a mut Option<u64>,
    pub(crate) budget: &'a Budget,
    pub(crate) scratch: &'a mut Scratch<P>,
    pub(crate) metrics: &'a WorkerMetrics,
}

impl Faulty {
    /// That of a new connection.
    pub(crate) fn new(endpoint: usize, number: u64) -> Self {
        Self {
            endpoint,
            number,
            messages: 0,
            held: Held::default(),
            is_complete: false,
            order: None,
            wake_ns: None,
        }
    }

    /// Whether something that was to be sent has not left.
    pub(crate) fn holds_back(&self) -> bool {
        !self.held.is_empty()
    }

    /// Takes what is to be done with the connection.
    pub(crate) fn take_order(&mut self) -> Option<Order> {
        self.order.take()
    }

    /// When the connection has to be pumped without an event.
    pub(crate) fn wake_ns(&self) -> Option<u64> {
        self.wake_ns
    }

    #[cfg(test)]
    pub(crate) fn held_len_and_cost(&self) -> (usize, usize) {
        (self.held.len(), self.held.cost())
    }

    /// Whether something that is due waits for the peer to take it.
    pub(crate) fn awaits_peer(&self) -> bool {
        self.holds_back() && self.wake_ns.is_none()
    }

    /// Drops what is held back.
    pub(crate) fn clear(&mut self, budget: &Budget, metrics: &WorkerMetrics) {
        let len = self.held.clear(budget);
        metrics.backlog_bytes.sub(len as u64);
        self.wake_ns = None;
    }
}

impl<S: Stream> Conn<S> {
    /// As [`Conn::pump`](super::Conn::pump), for a connection with faults. Afterwards
    /// [`Faulty::take_order`] and [`Faulty::wake_ns`] say what else it needs.
    pub(crate) fn pump_faulty<T: Time>(
        &mut self,
        faulty: &mut Faulty,
        means: &mut Means<'_, T, S::Pipe>,
    ) -> Next {
        faulty.wake_ns = None;
        if !matches!(self.state, State::Echo | State::Discard) {
            return self.pump(means.scratch, means.metrics);
        }
        match self.serve_messages(faulty, means) {
            Ok(Next::Close(reason)) => self.finish(reason),
            Ok(next) => next,
            Err(error) => self.fail(&error),
        }
    }

    /// Marks a connection as one to be reset at its end: something will not be echoed.
    pub(crate) fn cut_off(&mut self, reason: CloseReason) {
        self.state = State::CutOff(reason);
    }

    fn serve_messages<T: Time>(
        &mut self,
        faulty: &mut Faulty,
        means: &mut Means<'_, T, S::Pipe>,
    ) -> io::Result<Next> {
        for taken in 0..=MAX_MESSAGES_PER_PUMP {
            if let Some(standstill) = means.faults.standstill(|| means.time.real_ns()) {
                if means.last_stall.replace(standstill.number) != Some(standstill.number) {
                    means.metrics.faults(Fault::Stall).add(1);
                }
                let end_ns = means.time.now_ns().saturating_add(standstill.left_ns);
                faulty.wake_ns = Some(end_ns);
                return Ok(Next::Wait);
            }
            if !self.send_due(faulty, means)? {
                return Ok(Next::Yield);
            }
            if faulty.order.is_some() {
                return Ok(Next::Wait);
            }
            if faulty.is_complete && faulty.held.is_empty() {
                return self.end_after_answers();
            }
            if taken == MAX_MESSAGES_PER_PUMP || !self.may_read(faulty) {
                break;
            }
            let len = means.scratch.whole().len().min(MAX_MESSAGE);
            let Some(mut room) = Room::take(means.budget, len) else {
                self.set_wake(faulty);
                return Ok(Next::Retry);
            };
            let taken = self.take_message(faulty, &mut room, means);
            room.give_back(means.budget);
            match taken? {
                Taken::All => {}
                Taken::Interrupted => {
                    self.set_wake(faulty);
                    return Ok(Next::Yield);
                }
                Taken::Lost => {
                    self.cut_off(CloseReason::Memory);
                    return Ok(Next::Close(CloseReason::Memory));
                }
            }
        }
        self.set_wake(faulty);
        let now_ns = means.time.now_ns();
        // What is due by now has its next turn soon.
        let is_due = faulty.wake_ns.take_if(|at| *at <= now_ns).is_some();
        Ok(if is_due || self.may_read(faulty) {
            Next::Yield
        } else {
            Next::Wait
        })
    }

    /// Ends a connection whose input has ended, and all answers have left.
    fn end_after_answers(&mut self) -> io::Result<Next> {
        match self.stream.tell_end() {
            Ok(()) => Ok(Next::Close(CloseReason::Finished)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::WRITABLE);
                Ok(Next::Wait)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Next::Yield),
            Err(error) => Err(error),
        }
    }

    fn may_read(&self, faulty: &Faulty) -> bool {
        self.ready.is_readable() && !faulty.is_complete && faulty.held.has_room()
    }

    fn set_wake(&self, faulty: &mut Faulty) {
        // Without room in the socket an event wakes it.
        let next_ns = faulty.held.next_ns().filter(|_| self.ready.is_writable());
        faulty.wake_ns = next_ns.into_iter().chain(faulty.held.swap_ends_ns()).min();
    }

    /// Does what is due, as far as the socket takes it. Returns whether no call was interrupted.
    fn send_due<T: Time>(
        &mut self,
        faulty: &mut Faulty,
        means: &Means<'_, T, S::Pipe>,
    ) -> io::Result<bool> {
        let now_ns = means.time.now_ns();
        faulty.held.expire_swapped(now_ns);
        // Each round shortens what is held, which is bounded, or ends the loop.
        while let Some(action) = faulty.held.due(now_ns) {
            let (bytes, sent) = match action {
                Action::Send(bytes, sent) => (bytes, *sent),
                Action::Reset => {
                    faulty.order = Some(Order::Reset);
                    means.metrics.faults(Fault::Reset).add(1);
                    return Ok(true);
                }
                Action::Close => return self.order_close(faulty, means.metrics),
            };
            if !self.ready.is_writable() {
                break;
            }
            let left = bytes.len() - sent;
            match self.stream.write(&bytes[sent..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    if written < left {
                        means.metrics.short_writes.add(1);
                    }
                    means.metrics.sent_bytes.add(written as u64);
                    means.metrics.backlog_bytes.sub(written as u64);
                    faulty.held.note_sent(written, means.budget);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    means.metrics.short_writes.add(1);
                    self.ready.remove(Readiness::WRITABLE);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Ends the connection once the socket has all answers: records of TLS may still wait for it.
    fn order_close(&mut self, faulty: &mut Faulty, metrics: &WorkerMetrics) -> io::Result<bool> {
        match self.stream.flush() {
            Ok(()) => {
                faulty.order = Some(Order::Close);
                metrics.faults(Fault::CloseAfter).add(1);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ready.remove(Readiness::WRITABLE);
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a message and does what is decided about it.
    fn take_message<T: Time>(
        &mut self,
        faulty: &mut Faulty,
        room: &mut Room,
        means: &mut Means<'_, T, S::Pipe>,
    ) -> io::Result<Taken> {
        let buffer = means.scratch.whole();
        let len = buffer.len().min(MAX_MESSAGE);
        let bytes = match self.read(&mut buffer[..len])? {
            Input::Bytes(count) => &mut buffer[..count],
            Input::Blocked => return Ok(Taken::All),
            Input::Interrupted => return Ok(Taken::Interrupted),
            Input::End => {
                faulty.is_complete = true;
                faulty.held.release_swapped();
                return Ok(Taken::All);
            }
        };
        let arrived_ns = means.time.now_ns();
        means.metrics.received_bytes.add(bytes.len() as u64);
        let seed = means.faults.seed.unwrap_or_default();
        let decision = means
            .faults
            .decide(Draws::of(seed, faulty.number, faulty.messages));
        faulty.messages += 1;
        if decision.work_ns > 0 {
            means.time.burn(decision.work_ns);
            means.metrics.faults(Fault::Work).add(1);
        }
        let is_last = (means.faults.close_after).is_some_and(|it| faulty.messages >= it.get());
        let due_ns = |delay_ns| arrived_ns.saturating_add(delay_ns);
        let mut last_ns = arrived_ns;
        match decision.outcome {
            Outcome::Drop => means.metrics.faults(Fault::Drop).add(1),
            Outcome::Reset { delay_ns } => {
                faulty.is_complete = true;
                faulty.held.push(due_ns(delay_ns), Action::Reset);
                return Ok(Taken::All);
            }
            // A discard sends none.
            Outcome::Answer(_) if self.state == State::Discard => {}
            Outcome::Answer(answer) => {
                last_ns = due_ns(answer.delay_ns);
                let answered = faulty.answer(bytes, &answer, arrived_ns, room, means.metrics);
                if answered.is_err() {
                    return Ok(Taken::Lost);
                }
            }
        }
        if is_last {
            faulty.is_complete = true;
            faulty.held.release_swapped();
            faulty.held.push(last_ns, Action::Close);
        }
        Ok(Taken::All)
    }
}

impl Faulty {
    /// Holds the answer to a message back until it is due.
    fn answer(
        &mut self,
        bytes: &mut [u8],
        answer: &Answer,
        arrived_ns: u64,
        room: &mut Room,
        metrics: &WorkerMetrics,
    ) -> Result<(), OutOfMemory> {
        let due_ns = arrived_ns.saturating_add(answer.delay_ns);
        if answer.delay_ns > 0 {
            metrics.faults(Fault::Delay).add(1);
        }
        if answer.corruption.is_some() {
            answer.corrupt(bytes);
            metrics.faults(Fault::Corrupt).add(1);
        }
        let copy = self.held.copy(bytes, room)?;
        metrics.backlog_bytes.add(copy.len() as u64);
        if !answer.is_reordered {
            self.held.push(due_ns, Action::Send(copy, 0));
        } else if self.held.swap(due_ns, Action::Send(copy, 0), arrived_ns) {
            metrics.faults(Fault::Reorder).add(1);
        }
        if answer.is_duplicated {
            let copy = self.held.copy(bytes, room)?;
            metrics.backlog_bytes.add(copy.len() as u64);
            self.held.push(due_ns, Action::Send(copy, 0));
            metrics.faults(Fault::Duplicate).add(1);
        }
        Ok(())
    }
}
