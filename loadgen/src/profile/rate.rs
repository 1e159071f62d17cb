//! A rate that changes over time: constant, in steps, as ramps, and every mixture of them.

use std::time::Duration;

use super::Curve;
use super::error::{MAX_RATE, Problem, ProfileError, check_rate};

/// Messages per second of the whole run, over the time since the start of the window.
///
/// | Text | Meaning |
/// |---|---|
/// | `5k` | constant |
/// | `1k..10k` | a ramp over the whole window |
/// | `1k,2k,5k` | steps of equal length over the whole window |
/// | `1k@10s,0@5s,2k..5k@20s` | pieces with lengths of their own: a step, a pause, a ramp |
///
/// Either all pieces have lengths or none has. After the last piece its last rate goes on. Before
/// the window, in the warm-up, the first rate that is not 0 holds: a warm-up in which nothing flows
/// would warm nothing.
///
/// Stored as a number if it is one rate without a length, otherwise as its text.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// At least one. All have a length, or none has.
    pub(super) pieces: Vec<Piece>,
}

/// A linear change from one rate to another; a step if they are equal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    pub(super) from: f64,
    pub(super) to: f64,
    pub(super) length: Option<Duration>,
}

impl Profile {
    /// One rate for the whole run, in messages per second.
    ///
    /// # Errors
    /// Unless it is more than 0 and at most 10⁹.
    pub fn constant(rate: f64) -> Result<Self, ProfileError> {
        check_rate(rate).map_err(ProfileError::of_the_whole)?;
        Self::new(vec![Piece {
            from: rate,
            to: rate,
            length: None,
        }])
    }

    pub(super) fn new(pieces: Vec<Piece>) -> Result<Self, ProfileError> {
        if pieces.iter().all(|piece| piece.from + piece.to == 0.0) {
            return Err(ProfileError::of_the_whole(Problem::Silent));
        }
        Ok(Self { pieces })
    }

    /// The rate, if it is one rate without a length.
    pub fn constant_rate(&self) -> Option<f64> {
        match self.pieces[..] {
            [
                Piece {
                    from,
                    to,
                    length: None,
                },
            ] if from == to => Some(from),
            _ => None,
        }
    }

    /// The sum of two profiles: constant rates are added, equal profiles doubled. `None` if the sum
    /// is not a profile.
    pub fn plus(&self, other: &Self) -> Option<Self> {
        if let (Some(rate), Some(other)) = (self.constant_rate(), other.constant_rate()) {
            return Self::constant(rate + other).ok();
        }
        let is_alike = self.pieces.len() == other.pieces.len();
        let both = |(a, b): (&Piece, &Piece)| {
            // The sum of ramps with different lengths, or of steps at different times, has another
            // shape.
            let is_alike = a.length == b.length;
            let sum = Piece {
                from: a.from + b.from,
                to: a.to + b.to,
                length: a.length,
            };
            let is_possible = sum.from.max(sum.to) <= MAX_RATE;
            (is_alike && is_possible).then_some(sum)
        };
        let pieces = self.pieces.iter().zip(&other.pieces).map(both);
        Self::new(pieces.collect::<Option<_>>().filter(|_| is_alike)?).ok()
    }

    /// Total length of all pieces; `None` if they have no lengths.
    pub fn length(&self) -> Option<Duration> {
        self.pieces
            .iter()
            .try_fold(Duration::ZERO, |sum, piece| sum.checked_add(piece.length?))
    }

