//! A server in the world: its workers, and the checks of its invariants.

use std::cell::RefCell;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustls::server::UnbufferedServerConnection;

use super::datagrams::SimDatagrams;
use super::kernel::Simulated;
use super::world::*;
use super::{BUFFER, SLACK_MS, STEPS};
use crate::admission::Policy;
use crate::config::{Config, Limits};
use crate::conn::{Conn, MAX_READS_PER_PUMP};
use crate::faults::Faults;
use crate::memory::{Budget, cost};
use crate::metrics::{CloseReason, DropReason, HandshakeError, RefuseReason, Snapshot};
use crate::net::readiness::Readiness;
use crate::reactor::connections::MAX_LINGER_MS;
use crate::reactor::{
    Context, Control, DatagramTable, Deadline, HandOff, LeftTo, Listening, Origin, Reactor,
    Request, Rules, Share, TokenLayout, UdpEndpoint,
};
use crate::service::Service;
use crate::timeouts::whole_ms;
use crate::tls::{ServerTls, Session};
use crate::udp::{DatagramSocket, Guard};

/// The endpoints: TCP with a listener for each worker, one listener for all, and UDP.
const ENDPOINTS: usize = 3;

/// One server in a chain of replacements.
pub(super) struct Server {
    generation: usize,
    world: Rc<RefCell<World>>,
    pub(super) control: Arc<Control>,
    /// `None` once it has ended.
    workers: Vec<Option<Reactor<Simulated>>>,
    limits: Limits,
    tls: Option<ServerTls>,
    /// No reload has changed the limits, so they apply to every connection.
    same_limits: bool,
    /// For backlogs; `None` is unlimited.
    budget: Option<usize>,
    drain_timeout_ms: u64,
    pub(super) draining_since_ms: Option<u64>,
    is_stopped: bool,
}

impl Server {
    /// Starts a server on all of the world's sockets.
    pub(super) fn start(world: &Rc<RefCell<World>>, generation: usize) -> Self {
        let mut borrowed = world.borrow_mut();
        let random = &mut borrowed.random;
        let limits = limits(random);
        let drain_timeout_ms = random.some(&[0, 20, 5000]);
        let config = Config {
            limits: limits.clone(),
            read_buffer: NonZeroUsize::new(BUFFER).unwrap(),
            drain_timeout: Duration::from_millis(drain_timeout_ms),
            drain_delay: Duration::from_millis(random.some(&[0, 30])),
            ..Config::default()
        };
        let max_inbox = 1 + random.below(3) as usize;
        let mut budget = random.one_in(2).then(|| random.below(2000) as usize);
        let has_tls = borrowed.client_tls.is_some();
        let faults = faults(&mut borrowed.random);
        if has_tls && let Some(budget) = &mut budget {
            // With less than that no session is served.
            *budget += WORKERS * cost(Session::<UnbufferedServerConnection>::max_waiting_bytes());
            *budget += borrowed.random.some(&[0, 50_000, 200_000]);
        }
        if !faults.is_empty()
            && let Some(budget) = &mut budget
        {
            // What is held back needs room for a message; plain connections do without.
            *budget += 5000;
        }
        borrowed.holds_back |= !faults.is_empty();
        let tls = has_tls.then(super::tls::server);
        drop(borrowed);
        let memory = Budget::new(budget.map(|it| it as u64));
        let rules = Rules::new(&limits, tls.clone());
        let control = Control::new(rules, memory, WORKERS, ENDPOINTS);
        let control = Arc::new(control.with_faults(&faults));
        let mut workers = Vec::new();
        for (worker, hand_off) in HandOff::among(WORKERS, max_inbox).into_iter().enumerate() {
            let id = WorkerId { generation, worker };
            let (kernel, listening) = listen(world, id);
            workers.push(Some(Reactor::new(
                Context::new(worker, kernel, Arc::clone(&control)),
                listening,
                vec![receive_datagrams(world, id)],
                Guard::new([UDP_PORT]),
                Some(hand_off),
                &config,
            )));
        }
        Self {
            generation,
            world: Rc::clone(world),
            control,
            workers,
            limits,
            tls,
            same_limits: true,
            budget,
            drain_timeout_ms: drain_timeout_ms + whole_ms(config.drain_delay),
            draining_since_ms: None,
            is_stopped: false,
        }
    }

    pub(super) fn is_running(&self) -> bool {
        self.workers.iter().any(Option::is_some)
    }

    pub(super) fn running(&self) -> impl Iterator<Item = WorkerId> {
        let generation = self.generation;
        let running = self.workers.iter().enumerate();
        running
            .filter(|(_, it)| it.is_some())
            .map(move |(worker, _)| WorkerId { generation, worker })
    }

