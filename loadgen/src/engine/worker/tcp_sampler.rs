//! Selects connections for TCP_INFO samples: each in turn, once in an interval.

/// Maximum of samples between two turns of the event loop,
const MAX_SAMPLED: u64 = 32;
/// and the time allowed for one sample before the next message is due.
const SAMPLE_NS: u64 = 2_000;

/// One round over all connections in each interval.
#[derive(Debug, Default)]
pub(super) struct TcpSampler {
    /// The last sampled flow.
    last: usize,
    /// Number of flows sampled in this round.
    sampled: usize,
    next_round_at: u64,
    /// Samples left in this turn.
    fitting: u64,
}

impl TcpSampler {
    /// Begins a turn at `now`: as many samples as fit into the time until the next message is due,
    /// at least one.
    pub(super) fn begin(&mut self, now: u64, interval_ns: u64, next_due: Option<u64>) {
        if now >= self.next_round_at {
            self.next_round_at = now + interval_ns;
            self.sampled = 0;
        }
        self.fitting = next_due.map_or(MAX_SAMPLED, |due| {
            (due.saturating_sub(now) / SAMPLE_NS).clamp(1, MAX_SAMPLED)
        });
    }

    /// The next flow to sample in this turn.
    pub(super) fn next(&mut self, flows: usize) -> Option<usize> {
        if self.fitting == 0 || self.sampled >= flows {
            return None;
        }
        self.fitting -= 1;
        self.sampled += 1;
        self.last = (self.last + 1) % flows;
        Some(self.last)
    }
}
