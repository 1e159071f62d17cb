//! Processes whose percentiles are known, to try estimates on.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

/// A source of random numbers.
pub(crate) struct Random(Xoshiro256PlusPlus);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(Xoshiro256PlusPlus::seed_from_u64(seed))
    }

    /// Uniform between 0 and 1, neither included.
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

    /// Standard normal numbers, each of which has the correlation `rho` with the one before.
    pub(crate) fn correlated_normals(&mut self, rho: f64) -> impl Iterator<Item = f64> {
        let mut state = self.normal();
        std::iter::from_fn(move || {
            state = rho * state + (1.0 - rho * rho).sqrt() * self.normal();
            Some(state)
        })
    }

    /// Times that customers spend at a server whose service time is 1 on average, in units of that
    /// time: M/M/1, by Lindley's recursion. They are exponential with the mean `1 / (1 - load)`.
    pub(crate) fn sojourns(&mut self, load: f64) -> impl Iterator<Item = f64> {
        // The wait of a stationary queue: none with the chance 1 - load, else exponential.
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
