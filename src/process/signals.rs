//! What signals mean: SIGTERM and SIGINT drain, a second one stops, SIGHUP reads the limits again.
//!
//! The thread that gets them waits for nothing else: it obeys first, and then tells others.

use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::thread;

use crate::Handle;
use crate::settings::{Resolved, Settings};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{error, info, warn};

use super::systemd;

/// Reads the settings again; an error is a line that says what is wrong with them.
pub(crate) type Resolve = Box<dyn Fn() -> Result<Resolved, String> + Send>;

/// Obeys signals in a thread of its own from now on. `reloaded` is told the settings that a reload
/// put in force.
pub(crate) fn obey(
    handle: Handle,
    resolve: Resolve,
    running: Settings,
    reloaded: impl Fn(&Settings) + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
    let reloads = start_reloading(handle.clone(), resolve, running, reloaded)?;
    thread::Builder::new()
        .name("echod-signals".to_owned())
        .spawn(move || {
            let mut asked = false;
            for signal in signals.forever() {
                match signal {
                    // One that waits already will read what is there now.
                    SIGHUP => drop(reloads.try_send(())),
                    _ if asked => handle.stop(),
                    // Perhaps it drains already, since a successor has taken over.
                    _ => {
                        asked = true;
                        handle.drain();
                        systemd::stopping();
                        info!("draining; a second signal stops at once");
                    }
                }
            }
        })?;
    Ok(())
}

/// Reloads in a thread of its own whenever it is asked to: a file that can't be read now, such as one
/// over a network, keeps no other signal waiting.
fn start_reloading(
    handle: Handle,
    resolve: Resolve,
    running: Settings,
    reloaded: impl Fn(&Settings) + Send + 'static,
) -> io::Result<SyncSender<()>> {
    let (requests, requested) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("echod-reload".to_owned())
        .spawn(move || {
            let mut running = running;
            for () in requested {
                reload(&handle, &resolve, &mut running, &reloaded);
            }
        })?;
    Ok(requests)
}

/// Puts the limits in force that the flags, the environment and the file, read again, say; nothing
/// at all if one of them is wrong.
fn reload(
    handle: &Handle,
    resolve: &Resolve,
    running: &mut Settings,
    reloaded: &impl Fn(&Settings),
) {
    if handle.is_draining() {
        info!("draining; nothing is reloaded any more");
        return;
    }
    systemd::reloading();
    match resolve() {
        Err(mistake) => error!(%mistake, "did not reload; the old settings stay"),
        Ok(resolved) => {
            let has_endpoints = resolved.has_endpoints();
            let mut settings = resolved.settings;
            if running.config.services.is_empty() && !has_endpoints {
                // Sockets that were passed on are still endpoints enough.
                settings.config.services.clear();
            }
            let needing_restart = settings.needing_restart(running).join(", ");
            if !needing_restart.is_empty() {
                warn!(settings = needing_restart, "need a restart to take effect");
            }
            let limits = std::mem::take(&mut settings.config.limits);
            handle.set_limits(&limits);
            running.config.limits = limits;
            reloaded(running);
            info!("reloaded the limits and access lists");
        }
    }
    systemd::ready();
}
