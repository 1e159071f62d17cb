//! When messages are due: the one thing that tells an open loop from a closed one.
//!
//! A [`Schedule`] belongs to one thread and hands out messages for the thread's flows. In an open loop
//! the schedule alone decides when the next one is due; in a closed loop each answer makes the next
//! message due. Time is in nanoseconds on the caller's clock; no clock is read here.
//!
//! A [`Profile`] is a rate as people write it. Laid out in time it is a [`Curve`], which knows for
//! each message of the whole run when it is due. Threads take their flows' messages from it and
//! need not talk to each other.

use std::collections::VecDeque;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::profile::{Cursor, Curve, MAX_RATE, Profile};

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

/// How a schedule decides.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Closed loop: so many messages of each flow are out at a time.
    Closed {
        /// Messages in flight on each flow.
        depth: usize,
    },
    /// Open loop: all flows together send at the profile's distances, in turn.
    Constant {
        /// Messages per second of the whole run.
        profile: Profile,
    },
    /// Open loop: a Poisson process, so gaps are exponential and every flow is one too.
    Poisson {
        /// Messages per second of the whole run, on average.
        profile: Profile,
        /// Seeds this thread's gaps.
        seed: u64,
    },
}

/// The time line that a schedule fills.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// When the schedule begins.
    pub start: u64,
    /// From when on messages count against `quota`: the end of the warm-up.
    pub counted_from: u64,
    /// No message is intended for this time or later. `u64::MAX`: the window has no end.
    pub end: u64,
    /// How many counted messages this thread may issue.
    pub quota: u64,
}

/// One thread's source of messages.
#[derive(Debug)]
pub struct Schedule {
    kind: Kind,
    span: Span,
    /// Until when an answer makes the next message due: the end of the span in a closed loop, 0 in an
    /// open one.
    answers_until: u64,
}

#[derive(Debug)]
enum Kind {
    Closed {
        ready: VecDeque<usize>,
    },
    Open {
        messages: Assignment,
        curve: Cursor,
        /// When the next message is due; [`NEVER`] if none is.
        due: u64,
    },
}

/// A time that does not come.
const NEVER: u64 = u64::MAX;

/// Which messages of the whole run are the thread's.
#[derive(Debug)]
enum Assignment {
    /// Message number n of the whole run belongs to flow n mod total, so the sum over all threads
    /// is the profile without their talking to each other, and each flow has its even part.
    Even {
        share: Share,
        flows: usize,
        /// The thread's flow whose turn it is.
        flow: usize,
        /// Messages of the whole run before this round, in which each flow has its turn.
        before: u64,
    },
    /// A process of rate 1 over the number of messages, which the curve maps to time. That gives a
    /// Poisson process whose rate is the profile (Cinlar, "Introduction to Stochastic Processes",
    /// 1975, chapter 4.7; Lewis and Shedler, "Simulation of Nonhomogeneous Poisson Processes by
    /// Thinning", 1979, section 1).
    Poisson {
        flows: usize,
        /// A share of a Poisson process, picked at random, is one of the share's rate.
        mean_gap: f64,
        position: f64,
        rng: Xoshiro256PlusPlus,
    },
}

impl Schedule {
    /// A schedule at which nothing is ever due, until the real one is known.
    pub fn idle() -> Self {
        Self {
            kind: Kind::Closed {
                ready: VecDeque::new(),
            },
            span: Span {
                start: u64::MAX,
                counted_from: u64::MAX,
                end: u64::MAX,
                quota: 0,
            },
            answers_until: 0,
        }
    }

    /// A schedule for the flows of `share`.
    ///
    /// A profile whose pieces share the window stays at its first rate if the window has no end;
    /// [`Profile::resolve`] tells beforehand.
    pub fn new(arrivals: Arrivals, share: Share, span: Span) -> Self {
        let kind = match arrivals {
            Arrivals::Closed { depth } => Kind::Closed {
                ready: (0..depth).flat_map(|_| 0..share.len()).collect(),
            },
            Arrivals::Constant { profile } => {
                let messages = Assignment::Even {
                    share,
                    flows: share.len(),
                    flow: 0,
                    before: 0,
                };
                Kind::open(messages, &profile, span)
            }
            Arrivals::Poisson { profile, seed } => {
                let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
                let mean_gap = share.total as f64 / share.len() as f64;
                let messages = Assignment::Poisson {
                    flows: share.len(),
                    mean_gap,
                    position: exponential(&mut rng, mean_gap),
                    rng,
                };
                Kind::open(messages, &profile, span)
            }
        };
        // Without a flow there is nobody to send.
        let quota = if share.is_empty() { 0 } else { span.quota };
        let answers_until = match &kind {
            Kind::Closed { .. } => span.end,
            Kind::Open { .. } => 0,
        };
        Self {
            kind,
            span: Span { quota, ..span },
            answers_until,
        }
    }

    /// Whether [`Schedule::pop`] is worth calling at `now`.
    #[inline]
    pub fn may_be_due(&self, now: u64) -> bool {
        match &self.kind {
            Kind::Closed { ready } => !ready.is_empty(),
            Kind::Open { due, .. } => *due <= now,
        }
    }

    /// Takes the next message that is due at `now`, if there is one.
    pub fn pop(&mut self, now: u64) -> Option<Due> {
        if self.span.quota == 0 {
            return None;
        }
        let due = match &mut self.kind {
            Kind::Closed { ready } => {
                if now < self.span.start || now >= self.span.end {
                    return None;
                }
                Due {
                    flow: ready.pop_front()?,
                    intended: now,
                }
            }
            Kind::Open {
                messages,
                curve,
                due,
            } => {
                let intended = *due;
                if intended > now || intended >= self.span.end {
                    return None;
                }
                let flow = messages.take();
                *due = due_at(self.span.start, curve.time_ns(messages.position()));
                Due { flow, intended }
            }
        };
        if due.intended >= self.span.counted_from {
            self.span.quota -= 1;
        }
        Some(due)
    }

