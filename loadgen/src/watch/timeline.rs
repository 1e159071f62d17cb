//! What became of the probes over time, in a bounded number of bins. Pure.

use crate::result::watch::{Timeline, TimelineBin};

/// Maximum of bins: more than a page has pixels for.
const MAX_BINS: usize = 600;
/// The length of a bin at the beginning.
const FIRST_BIN_NS: u64 = 1_000_000_000;

/// Bins of equal length. When there are too many, each two become one.
#[derive(Clone, Debug)]
pub(super) struct Bins {
    bins: Vec<TimelineBin>,
    bin_ns: u64,
}

impl Default for Bins {
    fn default() -> Self {
        Self {
            bins: Vec::new(),
            bin_ns: FIRST_BIN_NS,
        }
    }
}

impl Bins {
    /// The bin of a probe that was due at `due` since the start.
    pub(super) fn at(&mut self, due: u64) -> &mut TimelineBin {
        while due / self.bin_ns >= MAX_BINS as u64 {
            self.halve();
        }
        let index = (due / self.bin_ns) as usize;
        if index >= self.bins.len() {
            self.bins.resize(index + 1, TimelineBin::default());
        }
        &mut self.bins[index]
    }

    fn halve(&mut self) {
        let merged = self.bins.chunks(2).map(|pair| {
            pair.iter()
                .fold(TimelineBin::default(), |sum, bin| TimelineBin {
                    answered: sum.answered + bin.answered,
                    late: sum.late + bin.late,
                    failed: sum.failed + bin.failed,
                    max_ns: sum.max_ns.max(bin.max_ns),
                })
        });
        self.bins = merged.collect();
        self.bin_ns *= 2;
    }

    pub(super) fn bin_ns(&self) -> u64 {
        self.bin_ns
    }

    pub(super) fn bins(&self) -> &[TimelineBin] {
        &self.bins
    }

    pub(super) fn result(&self) -> Timeline {
        Timeline {
            bin_s: self.bin_ns as f64 / 1e9,
            bins: self.bins.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_take_no_more_bins_than_minutes_and_nothing_is_lost() {
        let mut bins = Bins::default();
        let minute = 60_000_000_000;
        let days = 3 * 24 * 60;
        for number in 0..days {
            let bin = bins.at(number * minute);
            bin.answered += 1;
            bin.max_ns = bin.max_ns.max(number);
        }
        let timeline = bins.result();
        assert!(timeline.bins.len() <= MAX_BINS && timeline.bins.len() > MAX_BINS / 2);
        let answered: u64 = timeline.bins.iter().map(|bin| bin.answered).sum();
        assert_eq!(answered, days);
        assert_eq!(timeline.bins.last().unwrap().max_ns, days - 1);
        assert_eq!(timeline.bin_s, 512.0);
    }
}
