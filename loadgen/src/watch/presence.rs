//! Whether the client runs. Pure: times are inputs.
//!
//! Before each sleep the client says when it means to wake up. If it wakes up much later, or if its work between
//! two sleeps takes long, it was not run: the host was busy or suspended, the hypervisor served others, or a
//! signal stopped the process. What it then finds is no evidence against a server.

use hdrhistogram::Histogram;

use super::lane::USUAL_LAG_NS;
use super::series::seconds;
use crate::result::watch::{Absence, AbsenceCause, WatchClient};
use crate::result::{Latency, histogram};

/// Maximum of absences that are kept.
const MAX_ABSENCES: usize = 1000;
/// A longer lag may have begun before the wake-up was due, at any time since the client last ran. What it does
/// between two sleeps takes less.
const MAX_LAG_OF_A_WAKE_UP_NS: u64 = 5 * USUAL_LAG_NS;

/// When the client ran, and when not.
#[derive(Debug)]
pub(super) struct Presence {
    /// When it last ran, and when it means to wake up.
    seen: u64,
    wakes: u64,
    /// Absences from this length on are told.
    told_from: u64,
    absences: Vec<(Gap, AbsenceCause)>,
    omitted: u64,
    absent: u64,
    longest: u64,
    lag: Histogram<u64>,
}

/// A stretch in which the client did not run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) until: u64,
}

impl Gap {
    pub(super) fn length(self) -> u64 {
        self.until - self.from
    }
}

/// What the system says of the time of a gap.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Evidence {
    /// Time in which the host was suspended.
    pub(super) suspended: u64,
    /// Time in which the thread could have run and got no CPU.
    pub(super) waited_for_cpu: u64,
    /// CPU time of the host that the hypervisor gave to others.
    pub(super) stolen: u64,
}

impl Evidence {
    /// What explains most of the gap.
    pub(super) fn cause(self, gap: Gap) -> AbsenceCause {
        let half = gap.length() / 2;
        if self.suspended > half {
            AbsenceCause::Suspend
        } else if self.stolen > half {
            AbsenceCause::Steal
        } else if self.waited_for_cpu > half {
            AbsenceCause::Busy
        } else {
            AbsenceCause::Stopped
        }
    }
}

impl Presence {
    /// The client runs at `now`. Absences of at least `told_from` are told.
    pub(super) fn new(now: u64, told_from: u64) -> Self {
        Self {
            seen: now,
            wakes: u64::MAX,
            told_from: told_from.max(USUAL_LAG_NS),
            absences: Vec::new(),
            omitted: 0,
            absent: 0,
            longest: 0,
            lag: histogram::empty(),
        }
    }

    /// The client is at work at `now`. Returns the time in which it did not run since it was seen.
    pub(super) fn go_on(&mut self, now: u64) -> Option<Gap> {
        let from = std::mem::replace(&mut self.seen, now);
        let is_long = now.saturating_sub(from) > MAX_LAG_OF_A_WAKE_UP_NS;
        is_long.then_some(Gap { from, until: now })
    }

    /// The client sleeps from `now` until `until`, or until something happens before.
    pub(super) fn sleep(&mut self, now: u64, until: u64) {
        self.seen = now;
        self.wakes = until.max(now);
    }

    /// The client runs at `now`. Returns the time in which it should have run and did not.
    pub(super) fn wake(&mut self, now: u64) -> Option<Gap> {
        let seen = std::mem::replace(&mut self.seen, now);
        let lag = now.checked_sub(self.wakes)?;
        self.lag.saturating_record(lag);
        if lag <= USUAL_LAG_NS {
            return None;
        }
        let is_long = lag > MAX_LAG_OF_A_WAKE_UP_NS;
        let from = if is_long { seen } else { self.wakes };
        Some(Gap { from, until: now })
    }

    /// Whether a gap is long enough to be told.
    pub(super) fn is_told(&self, gap: Gap) -> bool {
        gap.length() >= self.told_from
    }

    /// Notes a gap that is told.
    pub(super) fn note(&mut self, gap: Gap, cause: AbsenceCause) {
        self.absent += gap.length();
        self.longest = self.longest.max(gap.length());
        self.absences.push((gap, cause));
        if self.absences.len() > MAX_ABSENCES {
            let lengths = self.absences.iter().map(|(gap, _)| gap.length());
            if let Some((index, _)) = lengths.enumerate().min_by_key(|&(_, length)| length) {
                self.absences.remove(index);
                self.omitted += 1;
            }
        }
    }

