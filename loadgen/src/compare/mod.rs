//! Whether one server is worse than another. Input: rounds in which both were measured in turn, or
//! two stored results. Output: intervals and a verdict. Pure.
//!
//! Figures are compared by their ratios, so computations use logarithms. Several figures are
//! judged, and each may be wrong by chance. So the error of each decisive interval is the total
//! error divided by the number of figures (Bonferroni; Dunn, "Multiple Comparisons Among Means",
//! JASA 56, 1961). If rounds are checked several times, to end early, the checks share the error in
//! the same way. So two equal sides are reported as different in at most one comparison of twenty,
//! whatever the number of figures and checks.

mod hosts;
mod judge;
mod measured;
mod metric;
mod rounds;
mod side_by_side;
mod stored;
mod summarize;
mod validity;

pub use judge::{Criteria, ERROR, MAX_ROUNDS, change};
pub use measured::{Measured, Round};
pub use metric::{Metric, Reading};
pub use rounds::{is_decided, of_rounds};
pub use side_by_side::{Comparand, Named, side_by_side};
pub use stored::{NamedResult, of_results};
pub use summarize::{End, Setting};

#[cfg(test)]
mod tests;
