//! The input of a frame.

use std::time::Instant;

use loadgen::Plan;

use super::palette::Palette;
use crate::terminal::live_state::LiveState;

/// The state to display.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a LiveState,
    pub(crate) now: Instant,
    pub(crate) plan: &'a Plan,
    pub(crate) target: &'a str,
    pub(crate) load: &'a str,
    /// The target rate; `None` in a closed loop.
    pub(crate) asked: Option<f64>,
    /// Whether to show bytes rather than messages.
    pub(crate) is_stream: bool,
    /// Whether there are no responses to time.
    pub(crate) is_one_way: bool,
    pub(crate) is_ending: bool,
    pub(crate) is_frozen: bool,
    pub(crate) palette: &'a Palette,
}
