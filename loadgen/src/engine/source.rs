//! Where a thread's messages come from: when each is due, how large it is, and what it contains.

use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::payload::{Payload, StreamId};
use super::schedule::Schedule;
use super::slice::Contents;
use super::task::Task;
use crate::plan::sizes::Sizes;

/// Messages of a thread that may be queued or out at a time. Beyond it, messages that are due are
/// counted as unsent, so that a server that stands still can't fill the client's memory.
const MAX_OUTSTANDING: usize = 1 << 21;

/// A message that is due.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// When it is to be sent.
    pub(crate) intended: u64,
    /// Whether it belongs to the window.
    pub(crate) counted: bool,
    /// Whether it had to wait until a flow was idle.
    pub(crate) has_waited: bool,
}

/// A thread's messages.
#[derive(Debug)]
pub(crate) struct MessageSource {
    pub(crate) schedule: Schedule,
    pub(crate) payload: Arc<Payload>,
    /// Whether what comes back is compared with what was sent.
    pub(crate) is_verifying: bool,
    sizes: Sizes,
    size_rng: Xoshiro256PlusPlus,
    /// A datagram is put together here.
    datagram: Vec<u8>,
    /// Messages queued or out, over all flows.
    pub(crate) outstanding: usize,
}

impl MessageSource {
    /// Messages whose schedule is not known yet.
    pub(crate) fn new(task: &Task) -> Self {
        let plan = &task.plan;
        let size_seed = plan.seed ^ (task.index as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            schedule: Schedule::idle(),
            payload: Arc::clone(&task.payload),
            is_verifying: plan.verify,
            sizes: plan.size.clone(),
            size_rng: Xoshiro256PlusPlus::seed_from_u64(size_seed),
            datagram: Vec::new(),
            outstanding: 0,
        }
    }

    /// Whether no more messages may be queued.
    pub(crate) fn is_full(&self) -> bool {
        self.outstanding >= MAX_OUTSTANDING
    }

    /// The size of the next message.
    #[inline]
    pub(crate) fn draw_size(&mut self) -> u32 {
        self.sizes.draw(&mut self.size_rng)
    }

    /// The largest size of a message.
    pub(crate) fn max_size(&self) -> u32 {
        self.sizes.most()
    }

    /// Where `bytes`, received at `position` of `stream`, first differ from what was sent there, if
    /// that is looked at.
    #[inline]
    pub(crate) fn first_difference(
        &self,
        stream: StreamId,
        position: u64,
        bytes: &[u8],
    ) -> Option<usize> {
        if self.is_verifying {
            self.payload.first_difference(stream, position, bytes)
        } else {
            None
        }
    }

    /// What a message is found to contain in which no difference was seen.
    #[inline]
    pub(crate) fn undisputed(&self) -> Contents {
        if self.is_verifying {
            Contents::Right
        } else {
            Contents::Unknown
        }
    }

    /// What a datagram of `stream` that was sent with `size` bytes is found to contain.
    pub(crate) fn datagram_contents(
        &self,
        stream: StreamId,
        sequence: u64,
        size: u32,
        bytes: &[u8],
    ) -> Contents {
        let is_whole = bytes.len() == size as usize;
        if !is_whole || (self.is_verifying && !self.payload.is_datagram(stream, sequence, bytes)) {
            Contents::Wrong
        } else {
            self.undisputed()
        }
    }

    /// The datagram of `stream` with this sequence number.
    pub(crate) fn datagram(&mut self, stream: StreamId, sequence: u64, size: u32) -> &[u8] {
        self.payload
            .fill_datagram(stream, sequence, size, &mut self.datagram);
        &self.datagram
    }
}
