//! The source of a thread's messages: when each is due, its size and its contents.

use std::num::NonZeroU32;
use std::sync::Arc;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::SeedableRng;

use super::payload::{ByteStream, Payload};
use super::schedule::Schedule;
use super::slice::Contents;
use super::task::Task;
use crate::plan::sizes::Sizes;

/// The maximum of a thread's messages that are queued or in flight. Further due messages count as
/// unsent, so that a stalled server can't fill the client's memory.
const MAX_OUTSTANDING: usize = 1 << 21;

/// A due message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    /// Its intended send time.
    pub(crate) intended: u64,
    /// Whether it belongs to the window.
    pub(crate) counted: bool,
    /// Whether it had to wait for an idle flow.
    pub(crate) has_waited: bool,
}

/// A thread's messages.
#[derive(Debug)]
pub(crate) struct MessageSource {
    pub(crate) schedule: Schedule,
    pub(crate) payload: Arc<Payload>,
    /// Whether received bytes are compared with the sent ones.
    pub(crate) is_verifying: bool,
    sizes: Sizes,
    /// The size of all messages, if they are alike: nothing has to be drawn.
    fixed_size: Option<NonZeroU32>,
    size_rng: Xoshiro256PlusPlus,
    /// Buffer for building a datagram.
    datagram: Vec<u8>,
    /// Messages queued or in flight, over all flows.
    pub(crate) outstanding: usize,
}

impl MessageSource {
    /// Messages without a schedule, which is set later.
    pub(crate) fn new(task: &Task) -> Self {
        let plan = &task.plan;
        let size_seed = plan.seed ^ (task.share().first as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            schedule: Schedule::idle(),
            payload: Arc::clone(&task.payload),
            is_verifying: plan.verify,
            fixed_size: plan.size.fixed().and_then(NonZeroU32::new),
            sizes: plan.size.clone(),
            size_rng: Xoshiro256PlusPlus::seed_from_u64(size_seed),
            datagram: Vec::new(),
            outstanding: 0,
        }
    }

    /// Whether the limit of queued messages is reached.
    pub(crate) fn is_full(&self) -> bool {
        self.outstanding >= MAX_OUTSTANDING
    }

    /// The size of the next message.
    #[inline]
    pub(crate) fn draw_size(&mut self) -> u32 {
        match self.fixed_size {
            Some(size) => size.get(),
            None => self.sizes.draw(&mut self.size_rng),
        }
    }

    /// The maximum size of a message.
    pub(crate) fn max_size(&self) -> u32 {
        self.sizes.most()
    }

    /// The first index at which `bytes`, received at `position` of `stream`, differ from the sent
    /// bytes, if verification is on.
    #[inline]
    pub(crate) fn first_difference(
        &self,
        stream: &mut ByteStream,
        position: u64,
        bytes: &[u8],
    ) -> Option<usize> {
        if self.is_verifying {
            self.payload.first_difference(stream, position, bytes)
        } else {
            None
        }
    }

    /// The verification result of a message without a difference.
    #[inline]
    pub(crate) fn undisputed(&self) -> Contents {
        if self.is_verifying {
            Contents::Right
        } else {
            Contents::Unknown
        }
    }

    /// The first index at which `bytes` differ from the datagram of `stream` with this sequence
    /// number, if verification is on. The size is not verified.
    pub(crate) fn datagram_difference(
        &self,
        stream: &mut ByteStream,
        sequence: u64,
        bytes: &[u8],
    ) -> Option<usize> {
        if self.is_verifying {
            self.payload.datagram_difference(stream, sequence, bytes)
        } else {
            None
        }
    }

    /// Builds the datagram of `stream` with this sequence number.
    pub(crate) fn datagram(&mut self, stream: &mut ByteStream, sequence: u64, size: u32) -> &[u8] {
        self.payload
            .fill_datagram(stream, sequence, size, &mut self.datagram);
        &self.datagram
    }
}
