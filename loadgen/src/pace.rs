//! When messages are due: the one thing that tells an open loop from a closed one.
//!
//! A [`Pace`] belongs to one thread and hands out messages for the thread's flows. In an open loop
//! the schedule alone decides when the next one is due; in a closed loop each answer makes the next
//! message due. Time is in nanoseconds on the caller's clock; no clock is read here.

use std::collections::VecDeque;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A message to be sent.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// The thread's flow that is to send it.
    pub flow: usize,
    /// When it is to be sent. In a closed loop, the time of asking.
    pub intended: u64,
}

/// Which of a run's flows a thread drives: every `stride`-th, beginning with `first`. The thread
/// counts its own from 0.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Share {
    /// Flows of the whole run.
    pub total: usize,
    /// This thread's first flow.
    pub first: usize,
    /// Number of threads.
    pub stride: usize,
}

impl Share {
    /// How many flows the share has.
    pub fn len(&self) -> usize {
        self.total.saturating_sub(self.first).div_ceil(self.stride)
    }

    /// Whether there is no flow in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number in the whole run of the thread's flow `flow`.
    pub fn global(&self, flow: usize) -> usize {
        self.first + flow * self.stride
    }
}

/// How a pace decides.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Arrivals {
    /// Closed loop: so many messages of each flow are out at a time.
    Closed {
        /// Messages in flight on each flow.
        depth: usize,
    },
    /// Open loop: all flows together send at even distances, each flow too.
    Constant {
        /// Messages per second of the whole run.
        rate: f64,
    },
    /// Open loop: a Poisson process, so gaps are exponential and every flow is one too.
    Poisson {
        /// Messages per second of the whole run, on average.
        rate: f64,
        /// Seeds this thread's gaps.
        seed: u64,
    },
}

/// The time line that a pace fills.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// When the schedule begins.
    pub start: u64,
    /// From when on messages count against `quota`: the end of the warm-up.
    pub counted_from: u64,
    /// No message is intended for this time or later.
    pub end: u64,
    /// How many counted messages this thread may issue.
    pub quota: u64,
}

/// One thread's source of messages.
#[derive(Debug)]
pub struct Pace {
    schedule: Schedule,
    span: Span,
}

#[derive(Debug)]
enum Schedule {
    Closed {
        ready: VecDeque<usize>,
    },
    Constant {
        share: Share,
        gap_ns: f64,
        /// The thread's next message, counted over all its flows.
        next: u64,
    },
    Poisson {
        flows: usize,
        gap_ns: f64,
        /// Nanoseconds from the start to the next message.
        next: f64,
        rng: Xoshiro256PlusPlus,
    },
}

impl Pace {
    /// A pace at which nothing is ever due, until the real one is known.
    pub fn idle() -> Self {
        Self {
            schedule: Schedule::Closed {
                ready: VecDeque::new(),
            },
            span: Span {
                start: u64::MAX,
                counted_from: u64::MAX,
                end: u64::MAX,
                quota: 0,
            },
        }
    }

    /// A pace for the flows of `share`.
    pub fn new(arrivals: Arrivals, share: Share, span: Span) -> Self {
        let schedule = match arrivals {
            Arrivals::Closed { depth } => Schedule::Closed {
                ready: (0..depth).flat_map(|_| 0..share.len()).collect(),
            },
            Arrivals::Constant { rate } => Schedule::Constant {
                share,
                gap_ns: 1e9 / rate,
                next: 0,
            },
            Arrivals::Poisson { rate, seed } => {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                // A share of a Poisson process, picked at random, is one of the share's rate.
                let gap_ns = 1e9 / rate * share.total as f64 / share.len() as f64;
                Schedule::Poisson {
                    flows: share.len(),
                    gap_ns,
                    next: exponential(&mut rng, gap_ns),
                    rng,
                }
            }
        };
        Self { schedule, span }
    }

