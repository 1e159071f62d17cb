//! One TLS connection without its socket: what rustls keeps, and the bytes that are on their way.
//!
//! rustls works on buffers of the caller's (its unbuffered API): records are decrypted in the buffer
//! that a thread lends to each of its connections in turn, and encrypted into another one. What a
//! session keeps between two calls is:
//! - a part of a record that has not come whole, or handshake messages in parts;
//! - plaintext of a record that did not fit the caller's buffer;
//! - records that the socket did not take: of one write, because there is no further one meanwhile,
//!   and at most one key update, which rustls answers once however many come. So reading need not wait
//!   for them; if it did, two sides that both send would wait for each other.
//!
//! The socket is edge-triggered. Its readiness is kept here, because plaintext that waits in the
//! session, or a record in parts, makes the readiness of the connection a different one.

use std::fmt;
use std::io::{self, ErrorKind};

use rustls::client::UnbufferedClientConnection;

use super::failure::Failure;
use super::queue::Queue;
use super::side::Side;
use super::steps::{self, MAX_OVERHEAD, Sink, Step, Stepped};
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;

mod ending;
mod sending;

/// The longest record: a header, 2^14 bytes and what encryption adds (RFC 8446 and RFC 5246, 6.2.3).
const MAX_RECORD: usize = 5 + (1 << 14) + 2048;
/// The longest handshake message that rustls accepts, with the headers of its records.
const MAX_HANDSHAKE_MESSAGE: usize = (1 << 16) + 4096;
/// Plaintext that one write encrypts: with one call for all of it, bulk costs few system calls.
const MAX_WRITE: usize = 64 << 10;
/// Records that hold as much as one write takes: where a peer sends streams in full ones, what one read
/// brings is written at once, and no part of a record is left of it.
const MAX_READ: usize = MAX_WRITE + 4 * 22;
/// Receives of one read that bring no plaintext: parts of a record, handshake messages, key updates.
const MAX_RECEIVES: usize = 4;

/// The buffers that a thread lends to each of its sessions in turn; empty between two calls.
#[derive(Debug)]
pub struct Buffers {
    /// Records as received; decrypted in place.
    incoming: Box<[u8]>,
    /// Records to send.
    outgoing: Vec<u8>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            incoming: vec![0; MAX_HANDSHAKE_MESSAGE + MAX_RECORD].into_boxed_slice(),
            outgoing: vec![0; MAX_WRITE + MAX_OVERHEAD],
        }
    }
}

/// A client's or a server's end of one connection.
pub struct Session<C> {
    connection: C,
    /// Received and not processed: a part of a record, or of a handshake message.
    incoming: Vec<u8>,
    plaintext: Queue,
    /// Records that the socket did not take, or that wait for the next write.
    outgoing: Queue,
    holding: Holding,
    /// The readiness of the socket, as [`Conn`](crate::conn::Conn) keeps that of a plain one.
    ready: Readiness,
    input: Input,
    output: Output,
    on_end: OnEnd,
    has_received: bool,
    failure: Option<Failure>,
}

/// A client's end of one connection.
pub type ClientSession = Session<UnbufferedClientConnection>;

/// What to do when the peer has ended its output by a close_notify.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum OnEnd {
    /// End ours as well, before the end is reported: the caller has no more to write, and closes.
    Answer,
    /// Go on writing. Only TLS 1.3 has such an end of one direction: in TLS 1.2 a close_notify has to
    /// be answered at once (RFC 5246, 7.2.1).
    GoOn,
}

