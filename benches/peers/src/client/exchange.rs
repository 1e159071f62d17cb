//! Messages there and back: over connections that stay open (a stream is the same with more in flight),
//! over a connection for each message, or as datagrams.
//!
//! Datagrams with a depth go out in bursts that the kernel segments, and come back joined where the
//! server's answers were joined. A datagram that is lost is an error: on loopback it means that the load
//! was too much.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::net::{self, RecvFlags, SendFlags};

use super::connect;
use super::load::{Checks, Load, Outcome, Service, Workload, failed, unless_blocked};
use super::pattern::Pattern;
use super::poll::Poll;
use super::window::Window;

/// The most that one recv(2) takes.
const MAX_READ: usize = 256 * 1024;

/// The most that one send(2) gives.
const MAX_WRITE: usize = 1024 * 1024;

/// The longest burst of datagrams, in bytes and in datagrams (udp(7)).
const MAX_BURST: (usize, usize) = (65_507, 64);

struct Connection {
    socket: OwnedFd,
    /// Bytes of messages that were begun and not sent yet.
    unsent: usize,
    /// Bytes that were sent and have not come back.
    in_flight: usize,
    /// Where in a message the next byte to send and to receive is, so that no message costs a division.
    send_offset: usize,
    receive_offset: usize,
    /// When the messages that are out were begun, oldest first.
    begun: VecDeque<Instant>,
    interest: EventFlags,
}

struct Client<'a> {
    load: &'a Load,
    pattern: Pattern,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    opened: u64,
    /// The most bytes that go out at once, and the fewest while others are in flight.
    write: (usize, usize),
    window: Window,
    operations: u64,
    bytes: u64,
}

pub(super) fn run(load: &Load) -> io::Result<Outcome> {
    let shape = load.shape;
    let mut write = (MAX_WRITE, 1);
    if load.workload.service() == Service::UdpEcho {
        // One half is on its way while the other is answered.
        let burst = shape.size * shape.depth.div_ceil(2).min(MAX_BURST.1);
        if burst > MAX_BURST.0 {
            return Err(failed(format!(
                "half of the datagrams in flight are {burst} bytes, more than one call takes ({})",
                MAX_BURST.0
            )));
        }
        write = (burst, burst);
    }
    let segment = (shape.depth > 1).then_some(shape.size);
    let sockets = match load.workload {
        Workload::Churn => Vec::new(),
        Workload::Udp | Workload::UdpBulk => (0..shape.connections)
            .map(|_| connect::datagrams(load.target, segment))
            .collect::<io::Result<_>>()?,
        _ => connect::proven(load.target, shape.connections, shape.size)?,
    };
    let reach = MAX_READ.max(MAX_WRITE.min(shape.size * shape.depth));
    let mut client = Client {
        load,
        pattern: Pattern::new(shape.size, reach),
        poll: Poll::new()?,
        connections: Vec::with_capacity(shape.connections),
        opened: 0,
        write,
        window: Window::new(load)?,
        operations: 0,
        bytes: 0,
    };
    client.connections.resize_with(shape.connections, || None);
    for (index, socket) in sockets.into_iter().enumerate() {
        client.register(index, socket)?;
    }
    client.exchange()?;
    client.expect_no_more()?;
    client.window.outcome()
}

/// How many messages end when `len` bytes are moved. Most often it is one at the most, for which a
/// division would be the dearest instruction of a round trip.
fn advance(offset: &mut usize, len: usize, size: usize) -> usize {
    let reached = *offset + len;
    let completed = match reached {
        reached if reached < size => 0,
        reached if reached < 2 * size => 1,
        reached => reached / size,
    };
    *offset = reached - completed * size;
    completed
}

