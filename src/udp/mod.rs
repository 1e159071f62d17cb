//! One UDP socket of a worker: datagrams are received in batches, and each batch is answered at
//! once.
//!
//! What holds:
//! - An answer is never longer than its request, and leaves from the address that was asked.
//! - What [`Guard`] or the admission turns down is not answered at all. Discarding answers nothing,
//!   so it asks neither.
//! - Answers that the socket does not take are kept, those of one batch at the most. While there are
//!   any, nothing is received: the kernel's receive buffer is the queue, and drops what exceeds it.
//! - Unlike a stream, the socket is registered for reading alone, and for writing only while answers
//!   are kept: a stream wakes its writer once there is room again, a datagram socket whenever a
//!   datagram has left (sock_wfree in the kernel), which would cost a turn of the loop per answer.
//! - A registered socket makes the kernel look for waiters each time a datagram leaves, even if none waits
//!   for room, at a tenth of an echo's cost. So after a large batch a socket is not registered until
//!   nothing more comes: meanwhile it yields instead of waiting.
//! - An aggregate counts as the datagrams in it, for limits and in metrics.

use std::io;
use std::net::IpAddr;

use mio::Interest;

mod guard;
mod socket;

pub(crate) use guard::Guard;
pub(crate) use socket::{DatagramSocket, EpollSocket};

use crate::admission::UdpAllowance;
use crate::metrics::{DropReason, WorkerMetrics};
use crate::net::datagram::{
    Batch, Datagram, Destination, MAX_SLOTS, Progress, SendCounts, UnsentAnswer,
};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::service::{Service, chargen};

/// Batches in one call of [`Datagrams::pump`] before others have their turn.
const MAX_BATCHES_PER_PUMP: usize = 4;

/// Datagrams, or aggregates, in a batch from which on it is cheaper to take the socket out of the epoll
/// instance and put it back later than to let the kernel look for waiters at each answer.
const MIN_UNWATCHED: usize = MAX_SLOTS / 2;

/// Bytes received after which others have their turn, even if fewer batches came: with aggregates,
/// one batch alone may be 2 MiB.
const MAX_BYTES_PER_PUMP: usize = 256 << 10;

/// The longest datagram of chargen (RFC 864: "between 0 and 512").
const MAX_CHARGEN: usize = 512;

/// What a socket needs after [`Datagrams::pump`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Next {
    /// Nothing until the kernel reports an event.
    Wait,
    /// Another call soon: there is more to do, and others had to have their turn.
    Yield,
    /// Another call after a while: the kernel has no memory to give, and will not report when it has.
    Retry,
}

/// A UDP socket and its service.
#[derive(Debug)]
pub(crate) struct Datagrams<S> {
    socket: S,
    service: Service,
    /// Where every datagram was sent to, unless each tells.
    destination: Option<Destination>,
    /// Answers that the socket did not take.
    unsent: Vec<UnsentAnswer>,
    readable: bool,
    writable: bool,
    /// Where the next datagram of chargen starts in its stream: at a line.
    chargen_offset: usize,
}

impl<S: DatagramSocket> Datagrams<S> {
    /// Serves `socket`, which is writable, as a fresh socket is, and may be readable: an inherited
    /// one may have received something before.
    pub(crate) fn new(socket: S, service: Service) -> Self {
        Self {
            destination: socket.only_destination(),
            socket,
            service,
            unsent: Vec::new(),
            readable: true,
            writable: true,
            chargen_offset: 0,
        }
    }

    /// Adds what the kernel reported to what is known. Readiness sticks until a call says "would
    /// block".
    pub(crate) fn note(&mut self, readiness: Readiness) {
        self.readable |= readiness.is_readable();
        self.writable |= readiness.is_writable();
    }

