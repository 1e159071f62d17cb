//! Stretches of time, a bounded number of them. Pure.
//!
//! Those of several connections that overlap are one.

use std::collections::BTreeSet;

use crate::result::watch::OutageClass;

/// Maximum of stretches that are kept. A list of more says less than its longest.
pub(super) const MAX_STRETCHES: usize = 1000;

/// A stretch in which probes failed, or were answered late.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Stretch {
    /// When its first probe was due,
    pub(super) start: u64,
    /// and when the first answer after it came.
    pub(super) end: u64,
    /// How it began.
    pub(super) class: OutageClass,
    pub(super) error: Option<Box<str>>,
    pub(super) probes: u64,
    /// Indices of the connections.
    pub(super) connections: BTreeSet<usize>,
    /// Whether nothing has ended it.
    pub(super) ongoing: bool,
}

impl Stretch {
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Joins a stretch that overlaps. The one that began first says how.
    fn join(&mut self, other: Self) {
        if other.start < self.start {
            self.start = other.start;
            self.class = other.class;
            self.error = other.error;
        }
        self.end = self.end.max(other.end);
        self.probes += other.probes;
        self.connections.extend(other.connections);
        self.ongoing |= other.ongoing;
    }
}

/// Disjoint stretches by their time: the longest ones.
#[derive(Clone, Debug, Default)]
pub(super) struct Stretches {
    kept: Vec<Stretch>,
    /// Number, sum and maximum of the lengths of those left out.
    pub(super) omitted: (u64, u64, u64),
}

impl Stretches {
    /// Adds one.
    pub(super) fn add(&mut self, mut stretch: Stretch) {
        // They are disjoint, so their ends are sorted as their starts are.
        let from = self.kept.partition_point(|kept| kept.end < stretch.start);
        let to = self.kept.partition_point(|kept| kept.start <= stretch.end);
        let overlapping: Vec<Stretch> = self.kept.drain(from..to).collect();
        for other in overlapping {
            stretch.join(other);
        }
        self.kept.insert(from, stretch);
        if self.kept.len() > MAX_STRETCHES {
            self.omit_shortest();
        }
    }

    fn omit_shortest(&mut self) {
        let lengths = self.kept.iter().map(Stretch::length).enumerate();
        if let Some((index, length)) = lengths.min_by_key(|&(_, length)| length) {
            self.kept.remove(index);
            let (count, total, longest) = self.omitted;
            self.omitted = (count + 1, total + length, longest.max(length));
        }
    }

    /// Those that are kept, by their time.
    pub(super) fn kept(&self) -> &[Stretch] {
        &self.kept
    }

    /// Their number, those left out included.
    pub(super) fn count(&self) -> u64 {
        self.kept.len() as u64 + self.omitted.0
    }

    /// Their length together.
    pub(super) fn total(&self) -> u64 {
        self.kept.iter().map(Stretch::length).sum::<u64>() + self.omitted.1
    }

    /// The length of the longest.
    pub(super) fn longest(&self) -> u64 {
        let kept = self.kept.iter().map(Stretch::length).max();
        kept.unwrap_or(0).max(self.omitted.2)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(in crate::watch) fn stretch(start: u64, end: u64, connection: usize) -> Stretch {
        Stretch {
            start,
            end,
            class: OutageClass::Timeout,
            error: None,
            probes: 1,
            connections: BTreeSet::from([connection]),
            ongoing: false,
        }
    }

    #[test]
    fn what_overlaps_is_one_and_the_first_says_how_it_began() {
        let mut stretches = Stretches::default();
        stretches.add(stretch(20, 30, 1));
        stretches.add(stretch(50, 60, 1));
        stretches.add(stretch(80, 90, 1));
        stretches.add(Stretch {
            class: OutageClass::Reset,
            ..stretch(10, 55, 0)
        });
        let [first, second] = stretches.kept() else {
            panic!("{stretches:?}");
        };
        assert_eq!((first.start, first.end), (10, 60));
        assert_eq!(first.class, OutageClass::Reset);
        assert_eq!((first.probes, first.connections.len()), (3, 2));
        assert_eq!((second.start, second.end), (80, 90));
        assert_eq!((stretches.count(), stretches.total()), (2, 60));
        assert_eq!(stretches.longest(), 50);
    }

    #[test]
    fn of_too_many_the_longest_stay_and_the_others_are_told() {
        let mut stretches = Stretches::default();
        let count = MAX_STRETCHES as u64 + 10;
        for number in 0..count {
            stretches.add(stretch(number * 10_000, number * 10_000 + number + 1, 0));
        }
        assert_eq!(stretches.kept().len(), MAX_STRETCHES);
        assert_eq!(stretches.omitted, (10, (1..=10).sum(), 10));
        assert_eq!(stretches.count(), count);
        assert_eq!(stretches.total(), count * (count + 1) / 2);
        assert_eq!(stretches.longest(), count);
    }

    proptest! {
        /// In whatever order they are added, they cover what they cover together.
        #[test]
        fn the_union_is_exact(parts in prop::collection::vec((0u64..500, 1u64..40), 1..60)) {
            let mut stretches = Stretches::default();
            // An end is a moment, and whoever begins there touches it.
            let mut covered = [false; 1100];
            for &(start, length) in &parts {
                stretches.add(stretch(start, start + length, 0));
                covered[2 * start as usize..=2 * (start + length) as usize].fill(true);
            }
            let kept = stretches.kept();
            prop_assert!(kept.windows(2).all(|pair| pair[0].end < pair[1].start));
            let mut of_kept = [false; 1100];
            for it in kept {
                of_kept[2 * it.start as usize..=2 * it.end as usize].fill(true);
            }
            prop_assert!(covered == of_kept);
            let probes: u64 = kept.iter().map(|it| it.probes).sum();
            prop_assert_eq!(probes, parts.len() as u64);
        }
    }
}
