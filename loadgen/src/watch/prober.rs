//! Lanes with their sockets: what happens when a probe is due, when a socket has news, and when a probe's time
//! is over.
//!
//! A lane of the persistent kind has one current connection. While it has none, each probe that is due dials a
//! connection of its own, and the first that is there becomes the current one: so the end of an outage is seen
//! within an interval, however long the kernel waits before it sends a SYN again. A connection on which a
//! probe was given up is current no more, and is kept until all of its probes are settled.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap};
use std::io;

use mio::{Registry, Token};

use super::address::Address;
use super::channel::SharedBuffers;
use super::classify;
use super::connection::{Connection, End};
use super::lane::{Lane, Outcome};
use super::presence::Gap;
use super::schedule::Schedule;
use super::series::Series;
use crate::plan::watch::WatchPlan;
use crate::result::watch::{OutageClass, ProbeKind};

/// Maximum of connections that a persistent lane dials at a time. Further probes wait for these.
const MAX_DIALED: usize = 256;

/// The lanes of a watch.
#[derive(Debug)]
pub(super) struct Prober {
    registry: Registry,
    schedule: Schedule,
    lanes: Vec<Probed>,
    pub(super) series: Vec<Series>,
    connections: HashMap<usize, Connection>,
    /// Tokens are never used again, so no event can reach another connection.
    next_token: usize,
    /// When a probe's time may be over: the time, its lane, number and connection.
    deadlines: BinaryHeap<Reverse<(u64, usize, u64, usize)>>,
    pub(super) reconnections: Vec<Reconnection>,
    /// The first error that was the client's own.
    pub(super) error: Option<String>,
    answered: Vec<u64>,
    /// Of connections with TLS.
    buffers: SharedBuffers,
}

/// A lane with its sockets.
#[derive(Debug)]
struct Probed {
    series: usize,
    kind: ProbeKind,
    address: Address,
    nonce: u64,
    connection: usize,
    lane: Lane,
    current: Option<usize>,
    /// Dialed ones, those given up, and those of single probes.
    others: BTreeSet<usize>,
    lost_at: Option<u64>,
}

/// A persistent connection was made again.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reconnection {
    pub(super) target: usize,
    pub(super) connection: usize,
    pub(super) at: u64,
    pub(super) after: u64,
}

impl Prober {
    /// The lanes of `plan`, with an address for each target. The first probes are due at once, spread over an
    /// interval. Tokens begin at `first_token`.
    pub(super) fn new(
        plan: &WatchPlan,
        addresses: &[Address],
        registry: Registry,
        first_token: usize,
        nonce: u64,
    ) -> Self {
        let mut prober = Self {
            registry,
            schedule: Schedule::default(),
            lanes: Vec::new(),
            series: Vec::new(),
            connections: HashMap::new(),
            next_token: first_token,
            deadlines: BinaryHeap::new(),
            reconnections: Vec::new(),
            error: None,
            answered: Vec::new(),
            buffers: SharedBuffers::default(),
        };
        let interval = plan.interval.as_nanos() as u64;
        let lanes = (addresses.len() * plan.connections).max(1) as u64;
        for (target, address) in addresses.iter().enumerate() {
            if plan.connections > 0 {
                prober
                    .series
                    .push(Series::new(target, ProbeKind::Persistent));
                for connection in 0..plan.connections {
                    let phase = interval * prober.lanes.len() as u64 / lanes;
                    prober.add(
                        plan,
                        address,
                        connection,
                        nonce,
                        (phase % interval, interval),
                    );
                }
            }
            if plan.new_rate > 0.0 {
                prober.series.push(Series::new(target, ProbeKind::New));
                let period = (1e9 / plan.new_rate) as u64;
                let phase = period * target as u64 / addresses.len() as u64;
                prober.add(plan, address, 0, nonce, (phase, period));
            }
        }
        prober
    }

    /// Adds a lane of the last series.
    fn add(
        &mut self,
        plan: &WatchPlan,
        address: &Address,
        connection: usize,
        nonce: u64,
        (phase, period): (u64, u64),
    ) {
        let [timeout, late] = [plan.timeout, plan.late].map(|time| time.as_nanos() as u64);
        let series = self.series.len() - 1;
        self.schedule.add(phase, period);
        self.lanes.push(Probed {
            series,
            kind: self.series[series].kind,
            address: address.clone(),
            nonce: nonce.wrapping_add(self.lanes.len() as u64),
            connection,
            lane: Lane::new(connection, timeout, late),
            current: None,
            others: BTreeSet::new(),
            lost_at: None,
        });
    }

