//! Signals that end a measurement.

use std::thread;

use loadgen::Control;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::commands::exit::{Failure, INTERRUPTED};
use crate::commands::servers;
use crate::terminal::tui;

/// The first SIGINT or SIGTERM ends the measurement early, with a result. The second ends the program at
/// once.
pub(crate) fn stop_on_signals() -> Result<Control, Failure> {
    let control = Control::default();
    let stopped = control.clone();
    Signals::new([SIGINT, SIGTERM])
        .and_then(|mut signals| {
            thread::Builder::new()
                .name("loadgen-signals".to_owned())
                .spawn(move || {
                    for _ in signals.forever() {
                        if stopped.stop() {
                            tui::restore();
                            servers::kill_all();
                            std::process::exit(INTERRUPTED.into());
                        }
                    }
                })
        })
        .map_err(|error| Failure::of_run(format!("cannot handle signals: {error}")))?;
    Ok(control)
}
