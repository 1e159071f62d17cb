//! A UDP socket of an endpoint with faults: what is decided about each datagram is done at its time.
//! Datagrams have no order, so an answer leaves when it is due, whatever came before it.
//!
//! Sockets without faults come across nothing of this.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering as Memory};

use super::socket::DatagramSocket;
use super::{Datagrams, Guard, MAX_BATCHES_PER_PUMP, Next, count};
use crate::admission::UdpAllowance;
use crate::faults::{Answer, Draws, Faults, Outcome, Time};
use crate::memory::{Budget, cost};
use crate::metrics::{DropReason, Fault, WorkerMetrics};
use crate::net::datagram::{Batch, Progress, SendCounts, UnsentAnswer};
use crate::net::errno;
use crate::service::Service;

/// A socket that holds as much receives no more: the kernel's receive buffer is the queue, and drops
/// what it has no room for.
const MAX_HELD: usize = 16 << 20;
/// Answers that wait to be overtaken; further ones leave as they came.
const MAX_SWAPPED: usize = 64;
/// How long an answer waits for the next one to its peer.
const MAX_SWAP_NS: u64 = 10_000_000;

/// What such a socket has beside.
#[derive(Debug, Default)]
pub(crate) struct FaultyDatagrams {
    held: BinaryHeap<HeldAnswer>,
    /// Answers that are to leave behind the next one to their peer.
    swapped: Vec<Swapped>,
    /// The memory that all of these cost.
    cost: usize,
    /// The order among those that are due at the same time.
    sequence: u64,
    /// The last standstill that was counted.
    last_stall: Option<u64>,
    /// When it has to be pumped without an event.
    wake_ns: Option<u64>,
    /// Nothing more is received: the socket is closed once all has left.
    is_ending: bool,
}

/// An answer that leaves when it is due. The heap has the earliest at its top.
#[derive(Debug)]
struct HeldAnswer {
    due_ns: u64,
    sequence: u64,
    answer: UnsentAnswer,
}

#[derive(Debug)]
struct Swapped {
    peer: SocketAddr,
    until_ns: u64,
    due_ns: u64,
    answer: UnsentAnswer,
}

impl HeldAnswer {
    fn key(&self) -> (u64, u64) {
        (self.due_ns, self.sequence)
    }
}

impl Ord for HeldAnswer {
    fn cmp(&self, other: &Self) -> Ordering {
        other.key().cmp(&self.key())
    }
}

impl PartialOrd for HeldAnswer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for HeldAnswer {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for HeldAnswer {}

/// What a worker lends to the socket.
pub(crate) struct Means<'a, T> {
    pub(crate) faults: &'a Faults,
    /// The number of the endpoint's next datagram, which its sockets share.
    pub(crate) numbers: &'a AtomicU64,
    pub(crate) time: T,
    pub(crate) batch: &'a mut Batch,
    pub(crate) guard: &'a Guard,
    pub(crate) metrics: &'a WorkerMetrics,
}

impl FaultyDatagrams {
    /// When it has to be pumped without an event.
    pub(crate) fn wake_ns(&self) -> Option<u64> {
        self.wake_ns
    }

    /// Receives nothing more.
    pub(crate) fn end(&mut self) {
        self.is_ending = true;
    }

    /// Whether it receives nothing more, and all has left.
    pub(crate) fn has_ended(&self) -> bool {
        self.is_ending && !self.holds_back()
    }

    /// Whether an answer has not left.
    pub(crate) fn holds_back(&self) -> bool {
        !self.held.is_empty() || !self.swapped.is_empty()
    }

    /// Drops what is held back.
    pub(crate) fn clear(&mut self, budget: &Budget, metrics: &WorkerMetrics) {
        let held = self.held.iter().map(|it| it.answer.len());
        let swapped = self.swapped.iter().map(|it| it.answer.len());
        let len: usize = held.chain(swapped).sum();
        metrics.backlog_bytes.sub(len as u64);
        budget.give_back(self.cost);
        *self = Self {
            last_stall: self.last_stall,
            ..Self::default()
        };
    }

    /// Holds an answer back until it is due, and behind it those that it overtakes.
    fn push(&mut self, peer: SocketAddr, due_ns: u64, answer: UnsentAnswer) {
        self.append(due_ns, answer);
        while let Some(index) = self.swapped.iter().position(|it| it.peer == peer) {
            let overtaken = self.swapped.remove(index);
            self.append(overtaken.due_ns.max(due_ns), overtaken.answer);
        }
    }

