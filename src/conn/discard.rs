//! Discard, RFC 863.

use std::io;

use super::connection::{Conn, Input, MAX_READS_PER_PUMP, Next};
use crate::metrics::{CloseReason, WorkerMetrics};
use crate::net::stream::Stream;

impl<S: Stream> Conn<S> {
    /// Discards input until it ends.
    pub(super) fn discard(
        &mut self,
        buffer: &mut [u8],
        metrics: &WorkerMetrics,
    ) -> io::Result<Next> {
        for _ in 0..MAX_READS_PER_PUMP {
            if !self.ready.is_readable() {
                return Ok(Next::Wait);
            }
            match self.discard_input(buffer)? {
                Input::Bytes(count) => metrics.received_bytes.add(count as u64),
                Input::Blocked => return Ok(Next::Wait),
                Input::Interrupted => return Ok(Next::Yield),
                Input::End => return Ok(Next::Close(CloseReason::Finished)),
            }
        }
        Ok(Next::Yield)
    }
}