/// Whether records that a read makes, such as tickets, wait for the answer to what it returns, which saves
/// a call and a segment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Holding {
    No,
    Yes,
    /// Some wait, which the socket was not offered.
    Some,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Input {
    Open,
    /// The peer sent a close_notify.
    Closed,
    /// The socket ended without it.
    Truncated,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Output {
    Open,
    /// Our close_notify is sent, or waits in the queue of records.
    Closed,
    /// The socket is half-closed, and its input discarded without decryption.
    Shut,
}

impl<C> fmt::Debug for Session<C> {
    /// Without rustls's state, which holds secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("ready", &self.ready)
            .field("input", &self.input)
            .field("output", &self.output)
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl<C: Side> Session<C> {
    /// The session of a connection whose socket is writable, like any fresh one, and not known to be
    /// readable.
    pub fn new(connection: C, on_end: OnEnd) -> Self {
        Self {
            connection,
            incoming: Vec::new(),
            plaintext: Queue::default(),
            outgoing: Queue::default(),
            holding: Holding::No,
            ready: Readiness::WRITABLE,
            input: Input::Open,
            output: Output::Open,
            on_end,
            has_received: false,
            failure: None,
        }
    }

    /// Lets records that a read makes wait for the next write, if the read returned plaintext. The caller
    /// flushes after its reads and writes.
    pub(super) fn hold_records(mut self) -> Self {
        self.holding = Holding::Yes;
        self
    }

    /// Adds readiness of the socket that the kernel reported.
    pub fn note(&mut self, readiness: Readiness) {
        self.ready |= readiness;
    }

    /// Whether the handshake is not complete.
    pub fn is_handshaking(&self) -> bool {
        self.connection.common().is_handshaking()
    }

    /// rustls's state of the connection: what was negotiated.
    pub fn connection(&self) -> &C {
        &self.connection
    }

    /// Why the connection failed, if it did so by TLS and not by its socket.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// Whether the peer has sent anything.
    pub fn has_received(&self) -> bool {
        self.has_received
    }

    /// Whether both sides have declared the end of their output.
    pub fn has_ended(&self) -> bool {
        self.input == Input::Closed && self.output != Output::Open
    }

    /// Bytes on the heap that wait for the peer or for the caller. The state of rustls is not counted;
    /// it does not depend on what the peer does.
    pub fn waiting_bytes(&self) -> usize {
        self.incoming.capacity() + self.plaintext.capacity() + self.outgoing.capacity()
    }

    /// Bytes of records that the socket has not taken.
    pub fn unsent_bytes(&self) -> usize {
        self.outgoing.rest().len()
    }

    /// The most that [`Session::waiting_bytes`] can become after a handshake, with reads of at most this
    /// length: a part of a record, the plaintext of two records, and one write.
    pub fn max_waiting_bytes() -> usize {
        MAX_RECORD + 2 * MAX_RECORD + MAX_WRITE + MAX_OVERHEAD
    }

    /// Whether nothing of the peer's is left in the session or the socket that the caller has not read,
    /// and nothing of ours that the socket has not taken. During a handshake nothing counts.
    pub(super) fn is_drained(&self, socket: &mut impl Stream) -> bool {
        self.is_handshaking()
            || self.incoming.is_empty()
                && self.plaintext.is_empty()
                && self.outgoing.is_empty()
                && socket.is_drained()
    }

    /// Whether only an event of the socket can bring more to read.
    pub(super) fn has_read_all(&self) -> bool {
        !self.ready.is_readable() && self.plaintext.is_empty() && self.input == Input::Open
    }

    /// Reads plaintext. 0 is the end that the peer declared by a close_notify.
    ///
    /// # Errors
    /// `WouldBlock` until the socket reports an event, `Interrupted` to call again soon; `UnexpectedEof`
    /// for an end without close_notify, `InvalidData` for any other failure of TLS (see
    /// [`Session::failure`]), else the socket's own.
    pub(super) fn read(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
        out: &mut [u8],
    ) -> io::Result<usize> {
        if self.output == Output::Shut {
            return socket.read(out);
        }
        if self.plaintext.is_empty() {
            let count = self.receive(socket, buffers, out)?;
            if count > 0 || self.plaintext.is_empty() {
                return Ok(count);
            }
        }
        let count = self.copy_kept(out);
        self.plaintext.take(count);
        Ok(count)
    }

    /// Copies plaintext and leaves it in the session.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub(super) fn peek(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
        out: &mut [u8],
    ) -> io::Result<usize> {
        if self.plaintext.is_empty() {
            self.receive(socket, buffers, &mut [])?;
        }
        Ok(self.copy_kept(out))
    }

    fn copy_kept(&self, out: &mut [u8]) -> usize {
        let kept = self.plaintext.rest();
        let count = kept.len().min(out.len());
        out[..count].copy_from_slice(&kept[..count]);
        count
    }

    /// Completes the handshake. Plaintext behind it is kept.
    ///
    /// # Errors
    /// As [`Session::read`], until it is complete.
    pub(super) fn handshake(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
    ) -> io::Result<()> {
        if !self.is_handshaking() {
            return Ok(());
        }
        let received = self.receive(socket, buffers, &mut []);
        if !self.is_handshaking() {
            // What else there is to say shows in the next read.
            return Ok(());
        }
        received?;
        // The peer has ended it in order.
        self.failure = Some(Failure::Closed);
        Err(ErrorKind::UnexpectedEof.into())
    }

    /// Whether the socket is half-closed, and its input to be discarded without decryption.
    pub(super) fn is_shut(&self) -> bool {
        self.output == Output::Shut
    }

    /// Receives and processes until there is plaintext, the input ended, or the socket is drained.
    fn receive(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
        out: &mut [u8],
    ) -> io::Result<usize> {
        self.try_flush(socket)?;
        if let Some(Failure::Tls(_)) = self.failure {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.is_handshaking() && !self.has_received {
            // A client speaks first.
            self.process(socket, buffers, 0, &mut [])?;
        }
        for _ in 0..MAX_RECEIVES {
            if self.input != Input::Open {
                return self.report_end(socket, buffers);
            }
            if !self.ready.is_readable() {
                return Err(ErrorKind::WouldBlock.into());
            }
            let kept = self.take_kept_input(buffers);
            let received = self.fill(socket, buffers, kept, out.len());
            let received = match received {
                Ok(received) => received,
                Err(error) => {
                    self.incoming.extend_from_slice(&buffers.incoming[..kept]);
                    return Err(error);
                }
            };
            if received == 0 {
                self.note_end_of_socket();
                continue;
            }
            self.has_received = true;
            let count = self.process(socket, buffers, kept + received, out)?;
            if count > 0 || !self.plaintext.is_empty() {
                return Ok(count);
            }
        }
        Err(ErrorKind::Interrupted.into())
    }

    /// Moves input that was kept to the front of the lent buffer, and returns its length.
    fn take_kept_input(&mut self, buffers: &mut Buffers) -> usize {
        let kept = self.incoming.len();
        if kept > 0 {
            buffers.incoming[..kept].copy_from_slice(&self.incoming);
            self.incoming = Vec::new();
        }
        kept
    }

    /// Receives behind the first `kept` bytes of the lent buffer, no more than fits `room` bytes of
    /// plaintext, but at least a record.
    fn fill(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
        kept: usize,
        room: usize,
    ) -> io::Result<usize> {
        let wanted = if room < MAX_WRITE { room } else { MAX_READ };
        let end = wanted.max(kept + MAX_RECORD).min(buffers.incoming.len());
        let free = &mut buffers.incoming[kept..end];
        let asked = free.len();
        match socket.read(free) {
            Ok(count) => {
                // As for a plain connection; see `Conn::note_taken`.
                if count < asked
                    && !self.ready.intersects(Readiness::HANGUP | Readiness::URGENT)
                    && socket.drained_by_short_read()
                {
                    self.ready.remove(Readiness::READABLE);
                }
                Ok(count)
            }
            Err(error) => {
                if error.kind() == ErrorKind::WouldBlock {
                    self.ready.remove(Readiness::READABLE | Readiness::URGENT);
                }
                Err(error)
            }
        }
    }

    /// Processes the first `len` bytes of the lent buffer, sends what that brings, and keeps the rest.
    fn process(
        &mut self,
        socket: &mut impl Stream,
        buffers: &mut Buffers,
        len: usize,
        out: &mut [u8],
    ) -> io::Result<usize> {
        let mut incoming = std::mem::take(&mut buffers.incoming);
        let stepped = self.step(&mut incoming[..len], buffers, out, 0, None);
        let rest = &incoming[stepped.discard..len];
        self.incoming.reserve_exact(rest.len());
        self.incoming.extend_from_slice(rest);
        buffers.incoming = incoming;
        if self.may_hold(&stepped) {
            self.outgoing.push(&buffers.outgoing[..stepped.written]);
            self.holding = Holding::Some;
            return Ok(stepped.count);
        }
        let (_, count) = self.finish_steps(socket, buffers, stepped)?;
        Ok(count)
    }

    /// Lets rustls process input until nothing more comes of it, and then encrypts `bytes`, all behind
    /// `held` bytes of records.
    fn step(
        &mut self,
        incoming: &mut [u8],
        buffers: &mut Buffers,
        out: &mut [u8],
        held: usize,
        bytes: Option<&[u8]>,
    ) -> Stepped {
        if let Some(Failure::Tls(error)) = &self.failure {
            return Stepped::failed(error.clone());
        }
        let sink = Sink::new(out, &mut self.plaintext, &mut buffers.outgoing, held);
        let stepped = steps::run(&mut self.connection, incoming, sink, bytes);
        if stepped.has_peer_closed {
            self.input = Input::Closed;
        }
        stepped
    }

    /// Sends the records of some steps, and reports a failure.
    fn finish_steps(
        &mut self,
        socket: &mut impl Stream,
        buffers: &Buffers,
        stepped: Stepped,
    ) -> io::Result<(Step, usize)> {
        let sent = self.send(socket, buffers, stepped.written);
        if let Step::Failed(error) = stepped.last {
            let is_first = self.failure.is_none();
            self.output = Output::Closed;
            // What of it the caller's buffer took is not returned, so neither is what came behind that.
            self.plaintext = Queue::default();
            if is_first {
                self.failure = Some(Failure::Tls(error));
            }
            return Err(ErrorKind::InvalidData.into());
        }
        sent?;
        Ok((stepped.last, stepped.count))
    }
}