    /// Number of absences and their length together.
    pub(super) fn total(&self) -> (u64, u64) {
        (self.absences.len() as u64 + self.omitted, self.absent)
    }

    pub(super) fn result(&self, error: Option<String>) -> WatchClient {
        let absence = |&(gap, cause): &(Gap, AbsenceCause)| Absence {
            start_s: seconds(gap.from),
            end_s: seconds(gap.until),
            cause,
        };
        WatchClient {
            absences: self.absences.iter().map(absence).collect(),
            absences_omitted: self.omitted,
            absent_s: seconds(self.absent),
            longest_absence_s: seconds(self.longest),
            lag: Latency::new(self.lag.clone()),
            error,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_client_that_wakes_up_in_time_was_there() {
        let mut presence = Presence::new(0, 25 * MS);
        assert_eq!(presence.wake(5), None, "it did not sleep");
        presence.sleep(0, 10 * MS);
        assert_eq!(presence.wake(4 * MS), None, "something happened");
        presence.sleep(4 * MS, 10 * MS);
        assert_eq!(presence.wake(10 * MS + USUAL_LAG_NS), None);
        assert_eq!(presence.result(None).lag.unwrap().count(), 1);
    }

    #[test]
    fn one_that_was_stopped_was_away_since_it_last_ran() {
        let mut presence = Presence::new(0, 25 * MS);
        presence.sleep(3 * MS, 10 * MS);
        let gap = presence.wake(1003 * MS).unwrap();
        assert_eq!((gap.from, gap.until), (3 * MS, 1003 * MS));
        assert!(presence.is_told(gap));
        presence.note(gap, AbsenceCause::Stopped);
        // A wake-up that was late.
        presence.sleep(1003 * MS, 1010 * MS);
        let gap = presence.wake(1015 * MS).unwrap();
        assert_eq!((gap.from, gap.until), (1010 * MS, 1015 * MS));
        assert!(!presence.is_told(gap));
        let client = presence.result(None);
        assert_eq!(client.absences.len(), 1);
        assert_eq!((client.absent_s, client.longest_absence_s), (1.0, 1.0));
    }

    #[test]
    fn one_that_was_stopped_at_its_work_was_away_too() {
        let mut presence = Presence::new(0, 25 * MS);
        presence.sleep(0, 10 * MS);
        assert_eq!(presence.wake(10 * MS), None);
        assert_eq!(presence.go_on(11 * MS), None);
        presence.sleep(11 * MS, 20 * MS);
        assert_eq!(presence.wake(20 * MS), None);
        let gap = presence.go_on(620 * MS).unwrap();
        assert_eq!((gap.from, gap.until), (20 * MS, 620 * MS));
        assert_eq!(presence.go_on(621 * MS), None);
    }

    #[test]
    fn the_cause_is_what_explains_most() {
        let gap = Gap {
            from: 0,
            until: 1000,
        };
        let none = Evidence::default();
        assert_eq!(none.cause(gap), AbsenceCause::Stopped);
        for (evidence, cause) in [
            (
                Evidence {
                    suspended: 900,
                    ..none
                },
                AbsenceCause::Suspend,
            ),
            (
                Evidence {
                    waited_for_cpu: 900,
                    ..none
                },
                AbsenceCause::Busy,
            ),
            (
                Evidence {
                    stolen: 600,
                    waited_for_cpu: 900,
                    ..none
                },
                AbsenceCause::Steal,
            ),
        ] {
            assert_eq!(evidence.cause(gap), cause);
        }
    }

    #[test]
    fn of_too_many_absences_the_longest_stay() {
        let mut presence = Presence::new(0, 0);
        for number in 1..=MAX_ABSENCES as u64 + 5 {
            let from = number * 1_000_000;
            let until = from + number;
            presence.note(Gap { from, until }, AbsenceCause::Busy);
        }
        let client = presence.result(None);
        assert_eq!(client.absences.len(), MAX_ABSENCES);
        assert_eq!(client.absences_omitted, 5);
        assert_eq!(presence.total().0, MAX_ABSENCES as u64 + 5);
    }
}
