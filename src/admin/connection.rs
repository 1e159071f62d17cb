//! One connection of the admin port.

use std::io::{self, Read, Write};
use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use super::http::{self, MAX_HEAD_LEN, Pages, Parse};
use crate::net::cidr::SourcePrefix;
use crate::net::stream::{Socket, Stream};

/// How long a connection may take from being accepted to the end of its response.
const DEADLINE: Duration = Duration::from_secs(5);
/// Time for a client to read the response that its request timed out.
const TIMEOUT_RESPONSE_DEADLINE: Duration = Duration::from_secs(1);
/// The most bytes that are read and discarded after a request. Closing with more unread resets the
/// connection, which may cost the client its response.
const MAX_DISCARDED: usize = 1 << 20;

/// One connection: a request, a response, a close.
#[derive(Debug)]
pub(super) struct Connection {
    stream: Socket,
    /// None for a Unix socket.
    pub(super) source: Option<SourcePrefix>,
    pub(super) accepted_at: Instant,
    pub(super) deadline: Instant,
    state: RequestState,
}

/// How far a connection has come, in the order in which connections are given up for new ones.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Progress {
    /// The response is out.
    Answered,
    /// No byte of a request has come.
    Silent,
    /// A part of the request has come.
    Asking,
    /// The response is being written.
    Answering,
}

#[derive(Debug)]
enum RequestState {
    /// The received part of the head, less than [`MAX_HEAD_LEN`].
    Reading(Vec<u8>),
    /// `written` bytes of the response are out.
    Writing { response: Vec<u8>, written: usize },
    /// We shut our side down and the client has not yet; `discarded` bytes were read and dropped
    /// since.
    Lingering { discarded: usize },
}

impl Connection {
    pub(super) fn new(stream: Socket, source: Option<SourcePrefix>, now: Instant) -> Self {
        Self {
            stream,
            source,
            accepted_at: now,
            deadline: now + DEADLINE,
            state: RequestState::Reading(Vec::new()),
        }
    }

    /// Reads and writes until the socket would block. `Break` means: close the connection.
    pub(super) fn drive(&mut self, buffer: &mut [u8], pages: &impl Pages) -> ControlFlow<()> {
        // Each round reads or writes at least one byte, of a bounded total, or returns.
        loop {
            match self.step(buffer, pages) {
                Ok(ControlFlow::Continue(())) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return ControlFlow::Continue(());
                }
                Ok(ControlFlow::Break(())) | Err(_) => return ControlFlow::Break(()),
            }
        }
    }

    /// One socket call and its consequence.
    fn step(&mut self, buffer: &mut [u8], pages: &impl Pages) -> io::Result<ControlFlow<()>> {
        match &mut self.state {
            RequestState::Reading(head) => {
                let room = buffer.len().min(MAX_HEAD_LEN - head.len());
                let count = self.stream.read(&mut buffer[..room])?;
                if count == 0 && head.is_empty() {
                    return Ok(ControlFlow::Break(()));
                }
                head.extend_from_slice(&buffer[..count]);
                match http::respond(head, pages) {
                    Parse::Response(response) => self.write(response),
                    // The client shut its side down before the request was complete.
                    Parse::Incomplete if count == 0 => self.write(http::bad_request()),
                    Parse::Incomplete => {}
                }
            }
            RequestState::Writing { response, written } => {
                *written += self.stream.write(&response[*written..])?;
                if *written == response.len() {
                    self.stream.shutdown_write()?;
                    self.state = RequestState::Lingering { discarded: 0 };
                }
            }
            RequestState::Lingering { discarded } => {
                let count = self.stream.read(buffer)?;
                *discarded += count;
                if count == 0 || *discarded > MAX_DISCARDED {
                    return Ok(ControlFlow::Break(()));
                }
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    pub(super) fn progress(&self) -> Progress {
        match &self.state {
            RequestState::Lingering { .. } => Progress::Answered,
            RequestState::Reading(head) if head.is_empty() => Progress::Silent,
            RequestState::Reading(_) => Progress::Asking,
            RequestState::Writing { .. } => Progress::Answering,
        }
    }

    fn write(&mut self, response: Vec<u8>) {
        self.state = RequestState::Writing {
            response,
            written: 0,
        };
    }

    /// Handles a passed deadline: a client that sent part of a request gets a timeout response;
    /// `Break` if it sent nothing.
    pub(super) fn expire(&mut self, now: Instant) -> ControlFlow<()> {
        match &self.state {
            RequestState::Reading(head) if !head.is_empty() => {
                self.write(http::request_timeout());
                self.deadline = now + TIMEOUT_RESPONSE_DEADLINE;
                ControlFlow::Continue(())
            }
            _ => ControlFlow::Break(()),
        }
    }
}
