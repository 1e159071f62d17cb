//! What is measured.

use std::net::{SocketAddr, UdpSocket};

use clap::Args;
use echomark::net::endpoint::Endpoint;

use super::parse;

/// What is measured.
#[derive(Args, Clone, Debug)]
pub(crate) struct TargetArgs {
    /// Servers, tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:PATH; connections are spread
    /// over them
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

pub(super) fn has_tls(target: &Endpoint) -> bool {
    matches!(target, Endpoint::Tls(_))
}

pub(super) fn is_datagram(target: &Endpoint) -> bool {
    matches!(target, Endpoint::Udp(_))
}

/// Whether a target is a path or has an address of this host.
fn is_local(target: &Endpoint) -> bool {
    if matches!(target, Endpoint::Unix(_)) {
        return true;
    }
    // Only an address of this host can be bound.
    let is_bindable = |address: &SocketAddr| UdpSocket::bind((address.ip(), 0)).is_ok();
    target
        .resolve()
        .is_ok_and(|addresses| addresses.iter().any(is_bindable))
}