impl Client<'_> {
    /// Keeps messages in flight until the window is over and all are back.
    fn exchange(&mut self) -> io::Result<()> {
        for index in 0..self.connections.len() {
            match self.load.workload {
                Workload::Churn => self.reopen(index)?,
                _ => self.issue(index, self.load.shape.depth, Instant::now())?,
            }
        }
        let mut buffer = vec![0; MAX_READ];
        while !self.window.is_closed() || self.is_waiting() {
            for number in 0..self.poll.wait()? {
                let (index, events) = self.poll.event(number);
                if events.contains(EventFlags::OUT) {
                    self.flush(index)?;
                }
                if events.intersects(!EventFlags::OUT) {
                    self.receive(index, &mut buffer)?;
                }
            }
            self.window
                .turn(Instant::now(), self.operations, self.bytes)?;
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        let mut open = self.connections.iter().flatten();
        open.any(|connection| connection.unsent + connection.in_flight > 0)
    }

    fn register(&mut self, index: usize, socket: OwnedFd) -> io::Result<()> {
        self.poll.add(&socket, index, EventFlags::IN)?;
        self.connections[index] = Some(Connection {
            socket,
            unsent: 0,
            in_flight: 0,
            send_offset: 0,
            receive_offset: 0,
            begun: VecDeque::with_capacity(self.load.shape.depth),
            interest: EventFlags::IN,
        });
        Ok(())
    }

    /// Closes the connection of a churn and begins the next. The client closes first, so that TIME_WAIT
    /// is on its side, as with most protocols.
    fn reopen(&mut self, index: usize) -> io::Result<()> {
        self.connections[index] = None;
        if self.window.admit(1) == 0 {
            return Ok(());
        }
        let begun = Instant::now();
        let socket = connect::begin(self.load.target, self.opened)?;
        self.opened += 1;
        self.register(index, socket)?;
        // Over loopback the handshake is complete as a rule when connect(2) returns.
        self.begin(index, 1, begun)
    }

    /// Begins up to `wanted` messages.
    fn issue(&mut self, index: usize, wanted: usize, now: Instant) -> io::Result<()> {
        // Without a new message, datagrams that wait for a full burst may still have to go.
        let admitted = self.window.admit(wanted);
        self.begin(index, admitted, now)
    }

    fn begin(&mut self, index: usize, count: usize, now: Instant) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        connection.unsent += count * self.load.shape.size;
        if self.load.checks == Checks::All {
            connection.begun.extend((0..count).map(|_| now));
        }
        // While room is waited for, a write would only say so again.
        match connection.interest.contains(EventFlags::OUT) {
            true => Ok(()),
            false => self.flush(index),
        }
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let (most, least) = self.write;
        let mut interest = EventFlags::IN;
        while connection.unsent >= least || (connection.unsent > 0 && connection.in_flight == 0) {
            let len = connection.unsent.min(most);
            let bytes = self.pattern.at(connection.send_offset, len);
            let sent = net::send(&connection.socket, bytes, SendFlags::NOSIGNAL);
            let Some(sent) = unless_blocked(sent, "sending")? else {
                interest |= EventFlags::OUT;
                break;
            };
            connection.unsent -= sent;
            connection.in_flight += sent;
            advance(&mut connection.send_offset, sent, self.load.shape.size);
        }
        if interest != connection.interest {
            connection.interest = interest;
            self.poll
                .set_interest(&connection.socket, index, interest)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let received = net::recv(&connection.socket, &mut *buffer, RecvFlags::empty());
        let Some((len, _)) = unless_blocked(received, "receiving")? else {
            return Ok(());
        };
        let is_datagram = self.load.workload.service() == Service::UdpEcho;
        if len == 0 && !is_datagram {
            return Err(failed("the server closed a connection"));
        }
        if len > connection.in_flight {
            return Err(failed("more bytes came back than were sent"));
        }
        let offset = connection.receive_offset;
        let completed = advance(&mut connection.receive_offset, len, self.load.shape.size);
        if is_datagram && (connection.receive_offset != 0 || completed == 0) {
            return Err(failed("a datagram of another length came back"));
        }
        connection.in_flight -= len;
        self.operations += completed as u64;
        self.bytes += len as u64;
        let mut now = self.poll.last_event;
        if self.load.checks == Checks::All {
            if !self.pattern.matches(offset, &buffer[..len]) {
                return Err(failed("other bytes came back than were sent"));
            }
            now = Instant::now();
            for begun in connection.begun.drain(..completed) {
                self.window.record(now - begun);
            }
        }
        match self.load.workload {
            _ if completed == 0 => Ok(()),
            Workload::Churn => self.reopen(index),
            _ => self.issue(index, completed, now),
        }
    }

    /// Fails if something else came back by now.
    fn expect_no_more(&self) -> io::Result<()> {
        let mut byte = [0];
        for connection in self.connections.iter().flatten() {
            if net::recv(&connection.socket, &mut byte, RecvFlags::empty()).is_ok() {
                return Err(failed("more bytes came back than were sent"));
            }
        }
        Ok(())
    }
}
