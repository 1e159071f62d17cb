//! What a terminal shows during a run: the progress line and the full-screen view.
//!
//! [`updates`] takes figures from the coordinator to a thread of its own, [`live_state`] makes of them what is
//! known of the run, and [`progress`] and [`tui`] show it.

pub(crate) mod live_state;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod tui;
pub(crate) mod updates;
