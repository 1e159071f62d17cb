//! What is measured.

use std::net::{ToSocketAddrs, UdpSocket};

use clap::Args;
use echomark::net::endpoint::{Endpoint, HostPort};

use super::parse;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// Servers, tcp://HOST:PORT, udp://HOST:PORT or unix:PATH; connections are spread over them
    /// [default: an echod inside this process, on a free loopback port]
    #[arg(value_name = "TARGET", value_parser = parse::endpoint)]
    pub(super) targets: Vec<Endpoint>,
}

impl TargetArgs {
    /// One server.
    pub(crate) fn one(target: Endpoint) -> Self {
        Self {
            targets: vec![target],
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.targets.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.targets.len()
    }

    /// Whether messages are datagrams.
    pub(super) fn is_datagram(&self) -> bool {
        self.targets.iter().any(is_datagram)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.is_datagram() && !self.targets.iter().all(is_datagram) {
            return Err(
                "a run is either over UDP or over streams; measure these targets in two runs"
                    .to_owned(),
            );
        }
        Ok(())
    }

    /// Whether one of them runs on this host, and needs a part of its CPUs.
    pub(super) fn is_on_this_host(&self) -> bool {
        self.targets.iter().any(is_local)
    }
}

pub(super) fn is_datagram(target: &Endpoint) -> bool {
    matches!(target, Endpoint::Udp(_))
}

/// Whether a target is a path or has an address of this host.
fn is_local(target: &Endpoint) -> bool {
    let (Endpoint::Tcp(HostPort { host, port }) | Endpoint::Udp(HostPort { host, port })) = target
    else {
        return true;
    };
    (host.as_str(), *port)
        .to_socket_addrs()
        // Only an address of this host can be bound.
        .is_ok_and(|mut addresses| {
            addresses.any(|address| UdpSocket::bind((address.ip(), 0)).is_ok())
        })
}
