//! The begin of a connection that waits for its PROXY header. The header stays in the kernel until it
//! is whole, so that a connection needs no memory for a part of it.

use std::io;

use super::connection::{Conn, Input, Next, State};
use super::scratch::{Lent, Scratch};
use crate::metrics::{CloseReason, ProxyError, WorkerMetrics};
use crate::net::readiness::Readiness;
use crate::net::stream::{Stream, Taken};
use crate::proxy_protocol::{self, Begin, Header, MAX_HEADER_LEN};
use crate::service::Service;

/// The begin of a connection, as far as it has come.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    /// An event reports more.
    NotYet,
    /// A header. It was taken out of the stream, or it is what [`Conn::begin`] has to be told of.
    Header(Header<'a>, Left),
    /// Not a header. It is still in the stream.
    Other,
    /// Neither.
    Failed(ProxyError),
    /// The stream failed, or has to be tried again.
    Ended(Next),
}

/// Bytes of a header that are still in the stream, before others.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Left(u16);

/// Whether a header may stay in the stream, to be taken together with what came with it: a call less.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum MayStay {
    No,
    Yes,
}

impl<S: Stream> Conn<S> {
    /// A connection that does nothing before [`Conn::begin`].
    pub(crate) fn awaiting_header(stream: S) -> Self {
        let mut conn = Self::new(stream, Service::Echo);
        conn.state = State::AwaitingHeader;
        conn
    }

    /// Whether it waits for its header.
    pub(crate) fn is_awaiting_header(&self) -> bool {
        self.state == State::AwaitingHeader
    }

    /// Starts the service.
    pub(crate) fn begin(&mut self, service: Service, left: Left) {
        self.state = match left {
            Left(0) => State::of(service),
            Left(len) => State::EchoBehind(len),
        };
    }

    /// Looks for the header, and takes it if it is whole. If that is allowed, a header with something behind
    /// it stays, for an echo.
    pub(crate) fn find_header<'a>(
        &mut self,
        buffer: &'a mut [u8; MAX_HEADER_LEN],
        may_stay: MayStay,
    ) -> Found<'a> {
        if !self.ready.is_readable() {
            return Found::NotYet;
        }
        let count = match self.peek(buffer) {
            Ok(Input::Bytes(count)) => count,
            Ok(Input::End) => return Found::Failed(ProxyError::NoData),
            Ok(Input::Blocked) => return Found::NotYet,
            Ok(Input::Interrupted) => return Found::Ended(Next::Yield),
            Err(error) => return Found::Ended(self.fail(&error)),
        };
        let len = match proxy_protocol::parse(&buffer[..count]) {
            Ok(Begin::Header(header)) => header.bytes.len(),
            Ok(Begin::Other) => return Found::Other,
            Ok(Begin::Incomplete) if self.ready.intersects(Readiness::HANGUP) => {
                return Found::Failed(ProxyError::Truncated);
            }
            Ok(Begin::Incomplete) => {
                // What is there stays, and only more of it raises an edge.
                self.ready.remove(Readiness::READABLE);
                return Found::NotYet;
            }
            Err(error) => return Found::Failed(error),
        };
        let mut left = Left::default();
        if may_stay == MayStay::Yes && count > len {
            left = Left(len as u16);
        } else if let Err(error) = self.take_written(&mut buffer[..len]) {
            return Found::Ended(self.fail(&error));
        }
        if count == len {
            // As after any short read: what follows raises an edge, and need not be looked for.
            self.note_taken(Taken {
                count,
                asked: MAX_HEADER_LEN,
            });
        }
        match proxy_protocol::parse(&buffer[..len]) {
            Ok(Begin::Header(header)) => Found::Header(header, left),
            // What was peeked is what was read.
            _ => Found::Ended(self.fail(&io::ErrorKind::InvalidData.into())),
        }
    }

    /// Takes the header and what came with it by one read, and echoes that.
    #[cold]
    pub(super) fn echo_behind(
        &mut self,
        header: u16,
        scratch: &mut Scratch<S::Pipe>,
        metrics: &WorkerMetrics,
    ) -> Next {
        let header = usize::from(header);
        let Some(Lent { buffer, memory }) = scratch.first_lent() else {
            return match self.take_written(&mut [0; MAX_HEADER_LEN][..header]) {
                Ok(()) => self.echo_from_now_on(scratch, metrics),
                Err(error) => self.fail(&error),
            };
        };
        let count = match self.read(buffer) {
            Ok(Input::Bytes(count)) => count,
            // They were seen there.
            Ok(Input::End) => return self.finish(CloseReason::Finished),
            Ok(Input::Blocked) => return Next::Wait,
            Ok(Input::Interrupted) => return Next::Yield,
            Err(error) => return self.fail(&error),
        };
        if let Some(missing) = header.checked_sub(count).filter(|it| *it > 0) {
            // An urgent mark divides the header.
            if let Err(error) = self.take_written(&mut [0; MAX_HEADER_LEN][..missing]) {
                return self.fail(&error);
            }
        }
        let input = &buffer[header.min(count)..count];
        if !input.is_empty() {
            metrics.received_bytes.add(input.len() as u64);
            match self.stream.write(input) {
                Ok(written) if written == input.len() => metrics.sent_bytes.add(written as u64),
                outcome => {
                    if let Err(error) = self.keep_rest(input, outcome, memory, metrics) {
                        self.state = State::Echo;
                        return self.fail(&error);
                    }
                }
            }
        }
        self.echo_from_now_on(scratch, metrics)
    }

    fn echo_from_now_on(
        &mut self,
        scratch: &mut Scratch<S::Pipe>,
        metrics: &WorkerMetrics,
    ) -> Next {
        self.state = State::Echo;
        self.pump(scratch, metrics)
    }

    /// Sends a text before anything else.
    pub(crate) fn greet(
        &mut self,
        text: &[u8],
        scratch: &mut Scratch<S::Pipe>,
        metrics: &WorkerMetrics,
    ) -> Next {
        match self.stream.write(text) {
            Ok(written) if written == text.len() => {
                metrics.sent_bytes.add(written as u64);
                Next::Wait
            }
            outcome => {
                if !scratch.can_keep() {
                    return self.finish(CloseReason::Memory);
                }
                match self.keep_rest(text, outcome, &mut scratch.memory, metrics) {
                    // An event reports room, but not to one that has some.
                    Ok(()) => Next::Yield,
                    Err(error) => self.fail(&error),
                }
            }
        }
    }
}
