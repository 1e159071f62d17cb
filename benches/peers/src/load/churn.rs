//! Connect, one message there and back, close, connect again: as many at a time as the shape says.
//! The client closes first, so that TIME_WAIT is on its side, as with most protocols.

use std::io;
use std::time::Instant;

use super::flow::{self, Patience, Socket};
use super::pattern::Pattern;
use super::window::{Gauge, Window};
use super::{Order, Outcome, STALL, context};
use crate::sys::{self, EPOLLIN, EPOLLOUT, Epoll, Mode, Transport};

const READ_LEN: usize = 64 * 1024;

/// A connection from its first to its last byte.
struct Flow {
    socket: Socket,
    begun: Instant,
    sent: usize,
    received: usize,
}

struct Load<'a> {
    order: &'a Order,
    pattern: Pattern,
    epoll: Epoll,
    slots: Vec<Option<Flow>>,
    window: Window<'a>,
    opened: u64,
    closed: u64,
    bytes: u64,
}

pub(super) fn run(order: &Order, gauge: &dyn Gauge) -> io::Result<Outcome> {
    let mut load = Load {
        order,
        pattern: Pattern::new(order.shape.size, READ_LEN),
        epoll: Epoll::new()?,
        slots: (0..order.shape.connections).map(|_| None).collect(),
        window: Window::new(order.length, gauge)?,
        opened: 0,
        closed: 0,
        bytes: 0,
    };
    load.pour()?;
    load.window.outcome()
}

impl Load<'_> {
    fn pour(&mut self) -> io::Result<()> {
        for index in 0..self.slots.len() {
            self.open(index)?;
        }
        let mut events = [sys::NO_EVENT; sys::EVENTS];
        let mut buffer = vec![0; READ_LEN];
        let mut patience = Patience::new();
        while !self.window.is_over() || self.opened > self.closed {
            let count = self.epoll.wait(&mut events, Some(STALL))?;
            patience.after(count, || (self.opened - self.closed) as usize)?;
            for event in &events[..count] {
                let index = event.u64 as usize;
                if event.events & EPOLLOUT as u32 != 0 {
                    self.send(index)?;
                } else {
                    self.receive(index, &mut buffer)?;
                }
            }
            self.window.turn(Instant::now(), self.closed, self.bytes)?;
        }
        Ok(())
    }

    fn open(&mut self, index: usize) -> io::Result<()> {
        if self.window.admit(1) == 0 {
            return Ok(());
        }
        let begun = Instant::now();
        let socket = Socket(sys::socket(Transport::Tcp, Mode::NonBlocking)?);
        // The port is chosen at connect(2), by the address of the server too.
        sys::bind_address(socket.0, flow::source_address(self.opened))?;
        match sys::connect(socket.0, self.order.target) {
            Ok(()) => {}
            Err(e) if sys::is_in_progress(&e) => {}
            Err(e) => return Err(context("connecting", &e)),
        }
        self.opened += 1;
        self.epoll.add(socket.0, EPOLLIN, index as u64)?;
        self.slots[index] = Some(Flow {
            socket,
            begun,
            sent: 0,
            received: 0,
        });
        // Over loopback the handshake is complete as a rule when connect(2) returns.
        self.send(index)
    }

    fn send(&mut self, index: usize) -> io::Result<()> {
        let Some(flow) = &mut self.slots[index] else {
            return Ok(());
        };
        let first = flow.sent == 0;
        let rest = self.order.shape.size - flow.sent;
        match sys::send(flow.socket.0, self.pattern.at(flow.sent, rest)) {
            Ok(sent) => flow.sent += sent,
            Err(e) if sys::is_transient(&e) => {}
            Err(e) => return Err(context("sending on a new connection", &e)),
        }
        let done = flow.sent == self.order.shape.size;
        if !(first && done) {
            let events = if done { EPOLLIN } else { EPOLLOUT };
            self.epoll.modify(flow.socket.0, events, index as u64)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(flow) = &mut self.slots[index] else {
            return Ok(());
        };
        let len = match sys::recv(flow.socket.0, buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(len) => len,
            Err(e) if sys::is_transient(&e) => return Ok(()),
            Err(e) => return Err(context("receiving on a new connection", &e)),
        };
        if flow.received + len > flow.sent {
            return Err(io::Error::other("more bytes came back than were sent"));
        }
        if !self.pattern.matches(flow.received, &buffer[..len]) {
            return Err(io::Error::other("other bytes came back than were sent"));
        }
        flow.received += len;
        self.bytes += len as u64;
        if flow.received == self.order.shape.size {
            self.window.record(flow.begun.elapsed());
            self.slots[index] = None;
            self.closed += 1;
            self.open(index)?;
        }
        Ok(())
    }
}
