//! The load: one thread, level-triggered epoll, in a closed loop. It is the same for every server and
//! shares no code with loadgen.
//!
//! Every byte that comes back is compared with what was sent, and at the end exactly as much must have
//! come back as went out; otherwise there is no outcome but an error.

mod connect;
mod discard;
mod exchange;
mod idle;
mod load;
mod pattern;
mod poll;
#[cfg(test)]
mod tests;
mod tls;
mod window;

use std::io;

pub(crate) use load::{Checks, Length, Load, Outcome, Service, Shape, Workload};

/// Puts a load on a server. Every answer that is wrong, missing or too much is an error.
pub(crate) fn run(load: &Load) -> io::Result<Outcome> {
    match load.workload {
        Workload::Discard => discard::run(load),
        Workload::Idle | Workload::TlsIdle => idle::run(load),
        Workload::TlsEcho | Workload::TlsStream | Workload::TlsFull | Workload::TlsResumed => {
            tls::run(load)
        }
        _ => exchange::run(load),
    }
}
