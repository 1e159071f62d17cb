//! What only a client asks of the kernel. Every `unsafe` block of the load generator is in this folder.
//!
//! What the server asks as well is in [`echomark::net`].

#![allow(unsafe_code)]

mod alarm;
mod connect;
mod socket_options;
mod tcp_info;
mod thread;

use std::io;

pub(crate) use alarm::Alarm;
pub(crate) use connect::{connect, connect_datagram, reset_on_close};
pub(crate) use socket_options::outgoing_queue;
pub(crate) use tcp_info::{TcpInfo, tcp_info};
pub(crate) use thread::{SchedulerStatistics, ThreadUsage, set_thread_nice, thread_usage};

/// Turns the -1 of a system call into the errno that it left.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
