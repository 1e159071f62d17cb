//! The open connections of the admin port: a bounded table in which a new one always finds room.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::time::Instant;

use slab::Slab;

use super::connection::{Connection, Progress};
use crate::net::cidr::SourcePrefix;

/// Connections open at a time.
pub(super) const MAX_CONNECTIONS: usize = 64;

/// The key of the connection that is given up for a new one: one that has its response; else, of the
/// source with the most connections, one that has come least far; of these, the oldest. So a source
/// can't push out another by the number of its connections.
pub(super) fn to_give_up(connections: &Slab<Connection>) -> Option<usize> {
    let standings = connections.iter().map(|(key, connection)| Standing {
        key,
        source: connection.source,
        progress: connection.progress(),
        accepted_at: connection.accepted_at,
    });
    least(&standings.collect::<Vec<_>>())
}

/// The part of a connection's state that decides.
#[derive(Clone, Copy, Debug)]
struct Standing {
    key: usize,
    source: Option<SourcePrefix>,
    progress: Progress,
    accepted_at: Instant,
}

fn least(standings: &[Standing]) -> Option<usize> {
    let mut shares: HashMap<_, usize> = HashMap::with_capacity(standings.len());
    for standing in standings {
        *shares.entry(standing.source).or_default() += 1;
    }
    let rank = |it: &&Standing| {
        (
            it.progress != Progress::Answered,
            Reverse(shares[&it.source]),
            it.progress,
            it.accepted_at,
        )
    };
    standings.iter().min_by_key(rank).map(|it| it.key)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::Duration;

    use super::*;

    /// The last byte of the source's address, its progress and its age.
    fn given_up(connections: &[(u8, Progress, u64)]) -> Option<usize> {
        let now = Instant::now() + Duration::from_secs(60);
        let standings = connections
            .iter()
            .enumerate()
            .map(|(key, &(source, progress, age_s))| Standing {
                key,
                source: Some(SourcePrefix::new(
                    Ipv4Addr::new(10, 0, 0, source).into(),
                    64,
                )),
                progress,
                accepted_at: now - Duration::from_secs(age_s),
            });
        least(&standings.collect::<Vec<_>>())
    }

    #[test]
    fn a_flood_of_one_source_costs_only_that_source() {
        use Progress::{Answering, Asking, Silent};
        let mut connections = vec![(1, Silent, 50), (2, Asking, 40), (3, Answering, 30)];
        connections.extend((0..60).map(|age_s| (9, Answering, age_s / 2)));
        let given_up = given_up(&connections).unwrap();
        assert_eq!(connections[given_up].0, 9);
    }

    #[test]
    fn of_one_source_the_least_far_and_then_the_oldest_goes() {
        use Progress::{Answered, Answering, Asking, Silent};
        let mut connections = vec![
            (1, Answering, 9),
            (1, Asking, 8),
            (1, Silent, 3),
            (1, Silent, 4),
        ];
        assert_eq!(given_up(&connections), Some(3));
        connections.truncate(2);
        assert_eq!(given_up(&connections), Some(1));
        connections.push((2, Answered, 1));
        assert_eq!(given_up(&connections), Some(2));
        assert_eq!(given_up(&[]), None);
    }
}