    /// The next time at which there is something to do.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        let expiry = self.deadlines.peek().map(|Reverse((at, ..))| *at);
        self.schedule.next().into_iter().chain(expiry).min()
    }

    /// No more probes are sent.
    pub(super) fn end_schedule(&mut self) {
        self.schedule.end();
    }

    /// Whether it is known of every probe what became of it.
    pub(super) fn is_settled(&self) -> bool {
        self.lanes.iter().all(|it| it.lane.unsettled() == 0)
    }

    /// The client did not run.
    pub(super) fn excuse(&mut self, gap: Gap) {
        for probed in &mut self.lanes {
            probed.lane.excuse(gap.from, gap.until);
        }
    }

    /// Ends all lanes at `now`.
    pub(super) fn finish(&mut self, now: u64) {
        for probed in &mut self.lanes {
            probed.lane.end(now, &mut self.series[probed.series]);
        }
    }

    /// Sends the probes that are due.
    pub(super) fn issue(&mut self, now: u64) {
        while let Some(due) = self.schedule.take(now) {
            let probed = &mut self.lanes[due.lane];
            let series = &mut self.series[probed.series];
            series.unsent += due.missed;
            series.sent += 1;
            let number = probed.lane.send(due.at, now);
            let token = match probed.current {
                Some(token) => Ok(token),
                None => self.dial(due.lane, now),
            };
            match token {
                Ok(token) => {
                    if let Some(at) = self.lanes[due.lane].lane.deadline(number) {
                        let deadline = (at, due.lane, number, token);
                        self.deadlines.push(Reverse(deadline));
                    }
                    self.ask(token, number, now);
                }
                Err(error) => self.settle(due.lane, number, classify::outcome(&error)),
            }
        }
    }

    /// Begins to connect, or takes the newest of too many connections that are dialed. Returns the token.
    fn dial(&mut self, lane: usize, now: u64) -> io::Result<usize> {
        let probed = &mut self.lanes[lane];
        if probed.kind == ProbeKind::Persistent
            && probed.others.len() >= MAX_DIALED
            && let Some(&newest) = probed.others.last()
        {
            return Ok(newest);
        }
        let token = self.next_token;
        self.next_token += 1;
        let connection = Connection::dial(&probed.address, lane, &self.buffers)?;
        connection.register(&self.registry, Token(token))?;
        let is_open = connection.is_open;
        probed.others.insert(token);
        self.connections.insert(token, connection);
        if is_open {
            self.adopt(token, now);
        }
        Ok(token)
    }

    /// Makes a connection the current one of its lane, if that has none.
    fn adopt(&mut self, token: usize, now: u64) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let probed = &mut self.lanes[connection.lane];
        if probed.kind == ProbeKind::New || probed.current.is_some() {
            return;
        }
        probed.others.remove(&token);
        probed.current = Some(token);
        if let Some(lost_at) = probed.lost_at.take() {
            let after = now.saturating_sub(lost_at);
            let series = &mut self.series[probed.series];
            series.note_reconnect(after);
            self.reconnections.push(Reconnection {
                target: series.target,
                connection: probed.connection,
                at: now,
                after,
            });
        }
    }

    /// Sends a probe on a connection.
    fn ask(&mut self, token: usize, number: u64, now: u64) {
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        let lane = connection.lane;
        let nonce = self.lanes[lane].nonce;
        let Err(error) = connection.ask(nonce, number) else {
            return;
        };
        if !connection.is_datagram {
            self.lose(token, &End::Failed(error), now);
            return;
        }
        // The error is of an earlier datagram if the network had an answer, and this one was not sent.
        connection.out.pop_back();
        if self.fail_refused(token, &error) {
            let again = self.connections.get_mut(&token);
            if again.is_some_and(|connection| connection.ask(nonce, number).is_ok()) {
                return;
            }
        }
        self.settle(lane, number, classify::outcome(&error));
    }

    /// Settles the datagrams to which the network had an answer. Returns whether there was one.
    fn fail_refused(&mut self, token: usize, error: &io::Error) -> bool {
        let Some(connection) = self.connections.get_mut(&token) else {
            return false;
        };
        let lane = connection.lane;
        let refused = connection.refused(self.lanes[lane].nonce);
        connection.out.retain(|number| !refused.contains(number));
        for &number in &refused {
            self.settle(lane, number, classify::outcome(error));
        }
        !refused.is_empty()
    }

    /// A socket has news.
    pub(super) fn ready(&mut self, token: usize, now: u64) {
        if let Err(end) = self.connect_on(token, now) {
            self.lose(token, &end, now);
            return;
        }
        let Some(connection) = self.connections.get_mut(&token) else {
            return;
        };
        if !connection.is_open {
            return;
        }
        let (lane, is_datagram) = (connection.lane, connection.is_datagram);
        let mut answered = std::mem::take(&mut self.answered);
        let received = connection.receive(self.lanes[lane].nonce, &mut answered);
        let has_answered = !answered.is_empty();
        for number in answered.drain(..) {
            self.settle(lane, number, Ok(Outcome::Answered(now)));
        }
        self.answered = answered;
        if has_answered {
            self.adopt(token, now);
        }
        match received {
            Ok(()) => self.close_if_done(token),
            // The network's answer to one datagram; the socket stays.
            Err(End::Failed(error)) if is_datagram => {
                self.fail_refused(token, &error);
                self.close_if_done(token);
            }
            Err(end) => self.lose(token, &end, now),
        }
    }

    /// Completes the connect, and sends what waits.
    fn connect_on(&mut self, token: usize, now: u64) -> Result<(), End> {
        let Some(connection) = self.connections.get_mut(&token) else {
            return Ok(());
        };
        connection.note();
        if !connection.is_open && connection.finish_connect().map_err(End::Failed)? {
            self.adopt(token, now);
        }
        match self.connections.get_mut(&token) {
            Some(connection) => connection.flush().map_err(End::Failed),
            None => Ok(()),
        }
    }

    /// A connection has ended: the probes on it have failed. A current one that served is dialed again at once,
    /// so that a loss between two probes costs none of them.
    fn lose(&mut self, token: usize, end: &End, now: u64) {
        let Some(connection) = self.connections.remove(&token) else {
            return;
        };
        let outcome = match end {
            End::Closed => Ok(classify::failed(OutageClass::Closed, None)),
            End::Wrong => Ok(classify::failed(OutageClass::Wrong, None)),
            End::Failed(error) => classify::outcome(error),
        };
        let lane = connection.lane;
        for &number in &connection.out {
            self.settle(lane, number, outcome.clone());
        }
        let probed = &mut self.lanes[lane];
        probed.others.remove(&token);
        if probed.current == Some(token) {
            probed.current = None;
            probed.lost_at = Some(now);
            if let Ok(Outcome::Failed(failure)) = outcome {
                probed.lane.note_loss(failure);
            }
            if connection.has_answered && self.schedule.next().is_some() {
                // If that fails at once, the next probe that is due dials again.
                let _ = self.dial(lane, now);
            }
        }
    }

    /// Gives the probes up whose time is over at `now`.
    pub(super) fn expire(&mut self, now: u64) {
        while let Some(&Reverse((at, lane, number, token))) = self.deadlines.peek() {
            if at > now {
                return;
            }
            self.deadlines.pop();
            match self.lanes[lane].lane.deadline(number) {
                None => {}
                // The client did not run meanwhile.
                Some(later) if later > now => {
                    self.deadlines.push(Reverse((later, lane, number, token)));
                }
                Some(_) => {
                    let failed = classify::failed(OutageClass::Timeout, None);
                    self.settle(lane, number, Ok(failed));
                    self.give_up(token, now);
                }
            }
        }
    }

    /// A probe of this connection was given up.
    fn give_up(&mut self, token: usize, now: u64) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let probed = &mut self.lanes[connection.lane];
        if probed.current == Some(token) && !connection.is_datagram {
            probed.current = None;
            probed.lost_at = Some(now);
            probed.others.insert(token);
        }
        self.close_if_done(token);
    }

    /// Closes a connection that is not the current one of its lane and whose probes are all settled.
    fn close_if_done(&mut self, token: usize) {
        let Some(connection) = self.connections.get(&token) else {
            return;
        };
        let probed = &mut self.lanes[connection.lane];
        let is_open = |number: &u64| probed.lane.deadline(*number).is_some();
        if probed.current != Some(token) && !connection.out.iter().any(is_open) {
            probed.others.remove(&token);
            self.connections.remove(&token);
        }
    }

    /// Notes what became of a probe, or that the client could not send it, and why.
    fn settle(&mut self, lane: usize, number: u64, outcome: Result<Outcome, String>) {
        let outcome = outcome.unwrap_or_else(|error| {
            self.error.get_or_insert(error);
            Outcome::Unsent
        });
        let probed = &mut self.lanes[lane];
        let series = &mut self.series[probed.series];
        probed.lane.settle(number, outcome, series);
    }
}