    /// One turn of a worker's loop, and its end if it has finished.
    pub(super) fn turn(&mut self, worker: usize, events: &mut Vec<(mio::Token, Readiness)>) {
        let generation = self.generation;
        let id = WorkerId { generation, worker };
        let Some(reactor) = &mut self.workers[worker] else {
            return;
        };
        // Its last wait ends now.
        reactor.context.forget_time();
        let end_drain = Deadline::EndDrain.id();
        let drain_ends = reactor.context.timers.deadline(end_drain);
        begin_turn(&self.world, id, reactor);
        let moved = reactor.context.metrics.moved_bytes();
        reactor.turn(events).unwrap();
        if reactor.context.metrics.moved_bytes() != moved {
            // With TLS also without a call.
            self.world.borrow_mut().note_progress(id);
        }
        let has_drain_ended = drain_ends.is_some()
            && reactor.context.timers.deadline(end_drain) != drain_ends
            && !reactor.acceptor.has_open_listeners();
        end_turn(&self.world, id, reactor, has_drain_ended);
        if reactor.is_finished() {
            reactor.close_all();
            self.workers[worker] = None;
        }
        if self.is_running() {
            self.check();
        } else {
            self.check_the_end();
        }
    }

    pub(super) fn reload(&mut self) {
        let limits = limits(&mut self.world.borrow_mut().random);
        let faults = Arc::clone(&self.control.rules().faults);
        let rules = Rules::new(&limits, self.tls.clone()).with_faults(faults);
        self.control.set_rules(rules);
        self.limits = limits;
        self.same_limits = false;
        self.wake();
    }

    pub(super) fn drain(&mut self) {
        self.control.request(Request::Drain);
        let now_ms = self.world.borrow().now_ms();
        self.draining_since_ms.get_or_insert(now_ms);
        self.wake();
    }

    pub(super) fn stop(&mut self) {
        self.control.request(Request::Stop);
        self.is_stopped = true;
        self.wake();
    }

    /// Leaves all endpoints to a successor, and drains.
    pub(super) fn release(&mut self) {
        for endpoint in 0..ENDPOINTS {
            self.control.leave(endpoint, LeftTo::Successor);
        }
        self.world.borrow_mut().leaving.push(self.generation);
        self.control.note_successor();
        self.control.note_decided();
        self.drain();
    }

    fn wake(&self) {
        for worker in 0..WORKERS {
            let generation = self.generation;
            let id = WorkerId { generation, worker };
            self.world.borrow_mut().thread(id).woken = true;
        }
    }

    pub(super) fn metrics(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in &self.control.metrics {
            sum += worker.snapshot();
        }
        sum
    }

    fn reactors(&self) -> impl Iterator<Item = &Reactor<Simulated>> {
        self.workers.iter().flatten()
    }

    fn conn(&self, client: &Client) -> Option<&Conn<super::stream::SimStream>> {
        let (id, key) = client.key?;
        self.workers[id.worker].as_ref()?.connections.get(key)
    }

    /// The invariants after every turn.
    fn check(&self) {
        let world = self.world.borrow();
        let metrics = self.metrics();
        let own = || {
            let own = |it: &&Client| it.accepted_by == Some(self.generation);
            world.clients.iter().filter(own)
        };
        let handed_off = own().filter(|it| it.is_handed_off()).count() as u64;
        let refused = refused(&metrics);
        if !self.is_stopped {
            let accepted = metrics.accepted + refused + handed_off;
            assert_eq!(accepted, own().count() as u64, "each accepted once");
            let admitted = metrics.active + handed_off;
            assert_eq!(admitted, self.control.admission.open() as u64);
        }
        let closed: u64 = CloseReason::ALL.map(|it| metrics.closed(it)).iter().sum();
        assert_eq!(
            metrics.accepted,
            metrics.active + closed,
            "each closed once"
        );
        let open = own().filter(|it| it.is_open() && !it.is_handed_off());
        let open = open.count() as u64;
        let connections = || self.reactors().flat_map(|it| it.connections.iter());
        let entries = connections().count() as u64;
        assert_eq!(open, entries, "descriptors are the tables'");
        let lingering = self.reactors().map(|it| it.connections.refused_lingering());
        assert_eq!(open, metrics.active + lingering.sum::<usize>() as u64);

        assert!(connections().all(|(_, conn)| conn.backlog_len() <= BUFFER));
        for client in own() {
            let reason = self.conn(client).and_then(Conn::lingering);
            let is_served = reason.is_some_and(|it| it != CloseReason::Refused);
            assert!(
                !(is_served && client.was_cut_at_end),
                "client {} takes a part for everything",
                client.id
            );
            if let Some(since_ms) = client.lingers_since_ms.filter(|_| client.is_open()) {
                let lingers_ms = world.now_ms() - since_ms;
                assert!(lingers_ms <= MAX_LINGER_MS + SLACK_MS, "lingers too long");
            }
        }
        self.check_memory(&world);
        self.check_datagrams(&metrics);
        if self.same_limits {
            self.check_limits(&world, &metrics);
        }
    }

