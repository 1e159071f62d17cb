//! One flow: a connection that is made, used, and made anew when it ends.

use std::io::{self, IoSlice, Read, Write};
use std::net::SocketAddr;

use echomark::net::sys::monotonic_ns;
use echomark::net::tuning::{self, Tuning};
use mio::event::Event;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

use crate::meter::Meter;
use crate::payload::StreamId;
use crate::workload::request::Requests;

/// Reads of one flow before others have their turn: their waiting would be measured as latency.
const READS_PER_TURN: usize = 4;
/// Pieces of the payload table that one write call may gather: 128 KiB and more.
const PIECES_PER_WRITE: usize = 9;
/// How long a flow waits before it connects anew after a connection that never echoed a byte;
/// doubled for each that follows, up to the second.
const FIRST_BACKOFF_NS: u64 = 10_000_000;
const LAST_BACKOFF_NS: u64 = 1_000_000_000;

/// A connection's life, again and again.
#[derive(Debug)]
pub(crate) struct Flow {
    /// Its number among the thread's flows.
    key: usize,
    /// Its number in the whole run.
    number: usize,
    /// Which target it belongs to.
    pub(crate) target: usize,
    address: SocketAddr,
    state: State,
    pub(crate) requests: Requests,
    incarnation: u32,
    id: StreamId,
    readable: bool,
    writable: bool,
    /// A hang-up was reported: only reading tells what it was.
    hangup: bool,
    /// Whether this connection has echoed a byte.
    has_echoed: bool,
    /// Connections in a row that failed or ended before they echoed a byte.
    pub(crate) barren: u32,
    /// Whether the last connection stood and ended before it echoed a byte.
    pub(crate) was_closed_at_once: bool,
    /// Whether it is in the worker's list of flows with something to write.
    pub(crate) is_dirty: bool,
    /// Whether it is in the worker's list of flows with more to read.
    pub(crate) is_unread: bool,
}

#[derive(Debug)]
enum State {
    Down { retry_at: u64 },
    Connecting { stream: TcpStream, began: u64 },
    Open { stream: TcpStream },
}

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It never stood.
    NotConnected(io::Error),
    /// The server ended it in good order.
    ByPeer,
    /// It was reset or broke.
    Broken,
    /// The server sent more than it had received.
    Excess,
    /// An echo did not come within the timeout.
    TimedOut,
}

/// What a call on a connection that is still being made came to.
#[derive(Debug)]
pub(crate) enum Connect {
    Pending,
    /// It stands; connecting took so many nanoseconds.
    Done(u64),
}

impl Flow {
    pub(crate) fn new(
        key: usize,
        number: usize,
        target: usize,
        address: SocketAddr,
        requests: Requests,
        meter: &Meter,
    ) -> Self {
        Self {
            key,
            number,
            target,
            address,
            state: State::Down { retry_at: 0 },
            requests,
            incarnation: 0,
            id: meter.payload.stream(number, 0),
            readable: false,
            writable: false,
            hangup: false,
            has_echoed: false,
            barren: 0,
            was_closed_at_once: false,
            is_dirty: false,
            is_unread: false,
        }
    }

