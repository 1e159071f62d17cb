//! When messages are due, in open and closed loops.
//!
//! A [`Schedule`] belongs to one thread and issues messages for the thread's flows. Open loop: the
//! schedule triggers sends. Closed loop: each response triggers the next. Times are nanoseconds on
//! the caller's clock; no clock is read here.
//!
//! A [`Profile`] is a rate as text. A [`Curve`] is the profile laid out in time: it gives the due
//! time of each message of the whole run. Each thread takes its flows' messages from the curve, so
//! threads need not communicate.

use std::collections::VecDeque;
use std::time::Duration;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::profile::{Cursor, Curve, MAX_RATE, Profile};

mod share;

pub use share::Share;

/// A due message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Due {
    /// The thread's flow that sends it.
    pub flow: usize,
    /// Its intended send time. In a closed loop, the time of the call.
    pub intended: u64,
}

/// The arrival process.
#[derive(Clone, Debug, PartialEq)]
pub enum Arrivals {
    /// Closed loop: each flow keeps a constant number of messages in flight.
    Closed {
        /// Messages in flight on each flow.
        depth: usize,
    },
    /// Open loop: the flows send in turn, at the distances of the profile.
    Constant {
        /// Messages per second of the whole run.
        profile: Profile,
    },
    /// Open loop: a Poisson process. Gaps are exponential, and each flow is a Poisson process too.
    Poisson {
        /// Mean messages per second of the whole run.
        profile: Profile,
        /// Seed of this thread's gaps.
        seed: u64,
    },
}

/// The period of a schedule.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Span {
    /// The start of the schedule.
    pub start: u64,
    /// Messages due from here on count against `quota`: the end of the warm-up.
    pub counted_from: u64,
    /// The end. No message is due at this time or later. `u64::MAX`: the window has no end.
    pub end: u64,
    /// Maximum of counted messages of the whole run; `u64::MAX` for no limit. In an open loop, the
    /// window ends as soon as that number is due by the profile, unless it ends before.
    pub quota: u64,
}

/// One thread's source of messages.
#[derive(Debug)]
pub struct Schedule {
    kind: Kind,
    /// Its quota is what is left of this thread's part.
    span: Span,
    /// The limit of messages at even distances.
    limit: Option<Limit>,
    /// Until this time, a response makes the next message due: the end of the period in a closed
    /// loop; 0 in an open loop, and when the quota is used up.
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
        /// When the next message is due; [`NEVER`] if there is none.
        due: u64,
    },
}

/// A number of messages at even distances. All threads compute the same end of the window from it.
#[derive(Clone, Copy, Debug)]
struct Limit {
    /// Counted messages of the whole run,
    messages: f64,
    /// and messages of the whole run before the window, including the fraction of the next one.
    before: f64,
    /// The end of the window without this limit.
    window_end: u64,
}

/// Maximum error of a curve's count, which is a sum of a few products of doubles.
const MAX_COUNT_ERROR: f64 = 1e-6;

/// A time that is never reached.
const NEVER: u64 = u64::MAX;

/// The messages of the whole run that belong to the thread.
#[derive(Debug)]
enum Assignment {
    /// Message n of the whole run belongs to flow n mod total. So the threads' sum is the profile
    /// without communication, and each flow gets an equal part.
    Even {
        share: Share,
        flows: usize,
        /// The thread's flow whose turn is next.
        flow: usize,
        /// Messages of the whole run before this round. Each flow has one turn in a round.
        before: u64,
    },
    /// A Poisson process of rate 1 over the message numbers. The curve maps it to time, which gives
    /// a Poisson process with the rate of the profile (Cinlar, "Introduction to Stochastic
    /// Processes", 1975, chapter 4.7; Lewis and Shedler, "Simulation of Nonhomogeneous Poisson
    /// Processes by Thinning", 1979, section 1).
    Poisson {
        flows: usize,
        /// A random share of a Poisson process is a Poisson process with the share's rate.
        mean_gap: f64,
        position: f64,
        rng: Xoshiro256PlusPlus,
    },
}

