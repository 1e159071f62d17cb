//! One UDP socket of a worker: it receives datagrams in batches and answers each batch at once.
//!
//! Invariants:
//! - An answer is never longer than its request, and its source is the request's destination.
//! - A datagram that [`Guard`] or the admission refuses is not answered. Discard sends no answers,
//!   so it skips both checks.
//! - Answers that the socket does not take are kept, at most those of one batch and within the
//!   memory for backlogs; without memory they are dropped. While there are any, nothing is received:
//!   the kernel's receive buffer is the queue and drops the excess.
//! - Unlike a stream, the socket is registered for reading only, and for writing only while answers
//!   are kept: a stream wakes its writer when there is room again, but a datagram socket after each
//!   sent datagram (sock_wfree in the kernel), which would cost a turn of the loop per answer.
//! - For a registered socket the kernel looks for waiters after each sent datagram, even if none
//!   waits for room, at a tenth of an echo's cost. So after a large batch the socket stays
//!   deregistered until no more datagrams arrive: meanwhile it yields instead of waiting.
//! - An aggregate counts as the datagrams in it, for limits and in metrics.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use mio::Interest;

mod faulty;
mod guard;
mod socket;
mod whoami;

pub(crate) use faulty::{FaultyDatagrams, Means};
pub(crate) use guard::Guard;
pub(crate) use socket::{DatagramSocket, EpollSocket};

use crate::admission::UdpAllowance;
use crate::memory::allocation::try_reserve_exact;
use crate::memory::{Budget, cost};
use crate::metrics::{DropReason, WorkerMetrics};
use crate::net::datagram::{
    Batch, Datagram, Destination, MAX_SLOTS, Progress, SendCounts, UnsentAnswer,
};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::service::{Service, chargen};

/// Batches in one call of [`Datagrams::pump`], so that others get their turn.
const MAX_BATCHES_PER_PUMP: usize = 4;

/// From this number of datagrams or aggregates in a batch, deregistering the socket and registering
/// it again later costs less than the kernel's look for waiters at each answer.
const MIN_UNWATCHED: usize = MAX_SLOTS / 2;

/// Received bytes after which others get their turn, even after fewer batches: with aggregates, one
/// batch may be 2 MiB.
const MAX_BYTES_PER_PUMP: usize = 256 << 10;

/// The maximum length of a chargen datagram (RFC 864: "between 0 and 512").
const MAX_CHARGEN: usize = 512;

/// What a socket needs after [`Datagrams::pump`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Nothing until the kernel reports an event.
    Wait,
    /// Another call soon: there is more to do, but others get their turn first.
    Yield,
    /// Another call after a pause: the kernel is out of memory and reports no event when it has
    /// some.
    Retry,
}

/// A UDP socket and its service.
#[derive(Debug)]
pub(crate) struct Datagrams<S> {
    socket: S,
    service: Service,
    /// The one destination of all datagrams; `None` if each datagram reports its own.
    destination: Option<Destination>,
    /// Answers that the socket did not take.
    unsent: Vec<UnsentAnswer>,
    /// For their bytes.
    memory: Arc<Budget>,
    readable: bool,
    writable: bool,
    /// The offset of the next chargen datagram in its stream, at the start of a line.
    chargen_offset: usize,
    /// For whoami.
    teller: Option<whoami::Teller>,
}

impl<S: DatagramSocket> Datagrams<S> {
    /// Serves `socket`. It is writable, like any fresh socket, and may be readable: an inherited
    /// one may have received datagrams before.
    pub(crate) fn new(socket: S, service: Service, memory: Arc<Budget>) -> Self {
        Self {
            destination: socket.only_destination(),
            socket,
            service,
            unsent: Vec::new(),
            memory,
            readable: true,
            writable: true,
            chargen_offset: 0,
            teller: None,
        }
    }

