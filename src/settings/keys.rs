//! The table of settings.

use std::fmt::Display;

use super::key::{Change, Group, Key, Kind};
use super::parse;
use super::values::Settings;
use crate::config::Spin;
use crate::net::cidr::Cidr;
use crate::net::endpoint::{Endpoint, HostPort};
use crate::net::units;
use crate::service::Service;

/// The common fields of settings with one value.
const VALUE: Key = Key {
    name: "",
    value: "",
    kind: Kind::Value,
    group: Group::Services,
    help: "",
    default: "",
    change: Change::Restart,
    apply: |_, _| Ok(()),
    show: |_| Vec::new(),
    // One value replaces another, so there is nothing to clear.
    clear: |_| {},
};

/// The common fields of lists; each has its own `clear`.
const LIST: Key = Key {
    kind: Kind::List,
    ..VALUE
};

/// The common fields of flags.
const FLAG: Key = Key {
    value: "BOOL",
    kind: Kind::Flag,
    default: "false",
    ..VALUE
};

/// Every setting, in the order of the documentation.
pub const KEYS: &[Key] = &[
    Key {
        name: "echo",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Echo here (RFC 862): tcp://HOST:PORT, udp://HOST:PORT or unix:PATH, an IPv6 host in \
               brackets; port 0 takes a free one. Endpoints of echo, discard and chargen belong \
               together: a source that gives any of them replaces all that weaker sources gave.",
        default: "tcp://127.0.0.1:7777 if there is no endpoint at all",
        apply: |s, text| serve(s, Service::Echo, text),
        show: |s| served(s, Service::Echo),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "discard",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Discard input here (RFC 863), endpoints as for echo.",
        default: "none",
        apply: |s, text| serve(s, Service::Discard, text),
        show: |s| served(s, Service::Discard),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "chargen",
        value: "ENDPOINT",
        group: Group::Services,
        help: "Send characters without end here (RFC 864), endpoints as for echo but no unix:PATH; \
               over UDP only with udp-chargen.",
        default: "none",
        apply: |s, text| serve(s, Service::Chargen, text),
        show: |s| served(s, Service::Chargen),
        clear: clear_services,
        ..LIST
    },
    Key {
        name: "udp-chargen",
        group: Group::Services,
        help: "Allow chargen over UDP. An answer is never larger than 512 bytes or than its \
               request.",
        apply: |s, text| parse::boolean(text).map(|v| s.config.udp_chargen = v),
        show: |s| one(s.config.udp_chargen),
        ..FLAG
    },
    Key {
        name: "unix-mode",
        value: "MODE",
        group: Group::Services,
        help: "Permissions of the files of Unix sockets, octal, such as 660.",
        default: "the umask decides",
        apply: |s, text| parse::mode(text).map(|v| s.config.unix_mode = Some(v)),
        show: |s| shown(s.config.unix_mode, |mode| format!("{mode:o}")),
        ..VALUE
    },
    Key {
        name: "workers",
        value: "N|auto",
        group: Group::Workers,
        help: "Worker threads, each with an event loop of its own; auto: one for each CPU that \
               this process may use.",
        default: "auto",
        apply: |s, text| parse::workers(text).map(|v| s.config.workers = v),
        show: |s| one(s.config.workers),
        ..VALUE
    },
    Key {
        name: "pin",
        group: Group::Workers,
        help: "Bind worker i to the i-th CPU that this process may use; balance incoming-cpu always \
               does.",
        apply: |s, text| parse::boolean(text).map(|v| s.config.pin = v),
        show: |s| one(s.config.pin),
        ..FLAG
    },
    Key {
        name: "spin",
        value: "DURATION|auto|always",
        group: Group::Workers,
        help: "Poll without sleeping for this long after the last event. 0: never; auto: up to 100us \
               while that pays; always: never sleep.",
        default: "0",
        apply: |s, text| parse::spin(text).map(|v| s.config.spin = v),
        show: |s| one(format_spin(s.config.spin)),
        ..VALUE
    },
    Key {
        name: "balance",
        value: "MODE",
        group: Group::Workers,
        help: "How connections are distributed over the workers: kernel, by a hash of the addresses; \
               least-connections, one acceptor that hands each to the worker with the fewest; or \
               incoming-cpu, the kernel (6.2 or newer) by the CPU that a connect or a datagram comes \
               in on, each worker pinned to its own. That wakes no thread on another CPU, if the \
               network card spreads packets over the CPUs (RSS, RPS) or clients are pinned on this \
               host; if all connects come in on one CPU, one worker gets all connections.",
        default: "kernel",
        apply: |s, text| parse::balance(text).map(|v| s.config.balance = v),
        show: |s| one(s.config.balance.name()),
        ..VALUE
    },
    Key {
        name: "backlog",
        value: "N",
        group: Group::Sockets,
        help: "Completed connections that the kernel may hold for each listener, up to \
               net.core.somaxconn.",
        default: "4096",
        apply: |s, text| parse::backlog(text).map(|v| s.config.backlog = v),
        show: |s| one(s.config.backlog),
        ..VALUE
    },
    Key {
        name: "recv-buffer",
        value: "SIZE",
        group: Group::Sockets,
        help: "Receive buffer of a connection, SO_RCVBUF.",
        default: "the kernel's automatic size",
        apply: |s, text| parse::buffer(text).map(|v| s.config.tuning.recv_buffer = Some(v.get())),
        show: |s| shown(s.config.tuning.recv_buffer, size),
        ..VALUE
    },
    Key {
        name: "send-buffer",
        value: "SIZE",
        group: Group::Sockets,
        help: "Send buffer of a connection, SO_SNDBUF.",
        default: "the kernel's automatic size",
        apply: |s, text| parse::buffer(text).map(|v| s.config.tuning.send_buffer = Some(v.get())),
        show: |s| shown(s.config.tuning.send_buffer, size),
        ..VALUE
    },
    Key {
        name: "read-buffer",
        value: "SIZE",
        group: Group::Sockets,
        help: "Read buffer of a worker: the most that one read takes, and the most memory for a peer \
               that does not read. Above 64KiB, streams that fill it are relayed without copying.",
        default: "256KiB",
        apply: |s, text| parse::buffer(text).map(|v| s.config.read_buffer = v),
        show: |s| one(size(s.config.read_buffer.get())),
        ..VALUE
    },
    Key {
        name: "congestion",
        value: "NAME",
        group: Group::Sockets,
        help: "Congestion control algorithm of TCP, such as cubic or bbr.",
        default: "the kernel's",
        apply: |s, text| parse::congestion(text).map(|v| s.config.tuning.congestion = Some(v)),
        show: |s| s.config.tuning.congestion.iter().cloned().collect(),
        ..VALUE
    },
    Key {
        name: "no-nodelay",
        group: Group::Sockets,
        help: "Let the kernel combine small segments (Nagle's algorithm).",
        apply: |s, text| parse::boolean(text).map(|v| s.config.tuning.nodelay = !v),
        show: |s| one(!s.config.tuning.nodelay),
        ..FLAG
    },
    Key {
        name: "user-timeout",
        value: "DURATION",
        group: Group::Sockets,
        help: "End a connection whose peer acknowledges nothing for this long, TCP_USER_TIMEOUT.",
        default: "the kernel's",
        apply: |s, text| {
            parse::or_off(text, parse::user_timeout).map(|v| s.config.tuning.user_timeout = v)
        },
        show: |s| shown(s.config.tuning.user_timeout, units::format_duration),
        ..VALUE
    },
    Key {
        name: "keepalive",
        value: "IDLE[,INTERVAL[,COUNT]]",
        group: Group::Sockets,
        help: "Probe a TCP connection after this silence and again at this interval, and end it \
               after so many unanswered probes, such as 60s,10s,5; user-timeout overrides the \
               count. The kernel's interval and count if they are left out.",
        default: "off",
        apply: |s, text| {
            parse::or_off(text, parse::keepalive).map(|v| s.config.tuning.keepalive = v)
        },
        show: |s| shown(s.config.tuning.keepalive, |keepalive| keepalive.to_string()),
        ..VALUE
    },
    Key {
        name: "max-connections",
        value: "N",
        group: Group::Limits,
        help: "Connections open at a time; more are accepted and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::limit).map(|v| s.config.limits.max_connections = v)
        },
        show: |s| shown(s.config.limits.max_connections, |n| n.to_string()),
        ..VALUE
    },
    Key {
        name: "max-connections-per-ip",
        value: "N",
        group: Group::Limits,
        help: "Connections open at a time from one IPv4 address or one IPv6 network (ipv6-prefix); \
               more are accepted and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::limit).map(|v| s.config.limits.max_connections_per_ip = v)
        },
        show: |s| shown(s.config.limits.max_connections_per_ip, |n| n.to_string()),
        ..VALUE
    },
    Key {
        name: "accept-rate",
        value: "RATE",
        group: Group::Limits,
        help: "Connections served anew per second; more are accepted and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| parse::or_off(text, parse::rate).map(|v| s.config.limits.accept_rate = v),
        show: |s| shown(s.config.limits.accept_rate, |rate| rate.to_string()),
        ..VALUE
    },
    Key {
        name: "accept-rate-per-ip",
        value: "RATE",
        group: Group::Limits,
        help: "Connections served anew per second from one IPv4 address or one IPv6 network \
               (ipv6-prefix); more are accepted and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::rate).map(|v| s.config.limits.accept_rate_per_ip = v)
        },
        show: |s| shown(s.config.limits.accept_rate_per_ip, |rate| rate.to_string()),
        ..VALUE
    },
    Key {
        name: "ipv6-prefix",
        value: "N",
        group: Group::Limits,
        help: "Bits of an IPv6 address that count as one client, for limits per address and per \
               source: 48 for a whole site, 128 for each address.",
        default: "64",
        change: Change::Reload,
        apply: |s, text| parse::ipv6_prefix(text).map(|v| s.config.limits.ipv6_prefix = v),
        show: |s| one(s.config.limits.ipv6_prefix),
        ..VALUE
    },
    Key {
        name: "allow",
        value: "CIDR",
        group: Group::Limits,
        help: "Serve addresses of this prefix, such as 10.0.0.0/8 or 2001:db8::/32; with \
               one or more prefixes, all other addresses are denied.",
        default: "all addresses that are not denied",
        change: Change::Reload,
        apply: |s, text| parse::from_str::<Cidr>(text).map(|v| s.config.limits.allow.push(v)),
        show: |s| all(&s.config.limits.allow),
        clear: |s| s.config.limits.allow.clear(),
        ..LIST
    },
    Key {
        name: "deny",
        value: "CIDR",
        group: Group::Limits,
        help: "Do not serve addresses of this prefix. The longest prefix that contains an \
               address decides, here and in allow; a prefix in both denies.",
        default: "none",
        change: Change::Reload,
        apply: |s, text| parse::from_str::<Cidr>(text).map(|v| s.config.limits.deny.push(v)),
        show: |s| all(&s.config.limits.deny),
        clear: |s| s.config.limits.deny.clear(),
        ..LIST
    },
    Key {
        name: "idle-timeout",
        value: "DURATION",
        group: Group::Limits,
        help: "Close a connection after this time without a byte in either direction.",
        default: "never",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::positive_duration).map(|v| s.config.limits.idle_timeout = v)
        },
        show: |s| shown(s.config.limits.idle_timeout, units::format_duration),
        ..VALUE
    },
    Key {
        name: "stall-timeout",
        value: "DURATION",
        group: Group::Limits,
        help: "Close a connection on which fewer than stall-bytes moved within this time, although \
               some moved or output waited for the peer.",
        default: "never",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::positive_duration).map(|v| s.config.limits.stall_timeout = v)
        },
        show: |s| shown(s.config.limits.stall_timeout, units::format_duration),
        ..VALUE
    },
    Key {
        name: "stall-bytes",
        value: "SIZE",
        group: Group::Limits,
        help: "Bytes, both directions together, that have to move within each stall-timeout.",
        default: "1KiB",
        change: Change::Reload,
        apply: |s, text| parse::stall_bytes(text).map(|v| s.config.limits.stall_bytes = v),
        show: |s| one(units::format_size(s.config.limits.stall_bytes)),
        ..VALUE
    },
    Key {
        name: "lifetime",
        value: "DURATION",
        group: Group::Limits,
        help: "Close a connection this long after it was accepted, busy or not.",
        default: "never",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::positive_duration).map(|v| s.config.limits.lifetime = v)
        },
        show: |s| shown(s.config.limits.lifetime, units::format_duration),
        ..VALUE
    },
    Key {
        name: "udp-rate",
        value: "RATE",
        group: Group::Udp,
        help: "Datagrams answered per second, over all sources; more are dropped.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| parse::or_off(text, parse::rate).map(|v| s.config.limits.udp_rate = v),
        show: |s| shown(s.config.limits.udp_rate, |rate| rate.to_string()),
        ..VALUE
    },
    Key {
        name: "udp-rate-per-source",
        value: "RATE",
        group: Group::Udp,
        help: "Datagrams answered per second from one IPv4 address or one IPv6 network \
               (ipv6-prefix); more are dropped. A benchmark sets it to off.",
        default: "1000",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::rate).map(|v| s.config.limits.udp_rate_per_source = v)
        },
        show: |s| match s.config.limits.udp_rate_per_source {
            Some(rate) => one(rate),
            None => one(parse::OFF),
        },
        ..VALUE
    },
    Key {
        name: "drain-delay",
        value: "DURATION",
        group: Group::LifeCycle,
        help: "Continue accepting for this long after SIGTERM or SIGINT, so that load balancers \
               notice.",
        default: "0",
        apply: |s, text| parse::duration(text).map(|v| s.config.drain_delay = v),
        show: |s| one(units::format_duration(s.config.drain_delay)),
        ..VALUE
    },
    Key {
        name: "drain-timeout",
        value: "DURATION",
        group: Group::LifeCycle,
        help: "Then let open connections finish for up to this long; a second signal stops at once.",
        default: "10s",
        apply: |s, text| parse::duration(text).map(|v| s.config.drain_timeout = v),
        show: |s| one(units::format_duration(s.config.drain_timeout)),
        ..VALUE
    },
    Key {
        name: "handover",
        value: "PATH",
        group: Group::LifeCycle,
        help: "Unix socket over which a new echod takes the listening sockets from the running one.",
        default: "none",
        apply: |s, text| parse::socket_path(text).map(|v| s.config.handover = Some(v)),
        show: |s| {
            shown(s.config.handover.as_ref(), |path| {
                path.display().to_string()
            })
        },
        ..VALUE
    },
    Key {
        name: "admin",
        value: "HOST:PORT",
        group: Group::Administration,
        help: "Serve /metrics, /livez, /readyz and /info over HTTP here. Every \
               client that can connect may read all of it.",
        default: "off",
        apply: |s, text| parse::admin(text).map(|v| s.config.admin = Some(v)),
        show: |s| shown(s.config.admin.as_ref(), HostPort::to_string),
        ..VALUE
    },
    Key {
        name: "log-format",
        value: "FORMAT",
        group: Group::Logging,
        help: "Format of log lines on stderr: text or json.",
        default: "text",
        apply: |s, text| parse::from_str(text).map(|v| s.log_format = v),
        show: |s| one(s.log_format),
        ..VALUE
    },
    Key {
        name: "log-level",
        value: "LEVEL",
        group: Group::Logging,
        help: "Log lines of this level and above: error, warn, info, debug (a line for each connection \
               opened, closed or refused) or trace (the same as debug at present).",
        default: "info",
        apply: |s, text| parse::from_str(text).map(|v| s.log_level = v),
        show: |s| one(s.log_level),
        ..VALUE
    },
];

/// The key of this name.
pub(super) fn named(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

fn serve(settings: &mut Settings, service: Service, text: &str) -> Result<(), String> {
    let endpoint = parse::from_str::<Endpoint>(text)?;
    settings.config.services.push((service, endpoint));
    Ok(())
}

fn served(settings: &Settings, service: Service) -> Vec<String> {
    let services = settings.config.services.iter();
    services
        .filter(|(of, _)| *of == service)
        .map(|(_, endpoint)| endpoint.to_string())
        .collect()
}

/// The endpoints of all services form one list, so that `--discard` on the command line also
/// replaces the `echo` endpoints of a file.
fn clear_services(settings: &mut Settings) {
    settings.config.services.clear();
}

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

fn shown<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> Vec<String> {
    value.map(format).into_iter().collect()
}

fn all<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

fn size(bytes: usize) -> String {
    units::format_size(bytes as u64)
}

fn format_spin(spin: Spin) -> String {
    match spin {
        Spin::Never => "0".to_owned(),
        Spin::For(duration) => units::format_duration(duration),
        Spin::Auto => "auto".to_owned(),
        Spin::Always => "always".to_owned(),
    }
}
