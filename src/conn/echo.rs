//! Echo, RFC 862.

use std::io;

use super::{Conn, Flushed, Input, Next, READS_PER_PUMP};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::stream::Stream;

impl<S: Stream> Conn<S> {
    /// Returns what comes until the input has ended and all of it was returned.
    #[inline(always)]
    pub(super) fn echo(&mut self, buffer: &mut [u8], metrics: &WorkerMetrics) -> io::Result<Next> {
        let mut reads = READS_PER_PUMP;
        loop {
            if !self.backlog.is_empty() {
                match self.flush(metrics)? {
                    Flushed::All => {}
                    Flushed::Blocked => return Ok(Next::Wait),
                    Flushed::Interrupted => return Ok(Next::Yield),
                }
            }
            if !self.ready.is_readable() {
                return Ok(Next::Wait);
            }
            if reads == 0 {
                return Ok(Next::Yield);
            }
            reads -= 1;
            match self.read(buffer)? {
                Input::Bytes(count) => {
                    metrics.received_bytes.add(count as u64);
                    let input = &buffer[..count];
                    match self.stream.write(input) {
                        Ok(written) if written == count => metrics.sent_bytes.add(count as u64),
                        outcome => self.keep_rest(input, outcome, metrics)?,
                    }
                }
                Input::Blocked => return Ok(Next::Wait),
                Input::Interrupted => return Ok(Next::Yield),
                // All was returned, as nothing is read while there is a backlog. Closing sends the
                // end of our stream behind the last echoed byte, as shutting the write side down
                // before would: all input was read, so it can't become a reset.
                Input::End => return Ok(Next::Close(CloseReason::Finished)),
            }
        }
    }
}
