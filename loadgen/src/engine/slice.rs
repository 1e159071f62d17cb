//! The records of a measuring thread: histograms and counts, one [`Slice`] for each interval.
//!
//! Histograms and counts add. Slices of several threads, the whole run, and the union of several
//! hosts are all sums of slices, exact to the last sample. Percentiles are not computed here, but
//! on another thread, which does not disturb the measurement.

use std::ops::AddAssign;

use hdrhistogram::Histogram;

use super::histogram::{BucketCounts, Distribution, add};
use super::in_flight::{Done, Sent};
use super::tcp::TcpSamples;
use crate::result::Counts;

/// The events of one interval. Measuring threads record into [`BucketCounts`], which are cheaper;
/// sums and reports use histograms.
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
    /// The same time, for messages that had to wait for their connection: the socket was full or
    /// down, or the pipeline was at its limit.
    pub held_lag: D,
    /// The client's own part of the held messages' lag: from the intended time until the client
    /// would have written the message if the connection had accepted it.
    pub held_own_lag: D,
    /// From the start of the connect call until the connection was established.
    pub connect: D,
    /// From the start of the write call to the first byte of the echo. Recorded if each message has
    /// its own connection.
    pub first_byte: D,
    /// From the half-close until the peer closed too. Recorded as `first_byte` is.
    pub close: D,
    /// From the established connection to the end of its TLS handshake, if that was a full one,
    pub full_handshake: D,
    /// and if it resumed an earlier session.
    pub resumed_handshake: D,
    /// TCP_INFO samples of the connections.
    pub tcp: TcpSamples,
    /// Event counts.
    pub counts: Counts,
}

/// The result of verifying a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Contents {
    /// Every byte is right.
    Right,
    /// A byte is wrong.
    Wrong,
    /// The message was not compared, or its expected contents are unknown.
    Unknown,
}

impl Slice<BucketCounts> {
    /// An empty slice whose memory is mapped already. Page faults while recording would be measured
    /// as latency. Those of handshakes are not: most runs have none, and a page fault is short beside one.
    pub fn touched() -> Box<Self> {
        let mut slice = Box::<Self>::default();
        let [histograms @ .., _, _] = slice.distributions_mut();
        for histogram in histograms {
            histogram.clear();
        }
        slice
    }

    /// Records a message whose first byte was written by a call that began at `began`.
    #[inline]
    pub fn record_sent(&mut self, sent: Sent, began: u64, is_open_loop: bool) {
        if !sent.counted {
            return;
        }
        self.counts.sent += 1;
        if is_open_loop {
            let lag = began.saturating_sub(sent.intended);
            let histogram = if sent.held {
                &mut self.held_lag
            } else {
                &mut self.free_lag
            };
            histogram.record(lag);
        }
    }

    /// Records that a counted message intended for `intended` waits for its connection from `now`
    /// on.
    pub fn record_held(&mut self, intended: u64, now: u64) {
        self.held_own_lag.record(now.saturating_sub(intended));
    }

    /// Records the latency of a message whose echo was complete at `now`.
    #[inline]
    pub fn record_latency(&mut self, done: &Done, now: u64, is_open_loop: bool) {
        self.service.record(now.saturating_sub(done.write_began));
        if is_open_loop {
            self.response.record(now.saturating_sub(done.intended));
        }
    }

    /// Records the result of verifying a complete message.
    #[inline]
    pub fn record_contents(&mut self, counted: bool, contents: Contents) {
        match contents {
            Contents::Right => self.counts.verified += u64::from(counted),
            Contents::Wrong if counted => self.counts.corrupt += 1,
            Contents::Wrong => self.counts.corrupt_in_warm_up += 1,
            Contents::Unknown => {}
        }
    }

    /// Clears all records and keeps the memory.
    pub fn clear(&mut self) {
        for histogram in self.distributions_mut() {
            // Most histograms are unused in any one workload, and clearing writes to all of their
            // memory.
            if !histogram.is_empty() {
                histogram.clear();
            }
        }
        self.tcp = TcpSamples::default();
        self.counts = Counts::default();
    }
}

impl Slice {
    /// The lag of all messages, whatever its cause.
    pub fn send_lag(&self) -> Histogram<u64> {
        sum(&self.free_lag, &self.held_lag)
    }

    /// The times of all TLS handshakes.
    pub fn handshake(&self) -> Histogram<u64> {
        sum(&self.full_handshake, &self.resumed_handshake)
    }

    /// The client's own part of the lag of all messages.
    pub fn own_send_lag(&self) -> Histogram<u64> {
        sum(&self.free_lag, &self.held_own_lag)
    }
}

impl<D: Distribution> Slice<D> {
    /// An empty slice.
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
            full_handshake: D::empty(),
            resumed_handshake: D::empty(),
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

    fn distributions(&self) -> [&D; 10] {
        [
            &self.response,
            &self.service,
            &self.free_lag,
            &self.held_lag,
            &self.held_own_lag,
            &self.connect,
            &self.first_byte,
            &self.close,
            &self.full_handshake,
            &self.resumed_handshake,
        ]
    }

    fn distributions_mut(&mut self) -> [&mut D; 10] {
        [
            &mut self.response,
            &mut self.service,
            &mut self.free_lag,
            &mut self.held_lag,
            &mut self.held_own_lag,
            &mut self.connect,
            &mut self.first_byte,
            &mut self.close,
            &mut self.full_handshake,
            &mut self.resumed_handshake,
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
