//! Addresses of connections: the targets, and the sources to connect from.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use echomark::net::cidr::Cidr;
use echomark::net::tuning::Tuning;
use echomark::net::unix;

use super::opening::Openings;
use super::transport::{Kind, Transport};
use crate::engine::schedule::Share;
use crate::engine::sys;
use crate::plan::Opening;

/// A target's address, after name resolution.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Address {
    Tcp(SocketAddr),
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
    pub(super) openings: Openings,
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
        Self {
            addresses,
            tuning,
            sources,
            next_source: share.first as u128,
            stride: share.stride as u128,
            openings: Openings::default(),
        }
    }

    /// The same, for connections that begin so.
    pub(crate) fn opening(mut self, opening: &Opening) -> Self {
        self.openings = Openings::new(opening.clone(), self.next_source, self.stride);
        self
    }

    pub(super) fn dial(&mut self, target: usize) -> io::Result<Transport> {
        let source = self.take_source();
        match &self.addresses[target] {
            Address::Tcp(address) => {
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