    fn append(&mut self, due_ns: u64, answer: UnsentAnswer) {
        self.sequence += 1;
        self.held.push(HeldAnswer {
            due_ns,
            sequence: self.sequence,
            answer,
        });
    }

    fn expire_swapped(&mut self, now_ns: u64) {
        while let Some(index) = self.swapped.iter().position(|it| it.until_ns <= now_ns) {
            let alone = self.swapped.remove(index);
            self.append(alone.due_ns, alone.answer);
        }
    }

    fn has_room(&self) -> bool {
        self.cost < MAX_HELD && !self.is_ending
    }
}

impl<S: DatagramSocket> Datagrams<S> {
    /// As [`Datagrams::pump`], for a socket with faults. Afterwards [`FaultyDatagrams::wake_ns`] says
    /// when it has to be called again.
    pub(crate) fn pump_faulty<T: Time>(
        &mut self,
        faulty: &mut FaultyDatagrams,
        means: &mut Means<'_, T>,
        mut allowance: impl FnMut(IpAddr, u32) -> UdpAllowance,
    ) -> Next {
        faulty.wake_ns = None;
        // It may have been deregistered before it had faults.
        let is_wanted = !faulty.is_ending && !self.socket.is_registered();
        if is_wanted && self.socket.register(mio::Interest::READABLE).is_err() {
            return Next::Retry;
        }
        let next = self.serve_datagrams(faulty, means, &mut allowance);
        if faulty.wake_ns.is_none() && self.unsent.is_empty() {
            let due_ns = faulty.held.peek().map(|it| it.due_ns);
            let swaps = faulty.swapped.iter().map(|it| it.until_ns);
            faulty.wake_ns = due_ns.into_iter().chain(swaps).min();
        }
        next
    }

