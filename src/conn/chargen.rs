//! Character generator, RFC 864.

use std::io;

use super::connection::{Chargen, Conn, Input, MAX_READS_PER_PUMP, Next, State};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::errno;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::service::chargen::{self, CYCLE, MAX_LEN};

/// Writes of [`MAX_LEN`] bytes in one call: otherwise only the peer's window would limit it, and
/// one connection could occupy the worker.
const MAX_WRITES_PER_PUMP: usize = 4;

impl<S: Stream> Conn<S> {
    /// Sends the pattern as fast as the peer takes it and discards input. The end of the input does
    /// not end the output: the peer closes the connection (RFC 864), and after a half-close it
    /// still reads.
    pub(super) fn chargen(
        &mut self,
        mut chargen: Chargen,
        buffer: &mut [u8],
        metrics: &WorkerMetrics,
    ) -> io::Result<Next> {
        let next = match self.ignore_input(&mut chargen, buffer, metrics) {
            Ok(()) => self.generate(&mut chargen, metrics),
            Err(error) => Err(error),
        };
        self.state = State::Chargen(chargen);
        next
    }

    fn ignore_input(
        &mut self,
        chargen: &mut Chargen,
        buffer: &mut [u8],
        metrics: &WorkerMetrics,
    ) -> io::Result<()> {
        for _ in 0..MAX_READS_PER_PUMP {
            if !self.ready.is_readable() {
                break;
            }
            match self.discard_input(buffer)? {
                Input::Bytes(count) => metrics.received_bytes.add(count as u64),
                Input::Blocked | Input::Interrupted => break,
                Input::End => chargen.has_input_ended = true,
            }
        }
        Ok(())
    }

    fn generate(&mut self, chargen: &mut Chargen, metrics: &WorkerMetrics) -> io::Result<Next> {
        for _ in 0..MAX_WRITES_PER_PUMP {
            if !self.ready.is_writable() {
                // Unread input raises no further event.
                return Ok(if self.ready.is_readable() {
                    Next::Yield
                } else {
                    Next::Wait
                });
            }
            let offset = usize::from(chargen.offset);
            match self.stream.write(chargen::from(offset, MAX_LEN)) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    metrics.sent_bytes.add(written as u64);
                    // The offset is below CYCLE, which fits.
                    chargen.offset = ((offset + written) % CYCLE) as u16;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.ready.remove(Readiness::WRITABLE)
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(Next::Yield),
                // The peer had closed both directions; our next write revealed it.
                Err(error) if chargen.has_input_ended && errno::is_disconnect(&error) => {
                    return Ok(Next::Close(CloseReason::Finished));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Next::Yield)
    }
}
