//! Fairness indices from the share of each connection.

use std::collections::BTreeMap;

use crate::result::statistics::Fairness;

/// The fraction of connections that count as the slowest, and as the fastest.
const EXTREME: f64 = 0.01;

impl Fairness {
    /// Fairness between the shares; `None` if all are zero.
    pub fn of(counts: &[u64]) -> Option<Self> {
        let mut sorted: Vec<f64> = counts.iter().map(|&count| count as f64).collect();
        let jain_index = jain_index(&sorted)?;
        sorted.sort_unstable_by(f64::total_cmp);
        let extreme = (sorted.len() as f64 * EXTREME).ceil() as usize;
        let mean = super::mean(&sorted);
        Some(Self {
            connections: sorted.len(),
            jain_index,
            slowest_ratio: super::mean(&sorted[..extreme]) / mean,
            fastest_ratio: super::mean(&sorted[sorted.len() - extreme..]) / mean,
        })
    }
}

/// Jain's fairness index: 1 if all shares are equal, `1 / n` if one of `n` connections has
/// everything. `None` if all are zero.
///
/// Jain, Chiu, Hawe, "A Quantitative Measure of Fairness and Discrimination for Resource Allocation
/// in Shared Computer Systems", DEC-TR-301, 1984.
pub(crate) fn jain_index(shares: &[f64]) -> Option<f64> {
    let sum: f64 = shares.iter().sum();
    let squares: f64 = shares.iter().map(|share| share.powi(2)).sum();
    (squares > 0.0).then(|| sum.powi(2) / (shares.len() as f64 * squares))
}

/// Jain's index over the means of groups, such as one per target or per thread. Connection `i` has
/// `counts[i]` and belongs to `groups[i]`. `None` if all are zero.
pub(crate) fn jain_index_between<G: Ord>(counts: &[u64], groups: &[G]) -> Option<f64> {
    let mut sums: BTreeMap<&G, (f64, f64)> = BTreeMap::new();
    for (&count, group) in counts.iter().zip(groups) {
        let (sum, members) = sums.entry(group).or_default();
        *sum += count as f64;
        *members += 1.0;
    }
    let means: Vec<f64> = sums.values().map(|(sum, members)| sum / members).collect();
    jain_index(&means)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_near(actual: Option<f64>, expected: f64) {
        let actual = actual.unwrap();
        assert!((actual - expected).abs() < 1e-12, "{actual} {expected}");
    }

    #[test]
    fn the_index_is_that_of_the_paper() {
        assert_near(jain_index(&[7.0, 7.0, 7.0]), 1.0);
        // If k of n connections get equal shares and the others nothing, the index is k / n.
        assert_near(jain_index(&[20.0, 20.0, 0.0, 0.0, 0.0]), 0.4);
        assert_near(jain_index(&[1.0, 2.0, 3.0]), 36.0 / 42.0);
        assert_eq!(jain_index(&[]), None);
        assert_eq!(jain_index(&[0.0, 0.0]), None);
    }

    #[test]
    fn the_extremes_are_a_percent_and_at_least_one() {
        let fairness = Fairness::of(&[100, 50, 150]).unwrap();
        assert_near(Some(fairness.slowest_ratio), 0.5);
        assert_near(Some(fairness.fastest_ratio), 1.5);
        // The mean of 1 to 200 is 100.5, and 2 of 200 are 1 %.
        let fairness = Fairness::of(&(1..=200).collect::<Vec<u64>>()).unwrap();
        assert_eq!(fairness.connections, 200);
        assert_near(Some(fairness.slowest_ratio), 1.5 / 100.5);
        assert_near(Some(fairness.fastest_ratio), 199.5 / 100.5);
        assert_eq!(Fairness::of(&[0, 0]), None);
        assert_eq!(Fairness::of(&[]), None);
    }

    #[test]
    fn groups_are_compared_by_their_means() {
        // Unlike within each group, alike between them, whatever their sizes.
        let groups = ["a", "b", "a", "b", "b"];
        assert_near(jain_index_between(&[1, 2, 3, 2, 2], &groups), 1.0);
        assert_near(jain_index_between(&[10, 0, 10, 0, 0], &groups), 0.5);
        assert_eq!(jain_index_between(&[0, 0, 0, 0, 0], &groups), None);
    }

    proptest! {
        #[test]
        fn the_index_lies_between_one_in_n_and_one(
            counts in prop::collection::vec(0_u64..1_000_000, 1..300),
        ) {
            if let Some(fairness) = Fairness::of(&counts) {
                let least = 1.0 / counts.len() as f64;
                prop_assert!((least - 1e-9..=1.0 + 1e-9).contains(&fairness.jain_index));
                prop_assert!(fairness.slowest_ratio <= 1.0 + 1e-9);
                prop_assert!(fairness.fastest_ratio >= 1.0 - 1e-9);
            }
        }
    }
}