    /// Lays the profile out in time: a warm-up, then a window of the given length, or of unknown
    /// length.
    ///
    /// # Errors
    /// [`ProfileError`] if the pieces have no lengths, and there is no window to divide.
    pub fn resolve(
        &self,
        warm_up: Duration,
        window: Option<Duration>,
    ) -> Result<Curve, ProfileError> {
        let shared_ns = match (window, self.constant_rate()) {
            (Some(window), _) => Some(nanoseconds(window)),
            // A constant rate is independent of the length.
            (None, Some(_)) => Some(f64::INFINITY),
            (None, None) => None,
        };
        let mut curve = Curve::new();
        let first = self.first_rate();
        let window_start_ns = nanoseconds(warm_up);
        curve.extend(first, first, window_start_ns);
        let mut own_lengths = Duration::ZERO;
        for (index, piece) in self.pieces.iter().enumerate() {
            let until_ns = match (piece.length, shared_ns) {
                (Some(length), _) => {
                    own_lengths = own_lengths.saturating_add(length);
                    nanoseconds(own_lengths)
                }
                (None, Some(shared_ns)) => {
                    shared_ns * ((index + 1) as f64 / self.pieces.len() as f64)
                }
                (None, None) => return Err(ProfileError::of_the_whole(Problem::NoWindow)),
            };
            curve.extend(piece.from, piece.to, window_start_ns + until_ns);
        }
        let last = self.pieces[self.pieces.len() - 1].to;
        curve.extend(last, last, f64::INFINITY);
        Ok(curve)
    }

    /// The first rate above 0.
    pub(crate) fn first_rate(&self) -> f64 {
        self.pieces
            .iter()
            .flat_map(|piece| [piece.from, piece.to])
            .find(|&rate| rate > 0.0)
            .unwrap_or_default()
    }
}

fn nanoseconds(duration: Duration) -> f64 {
    duration.as_nanos() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: f64 = 1e9;

    fn profile(text: &str) -> Profile {
        text.parse()
            .unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// The curve over a window of ten seconds, without a warm-up.
    fn curve(text: &str) -> Curve {
        let window = Some(Duration::from_secs(10));
        profile(text).resolve(Duration::ZERO, window).unwrap()
    }

    #[test]
    fn every_form_has_its_integral() {
        for (text, counts) in [
            ("5k", [5_000.0, 25_000.0, 50_000.0, 75_000.0]),
            ("1k..11k", [1_500.0, 17_500.0, 60_000.0, 115_000.0]),
            ("1k,0,3k,2k..4k,5k", [1_000.0, 5_000.0, 24_000.0, 49_000.0]),
            ("1k@3s,5k@7s", [1_000.0, 13_000.0, 38_000.0, 63_000.0]),
            ("2k..0@4s,0@8s,1k@1s", [1_750.0, 4_000.0, 4_000.0, 7_000.0]),
        ] {
            let curve = curve(text);
            for (seconds, count) in [1.0, 5.0, 10.0, 15.0].into_iter().zip(counts) {
                assert_eq!(
                    curve.count(seconds * SECOND),
                    count,
                    "{text} at {seconds} s"
                );
            }
        }
    }

    #[test]
    fn the_first_rate_that_is_not_0_holds_in_the_warm_up() {
        for (text, rate) in [("3k..5k", 3e3), ("0..5k", 5e3), ("0@1s,2k@1s", 2e3)] {
            let window = Some(Duration::from_secs(10));
            let curve = profile(text)
                .resolve(Duration::from_secs(2), window)
                .unwrap();
            assert_eq!(curve.count(SECOND), rate, "{text}");
            assert_eq!(curve.count(2.0 * SECOND), 2.0 * rate, "{text}");
        }
    }

    #[test]
    fn without_a_window_lengths_are_needed() {
        for text in ["5k", "5k@1s,1k@2s"] {
            assert!(profile(text).resolve(Duration::ZERO, None).is_ok());
        }
        for text in ["1k..2k", "1k,2k"] {
            let error = profile(text).resolve(Duration::ZERO, None).unwrap_err();
            assert!(error.to_string().contains("-d"), "{error}");
        }
    }

    #[test]
    fn the_length_is_that_of_all_pieces() {
        let length = profile("1k@10s,2k..3k@500ms").length();
        assert_eq!(length, Some(Duration::from_millis(10_500)));
        assert_eq!(profile("1k,2k").length(), None);
    }
}
