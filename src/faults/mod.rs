//! What goes wrong at an endpoint on order: the options behind the `?` of an endpoint, what they decide
//! about each message, and when the endpoint stands still. Pure: numbers and times are parameters.
//!
//! What a decision depends on is the seed, the number of the connection at its endpoint, the number of
//! the message on the connection, and the option, and nothing else. So the same seed decides the same
//! again, and an option that is added or taken away changes nothing about the others.

use std::num::NonZeroU64;
use std::time::Duration;

use crate::net::endpoint::Endpoint;
use crate::service::Service;

mod decision;
mod distribution;
mod options;

pub(crate) use decision::{Answer, Draws, Outcome};
pub use distribution::Distribution;
pub use options::FaultsError;

/// The faults of an endpoint. [`Faults::default`] has none.
///
/// A message is a datagram, or what one read of a connection returned, at most 64 KiB. Text and
/// [`FromStr`](std::str::FromStr) are the options of an endpoint: `delay=exp:1ms&drop=0.1%`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Faults {
    /// The time from the arrival of a message to its answer. An hour at most.
    pub delay: Option<Distribution>,
    /// The processor time that a message costs its worker. A second at most.
    pub work: Option<Distribution>,
    /// The share of messages that get no answer.
    pub drop: Option<Ratio>,
    /// The share of answers that are sent twice.
    pub duplicate: Option<Ratio>,
    /// The share of answers that change places with the next one.
    pub reorder: Option<Ratio>,
    /// The share of answers with one bit changed.
    pub corrupt: Option<Ratio>,
    /// The share of messages that get a reset of their connection instead of an answer.
    pub reset: Option<Ratio>,
    /// The messages after which a connection is closed.
    pub close_after: Option<NonZeroU64>,
    /// When the endpoint stands still.
    pub stall: Option<Stall>,
    /// What the decisions depend on; drawn at the start of the server if it is not given.
    pub seed: Option<u64>,
}

/// A share of messages, above 0 and at most 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio(f64);

impl Ratio {
    /// A share; `None` unless it is above 0 and at most 1.
    pub fn new(share: f64) -> Option<Self> {
        (share > 0.0 && share <= 1.0).then_some(Self(share))
    }

    /// The share.
    pub fn get(self) -> f64 {
        self.0
    }
}

/// A standstill that begins whenever the wall clock is at a multiple of its period.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Stall {
    length: Duration,
    period: Duration,
}

/// A standstill that is under way.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Standstill {
    /// Periods since the Unix epoch.
    pub(crate) number: u64,
    pub(crate) left_ns: u64,
}

impl Stall {
    /// A standstill of `length` at each multiple of `period` since the Unix epoch; `None` unless the
    /// length is above 0 and the period longer.
    pub fn new(length: Duration, period: Duration) -> Option<Self> {
        (!length.is_zero() && length < period).then_some(Self { length, period })
    }

    /// How long it takes.
    pub fn length(self) -> Duration {
        self.length
    }

    /// The time from one to the next.
    pub fn period(self) -> Duration {
        self.period
    }

    /// The standstill at this time since the Unix epoch, if there is one.
    pub(crate) fn at(self, real_ns: u64) -> Option<Standstill> {
        let [length, period] = [self.length, self.period].map(|it| it.as_nanos());
        let (number, into) = (u128::from(real_ns) / period, u128::from(real_ns) % period);
        // Both fit: they are less than the time and the length.
        (into < length).then(|| Standstill {
            number: number as u64,
            left_ns: (length - into) as u64,
        })
    }
}

/// The clocks and the processor of a worker, as faults use them.
pub(crate) trait Time {
    /// Nanoseconds on a clock that never goes back.
    fn now_ns(&self) -> u64;

    /// Nanoseconds since the Unix epoch on the wall clock.
    fn real_ns(&self) -> u64;

    /// Uses this much time of the processor.
    fn burn(&mut self, ns: u64);
}

impl Faults {
    /// Whether there is none: a seed alone decides nothing.
    pub fn is_none(&self) -> bool {
        let without_seed = Self {
            seed: None,
            ..self.clone()
        };
        without_seed == Self::default()
    }

    /// The standstill of the endpoint at this time since the Unix epoch.
    pub(crate) fn standstill(&self, real_ns: impl FnOnce() -> u64) -> Option<Standstill> {
        self.stall.and_then(|it| it.at(real_ns()))
    }

    /// The first of these options that makes no sense for a service on an endpoint, and what to do
    /// instead.
    pub(crate) fn objection(&self, service: Service, endpoint: &Endpoint) -> Option<String> {
        let found = self.given().into_iter().find_map(|name| {
            let why = objection_to(name, service, endpoint)?;
            Some((name, why))
        });
        if let Some((name, why)) = found {
            return Some(format!("can't have {name}: {why}"));
        }
        let decides = |it: &Option<Distribution>| it.as_ref().is_some_and(Distribution::is_random);
        let is_random = [
            self.drop,
            self.duplicate,
            self.reorder,
            self.corrupt,
            self.reset,
        ]
        .iter()
        .any(Option::is_some)
            || decides(&self.delay)
            || decides(&self.work);
        (self.seed.is_some() && !is_random).then(|| {
            "can't have seed: it decides nothing here; give a ratio or a distribution, or leave it out"
                .to_owned()
        })
    }

