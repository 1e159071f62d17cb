//! The part of a run's flows that a thread drives.

/// The flows of a run that a thread drives: every `stride`-th, beginning with `first`. The thread
/// numbers its own flows from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Flows of the whole run.
    pub total: usize,
    /// The thread's first flow.
    pub first: usize,
    /// Number of threads.
    pub stride: usize,
}

impl Share {
    /// Number of flows in the share.
    pub fn len(&self) -> usize {
        self.total.saturating_sub(self.first).div_ceil(self.stride)
    }

    /// Whether the share has no flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The share's part of a number of messages, in proportion to its flows. The parts of all threads
    /// add up to the number.
    pub(super) fn part_of(&self, messages: u64) -> u64 {
        let flows_before = |thread: usize| {
            let flows = self.total / self.stride * thread + (self.total % self.stride).min(thread);
            flows as u128
        };
        let messages_before =
            |thread| u128::from(messages) * flows_before(thread) / self.total as u128;
        (messages_before(self.first + 1) - messages_before(self.first)) as u64
    }

    /// The run-wide number of the thread's flow `flow`.
    pub fn global(&self, flow: usize) -> usize {
        self.first + flow * self.stride
    }
}
