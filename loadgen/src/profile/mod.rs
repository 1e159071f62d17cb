//! A rate over the time of a run. A [`Profile`] is the rate as text, `-R 1k..10k`; a [`Curve`] is
//! the profile laid out in time: the number of messages due by each moment. Pure.

mod curve;
mod error;
mod rate;
mod text;

pub(crate) use curve::Cursor;
pub use curve::Curve;
pub use error::{MAX_RATE, ProfileError};
pub use rate::Profile;