    /// Each kept byte is counted, and the budget is what is free, held by workers and in use.
    fn check_memory(&self, world: &World) {
        let (mut used, mut held) = (0, 0);
        for (worker, reactor) in self.workers.iter().enumerate() {
            let mut kept = 0;
            if let Some(reactor) = reactor {
                held += reactor.connections.memory_held();
                held += reactor.connections.tls_memory_held();
                let (held_back, cost) = reactor.connections.held_back();
                kept += held_back;
                used += cost;
                for (_, conn) in reactor.connections.iter() {
                    kept += conn.backlog_len();
                    used += conn.backlog_cost();
                }
                for socket in reactor.datagrams.iter().flat_map(DatagramTable::iter) {
                    kept += socket.backlog_len();
                    used += socket.backlog_cost();
                    assert!(
                        socket.backlog_len() == 0
                            || self.awaits_room(world, worker)
                            || reactor.context.timers.is_armed(Deadline::Retry.id())
                            || reactor
                                .datagrams
                                .as_ref()
                                .is_some_and(DatagramTable::has_more),
                        "answers wait for room that no event will tell of"
                    );
                }
            }
            let counted = self.control.metrics[worker].backlog_bytes.value();
            assert_eq!(counted, kept as u64, "each kept byte is counted");
        }
        let free = self.control.backlog_memory.free();
        if let Some(budget) = self.budget {
            assert_eq!(free + held + used, budget);
        }
    }

    /// Whether a worker's UDP socket asks for events when it has room.
    fn awaits_room(&self, world: &World, worker: usize) -> bool {
        let generation = self.generation;
        let id = WorkerId { generation, worker };
        let mut holders = world.datagrams.iter().flat_map(|it| &it.holders);
        holders.any(|it| it.worker == id && it.interest.is_writable())
    }

    /// Each datagram is answered, dropped for a reason, or waits to be answered.
    fn check_datagrams(&self, metrics: &Snapshot) {
        let dropped = DropReason::ALL.map(|it| metrics.udp_dropped(it));
        let done = metrics.udp_sent_datagrams + dropped.iter().sum::<u64>();
        assert!(done <= metrics.udp_received_datagrams);
    }

    fn check_limits(&self, world: &World, metrics: &Snapshot) {
        if let Some(max) = self.limits.max_connections {
            assert!(metrics.active <= max.get() as u64);
        }
        let own = |it: &&Client| it.accepted_by == Some(self.generation) && it.is_open();
        let now_ms = world.now_ms();
        for client in world.clients.iter().filter(own) {
            self.check_patience(client);
            if client.lingers_since_ms.is_some() || client.is_handed_off() {
                continue;
            }
            let at_most = |since: u64, limit: Option<Duration>| {
                limit.is_none_or(|limit| now_ms - since <= whole_ms(limit) + SLACK_MS)
            };
            let is_in_time = at_most(client.accepted_ms, self.limits.lifetime);
            assert!(is_in_time, "lives too long");
            let is_active = at_most(client.last_moved_ms, self.limits.idle_timeout);
            // What waits in a session moves later than its records.
            assert!(is_active || client.secured.is_some(), "idles too long");
        }
        if let Some(max) = self.limits.max_connections_per_ip {
            for address in ADDRESSES.into_iter().flatten() {
                let from_it = |it: &&Client| own(it) && it.ip == Some(address) && !it.server_ended;
                let served = world.clients.iter().filter(from_it).count();
                assert!(served <= max.get(), "{served} from {address}");
            }
        }
    }

