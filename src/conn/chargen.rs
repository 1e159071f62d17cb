//! Character generator, RFC 864.

use std::io;

use super::{Conn, Input, Next, READS_PER_PUMP, State};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::service::chargen;

/// Writes in one call, each of [`chargen::MAX_LEN`] bytes: with nothing but the peer's window to
/// pace it, a connection would keep the worker to itself.
const WRITES_PER_PUMP: usize = 4;

impl<S: Stream> Conn<S> {
    /// Sends the pattern as fast as the peer takes it, and throws away what comes. The end of the
    /// input is not the end of the output: the calling user ends the connection (RFC 864), and one
    /// that only half-closed it still reads.
    pub(super) fn chargen(
        &mut self,
        buffer: &mut [u8],
        metrics: &WorkerMetrics,
    ) -> io::Result<Next> {
        self.ignore_input(buffer, metrics)?;
        for _ in 0..WRITES_PER_PUMP {
            if !self.ready.is_writable() {
                // What was not read yet would raise no further event.
                return Ok(if self.ready.is_readable() {
                    Next::Yield
                } else {
                    Next::Wait
                });
            }
            let pattern = chargen::from(usize::from(self.offset), chargen::MAX_LEN);
            match self.stream.write(pattern) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    metrics.sent_bytes.add(written as u64);
                    // Below CYCLE, which fits.
                    self.offset = ((usize::from(self.offset) + written) % chargen::CYCLE) as u16;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.remove(Readiness::WRITABLE)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Next::Yield),
                // The peer closed and our next bytes told us that it had meant both directions.
                Err(error) if self.state == State::Ended && errno::is_disconnect(&error) => {
                    return Ok(Next::Close(CloseReason::Finished));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Yield)
    }

    fn ignore_input(&mut self, buffer: &mut [u8], metrics: &WorkerMetrics) -> io::Result<()> {
        for _ in 0..READS_PER_PUMP {
            if !self.ready.is_readable() {
                break;
            }
            match self.throw_away(buffer)? {
                Input::Bytes(count) => metrics.received_bytes.add(count as u64),
                Input::Blocked | Input::Interrupted => break,
                Input::End => self.state = State::Ended,
            }
        }
        Ok(())
    }
}
