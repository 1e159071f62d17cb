//! The server's counters, which each shard of a run reads, and which count once.

use crate::analysis::verdict;
use crate::plan::Direction;
use crate::result::{Reason, RunResult, ServerResult};

/// Adds what a shard read. All read the counters of the same server: each before the common start, and
/// at its own end, so the largest are those of the whole run.
pub(super) fn add(sum: &mut Option<ServerResult>, next: Option<&ServerResult>) {
    let Some(next) = next else { return };
    let Some(sum) = sum else {
        *sum = Some(next.clone());
        return;
    };
    let mut accounts = sum.accounts;
    let other = next.accounts;
    accounts.client_sent_bytes += other.client_sent_bytes;
    accounts.client_received_bytes += other.client_received_bytes;
    accounts.client_opened += other.client_opened;
    for (count, other) in [
        (
            &mut accounts.server_received_bytes,
            other.server_received_bytes,
        ),
        (&mut accounts.server_sent_bytes, other.server_sent_bytes),
        (&mut accounts.server_accepted, other.server_accepted),
        (&mut accounts.server_refused, other.server_refused),
        (
            &mut accounts.server_over_source_rate,
            other.server_over_source_rate,
        ),
        (&mut accounts.server_over_rate, other.server_over_rate),
    ] {
        *count = other.max(*count);
    }
    accounts.agree &= other.agree;
    let messages = |server: &ServerResult| server.window.map_or(0.0, |window| window.messages);
    if messages(next) > messages(sum) {
        *sum = next.clone();
    }
    sum.accounts = accounts;
}

/// Judges whether the server counted what all shards together did, and returns the objection if not.
pub(super) fn judge(server: &mut ServerResult, union: &RunResult) -> Option<Reason> {
    let (messages, connections) = (&union.messages, &union.connections);
    let may_lose = union.interrupted
        || union.plan.is_datagram()
        || messages.lost + messages.timed_out + messages.unfinished > 0
        || connections.reset + connections.closed_by_peer > 0;
    let fits = |sent: u64, received: u64| received == sent || (may_lose && received < sent);
    let accounts = &mut server.accounts;
    let is_received = fits(accounts.client_sent_bytes, accounts.server_received_bytes);
    let is_returned = fits(accounts.server_sent_bytes, accounts.client_received_bytes);
    accounts.agree = match union.plan.direction() {
        Some(Direction::Up) => is_received,
        // The stream is cut off within a block.
        Some(Direction::Down) => accounts.client_received_bytes <= accounts.server_sent_bytes,
        None | Some(Direction::Echo) => is_received && is_returned,
    };
    (!accounts.agree).then(|| verdict::disagreement(accounts))
}
