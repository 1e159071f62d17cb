//! Servers whose capacity is known, to search on.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A source of random numbers.
pub(super) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Uniform between 0 and 1, neither included.
    pub(super) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Exponential, of mean 1.
    pub(super) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }
}

/// How long a server is busy with a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Service {
    /// Exponentially distributed.
    Memoryless,
    /// Always the same.
    Constant,
}

/// A queue of messages that arrive as a Poisson process, in order of arrival: M/M/c or M/D/c.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queue {
    /// Messages per second of one server.
    pub(super) rate: f64,
    pub(super) servers: usize,
    pub(super) service: Service,
    /// Responses that take longer are late.
    pub(super) limit_s: f64,
    /// Messages of so many seconds are not counted.
    pub(super) warmup_s: f64,
}

impl Queue {
    /// The ratio of late messages in a trial.
    pub(super) fn late(&self, load: f64, seconds: f64, random: &mut Random) -> f64 {
        let mut free = vec![0.0_f64; self.servers];
        let (mut now, mut due, mut late) = (0.0, 0_u64, 0_u64);
        loop {
            now += random.exponential() / load;
            if now > self.warmup_s + seconds {
                return late as f64 / due.max(1) as f64;
            }
            let first = free
                .iter_mut()
                .min_by(|a, b| a.total_cmp(b))
                .expect("there is a server");
            let busy = match self.service {
                Service::Memoryless => random.exponential(),
                Service::Constant => 1.0,
            };
            *first = first.max(now) + busy / self.rate;
            if now > self.warmup_s {
                due += 1;
                late += u64::from(*first - now > self.limit_s);
            }
        }
    }
}

/// The load at which trials of so many seconds meet the objective with an even chance, by bisection
/// with `trials` of them at each load.
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
