//! Connections that echo once and say nothing more: what does a server keep for them?

use std::any::Any;
use std::io;
use std::thread;
use std::time::Duration;

use super::load::{Load, Outcome, Workload, failed};
use super::window::Window;
use super::{connect, tls};
use crate::process;

/// Connections after which the memory is read for the first time: what a server allocates once, for
/// its first clients, is then there.
const FIRST: usize = 100;

/// Time for a server to free what it needed for the last echo.
const SETTLE: Duration = Duration::from_millis(50);

pub(super) fn run(load: &Load) -> io::Result<Outcome> {
    let Some(rest @ 1..) = load.shape.connections.checked_sub(FIRST) else {
        let why = format!("idle memory needs more than {FIRST} connections");
        return Err(failed(why));
    };
    let mut window = Window::new(load)?;
    window.open(0, 0)?;
    let first = open(load, FIRST)?;
    thread::sleep(SETTLE);
    let before = process::memory(load.server)?;
    let others = open(load, rest)?;
    thread::sleep(SETTLE);
    window.close(load.shape.connections as u64, 0)?;
    drop((first, others));
    let mut outcome = window.outcome()?;
    outcome.memory_before = Some((before, rest));
    Ok(outcome)
}

/// Connections of which each has echoed once. They stay open until this is dropped.
fn open(load: &Load, count: usize) -> io::Result<Box<dyn Any>> {
    Ok(match load.workload {
        Workload::TlsIdle => Box::new(tls::proven(load, count)?),
        _ => Box::new(connect::proven(load.target, count, load.shape.size)?),
    })
}
