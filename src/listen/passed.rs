//! What a socket that a service manager passed is: an endpoint that can be served, or in words what
//! it is instead.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;

use rustix::net::AddressFamily;
use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, Type};

use crate::net::endpoint::Endpoint;

/// The endpoint of a passed socket.
///
/// # Errors
/// What the descriptor is, if it can't be served, such as `a TCP socket that does not listen`.
pub(crate) fn endpoint_of_passed(socket: &OwnedFd) -> Result<Endpoint, String> {
    let socket = SockRef::from(socket);
    match (socket.domain(), socket.r#type()) {
        (Ok(Domain::IPV4 | Domain::IPV6), Ok(kind)) => internet_endpoint(&socket, kind),
        (Ok(Domain::UNIX), Ok(kind)) => unix_endpoint(&socket, kind),
        (Ok(domain), Ok(_)) => Err(format!("a socket of the address family {}", family(domain))),
        (Err(error), _) | (_, Err(error)) => Err(match error.raw_os_error() {
            Some(errno) if errno == rustix::io::Errno::NOTSOCK.raw_os_error() => {
                "not a socket".to_owned()
            }
            _ => format!("unusable: {error}"),
        }),
    }
}

fn internet_endpoint(socket: &Socket, kind: Type) -> Result<Endpoint, String> {
    let protocol = read(socket.protocol())?;
    let address = read(socket.local_addr())?.as_socket();
    match (kind, protocol) {
        (Type::STREAM, Some(Protocol::TCP)) => {
            require_listener(socket, "a TCP socket")?;
            address.map(|it| Endpoint::Tcp(it.into()))
        }
        (Type::DGRAM, Some(Protocol::UDP)) => {
            let address = address.filter(|it| it.port() != 0);
            address.map(|it| Endpoint::Udp(it.into()))
        }
        (Type::RAW, _) => return Err("a raw socket".to_owned()),
        (_, protocol) => {
            let number = protocol.map_or(0, i32::from);
            return Err(format!(
                "a socket of the protocol {number}, neither TCP nor UDP"
            ));
        }
    }
    .ok_or_else(|| "a socket without an address".to_owned())
}

fn unix_endpoint(socket: &Socket, kind: Type) -> Result<Endpoint, String> {
    match kind {
        Type::STREAM => require_listener(socket, "a Unix socket")?,
        Type::DGRAM => return Err("a Unix datagram socket".to_owned()),
        _ => return Err("a Unix socket of packets".to_owned()),
    }
    let address = read(socket.local_addr())?;
    let Some(path) = address.as_pathname() else {
        return Err(match abstract_name(&address) {
            Some(name) => format!("a Unix socket with the abstract address @{name}"),
            None => "a Unix socket without an address".to_owned(),
        });
    };
    // The same rules as for a path that a user writes: others must be able to use what is printed.
    let text = path.to_str().map(|path| format!("unix:{path}"));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| {
        let path = path.as_os_str().as_bytes().escape_ascii();
        format!("a Unix socket at the path {path}, which is not printable text")
    })
}

fn abstract_name(address: &SockAddr) -> Option<String> {
    let name = address.as_abstract_namespace()?;
    Some(name.escape_ascii().to_string())
}

fn require_listener(socket: &Socket, what: &str) -> Result<(), String> {
    if read(socket.is_listener())? {
        return Ok(());
    }
    Err(match socket.peer_addr() {
        // Accept=yes starts a process for each connection.
        Ok(_) => format!("a connection, not {what} that listens (set Accept=no)"),
        Err(_) => format!("{what} that does not listen"),
    })
}

fn read<T>(result: io::Result<T>) -> Result<T, String> {
    result.map_err(|error| format!("unusable: {error}"))
}

/// The name of the families that a service manager passes (systemd.socket(5)), or the number.
fn family(domain: Domain) -> String {
    let number = i32::from(domain);
    let known = [
        (AddressFamily::NETLINK, "netlink"),
        (AddressFamily::VSOCK, "vsock"),
    ];
    let name = known
        .iter()
        .find(|(family, _)| i32::from(family.as_raw()) == number);
    name.map_or_else(|| number.to_string(), |(_, name)| (*name).to_owned())
}
