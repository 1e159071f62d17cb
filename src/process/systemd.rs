//! The interface to a service manager: sd_notify(3), sd_listen_fds(3) and sd_watchdog_enabled(3).
//! Without a manager every function here does nothing.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::thread;
use std::time::Duration;

use crate::listen::{self, Inherited, Keeper};
use crate::net::endpoint::Endpoint;
use crate::net::sys;
use crate::server::{Alive, Heartbeat};
use crate::{Config, Handle, Service};
use sd_notify::NotifyState;
use tracing::warn;

/// How long a READY message waits for a manager that does not read.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The sockets that were passed on. Each serves the configured endpoint with its address; otherwise
/// the service that its name gives (`FileDescriptorName=`), or else echo.
///
/// # Errors
/// When the environment describes the sockets wrongly, or one is of an unsupported kind.
pub(crate) fn passed_sockets(config: &Config) -> io::Result<Vec<Inherited>> {
    let (numbers, names): (Vec<_>, Vec<_>) = sd_notify::listen_fds_with_names()?.unzip();
    let sockets = sys::take_passed_descriptors(numbers.into_iter());
    let mut all: Vec<Inherited> = Vec::with_capacity(sockets.len());
    for (socket, name) in sockets.into_iter().zip(names) {
        let refuse = |problem: String| {
            let number = socket.as_raw_fd();
            let problem = format!("descriptor {number}, named `{name}`, is {problem}");
            io::Error::new(io::ErrorKind::InvalidInput, problem)
        };
        let address = listen::endpoint_of_passed(&socket).map_err(|what| {
            refuse(format!(
                "{what}; echod serves TCP sockets and Unix stream sockets with a path that listen, \
                 and UDP sockets"
            ))
        })?;
        let (service, configured) = named_in(config, &address)
            .unwrap_or_else(|| (name.parse().unwrap_or(Service::Echo), address));
        if let Some(problem) = config.objection(service, &configured) {
            return Err(refuse(format!(
                "{service} on {configured}, which {problem}"
            )));
        }
        // Several sockets of one address (ReusePort=) are one endpoint.
        let same = |it: &&mut Inherited| it.service == service && it.configured == configured;
        match all.iter_mut().find(same) {
            Some(endpoint) => endpoint.sockets.push(socket),
            None => all.push(Inherited {
                service,
                configured,
                sockets: vec![socket],
                keeper: Keeper::ServiceManager,
            }),
        }
    }
    Ok(all)
}

/// The configured service and endpoint with this address.
fn named_in(config: &Config, address: &Endpoint) -> Option<(Service, Endpoint)> {
    let means = |endpoint: &Endpoint| {
        endpoint == address
            || endpoint.has_socket_like(address)
                && match (endpoint.resolve(), address.resolve()) {
                    (Ok(configured), Ok(passed)) => configured.first() == passed.first(),
                    _ => false,
                }
    };
    let named = config.services.iter();
    named.clone().find(|(_, endpoint)| means(endpoint)).cloned()
}

/// Reports that the service is ready, also after a reload. It waits for a busy manager, which ends
/// services that never report.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready], READY_TIMEOUT);
}

/// Reports that the configuration is being read again; [`ready`] reports the end.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now], Duration::ZERO),
        Err(error) => warn!(%error, "cannot read the clock for the service manager"),
    }
}

/// Reports that the service is ending.
pub(crate) fn stopping() {
    tell(&[NotifyState::Stopping], Duration::ZERO);
}

fn tell(state: &[NotifyState<'_>], timeout: Duration) {
    let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|it| !it.is_empty()) else {
        return;
    };
    let message: String = state.iter().map(|it| format!("{it}\n")).collect();
    if let Err(error) = send(&socket, message.as_bytes(), timeout) {
        warn!(%error, "cannot reach the service manager");
    }
}

/// Sends one datagram to a path or, behind an `@`, to a name without a file (sd_notify(3)), which
/// `sd_notify::notify` would take for a path. Waits up to `timeout` for a busy manager.
fn send(name: &OsStr, message: &[u8], timeout: Duration) -> io::Result<()> {
    let address = match name.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    if timeout.is_zero() {
        socket.set_nonblocking(true)?;
    } else {
        socket.set_write_timeout(Some(timeout))?;
    }
    socket.send_to_addr(message, &address)?;
    Ok(())
}

/// Feeds the service manager's watchdog, if it has one, while every worker's loop turns. The check
/// wakes sleeping workers.
pub(crate) fn keep_watchdog(handle: Handle) -> io::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return Ok(());
    };
    // Two checks fit into half the limit, the interval that sd_watchdog_enabled(3) recommends.
    let pause = (limit / 4).max(Duration::from_millis(1));
    thread::Builder::new()
        .name("echod-watchdog".to_owned())
        .spawn(move || {
            let mut heartbeat = Heartbeat::new(handle);
            loop {
                if heartbeat.check() == Alive::All {
                    tell(&[NotifyState::Watchdog], Duration::ZERO);
                }
                thread::park_timeout(pause);
            }
        })?;
    Ok(())
}