    /// Takes the next message that is due at `now`, if there is one.
    pub fn pop(&mut self, now: u64) -> Option<Due> {
        if self.span.quota == 0 {
            return None;
        }
        let intended = match &self.schedule {
            Schedule::Closed { .. } => {
                (self.span.start <= now && now < self.span.end).then_some(now)?
            }
            Schedule::Constant { .. } | Schedule::Poisson { .. } => {
                self.next_due().filter(|&due| due <= now)?
            }
        };
        let flow = match &mut self.schedule {
            Schedule::Closed { ready } => ready.pop_front()?,
            Schedule::Constant { share, next, .. } => {
                let flow = *next % share.len() as u64;
                *next += 1;
                flow as usize
            }
            Schedule::Poisson {
                flows,
                gap_ns,
                next,
                rng,
            } => {
                *next += exponential(rng, *gap_ns);
                // A multiplication in place of a division; its bias is under 2^-32 for any
                // number of flows that fits into memory (Lemire, "Fast random integer generation
                // in an interval", ACM TOMACS 2019).
                ((u128::from(rng.next_u64()) * *flows as u128) >> 64) as usize
            }
        };
        if intended >= self.span.counted_from {
            self.span.quota -= 1;
        }
        Some(Due { flow, intended })
    }

    /// Notes that a message of `flow` came back or was given up. In a closed loop it makes the next
    /// one due.
    pub fn completed(&mut self, flow: usize) {
        if let Schedule::Closed { ready } = &mut self.schedule {
            ready.push_back(flow);
        }
    }

    /// Ends the schedule at `now`, if it would go on longer.
    pub fn end_at(&mut self, now: u64) {
        self.span.end = self.span.end.min(now);
    }

    /// When the next message is due by the clock alone: none in a closed loop, none after the end.
    pub fn next_due(&self) -> Option<u64> {
        if self.span.quota == 0 {
            return None;
        }
        let due = match &self.schedule {
            Schedule::Closed { .. } => return None,
            Schedule::Constant {
                share,
                gap_ns,
                next,
            } => {
                // Message number n of the whole run is due at n gaps after the start and belongs
                // to flow n mod total, so the sum over all threads is even without their talking
                // to each other. Multiplying anew each time lets no rounding error add up.
                let flows = share.len() as u64;
                let flow = share.global((next % flows) as usize) as u64;
                let number = next / flows * share.total as u64 + flow;
                self.span.start + (number as f64 * gap_ns) as u64
            }
            Schedule::Poisson { next, .. } => self.span.start + *next as u64,
        };
        (due < self.span.end).then_some(due)
    }

    /// Whether no message will be due any more, whatever comes back.
    pub fn is_over(&self, now: u64) -> bool {
        match &self.schedule {
            _ if self.span.quota == 0 => true,
            Schedule::Closed { .. } => now >= self.span.end,
            Schedule::Constant { .. } | Schedule::Poisson { .. } => self.next_due().is_none(),
        }
    }
}

