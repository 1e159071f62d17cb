//! The program's part in a replacement: releasing the predecessor once this server serves, offering
//! the sockets to a successor, and removing files at the end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use super::admin_port::AdminPort;
use super::failure::Failure;
use super::handover::{Offer, Takeover};
use super::systemd;
use crate::net::unix::SocketFile;
use crate::server::{Alive, Handle, Heartbeat};

/// The role of this process in a hand-over.
pub(super) enum Role {
    /// There is no hand-over.
    Alone,
    /// There is no predecessor.
    First(Offer),
    /// This process takes over from a predecessor.
    Successor(Takeover),
}

impl Role {
    /// Call it once the endpoints are bound.
    pub(super) fn new(path: Option<&Path>, takeover: Option<Takeover>) -> Result<Self, Failure> {
        match (path, takeover) {
            (_, Some(takeover)) => Ok(Self::Successor(takeover)),
            (None, None) => Ok(Self::Alone),
            (Some(path), None) => match Offer::bind(path) {
                Ok(offer) => Ok(Self::First(offer)),
                Err(source) => Err(Failure::Offer {
                    path: path.display().to_string(),
                    source,
                }),
            },
        }
    }
}

/// Resources that a server gives up when it ends or when a successor has taken over.
pub(super) struct Belongings {
    admin: Mutex<Option<AdminPort>>,
    /// The file of our hand-over socket, once there is one.
    offered: Mutex<Option<SocketFile>>,
    /// Why the server was stopped, if no worker failed.
    failure: Mutex<Option<Failure>>,
}

impl Belongings {
    pub(super) fn new(admin: Option<AdminPort>, role: &Role) -> Self {
        let offered = match role {
            Role::First(offer) => Some(offer.file().clone()),
            Role::Alone | Role::Successor(_) => None,
        };
        Self {
            admin: Mutex::new(admin),
            offered: Mutex::new(offered),
            failure: Mutex::new(None),
        }
    }

    /// Gives the resources up: the server has ended, or a successor has taken over.
    pub(super) fn remove(&self, handle: &Handle) {
        let admin = lock(&self.admin).take();
        let files = [
            admin.and_then(|admin| admin.file),
            lock(&self.offered).take(),
        ];
        if !handle.has_successor() {
            files.iter().flatten().for_each(SocketFile::remove);
        }
    }

    /// Another descriptor of the admin port's listener, for a successor.
    fn admin_listener(&self) -> Option<OwnedFd> {
        let admin = lock(&self.admin);
        admin.as_ref()?.listener.try_clone().ok()
    }

    pub(super) fn note_failure(&self, failure: Failure) {
        *lock(&self.failure) = Some(failure);
    }

    pub(super) fn failure(&self) -> Option<Failure> {
        lock(&self.failure).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a thread that waits until the workers serve, releases the predecessor, and then offers
/// our sockets to a successor.
pub(super) fn start(handle: Handle, role: Role, belongings: Arc<Belongings>) -> io::Result<()> {
    thread::Builder::new()
        .name("echod-handover".to_owned())
        .spawn(move || {
            wait_until_served(&handle);
            if let Some(offer) = take_over(&handle, role, &belongings) {
                let admin = belongings.admin_listener();
                offer.serve(&handle, admin.as_ref().map(AsFd::as_fd));
                if handle.has_successor() {
                    belongings.remove(&handle);
                }
            }
        })?;
    Ok(())
}

/// Tells the service manager and the predecessor that this server serves. Returns the socket for
/// the next successor.
fn take_over(handle: &Handle, role: Role, belongings: &Belongings) -> Option<Offer> {
    // Held until the owner of the file is settled: the end of the server waits for that.
    let mut offered = lock(&belongings.offered);
    if handle.is_draining() {
        // Too late to take over: the predecessor keeps serving.
        return None;
    }
    systemd::ready();
    let offer = match role {
        Role::Alone => return None,
        Role::First(offer) => offer,
        Role::Successor(takeover) => match takeover.confirm(handle) {
            Ok(offer) => offer,
            Err(error) => {
                // The predecessor keeps serving, so this server must stop.
                belongings.note_failure(Failure::Takeover(error));
                handle.drain();
                return None;
            }
        },
    };
    *offered = Some(offer.file().clone());
    Some(offer)
}

/// Returns once every worker's loop turns.
fn wait_until_served(handle: &Handle) {
    const PAUSE: Duration = Duration::from_millis(1);
    let mut heartbeat = Heartbeat::new(handle.clone());
    while heartbeat.check() == Alive::NotAll && !handle.is_draining() {
        thread::park_timeout(PAUSE);
    }
}
