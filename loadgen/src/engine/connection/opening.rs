//! What a connection sends and reads before its first message: a PROXY header, and a greeting. To its
//! flow it is still connecting.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use echomark::net::cidr::Cidr;
use echomark::net::socket;
use socket2::SockRef;

use super::ended::Ended;
use super::transport::Transport;
use crate::plan::{Opening, ProxyVersion};

/// The longest greeting, which bounds what a server can make this program keep.
pub(super) const MAX_GREETING: usize = 16 << 10;

/// How the connections of a thread begin.
#[derive(Clone, Debug, Default)]
pub(super) struct Openings {
    opening: Opening,
    /// The index of the next client to speak for.
    next: u128,
    stride: u128,
    /// Whether each connection sends its first message as soon as it may.
    sends_at_once: bool,
}

impl Openings {
    pub(super) fn new(opening: Opening, first: u128, stride: u128, sends_at_once: bool) -> Self {
        Self {
            opening,
            next: first,
            stride,
            sends_at_once,
        }
    }

    /// Whether servers greet.
    pub(super) fn awaits_greeting(&self) -> bool {
        self.opening.greeting
    }

    /// What a new connection begins with; `None` if that is its first message. Over TLS, the greeting
    /// comes later.
    pub(super) fn begin(&mut self, transport: &Transport, over_tls: bool) -> Option<Exchange> {
        let awaits_greeting = self.opening.greeting && !over_tls;
        if self.opening.proxy_protocol.is_none() && !awaits_greeting {
            return None;
        }
        Some(Exchange {
            header: self
                .opening
                .proxy_protocol
                .map(|version| header(version, self.take_client(transport), server(transport)))
                .unwrap_or_default(),
            sent: 0,
            is_followed: self.sends_at_once && !awaits_greeting,
            awaits_greeting,
        })
    }

    /// The client to speak for, with the port that this connection has.
    fn take_client(&mut self, transport: &Transport) -> Option<SocketAddr> {
        let own = SockRef::from(transport).local_addr().ok()?.as_socket();
        let sources = &self.opening.proxy_sources;
        let total: u128 = sources.iter().map(Cidr::host_count).sum();
        if total == 0 {
            return own;
        }
        let mut number = self.next % total;
        self.next = (self.next + self.stride) % total;
        for source in sources {
            match number.checked_sub(source.host_count()) {
                Some(rest) => number = rest,
                None => {
                    let port = own.map_or(0, |own| own.port());
                    return Some(SocketAddr::new(source.host(number)?, port));
                }
            }
        }
        own
    }
}

fn server(transport: &Transport) -> Option<SocketAddr> {
    SockRef::from(transport).peer_addr().ok()?.as_socket()
}

/// The header for a connection of `client` to `server`. Without a client, it says that there is none to
/// tell.
fn header(
    version: ProxyVersion,
    client: Option<SocketAddr>,
    server: Option<SocketAddr>,
) -> Vec<u8> {
    let Some(client) = client else {
        return match version {
            ProxyVersion::V1 => b"PROXY UNKNOWN\r\n".to_vec(),
            ProxyVersion::V2 => binary(0x20, 0x00, &[]),
        };
    };
    // A Unix socket has no address to tell.
    let nowhere = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    let server = server.unwrap_or(nowhere);
    let (is_v4, [from, to]) = in_one_family(client.ip(), server.ip());
    match version {
        ProxyVersion::V1 => {
            let family = if is_v4 { "TCP4" } else { "TCP6" };
            let (from_port, to_port) = (client.port(), server.port());
            format!("PROXY {family} {from} {to} {from_port} {to_port}\r\n").into_bytes()
        }
        ProxyVersion::V2 => {
            let mut body = Vec::with_capacity(36);
            for address in [from, to] {
                match address {
                    IpAddr::V4(v4) => body.extend(v4.octets()),
                    IpAddr::V6(v6) => body.extend(v6.octets()),
                }
            }
            body.extend(client.port().to_be_bytes());
            body.extend(server.port().to_be_bytes());
            binary(0x21, if is_v4 { 0x11 } else { 0x21 }, &body)
        }
    }
}