    /// Checks that no connection ends before its timeout.
    fn check_patience(&self, client: &Client) {
        let (since, limit) = match self.conn(client).and_then(Conn::lingering) {
            // The bytes of a handshake are no activity, but the world's clients know no others.
            Some(CloseReason::IdleTimeout) if client.secured.is_some() => return,
            Some(CloseReason::IdleTimeout) => (client.last_moved_ms, self.limits.idle_timeout),
            Some(CloseReason::Lifetime) => (client.accepted_ms, self.limits.lifetime),
            _ => return,
        };
        let limit_ms = limit.map_or(u64::MAX, whole_ms);
        // Both ends of the span are rounded down to whole milliseconds.
        assert!(
            client.lingers_since_ms.unwrap_or(u64::MAX) + 1 >= since + limit_ms,
            "ended early"
        );
    }

    /// The invariants after the end of the last worker.
    fn check_the_end(&self) {
        for client in &mut self.world.borrow_mut().clients {
            if client.secured.is_some() {
                client.take_secured(u64::MAX);
            }
        }
        let world = self.world.borrow();
        let metrics = self.metrics();
        assert_eq!((metrics.active, metrics.backlog_bytes), (0, 0));
        let free = self.control.backlog_memory.free();
        assert!(self.budget.is_none_or(|it| it == free));
        assert_eq!(metrics.closed(CloseReason::Error), 0);
        let holds = |it: &Holder| it.worker.generation == self.generation;
        let listeners = world.listeners.iter().flat_map(|it| &it.holders);
        let datagrams = world.datagrams.iter().flat_map(|it| &it.holders);
        assert!(!listeners.chain(datagrams).any(holds), "a socket is left");
        let own = |it: &&Client| it.accepted_by == Some(self.generation);
        let own = world.clients.iter().filter(own);
        for client in own.clone() {
            assert!(client.gone, "client {} is left", client.id);
        }
        if self.is_stopped {
            return;
        }
        assert_eq!(self.control.admission.open(), 0);
        let one_each = Policy::new(&Limits {
            max_connections_per_ip: NonZeroUsize::new(1),
            ..Limits::default()
        });
        for address in ADDRESSES {
            let permit = self.control.admission.acquire(&one_each, address, || 0);
            // An allocation may fail.
            let counts = permit == Err(RefuseReason::MaxConnectionsPerIp);
            assert!(!counts, "{address:?} still counts");
        }
        let cut: u64 = [
            CloseReason::DrainTimeout,
            CloseReason::IdleTimeout,
            CloseReason::Stalled,
            CloseReason::Lifetime,
            CloseReason::Memory,
        ]
        .map(|reason| metrics.closed(reason))
        .iter()
        .sum();
        let is_unlimited = cut + refused(&metrics) == 0;
        let in_time = metrics.tls_handshake_errors(HandshakeError::Timeout) == 0;
        for client in own.filter(|it| !it.reset) {
            if client.secured.is_some() {
                if is_unlimited && in_time {
                    client.expect_whole_echo();
                }
                continue;
            }
            assert!(!client.cut_off || !is_unlimited, "input was cut off");
            if client.service == Service::Echo && is_unlimited {
                assert_eq!(
                    client.written, client.sent,
                    "client {} lost an echo",
                    client.id
                );
            }
        }
        let since = self.draining_since_ms.expect("drained");
        let max = self.drain_timeout_ms + 50 + MAX_LINGER_MS + 100;
        let took = world.now_ms() - since;
        // Steps before the end of the run may have advanced the clock.
        assert!(took <= max + STEPS as u64 * 41, "the drain took {took} ms");
    }
}

/// Records the state of a worker's connections before its turn.
fn begin_turn(world: &RefCell<World>, id: WorkerId, reactor: &Reactor<Simulated>) {
    for client in &mut world.borrow_mut().clients {
        client.turn = ClientTurn::default();
        if let Some((worker, key)) = client.key
            && worker == id
            && let Some(conn) = reactor.connections.get(key)
        {
            client.turn.was_queued = conn.is_queued();
            client.turn.queue_entries = reactor.connections.queue_entries(key);
            client.turn.was_lingering = conn.lingering().is_some();
        }
    }
}

