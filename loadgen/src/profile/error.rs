//! Errors of reading a profile or laying it out in time.

use std::fmt;

use echomark::net::units::UnitError;

/// The maximum rate in messages per second: one per nanosecond, the resolution of the clock.
pub const MAX_RATE: f64 = 1e9;
/// Maximum of pieces: more than anyone writes by hand, and still fast to search.
pub(super) const MAX_PIECES: usize = 1000;

/// An error in a profile: the piece, and the remedy.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProfileError {
    /// Its number, from 1, and its text; `None` if there is only one piece or the error is in none.
    pub(super) piece: Option<(usize, String)>,
    pub(super) problem: Problem,
}

impl ProfileError {
    pub(super) fn of_the_whole(problem: Problem) -> Self {
        Self {
            piece: None,
            problem,
        }
    }
}

#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Problem {
    Empty,
    Unit(UnitError),
    TooFast,
    NoLength,
    RampOfNothing,
    LengthMissing,
    Silent,
    TooManyPieces,
    NoWindow,
}

impl fmt::Display for ProfileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((number, text)) = &self.piece {
            write!(f, "piece {number}, `{text}`: ")?;
        }
        match &self.problem {
            Problem::Empty => f.write_str(
                "there is no rate; write for example 5k, the ramp 1k..10k, or the steps 1k@10s,2k@5s",
            ),
            Problem::Unit(error) => error.fmt(f),
            Problem::TooFast => f.write_str("a rate must be at most 1G"),
            Problem::NoLength => f.write_str("its length must be longer than 0"),
            Problem::RampOfNothing => f.write_str(
                "a ramp must have a rate of more than 0 at one end; a pause is written as 0",
            ),
            Problem::LengthMissing => f.write_str(
                "it has no length and others have; give each one, as in 1k@10s,2k@5s, or none",
            ),
            Problem::Silent => f.write_str("the rate must be more than 0 at some time"),
            Problem::TooManyPieces => write!(f, "there must be at most {MAX_PIECES} pieces"),
            Problem::NoWindow => f.write_str(
                "pieces without lengths share the window, and it has none; give it one (-d), or \
                 each piece its own, as in 1k..2k@10s",
            ),
        }
    }
}

impl std::error::Error for ProfileError {}

pub(super) fn check_rate(rate: f64) -> Result<f64, Problem> {
    match rate {
        rate if rate > MAX_RATE => Err(Problem::TooFast),
        rate if rate > 0.0 => Ok(rate),
        _ => Err(Problem::Silent),
    }
}
