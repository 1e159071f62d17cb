//! Whether a backlog grows: an open loop offers more than the server can do, so each message waits
//! longer than the one before.

use super::blocks::Blocks;
use super::median;

/// Minimum of blocks with samples for a growth.
const MIN_BLOCKS: usize = 4;

/// How much longer a response takes for each unit of time that passes; 0 if no backlog grows. Where
/// messages come at a rate and the server completes a smaller one, it is the difference over the
/// offered rate. `block_ns` is the length of a block. `None` with fewer than four blocks with
/// samples.
///
/// It is the slope of the blocks' medians by Theil and Sen: the median of the slopes between any two
/// (Sen, "Estimates of the Regression Coefficient Based on Kendall's Tau", JASA 63, 1968). A stall
/// that touches less than 29 % of the window does not change it, wherever it lies. A backlog that
/// grows all along does.
pub(crate) fn growth(blocks: &Blocks, block_ns: f64) -> Option<f64> {
    let medians: Vec<(f64, f64)> = blocks
        .complete()
        .iter()
        .enumerate()
        .filter_map(|(index, block)| {
            let median = block.quantile(0.5)? as f64;
            Some((index as f64 * block_ns, median))
        })
        .collect();
    if medians.len() < MIN_BLOCKS {
        return None;
    }
    let slopes: Vec<f64> = medians
        .iter()
        .enumerate()
        .flat_map(|(index, &(from, before))| {
            medians[index + 1..]
                .iter()
                .map(move |&(to, after)| (after - before) / (to - from))
        })
        .collect();
    median(&slopes)
}

#[cfg(test)]
mod tests {
    use super::super::simulation::Random;
    use super::*;
    use crate::result::histogram;

    const BLOCK_NS: f64 = 50e6;

    /// The growth of a run of 60 blocks; `response` maps the time in nanoseconds to a response
    /// time.
    fn growth_of(mut response: impl FnMut(f64) -> f64) -> f64 {
        let mut blocks = Blocks::new(64);
        for block in 0..60 {
            let mut samples = histogram::empty();
            for message in 0..100 {
                let at = (f64::from(block) + f64::from(message) / 100.0) * BLOCK_NS;
                samples.saturating_record(response(at) as u64);
            }
            blocks.push(&samples, 100);
        }
        growth(&blocks, BLOCK_NS).unwrap()
    }

    #[test]
    fn a_constant_delay_of_any_size_is_no_growth() {
        for delay in [1e3, 1e6, 50e6, 1e9, 100e9] {
            assert_eq!(growth_of(|_| delay), 0.0, "{delay}");
        }
    }

    #[test]
    fn an_overload_grows_by_what_is_not_served() {
        // Offered 1000/s and served 800/s: what comes back at time t waited for 0.2 t.
        let growth = growth_of(|at| at * 0.2);
        assert!((growth - 0.2).abs() < 0.001, "{growth}");
    }

    #[test]
    fn a_stall_is_no_growth_wherever_it_lies() {
        let window = 60.0 * BLOCK_NS;
        for begin in [-0.1, 0.0, 0.3, 0.9] {
            let (begin, length) = (begin * window, 0.2 * window);
            let growth = growth_of(|at| {
                let is_stalled = (begin..begin + length).contains(&at);
                1e6 + if is_stalled { begin + length - at } else { 0.0 }
            });
            assert!(growth.abs() < 0.001, "{begin}: {growth}");
        }
    }

    #[test]
    fn noise_is_no_growth() {
        let mut random = Random::new(1);
        let growth = growth_of(|_| 1e6 * (random.normal() * 0.5).exp());
        assert!(growth.abs() < 0.001, "{growth}");
    }

    #[test]
    fn a_few_blocks_tell_nothing() {
        let mut blocks = Blocks::new(64);
        let mut samples = histogram::empty();
        samples.record(1_000_000).unwrap();
        for _ in 0..3 {
            blocks.push(&samples, 1);
            blocks.push(&histogram::empty(), 0);
        }
        assert_eq!(growth(&blocks, BLOCK_NS), None);
    }
}
