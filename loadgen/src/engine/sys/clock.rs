//! How far the clock of this host may be off.

use std::mem::MaybeUninit;
use std::time::Duration;

use super::check;

/// What the kernel knows of the error of CLOCK_REALTIME.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ClockDiscipline {
    /// Whether a time source keeps it.
    pub(crate) is_synchronized: bool,
    /// The maximum error; without a source it grows by half a second in a thousand.
    pub(crate) max_error: Duration,
}

/// Reads the state of the clock's discipline (adjtimex(2)); `None` if the kernel does not tell.
pub(crate) fn clock_discipline() -> Option<ClockDiscipline> {
    let mut timex = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: adjtimex(2) reads and writes a timex at the pointer, which is valid for both. All bits of
    // it are 0, and with modes of 0 nothing is set.
    let state = check(unsafe { libc::adjtimex(timex.as_mut_ptr()) }).ok()?;
    // SAFETY: a timex of zeros is valid, and the call succeeded, so it is written.
    let timex = unsafe { timex.assume_init() };
    Some(ClockDiscipline {
        is_synchronized: state != libc::TIME_ERROR && timex.status & libc::STA_UNSYNC == 0,
        max_error: Duration::from_micros(timex.maxerror.max(0) as u64),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_state_of_the_clock_is_read() {
        let known = clock_discipline().expect("this kernel tells");
        // A clock that is kept is not off by a day.
        assert!(!known.is_synchronized || known.max_error < Duration::from_secs(86_400));
    }
}
