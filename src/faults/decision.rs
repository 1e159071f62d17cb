//! What becomes of one message.

use std::time::Duration;

use super::distribution::unit;
use super::{Distribution, Faults, Ratio};

/// What an endpoint does with a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Decision {
    /// Processor time that it costs.
    pub(crate) work_ns: u64,
    pub(crate) outcome: Outcome,
}

/// What its sender gets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Outcome {
    /// Nothing.
    Drop,
    /// A reset, this time after the arrival.
    Reset {
        delay_ns: u64,
    },
    Answer(Answer),
}

/// How a message is answered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Answer {
    /// From the arrival on.
    pub(crate) delay_ns: u64,
    /// Whether it changes places with the next one.
    pub(crate) is_reordered: bool,
    /// Whether it is sent twice.
    pub(crate) is_duplicated: bool,
    /// Chooses the bit that is changed.
    pub(crate) corruption: Option<u64>,
}

impl Answer {
    /// Changes one bit of the answer, if it is to be corrupt and has one.
    pub(crate) fn corrupt(&self, bytes: &mut [u8]) {
        let bits = bytes.len() as u64 * 8;
        if let Some(word) = self.corruption
            && bits > 0
        {
            // The high half of the product is below the number of bits, and as good as even.
            let bit = ((u128::from(word) * u128::from(bits)) >> 64) as usize;
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}

/// The random words of one message: a hash, so that each is known without those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Draws(u64);

/// What a word is for. The numbers are part of what a seed means.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Delay = 1,
    DelayToo = 2,
    Work = 3,
    WorkToo = 4,
    Drop = 5,
    Duplicate = 6,
    Reorder = 7,
    Corrupt = 8,
    CorruptBit = 9,
    Reset = 10,
}

impl Draws {
    /// Those of a message of a connection; a datagram is of connection 0.
    pub(crate) fn of(seed: u64, connection: u64, message: u64) -> Self {
        let of_connection = mix(mix(seed).wrapping_add(connection));
        Self(mix(of_connection.wrapping_add(message)))
    }

    fn word(self, purpose: Purpose) -> u64 {
        /// 2^64 divided by the golden ratio, made odd, as in SplitMix64.
        const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
        mix(self.0.wrapping_add((purpose as u64).wrapping_mul(GOLDEN)))
    }

    pub(super) fn delay(self, distribution: &Distribution) -> u64 {
        distribution.draw([Purpose::Delay, Purpose::DelayToo].map(|it| self.word(it)))
    }

    fn work(self, distribution: &Distribution) -> u64 {
        distribution.draw([Purpose::Work, Purpose::WorkToo].map(|it| self.word(it)))
    }

    fn is_hit(self, ratio: Option<Ratio>, purpose: Purpose) -> bool {
        ratio.is_some_and(|ratio| unit(self.word(purpose)) < ratio.get())
    }
}

impl Faults {
    /// The delay of the answer to a message.
    pub(crate) fn delay_of(&self, connection: u64, message: u64) -> Duration {
        let draws = Draws::of(self.seed.unwrap_or_default(), connection, message);
        let delay_ns = self.delay.as_ref().map_or(0, |it| draws.delay(it));
        Duration::from_nanos(delay_ns)
    }

