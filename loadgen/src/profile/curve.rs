//! The integral of a rate over time: the number of messages due by a time, and the due time of a
//! message.
//!
//! The rate is piecewise linear, so its integral consists of straight lines and parabolas. Each
//! time is computed from the message's number alone: rounding errors do not accumulate, and any
//! thread can compute the time of any message.

/// The number of messages of the whole run due by a time, counted from the start of the schedule.
///
/// Rates are in messages per second, times in nanoseconds. The last rate continues without end.
#[derive(Clone, Debug, PartialEq)]
pub struct Curve {
    /// Without gaps, beginning at zero; the last one has no end.
    pieces: Vec<Piece>,
}

/// A time, and the number of messages due before it.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Point {
    time_ns: f64,
    count: f64,
}

/// A period in which the rate is constant or changes linearly.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Piece {
    start: Point,
    /// Belongs to the next piece.
    end: Point,
    shape: Shape,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Shape {
    Constant {
        rate: f64,
        gap_ns: f64,
    },
    /// Described from its slower end, so that no subtraction is needed under the square root.
    Ramp {
        foot: Point,
        foot_rate: f64,
        /// Change of the rate per nanosecond, away from the foot.
        slope: f64,
        /// 1 if the rate rises with time, -1 if it falls.
        direction: f64,
    },
}

impl Curve {
    pub(super) fn new() -> Self {
        Self { pieces: Vec::new() }
    }

    /// One rate without end.
    pub(crate) fn constant(rate: f64) -> Self {
        let mut curve = Self::new();
        curve.extend(rate, rate, f64::INFINITY);
        curve
    }

    /// Continues from the end, from rate `from` to rate `to` at time `until_ns`.
    pub(super) fn extend(&mut self, from: f64, to: f64, until_ns: f64) {
        let mut start = self.pieces.last().map_or(Point::ORIGIN, |last| last.end);
        if until_ns <= start.time_ns {
            return;
        }
        if let Some(last) = self
            .pieces
            .pop_if(|last| from == to && last.is_constant(from))
        {
            start = last.start;
        }
        self.pieces.push(Piece::new(start, from, to, until_ns));
    }

    /// The number of messages due before `time_ns`, including the fraction of the next one.
    pub fn count(&self, time_ns: f64) -> f64 {
        let after = self
            .pieces
            .partition_point(|piece| piece.start.time_ns <= time_ns);
        self.pieces[after.saturating_sub(1)].count(time_ns)
    }

    /// The due time of message number `count`; `None` if the rate falls to 0 for good before.
    pub fn time_ns(&self, count: f64) -> Option<f64> {
        let index = self
            .pieces
            .partition_point(|piece| piece.end.count <= count);
        self.pieces.get(index).map(|piece| piece.time_ns(count))
    }
}

impl Point {
    const ORIGIN: Self = Self {
        time_ns: 0.0,
        count: 0.0,
    };
}

impl Piece {
    fn new(start: Point, from: f64, to: f64, until_ns: f64) -> Self {
        let length_ns = until_ns - start.time_ns;
        // A pause may be endless, and 0 times infinity is NaN.
        let messages = if from + to > 0.0 {
            (from + to) / 2.0 * length_ns / 1e9
        } else {
            0.0
        };
        let end = Point {
            time_ns: until_ns,
            count: start.count + messages,
        };
        let shape = if from == to {
            Shape::Constant {
                rate: from,
                // Finite, so that message 0 is due at once even at the slowest rate.
                gap_ns: (1e9 / from).min(f64::MAX),
            }
        } else {
            let is_rising = from < to;
            Shape::Ramp {
                foot: if is_rising { start } else { end },
                foot_rate: from.min(to),
                slope: (to - from).abs() / length_ns,
                direction: if is_rising { 1.0 } else { -1.0 },
            }
        };
        Self { start, end, shape }
    }

    fn is_constant(&self, at: f64) -> bool {
        matches!(self.shape, Shape::Constant { rate, .. } if rate == at)
    }

    fn count(&self, time_ns: f64) -> f64 {
        match self.shape {
            Shape::Constant { rate, .. } => {
                self.start.count + rate * (time_ns - self.start.time_ns) / 1e9
            }
            Shape::Ramp {
                foot,
                foot_rate,
                slope,
                direction,
            } => {
                let away = (time_ns - foot.time_ns).abs();
                foot.count + direction * (foot_rate + slope * away / 2.0) * away / 1e9
            }
        }
    }

    #[inline]
    fn time_ns(&self, count: f64) -> f64 {
        let time_ns = match self.shape {
            Shape::Constant { gap_ns, .. } => {
                self.start.time_ns + (count - self.start.count) * gap_ns
            }
            Shape::Ramp {
                foot,
                foot_rate,
                slope,
                direction,
            } => foot.time_ns + direction * climb(foot_rate, slope, (count - foot.count).abs()),
        };
        // Rounding must not move a message into a neighbouring piece, past other messages.
        time_ns.max(self.start.time_ns).min(self.end.time_ns)
    }
}

