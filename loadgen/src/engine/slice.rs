//! What a thread records while it measures: histograms and counts, one [`Slice`] for each interval.
//!
//! Histograms add, and so do counts: a slice of several threads, the whole run, and later the union
//! of several hosts are all sums of slices, exact to the last sample. No percentile is computed
//! here; that happens on another thread, out of the way of the measurement.

use std::ops::AddAssign;

use hdrhistogram::Histogram;

use super::histogram::{BucketCounts, Distribution, add};
use super::in_flight::{Done, Sent};
use super::tcp::TcpSamples;
use crate::result::Counts;

/// What happened in one interval. A measuring thread records into tallies, which are cheaper; what is
/// added up and read are histograms.
#[derive(Clone, Debug)]
pub struct Slice<D = Histogram<u64>> {
    /// From the intended time to the last byte of the echo. Recorded in an open loop only: in a
    /// closed loop it is the service time.
    pub response: D,
    /// From the start of the call that handed the message to the kernel to the last byte of its
    /// echo.
    pub service: D,
    /// From the intended time to the start of that call, of messages that had to wait for this
    /// program alone. Recorded in an open loop only, as the next two are.
    pub free_lag: D,
    /// The same, of messages that had to wait for their connection: it was full, or down, or its
    /// pipeline was at its bound.
    pub held_lag: D,
    /// The part of the held messages' lag that is this program's own: from the intended time until
    /// it would have written the message, had the connection taken it.
    pub held_own_lag: D,
    /// From the start of the connect call until the connection stood.
    pub connect: D,
    /// From the start of the write call to the first byte of the echo. Recorded where each message
    /// has a connection of its own.
    pub first_byte: D,
    /// From the half-close until the peer had closed too; recorded as `first_byte` is.
    pub close: D,
    /// What TCP said of the connections.
    pub tcp: TcpSamples,
    /// How often what happened.
    pub counts: Counts,
}

/// What a message was found to contain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contents {
    /// Every byte is right.
    Right,
    /// A byte is wrong.
    Wrong,
    /// It was not compared, or what it should contain is not known.
    Unknown,
}

impl Slice<BucketCounts> {
    /// An empty slice whose memory is there: recording into it takes no page faults, which would
    /// be measured as latency.
    pub fn touched() -> Box<Self> {
        let mut slice = Box::<Self>::default();
        for tally in slice.distributions_mut() {
            tally.clear();
        }
        slice
    }

    /// Records a message whose first byte was handed to the kernel by a call that began at `began`.
    #[inline]
    pub fn record_sent(&mut self, sent: Sent, began: u64, is_open_loop: bool) {
        if !sent.counted {
            return;
        }
        self.counts.sent += 1;
        if is_open_loop {
            let lag = began.saturating_sub(sent.intended);
            let tally = if sent.held {
                &mut self.held_lag
            } else {
                &mut self.free_lag
            };
            tally.record(lag);
        }
    }

    /// Records that a counted message intended for `intended` has to wait for its connection from
    /// `now` on.
    pub fn record_held(&mut self, intended: u64, now: u64) {
        self.held_own_lag.record(now.saturating_sub(intended));
    }

    /// Records how long a message took whose echo was complete at `now`.
    #[inline]
    pub fn record_latency(&mut self, done: &Done, now: u64, is_open_loop: bool) {
        self.service.record(now.saturating_sub(done.write_began));
        if is_open_loop {
            self.response.record(now.saturating_sub(done.intended));
        }
    }

    /// Records what a complete message was found to contain.
    #[inline]
    pub fn record_contents(&mut self, counted: bool, contents: Contents) {
        match contents {
            Contents::Right => self.counts.verified += u64::from(counted),
            Contents::Wrong if counted => self.counts.corrupt += 1,
            Contents::Wrong => self.counts.corrupt_in_warm_up += 1,
            Contents::Unknown => {}
        }
    }

    /// Forgets everything, keeping the memory.
    pub fn clear(&mut self) {
        for tally in self.distributions_mut() {
            // Most are unused in any one workload, and all of its memory would be written to.
            if !tally.is_empty() {
                tally.clear();
            }
        }
        self.tcp = TcpSamples::default();
        self.counts = Counts::default();
    }
}

impl Slice {
    /// The lag of all messages, whoever caused it.
    pub fn send_lag(&self) -> Histogram<u64> {
        sum(&self.free_lag, &self.held_lag)
    }

    /// The lag of all messages as far as this program caused it.
    pub fn own_send_lag(&self) -> Histogram<u64> {
        sum(&self.free_lag, &self.held_own_lag)
    }
}

impl<D: Distribution> Slice<D> {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self {
            response: D::empty(),
            service: D::empty(),
            free_lag: D::empty(),
            held_lag: D::empty(),
            held_own_lag: D::empty(),
            connect: D::empty(),
            first_byte: D::empty(),
            close: D::empty(),
            tcp: TcpSamples::default(),
            counts: Counts::default(),
        }
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
            && self.tcp == TcpSamples::default()
            && self.distributions().iter().all(|all| all.has_none())
    }

    fn distributions(&self) -> [&D; 8] {
        [
            &self.response,
            &self.service,
            &self.free_lag,
            &self.held_lag,
            &self.held_own_lag,
            &self.connect,
            &self.first_byte,
            &self.close,
        ]
    }

    fn distributions_mut(&mut self) -> [&mut D; 8] {
        [
            &mut self.response,
            &mut self.service,
            &mut self.free_lag,
            &mut self.held_lag,
            &mut self.held_own_lag,
            &mut self.connect,
            &mut self.first_byte,
            &mut self.close,
        ]
    }
}

fn sum(a: &Histogram<u64>, b: &Histogram<u64>) -> Histogram<u64> {
    let mut sum = a.clone();
    add(&mut sum, b);
    sum
}

impl<D: Distribution> Default for Slice<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Distribution> AddAssign<&Slice<D>> for Slice {
    fn add_assign(&mut self, other: &Slice<D>) {
        for (sum, part) in self
            .distributions_mut()
            .into_iter()
            .zip(other.distributions())
        {
            part.add_onto(sum);
        }
        self.tcp += other.tcp;
        self.counts += other.counts;
    }
}

#[cfg(test)]
mod tests;
