//! Reads the server's counters during a run, and puts them beside the client's.

use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use echomark::net::clock::monotonic_ns;

use crate::admin::{self, AdminUrl, Counters, Info};
use crate::analysis::statistics::fairness::jain_index;
use crate::error::RunError;
use crate::plan::{Direction, Plan};
use crate::result::{
    Bytes, Messages, RunResult, ServerAccounts, ServerResult, ServerWindow, ServerWorker,
};

/// How long the server may take to count bytes still in transit when the client ends,
const PATIENCE: Duration = Duration::from_secs(1);
/// and how often its counters are read meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

/// The server's counters at the moments that matter: before the run, at both ends of the window,
/// after it.
pub(crate) struct ServerProbe {
    admin: AdminUrl,
    before: Info,
    /// Fetches the counters at the start of the window, on a separate thread.
    at_start: Option<(Sender<u64>, JoinHandle<Option<Moment>>)>,
    at_end: Option<Moment>,
}

struct Moment {
    at: Instant,
    info: Info,
}

/// The client's counts of a run.
pub(crate) struct ClientSide<'a> {
    pub(crate) plan: &'a Plan,
    /// Payload bytes of all connections, inside and outside the window.
    pub(crate) bytes: Bytes,
    /// Payload bytes of the background streams, which may use another server.
    pub(crate) background_bytes: Bytes,
    pub(crate) opened: u64,
    pub(crate) messages: &'a Messages,
    /// The bytes of these messages.
    pub(crate) message_bytes: &'a Bytes,
    /// Whether connections broke or the run ended early. Then only one side may have counted the
    /// bytes in transit.
    pub(crate) has_loose_ends: bool,
}

/// The report from a server's answers before a run, at both ends of its window and after it, with a
/// client's counts. Only for the fuzz targets, which can't make runs.
#[doc(hidden)]
pub fn beside(client: &RunResult, admin: &AdminUrl, answers: [&Info; 4]) -> ServerResult {
    let [before, start, end, after] = answers;
    let client_side = ClientSide {
        plan: &client.plan,
        bytes: client.bytes.clone(),
        background_bytes: Bytes::default(),
        opened: client.connections.opened,
        messages: &client.messages,
        message_bytes: &client.bytes,
        has_loose_ends: false,
    };
    let at = Instant::now();
    let [start, end] = [(at, start), (at + PATIENCE, end)].map(|(at, info)| Moment {
        at,
        info: info.clone(),
    });
    result(
        admin,
        [before, after],
        Some((&start, &end)),
        accounts(before, after, &client_side),
        &client_side,
    )
}

impl ServerProbe {
    /// Reads the counters for the first time, before the first connect.
    pub(crate) fn start(admin: &AdminUrl) -> Result<Self, RunError> {
        let before = fetch(admin)?;
        let (start, starts) = mpsc::channel();
        let url = admin.clone();
        let thread = thread::Builder::new()
            .name("loadgen-admin".to_owned())
            .spawn(move || {
                let start: u64 = starts.recv().ok()?;
                let wait = Duration::from_nanos(start.saturating_sub(monotonic_ns()));
                // If the run ends before its window, the sender is gone.
                match starts.recv_timeout(wait) {
                    Err(RecvTimeoutError::Timeout) => Moment::now(&url).ok(),
                    _ => None,
                }
            })
            .map_err(RunError::System)?;
        Ok(Self {
            admin: admin.clone(),
            before,
            at_start: Some((start, thread)),
            at_end: None,
        })
    }

    /// The window begins at this time.
    pub(crate) fn window(&self, start: u64) {
        if let Some((starts, _)) = &self.at_start {
            // The thread waits for it.
            let _ = starts.send(start);
        }
    }

    /// The end of the wait for echoes. If the server does not answer now, it is asked again at the
    /// end.
    pub(crate) fn end(&mut self) {
        let at = Instant::now();
        self.at_end = fetch(&self.admin).ok().map(|info| Moment { at, info });
    }