/// The time that a rate beginning at `rate` with `slope` needs for `count` messages.
///
/// The positive root of `slope / 2 · t² + rate · t = count`, in the form without cancellation,
/// which also works for a slope near 0 (Press et al., "Numerical Recipes", 3rd edition, 5.6).
#[inline]
fn climb(rate: f64, slope: f64, count: f64) -> f64 {
    if count <= 0.0 {
        return 0.0;
    }
    // Rates are per second, times in nanoseconds.
    let count = count * 1e9;
    2.0 * count / (rate + (rate * rate + 2.0 * slope * count).sqrt())
}

/// A curve for queries in ascending order, whose rate can change from a time on.
#[derive(Debug)]
pub(crate) struct Cursor {
    curve: Curve,
    index: usize,
    /// The index of the piece with the last queried number.
    piece: Piece,
}

impl Cursor {
    pub(crate) fn new(curve: Curve) -> Self {
        let piece = curve.pieces[0];
        Self {
            curve,
            index: 0,
            piece,
        }
    }

    /// The due time of message number `count`; infinity if there is none.
    #[inline]
    pub(crate) fn time_ns(&mut self, count: f64) -> f64 {
        if count >= self.piece.end.count && !self.advance_to(count) {
            return f64::INFINITY;
        }
        self.piece.time_ns(count)
    }

    /// The number of messages due before `time_ns`, in a piece that is kept.
    pub(crate) fn count(&self, time_ns: f64) -> f64 {
        self.curve.count(time_ns)
    }

    /// The due time of a message further on, without moving to it.
    pub(crate) fn look_up(&self, count: f64) -> Option<f64> {
        self.curve.time_ns(count)
    }

    /// Moves to the piece with `count`, and returns whether there is one.
    #[cold]
    fn advance_to(&mut self, count: f64) -> bool {
        while count >= self.piece.end.count {
            let Some(&next) = self.curve.pieces.get(self.index + 1) else {
                return false;
            };
            self.index += 1;
            self.piece = next;
        }
        true
    }

