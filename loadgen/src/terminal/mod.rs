//! Terminal output during a run: the progress line and the full-screen view.
//!
//! [`updates`] passes figures from the coordinator to a separate thread, a `Viewer`, [`live_state`] keeps the
//! state of the run, and [`progress`] and [`tui`] show it. [`watch`] shows a watch.

pub(crate) mod live_state;
pub(crate) mod progress;
pub(crate) mod style;
pub(crate) mod tui;
pub(crate) mod updates;
mod viewer;
pub(crate) mod watch;