    /// Adds readiness that the kernel reported. It stays until a call says "would block".
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.is_readable();
        self.writable |= readiness.is_writable();
    }

    /// Sends kept answers, then receives and answers batches until no datagram waits, the socket
    /// takes no more, or the budget is spent.
    ///
    /// `batch` is only used during the call.
    /// `allowance` is [`Admission::udp_allowance`](crate::admission::Admission::udp_allowance) with
    /// the current policy and time: how many of the datagrams from an address may be answered. It is
    /// asked once for each datagram, or aggregate, that passed the guard.
    pub(crate) fn pump(
        &mut self,
        batch: &mut Batch,
        guard: &Guard,
        allowance: impl FnMut(IpAddr, u32) -> UdpAllowance,
        metrics: &WorkerMetrics,
    ) -> Next {
        let next = self.pump_batches(batch, guard, allowance, metrics);
        // Registering reports datagrams that came since the last call at once.
        if next == Next::Wait
            && !self.socket.is_registered()
            && self.socket.register(Interest::READABLE).is_err()
        {
            return Next::Retry;
        }
        next
    }

    fn pump_batches(
        &mut self,
        batch: &mut Batch,
        guard: &Guard,
        mut allowance: impl FnMut(IpAddr, u32) -> UdpAllowance,
        metrics: &WorkerMetrics,
    ) -> Next {
        if self.flush(batch, metrics) == Progress::Blocked {
            return self.await_event();
        }
        let mut bytes = 0;
        for _ in 0..MAX_BATCHES_PER_PUMP {
            if !self.readable {
                return Next::Wait;
            }
            match self.socket.receive(batch) {
                // While this batch is answered, more will arrive.
                Ok(count) if count >= MIN_UNWATCHED => self.socket.deregister(),
                // recvmmsg(2) stopped at EAGAIN, so no further call is needed to see it: later
                // datagrams raise an edge.
                Ok(_) if self.socket.is_registered() => self.readable = false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Next::Wait;
                }
                Err(error) if errno::is_lack_of_memory(&error) => return Next::Retry,
                // The call was interrupted, or it reported and cleared a pending error; a bound,
                // unconnected socket has no other errors.
                Err(_) => return Next::Yield,
            }
            for index in 0..batch.len() {
                bytes += batch.datagram(index).payload.len();
                self.answer(index, batch, guard, &mut allowance, metrics);
            }
            if self.send(batch, metrics) == Progress::Blocked {
                return self.await_event();
            }
            if bytes >= MAX_BYTES_PER_PUMP {
                break;
            }
        }
        if self.readable {
            Next::Yield
        } else {
            Next::Wait
        }
    }

    /// Bytes of answers that wait for the socket.
    pub(crate) fn backlog_len(&self) -> usize {
        self.unsent.iter().map(UnsentAnswer::len).sum()
    }

    /// The memory that they cost.
    pub(crate) fn backlog_cost(&self) -> usize {
        let costs = self.unsent.iter().map(|it| cost(it.copied_len()));
        costs.sum()
    }

    /// Closes the socket. Kept answers are lost, as any datagram may be.
    pub(crate) fn close(self, metrics: &WorkerMetrics) {
        metrics.backlog_bytes.sub(self.backlog_len() as u64);
        self.memory.give_back(self.backlog_cost());
    }

    /// Counts the datagram in slot `index` and marks its answer, if it gets one.
    fn answer(
        &mut self,
        index: usize,
        batch: &mut Batch,
        guard: &Guard,
        allowance: &mut impl FnMut(IpAddr, u32) -> UdpAllowance,
        metrics: &WorkerMetrics,
    ) {
        let granted = self.grant(index, batch, guard, allowance, metrics);
        if granted == 0 {
            return;
        }
        let datagram = batch.datagram(index);
        let (len, segment_len) = (datagram.payload.len(), datagram.segment_len);
        let destination = datagram.destination.or(self.destination);
        // All but the last datagram of an aggregate have one length, so the first ones do too.
        let len = len.min(granted * segment_len);
        match self.service {
            Service::Discard => {}
            // An empty datagram has a segment length of 0 and an empty answer.
            Service::Echo => batch.answer(index, len),
            Service::Whoami => self.tell(index, granted, destination, batch, metrics),
            Service::Chargen => {
                let (len, segment_len) = chargen_lens(len, segment_len);
                let payload = chargen::from(self.chargen_offset, len);
                batch.answer_with(index, payload, segment_len);
                self.chargen_offset = (self.chargen_offset + chargen::LINE) % chargen::CYCLE;
            }
        }
    }

    /// Counts the datagram in slot `index`, and returns how many of an aggregate may be answered.
    fn grant(
        &self,
        index: usize,
        batch: &Batch,
        guard: &Guard,
        allowance: &mut impl FnMut(IpAddr, u32) -> UdpAllowance,
        metrics: &WorkerMetrics,
    ) -> usize {
        let datagram = batch.datagram(index);
        let count = datagram.count();
        metrics.udp_received_datagrams.add(count.into());
        metrics.received_bytes.add(datagram.payload.len() as u64);
        if self.service == Service::Discard {
            return 0;
        }
        let destination = datagram.destination.or(self.destination);
        match permitted(&datagram, destination, guard, allowance) {
            Ok(allowed) => {
                for (reason, datagrams) in [
                    (DropReason::Denied, allowed.denied),
                    (DropReason::RatePerSource, allowed.over_source_rate),
                    (DropReason::Rate, allowed.over_rate),
                ] {
                    if datagrams > 0 {
                        metrics.udp_dropped(reason).add(datagrams.into());
                    }
                }
                allowed.granted.min(count) as usize
            }
            Err(reason) => {
                metrics.udp_dropped(reason).add(count.into());
                0
            }
        }
    }

    /// Sends the answers of `batch` and keeps copies of answers that the socket does not take.
    fn send(&mut self, batch: &mut Batch, metrics: &WorkerMetrics) -> Progress {
        let mut counts = SendCounts::default();
        let progress = self.socket.send(batch, &mut counts);
        count(counts, metrics);
        match progress {
            Progress::Done => Progress::Done,
            Progress::Blocked => self.keep(batch, metrics),
        }
    }

    /// Keeps the answers of `batch` that there is memory for; the others are dropped, as the kernel
    /// would drop datagrams that it has no room for.
    #[cold]
    fn keep(&mut self, batch: &Batch, metrics: &WorkerMetrics) -> Progress {
        let memory = &self.memory;
        let has_room = try_reserve_exact(&mut self.unsent, MAX_SLOTS).is_ok();
        for answer in batch.unsent() {
            let cost = cost(answer.len());
            let copy = if has_room && memory.try_take(cost) {
                let copy = answer.try_copy();
                memory.give_back(if copy.is_none() { cost } else { 0 });
                copy
            } else {
                None
            };
            match copy {
                Some(copy) => self.unsent.push(copy),
                None => metrics
                    .udp_dropped(DropReason::Memory)
                    .add(answer.datagrams()),
            }
        }
        metrics.short_writes.add(1);
        metrics.backlog_bytes.add(self.backlog_len() as u64);
        if self.unsent.is_empty() {
            return Progress::Done;
        }
        self.await_room();
        Progress::Blocked
    }

    /// Requests an event for room to write. Existing room is reported at once.
    fn await_room(&mut self) {
        let changed = self
            .socket
            .register(Interest::READABLE | Interest::WRITABLE);
        // If epoll_ctl(2) fails, no event comes.
        self.writable = changed.is_err();
    }

    /// What a socket without room needs, after [`Datagrams::await_room`].
    fn await_event(&self) -> Next {
        if self.writable {
            Next::Retry
        } else {
            Next::Wait
        }
    }

    /// Sends the kept answers.
    fn flush(&mut self, batch: &mut Batch, metrics: &WorkerMetrics) -> Progress {
        if self.unsent.is_empty() {
            return Progress::Done;
        }
        if !self.writable {
            return Progress::Blocked;
        }
        let before = (self.backlog_len(), self.backlog_cost());
        let mut counts = SendCounts::default();
        let progress = self
            .socket
            .send_unsent(batch, &mut self.unsent, &mut counts);
        count(counts, metrics);
        metrics
            .backlog_bytes
            .sub((before.0 - self.backlog_len()) as u64);
        self.memory.give_back(before.1 - self.backlog_cost());
        match progress {
            Progress::Done => {
                self.unsent = Vec::new();
                // A failure only costs needless events.
                let _ = self.socket.register(Interest::READABLE);
            }
            Progress::Blocked => self.await_room(),
        }
        progress
    }
}