    /// Sets the rate from `time_ns` on. Messages due before keep their times.
    ///
    /// Numbers below `next` are not queried any more. So only pieces with overdue numbers are kept,
    /// however often the rate changes.
    pub(crate) fn change_rate(&mut self, time_ns: f64, rate: f64, next: f64) {
        let pieces = &mut self.curve.pieces;
        let time_ns = time_ns.max(pieces[0].start.time_ns);
        pieces.truncate(pieces.partition_point(|piece| piece.start.time_ns < time_ns));
        // Nothing is left only if the time is the start.
        let mut now = self.piece.start;
        if let Some(last) = pieces.last_mut() {
            now = Point {
                time_ns,
                count: last.count(time_ns),
            };
            last.end = now;
        }
        pieces.drain(..pieces.partition_point(|piece| piece.end.count <= next));
        pieces.push(Piece::new(now, rate, rate, f64::INFINITY));
        self.index = 0;
        self.piece = pieces[0];
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: f64 = 1e9;

    fn curve(pieces: &[(f64, f64, f64)]) -> Curve {
        let mut curve = Curve::new();
        let mut until_ns = 0.0;
        for &(from, to, length_ns) in pieces {
            until_ns += length_ns;
            curve.extend(from, to, until_ns);
        }
        let last = pieces.last().unwrap().1;
        curve.extend(last, last, f64::INFINITY);
        curve
    }

    #[test]
    fn equal_rates_in_a_row_are_one_piece() {
        let curve = curve(&[(5.0, 5.0, SECOND), (5.0, 5.0, SECOND), (7.0, 7.0, SECOND)]);
        assert_eq!(curve.pieces.len(), 2);
        assert_eq!(curve.count(2.0 * SECOND), 10.0);
        assert_eq!(curve.time_ns(10.0), Some(2.0 * SECOND));
        assert_eq!(curve.time_ns(17.0), Some(3.0 * SECOND));
    }

    #[test]
    fn nothing_is_due_in_a_pause_and_nothing_after_the_last_one() {
        let curve = curve(&[
            (0.0, 0.0, SECOND),
            (4.0, 4.0, SECOND),
            (0.0, 0.0, SECOND),
            (2.0, 0.0, SECOND),
        ]);
        let times: Vec<_> = (0..6)
            .map(|count| curve.time_ns(f64::from(count)))
            .collect();
        let quarter = SECOND / 4.0;
        assert_eq!(
            times[..4],
            [4.0, 5.0, 6.0, 7.0].map(|quarters| Some(quarters * quarter))
        );
        assert_eq!(times[4..], [Some(3.0 * SECOND), None]);
        assert_eq!(curve.count(2.5 * SECOND), 4.0);
        assert_eq!(curve.count(9.0 * SECOND), 5.0);
    }

    #[test]
    fn a_long_ramp_is_exact_at_both_ends_and_in_its_middle() {
        // 1.8e14 messages; the first and the last from rest take 27 ms.
        let length_ns = 100.0 * 3600.0 * SECOND;
        let (rising, falling) = (
            curve(&[(0.0, 1e9, length_ns)]),
            curve(&[(1e9, 0.0, length_ns)]),
        );
        let total = rising.count(length_ns);
        assert_eq!(total, falling.count(length_ns));
        for count in [1.0, 1000.0, total / 2.0, total - 1000.0] {
            let exact = (2.0 * count / 1e9 * length_ns * SECOND).sqrt();
            let time_ns = rising.time_ns(count).unwrap();
            assert!((time_ns / exact - 1.0).abs() < 1e-12, "{count}: {time_ns}");
            let mirrored = length_ns - falling.time_ns(total - count).unwrap();
            assert!((mirrored - exact).abs() < 0.1, "{count}: {mirrored}");
        }
    }

    #[test]
    fn a_ramp_that_is_nearly_level_is_nearly_constant() {
        let curve = curve(&[(1e6, 1e6 * (1.0 + 1e-15), SECOND)]);
        assert!((curve.time_ns(123_456.0).unwrap() - 123_456_000.0).abs() < 1e-3);
    }

    #[test]
    fn the_slowest_rates_are_no_division_by_nothing() {
        let constant = Curve::constant(5e-324);
        assert_eq!(constant.time_ns(0.0), Some(0.0));
        assert!(constant.time_ns(1.0).unwrap() > 1e300);
        for (from, to) in [(0.0, 1e-300), (1e-300, 0.0)] {
            let curve = curve(&[(from, to, SECOND)]);
            let time_ns = curve.time_ns(0.0).unwrap();
            assert!(
                (0.0..=SECOND).contains(&time_ns),
                "{from} to {to}: {time_ns}"
            );
            assert!(curve.time_ns(1.0).is_none_or(|time_ns| time_ns > SECOND));
        }
    }

    #[test]
    fn only_overdue_pieces_outlast_a_change() {
        let mut cursor = Cursor::new(curve(&[(1.0, 3.0, SECOND), (5.0, 5.0, SECOND)]));
        for ms in 1..=1000 {
            let time_ns = f64::from(ms) * 1e6;
            // Number 0 is taken; number 1 comes after all changes.
            cursor.change_rate(time_ns, f64::from(ms % 3) / 10.0, 1.0);
            assert_eq!(cursor.curve.pieces.len(), 1);
        }
        cursor.change_rate(1100.0 * 1e6, 1e3, 1.0);
        // Now it is overdue, and some hundred after it.
        cursor.change_rate(1300.0 * 1e6, 1e6, 1.0);
        assert_eq!(cursor.curve.pieces.len(), 2);
        assert!((1100.0..1101.0).contains(&(cursor.time_ns(1.0) / 1e6)));
        assert!((1300.0..1301.0).contains(&(cursor.time_ns(300.0) / 1e6)));
    }

    proptest! {
        #[test]
        fn time_and_count_are_each_other_s_inverse(
            pieces in prop::collection::vec((0_u32..5, 0_u32..5, 1_u32..5000), 1..6),
            at in 0.0..1.0,
        ) {
            let rates = [0.0, 0.7, 1e3, 33_333.0, 1e6];
            let pieces: Vec<_> = pieces
                .into_iter()
                .map(|(from, to, ms)| (rates[from as usize], rates[to as usize], f64::from(ms) * 1e6))
                .collect();
            let curve = curve(&pieces);
            let length_ns: f64 = pieces.iter().map(|piece| piece.2).sum();
            let count = curve.count(at * length_ns);
            if let Some(time_ns) = curve.time_ns(count) {
                prop_assert!((curve.count(time_ns) - count).abs() < 1e-6);
            }
        }

        #[test]
        fn later_messages_are_due_later(
            pieces in prop::collection::vec((0_u32..2_000_000, 0_u32..2_000_000, 1_u32..1000), 1..8),
            first in 0.0..1.0,
        ) {
            let pieces: Vec<_> = pieces
                .into_iter()
                .map(|(from, to, us)| (f64::from(from), f64::from(to), f64::from(us) * 1e3))
                .collect();
            let curve = curve(&pieces);
            let length_ns: f64 = pieces.iter().map(|piece| piece.2).sum();
            let first = f64::floor(first * curve.count(length_ns));
            let mut cursor = Cursor::new(curve.clone());
            let mut before = f64::NEG_INFINITY;
            for number in 0..500 {
                let count = first + f64::from(number);
                let time_ns = cursor.time_ns(count);
                prop_assert_eq!(curve.time_ns(count).unwrap_or(f64::INFINITY), time_ns);
                prop_assert!(time_ns >= before);
                before = time_ns;
            }
        }
    }
}