    fn serve_datagrams<T: Time>(
        &mut self,
        faulty: &mut FaultyDatagrams,
        means: &mut Means<'_, T>,
        allowance: &mut impl FnMut(IpAddr, u32) -> UdpAllowance,
    ) -> Next {
        for _ in 0..MAX_BATCHES_PER_PUMP {
            if let Some(standstill) = means.faults.standstill(|| means.time.real_ns()) {
                if faulty.last_stall.replace(standstill.number) != Some(standstill.number) {
                    means.metrics.faults(Fault::Stall).add(1);
                }
                let end_ns = means.time.now_ns().saturating_add(standstill.left_ns);
                faulty.wake_ns = Some(end_ns);
                return Next::Wait;
            }
            if self.send_due(faulty, means) == Progress::Blocked {
                return self.await_event();
            }
            if !self.readable || !faulty.has_room() {
                return Next::Wait;
            }
            match self.socket.receive(means.batch) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readable = false;
                    return Next::Wait;
                }
                Err(error) if errno::is_lack_of_memory(&error) => return Next::Retry,
                // As of a socket without faults.
                Err(_) => return Next::Yield,
            }
            let arrived_ns = means.time.now_ns();
            for slot in 0..means.batch.len() {
                self.take_slot(slot, arrived_ns, faulty, means, allowance);
            }
        }
        match self.send_due(faulty, means) {
            Progress::Blocked => self.await_event(),
            Progress::Done => Next::Yield,
        }
    }

    /// Decides about each datagram in a slot.
    fn take_slot<T: Time>(
        &self,
        slot: usize,
        arrived_ns: u64,
        faulty: &mut FaultyDatagrams,
        means: &mut Means<'_, T>,
        allowance: &mut impl FnMut(IpAddr, u32) -> UdpAllowance,
    ) {
        let datagram = means.batch.datagram(slot);
        let (len, segment_len) = (datagram.payload.len(), datagram.segment_len);
        let (peer, datagrams) = (datagram.source, datagram.count() as usize);
        let granted = self.grant(slot, means.batch, means.guard, allowance, means.metrics);
        let seed = means.faults.seed.unwrap_or_default();
        for index in 0..datagrams {
            let number = means.numbers.fetch_add(1, Memory::Relaxed);
            let decision = means.faults.decide(Draws::of(seed, 0, number));
            if decision.work_ns > 0 {
                means.time.burn(decision.work_ns);
                means.metrics.faults(Fault::Work).add(1);
            }
            if index >= granted || self.service != Service::Echo {
                continue;
            }
            let begin = index * segment_len;
            let payload = begin..(begin + segment_len).min(len);
            match decision.outcome {
                Outcome::Answer(answer) => {
                    let mut hold = || self.hold(slot, payload.clone(), &answer, faulty, means);
                    let Some(first) = hold() else {
                        continue;
                    };
                    let second = answer.is_duplicated.then(hold).flatten();
                    let due_ns = arrived_ns.saturating_add(answer.delay_ns);
                    leave(faulty, peer, due_ns, (first, second), &answer, means);
                }
                Outcome::Drop | Outcome::Reset { .. } => means.metrics.faults(Fault::Drop).add(1),
            }
        }
    }

    /// A copy of an answer, if there is memory for it.
    fn hold<T: Time>(
        &self,
        slot: usize,
        payload: std::ops::Range<usize>,
        answer: &Answer,
        faulty: &mut FaultyDatagrams,
        means: &Means<'_, T>,
    ) -> Option<UnsentAnswer> {
        let len = payload.len();
        let cost = cost(len);
        let has_places = faulty.held.try_reserve(2 + MAX_SWAPPED).is_ok()
            && faulty.swapped.try_reserve(1).is_ok()
            && self.memory.try_take(cost);
        let copy = has_places.then(|| means.batch.try_copy(slot, payload));
        let Some(mut copy) = copy.flatten() else {
            self.memory.give_back(if has_places { cost } else { 0 });
            means.metrics.udp_dropped(DropReason::Memory).add(1);
            return None;
        };
        answer.corrupt(copy.payload_mut());
        faulty.cost += cost;
        means.metrics.backlog_bytes.add(len as u64);
        Some(copy)
    }

    /// Sends what is due, as far as the socket takes it.
    fn send_due<T: Time>(
        &mut self,
        faulty: &mut FaultyDatagrams,
        means: &mut Means<'_, T>,
    ) -> Progress {
        // What the socket did not take before goes first.
        if self.flush(means.batch, means.metrics) == Progress::Blocked {
            return Progress::Blocked;
        }
        let now_ns = means.time.now_ns();
        faulty.expire_swapped(now_ns);
        while faulty.held.peek().is_some_and(|it| it.due_ns <= now_ns) {
            if self.unsent.try_reserve(1).is_err() {
                break;
            }
            if let Some(due) = faulty.held.pop() {
                faulty.cost -= cost(due.answer.copied_len());
                self.unsent.push(due.answer);
            }
        }
        if self.unsent.is_empty() {
            return Progress::Done;
        }
        let before = (self.backlog_len(), self.backlog_cost());
        let mut counts = SendCounts::default();
        let progress = self
            .socket
            .send_unsent(means.batch, &mut self.unsent, &mut counts);
        count(counts, means.metrics);
        let left = (self.backlog_len(), self.backlog_cost());
        means.metrics.backlog_bytes.sub((before.0 - left.0) as u64);
        self.memory.give_back(before.1 - left.1);
        if progress == Progress::Blocked {
            means.metrics.short_writes.add(1);
            self.await_room();
        }
        progress
    }
}

/// Lets an answer, and its duplicate, leave at their time.
fn leave<T>(
    faulty: &mut FaultyDatagrams,
    peer: SocketAddr,
    due_ns: u64,
    (first, second): (UnsentAnswer, Option<UnsentAnswer>),
    answer: &Answer,
    means: &Means<'_, T>,
) where
    T: Time,
{
    let metrics = means.metrics;
    if answer.delay_ns > 0 {
        metrics.faults(Fault::Delay).add(1);
    }
    if answer.corruption.is_some() {
        metrics.faults(Fault::Corrupt).add(1);
    }
    let overtakes = faulty.swapped.iter().any(|it| it.peer == peer);
    if answer.is_reordered && !overtakes && faulty.swapped.len() < MAX_SWAPPED {
        metrics.faults(Fault::Reorder).add(1);
        faulty.swapped.push(Swapped {
            peer,
            until_ns: means.time.now_ns().saturating_add(MAX_SWAP_NS),
            due_ns,
            answer: first,
        });
    } else {
        faulty.push(peer, due_ns, first);
    }
    if let Some(second) = second {
        metrics.faults(Fault::Duplicate).add(1);
        faulty.push(peer, due_ns, second);
    }
}
