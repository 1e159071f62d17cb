//! Connections that echo once and say nothing more: what does a server keep for them?

use std::io;
use std::time::Duration;

use super::flow;
use super::window::{Gauge, Window};
use super::{Length, Order, Outcome};

/// Connections after which the memory is read for the first time: what a server allocates once, for
/// its first clients, is then there.
const FIRST: usize = 100;

/// Time for a server to free what it needed for the last echo.
const SETTLE: Duration = Duration::from_millis(50);

pub(super) fn run(order: &Order, gauge: &dyn Gauge) -> io::Result<Outcome> {
    let count = order.shape.connections;
    if count <= FIRST {
        return Err(io::Error::other(format!(
            "idle memory needs more than {FIRST} connections"
        )));
    }
    let mut window = Window::new(Length::Count(count as u64), gauge)?;
    let first = flow::connect_proven(order.target, FIRST, order.shape.size)?;
    std::thread::sleep(SETTLE);
    let before = gauge.memory()?;
    let rest = flow::connect_proven(order.target, count - FIRST, order.shape.size)?;
    std::thread::sleep(SETTLE);
    window.close(count as u64, 0)?;
    drop((first, rest));
    let mut outcome = window.outcome()?;
    outcome.memory_before = Some((before, count - FIRST));
    Ok(outcome)
}
