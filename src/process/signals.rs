//! Signals: SIGTERM and SIGINT drain, a second one stops, SIGHUP reads the limits again.
//!
//! The signal thread never blocks on anything else: it acts first and then reports.

use std::io;
use std::sync::mpsc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::info;

use super::reload::Reloader;
use super::systemd;
use crate::server::Handle;

/// Handles signals in a thread of its own. Reloads have another thread: a slow file, such as one on
/// a network, must not delay other signals.
pub(super) fn handle_signals(handle: Handle, reloader: Reloader) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // A queued reload will read the current file, so the queue has room for one.
    let (request_reload, requests) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("echod-reload".to_owned())
        .spawn(move || requests.iter().for_each(|()| reloader.reload()))?;
    thread::Builder::new()
        .name("echod-signals".to_owned())
        .spawn(move || {
            let mut is_second = false;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => drop(request_reload.try_send(())),
                    _ if is_second => handle.stop(),
                    // The server may be draining already, because a successor has taken over.
                    _ => {
                        is_second = true;
                        handle.drain();
                        systemd::stopping();
                        info!("draining; a second signal stops at once");
                    }
                }
            }
        })?;
    Ok(())
}
