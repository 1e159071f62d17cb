//! Messages over UDP, one connected socket for each peer; with a depth, in bursts that the kernel
//! segments (UDP_SEGMENT, udp(7)) and that come back joined where the server's answers were joined.
//! A datagram that is lost is an error: on loopback it means that the load was too much.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::flow::{Patience, Socket};
use super::pattern::Pattern;
use super::window::{Gauge, Window};
use super::{Checks, Order, Outcome, STALL, context};
use crate::sys::{self, EPOLLIN, Epoll, Mode, Transport};

const READ_LEN: usize = 64 * 1024;

/// Datagrams given to the kernel at once: half of what is in flight, so that one half is on its way
/// while the other is answered. At most 64 is what the kernel takes.
fn burst_of(depth: usize) -> usize {
    depth.div_ceil(2).clamp(1, 64)
}

struct Flow {
    socket: Socket,
    /// Admitted but not sent yet, because a burst is not full.
    owed: usize,
    begun: VecDeque<Instant>,
    in_flight: usize,
}

struct Load<'a> {
    order: &'a Order,
    pattern: Pattern,
    flows: Vec<Flow>,
    window: Window<'a>,
    operations: u64,
    bytes: u64,
}

pub(super) fn run(order: &Order, gauge: &dyn Gauge) -> io::Result<Outcome> {
    let shape = order.shape;
    if shape.size > 65_507 || shape.size * burst_of(shape.depth) > 65_507 {
        return Err(io::Error::other(
            "a burst of datagrams, which is half of the depth, is longer than 65507 bytes",
        ));
    }
    let epoll = Epoll::new()?;
    let mut flows = Vec::with_capacity(shape.connections);
    for index in 0..shape.connections {
        let socket = Socket(sys::socket(Transport::Udp, Mode::NonBlocking)?);
        sys::connect(socket.0, order.target)?;
        if shape.depth > 1 {
            sys::set_datagram_bursts(socket.0, shape.size)?;
        }
        epoll.add(socket.0, EPOLLIN, index as u64)?;
        flows.push(Flow {
            socket,
            owed: 0,
            begun: VecDeque::new(),
            in_flight: 0,
        });
    }
    let mut load = Load {
        order,
        pattern: Pattern::new(shape.size, READ_LEN),
        flows,
        window: Window::new(order.length, gauge)?,
        operations: 0,
        bytes: 0,
    };
    load.pour(&epoll)?;
    load.window.outcome()
}

impl Load<'_> {
    fn pour(&mut self, epoll: &Epoll) -> io::Result<()> {
        for index in 0..self.flows.len() {
            self.issue(index, self.order.shape.depth)?;
        }
        let mut events = [sys::NO_EVENT; sys::EVENTS];
        let mut buffer = vec![0; READ_LEN];
        let mut patience = Patience::new();
        while !self.window.is_over() || self.in_flight() > 0 {
            let count = epoll.wait(&mut events, Some(STALL))?;
            patience.after(count, || self.in_flight())?;
            for event in &events[..count] {
                self.receive(event.u64 as usize, &mut buffer)?;
            }
            self.window
                .turn(Instant::now(), self.operations, self.bytes)?;
        }
        Ok(())
    }

    fn in_flight(&self) -> usize {
        self.flows.iter().map(|f| f.in_flight).sum()
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let flow = &mut self.flows[index];
        let len = match sys::recv(flow.socket.0, buffer) {
            Ok(len) => len,
            Err(e) if sys::is_transient(&e) => return Ok(()),
            Err(e) => return Err(context("receiving", &e)),
        };
        let completed = len / self.order.shape.size;
        if completed * self.order.shape.size != len || completed == 0 {
            return Err(io::Error::other("a datagram of another length came back"));
        }
        if completed > flow.in_flight {
            return Err(io::Error::other("more datagrams came back than were sent"));
        }
        flow.in_flight -= completed;
        if self.order.checks == Checks::All {
            if !self.pattern.matches(0, &buffer[..len]) {
                return Err(io::Error::other("other bytes came back than were sent"));
            }
            let now = Instant::now();
            for begun in flow.begun.drain(..completed) {
                self.window.record(now.saturating_duration_since(begun));
            }
        }
        self.operations += completed as u64;
        self.bytes += len as u64;
        self.issue(index, completed)
    }

    /// Begins up to `wanted` datagrams; those that do not fill a burst wait, unless nothing else
    /// would ever come back.
    fn issue(&mut self, index: usize, wanted: usize) -> io::Result<()> {
        let burst = burst_of(self.order.shape.depth);
        let flow = &mut self.flows[index];
        flow.owed += self.window.admit(wanted as u64) as usize;
        while flow.owed >= burst || (flow.owed > 0 && flow.in_flight == 0) {
            let count = flow.owed.min(burst);
            let bytes = self.pattern.at(0, count * self.order.shape.size);
            let now = Instant::now();
            // A burst goes out whole or not at all.
            sys::send(flow.socket.0, bytes).map_err(|e| context("sending", &e))?;
            if self.order.checks == Checks::All {
                flow.begun.extend((0..count).map(|_| now));
            }
            flow.owed -= count;
            flow.in_flight += count;
        }
        Ok(())
    }
}
