//! The life of the process around its server: what it is passed, what it says, how it ends.

use std::fmt;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::admin::{self, About, Admin, Status};
use crate::net::descriptors;
use crate::net::endpoint::{Endpoint, HostPort};
use crate::net::unix::SocketFile;
use crate::process::handover::{Offer, Takeover, TakeoverError};
use crate::server::{Alive, Heartbeat};
use crate::settings::{Resolved, Settings};
use crate::{Config, Error, Handle, Server, Service};
use tracing::{info, warn};

use super::signals::{self, Resolve};
use super::systemd;

/// Descriptors besides those of workers and connections: of the admin port (64 at most), logs, signals.
const RESERVED_DESCRIPTORS: u64 = 96;

/// Serves until a signal, or a successor, ends it.
///
/// # Errors
/// [`Failure`] says what could not be had.
pub fn serve(resolved: Resolved, resolve: Resolve) -> Result<(), Failure> {
    let has_endpoints = resolved.has_endpoints();
    let mut settings = resolved.settings;
    warn_of_limits(&settings.config);
    warn_of_reflection(&settings.config);

    let mut inherited = systemd::passed_sockets(&settings.config).map_err(Failure::Passed)?;
    if !inherited.is_empty() && !has_endpoints {
        // Sockets that were passed on are endpoints enough.
        settings.config.services.clear();
    }
    let handover = settings.config.handover.clone();
    let mut takeover = match &handover {
        Some(path) => Takeover::ask(path, &settings.config).map_err(Failure::Takeover)?,
        None => None,
    };
    if let Some(takeover) = &mut takeover {
        inherited.append(&mut takeover.endpoints);
    }
    // Before the server's: the longer nothing is added to what a predecessor serves, the more can
    // fail without a trace.
    let admin = bind_admin(&settings.config, takeover.as_mut())?;
    let server = Server::bind_with(settings.config.clone(), inherited).map_err(Failure::Server)?;
    let handle = server.handle();
    let fresh_offer = match (&handover, &takeover) {
        (Some(path), None) => Some(Offer::bind(path).map_err(|source| Failure::Offer {
            path: path.display().to_string(),
            source,
        })?),
        _ => None,
    };

    let configuration = Arc::new(Mutex::new(settings.to_json()));
    let admin = admin
        .map(|admin| start_admin(admin, &settings.config, &server, &configuration))
        .transpose()?;
    let reloaded = move |settings: &Settings| *lock(&configuration) = settings.to_json();
    // Before anybody is told that we are ready, and may send the first signal.
    signals::obey(handle.clone(), resolve, settings, reloaded).map_err(Failure::Thread)?;
    let announcement = announcement(&server, admin.as_ref().map(|admin| admin.address));
    systemd::keep_watchdog(handle.clone()).map_err(Failure::Thread)?;
    let company = Arc::new(Company {
        admin: Mutex::new(admin),
        offered: Mutex::new(fresh_offer.as_ref().map(|offer| offer.file().clone())),
        failure: Mutex::new(None),
    });
    announce(announcement, handle.clone(), Arc::clone(&company)).map_err(Failure::Thread)?;
    accompany(handle.clone(), takeover, fresh_offer, Arc::clone(&company))
        .map_err(Failure::Thread)?;

    let total = server.run().map_err(Failure::Server);
    company.leave(&handle);
    let total = total?;
    if let Some(error) = lock(&company.failure).take() {
        return Err(error);
    }
    info!(
        accepted = total.accepted,
        received_bytes = total.received_bytes,
        sent_bytes = total.sent_bytes,
        "stopped"
    );
    Ok(())
}

/// What scripts wait for.
fn announcement(server: &Server, admin: Option<SocketAddr>) -> String {
    let mut lines = String::new();
    for (service, endpoint) in server.endpoints() {
        lines += &format!("listening {service} {endpoint}\n");
    }
    if let Some(address) = admin {
        lines += &format!("listening admin http://{address}\n");
    }
    lines + "ready\n"
}

/// Writes to stdout in a thread of its own, so that a reader that stands still keeps nobody waiting. A
/// closed stdout means that no script waits; any other error would leave one waiting, so it ends the
/// server.
fn announce(lines: String, handle: Handle, company: Arc<Company>) -> io::Result<()> {
    thread::Builder::new()
        .name("echod-announce".to_owned())
        .spawn(move || {
            let written = io::stdout().lock().write_all(lines.as_bytes());
            if let Err(error) = written
                && error.kind() != io::ErrorKind::BrokenPipe
            {
                *lock(&company.failure) = Some(Failure::Announce(error));
                handle.stop();
            }
        })?;
    Ok(())
}