/// Checks that no connection had more of a worker's turn than it may have, and notes those that the
/// turn began to end.
fn end_turn(
    world: &RefCell<World>,
    id: WorkerId,
    reactor: &Reactor<Simulated>,
    has_drain_ended: bool,
) {
    /// A first read; a relay that moves nothing, and the read that reveals why.
    const MAX_ECHO_READS: usize = 3;
    /// Some for each of a session's, and for a write that drives a handshake.
    const MAX_SECURED_READS: usize = 4 * (MAX_READS_PER_PUMP + 1);
    let has_faults = reactor.context.rules.has_faults();
    let mut world = world.borrow_mut();
    let now_ms = world.now_ms();
    for client in &mut world.clients {
        let turn = client.turn;
        let is_plain = !has_faults && !turn.was_lingering;
        let reads_per_call = if client.secured.is_some() {
            MAX_SECURED_READS
        } else if client.service == Service::Echo && is_plain {
            MAX_ECHO_READS
        } else {
            MAX_READS_PER_PUMP
        };
        // A call for each report; one for each entry of its key in the run queue, of which some may
        // be left of closed connections with that key; one if a report has queued it; one at the end
        // of a drain; one by its alarm; and one that discards input, if it was half-closed.
        let may_have_yielded = turn.events > 0 && !turn.was_queued;
        let calls = turn.events
            + turn.queue_entries
            + usize::from(may_have_yielded)
            + usize::from(has_drain_ended)
            + usize::from(has_faults);
        let most = calls * reads_per_call + usize::from(turn.was_ended) * MAX_READS_PER_PUMP;
        assert!(
            turn.reads <= most,
            "a greedy turn: {turn:?}, at most {most}"
        );
        let conn = client.key.filter(|(worker, _)| *worker == id);
        let conn = conn.and_then(|(_, key)| reactor.connections.get(key));
        if conn.is_some_and(|it| it.lingering().is_some()) {
            client.lingers_since_ms.get_or_insert(now_ms);
        }
    }
}

/// The worker's kernel, and its listeners: its own, and for the first worker also the shared one.
fn listen(world: &Rc<RefCell<World>>, id: WorkerId) -> (Simulated, Vec<Listening>) {
    let shared = WORKERS;
    let sockets = match id.worker {
        0 => vec![(0, id.worker, Share::Own), (1, shared, Share::LeastLoaded)],
        _ => vec![(0, id.worker, Share::Own)],
    };
    let mut borrowed = world.borrow_mut();
    let mut listening = Vec::new();
    for &(endpoint, socket, share) in &sockets {
        let socket = &mut borrowed.listeners[socket];
        socket.holders.push(Holder {
            worker: id,
            edge: !socket.queue.is_empty(),
            interest: Readiness::READABLE,
        });
        listening.push(Listening::new(
            endpoint,
            Origin::Endpoint,
            (socket.service, socket.security),
            share,
            4096,
        ));
    }
    // The worker runs at once.
    borrowed.thread(id).sleeps_until_ns = Some(0);
    let kernel = Simulated {
        world: Rc::clone(world),
        id,
        listeners: sockets.iter().map(|&(_, socket, _)| Some(socket)).collect(),
        layout: TokenLayout::new(sockets.len(), 1),
    };
    (kernel, listening)
}

/// The worker's UDP socket.
fn receive_datagrams(world: &Rc<RefCell<World>>, id: WorkerId) -> UdpEndpoint<SimDatagrams> {
    let service = world.borrow().datagrams[id.worker].service;
    let mut socket = SimDatagrams {
        world: Rc::clone(world),
        worker: id,
        index: id.worker,
    };
    socket.register(mio::Interest::READABLE).unwrap();
    UdpEndpoint {
        endpoint: 2,
        service,
        socket,
    }
}

fn refused(metrics: &Snapshot) -> u64 {
    let refused = RefuseReason::ALL.map(|reason| metrics.refused(reason));
    refused.iter().sum()
}

/// Delays and standstills of the endpoints for streams, in some worlds. None loses anything.
fn faults(random: &mut Random) -> Vec<Faults> {
    if !random.one_in(4) {
        return Vec::new();
    }
    let choices = [
        "delay=uniform:0-60ms&seed=1",
        "delay=exp:5ms&stall=20ms/90ms&seed=2",
        "stall=10ms/30ms",
    ];
    [(); ENDPOINTS - 1]
        .map(|()| random.some(&choices).parse().expect("options"))
        .to_vec()
}

/// Random limits, low enough to be reached often.
fn limits(random: &mut Random) -> Limits {
    let mut some =
        |chance: u64, values: u64| random.one_in(chance).then(|| 1 + random.below(values));
    let count = |it: Option<u64>| it.and_then(|it| NonZeroUsize::new(it as usize));
    Limits {
        max_connections: count(some(3, 8)),
        max_connections_per_ip: count(some(3, 4)),
        accept_rate: some(6, 100).map(|it| it as f64),
        idle_timeout: some(3, 300).map(Duration::from_millis),
        stall_timeout: some(3, 300).map(Duration::from_millis),
        stall_bytes: 40,
        lifetime: some(6, 1000).map(Duration::from_millis),
        handshake_timeout: some(2, 3000).map(Duration::from_millis),
        udp_rate: some(6, 100).map(|it| it as f64),
        ..Limits::default()
    }
}