    /// Starts to connect; the events of the connection carry `token`.
    pub(crate) fn connect(&mut self, registry: &Registry, token: Token) -> Result<(), Ended> {
        let began = monotonic_ns();
        let stream =
            tuning::connect(self.address, &Tuning::default()).map_err(Ended::NotConnected)?;
        let mut stream = TcpStream::from_std(stream);
        registry
            .register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)
            .map_err(Ended::NotConnected)?;
        self.state = State::Connecting { stream, began };
        Ok(())
    }

    /// Asks whether the connection stands, after an event: it does when there is no error and a
    /// peer (connect(2), EINPROGRESS).
    pub(crate) fn finish_connect(&mut self, meter: &Meter) -> Result<Connect, Ended> {
        let State::Connecting { stream, began } = &self.state else {
            return Ok(Connect::Pending);
        };
        let now = monotonic_ns();
        if let Some(error) = stream.take_error().unwrap_or_else(Some) {
            return Err(Ended::NotConnected(error));
        }
        match stream.peer_addr() {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                return Ok(Connect::Pending);
            }
            Err(error) => return Err(Ended::NotConnected(error)),
        }
        let took = now.saturating_sub(*began);
        if let State::Connecting { stream, .. } =
            std::mem::replace(&mut self.state, State::Down { retry_at: 0 })
        {
            self.state = State::Open { stream };
        }
        self.id = meter.payload.stream(self.number, self.incarnation);
        self.readable = true;
        self.writable = true;
        self.hangup = false;
        self.has_echoed = false;
        Ok(Connect::Done(took))
    }

    /// Adds what the kernel reported to what is known.
    pub(crate) fn note(&mut self, event: &Event) {
        let hangup = event.is_read_closed() || event.is_write_closed() || event.is_error();
        self.readable |= event.is_readable() || hangup;
        self.writable |= event.is_writable() || hangup;
        self.hangup |= hangup;
    }

    /// Reads, compares and records until the socket is empty. Returns whether it may not be.
    pub(crate) fn receive(&mut self, meter: &mut Meter, buffer: &mut [u8]) -> Result<bool, Ended> {
        for _ in 0..READS_PER_TURN {
            let State::Open { stream } = &mut self.state else {
                return Ok(false);
            };
            if !self.readable {
                return Ok(false);
            }
            match stream.read(buffer) {
                Ok(0) => return Err(Ended::ByPeer),
                Ok(count) => {
                    let now = monotonic_ns();
                    self.has_echoed = true;
                    self.barren = 0;
                    // A short read drained the socket, unless an end hides behind it (epoll(7)).
                    if count < buffer.len() && !self.hangup {
                        self.readable = false;
                    }
                    if count as u64 > self.requests.in_flight() {
                        return Err(Ended::Excess);
                    }
                    self.take(meter, &buffer[..count], now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended::Broken),
            }
        }
        Ok(self.readable)
    }

    /// Writes what is queued until nothing is left or the socket is full.
    pub(crate) fn send(&mut self, meter: &mut Meter) -> Result<(), Ended> {
        // Each turn either writes some of the bounded queue or leaves the loop.
        while self.writable {
            let State::Open { stream } = &mut self.state else {
                return Ok(());
            };
            let left = self.requests.writable();
            if left == 0 {
                return Ok(());
            }
            let mut pieces = [IoSlice::new(&[]); PIECES_PER_WRITE];
            let position = self.requests.write_position();
            let pieces = meter.payload.pieces(self.id, position, left, &mut pieces);
            let began = monotonic_ns();
            let written = match pieces {
                [piece] => stream.write(piece),
                pieces => stream.write_vectored(pieces),
            };
            match written {
                Ok(count) => {
                    let slice = &mut meter.slice;
                    let bytes = self.requests.wrote(count as u64, began, |sent| {
                        slice.record_sent(sent, began, meter.is_open_loop);
                    });
                    meter.slice.counts.bytes_sent += bytes;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.writable = false;
                    self.hold(began, meter);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended::Broken),
            }
        }
        Ok(())
    }

    /// From `now` on, what is queued waits for the connection.
    fn hold(&mut self, now: u64, meter: &mut Meter) {
        self.requests.hold(|intended| {
            if meter.is_open_loop {
                meter.slice.record_held(intended, now);
            }
        });
    }

    /// Gives the connection up. What was out is recorded as timed out or lost, and a closed loop
    /// gets its places back.
    pub(crate) fn end(&mut self, ended: &Ended, now: u64, meter: &mut Meter) {
        let counts = &mut meter.slice.counts;
        match ended {
            Ended::NotConnected(_) => counts.failed += 1,
            Ended::ByPeer => counts.closed_by_peer += 1,
            Ended::Broken => counts.reset += 1,
            // We end it ourselves.
            Ended::Excess | Ended::TimedOut => {}
        }
        let timed_out_before = match ended {
            Ended::TimedOut => now.saturating_sub(meter.timeout_ns),
            _ => 0,
        };
        self.hold(now, meter);
        let abandoned = self.requests.restart(timed_out_before);
        meter.slice.record_abandoned(abandoned);
        for _ in 0..abandoned.places {
            meter.pace.completed(self.key);
        }
        self.incarnation = self.incarnation.wrapping_add(1);
        let backoff = if self.has_echoed {
            0
        } else {
            self.barren += 1;
            FIRST_BACKOFF_NS
                .saturating_mul(1 << (self.barren - 1).min(16))
                .min(LAST_BACKOFF_NS)
        };
        self.was_closed_at_once =
            !self.has_echoed && matches!(ended, Ended::ByPeer | Ended::Broken);
        self.has_echoed = false;
        self.state = State::Down {
            retry_at: now + backoff,
        };
    }

    /// Whether it is time to connect anew.
    pub(crate) fn wants_to_connect(&self, now: u64) -> bool {
        matches!(self.state, State::Down { retry_at } if retry_at <= now)
    }

    /// Whether something has taken longer than `timeout_ns`: the connect, or the oldest echo.
    pub(crate) fn overdue(&self, now: u64, timeout_ns: u64) -> Option<Ended> {
        match self.state {
            State::Down { .. } => None,
            State::Connecting { began, .. } => (began + timeout_ns <= now)
                .then(|| Ended::NotConnected(io::ErrorKind::TimedOut.into())),
            State::Open { .. } => {
                let began = self.requests.oldest_write()?;
                (began + timeout_ns <= now).then_some(Ended::TimedOut)
            }
        }
    }

    pub(crate) fn is_connecting(&self) -> bool {
        matches!(self.state, State::Connecting { .. })
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Whether a message queued now could be written at once, as far as is known.
    pub(crate) fn can_write(&self) -> bool {
        self.is_open() && self.writable
    }

    /// Compares what arrived with what was sent and records every message that it completes.
    fn take(&mut self, meter: &mut Meter, mut bytes: &[u8], now: u64) {
        let requests = &mut self.requests;
        meter.enter_interval_of(now);
        meter.slice.counts.bytes_received += requests.counted_bytes(bytes.len() as u64);
        let position = requests.read_position();
        let difference = if meter.is_verifying {
            meter.payload.first_difference(self.id, position, bytes)
        } else {
            None
        };
        if let Some(offset) = difference {
            meter.note_corruption(self.number, position + offset as u64);
        }
        while !bytes.is_empty() {
            let missing = requests.missing();
            let part = bytes
                .len()
                .min(usize::try_from(missing).unwrap_or(usize::MAX));
            let (head, rest) = bytes.split_at(part);
            // Once a byte of this read was wrong, each message in it is judged by itself.
            let intact = difference.is_none()
                || meter
                    .payload
                    .first_difference(self.id, requests.read_position(), head)
                    .is_none();
            if let Some(done) = requests.received(part as u64, intact) {
                meter.record_done(self.key, done, now);
            }
            bytes = rest;
        }
    }
}