/// Both addresses as IPv4 or both as IPv6, and whether it is IPv4.
fn in_one_family(one: IpAddr, other: IpAddr) -> (bool, [IpAddr; 2]) {
    let both = [one, other];
    if both.iter().all(IpAddr::is_ipv4) {
        return (true, both);
    }
    let mapped = both.map(|address| match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().into(),
        v6 => v6,
    });
    (false, mapped)
}

/// A header of version 2.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    header.extend([command, family]);
    // At most 36 bytes.
    header.extend((body.len() as u16).to_be_bytes());
    header.extend(body);
    header
}

/// The begin of a connection that is under way.
#[derive(Debug)]
pub(super) struct Exchange {
    header: Vec<u8>,
    sent: usize,
    /// Whether a message or a handshake follows the header at once.
    is_followed: bool,
    awaits_greeting: bool,
}

/// How far it has come.
pub(super) enum Progress {
    /// An event reports more.
    Pending,
    /// It is complete, with the greeting if one was awaited.
    Done(Option<Box<str>>),
}

impl Exchange {
    /// Sends and reads as much as there is.
    ///
    /// # Errors
    /// Why the connection ended.
    pub(super) fn go_on(&mut self, transport: &Transport) -> Result<Progress, Ended> {
        // Each round sends some bytes or leaves the loop.
        while self.sent < self.header.len() {
            let rest = &self.header[self.sent..];
            let sent = if self.is_followed {
                socket::send_before_more(transport, rest)
            } else {
                socket::send(transport, rest)
            };
            match sent {
                Ok(count) => self.sent += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Progress::Pending);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Ended::Broken),
            }
        }
        if !self.awaits_greeting {
            return Ok(Progress::Done(None));
        }
        read_line(transport)
    }
}

/// Takes the first line out of the socket, and nothing of what is behind it.
fn read_line(transport: &Transport) -> Result<Progress, Ended> {
    let mut buffer = [0; MAX_GREETING];
    let count = loop {
        match socket::peek(transport, &mut buffer) {
            Ok(0) => return Err(Ended::ByPeer),
            Ok(count) => break count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Ok(Progress::Pending);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Ended::Broken),
        }
    };
    let Some(len) = buffer[..count].iter().position(|&byte| byte == b'\n') else {
        return if count == buffer.len() {
            Err(Ended::Excess)
        } else {
            Ok(Progress::Pending)
        };
    };
    let mut taken = 0;
    // It is there, so each round takes some of it.
    while taken <= len {
        match socket::receive(transport, &mut buffer[taken..=len]) {
            Ok(0) => return Err(Ended::ByPeer),
            Ok(count) => taken += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return Err(Ended::Broken),
        }
    }
    let line = String::from_utf8_lossy(&buffer[..len]);
    Ok(Progress::Done(Some(line.trim_end().into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Option<SocketAddr> {
        Some(text.parse().unwrap())
    }

    #[test]
    fn headers_are_what_a_server_reads() {
        use echomark::internal::{Addresses, Begin, parse_proxy_header};
        for (client, server, told) in [
            ("192.0.2.1:5", "127.0.0.1:7", ["192.0.2.1:5", "127.0.0.1:7"]),
            ("[2001:db8::1]:5", "[::1]:7", ["[2001:db8::1]:5", "[::1]:7"]),
            (
                "192.0.2.1:5",
                "[::1]:7",
                ["[::ffff:192.0.2.1]:5", "[::1]:7"],
            ),
        ] {
            for version in [ProxyVersion::V1, ProxyVersion::V2] {
                let bytes = header(version, address(client), address(server));
                let Ok(Begin::Header(found)) = parse_proxy_header(&bytes) else {
                    panic!("{}", bytes.escape_ascii());
                };
                let [client, server] = told.map(|it| it.parse().unwrap());
                assert_eq!(found.addresses, Some(Addresses { client, server }));
                assert_eq!(found.bytes, bytes);
            }
        }
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let bytes = header(version, None, None);
            let Ok(Begin::Header(found)) = parse_proxy_header(&bytes) else {
                panic!("{}", bytes.escape_ascii());
            };
            assert_eq!(found.addresses, None);
        }
    }
}