/// How many of the received datagrams may be answered, if any.
fn permitted(
    datagram: &Datagram<'_>,
    destination: Option<Destination>,
    guard: &Guard,
    allowance: &mut impl FnMut(IpAddr, u32) -> UdpAllowance,
) -> Result<UdpAllowance, DropReason> {
    if datagram.truncated {
        return Err(DropReason::Truncated);
    }
    guard.verdict(datagram.source, destination)?;
    let source = datagram.source.ip().to_canonical();
    Ok(allowance(source, datagram.count()))
}

fn count(counts: SendCounts, metrics: &WorkerMetrics) {
    metrics.udp_sent_datagrams.add(counts.sent_datagrams);
    metrics.sent_bytes.add(counts.sent_bytes);
    if counts.failed_datagrams > 0 {
        metrics
            .udp_dropped(DropReason::SendError)
            .add(counts.failed_datagrams);
    }
}

/// The total and segment length of chargen's answer to `len` bytes in datagrams of `segment_len`:
/// the same number of datagrams, none longer than its request.
fn chargen_lens(len: usize, segment_len: usize) -> (usize, usize) {
    if segment_len <= MAX_CHARGEN {
        return (len, segment_len);
    }
    let last = match len % segment_len {
        0 => 0,
        last => last.min(MAX_CHARGEN),
    };
    (len / segment_len * MAX_CHARGEN + last, MAX_CHARGEN)
}

#[cfg(test)]
mod tests;
