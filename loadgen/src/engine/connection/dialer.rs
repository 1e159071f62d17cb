//! Addresses of connections: the targets, and the sources to connect from.

use std::fs;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use echomark::net::cidr::Cidr;
use echomark::net::tuning::Tuning;
use echomark::net::unix;
use echomark::tls::Connector;
use socket2::SockAddr;

use super::opening::Openings;
use super::tls::Tls;
use super::transport::{Kind, Transport};
use crate::engine::schedule::Share;
use crate::engine::sys;
use crate::plan::Opening;

/// A target's address, after name resolution.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    Tls {
        address: SocketAddr,
        connector: Connector,
    },
    Udp(SocketAddr),
    Unix(PathBuf),
}

/// Creates a thread's sockets.
#[derive(Debug)]
pub(crate) struct Dialer {
    /// One address for each target.
    addresses: Arc<[Address]>,
    tuning: Tuning,
    sources: Vec<Cidr>,
    /// Index of the next source address, and the step between this thread's indices.
    next_source: u128,
    stride: u128,
    /// The ports that the kernel chooses from.
    local_ports: RangeInclusive<u16>,
    pub(super) openings: Openings,
    /// `None` if no target has TLS.
    pub(super) tls: Option<Tls>,
}

impl Dialer {
    /// Creates sockets to `addresses`, with the addresses of `sources` in turn, which all threads share
    /// as they share the flows.
    pub(crate) fn new(
        addresses: Arc<[Address]>,
        tuning: Tuning,
        sources: Vec<Cidr>,
        share: Share,
    ) -> Self {
        let connectors = addresses.iter().map(|address| match address {
            // Threads share no sessions.
            Address::Tls { connector, .. } => Some(connector.separate()),
            Address::Tcp(_) | Address::Udp(_) | Address::Unix(_) => None,
        });
        let connectors = connectors.collect();
        Self {
            tls: Tls::new(connectors),
            addresses,
            tuning,
            sources,
            next_source: share.first as u128,
            stride: share.stride as u128,
            local_ports: local_ports(),
            openings: Openings::default(),
        }
    }

    /// The same, for connections that begin so, and that send a message as soon as they may if
    /// `sends_at_once`.
    pub(crate) fn opening(mut self, opening: &Opening, sends_at_once: bool) -> Self {
        let (first, stride) = (self.next_source, self.stride);
        self.openings = Openings::new(opening.clone(), first, stride, sends_at_once);
        self
    }

    pub(super) fn dial(&mut self, target: usize) -> io::Result<Transport> {
        let source = self.take_source();
        match &self.addresses[target] {
            Address::Tcp(address) | Address::Tls { address, .. } => {
                let stream = sys::connect(*address, source, &self.tuning)?;
                Ok(Transport::new(Kind::Tcp, stream))
            }
            Address::Udp(address) => {
                let socket = sys::connect_datagram(*address, source, &self.tuning)?;
                Ok(Transport::new(Kind::Udp, socket))
            }
            Address::Unix(path) => {
                let stream = unix::connect_nonblocking(path)?;
                Ok(Transport::new(Kind::Unix, stream))
            }
        }
    }

    /// The address of a target whose port the kernel may choose for our own end.
    pub(super) fn may_be_own(&self, target: usize) -> Option<SockAddr> {
        match &self.addresses[target] {
            Address::Tcp(address) | Address::Tls { address, .. }
                if self.local_ports.contains(&address.port()) =>
            {
                Some((*address).into())
            }
            _ => None,
        }
    }

    /// Whether a target has TLS.
    pub(super) fn has_tls(&self, target: usize) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has(target))
    }

    fn take_source(&mut self) -> Option<IpAddr> {
        let total: u128 = self.sources.iter().map(Cidr::host_count).sum();
        if total == 0 {
            return None;
        }
        let mut number = self.next_source % total;
        self.next_source = (self.next_source + self.stride) % total;
        for source in &self.sources {
            match number.checked_sub(source.host_count()) {
                Some(rest) => number = rest,
                None => return source.host(number),
            }
        }
        None
    }
}

/// The ports that the kernel chooses from when it connects a socket (ip_local_port_range in ip(7)); any,
/// if it does not say.
fn local_ports() -> RangeInclusive<u16> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = text.split_whitespace().map(|it| it.parse().ok());
    match (bounds.next().flatten(), bounds.next().flatten()) {
        (Some(first), Some(last)) => first..=last,
        _ => 0..=u16::MAX,
    }
}