/// An admin port that answers.
struct AdminPort {
    address: SocketAddr,
    /// For a successor.
    listener: OwnedFd,
    /// Ends when it is dropped.
    _running: admin::Running,
}

/// Binds the admin port, if there is to be one, or goes on with the predecessor's.
fn bind_admin(config: &Config, takeover: Option<&mut Takeover>) -> Result<Option<Admin>, Failure> {
    let Some(address) = &config.admin else {
        return Ok(None);
    };
    let passed = takeover.and_then(|takeover| takeover.admin.take());
    let admin = match passed.map(Admin::adopt).transpose() {
        Ok(Some(admin)) if is_meant(address, admin.local_addr()) => Ok(admin),
        Ok(_) => Admin::bind(address),
        Err(source) => Err(Error::Admin {
            address: address.clone(),
            source,
        }),
    };
    admin.map(Some).map_err(Failure::Server)
}

/// Answers on the admin port from now on.
fn start_admin(
    admin: Admin,
    config: &Config,
    server: &Server,
    configuration: &Arc<Mutex<serde_json::Value>>,
) -> Result<AdminPort, Failure> {
    let configuration = Arc::clone(configuration);
    let status = Status::new(
        server.handle(),
        About {
            endpoints: server.endpoints().to_vec(),
            balance: config.balance,
            balances: server.balances().to_vec(),
            configuration: Box::new(move || lock(&configuration).clone()),
        },
    );
    Ok(AdminPort {
        address: admin.local_addr(),
        listener: admin
            .listener_to_pass()
            .map_err(|source| Failure::Server(Error::Handover(source)))?,
        _running: admin.start(status).map_err(Failure::Thread)?,
    })
}

/// Whether a listener is bound where the configuration wants it.
fn is_meant(wanted: &HostPort, bound: SocketAddr) -> bool {
    wanted.resolve().is_ok_and(|addresses| {
        addresses
            .iter()
            .any(|it| it.ip() == bound.ip() && (it.port() == bound.port() || it.port() == 0))
    })
}

/// What goes with the server and ends with it.
struct Company {
    admin: Mutex<Option<AdminPort>>,
    /// The file that leads to our offer, once there is one.
    offered: Mutex<Option<SocketFile>>,
    /// Why it ended if no worker failed: the predecessor could not be replaced, stdout not be written.
    failure: Mutex<Option<Failure>>,
}

