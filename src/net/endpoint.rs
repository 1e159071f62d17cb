//! Addresses to listen on or connect to: `tcp://HOST:PORT`, `tls://HOST:PORT`, `udp://HOST:PORT`,
//! IPv6 hosts in brackets, or `unix:PATH`.

use std::fmt;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::str::FromStr;

use super::sys;

/// A transport address as a user writes it; the host may be a name.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Endpoint {
    /// A TCP endpoint.
    Tcp(HostPort),
    /// A TCP endpoint with TLS on its connections.
    Tls(HostPort),
    /// A UDP endpoint.
    Udp(HostPort),
    /// A Unix stream socket in the file system.
    Unix(PathBuf),
}

impl Endpoint {
    /// Resolves the host and returns its addresses in the resolver's order, at least one.
    ///
    /// # Errors
    /// The error of the resolver, `NotFound` when it knows the name but no address, and
    /// `Unsupported` for a path, which has no internet address.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::Tcp(address) | Self::Tls(address) | Self::Udp(address) => address.resolve(),
            Self::Unix(_) => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a path has no internet address",
            )),
        }
    }

    /// The endpoint of its socket, which knows no TLS.
    pub fn of_socket(&self) -> Self {
        match self {
            Self::Tls(address) => Self::Tcp(address.clone()),
            other => other.clone(),
        }
    }

    /// Whether sockets of both are of one kind.
    pub fn has_socket_like(&self, other: &Self) -> bool {
        let kind = |endpoint: &Self| match endpoint {
            Self::Tcp(_) | Self::Tls(_) => 0,
            Self::Udp(_) => 1,
            Self::Unix(_) => 2,
        };
        kind(self) == kind(other)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = |problem| EndpointError {
            text: text.to_owned(),
            problem,
        };
        if let Some(path) = text.strip_prefix("unix:") {
            return socket_path(path).map(Self::Unix).map_err(fail);
        }
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| fail(EndpointProblem::NoScheme))?;
        if rest.contains('?') {
            return Err(fail(EndpointProblem::HasOptions));
        }
        match scheme {
            "tcp" => rest.parse().map(Self::Tcp).map_err(fail),
            "tls" => rest.parse().map(Self::Tls).map_err(fail),
            "udp" => rest.parse().map(Self::Udp).map_err(fail),
            _ => Err(fail(EndpointProblem::UnknownScheme)),
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Tls(address) => write!(f, "tls://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Where an admin port listens: HTTP over TCP or over a Unix stream socket.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum AdminAddress {
    /// `HOST:PORT`
    Tcp(HostPort),
    /// `unix:PATH`
    Unix(PathBuf),
}

impl AdminAddress {
    /// As a program announces it and as another asks for it: `http://HOST:PORT` or `unix:PATH`.
    pub fn url(&self) -> String {
        match self {
            Self::Tcp(address) => format!("http://{address}"),
            Self::Unix(_) => self.to_string(),
        }
    }

    /// The same address as an endpoint of a service.
    pub fn as_endpoint(&self) -> Endpoint {
        match self {
            Self::Tcp(address) => Endpoint::Tcp(address.clone()),
            Self::Unix(path) => Endpoint::Unix(path.clone()),
        }
    }
}

impl FromStr for AdminAddress {
    type Err = EndpointProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("unix:") {
            Some(path) => socket_path(path).map(Self::Unix),
            None => text.parse().map(Self::Tcp),
        }
    }
}

impl fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What fits `sun_path` with its terminating zero (unix(7)).
const MAX_PATH_LEN: usize = 107;

fn socket_path(path: &str) -> Result<PathBuf, EndpointProblem> {
    match path.len() {
        0 => Err(EndpointProblem::NoPath),
        // A line end would break the line that announces the endpoint.
        1..=MAX_PATH_LEN if !path.contains(char::is_control) => Ok(path.into()),
        _ => Err(EndpointProblem::BadPath),
    }
}

/// A host name or IP address, without brackets, and a port.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HostPort {
    /// A name, an IPv4 address or an IPv6 address.
    pub host: String,
    /// The port; 0 asks the kernel for a free one when listening.
    pub port: u16,
}

