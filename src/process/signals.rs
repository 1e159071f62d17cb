//! What signals mean: SIGTERM and SIGINT drain, a second one stops, SIGHUP reads the limits again.
//!
//! The thread that gets them waits for nothing else: it obeys first, and then tells others.

use std::io;
use std::sync::mpsc;
use std::thread;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::info;

use super::reload::Reloader;
use super::systemd;
use crate::server::Handle;

/// Obeys signals in a thread of its own from now on. Reloads have another one: a file that can't be
/// read now, such as one over a network, keeps no other signal waiting.
pub(super) fn obey(handle: Handle, reloader: Reloader) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    // A reload that waits already will read what is there now, so there is room for one.
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
                    // Perhaps it drains already, since a successor has taken over.
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
