//! Start-up warnings: settings that exceed the system's limits or are dangerous on a network.

use std::net::IpAddr;

use tracing::warn;

use super::admin_port;
use crate::admin::Admin;
use crate::config::{Config, Limits};
use crate::net::descriptors;
use crate::net::endpoint::{Endpoint, HostPort};
use crate::reactor::MAX_REFUSED_LINGERING;
use crate::service::Service;
use crate::settings::{Audience, Resolved};

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

/// The limits without which a few other hosts can occupy the server.
const NEEDED_OFF_LOOPBACK: [&str; 2] = ["max-connections", "idle-timeout"];

/// The limits that the settings neither set nor switch off.
pub(super) fn missing_limits(settings: &Resolved) -> Vec<&'static str> {
    let needed = NEEDED_OFF_LOOPBACK.into_iter();
    needed.filter(|name| !settings.is_given(name)).collect()
}

/// Warns if other hosts may hold any number of connections for any time. `missing` are the
/// [`missing_limits`], `endpoints` those as bound.
pub(super) fn warn_of_missing_limits(missing: &[&str], endpoints: &[(Service, Endpoint)]) {
    if missing.is_empty() {
        return;
    }
    let is_open = |(_, endpoint): &&(Service, Endpoint)| match endpoint {
        Endpoint::Tcp(address) | Endpoint::Tls(address) => !is_loopback(address),
        Endpoint::Udp(_) | Endpoint::Unix(_) => false,
    };
    if let Some((service, endpoint)) = endpoints.iter().find(is_open) {
        let options = missing.join(" and --");
        warn!(
            "{service} on {endpoint} is open to other hosts; set --{options}, or to off if no limit \
             is meant"
        );
    }
}

fn is_loopback(address: &HostPort) -> bool {
    let ip = address.host.parse::<IpAddr>();
    ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// The admin port asks for no password.
pub(super) fn warn_of_admin(admin: Option<&Admin>) {
    if let Some(admin) = admin
        && admin_port::audience(admin.address()) == Audience::Everybody
    {
        warn!(
            "the admin port on {} tells metrics and the configuration to everybody who reaches it; \
             keep it on a private network, or on loopback or unix:PATH",
            admin.address().url()
        );
    }
}

/// A datagram with a forged source makes the server send to a host that sent no request.
pub(super) fn warn_of_reflection(limits: &Limits, endpoints: &[(Service, Endpoint)]) {
    if limits.udp_rate.is_some() || limits.udp_rate_per_source.is_some() {
        return;
    }
    for (service, endpoint) in endpoints {
        if let Endpoint::Udp(address) = endpoint
            && *service != Service::Discard
            && !is_loopback(address)
        {
            warn!(
                "{service} on {endpoint} answers forged sources too, at an unlimited rate; set --udp-rate-per-source and --udp-rate"
            );
        }
    }
}
