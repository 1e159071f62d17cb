//! The raw calls: what rustix does not have, or what is unsafe in itself.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::ptr;
use std::time::Duration;

/// Processor time of a process, in user mode and in the kernel, over all its threads and those that
/// ended, also while it is a zombie.
pub(crate) fn cpu_time(pid: u32) -> io::Result<Duration> {
    let mut clock = 0;
    // SAFETY: clock_getcpuclockid(3) writes one clock id to `clock`.
    match unsafe { libc::clock_getcpuclockid(pid as libc::pid_t, &mut clock) } {
        0 => {}
        error => return Err(io::Error::from_raw_os_error(error)),
    }
    let mut time = MaybeUninit::<libc::timespec>::zeroed();
    // SAFETY: clock_gettime(2) writes one timespec to `time`.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a timespec is made of integers, for which zero is valid, and it was written to.
    let time = unsafe { time.assume_init() };
    Ok(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

/// setsockopt(2) of an integer.
pub(crate) fn set_option(socket: &OwnedFd, level: i32, name: i32, value: i32) -> io::Result<()> {
    let pointer = (&raw const value).cast();
    let len = size_of::<i32>() as libc::socklen_t;
    // SAFETY: setsockopt(2) reads `len` bytes from `value`, which outlives the call.
    match unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, pointer, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Why this process can't have an io_uring, if so: the kernel may lack it or forbid it.
pub(crate) fn io_uring_refused() -> Option<io::Error> {
    let nothing: *mut libc::c_void = ptr::null_mut();
    // SAFETY: io_uring_setup(2) copies its parameters from user memory after it has checked whether
    // it is allowed, and fails with EFAULT on a null pointer.
    unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, nothing) };
    let error = io::Error::last_os_error();
    (error.raw_os_error() != Some(libc::EFAULT)).then_some(error)
}

/// Runs `prepare` in the child before it becomes the program. It may make system calls only: after
/// fork(2), even an allocation may wait for a lock for ever.
pub(crate) fn before_exec(
    command: &mut Command,
    prepare: impl FnMut() -> io::Result<()> + Send + Sync + 'static,
) {
    // SAFETY: the only caller makes two system calls and allocates nothing.
    unsafe { command.pre_exec(prepare) };
}
