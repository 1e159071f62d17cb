//! The hosts of unions of shards. The difference of two of them is the servers' only if the clients were the
//! same.

use std::fmt;

use crate::result::{Host, MergedPart, RunResult};

/// Maximum of hosts named of each side.
const MAX_NAMED: usize = 8;

/// What makes unions of shards incomparable, named as the options of a plan are; nothing for results that
/// are none.
pub(super) fn differences(base: &RunResult, new: &RunResult) -> Vec<String> {
    let (one, other) = match (&base.shards, &new.shards) {
        (None, None) => return Vec::new(),
        (Some(one), Some(other)) => (one, other),
        (one, other) => {
            let processes = |size: Option<usize>| match size {
                Some(size) => format!("{size}"),
                None => "one process".to_owned(),
            };
            let sizes = [one, other].map(|side| side.as_ref().map(|shards| shards.size));
            let [one, other] = sizes.map(processes);
            return vec![format!("shards: {one} and {other}")];
        }
    };
    let mut differences = Vec::new();
    if one.size != other.size {
        differences.push(format!("shards: {} and {}", one.size, other.size));
    } else if one.missing != other.missing {
        differences.push(format!(
            "shards.missing: {:?} and {:?}",
            one.missing, other.missing
        ));
    } else {
        let (ours, theirs) = (Hosts::of(base), Hosts::of(new));
        if !ours.are_the_same(&theirs) {
            differences.push(format!("hosts: {ours} and {theirs}"));
        }
    }
    differences
}

/// The hosts of a union, one for each shard.
struct Hosts<'a>(Vec<Machine<'a>>);

/// A host, however the container on it is called.
#[derive(Clone, Copy, PartialEq)]
struct Machine<'a> {
    host: &'a Host,
    boot_id: Option<&'a str>,
}

impl<'a> Hosts<'a> {
    fn of(union: &'a RunResult) -> Self {
        let parts = union.merged.iter().flatten();
        Self(parts.map(Machine::of).collect())
    }

    /// Whether both have the same hosts, whatever rank each had.
    fn are_the_same(&self, other: &Self) -> bool {
        let mut left = other.0.clone();
        self.0.iter().all(|machine| {
            let found = left.iter().position(|other| machine.is(other));
            found.map(|index| left.swap_remove(index)).is_some()
        }) && left.is_empty()
    }
}

impl<'a> Machine<'a> {
    fn of(part: &'a MergedPart) -> Self {
        let clock = part.shard.as_ref().map(|shard| &shard.clock);
        Self {
            host: &part.host,
            boot_id: clock.and_then(|clock| clock.boot_id.as_deref()),
        }
    }

    fn is(&self, other: &Self) -> bool {
        (self.boot_id.is_some()
            && self.boot_id == other.boot_id
            && self.host.cpus == other.host.cpus)
            || self.host == other.host
    }
}

impl fmt::Display for Hosts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&str> = self
            .0
            .iter()
            .map(|machine| {
                machine
                    .host
                    .name
                    .as_deref()
                    .unwrap_or("a host without a name")
            })
            .collect();
        names.sort_unstable();
        names.dedup();
        let more = names.len().saturating_sub(MAX_NAMED);
        names.truncate(MAX_NAMED);
        f.write_str(&names.join(", "))?;
        match more {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}