impl Company {
    /// The server has ended, or a successor has taken over and answers in our place.
    fn leave(&self, handle: &Handle) {
        drop(lock(&self.admin).take());
        if let Some(file) = lock(&self.offered).take()
            && !handle.has_successor()
        {
            file.remove();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a thread of its own: waits until the workers serve, lets the predecessor go, and then offers
/// our sockets to the next.
fn accompany(
    handle: Handle,
    takeover: Option<Takeover>,
    fresh_offer: Option<Offer>,
    company: Arc<Company>,
) -> io::Result<()> {
    thread::Builder::new()
        .name("echod-handover".to_owned())
        .spawn(move || {
            wait_until_served(&handle);
            // Held until it is known whose the file is: the end of the server waits for that.
            let mut offered = lock(&company.offered);
            if handle.is_draining() {
                // Too late to take over: the predecessor goes on.
                return;
            }
            systemd::ready();
            let taken = takeover.map(|takeover| takeover.confirm(&handle));
            let offer = match taken.transpose() {
                Ok(taken) => taken.or(fresh_offer),
                Err(error) => {
                    // The predecessor serves on, so this one must not.
                    *lock(&company.failure) = Some(Failure::Takeover(error));
                    handle.drain();
                    return;
                }
            };
            let Some(offer) = offer else {
                return;
            };
            *offered = Some(offer.file().clone());
            drop(offered);
            let admin = lock(&company.admin)
                .as_ref()
                .and_then(|admin| admin.listener.try_clone().ok());
            offer.serve(&handle, admin.as_ref().map(AsFd::as_fd));
            if handle.has_successor() {
                company.leave(&handle);
            }
        })?;
    Ok(())
}

/// Returns once every worker's loop turns.
fn wait_until_served(handle: &Handle) {
    const PAUSE: Duration = Duration::from_millis(1);
    let mut heartbeat = Heartbeat::new(handle.clone());
    while heartbeat.check() == Alive::NotAll && !handle.is_draining() {
        thread::park_timeout(PAUSE);
    }
}

/// Raises the limit on descriptors, and says so if the configuration does not fit it.
fn warn_of_limits(config: &Config) {
    let limit = match descriptors::raise_descriptor_limit() {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, "cannot raise the limit on open descriptors");
            return;
        }
    };
    // Each listener twice if there is a successor to pass it to; epoll, its waker and the UDP side's;
    // the two ends of a pipe.
    let sockets = 2 * config.services.len() as u64 + 3;
    let per_worker = sockets + 2 + crate::reactor::MAX_REFUSED_LINGERING as u64;
    let own = RESERVED_DESCRIPTORS + config.workers.get() as u64 * per_worker;
    let room = limit.saturating_sub(own);
    if let Some(most) = config.limits.max_connections
        && most.get() as u64 > room
    {
        warn!(
            "--max-connections {most} does not fit the limit of {limit} open descriptors, which \
             leaves room for {room}; raise it (LimitNOFILE= in systemd, ulimit -n in a shell)"
        );
    }
}

/// Datagrams with a forged source make a server send to somebody who did not ask.
fn warn_of_reflection(config: &Config) {
    let limits = &config.limits;
    if limits.udp_rate.is_some() || limits.udp_rate_per_source.is_some() {
        return;
    }
    for (service, endpoint) in &config.services {
        if let Endpoint::Udp(address) = endpoint
            && *service != Service::Discard
            && !address
                .host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
        {
            warn!(
                "{service} on {endpoint} answers at any rate, whoever a datagram claims to come \
                 from; bound it with --udp-rate-per-source and --udp-rate"
            );
        }
    }
}

/// Why the process could not serve.
#[derive(Debug)]
pub enum Failure {
    /// The server could not start, or a worker failed.
    Server(Error),
    /// The service manager passed something that cannot be served on.
    Passed(io::Error),
    /// The running server could not be replaced.
    Takeover(TakeoverError),
    /// There is no socket on which a successor could ask for the endpoints.
    Offer {
        /// As configured.
        path: String,
        /// What bind(2) or listen(2) said.
        source: io::Error,
    },
    /// Stdout did not take the lines that scripts wait for.
    Announce(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Passed(error) => {
                write!(
                    f,
                    "cannot serve on the sockets passed by the service manager: {error}"
                )
            }
            Self::Takeover(error) => error.fmt(f),
            Self::Offer { path, source } => {
                write!(f, "cannot wait for a successor on {path}: {source}")
            }
            Self::Announce(error) => write!(f, "cannot write to stdout: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }?;
        match self.way_out() {
            Some(way_out) => write!(f, "; {way_out}"),
            None => Ok(()),
        }
    }
}

impl Failure {
    /// What the user can do about it, in terms of the command line.
    fn way_out(&self) -> Option<&'static str> {
        match self {
            Self::Server(error) => way_out(error),
            Self::Passed(_) => Some("see Sockets= and FileDescriptorName= of the socket unit"),
            Self::Takeover(_) => Some("choose another path with --handover to start beside it"),
            Self::Offer { .. } => Some("choose another path with --handover"),
            Self::Announce(_) => None,
            Self::Thread(_) => Some("see ulimit -u"),
        }
    }
}

/// What the user can do about a failure, in terms of the command line.
fn way_out(error: &Error) -> Option<&'static str> {
    match error {
        Error::Bind {
            endpoint: Endpoint::Unix(_),
            source,
            ..
        } => Some(match source.kind() {
            io::ErrorKind::AddrInUse => "somebody listens there; choose another path",
            io::ErrorKind::AlreadyExists => "choose another path, or remove the file",
            io::ErrorKind::PermissionDenied => "choose a directory that this user may write to",
            io::ErrorKind::NotFound => "make the directory, or choose another path",
            _ => return None,
        }),
        Error::Bind { source, .. } => Some(match source.kind() {
            io::ErrorKind::AddrInUse => {
                "choose another port with --echo (or --discard, --chargen), or port 0 for a free one"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --echo (or \
                 --discard, --chargen)"
            }
            io::ErrorKind::AddrNotAvailable => {
                "the address is not of this machine; choose one with --echo (or --discard, \
                 --chargen), 0.0.0.0 or [::] for all"
            }
            _ => return None,
        }),
        Error::Resolve { .. } => Some("check the name, or give an address instead"),
        Error::Setup { .. } => {
            Some("fewer --workers need fewer descriptors and threads; see ulimit -n and -u")
        }
        Error::Admin { .. } => Some("choose another address with --admin HOST:PORT"),
        Error::Tuning { .. }
        | Error::Handover(_)
        | Error::Worker { .. }
        | Error::Panicked { .. } => None,
    }
}