/// An exponential variate by inversion; `1 - u` is in (0, 1], so the logarithm is finite.
fn exponential(rng: &mut impl Rng, mean: f64) -> f64 {
    let u = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
    -(1.0 - u).ln() * mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const FOREVER: Span = Span {
        start: 1000,
        counted_from: 1000,
        end: u64::MAX,
        quota: u64::MAX,
    };

    fn share(total: usize, first: usize, stride: usize) -> Share {
        Share {
            total,
            first,
            stride,
        }
    }

    fn drain(pace: &mut Pace, until: u64) -> Vec<Due> {
        std::iter::from_fn(|| pace.pop(until)).collect()
    }

    #[test]
    fn a_closed_loop_keeps_its_depth_on_every_flow() {
        let mut pace = Pace::new(Arrivals::Closed { depth: 2 }, share(3, 0, 1), FOREVER);
        assert_eq!(pace.pop(999), None, "not before the start");
        let mut flows: Vec<_> = drain(&mut pace, 1000).iter().map(|due| due.flow).collect();
        flows.sort_unstable();
        assert_eq!(flows, [0, 0, 1, 1, 2, 2]);
        assert_eq!(pace.pop(2000), None);
        assert_eq!(pace.next_due(), None);
        pace.completed(1);
        let due = Due {
            flow: 1,
            intended: 3000,
        };
        assert_eq!(pace.pop(3000), Some(due));
        assert_eq!(pace.pop(3000), None);
    }

    #[test]
    fn a_constant_pace_does_not_drift() {
        // A third of a nanosecond is lost per message if gaps are rounded and added up.
        let mut pace = Pace::new(
            Arrivals::Constant { rate: 3e6 },
            share(1, 0, 1),
            Span {
                end: 1000 + 3_000_000_000,
                ..FOREVER
            },
        );
        let due = drain(&mut pace, u64::MAX);
        assert_eq!(due.len(), 9_000_000);
        assert_eq!(due[8_999_997].intended, 1000 + 2_999_999_000);
        assert!(pace.is_over(1000));
    }

    #[test]
    fn a_quota_counts_from_the_end_of_the_warm_up() {
        let span = Span {
            start: 0,
            counted_from: 5_000_000,
            end: u64::MAX,
            quota: 3,
        };
        for arrivals in [
            Arrivals::Constant { rate: 1000.0 },
            Arrivals::Closed { depth: 1 },
        ] {
            let mut pace = Pace::new(arrivals, share(1, 0, 1), span);
            let mut issued = 0;
            for now in (0..100).map(|ms| ms * 1_000_000) {
                while let Some(due) = pace.pop(now) {
                    issued += u64::from(due.intended >= span.counted_from);
                    if let Arrivals::Closed { .. } = arrivals {
                        pace.completed(due.flow);
                        break;
                    }
                }
            }
            assert_eq!(issued, 3);
            assert!(pace.is_over(100_000_000));
        }
    }

    #[test]
    fn poisson_gaps_are_exponential_and_flows_uniform() {
        let rate = 1e6;
        let mut pace = Pace::new(
            Arrivals::Poisson { rate, seed: 42 },
            share(8, 1, 2),
            Span {
                end: 1000 + 1_000_000_000,
                ..FOREVER
            },
        );
        let due = drain(&mut pace, u64::MAX);
        // Half the flows get half the rate: 500 000 expected, with a standard deviation of 707.
        assert!(
            (due.len() as f64 - 5e5).abs() < 5.0 * 707.0,
            "{}",
            due.len()
        );
        let gaps: Vec<f64> = due
            .windows(2)
            .map(|pair| (pair[1].intended - pair[0].intended) as f64)
            .collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        let coefficient_of_variation = variance.sqrt() / mean;
        assert!((coefficient_of_variation - 1.0).abs() < 0.02);
        // An exponential gap is longer than its mean with the chance 1/e.
        let longer = gaps.iter().filter(|&&gap| gap > 2000.0).count() as f64 / gaps.len() as f64;
        assert!((longer - (-1.0_f64).exp()).abs() < 0.005, "{longer}");
        for flow in 0..4 {
            let count = due.iter().filter(|due| due.flow == flow).count() as f64;
            assert!((count / due.len() as f64 - 0.25).abs() < 0.005);
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_schedule() {
        let schedule = |seed| {
            let arrivals = Arrivals::Poisson { rate: 1e5, seed };
            drain(
                &mut Pace::new(arrivals, share(4, 0, 1), FOREVER),
                1_000_000_000,
            )
        };
        assert_eq!(schedule(1), schedule(1));
        assert_ne!(schedule(1), schedule(2));
    }

    proptest! {
        #[test]
        fn the_sum_of_all_threads_is_even_and_so_is_each_flow(
            total in 1_usize..40,
            threads in 1_usize..6,
            rate in 1_000_u32..2_000_000,
        ) {
            let threads = threads.min(total);
            let gap_ns = 1e9 / f64::from(rate);
            let span = Span { end: 1000 + (500.0 * gap_ns) as u64, ..FOREVER };
            let mut all = Vec::new();
            for first in 0..threads {
                let share = share(total, first, threads);
                let arrivals = Arrivals::Constant { rate: f64::from(rate) };
                for due in drain(&mut Pace::new(arrivals, share, span), u64::MAX) {
                    all.push((due.intended, share.global(due.flow)));
                }
            }
            all.sort_unstable();
            prop_assert!((499..=501).contains(&all.len()));
            for (number, (intended, flow)) in all.into_iter().enumerate() {
                let exact = 1000.0 + number as f64 * gap_ns;
                prop_assert!((intended as f64 - exact).abs() <= 1.0);
                prop_assert_eq!(flow, number % total);
            }
        }
    }
}
