//! Simulated servers with a known capacity, for testing the search.

use std::sync::LazyLock;

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A source of random numbers.
pub(super) struct Random {
    generator: Xoshiro256PlusPlus,
    ziggurat: &'static Ziggurat,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        static ZIGGURAT: LazyLock<Ziggurat> = LazyLock::new(Ziggurat::new);
        Self {
            generator: Xoshiro256PlusPlus::seed_from_u64(seed),
            ziggurat: &ZIGGURAT,
        }
    }

    /// Uniform between 0 and 1, both excluded.
    pub(super) fn uniform(&mut self) -> f64 {
        uniform(self.generator.next_u64())
    }

    /// Exponential, of mean 1: a uniform point below the density.
    pub(super) fn exponential(&mut self) -> f64 {
        let Ziggurat { widths, heights } = self.ziggurat;
        // The tail has the shape of the whole, shifted.
        let mut begin = 0.0;
        loop {
            let bits = self.generator.next_u64();
            // The uniform number does not use these bits.
            let layer = bits as usize % LAYERS;
            let x = uniform(bits) * widths[layer];
            if x < widths[layer + 1] {
                return begin + x;
            }
            if layer == 0 {
                begin += TAIL;
                continue;
            }
            let y = heights[layer] + self.uniform() * (heights[layer + 1] - heights[layer]);
            if y < (-x).exp() {
                return begin + x;
            }
        }
    }
}

fn uniform(bits: u64) -> f64 {
    ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
}

const LAYERS: usize = 256;
/// Where the tail begins,
const TAIL: f64 = 7.697_117_470_131_05;
/// and the area of a layer. The lowest layer with the tail has the same area.
const AREA: f64 = 3.949_659_822_581_572e-3;

/// The area under exp(-x), cut into layers of equal area, from the widest up. Almost all of a layer
/// lies below the curve, so few numbers need a logarithm (Marsaglia and Tsang, "The Ziggurat Method
/// for Generating Random Variables", 2000). The distribution is exactly exponential.
struct Ziggurat {
    widths: [f64; LAYERS + 1],
    /// The density at these widths.
    heights: [f64; LAYERS + 1],
}

impl Ziggurat {
    fn new() -> Self {
        let mut widths = [0.0; LAYERS + 1];
        // The lowest layer has the width that it would have without the tail.
        widths[0] = AREA / (-TAIL).exp();
        widths[1] = TAIL;
        for layer in 2..LAYERS {
            let below = widths[layer - 1];
            widths[layer] = -(AREA / below + (-below).exp()).ln();
        }
        Self {
            widths,
            heights: widths.map(|width| (-width).exp()),
        }
    }
}

/// The service time of a message. The mean is the same in all cases.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    /// One server, exponentially distributed: M/M/1.
    Memoryless,
    /// Several servers with a constant service time: M/D/c.
    Constant(usize),
}

/// A queue of messages that arrive as a Poisson process, in order of arrival.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// Messages per second of one server.
    pub(super) rate: f64,
    pub(super) service: Service,
    /// Slower responses are late.
    pub(super) limit_s: f64,
    /// Messages of the first seconds are not counted.
    pub(super) warmup_s: f64,
}

impl Queue {
    pub(super) fn servers(&self) -> usize {
        match self.service {
            Service::Memoryless => 1,
            Service::Constant(servers) => servers,
        }
    }

    /// The ratio of late messages in a trial.
    pub(super) fn late(&self, load: f64, seconds: f64, random: &mut Random) -> f64 {
        // The time unit is a service time.
        let gap = self.rate / load;
        let [begin, end, limit] =
            [self.warmup_s, self.warmup_s + seconds, self.limit_s].map(|time| time * self.rate);
        let mut free = vec![0.0_f64; self.servers()];
        let (mut now, mut next, mut due, mut late) = (0.0, 0, 0_u64, 0_u64);
        loop {
            now += random.exponential() * gap;
            if now > end {
                return late as f64 / due.max(1) as f64;
            }
            // All services take equally long, so they end in the order in which they began: the
            // servers take turns.
            let first = &mut free[next];
            next += 1;
            if next == self.servers() {
                next = 0;
            }
            let busy = match self.service {
                Service::Memoryless => random.exponential(),
                Service::Constant(_) => 1.0,
            };
            *first = first.max(now) + busy;
            if now > begin {
                due += 1;
                late += u64::from(*first - now > limit);
            }
        }
    }
}

/// The load at which half of the trials of this length in seconds meet the objective, by bisection
/// with `trials` trials at each load.
pub(super) fn even_chance(
    mut is_met: impl FnMut(f64, &mut Random) -> bool,
    bounds: [f64; 2],
    trials: usize,
) -> f64 {
    let mut random = Random::new(0);
    let [mut lower, mut upper] = bounds;
    while upper / lower > 1.001 {
        let middle = (lower * upper).sqrt();
        let met = (0..trials).filter(|_| is_met(middle, &mut random)).count();
        if met * 2 >= trials {
            lower = middle;
        } else {
            upper = middle;
        }
    }
    (lower * upper).sqrt()
}

#[test]
fn exponential_numbers_are_distributed_as_they_should_be() {
    const NUMBERS: usize = 1_000_000;
    let mut random = Random::new(7);
    let mut numbers: Vec<f64> = (0..NUMBERS).map(|_| random.exponential()).collect();
    numbers.sort_by(f64::total_cmp);
    // Kolmogorov-Smirnov: one seed in a thousand has a larger distance.
    let most = 1.95 / (NUMBERS as f64).sqrt();
    let apart = numbers.iter().enumerate().map(|(index, &number)| {
        let share = index as f64 / NUMBERS as f64;
        (share - (1.0 - (-number).exp())).abs()
    });
    let apart = apart.fold(0.0, f64::max);
    assert!(apart < most, "{apart}");
    // One number in 2200 lies in the tail.
    let tail = numbers.iter().filter(|&&number| number > TAIL).count() as f64;
    let expected = NUMBERS as f64 * (-TAIL).exp();
    assert!((tail - expected).abs() < 3.3 * expected.sqrt(), "{tail}");
    let beyond: f64 = numbers.iter().map(|number| (number - TAIL).max(0.0)).sum();
    assert!((beyond / tail - 1.0).abs() < 3.3 / tail.sqrt(), "{beyond}");
}
