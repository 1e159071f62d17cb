//! The program's part in a replacement: the sockets of this server, from a predecessor or bound anew;
//! the predecessor's release once this server serves; the offer to a successor.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::admin_port::{self, AdminPort};
use super::failure::{Failure, FirstFailure};
use super::handover::{Answer, Claim, Confirmed, Offer, Takeover, TakeoverError};
use super::systemd;
use crate::admin::Admin;
use crate::listen::Inherited;
use crate::net::unix::SocketFile;
use crate::server::{Alive, Handle, Heartbeat, Server, Succession};
use crate::settings::Settings;

/// How long a new server waits for the addresses of one that ends: long enough for one that empties
/// its queues.
const MAX_WAIT: Duration = Duration::from_secs(10);
/// How long it waits for an address although no other server waits for a successor.
const MAX_EXIT: Duration = Duration::from_secs(1);
/// The pause between two tries to bind them.
const PAUSE: Duration = Duration::from_millis(20);

/// A server that has all of its sockets and may serve.
pub(super) struct Prepared {
    pub(super) server: Server,
    pub(super) admin: Option<Admin>,
    pub(super) role: Role,
}

/// The role of this process in a hand-over.
pub(super) enum Role {
    /// There is no hand-over.
    Alone,
    /// There is no predecessor.
    First(Offer),
    /// A predecessor has granted its sockets, and serves until this process does.
    Successor(Box<Takeover>),
}

/// Takes the sockets of a predecessor over, or binds all sockets. Waits, within a bound, for the
/// addresses of a predecessor that is ending. `passed` are the sockets from a service manager.
pub(super) fn prepare(settings: &Settings, passed: &[Inherited]) -> Result<Prepared, Failure> {
    let Some(path) = &settings.handover else {
        let (server, admin) = bind(settings, passed, None)?;
        return Ok(Prepared {
            server,
            admin,
            role: Role::Alone,
        });
    };
    let begin = Instant::now();
    let mut patience = Duration::ZERO;
    loop {
        let (failure, max) = match attempt(settings, passed, path)? {
            Attempt::Prepared(prepared) => return Ok(*prepared),
            Attempt::InUse(failure) => (failure, MAX_EXIT),
            Attempt::Wait(failure) => (failure, MAX_WAIT),
        };
        patience = patience.max(max);
        if begin.elapsed() >= patience {
            return Err(failure);
        }
        thread::park_timeout(PAUSE);
    }
}

/// The outcome of one try to get the sockets.
enum Attempt {
    Prepared(Box<Prepared>),
    /// There is no predecessor, and an address is in use: perhaps a predecessor is closing its sockets
    /// at its exit, one after the other.
    InUse(Failure),
    /// The predecessor is ending or busy: a later try may succeed.
    Wait(Failure),
}

fn attempt(settings: &Settings, passed: &[Inherited], path: &Path) -> Result<Attempt, Failure> {
    let busy = || Attempt::Wait(Failure::Takeover(TakeoverError::busy(path)));
    let (left, outcome): (_, fn(Failure) -> Attempt) =
        match Takeover::ask(path, &settings.config).map_err(Failure::Takeover)? {
            Answer::Nobody => (None, Attempt::InUse),
            Answer::Busy => return Ok(busy()),
            Answer::Ending(file) => (file, Attempt::Wait),
            Answer::Offer(mut takeover) => {
                let (server, admin) = bind(settings, passed, Some(&mut takeover))?;
                match takeover
                    .claim(&server.handle())
                    .map_err(Failure::Takeover)?
                {
                    Claim::Granted => {
                        return Ok(Attempt::Prepared(Box::new(Prepared {
                            server,
                            admin,
                            role: Role::Successor(takeover),
                        })));
                    }
                    Claim::Busy => return Ok(busy()),
                    // Its sockets are closed before they are bound anew.
                    Claim::Ending => (None, Attempt::Wait),
                }
            }
        };
    match start_afresh(settings, passed, path, left) {
        Ok(prepared) => Ok(Attempt::Prepared(Box::new(prepared))),
        Err(failure) if failure.is_of_used_address() => Ok(outcome(failure)),
        Err(failure) => Err(failure),
    }
}

/// Binds all sockets, and at last the hand-over socket, instead of the file that a predecessor has
/// left.
fn start_afresh(
    settings: &Settings,
    passed: &[Inherited],
    path: &Path,
    left: Option<SocketFile>,
) -> Result<Prepared, Failure> {
    let (server, admin) = bind(settings, passed, None)?;
    if let Some(file) = left {
        file.remove();
    }
    let offer = Offer::bind(path).map_err(|source| Failure::Offer {
        path: path.display().to_string(),
        source,
    })?;
    Ok(Prepared {
        server,
        admin,
        role: Role::First(offer),
    })
}

/// Binds what a predecessor does not pass on.
fn bind(
    settings: &Settings,
    passed: &[Inherited],
    mut takeover: Option<&mut Takeover>,
) -> Result<(Server, Option<Admin>), Failure> {
    // Another try may need these sockets again.
    let others = passed.iter().map(Inherited::try_clone);
    let mut inherited: Vec<_> = others.collect::<Result<_, _>>().map_err(Failure::Passed)?;
    if let Some(takeover) = &mut takeover {
        inherited.append(&mut takeover.endpoints);
    }
    let admin = admin_port::bind(settings, takeover)?;
    let succession = match settings.handover {
        Some(_) => Succession::Offered,
        None => Succession::Never,
    };
    let server = Server::bind_with(settings.config.clone(), inherited, succession)
        .map_err(Failure::Server)?;
    Ok((server, admin))
}

/// Starts a thread that waits until the workers serve, releases the predecessor, and then offers
/// our sockets to a successor, until the server has ended.
pub(super) fn start(
    handle: Handle,
    role: Role,
    admin: Arc<AdminPort>,
    failure: FirstFailure,
) -> io::Result<JoinHandle<()>> {
    thread::Builder::new()
        .name("echod-handover".to_owned())
        .spawn(move || {
            wait_until_served(&handle);
            match confirm(&handle, role) {
                Ok(Confirmed::Owner(Some(offer))) => offer.serve(&handle, &*admin),
                Ok(Confirmed::Owner(None)) => {}
                Ok(Confirmed::Left) => admin.leave(),
                Err(error) => {
                    failure.note(error);
                    admin.leave();
                }
            }
            if handle.has_successor() || handle.is_undecided() {
                admin.leave();
            }
        })
}

/// Tells the service manager and the predecessor that this server serves.
fn confirm(handle: &Handle, role: Role) -> Result<Confirmed, Failure> {
    if !handle.is_draining() {
        systemd::ready();
    }
    match role {
        Role::Alone => Ok(Confirmed::Owner(None)),
        Role::First(offer) => Ok(Confirmed::Owner(Some(offer))),
        Role::Successor(takeover) => takeover.confirm(handle).map_err(Failure::Takeover),
    }
}

/// Returns once every worker's loop turns, or the server is told to end.
fn wait_until_served(handle: &Handle) {
    const PAUSE: Duration = Duration::from_millis(1);
    let mut heartbeat = Heartbeat::new(handle.clone());
    while heartbeat.check() == Alive::NotAll && !handle.is_draining() && !handle.is_over() {
        thread::park_timeout(PAUSE);
    }
}