    /// The names of the options that are given, but for the seed.
    fn given(&self) -> Vec<&'static str> {
        [
            ("delay", self.delay.is_some()),
            ("work", self.work.is_some()),
            ("drop", self.drop.is_some()),
            ("duplicate", self.duplicate.is_some()),
            ("reorder", self.reorder.is_some()),
            ("corrupt", self.corrupt.is_some()),
            ("reset", self.reset.is_some()),
            ("close-after", self.close_after.is_some()),
            ("stall", self.stall.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, is_given)| is_given.then_some(name))
        .collect()
    }
}

/// What speaks against an option of this name, if anything does.
fn objection_to(name: &str, service: Service, endpoint: &Endpoint) -> Option<&'static str> {
    match (service, endpoint, name) {
        (Service::Chargen, _, _) => Some("chargen answers no messages; serve echo"),
        (Service::Whoami, _, _) => Some("whoami has no faults; serve echo"),
        (_, Endpoint::Udp(_), "reset" | "close-after") => {
            Some("UDP has no connection; give drop, or serve tcp://HOST:PORT")
        }
        (_, Endpoint::Unix(_), "reset") => {
            Some("a Unix socket has no reset; give close-after, or serve tcp://HOST:PORT")
        }
        (Service::Discard, _, "delay" | "drop" | "duplicate" | "reorder" | "corrupt") => {
            Some("discard sends no answers; serve echo")
        }
        (Service::Echo | Service::Discard, _, _) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_standstill_is_where_the_clock_is_at_a_multiple_of_the_period() {
        let stall = Stall::new(Duration::from_millis(200), Duration::from_secs(10)).unwrap();
        assert_eq!(
            stall.at(30_000_000_000),
            Some(Standstill {
                number: 3,
                left_ns: 200_000_000
            })
        );
        assert_eq!(stall.at(30_199_999_999).unwrap().left_ns, 1);
        assert_eq!(stall.at(30_200_000_000), None);
        assert_eq!(stall.at(39_999_999_999), None);
        assert_eq!(Stall::new(Duration::ZERO, Duration::from_secs(1)), None);
        let second = Duration::from_secs(1);
        assert_eq!(Stall::new(second, second), None);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_name() {
        let endpoint = |scheme: &str| match scheme {
            "unix" => "unix:/run/echod.sock".parse().unwrap(),
            _ => format!("{scheme}://127.0.0.1:7")
                .parse::<Endpoint>()
                .unwrap(),
        };
        for (service, scheme, options, refused) in [
            (
                Service::Echo,
                "tcp",
                "delay=1ms&reset=1%&close-after=3",
                None,
            ),
            (
                Service::Echo,
                "tls",
                "drop=1%&duplicate=1%&corrupt=1%",
                None,
            ),
            (Service::Echo, "udp", "delay=1ms&drop=1%&stall=1ms/1s", None),
            (Service::Echo, "unix", "delay=1ms&close-after=3", None),
            (
                Service::Discard,
                "tcp",
                "work=1us&reset=1%&close-after=9",
                None,
            ),
            (Service::Discard, "udp", "work=1us&stall=1ms/1s", None),
            (Service::Echo, "udp", "drop=1%&reset=1%", Some("reset: UDP")),
            (
                Service::Echo,
                "udp",
                "close-after=3",
                Some("close-after: UDP"),
            ),
            (Service::Discard, "udp", "reset=1%", Some("reset: UDP")),
            (Service::Echo, "unix", "reset=1%", Some("reset: a Unix")),
            (Service::Discard, "unix", "reset=1%", Some("reset: a Unix")),
            (Service::Discard, "tcp", "delay=1ms", Some("delay: discard")),
            (Service::Discard, "udp", "drop=1%", Some("drop: discard")),
            (
                Service::Chargen,
                "tcp",
                "stall=1ms/1s",
                Some("stall: chargen"),
            ),
            (Service::Whoami, "tcp", "delay=1ms", Some("delay: whoami")),
            (
                Service::Echo,
                "tcp",
                "delay=1ms&seed=1",
                Some("seed: it decides"),
            ),
            (Service::Echo, "tcp", "delay=exp:1ms&seed=1", None),
        ] {
            let faults: Faults = options.parse().unwrap();
            let objection = faults.objection(service, &endpoint(scheme));
            match (objection, refused) {
                (None, None) => {}
                (Some(text), Some(part)) => {
                    assert!(text.starts_with(&format!("can't have {part}")), "{text}");
                    assert!(text.contains(';'), "says what to do: {text}");
                }
                (found, _) => panic!("{service} {scheme} {options}: {found:?}"),
            }
        }
    }

    proptest! {
        #[test]
        fn of_each_period_the_share_stands_still(
            length in 1_u64..1_000_000, more in 1_u64..1_000_000, at in any::<u64>(),
        ) {
            let period = length + more;
            let stall = Stall::new(Duration::from_nanos(length), Duration::from_nanos(period));
            match stall.unwrap().at(at) {
                Some(Standstill { number, left_ns }) => {
                    prop_assert!(left_ns > 0 && left_ns <= length);
                    prop_assert_eq!(u128::from(at) + u128::from(left_ns),
                        u128::from(number) * u128::from(period) + u128::from(length));
                }
                None => prop_assert!(at % period >= length),
            }
        }
    }
}
