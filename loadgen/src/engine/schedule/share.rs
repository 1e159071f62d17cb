//! The part of a run's flows that a thread drives.

use crate::plan::Plan;

/// The flows of a run that a thread drives: every `stride`-th, beginning with `first`. The thread
/// numbers its own flows from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Flows of the whole run.
    pub total: usize,
    /// The thread's first flow.
    pub first: usize,
    /// Number of threads, in all processes that the run is shared by.
    pub stride: usize,
}

impl Share {
    /// The share of thread `index` of `plan`. The threads of all shards are numbered in turn, so that
    /// as many in one process have the same shares.
    pub(crate) fn of_thread(plan: &Plan, index: usize) -> Self {
        let (rank, size) = match &plan.shard {
            Some(shard) => (shard.rank, shard.size.get()),
            None => (0, 1),
        };
        Self {
            total: plan.connections.get(),
            first: rank + size * index,
            stride: size * plan.threads.get(),
        }
    }

    /// Number of flows in the share.
    pub fn len(&self) -> usize {
        self.total.saturating_sub(self.first).div_ceil(self.stride)
    }

    /// Whether the share has no flows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The share's part of a number of messages, as if each flow sent one in turn. The parts add up to the
    /// number, however the flows are shared.
    pub(super) fn part_of(&self, messages: u64) -> u64 {
        let total = self.total as u64;
        let begun = Self {
            total: (messages % total) as usize,
            ..*self
        };
        messages / total * self.len() as u64 + begun.len() as u64
    }

    /// The run-wide number of the thread's flow `flow`.
    pub fn global(&self, flow: usize) -> usize {
        self.first + flow * self.stride
    }
}
