//! What a thread records while it measures: histograms and counts, one [`Slice`] for each interval.
//!
//! Histograms add, and so do counts: a slice of several threads, the whole run, and later the union
//! of several hosts are all sums of slices, exact to the last sample. No percentile is computed
//! here; that happens on another thread, out of the way of the measurement.

use std::ops::AddAssign;

use hdrhistogram::Histogram;

use crate::engine::histogram::BucketCounts;
use crate::engine::in_flight::{Abandoned, Done, Sent};
use crate::engine::tcp::TcpSamples;
use crate::result::Counts;
use crate::result::histogram;

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
    /// Turns of a closed loop that are not yet among the counts.
    turns: u64,
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

    /// Records a message whose echo was complete at `now`.
    #[inline]
    pub fn record_done(&mut self, done: Done, now: u64, is_open_loop: bool, is_verified: bool) {
        if !done.counted {
            self.counts.corrupt_in_warm_up += u64::from(!done.intact);
            return;
        }
        self.counts.received += 1;
        if !done.intact {
            self.counts.corrupt += 1;
        } else if is_verified {
            self.counts.verified += 1;
        }
        self.service.record(now.saturating_sub(done.write_began));
        if is_open_loop {
            self.response.record(now.saturating_sub(done.intended));
        }
    }

    /// Records a turn of a closed loop within the window: a message took `took` from its write to its echo,
    /// and the next one, as large, was due then and written. Of the counts, only how many turns there were
    /// is kept, until they are [settled](Self::settle_turns).
    #[inline]
    pub fn record_turn(&mut self, took: u64) {
        self.turns += 1;
        self.service.record(took);
    }

    /// Whether there were turns that are not settled.
    pub fn has_turns(&self) -> bool {
        self.turns > 0
    }

    /// Counts what was done in turns, with messages of `size` bytes, and returns how many bytes that were
    /// in each direction.
    pub fn settle_turns(&mut self, size: u64, is_verified: bool) -> u64 {
        let count = std::mem::take(&mut self.turns);
        let bytes = count * size;
        let counts = &mut self.counts;
        counts.issued += count;
        counts.sent += count;
        counts.received += count;
        counts.completed += count;
        counts.verified += if is_verified { count } else { 0 };
        counts.bytes_in += bytes;
        counts.bytes_received += bytes;
        counts.bytes_out += bytes;
        counts.bytes_sent += bytes;
        bytes
    }

    /// Records messages that were given up.
    pub fn record_abandoned(&mut self, abandoned: Abandoned) {
        self.counts.lost += abandoned.lost;
        self.counts.timed_out += abandoned.timed_out;
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
        self.turns = 0;
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
            turns: 0,
        }
    }

    /// Whether nothing was recorded.
    pub fn is_empty(&self) -> bool {
        self.counts == Counts::default()
            && self.turns == 0
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

/// Adds `part` to `sum`; an empty one at no cost.
fn add(sum: &mut Histogram<u64>, part: &Histogram<u64>) {
    if !part.is_empty() {
        sum.add(part).expect("all histograms have the same bounds");
    }
}

impl<D: Distribution> Default for Slice<D> {
    fn default() -> Self {
        Self::new()
    }
}

impl<D: Distribution> AddAssign<&Slice<D>> for Slice {
    fn add_assign(&mut self, other: &Slice<D>) {
        debug_assert_eq!(other.turns, 0, "turns are settled first");
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

/// What a [`Slice`] keeps latencies in.
pub trait Distribution {
    /// One without a sample.
    fn empty() -> Self;

    /// Whether there is no sample.
    fn has_none(&self) -> bool;

    /// Adds the samples to `sum`, exactly.
    fn add_onto(&self, sum: &mut Histogram<u64>);
}

impl Distribution for Histogram<u64> {
    fn empty() -> Self {
        histogram::empty()
    }

    fn has_none(&self) -> bool {
        self.is_empty()
    }

    fn add_onto(&self, sum: &mut Histogram<u64>) {
        add(sum, self);
    }
}

impl Distribution for BucketCounts {
    fn empty() -> Self {
        Self::default()
    }

    fn has_none(&self) -> bool {
        self.is_empty()
    }

    fn add_onto(&self, sum: &mut Histogram<u64>) {
        self.add_to(sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DONE: Done = Done {
        intended: 1_000,
        write_began: 4_000,
        intact: true,
        counted: true,
    };

    fn sum_of<'a>(parts: impl IntoIterator<Item = &'a Slice<BucketCounts>>) -> Slice {
        let mut sum = Slice::new();
        for part in parts {
            sum += part;
        }
        sum
    }

    #[test]
    fn response_and_service_time_begin_at_their_own_moments() {
        let mut slice = Slice::<BucketCounts>::new();
        slice.record_done(DONE, 9_000, true, true);
        let slice = sum_of([&slice]);
        assert_eq!(
            slice.response.max(),
            slice.response.highest_equivalent(8_000)
        );
        assert_eq!(slice.service.max(), slice.service.highest_equivalent(5_000));
        assert_eq!((slice.counts.received, slice.counts.verified), (1, 1));
    }

    #[test]
    fn lag_is_ours_until_the_connection_holds_the_message() {
        let mut slice = Slice::<BucketCounts>::new();
        for held in [false, true] {
            let sent = Sent {
                intended: 1_000,
                held,
                counted: true,
            };
            slice.record_sent(sent, 3_000, true);
        }
        slice.record_held(1_000, 1_500);
        let slice = sum_of([&slice]);
        assert_eq!(slice.send_lag().len(), 2);
        assert_eq!(slice.send_lag().min(), 2_000);
        assert_eq!(slice.own_send_lag().len(), 2);
        assert_eq!(slice.own_send_lag().min(), 500);
    }

    #[test]
    fn a_message_of_the_warm_up_counts_only_when_corrupt() {
        let mut slice = Slice::<BucketCounts>::new();
        let warm_up = Done {
            counted: false,
            ..DONE
        };
        slice.record_done(warm_up, 9_000, true, true);
        assert!(slice.is_empty());
        let corrupt = Done {
            intact: false,
            ..warm_up
        };
        slice.record_done(corrupt, 9_000, true, true);
        assert_eq!(slice.counts.corrupt_in_warm_up, 1);
        assert!(slice.service.is_empty());
    }

    #[test]
    fn an_hour_and_more_is_an_hour() {
        let mut slice = Slice::<BucketCounts>::new();
        slice.record_done(DONE, u64::MAX, true, true);
        assert!(sum_of([&slice]).service.max() >= histogram::MAX_NS);
        slice.clear();
        assert!(slice.is_empty() && slice.service.is_empty());
    }

    #[test]
    fn turns_count_as_what_they_consist_of() {
        let (mut turns, mut steps) = (Slice::<BucketCounts>::new(), Slice::<BucketCounts>::new());
        for took in [5_000, 9_000] {
            turns.record_turn(took);
            assert!(!turns.is_empty());
            let done = Done {
                write_began: 10_000 - took,
                ..DONE
            };
            steps.record_done(done, 10_000, false, true);
            let sent = Sent {
                intended: 10_000,
                held: false,
                counted: true,
            };
            steps.record_sent(sent, 10_000, false);
            let counts = &mut steps.counts;
            counts.issued += 1;
            counts.completed += 1;
            counts.bytes_in += 64;
            counts.bytes_received += 64;
            counts.bytes_out += 64;
            counts.bytes_sent += 64;
        }
        let count = steps.counts.received;
        assert_eq!(turns.settle_turns(64, true), 64 * count);
        assert_eq!(turns.settle_turns(64, true), 0);
        assert_eq!(turns.counts, steps.counts);
        assert_eq!(sum_of([&turns]).service, sum_of([&steps]).service);
        turns.record_turn(1);
        turns.settle_turns(64, false);
        assert_eq!((turns.counts.received, turns.counts.verified), (3, 2));
    }

    proptest! {
        #[test]
        fn slices_add_up_to_what_one_slice_would_have_recorded(
            samples in prop::collection::vec((0_usize..3, 1_000_u64..10_000_000_000), 0..200),
        ) {
            let mut parts: [Slice<BucketCounts>; 3] = Default::default();
            let mut whole = Slice::<BucketCounts>::new();
            for (part, now) in samples {
                parts[part].record_done(DONE, now, true, true);
                whole.record_done(DONE, now, true, true);
            }
            let mut sum = sum_of(&parts);
            let whole = sum_of([&whole]);
            prop_assert_eq!(sum.counts, whole.counts);
            prop_assert_eq!(&sum.response, &whole.response);
            prop_assert_eq!(&sum.service, &whole.service);
            sum += &whole;
            prop_assert_eq!(sum.service.len(), 2 * whole.service.len());
        }
    }
}