    /// Notes that a message of `flow` came back at `now`. Returns whether this makes the next message of
    /// the flow due now, which then counts as taken: in a closed loop that is under way.
    #[inline]
    pub fn answered(&mut self, flow: usize, now: u64) -> bool {
        // What is answered was sent after the start.
        if now >= self.answers_until || self.span.quota == 0 {
            self.completed(flow);
            return false;
        }
        self.span.quota -= u64::from(now >= self.span.counted_from);
        true
    }

    /// Notes that a message of `flow` came back or was given up. In a closed loop it makes the next
    /// one due, which waits for [`Schedule::pop`].
    pub fn completed(&mut self, flow: usize) {
        if let Kind::Closed { ready } = &mut self.kind {
            ready.push_back(flow);
        }
    }

    /// Ends the schedule at `now`, if it would go on longer.
    pub fn end_at(&mut self, now: u64) {
        self.span.end = self.span.end.min(now);
        self.answers_until = self.answers_until.min(now);
    }

    /// From `now` on the whole run's rate is `rate` messages per second, whatever the profile says;
    /// 0 or less is a pause until the next change, and more than 10⁹ is 10⁹. Without effect in a
    /// closed loop.
    ///
    /// What was due before `now` and is not yet taken stays due when it was, and no message is
    /// repeated or left out. If all threads change at the same `now`, their sum is as even as
    /// before. If not, each is ahead or behind by what the rates differ in the time between.
    pub fn set_rate(&mut self, now: u64, rate: f64) {
        if let Kind::Open {
            messages,
            curve,
            due,
        } = &mut self.kind
        {
            let time_ns = now.saturating_sub(self.span.start) as f64;
            // What is not a number is not more than 0 either.
            let rate = if rate > 0.0 { rate.min(MAX_RATE) } else { 0.0 };
            let next = messages.position();
            curve.change_rate(time_ns, rate, next);
            *due = due_at(self.span.start, curve.time_ns(next));
        }
    }

    /// When the next message is due by the clock alone: none in a closed loop, none after the end.
    pub fn next_due(&self) -> Option<u64> {
        match self.kind {
            Kind::Open { due, .. } if self.span.quota > 0 => (due < self.span.end).then_some(due),
            _ => None,
        }
    }

    /// Whether a closed loop has a message that may go at `now`.
    pub fn has_ready(&self, now: u64) -> bool {
        match &self.kind {
            Kind::Closed { ready } => {
                let is_within = self.span.start <= now && now < self.span.end;
                is_within && self.span.quota > 0 && !ready.is_empty()
            }
            Kind::Open { .. } => false,
        }
    }

    /// Whether no message will be due any more, whatever comes back.
    pub fn is_over(&self, now: u64) -> bool {
        match &self.kind {
            _ if self.span.quota == 0 => true,
            Kind::Closed { .. } => now >= self.span.end,
            Kind::Open { .. } => self.next_due().is_none(),
        }
    }
}

impl Kind {
    fn open(messages: Assignment, profile: &Profile, span: Span) -> Self {
        let warm_up = Duration::from_nanos(span.counted_from.saturating_sub(span.start));
        let window = (span.end < NEVER)
            .then(|| Duration::from_nanos(span.end.saturating_sub(span.counted_from)));
        let curve = profile
            .resolve(warm_up, window)
            .unwrap_or_else(|_| Curve::constant(profile.first_rate()));
        let mut curve = Cursor::new(curve);
        let due = due_at(span.start, curve.time_ns(messages.position()));
        Self::Open {
            messages,
            curve,
            due,
        }
    }
}

impl Assignment {
    /// How many messages of the whole run come before the next one.
    fn position(&self) -> f64 {
        match *self {
            Self::Even {
                share,
                flow,
                before,
                ..
            } => (before + share.global(flow) as u64) as f64,
            Self::Poisson { position, .. } => position,
        }
    }

    /// Takes the next message and says whose it is.
    fn take(&mut self) -> usize {
        match self {
            Self::Even {
                share,
                flows,
                flow,
                before,
            } => {
                let taken = *flow;
                *flow += 1;
                if *flow == *flows {
                    *flow = 0;
                    *before += share.total as u64;
                }
                taken
            }
            Self::Poisson {
                flows,
                mean_gap,
                position,
                rng,
            } => {
                *position += exponential(rng, *mean_gap);
                // A multiplication in place of a division; its bias is under 2^-32 for any
                // number of flows that fits into memory (Lemire, "Fast random integer generation
                // in an interval", ACM TOMACS 2019).
                ((u128::from(rng.next_u64()) * *flows as u128) >> 64) as usize
            }
        }
    }
}

/// A time on the schedule as one on the caller's clock.
fn due_at(start: u64, time_ns: f64) -> u64 {
    // To the nearest: cut off, a message that is due at the window's end could slip into it.
    start.saturating_add((time_ns + 0.5) as u64)
}

/// An exponential variate by inversion.
fn exponential(rng: &mut impl Rng, mean: f64) -> f64 {
    // The fraction of a double between 1 and 2 is its lower 52 bits. What it lacks to 2 is in
    // (0, 1], so the logarithm is finite. A conversion from an integer, on x86, can wait for what
    // its register held before, that is for the message before: 27 ns each in place of 11.
    let below_two = f64::from_bits(1.0_f64.to_bits() | rng.next_u64() >> 12);
    -(2.0 - below_two).ln() * mean
}

#[cfg(test)]
mod tests;