    /// Called after all connections are closed. Reads the counters until the accounts agree or the
    /// time is up.
    ///
    /// # Errors
    /// The server ended or was replaced during the run, so its side is unknown. The client's side
    /// is still known.
    pub(crate) fn finish(mut self, client: &ClientSide<'_>) -> Result<ServerResult, RunError> {
        let at_start = self.at_start.take().and_then(|(starts, thread)| {
            drop(starts);
            thread.join().ok().flatten()
        });
        let deadline = Instant::now() + PATIENCE;
        loop {
            let after = fetch(&self.admin)?;
            if after.pid != self.before.pid || after.uptime_s < self.before.uptime_s {
                return Err(RunError::Admin {
                    admin: self.admin.clone(),
                    source: std::io::Error::other("the server was started anew during the run"),
                });
            }
            let accounts = accounts(&self.before, &after, client);
            if accounts.agree || Instant::now() >= deadline {
                let window = at_start
                    .as_ref()
                    .zip(self.at_end.as_ref())
                    // On a host without a spare CPU, the first answer may come that late.
                    .filter(|(start, end)| has_traffic(&start.info, &end.info));
                return Ok(result(
                    &self.admin,
                    [&self.before, &after],
                    window,
                    accounts,
                    client,
                ));
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Moment {
    fn now(admin: &AdminUrl) -> Result<Self, RunError> {
        Ok(Self {
            info: fetch(admin)?,
            at: Instant::now(),
        })
    }
}

fn fetch(admin: &AdminUrl) -> Result<Info, RunError> {
    admin::fetch(admin).map_err(|source| RunError::Admin {
        admin: admin.clone(),
        source,
    })
}

/// The accounts of both sides. Bytes that were sent but lost are no disagreement; bytes that
/// arrived without being sent are.
fn accounts(before: &Info, after: &Info, client: &ClientSide<'_>) -> ServerAccounts {
    let difference = |counter: fn(&Counters) -> u64| grown(before, after, counter);
    let (server_received, server_sent) = (
        difference(|counters| counters.received_bytes_total),
        difference(|counters| counters.sent_bytes_total),
    );
    let may_lose = client.has_loose_ends || client.plan.is_datagram();
    let fits = |sent: u64, received: u64, may_lose: bool| {
        received == sent || (may_lose && received < sent)
    };
    // Of other shards of the run: a union knows whether all of them agree.
    let has_others = client
        .plan
        .shard
        .as_ref()
        .is_some_and(|it| it.size.get() > 1);
    let has_arrived =
        |sent: u64| fits(sent, server_received, may_lose) || (has_others && server_received > sent);
    let agrees = |bytes: &Bytes| match client.plan.direction() {
        // A discard server returns only acknowledgements.
        Some(Direction::Up) => has_arrived(bytes.sent),
        // The stream is cut off within a block.
        Some(Direction::Down) => fits(server_sent, bytes.received, true),
        None | Some(Direction::Echo) => {
            has_arrived(bytes.sent) && fits(server_sent, bytes.received, may_lose || has_others)
        }
    };
    let mut with_background = client.bytes.clone();
    with_background += client.background_bytes.clone();
    let agree = agrees(&client.bytes) || agrees(&with_background);
    let client_bytes = if client
        .plan
        .background
        .as_ref()
        .is_some_and(|b| b.targets.is_empty())
    {
        with_background
    } else {
        client.bytes.clone()
    };
    ServerAccounts {
        client_sent_bytes: client_bytes.sent,
        client_received_bytes: client_bytes.received,
        server_received_bytes: server_received,
        server_sent_bytes: server_sent,
        client_opened: client.opened,
        server_accepted: difference(|counters| counters.connections_accepted_total),
        server_refused: difference(|counters| sum(&counters.connections_refused_total)),
        server_over_source_rate: difference(|counters| dropped(counters, "rate_per_source")),
        server_over_rate: difference(|counters| dropped(counters, "rate")),
        agree,
    }
}

fn result(
    admin: &AdminUrl,
    [before, after]: [&Info; 2],
    window: Option<(&Moment, &Moment)>,
    accounts: ServerAccounts,
    client: &ClientSide<'_>,
) -> ServerResult {
    let per_worker = window.map_or_else(Vec::new, |(start, end)| {
        let workers = start.info.per_worker.iter().zip(&end.info.per_worker);
        let whole = before.per_worker.iter().zip(&after.per_worker);
        workers
            .zip(whole)
            .map(|((start, end), (before, after))| ServerWorker {
                connections_accepted: after
                    .connections_accepted
                    .saturating_sub(before.connections_accepted),
                loop_iterations: end.loop_iterations.saturating_sub(start.loop_iterations),
                loop_events: end.loop_events.saturating_sub(start.loop_events),
                cpu_s: (end.cpu_seconds - start.cpu_seconds).max(0.0),
            })
            .collect()
    });
    let mut result = ServerResult {
        admin: admin.clone(),
        version: after.version.clone(),
        balance: after.balance.clone(),
        workers: after.per_worker.len(),
        window: window.map(|(start, end)| in_window(start, end, &per_worker, client)),
        cpu_ns_per_message: None,
        cpu_ratio: None,
        events_per_turn: None,
        balance_jain: None,
        per_worker,
        accounts,
    };
    result.derive();
    result
}

fn in_window(
    start: &Moment,
    end: &Moment,
    per_worker: &[ServerWorker],
    client: &ClientSide<'_>,
) -> ServerWindow {
    let difference = |counter: fn(&Counters) -> u64| grown(&start.info, &end.info, counter);
    let full_batches = |info: &Info| -> u64 {
        let workers = info.per_worker.iter();
        total(workers.map(|worker| worker.loop_full_batches))
    };
    let received_bytes = difference(|counters| counters.received_bytes_total);
    let sent_bytes = difference(|counters| counters.sent_bytes_total);
    let (messages, bytes) = (client.messages, client.message_bytes);
    let number = |server: u64, bytes: u64, messages: u64| {
        server as f64 * messages as f64 / bytes.max(1) as f64
    };
    ServerWindow {
        duration_s: end.at.saturating_duration_since(start.at).as_secs_f64(),
        cpu_s: per_worker.iter().map(|worker| worker.cpu_s).sum(),
        messages: if client.plan.is_datagram() {
            difference(|counters| counters.udp_received_datagrams_total) as f64
        } else if client.plan.direction() == Some(Direction::Down) {
            number(sent_bytes, bytes.received, messages.received)
        } else {
            number(received_bytes, bytes.sent, messages.sent)
        },
        received_bytes,
        sent_bytes,
        loop_iterations: total(per_worker.iter().map(|worker| worker.loop_iterations)),
        loop_events: total(per_worker.iter().map(|worker| worker.loop_events)),
        loop_full_batches: full_batches(&end.info).saturating_sub(full_batches(&start.info)),
        short_writes: difference(|counters| counters.short_writes_total),
        backlog_bytes: end.info.counters.backlog_bytes,
        connections_accepted: difference(|counters| counters.connections_accepted_total),
        connections_refused: difference(|counters| sum(&counters.connections_refused_total)),
        accept_errors: difference(|counters| sum(&counters.accept_errors_total)),
        datagrams_dropped: difference(|counters| sum(&counters.udp_dropped_datagrams_total)),
        datagrams_dropped_by_kernel: difference(|counters| {
            sum(&counters.udp_kernel_dropped_datagrams_total)
        }),
    }
}

/// Whether the server sent or received anything between two readings.
fn has_traffic(before: &Info, after: &Info) -> bool {
    grown(before, after, |counters| {
        total([counters.received_bytes_total, counters.sent_bytes_total])
    }) > 0
}

fn grown(before: &Info, after: &Info, counter: fn(&Counters) -> u64) -> u64 {
    counter(&after.counters).saturating_sub(counter(&before.counters))
}

/// Datagrams that the server did not answer for this reason.
fn dropped(counters: &Counters, reason: &str) -> u64 {
    let dropped = &counters.udp_dropped_datagrams_total;
    dropped.get(reason).copied().unwrap_or_default()
}

fn sum(counts: &std::collections::BTreeMap<String, u64>) -> u64 {
    total(counts.values().copied())
}

/// A saturating sum, because answers are not trusted.
fn total(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::saturating_add)
}

impl ServerResult {
    /// Computes the values derived from the counts.
    fn derive(&mut self) {
        let quotient = |dividend: f64, divisor: f64| {
            let quotient = dividend / divisor;
            quotient.is_finite().then_some(quotient)
        };
        let window = self.window.as_ref();
        self.cpu_ns_per_message =
            window.and_then(|window| quotient(window.cpu_s * 1e9, window.messages));
        self.cpu_ratio = window.and_then(|window| quotient(window.cpu_s, window.duration_s));
        self.events_per_turn = window
            .and_then(|window| quotient(window.loop_events as f64, window.loop_iterations as f64));
        let events: Vec<f64> = self
            .per_worker
            .iter()
            .map(|worker| worker.loop_events as f64)
            .collect();
        self.balance_jain = jain_index(&events).filter(|_| events.len() > 1);
    }

    /// Adds a later run against the same server.
    pub(crate) fn add(&mut self, next: &Self) {
        self.window = match (self.window, next.window) {
            (Some(window), Some(next)) => Some(ServerWindow {
                duration_s: window.duration_s + next.duration_s,
                cpu_s: window.cpu_s + next.cpu_s,
                messages: window.messages + next.messages,
                received_bytes: window.received_bytes + next.received_bytes,
                sent_bytes: window.sent_bytes + next.sent_bytes,
                loop_iterations: window.loop_iterations + next.loop_iterations,
                loop_events: window.loop_events + next.loop_events,
                loop_full_batches: window.loop_full_batches + next.loop_full_batches,
                short_writes: window.short_writes + next.short_writes,
                backlog_bytes: next.backlog_bytes,
                connections_accepted: window.connections_accepted + next.connections_accepted,
                connections_refused: window.connections_refused + next.connections_refused,
                accept_errors: window.accept_errors + next.accept_errors,
                datagrams_dropped: window.datagrams_dropped + next.datagrams_dropped,
                datagrams_dropped_by_kernel: window.datagrams_dropped_by_kernel
                    + next.datagrams_dropped_by_kernel,
            }),
            (window, next) => window.or(next),
        };
        for (worker, next) in self.per_worker.iter_mut().zip(&next.per_worker) {
            worker.connections_accepted += next.connections_accepted;
            worker.loop_iterations += next.loop_iterations;
            worker.loop_events += next.loop_events;
            worker.cpu_s += next.cpu_s;
        }
        let (sum, next) = (&mut self.accounts, &next.accounts);
        sum.client_sent_bytes += next.client_sent_bytes;
        sum.client_received_bytes += next.client_received_bytes;
        sum.server_received_bytes += next.server_received_bytes;
        sum.server_sent_bytes += next.server_sent_bytes;
        sum.client_opened += next.client_opened;
        sum.server_accepted += next.server_accepted;
        sum.server_refused += next.server_refused;
        sum.server_over_source_rate += next.server_over_source_rate;
        sum.server_over_rate += next.server_over_rate;
        sum.agree &= next.agree;
        self.derive();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analysis::samples;
    use crate::engine::slice::Slice;

    #[test]
    fn counts_beyond_all_measure_are_taken_as_the_largest() {
        let slices = vec![vec![Slice::new(); samples::SLICES as usize]];
        let client = samples::result(&samples::plan(1), &slices);
        let url = "http://127.0.0.1:1".parse().unwrap();
        let worker = admin::WorkerInfo {
            loop_events: u64::MAX,
            loop_full_batches: u64::MAX,
            ..Default::default()
        };
        let refused = ["limit", "address"].map(|reason| (reason.to_owned(), u64::MAX));
        let after = Info {
            per_worker: vec![worker; 2],
            counters: Counters {
                received_bytes_total: u64::MAX,
                sent_bytes_total: u64::MAX,
                connections_refused_total: refused.into(),
                ..Counters::default()
            },
            ..Info::default()
        };
        let before = Info {
            per_worker: vec![Default::default(); 2],
            ..Info::default()
        };
        let server = beside(&client, &url, [&before, &before, &after, &after]);
        assert_eq!(server.accounts.server_refused, u64::MAX);
        assert_eq!(server.window.unwrap().loop_events, u64::MAX);
    }
}