impl HostPort {
    /// Resolves the host and returns its addresses in the resolver's order, at least one.
    ///
    /// # Errors
    /// The error of the resolver, and `NotFound` when it knows the name but no address.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        sys::use_what_is_linked();
        let addresses: Vec<_> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the name has no address",
            ));
        }
        Ok(addresses)
    }
}

impl From<SocketAddr> for HostPort {
    /// A link-local address keeps its zone, as the interface's number: without it no program can use the
    /// address (RFC 4007, section 11).
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V6(v6) if v6.scope_id() != 0 => format!("{}%{}", v6.ip(), v6.scope_id()),
            address => address.ip().to_string(),
        };
        Self {
            host,
            port: address.port(),
        }
    }
}

impl FromStr for HostPort {
    type Err = EndpointProblem;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once("]:").ok_or(EndpointProblem::NoPort)?;
                // A link-local address may name its zone (RFC 4007, section 11).
                let (address, zone) = match host.split_once('%') {
                    Some((address, zone)) => (address, Some(zone)),
                    None => (host, None),
                };
                if address.parse::<Ipv6Addr>().is_err() || zone == Some("") {
                    return Err(EndpointProblem::NotIpv6);
                }
                (host, port)
            }
            None => {
                let (host, port) = text.rsplit_once(':').ok_or(EndpointProblem::NoPort)?;
                if host.contains(':') {
                    return Err(EndpointProblem::NoBrackets);
                }
                (host, port)
            }
        };
        if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(EndpointProblem::BadHost);
        }
        if !port.bytes().all(|b| b.is_ascii_digit()) {
            return Err(EndpointProblem::BadPort);
        }
        Ok(Self {
            host: host.to_owned(),
            port: port.parse().map_err(|_| EndpointProblem::BadPort)?,
        })
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// An endpoint that could not be read, with the text and examples.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct EndpointError {
    text: String,
    problem: EndpointProblem,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "`{}` is not an endpoint: {}; write for example tcp://127.0.0.1:7777, udp://[::1]:7777 \
             or unix:/run/echod.sock",
            self.text, self.problem
        )
    }
}

impl std::error::Error for EndpointError {}

/// Why a text is not an endpoint.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndpointProblem {
    /// There is no `://`.
    NoScheme,
    /// The scheme is not one of ours.
    UnknownScheme,
    /// There is a `?`, and options behind it.
    HasOptions,
    /// There is no `:PORT` at the end.
    NoPort,
    /// The port is not a number from 0 to 65535.
    BadPort,
    /// The host is empty or has characters that no host name has.
    BadHost,
    /// An IPv6 address stands without brackets.
    NoBrackets,
    /// What stands in brackets is not an IPv6 address.
    NotIpv6,
    /// There is nothing behind `unix:`.
    NoPath,
    /// The path does not fit a socket's address.
    BadPath,
}

impl fmt::Display for EndpointProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoScheme => "it does not start with a scheme such as tcp://",
            Self::UnknownScheme => "its scheme is not tcp, tls, udp or unix",
            Self::HasOptions => {
                "what stands behind a question mark are options of echod's endpoints"
            }
            Self::NoPort => "its port is missing",
            Self::BadPort => "its port is not a number from 0 to 65535",
            Self::BadHost => "its host is not a name or an address",
            Self::NoBrackets => "an IPv6 host stands in brackets",
            Self::NotIpv6 => "what stands in brackets is not an IPv6 address",
            Self::NoPath => "its path is missing",
            Self::BadPath => "its path is longer than 107 bytes or holds a control character",
        })
    }
}

impl std::error::Error for EndpointProblem {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::{Ipv4Addr, SocketAddrV6};