    /// Decides about a message: first whether it gets a reset, then whether it gets an answer, then
    /// which.
    pub(crate) fn decide(&self, draws: Draws) -> Decision {
        let delay_ns = self.delay.as_ref().map_or(0, |it| draws.delay(it));
        let outcome = if draws.is_hit(self.reset, Purpose::Reset) {
            Outcome::Reset { delay_ns }
        } else if draws.is_hit(self.drop, Purpose::Drop) {
            Outcome::Drop
        } else {
            let is_corrupt = draws.is_hit(self.corrupt, Purpose::Corrupt);
            Outcome::Answer(Answer {
                delay_ns,
                is_reordered: draws.is_hit(self.reorder, Purpose::Reorder),
                is_duplicated: draws.is_hit(self.duplicate, Purpose::Duplicate),
                corruption: is_corrupt.then(|| draws.word(Purpose::CorruptBit)),
            })
        };
        Decision {
            work_ns: self.work.as_ref().map_or(0, |it| draws.work(it)),
            outcome,
        }
    }
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood, 2014): each bit of the input changes each bit of
/// the output in half of all cases.
fn mix(word: u64) -> u64 {
    let mut z = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MESSAGES: u64 = 100_000;

    fn decide(options: &str) -> impl Iterator<Item = Decision> {
        let faults: Faults = options.parse().unwrap();
        (0..MESSAGES).map(move |message| faults.decide(Draws::of(7, 1, message)))
    }

    #[track_caller]
    fn assert_share(count: usize, share: f64) {
        let n = MESSAGES as f64;
        let tolerance = 5.0 * (n * share * (1.0 - share)).sqrt();
        assert!(
            (count as f64 - n * share).abs() < tolerance,
            "{count}, expected {}",
            n * share
        );
    }

    #[test]
    fn shares_are_those_given() {
        let all: Vec<_> = decide("drop=10%&duplicate=5%&corrupt=2%&reorder=1%&reset=1%").collect();
        let count = |is: fn(&Outcome) -> bool| all.iter().filter(|it| is(&it.outcome)).count();
        assert_share(count(|it| matches!(it, Outcome::Reset { .. })), 0.01);
        assert_share(count(|it| matches!(it, Outcome::Drop)), 0.99 * 0.1);
        let of_answers = |is: fn(&Answer) -> bool| {
            let answers = all.iter().filter_map(|it| match &it.outcome {
                Outcome::Answer(answer) => Some(answer),
                _ => None,
            });
            answers.filter(|it| is(it)).count()
        };
        let answered = 0.99 * 0.9;
        assert_share(of_answers(|it| it.is_duplicated), answered * 0.05);
        assert_share(of_answers(|it| it.corruption.is_some()), answered * 0.02);
        assert_share(of_answers(|it| it.is_reordered), answered * 0.01);
        // Independent of each other.
        let both = of_answers(|it| it.is_duplicated && it.corruption.is_some());
        assert_share(both, answered * 0.05 * 0.02);
    }

    #[test]
    fn an_option_changes_nothing_about_the_others() {
        let alone = decide("drop=1%&seed=1").map(|it| it.outcome == Outcome::Drop);
        let among = decide("drop=1%&corrupt=5%&delay=exp:1ms&work=1us&duplicate=3%");
        assert!(alone.eq(among.map(|it| it.outcome == Outcome::Drop)));
    }

    #[test]
    fn a_seed_means_the_same_for_ever() {
        let faults: Faults = "delay=exp:1ms&drop=50%".parse().unwrap();
        let delays: Vec<_> = (0..4)
            .map(
                |message| match faults.decide(Draws::of(1, 0, message)).outcome {
                    Outcome::Answer(answer) => Some(answer.delay_ns),
                    _ => None,
                },
            )
            .collect();
        assert_eq!(delays, SEED_1);
    }

    const SEED_1: [Option<u64>; 4] = [Some(516_119), Some(297_081), None, None];

    proptest! {
        #[test]
        fn a_corrupt_answer_differs_in_one_bit(
            bytes in prop::collection::vec(any::<u8>(), 0..100), word in any::<u64>(),
        ) {
            let answer = Answer {
                delay_ns: 0,
                is_reordered: false,
                is_duplicated: false,
                corruption: Some(word),
            };
            let mut changed = bytes.clone();
            answer.corrupt(&mut changed);
            let bits: u32 = bytes.iter().zip(&changed).map(|(a, b)| (a ^ b).count_ones()).sum();
            prop_assert_eq!(bits, u32::from(!bytes.is_empty()));
        }

        #[test]
        fn messages_and_connections_differ(seed in any::<u64>(), n in 0_u64..1 << 40) {
            let all = [
                Draws::of(seed, n, n),
                Draws::of(seed, n + 1, n),
                Draws::of(seed, n, n + 1),
                Draws::of(seed.wrapping_add(1), n, n),
            ];
            for (index, draws) in all.iter().enumerate() {
                prop_assert!(!all[index + 1..].contains(draws));
            }
        }
    }
}
