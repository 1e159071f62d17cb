//! What there is to draw.

use std::time::Instant;

use loadgen::Plan;

use super::palette::Palette;
use crate::terminal::live_state::LiveState;

/// What is to be shown.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) state: &'a LiveState,
    pub(crate) now: Instant,
    pub(crate) plan: &'a Plan,
    pub(crate) target: &'a str,
    pub(crate) load: &'a str,
    /// The rate that is asked for; `None` in a closed loop.
    pub(crate) asked: Option<f64>,
    /// Whether bytes say more of what flows than messages.
    pub(crate) is_stream: bool,
    /// Whether nothing comes back that could be timed.
    pub(crate) is_one_way: bool,
    pub(crate) is_ending: bool,
    pub(crate) is_frozen: bool,
    pub(crate) palette: &'a Palette,
}