    #[test]
    fn endpoints_read_and_print_the_same() {
        for text in [
            "tcp://127.0.0.1:7777",
            "tcp://[::1]:0",
            "tcp://[fe80::1%lo]:7",
            "tcp://localhost:65535",
            "tls://[::1]:853",
            "udp://0.0.0.0:7",
            "udp://[::]:7",
            "unix:/run/echod.sock",
            "unix:relative name",
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn a_link_local_address_that_was_printed_can_be_used() {
        let address: SocketAddr = "[fe80::1%1]:7".parse().unwrap();
        let printed = Endpoint::Tcp(address.into()).to_string();
        let read: Endpoint = printed.parse().unwrap();
        assert_eq!(read.resolve().unwrap(), [address], "{printed}");
    }

    #[test]
    fn errors_name_the_mistake() {
        for (text, problem) in [
            ("127.0.0.1:7", EndpointProblem::NoScheme),
            ("quic://127.0.0.1:7", EndpointProblem::UnknownScheme),
            ("tcp://127.0.0.1:7?delay=1ms", EndpointProblem::HasOptions),
            ("tcp://127.0.0.1", EndpointProblem::NoPort),
            ("tcp://[::1]", EndpointProblem::NoPort),
            ("tcp://host:65536", EndpointProblem::BadPort),
            ("tcp://host:+7", EndpointProblem::BadPort),
            ("tcp://host:", EndpointProblem::BadPort),
            ("tcp://:7", EndpointProblem::BadHost),
            ("tcp://a b:7", EndpointProblem::BadHost),
            ("tcp://::1:7", EndpointProblem::NoBrackets),
            ("tcp://[host]:7", EndpointProblem::NotIpv6),
            ("tcp://[host%lo]:7", EndpointProblem::NotIpv6),
            ("tcp://[[%lo]:7", EndpointProblem::NotIpv6),
            ("tcp://[fe80::1%]:7", EndpointProblem::NotIpv6),
            ("unix:", EndpointProblem::NoPath),
            (
                &format!("unix:/{}", "x".repeat(107)),
                EndpointProblem::BadPath,
            ),
            ("unix:/run/a\nready", EndpointProblem::BadPath),
            ("unix:/run/a\0", EndpointProblem::BadPath),
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert_eq!(error.problem, problem, "{text}");
            assert!(error.to_string().contains(text));
        }
    }

    #[test]
    fn an_unknown_host_does_not_resolve() {
        // RFC 6761 reserves .invalid: no resolver may answer it.
        let endpoint: Endpoint = "tcp://no-such-host.invalid:7".parse().unwrap();
        assert!(endpoint.resolve().is_err());
    }

    fn socket_addresses() -> impl Strategy<Value = SocketAddr> {
        let v6 = prop_oneof![
            any::<u128>(),
            // Link-local, IPv4-mapped, IPv4-compatible.
            any::<u64>().prop_map(|host| 0xfe80 << 112 | u128::from(host)),
            any::<u32>().prop_map(|v4| 0xffff << 32 | u128::from(v4)),
            any::<u32>().prop_map(u128::from),
        ];
        (any::<bool>(), any::<u32>(), v6, 0..99_u32, any::<u16>()).prop_map(
            |(is_v4, v4, v6, zone, port)| {
                let v6 = Ipv6Addr::from_bits(v6);
                let zone = if v6.is_unicast_link_local() { zone } else { 0 };
                if is_v4 {
                    SocketAddr::from((Ipv4Addr::from_bits(v4), port))
                } else {
                    SocketAddrV6::new(v6, port, 0, zone).into()
                }
            },
        )
    }

    proptest! {
        /// What a server prints, a client can be given.
        #[test]
        fn a_printed_address_is_read_and_resolved_to_the_same(address in socket_addresses()) {
            let kinds = [Endpoint::Tcp, Endpoint::Tls, Endpoint::Udp];
            for endpoint in kinds.map(|kind| kind(address.into())) {
                let read: Endpoint = endpoint.to_string().parse().unwrap();
                prop_assert_eq!(&read, &endpoint);
                prop_assert_eq!(read.resolve().unwrap(), [address]);
            }
        }

        #[test]
        fn a_printed_path_is_read_as_the_same(path in "\\PC{1,26}") {
            let endpoint = Endpoint::Unix(path.into());
            let printed = endpoint.to_string();
            prop_assert_eq!(printed.lines().count(), 1);
            prop_assert_eq!(printed.parse(), Ok(endpoint));
        }

        #[test]
        fn no_text_makes_the_parser_panic(text in "(tcp://|tls://|udp://|unix:)?\\PC{0,20}") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse::<Endpoint>(), Ok(endpoint));
            }
        }
    }
}
