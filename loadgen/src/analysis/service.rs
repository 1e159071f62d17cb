//! Whether the target served the connections of a run.

use std::collections::BTreeMap;
use std::io;

use crate::analysis::aggregate::Aggregate;
use crate::engine::connection::{ConnectError, Unserved};
use crate::engine::task::ConnectErrors;
use crate::plan::{Direction, Plan};

/// What the threads report of the target's service.
#[derive(Clone, Debug, Default)]
pub(crate) struct Service {
    /// Connections of the plan,
    pub(crate) connections: u64,
    /// those that were not served, or are no more,
    pub(crate) unserved: u64,
    /// and the commonest cause.
    pub(crate) cause: String,
    /// The commonest error of failed connects.
    pub(crate) connect_error: Option<String>,
    /// What came instead of an echo; `None` if the target echoes.
    pub(crate) instead: Option<Instead>,
}

/// What a target that does not echo did.
#[derive(Clone, Debug)]
pub(crate) struct Instead {
    /// Bytes sent in the whole run, the warm-up included.
    pub(crate) bytes_out: u64,
    /// The first bytes that came; empty if nothing came.
    pub(crate) bytes: Vec<u8>,
}

impl Service {
    pub(crate) fn of(aggregate: &Aggregate, plan: &Plan) -> Self {
        let mut causes: BTreeMap<Unserved, u64> = BTreeMap::new();
        for (_, flow) in &aggregate.flows {
            if let Some(cause) = flow.unserved {
                *causes.entry(cause).or_default() += 1;
            }
        }
        let mut errors = ConnectErrors::default();
        for account in &aggregate.accounts {
            errors.merge(account.connect_errors);
        }
        let commonest = causes.iter().max_by_key(|&(_, &count)| count);
        Self {
            connections: aggregate.flows.len() as u64,
            unserved: causes.values().sum(),
            cause: commonest.map_or_else(String::new, |(&cause, _)| words(cause)),
            connect_error: errors.commonest().map(connect_words),
            instead: instead(aggregate, plan),
        }
    }
}

fn instead(aggregate: &Aggregate, plan: &Plan) -> Option<Instead> {
    let accounts = &aggregate.accounts;
    let bytes_out = accounts.iter().map(|account| account.bytes_out).sum();
    let has_asked = bytes_out > 0 || plan.direction() == Some(Direction::Down);
    if !has_asked || accounts.iter().any(|account| account.has_echo) {
        return None;
    }
    let foreign = accounts.iter().find_map(|account| account.foreign);
    Some(Instead {
        bytes_out,
        bytes: foreign.map_or_else(Vec::new, |foreign| foreign.bytes().to_vec()),
    })
}

fn words(cause: Unserved) -> String {
    match cause {
        Unserved::NotConnected(error) => connect_words(error),
        Unserved::Refused(refusal) => refusal.to_string(),
        Unserved::Closed => "closed by the server before it answered".to_owned(),
        Unserved::Reset => "reset before an answer".to_owned(),
        Unserved::Foreign => "more came back than was sent".to_owned(),
        Unserved::Silent => "no answer".to_owned(),
    }
}

fn connect_words(error: ConnectError) -> String {
    match error {
        ConnectError::System(errno) => error_text(errno),
        ConnectError::Tls(refusal) => refusal.to_string(),
    }
}

/// The text of an error, without its number.
fn error_text(errno: i32) -> String {
    let text = io::Error::from_raw_os_error(errno).to_string();
    match text.split_once(" (os error") {
        Some((text, _)) => text.to_owned(),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use echomark::tls::Refusal;

    #[test]
    fn causes_are_named() {
        let refused = Unserved::NotConnected(ConnectError::System(111));
        assert_eq!(words(refused), "Connection refused");
        let tls = Unserved::NotConnected(ConnectError::Tls(Refusal::NotTls));
        assert_eq!(words(tls), "it does not speak TLS");
        assert_eq!(words(Unserved::Silent), "no answer");
    }

    #[test]
    fn the_commonest_connect_error_wins() {
        let error = |errno| io::Error::from_raw_os_error(errno);
        let mut one = ConnectErrors::default();
        for errno in [110, 111, 111, 110, 111] {
            one.add(&error(errno));
        }
        assert_eq!(one.commonest(), Some(ConnectError::System(111)));
        let mut other = ConnectErrors::default();
        for _ in 0..3 {
            other.add(&error(99));
        }
        one.merge(other);
        assert_eq!(one.commonest(), Some(ConnectError::System(99)));
    }
}
