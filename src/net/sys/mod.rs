//! Raw calls of the C library: every `unsafe` block of the library is in this folder.
//!
//! It has only calls that std, rustix and socket2 lack. Each wrapper takes and returns safe types
//! and turns a negative return value into an [`io::Error`].

#![allow(unsafe_code)]

mod allocator;
pub(super) mod messages;
mod resolver;
pub(super) mod socket;
mod thread_clock;

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

pub use allocator::ReservingAllocator;
pub(crate) use allocator::{fallibly, refill_reserve, return_freed_memory};
pub(super) use resolver::use_what_is_linked;
pub(super) use socket::{discard, dropped, listen_queue, set_option};
pub(crate) use thread_clock::ThreadClock;

/// Takes ownership of descriptors that a service manager passed by their numbers (sd_listen_fds(3)),
/// once in the life of the process: a second call returns none.
pub(crate) fn take_passed_descriptors(numbers: impl Iterator<Item = RawFd>) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Vec::new();
    }
    numbers
        // SAFETY: sd_listen_fds(3) gives these descriptors to the process that LISTEN_PID names,
        // and the flag above ensures that they get only one owner.
        .map(|number| unsafe { OwnedFd::from_raw_fd(number) })
        .collect()
}

/// Turns a system call's -1 into its errno.
fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}
