//! Threads, and how connections are distributed over them.

use super::{FLAG, VALUE, one};
use crate::config::Spin;
use crate::net::units;
use crate::settings::key::{Group, Key};
use crate::settings::parse;

pub(super) const KEYS: &[Key] = &[
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
];

fn format_spin(spin: Spin) -> String {
    match spin {
        Spin::Never => "0".to_owned(),
        Spin::For(duration) => units::format_duration(duration),
        Spin::Auto => "auto".to_owned(),
        Spin::Always => "always".to_owned(),
    }
}
