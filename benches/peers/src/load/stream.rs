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
    /// The same within a message, so that nothing is divided for each.
    sent_in_message: usize,
    received_in_message: usize,
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
            sent_in_message: 0,
            received_in_message: 0,
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
    // Whatever else came back by now is too much.
    let mut byte = [0];
    if flows
        .iter()
        .any(|f| sys::recv(f.socket.0, &mut byte).is_ok())
    {
        return Err(io::Error::other("the server went on when all was back"));
    }
    load.window.outcome()
}

/// How many messages end within `reached` bytes of the first one's start. Most often that is one, for
/// which a division would be the dearest instruction of a round trip.
fn messages_within(reached: usize, size: usize) -> usize {
    match reached {
        r if r < size => 0,
        r if r < 2 * size => 1,
        r => r / size,
    }
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
        let size = self.order.shape.size;
        let flow = &mut self.flows[index];
        let len = match sys::recv(flow.socket.0, buffer) {
            Ok(0) => return Err(io::Error::other("the server closed a connection")),
            Ok(len) => len,
            Err(e) if sys::is_transient(&e) => return Ok(()),
            Err(e) => return Err(super::context("receiving", &e)),
        };
        let now = match self.order.checks {
            Checks::All => {
                if !self
                    .pattern
                    .matches(flow.received_in_message, &buffer[..len])
                {
                    return Err(io::Error::other("other bytes came back than were sent"));
                }
                Some(Instant::now())
            }
            Checks::None => None,
        };
        flow.received += len as u64;
        self.bytes += len as u64;
        if flow.received > flow.sent {
            return Err(io::Error::other("more bytes came back than were sent"));
        }
        let reached = flow.received_in_message + len;
        let completed = messages_within(reached, size);
        flow.received_in_message = reached - completed * size;
        self.operations += completed as u64;
        if let Some(now) = now {
            for begun in flow.begun.drain(..completed) {
                self.window.record(now.saturating_duration_since(begun));
            }
        }
        if completed > 0 {
            self.issue(index, completed as u64, now)?;
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
        let size = self.order.shape.size;
        let flow = &mut self.flows[index];
        while flow.sent < flow.issued {
            let rest = usize::try_from(flow.issued - flow.sent).unwrap_or(usize::MAX);
            let bytes = self.pattern.at(flow.sent_in_message, rest.min(WRITE_LEN));
            match sys::send(flow.socket.0, bytes) {
                Ok(sent) => {
                    flow.sent += sent as u64;
                    let reached = flow.sent_in_message + sent;
                    flow.sent_in_message = reached - messages_within(reached, size) * size;
                }
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
