//! Processes with known percentiles, for testing estimates.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A source of random numbers.
pub(crate) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Uniform between 0 and 1, both excluded.
    pub(crate) fn uniform(&mut self) -> f64 {
        ((self.0.next_u64() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Exponential, of mean 1.
    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    /// Standard normal (Box and Muller 1958).
    pub(crate) fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Standard normal numbers with lag-1 correlation `rho`.
    pub(crate) fn correlated_normals(&mut self, rho: f64) -> impl Iterator<Item = f64> {
        let mut state = self.normal();
        std::iter::from_fn(move || {
            state = rho * state + (1.0 - rho * rho).sqrt() * self.normal();
            Some(state)
        })
    }

    /// Sojourn times of customers in an M/M/1 queue with mean service time 1, by Lindley's
    /// recursion. They are exponential with mean `1 / (1 - load)`.
    pub(crate) fn sojourns(&mut self, load: f64) -> impl Iterator<Item = f64> {
        // The wait in a stationary queue: zero with probability 1 - load, otherwise exponential.
        let mut wait = if self.uniform() < load {
            self.exponential() / (1.0 - load)
        } else {
            0.0
        };
        std::iter::from_fn(move || {
            let sojourn = wait + self.exponential();
            wait = (sojourn - self.exponential() / load).max(0.0);
            Some(sojourn)
        })
    }
}
