//! Access lists, maximum connections, rates and timeouts.

use super::{LIST, VALUE, all, one, shown};
use crate::net::cidr::Cidr;
use crate::net::units;
use crate::settings::key::{Audience, Change, Group, Key};
use crate::settings::parse;

pub(super) const KEYS: &[Key] = &[
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
        audience: Audience::ThisMachine,
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
        audience: Audience::ThisMachine,
        apply: |s, text| parse::from_str::<Cidr>(text).map(|v| s.config.limits.deny.push(v)),
        show: |s| all(&s.config.limits.deny),
        clear: |s| s.config.limits.deny.clear(),
        ..LIST
    },
    Key {
        name: "proxy-protocol",
        value: "off|accept|require",
        group: Group::Proxy,
        help: "Whether connections over TCP and Unix sockets begin with a PROXY header, version 1 or 2, \
               whose client counts for limits, access lists and whoami. accept: those from proxy-from \
               may; require: all do, others are closed.",
        default: "off",
        apply: |s, text| parse::proxy_protocol(text).map(|v| s.config.proxy_protocol = v),
        show: |s| one(s.config.proxy_protocol.name()),
        ..VALUE
    },
    Key {
        name: "proxy-from",
        value: "CIDR",
        group: Group::Proxy,
        help: "Believe PROXY headers from addresses of this prefix; every client of a Unix socket is \
               believed.",
        default: "none",
        change: Change::Reload,
        audience: Audience::ThisMachine,
        apply: |s, text| parse::from_str::<Cidr>(text).map(|v| s.config.limits.proxy_from.push(v)),
        show: |s| all(&s.config.limits.proxy_from),
        clear: |s| s.config.limits.proxy_from.clear(),
        ..LIST
    },
    Key {
        name: "handshake-timeout",
        value: "DURATION",
        group: Group::Proxy,
        help: "Close a connection whose PROXY header or TLS handshake is not complete after this \
               time; with proxy-protocol accept, serve one without a header.",
        default: "10s",
        change: Change::Reload,
        apply: |s, text| {
            parse::or_off(text, parse::positive_duration)
                .map(|v| s.config.limits.handshake_timeout = v)
        },
        show: |s| match s.config.limits.handshake_timeout {
            Some(timeout) => one(units::format_duration(timeout)),
            None => one(parse::OFF),
        },
        ..VALUE
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
];