    /// Sends what was kept, then receives and answers batches until nothing waits, the socket takes
    /// no more, or the budget is spent.
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
        // What came since the last call is reported at once.
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
            return Next::Wait;
        }
        let mut bytes = 0;
        for _ in 0..MAX_BATCHES_PER_PUMP {
            if !self.readable {
                return Next::Wait;
            }
            match self.socket.receive(batch) {
                // While this is answered, more will come.
                Ok(count) if count >= MIN_UNWATCHED => self.socket.deregister(),
                // The call ended at EAGAIN inside (recvmmsg(2)), which need not be asked for again:
                // what comes after it raises an edge.
                Ok(_) if self.socket.is_registered() => self.readable = false,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Next::Wait;
                }
                Err(error) if errno::is_lack_of_memory(&error) => return Next::Retry,
                // Interrupted, or an error that was pending and is cleared by being reported: a
                // bound, unconnected socket has no other.
                Err(_) => return Next::Yield,
            }
            for index in 0..batch.len() {
                bytes += batch.datagram(index).payload.len();
                self.answer(index, batch, guard, &mut allowance, metrics);
            }
            if self.send(batch, metrics) == Progress::Blocked {
                return Next::Wait;
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

    /// Closes the socket. Answers that were kept are lost, as any datagram may be.
    pub(crate) fn close(self, metrics: &WorkerMetrics) {
        metrics.backlog_bytes.sub(self.backlog_len() as u64);
    }

    /// Counts what came in slot `index` and marks the answer that it deserves.
    fn answer(
        &mut self,
        index: usize,
        batch: &mut Batch,
        guard: &Guard,
        allowance: &mut impl FnMut(IpAddr, u32) -> UdpAllowance,
        metrics: &WorkerMetrics,
    ) {
        let datagram = batch.datagram(index);
        let count = datagram.count();
        metrics.udp_received_datagrams.add(count.into());
        metrics.received_bytes.add(datagram.payload.len() as u64);
        if self.service == Service::Discard {
            return;
        }
        let destination = datagram.destination.or(self.destination);
        let granted = match permitted(&datagram, destination, guard, allowance) {
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
        };
        if granted == 0 {
            return;
        }
        let (len, segment_len) = (datagram.payload.len(), datagram.segment_len);
        // All but the last datagram of an aggregate are of one length, so the first ones are too.
        let len = len.min(granted * segment_len);
        match self.service {
            Service::Discard => {}
            // An empty datagram has a segment length of 0, and an answer of as many bytes.
            Service::Echo => batch.answer(index, len),
            Service::Chargen => {
                let (len, segment_len) = chargen_lens(len, segment_len);
                let payload = chargen::from(self.chargen_offset, len);
                batch.answer_with(index, payload, segment_len);
                self.chargen_offset = (self.chargen_offset + chargen::LINE) % chargen::CYCLE;
            }
        }
    }

    /// Sends the answers of `batch` and keeps copies of those that the socket does not take.
    fn send(&mut self, batch: &mut Batch, metrics: &WorkerMetrics) -> Progress {
        let mut counts = SendCounts::default();
        let progress = self.socket.send(batch, &mut counts);
        count(counts, metrics);
        if progress == Progress::Blocked {
            self.keep(batch, metrics);
        }
        progress
    }

    #[cold]
    fn keep(&mut self, batch: &Batch, metrics: &WorkerMetrics) {
        self.unsent.extend(batch.unsent());
        metrics.short_writes.add(1);
        metrics.backlog_bytes.add(self.backlog_len() as u64);
        self.await_room();
    }

    /// Asks for an event when the socket takes more. One that already does is reported at once.
    fn await_room(&mut self) {
        let changed = self
            .socket
            .register(Interest::READABLE | Interest::WRITABLE);
        // Should epoll_ctl(2) fail, any other event leads to a try.
        self.writable = changed.is_err();
    }

    /// Sends what was kept.
    fn flush(&mut self, batch: &mut Batch, metrics: &WorkerMetrics) -> Progress {
        if self.unsent.is_empty() {
            return Progress::Done;
        }
        if !self.writable {
            return Progress::Blocked;
        }
        let before = self.backlog_len();
        let mut counts = SendCounts::default();
        let progress = self
            .socket
            .send_unsent(batch, &mut self.unsent, &mut counts);
        count(counts, metrics);
        metrics
            .backlog_bytes
            .sub((before - self.backlog_len()) as u64);
        match progress {
            Progress::Done => {
                self.unsent = Vec::new();
                // Failing, it would cost needless events and nothing else.
                let _ = self.socket.register(Interest::READABLE);
            }
            Progress::Blocked => self.await_room(),
        }
        progress
    }
}

/// How many datagrams of what was received may be answered, if any.
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

/// The lengths of chargen's answer to datagrams of `segment_len` bytes that are `len` bytes
/// together: as many datagrams, none longer than the one it answers.
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
