//! Raw calls of the C library: every `unsafe` block of the library is in this folder.
//!
//! Only what neither std nor rustix nor socket2 offers is here. Each wrapper takes and returns safe
//! types and turns a negative return value into an [`io::Error`].

#![allow(unsafe_code)]

mod client;
pub(super) mod messages;
mod socket;
mod tcp_info;
mod thread_clock;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub use client::{Alarm, ThreadUsage, set_thread_nice, thread_usage};
#[cfg(test)]
pub(super) use socket::choose_only_port;
pub(super) use socket::set_option;
pub use socket::{discard, leave_port_to_connect, outgoing_queue};
pub use tcp_info::{TcpInfo, tcp_info};
pub use thread_clock::{RunningClock, ThreadClock};

pub use super::affinity::{allowed_cpus, pin_thread};
pub use super::clock::monotonic_ns;
pub use super::descriptors::raise_descriptor_limit;
pub use super::errno::{is_disconnect, is_lack_of_memory};
pub use super::socket::{receive, send};

/// Takes ownership of descriptors that a service manager passed by their numbers (sd_listen_fds(3)),
/// once in the life of the process: a second call returns none.
pub fn take_passed_descriptors(numbers: impl Iterator<Item = RawFd>) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    numbers
        // SAFETY: sd_listen_fds(3) gives these descriptors to the process that LISTEN_PID names, and
        // the flag above sees to it that they get one owner only.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

/// Turns the -1 of a system call into the errno that it left.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
