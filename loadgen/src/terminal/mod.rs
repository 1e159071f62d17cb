//! What is shown on a terminal while a run goes on: the progress line and the full-screen view.

pub(crate) mod feed;
pub(crate) mod model;
pub(crate) mod progress;
pub(crate) mod tui;
pub(crate) mod words;
