//! Messages over TCP connections that stay open, and streams there and back, which are the same with
//! more in flight.

use std::collections::VecDeque;
use std::io;
use std::time::Instant;

use super::flow::{self, Patience, Socket};
use super::pattern::Pattern;
use super::window::{Gauge, Window};
use super::{Checks, Order, Outcome, STALL};
use crate::sys::{self, EPOLLIN, EPOLLOUT, Epoll};

/// One recv(2) takes as much at the most.
const READ_LEN: usize = 256 * 1024;

/// One send(2) gives as much at the most.
const WRITE_LEN: usize = 1024 * 1024;

/// One connection; positions are in bytes of its stream.
struct Flow {
    socket: Socket,
    /// Up to where messages were begun.
    issued: u64,
    sent: u64,
    received: u64,
    /// When the messages that are out were begun, oldest first.
    begun: VecDeque<Instant>,
    /// Is room in the socket waited for?
    blocked: bool,
}

struct Load<'a> {
    order: &'a Order,
    pattern: Pattern,
    epoll: Epoll,
    flows: Vec<Flow>,
    window: Window<'a>,
    operations: u64,
    bytes: u64,
}

pub(super) fn run(order: &Order, gauge: &dyn Gauge) -> io::Result<Outcome> {
    let shape = order.shape;
    let sockets = flow::connect_proven(order.target, shape.connections, shape.size)?;
    let epoll = Epoll::new()?;
    let mut flows = Vec::with_capacity(sockets.len());
    for (index, socket) in sockets.into_iter().enumerate() {
        epoll.add(socket.0, EPOLLIN, index as u64)?;
        flows.push(Flow {
            socket,
            issued: 0,
            sent: 0,
            received: 0,
            begun: VecDeque::with_capacity(shape.depth),
            blocked: false,
        });
    }
    let reach = READ_LEN.max(WRITE_LEN.min(shape.size * shape.depth));
    let mut load = Load {
        order,
        pattern: Pattern::new(shape.size, reach),
        epoll,
        flows,
        window: Window::new(order.length, gauge)?,
        operations: 0,
        bytes: 0,
    };
    load.pour()?;
    let flows = &load.flows;
    if let Some(flow) = flows
        .iter()
        .find(|f| f.issued != f.received || f.sent != f.issued)
    {
        let (sent, received) = (flow.sent, flow.received);
        return Err(io::Error::other(format!(
            "{sent} bytes were sent and {received} came back"
        )));
    }
    load.window.outcome()
}

impl Load<'_> {
    /// Keeps messages in flight until the window is over and all are back.
    fn pour(&mut self) -> io::Result<()> {
        for index in 0..self.flows.len() {
            let now = (self.order.checks == Checks::All).then(Instant::now);
            self.issue(index, self.order.shape.depth as u64, now)?;
        }
        let mut events = [sys::NO_EVENT; sys::EVENTS];
        let mut buffer = vec![0; READ_LEN];
        let mut patience = Patience::new();
        while !self.window.is_over() || self.waiting() > 0 {
            let count = self.epoll.wait(&mut events, Some(STALL))?;
            patience.after(count, || self.waiting())?;
            for event in &events[..count] {
                let index = event.u64 as usize;
                if event.events & EPOLLOUT as u32 != 0 {
                    self.flush(index)?;
                }
                if event.events & !(EPOLLOUT as u32) != 0 {
                    self.receive(index, &mut buffer)?;
                }
            }
            self.window
                .turn(Instant::now(), self.operations, self.bytes)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let size = self.order.shape.size as u64;
        let flow = &mut self.flows[index];
        let len = match sys::recv(flow.socket.0, buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(len) => len,
            Err(e) if sys::is_transient(&e) => return Ok(()),
            Err(e) => return Err(super::context("receiving", &e)),
        };
        let now = match self.order.checks {
            Checks::All => {
                if !self.pattern.matches(flow.received, &buffer[..len]) {
                    return Err(io::Error::other("other bytes came back than were sent"));
                }
                Some(Instant::now())
            }
            Checks::None => None,
        };
        let before = flow.received / size;
        flow.received += len as u64;
        self.bytes += len as u64;
        if flow.received > flow.sent {
            return Err(io::Error::other("more bytes came back than were sent"));
        }
        let completed = flow.received / size - before;
        self.operations += completed;
        if let Some(now) = now {
            for begun in flow.begun.drain(..completed as usize) {
                self.window.record(now.saturating_duration_since(begun));
            }
        }
        if completed > 0 {
            self.issue(index, completed, now)?;
        }
        Ok(())
    }

    /// Begins up to `wanted` messages, at `now` if somebody is to know.
    fn issue(&mut self, index: usize, wanted: u64, now: Option<Instant>) -> io::Result<()> {
        let admitted = self.window.admit(wanted);
        if admitted == 0 {
            return Ok(());
        }
        let flow = &mut self.flows[index];
        flow.issued += admitted * self.order.shape.size as u64;
        if let Some(now) = now {
            flow.begun.extend((0..admitted).map(|_| now));
        }
        // While room is waited for, a write would only say so again.
        if flow.blocked {
            Ok(())
        } else {
            self.flush(index)
        }
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let flow = &mut self.flows[index];
        while flow.sent < flow.issued {
            let rest = usize::try_from(flow.issued - flow.sent).unwrap_or(usize::MAX);
            let bytes = self.pattern.at(flow.sent, rest.min(WRITE_LEN));
            match sys::send(flow.socket.0, bytes) {
                Ok(sent) => flow.sent += sent as u64,
                Err(e) if sys::is_transient(&e) => break,
                Err(e) => return Err(super::context("sending", &e)),
            }
        }
        let blocked = flow.sent < flow.issued;
        if blocked != flow.blocked {
            flow.blocked = blocked;
            let events = if blocked { EPOLLIN | EPOLLOUT } else { EPOLLIN };
            self.epoll.modify(flow.socket.0, events, index as u64)?;
        }
        Ok(())
    }

    /// How many connections wait for an answer.
    fn waiting(&self) -> usize {
        self.flows.iter().filter(|f| f.received < f.issued).count()
    }
}
