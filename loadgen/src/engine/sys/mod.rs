//! System calls that only a client needs. All `unsafe` code of the load generator is in this
//! folder.
//!
//! Calls that the server needs too are in [`echomark::net`].

#![allow(unsafe_code)]

mod alarm;
mod clock;
mod connect;
mod socket_options;
mod tcp_info;
mod thread;

use std::io;

pub(crate) use alarm::Alarm;
pub(crate) use clock::clock_discipline;
pub(crate) use connect::{connect, connect_datagram, reset_on_close};
pub(crate) use socket_options::{outgoing_queue, queue_errors, take_refused_datagram};
pub(crate) use tcp_info::{TcpInfo, tcp_info};
pub(crate) use thread::{
    SchedulerStatistics, ThreadUsage, lock_memory, set_thread_nice, set_thread_realtime,
    thread_usage, unlock_memory,
};

/// Converts the -1 of a system call into its errno.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