impl Schedule {
    /// A schedule without messages, until the real one is known.
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
            limit: None,
            answers_until: 0,
        }
    }

    /// A schedule for the flows of `share`.
    ///
    /// If the window has no end, a profile without lengths stays at its first rate;
    /// [`Profile::resolve`] reports that in advance.
    pub fn new(arrivals: Arrivals, share: Share, span: Span) -> Self {
        let is_even = matches!(arrivals, Arrivals::Constant { .. });
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
        let quota = match span.quota {
            // Without flows, there is no sender.
            _ if share.is_empty() => 0,
            u64::MAX => u64::MAX,
            _ if is_even => u64::MAX,
            messages => share.part_of(messages),
        };
        let limit = (is_even && span.quota < u64::MAX).then_some(Limit {
            messages: span.quota as f64,
            before: 0.0,
            window_end: span.end,
        });
        let answers_until = match &kind {
            Kind::Closed { .. } if quota > 0 => span.end,
            Kind::Closed { .. } | Kind::Open { .. } => 0,
        };
        let mut schedule = Self {
            kind,
            span: Span { quota, ..span },
            limit,
            answers_until,
        };
        schedule.apply_limit(span.start);
        schedule
    }

    /// Computes the end of the window from the limit of messages, at `now`.
    fn apply_limit(&mut self, now: u64) {
        let (Some(limit), Kind::Open { curve, .. }) = (&mut self.limit, &self.kind) else {
            return;
        };
        let (start, counted_from) = (self.span.start, self.span.counted_from);
        if now <= counted_from {
            let before = curve.count(counted_from.saturating_sub(start) as f64);
            // If a message is due at the start of the window, so is one at its end. Rounding must not
            // make it the window's.
            let nearest = before.round();
            let is_whole = (before - nearest).abs() < MAX_COUNT_ERROR;
            limit.before = if is_whole { nearest } else { before };
        }
        let end = curve.look_up(limit.before + limit.messages);
        let end = end.map_or(NEVER, |time_ns| due_at(start, time_ns));
        self.span.end = limit.window_end.min(end);
    }

    /// Whether [`Schedule::pop`] has something to do at `now`.
    #[inline]
    pub fn may_be_due(&self, now: u64) -> bool {
        match &self.kind {
            Kind::Closed { ready } => !ready.is_empty(),
            Kind::Open { due, .. } => *due <= now,
        }
    }

    /// Takes the next message due at `now`, if there is one.
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
        self.take_from_quota(due.intended);
        Some(due)
    }

    /// Counts a message that is taken against the quota, if it is due after the warm-up.
    #[inline]
    fn take_from_quota(&mut self, intended: u64) {
        if intended >= self.span.counted_from {
            self.span.quota -= 1;
            if self.is_used_up() {
                self.end_with_quota();
            }
        }
    }

    /// No answer makes a message due any more. Ends an open loop's window when the next message would
    /// be due.
    #[cold]
    fn end_with_quota(&mut self) {
        self.answers_until = 0;
        if let Kind::Open { due, .. } = self.kind {
            self.span.end = self.span.end.min(due);
        }
    }

    /// Whether every message of the quota was taken.
    #[inline]
    pub fn is_used_up(&self) -> bool {
        self.span.quota == 0
    }

    /// The end of the window: no message is due at this time or later.
    pub fn end(&self) -> u64 {
        self.span.end
    }

    /// Records a response to a message of `flow` at `now`. Returns whether the flow's next message
    /// is due now, which is the case in a running closed loop. That message counts as taken.
    #[inline]
    pub fn answered(&mut self, flow: usize, now: u64) -> bool {
        // An answered message was sent after the start.
        if now >= self.answers_until {
            self.completed(flow);
            return false;
        }
        self.take_from_quota(now);
        true
    }

    /// Records that a message of `flow` was answered or given up. In a closed loop, this makes the
    /// next message due; [`Schedule::pop`] returns it.
    pub fn completed(&mut self, flow: usize) {
        if let Kind::Closed { ready } = &mut self.kind {
            ready.push_back(flow);
        }
    }

    /// Ends the schedule at `now`, unless it has ended before.
    pub fn end_at(&mut self, now: u64) {
        self.span.end = self.span.end.min(now);
        if let Some(limit) = &mut self.limit {
            limit.window_end = limit.window_end.min(now);
        }
        self.answers_until = self.answers_until.min(now);
    }

    /// Sets the rate of the whole run from `now` on, in messages per second, instead of the
    /// profile. 0 or less is a pause until the next change; more than 10⁹ is taken as 10⁹. Without
    /// effect in a closed loop.
    ///
    /// Messages due before `now` that are not taken yet keep their times. No message is repeated or
    /// left out. If all threads change at the same `now`, their sum stays even. Otherwise a thread
    /// is ahead or behind by the difference of the rates in the time between.
    pub fn set_rate(&mut self, now: u64, rate: f64) {
        if let Kind::Open {
            messages,
            curve,
            due,
        } = &mut self.kind
        {
            let time_ns = now.saturating_sub(self.span.start) as f64;
            // This also catches NaN.
            let rate = if rate > 0.0 { rate.min(MAX_RATE) } else { 0.0 };
            let next = messages.position();
            curve.change_rate(time_ns, rate, next);
            *due = due_at(self.span.start, curve.time_ns(next));
            self.apply_limit(now);
        }
    }

    /// When the next message is due by the clock alone: none in a closed loop, none after the end.
    pub fn next_due(&self) -> Option<u64> {
        match self.kind {
            Kind::Open { due, .. } if self.span.quota > 0 => (due < self.span.end).then_some(due),
            _ => None,
        }
    }

    /// Whether a closed loop has a message that may be sent at `now`.
    pub fn has_ready(&self, now: u64) -> bool {
        match &self.kind {
            Kind::Closed { ready } => {
                let is_within = self.span.start <= now && now < self.span.end;
                is_within && self.span.quota > 0 && !ready.is_empty()
            }
            Kind::Open { .. } => false,
        }
    }

    /// Whether no more messages will be due, whatever the responses.
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
    /// Number of messages of the whole run before the next one.
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

    /// Takes the next message and returns its flow.
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
                // A multiplication instead of a division. Its bias is below 2^-32 for any number of
                // flows that fits into memory (Lemire, "Fast random integer generation in an
                // interval", ACM TOMACS 2019).
                ((u128::from(rng.next_u64()) * *flows as u128) >> 64) as usize
            }
        }
    }
}

/// Converts a time of the schedule to the caller's clock.
fn due_at(start: u64, time_ns: f64) -> u64 {
    // Rounded to nearest. If truncated, a message due at the window's end could fall into the
    // window.
    start.saturating_add((time_ns + 0.5) as u64)
}

/// An exponential variate by inversion.
fn exponential(rng: &mut impl Rng, mean: f64) -> f64 {
    // The fraction of a double between 1 and 2 is its lower 52 bits. The distance to 2 is in (0, 1],
    // so the logarithm is finite. A conversion from an integer would be slower on x86: it can wait for
    // the old contents of its register, that is for the previous message (27 ns instead of 11).
    let below_two = f64::from_bits(1.0_f64.to_bits() | rng.next_u64() >> 12);
    -(2.0 - below_two).ln() * mean
}

#[cfg(test)]
mod tests;
