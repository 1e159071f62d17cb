//! Whether one server is worse than another: from rounds in which both were measured in turn, or
//! from two stored results, to intervals and a verdict. Pure.
//!
//! Figures are compared by their ratios, so all is computed on logarithms. Several figures are
//! judged, and each could be wrong by chance; so the interval that decides errs with the chance that
//! all may err together, divided by their number (Bonferroni; Dunn, "Multiple Comparisons Among
//! Means", JASA 56, 1961). Where rounds are looked at several times, to end early, the looks share the
//! chance in the same way. So two sides that are alike are told apart in at most one comparison of
//! twenty, whatever number of figures and looks there is.

mod judge;
mod measured;
mod metric;
mod rounds;
mod stored;
mod summarize;
mod validity;

pub use judge::{Criteria, ERROR, MAX_ROUNDS, change};
pub use measured::{Measured, Round};
pub use metric::{Metric, Reading};
pub use rounds::{is_decided, of_rounds};
pub use stored::{NamedResult, of_results};
pub use summarize::Setting;

#[cfg(test)]
mod tests;
