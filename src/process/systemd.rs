//! What a service manager is told, and what it passes on: sd_notify(3), sd_listen_fds(3) and
//! sd_watchdog_enabled(3). Without one every function here does nothing.

use std::env;
use std::ffi::OsStr;
use std::io;
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

/// How long a manager that reads nothing is waited for to tell it that the service is ready.
const READY_TIMEOUT: Duration = Duration::from_secs(5);

/// The sockets that were passed on. Each is served as the endpoint of the configuration that has its
/// address; otherwise as the service that its name says (`FileDescriptorName=`), or else as echo.
///
/// # Errors
/// When the environment does not say properly what was passed, or it is not a socket to serve on.
pub(crate) fn passed_sockets(config: &Config) -> io::Result<Vec<Inherited>> {
    let (numbers, names): (Vec<_>, Vec<_>) = sd_notify::listen_fds_with_names()?.unzip();
    let sockets = sys::take_passed_descriptors(numbers.into_iter());
    let mut all: Vec<Inherited> = Vec::with_capacity(sockets.len());
    for (socket, name) in sockets.into_iter().zip(names) {
        let address = listen::endpoint_of(&socket)
            .map_err(|error| io::Error::new(error.kind(), format!("`{name}` is {error}")))?;
        let (service, configured) = named_in(config, &address)
            .unwrap_or_else(|| (name.parse().unwrap_or(Service::Echo), address));
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

/// The service and endpoint of the configuration that mean this address.
fn named_in(config: &Config, address: &Endpoint) -> Option<(Service, Endpoint)> {
    let means = |endpoint: &Endpoint| {
        endpoint == address
            || std::mem::discriminant(endpoint) == std::mem::discriminant(address)
                && match (endpoint.resolve(), address.resolve()) {
                    (Ok(configured), Ok(passed)) => configured.first() == passed.first(),
                    _ => false,
                }
    };
    let named = config.services.iter();
    named.clone().find(|(_, endpoint)| means(endpoint)).cloned()
}

/// Tells that the service is ready, also after a reload. A manager that is busy is waited for, since
/// it ends services that never say so.
pub(crate) fn ready() {
    tell(&[NotifyState::Ready], READY_TIMEOUT);
}

/// Tells that the configuration is being read again; [`ready`] ends it.
pub(crate) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => tell(&[NotifyState::Reloading, now], Duration::ZERO),
        Err(error) => warn!(%error, "cannot tell the time to the service manager"),
    }
}

/// Tells that the service is going to end.
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
/// `sd_notify::notify` would take for a path. Waits as long as `timeout` for a manager that is busy.
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

/// If the service manager asks for it, tells it again and again that the service is alive, which
/// means that every worker's loop turns. It is woken for that: sleeping is no sign of death.
pub(crate) fn keep_watchdog(handle: Handle) -> io::Result<()> {
    let Some(limit) = sd_notify::watchdog_enabled() else {
        return Ok(());
    };
    // Half the limit, as sd_watchdog_enabled(3) recommends, in steps that leave time to turn.
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
