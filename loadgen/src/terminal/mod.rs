//! What only a program with a terminal needs: signals, the progress line, the full-screen view.

pub(crate) mod feed;
pub(crate) mod model;
pub(crate) mod progress;
pub(crate) mod signals;
pub(crate) mod tui;
pub(crate) mod words;
