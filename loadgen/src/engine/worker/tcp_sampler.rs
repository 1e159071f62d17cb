//! Which connections TCP is asked about, and when: each in turn, once in an interval.

/// The most connections asked about between two turns of the event loop,
const MAX_SAMPLED: u64 = 32;
/// and what asking about one may take of the time until the next message is due.
const SAMPLE_NS: u64 = 2_000;

/// A round over all connections in each interval.
#[derive(Debug, Default)]
pub(super) struct TcpSampler {
    /// The flow that was asked about last.
    last: usize,
    /// How many were asked about in this round.
    sampled: usize,
    next_round_at: u64,
    /// How many may still be asked about in this turn.
    fitting: u64,
}

impl TcpSampler {
    /// Begins with a turn at `now`: as many connections as fit into the time until the next message is
    /// due, and one in any case.
    pub(super) fn begin(&mut self, now: u64, interval_ns: u64, next_due: Option<u64>) {
        if now >= self.next_round_at {
            self.next_round_at = now + interval_ns;
            self.sampled = 0;
        }
        self.fitting = next_due.map_or(MAX_SAMPLED, |due| {
            (due.saturating_sub(now) / SAMPLE_NS).clamp(1, MAX_SAMPLED)
        });
    }

    /// The next of `flows` to be asked about in this turn.
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
