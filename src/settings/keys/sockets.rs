//! Socket options and buffers.

use super::{FLAG, VALUE, one, shown, size};
use crate::net::units;
use crate::settings::key::{Group, Key};
use crate::settings::parse;

pub(super) const KEYS: &[Key] = &[
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
        name: "backlog-memory",
        value: "SIZE|auto|off",
        group: Group::Sockets,
        help: "Memory, over all workers, for input whose echo the peer does not take. Beyond it such \
               input stays in the kernel, and an echo costs a system call more. auto: a quarter of \
               what this process may use, at most 1GiB; off: no limit but one read-buffer for each \
               peer.",
        default: "auto",
        apply: |s, text| parse::backlog_memory(text).map(|v| s.config.backlog_memory = v),
        show: |s| {
            one(s
                .config
                .backlog_memory
                .map_or_else(|| "off".to_owned(), units::format_size))
        },
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
];
