//! The addresses of a run's targets. A resolver, or a host that does not answer, may take many
//! seconds; the user can stop the run meanwhile.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;

use super::coordinator::POLL_INTERVAL;
use super::tls::Tls;
use crate::engine::connection::Address;
use crate::error::RunError;
use crate::observer::Control;

/// How long an address of several may take to answer a datagram.
const MAX_PROBE: Duration = Duration::from_millis(300);

/// One address for each target. `None` if the user stopped the run.
pub(super) fn resolve(
    targets: &[Endpoint],
    tls: Option<&Tls>,
    timeout: Duration,
    control: &Control,
) -> Result<Option<Arc<[Address]>>, RunError> {
    let targets = targets.to_vec();
    let tls = tls.cloned();
    let addresses = unless_stopped(control, move || {
        targets
            .iter()
            .map(|target| address_of(target, tls.as_ref(), timeout))
            .collect()
    })?;
    addresses.transpose()
}

/// Does work that blocks on a separate thread. Returns `None` as soon as the user stops the run; the
/// thread then ends when the work does.
pub(crate) fn unless_stopped<T: Send + 'static>(
    control: &Control,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<Option<T>, RunError> {
    let (done, result) = mpsc::sync_channel(1);
    thread::Builder::new()
        .name("loadgen-resolve".to_owned())
        .spawn(move || {
            // Nobody waits for it after a stop.
            let _ = done.send(work());
        })
        .map_err(RunError::System)?;
    loop {
        match result.recv_timeout(POLL_INTERVAL) {
            Ok(result) => return Ok(Some(result)),
            Err(RecvTimeoutError::Timeout) if control.is_stopped() => return Ok(None),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Err(RunError::thread_died()),
        }
    }
}

fn address_of(
    target: &Endpoint,
    tls: Option<&Tls>,
    timeout: Duration,
) -> Result<Address, RunError> {
    if let Endpoint::Unix(path) = target {
        return Ok(Address::Unix(path.clone()));
    }
    let addresses = target.resolve().map_err(|source| RunError::Resolve {
        target: target.clone(),
        source,
    })?;
    match target {
        Endpoint::Udp(_) => first_answering(&addresses)
            .map(Address::Udp)
            .ok_or_else(|| RunError::Refused {
                target: target.clone(),
            }),
        _ => {
            let address =
                first_accepting(&addresses, timeout).map_err(|source| RunError::NoConnection {
                    target: target.clone(),
                    source,
                })?;
            match (target, tls) {
                (Endpoint::Tls(server), Some(tls)) => Ok(Address::Tls {
                    address,
                    connector: tls.connector(&server.host)?,
                }),
                _ => Ok(Address::Tcp(address)),
            }
        }
    }
}

/// The first address that accepts a connection, as other clients choose. A single one is not tried.
fn first_accepting(addresses: &[SocketAddr], timeout: Duration) -> io::Result<SocketAddr> {
    if let [only] = *addresses {
        return Ok(only);
    }
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for &address in addresses {
        match TcpStream::connect_timeout(&address, timeout) {
            // The socket may have connected to itself.
            Ok(stream) if stream.local_addr().is_ok_and(|local| local == address) => {
                failure = io::ErrorKind::ConnectionRefused.into();
            }
            Ok(_) => return Ok(address),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

/// The first address that answers an empty datagram; if none does, the first that does not refuse it,
/// because a server may ignore it. `None` if all refuse. A single one is not tried.
fn first_answering(addresses: &[SocketAddr]) -> Option<SocketAddr> {
    if let [only] = *addresses {
        return Some(only);
    }
    let mut silent = None;
    for &address in addresses {
        match ask(address) {
            Ok(()) => return Some(address),
            Err(error) if is_timeout(&error) => {
                silent.get_or_insert(address);
            }
            // Nothing receives there, or there is no way to it.
            Err(_) => {}
        }
    }
    silent
}

/// Sends an empty datagram, which no count of bytes contains, and waits for an answer.
fn ask(address: SocketAddr) -> io::Result<()> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    socket.set_read_timeout(Some(MAX_PROBE))?;
    socket.send(&[])?;
    socket.recv(&mut []).map(drop)
}

/// socket(7), SO_RCVTIMEO.
fn is_timeout(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn refusing() -> SocketAddr {
        UdpSocket::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
    }

    fn bound() -> (UdpSocket, SocketAddr) {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        (socket, address)
    }

    #[test]
    fn of_several_addresses_the_one_that_answers_datagrams_is_used() {
        let (_silent, silent) = bound();
        let (server, answering) = bound();
        thread::spawn(move || {
            let (_, peer) = server.recv_from(&mut []).unwrap();
            server.send_to(&[], peer).unwrap();
        });
        let addresses = [refusing(), silent, answering];
        assert_eq!(first_answering(&addresses), Some(answering));
        assert_eq!(first_answering(&addresses[..2]), Some(silent));
        assert_eq!(first_answering(&[refusing(), refusing()]), None);
        let only = refusing();
        assert_eq!(first_answering(&[only]), Some(only));
    }

    #[test]
    fn of_several_addresses_the_one_that_accepts_is_used() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let accepting = listener.local_addr().unwrap();
        let addresses = [refusing(), accepting];
        let found = first_accepting(&addresses, Duration::from_secs(20));
        assert_eq!(found.unwrap(), accepting);
    }

    #[test]
    fn work_that_never_ends_does_not_keep_the_user_from_stopping() {
        let control = Control::default();
        assert_eq!(unless_stopped(&control, || 7).unwrap(), Some(7));
        control.stop();
        let (_open, never) = mpsc::channel::<()>();
        let result = unless_stopped(&control, move || never.recv().is_ok());
        assert_eq!(result.unwrap(), None);
    }
}
