//! The table of settings, by groups.

use std::fmt::Display;

use super::key::{Audience, Change, Group, Key, Kind};
use crate::net::units;
use crate::service::Service;

mod limits;
mod process;
mod services;
mod sockets;
mod tls;
mod workers;

/// The common fields of settings with one value.
const VALUE: Key = Key {
    name: "",
    value: "",
    kind: Kind::Value,
    group: Group::Services,
    help: "",
    default: "",
    change: Change::Restart,
    audience: Audience::Everybody,
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

/// Every group, in the order of the documentation.
const GROUPS: [&[Key]; 6] = [
    services::KEYS,
    workers::KEYS,
    sockets::KEYS,
    limits::KEYS,
    tls::KEYS,
    process::KEYS,
];

/// Every setting, in the order of the documentation.
pub const KEYS: &[Key] = &{
    const COUNT: usize = {
        let mut count = 0;
        let mut group = 0;
        while group < GROUPS.len() {
            count += GROUPS[group].len();
            group += 1;
        }
        count
    };
    // Iterators can't be used in constants.
    let mut keys = [VALUE; COUNT];
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut index = 0;
        while index < GROUPS[group].len() {
            keys[count] = GROUPS[group][index];
            (count, index) = (count + 1, index + 1);
        }
        group += 1;
    }
    keys
};

/// Whether the values of a key are endpoints of a service.
pub(super) fn is_of_endpoints(name: &str) -> bool {
    Service::ALL.iter().any(|service| service.name() == name)
}

/// The key of this name.
pub(super) fn named(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
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
