//! Signals that end a measurement.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use loadgen::Control;
use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::commands::{outputs, servers};
use crate::exit::{Failure, INTERRUPTED};
use crate::terminal::tui;

/// Signals within this time of the first one belong to the same request: timeout(1) signals the
/// program and then its process group, and ctrl-C in a terminal reaches a program and the shell
/// that passes it on.
const SAME_REQUEST: Duration = Duration::from_millis(500);

/// The first SIGINT, SIGTERM, SIGQUIT or SIGHUP ends the measurement early, with a result. A later one
/// ends the program at once, and so does the second ctrl-C pressed on the full screen.
pub(crate) fn stop_on_signals() -> Result<Control, Failure> {
    let control = Control::default();
    let stopped = control.clone();
    let mut signals = vec![SIGINT, SIGTERM, SIGQUIT];
    // nohup(1) ignores it deliberately.
    if !is_ignored(SIGHUP) {
        signals.push(SIGHUP);
    }
    Signals::new(signals)
        .and_then(|mut signals| {
            thread::Builder::new()
                .name("loadgen-signals".to_owned())
                .spawn(move || {
                    let mut first = None;
                    for _ in signals.forever() {
                        stopped.stop();
                        let first: &mut Instant = first.get_or_insert_with(Instant::now);
                        if first.elapsed() > SAME_REQUEST || tui::pressed_interrupts() > 1 {
                            end_at_once();
                        }
                    }
                })
        })
        .map_err(|error| Failure::of_run(format!("cannot handle signals: {error}")))?;
    Ok(control)
}

fn end_at_once() -> ! {
    tui::restore();
    servers::kill_all();
    outputs::remove_unfinished();
    std::process::exit(INTERRUPTED.into());
}

/// Whether this process was started with `signal` ignored (proc_pid_status(5), SigIgn).
fn is_ignored(signal: i32) -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| ignores(&status, signal))
}

fn ignores(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ignored_signal_is_told_from_the_mask() {
        let status = "SigBlk:\t0000000000000001\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert!(ignores(status, SIGHUP));
        assert!(!ignores(status, SIGINT));
        assert!(!ignores("Name:\tloadgen\n", SIGHUP));
    }
}
