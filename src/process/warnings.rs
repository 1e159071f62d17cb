//! Start-up warnings: settings that exceed the system's limits or are dangerous on a network.

use std::net::IpAddr;

use tracing::warn;

use crate::config::Config;
use crate::net::descriptors;
use crate::net::endpoint::Endpoint;
use crate::reactor::MAX_REFUSED_LINGERING;
use crate::service::Service;

/// Descriptors beyond those of workers and connections: the admin port (64 at most), logs, signals.
const RESERVED_DESCRIPTORS: u64 = 96;

/// Raises the limit on descriptors, and warns if the configuration exceeds it.
pub(super) fn warn_of_limits(config: &Config) {
    let limit = match descriptors::raise_descriptor_limit() {
        Ok(limit) => limit,
        Err(error) => {
            warn!(%error, "cannot raise the limit on open descriptors");
            return;
        }
    };
    // Each listener twice, because one descriptor is kept for a successor; the epoll instance, its
    // waker, its duplicate for UDP; the two ends of a pipe.
    let sockets = 2 * config.services.len() as u64 + 3;
    let per_worker = sockets + 2 + MAX_REFUSED_LINGERING as u64;
    let own = RESERVED_DESCRIPTORS + config.workers.get() as u64 * per_worker;
    let room = limit.saturating_sub(own);
    if let Some(max) = config.limits.max_connections
        && max.get() as u64 > room
    {
        warn!(
            "--max-connections {max} exceeds the limit of {limit} open descriptors, which \
             leaves room for {room}; raise it (LimitNOFILE= in systemd, ulimit -n in a shell)"
        );
    }
}

/// A datagram with a forged source makes the server send to a host that sent no request.
pub(super) fn warn_of_reflection(config: &Config) {
    let limits = &config.limits;
    if limits.udp_rate.is_some() || limits.udp_rate_per_source.is_some() {
        return;
    }
    for (service, endpoint) in &config.services {
        if let Endpoint::Udp(address) = endpoint
            && *service != Service::Discard
            && !address
                .host
                .parse::<IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
        {
            warn!(
                "{service} on {endpoint} answers forged sources too, at an unlimited rate; set --udp-rate-per-source and --udp-rate"
            );
        }
    }
}
