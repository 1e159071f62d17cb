//! A reactor in a simulated world: clients, network and kernel behave at random, within what real
//! ones may do, and after every step what the crate promises is checked. A run is its seed: the same
//! number gives the same world.
//!
//! The model of the kernel is that of epoll(7) and tcp(7): an edge is owed when something arrives
//! and when room appears after a write found none; an event reports what is true when it is
//! fetched; a batch may be stale by the time its last event is handled; a read stops at an urgent
//! mark; closing a socket with unread input resets the connection.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::*;
use crate::admission::Policy;
use crate::config::Limits;
use crate::conn::Conn;
use crate::metrics::{RefuseReason, Snapshot};
use crate::net::readiness::Readiness;
use crate::service::Service;
use crate::timeouts::whole_ms;

mod world;

use world::*;

/// Worlds in one run of the test.
const SEEDS: u64 = 3000;
/// Steps of each before everybody goes home.
const STEPS: usize = 250;
/// The reactor's buffer: small, so that everything happens often.
const BUFFER: usize = 32;
/// The most that simulated time moves on between a deadline and the turn in which it is seen.
const SLACK_MS: u64 = 45;

#[test]
fn whatever_clients_and_kernel_do_the_promises_hold() {
    let mut sum = Snapshot::default();
    for seed in 0..SEEDS {
        let seed = NamedOnPanic(seed);
        sum += Run::new(seed.0).live_out();
    }
    // A world in which nothing happens would keep every promise.
    for reason in [
        CloseReason::Finished,
        CloseReason::Reset,
        CloseReason::IdleTimeout,
        CloseReason::Stalled,
        CloseReason::Lifetime,
        CloseReason::DrainTimeout,
    ] {
        assert!(
            sum.closed(reason) > 0,
            "no connection was closed for {reason:?}"
        );
    }
    for reason in [
        RefuseReason::AcceptRate,
        RefuseReason::MaxConnections,
        RefuseReason::MaxConnectionsPerIp,
    ] {
        assert!(
            sum.refused(reason) > 0,
            "no connection was refused for {reason:?}"
        );
    }
    assert!(sum.short_writes > 0);
}

/// Says which world it was in which something went wrong.
struct NamedOnPanic(u64);

impl Drop for NamedOnPanic {
    #[expect(clippy::print_stderr, reason = "the seed is what a failure needs")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the world of seed {}", self.0);
        }
    }
}

/// A world with its reactor.
struct Run {
    world: Rc<RefCell<World>>,
    reactor: Reactor<Simulated>,
    control: Arc<Control>,
    service: Service,
    limits: Limits,
    /// The limits were not changed since the start, so they hold for every connection.
    same_limits: bool,
    drain_timeout_ms: u64,
    draining_since_ms: Option<u64>,
    events: Vec<(Token, Readiness)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let service = match random.below(6) {
            0 => Service::Discard,
            1 => Service::Chargen,
            _ => Service::Echo,
        };
        let limits = limits(&mut random);
        let drain_timeout_ms = [0, 20, 5000][random.below(3) as usize];
        let config = Config {
            limits: limits.clone(),
            read_buffer: NonZeroUsize::new(BUFFER).unwrap(),
            drain_timeout: Duration::from_millis(drain_timeout_ms),
            drain_delay: Duration::from_millis([0, 30][random.below(2) as usize]),
            ..Config::default()
        };
        let faults = random.one_in(2);
        let world = Rc::new(RefCell::new(World {
            random,
            now_ns: 1_000_000_000,
            peers: Vec::new(),
            queue: VecDeque::new(),
            listener: SimListener {
                open: true,
                refusing: false,
                edge: false,
            },
            accept_fault: None,
            idle_turns: 0,
            faults,
        }));
        let kernel = Simulated {
            world: Rc::clone(&world),
        };
        let control = Arc::new(Control::new(&limits, 1, 1));
        let listening = Listening::new(0, service, Share::Own, 4096);
        let reactor = Reactor::new(
            Context::new(0, kernel, Arc::clone(&control)),
            vec![listening],
            Vec::new(),
            Guard::default(),
            None,
            &config,
        );
        Self {
            world,
            reactor,
            control,
            service,
            limits,
            same_limits: true,
            drain_timeout_ms: drain_timeout_ms + whole_ms(config.drain_delay),
            draining_since_ms: None,
            events: Vec::new(),
        }
    }

    fn live_out(mut self) -> Snapshot {
        for _ in 0..STEPS {
            self.something_happens();
            self.turn();
            if self.reactor.is_finished() {
                break;
            }
        }
        self.everybody_goes_home();
        // Reading of all, lingering, timeouts and the drain are all bounded in simulated time, and
        // the loop must not need many turns for them.
        for _ in 0..20_000 {
            if self.reactor.is_finished() {
                break;
            }
            self.clients_read();
            self.turn();
        }
        assert!(self.reactor.is_finished(), "the drain did not end");
        self.check_the_end();
        self.reactor.context.metrics.snapshot()
    }

    fn turn(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        self.reactor.turn(&mut events).unwrap();
        self.events = events;
        self.check();
    }

    /// One thing that a client, the network or the operator does.
    fn something_happens(&mut self) {
        let mut world = self.world.borrow_mut();
        match world.random.below(100) {
            0..=19 => world.connect(self.service),
            20..=44 => world.send(),
            45..=69 => world.take(),
            70..=75 => world.end(),
            76..=78 => world.reset(),
            79..=81 => world.send_urgently(),
            82..=84 => {
                let fault = [EMFILE, ENOMEM, ECONNABORTED][world.random.below(3) as usize];
                world.accept_fault = Some(fault);
            }
            85..=89 => world.accept_fault_ends(),
            90..=95 => {
                let pause = world.random.below(40_000_000);
                world.now_ns += pause;
            }
            96 => {
                let limits = limits(&mut world.random);
                drop(world);
                self.reload(limits);
            }
            97 if self.draining_since_ms.is_none() => {
                drop(world);
                self.drain();
            }
            _ => {}
        }
    }

    fn reload(&mut self, limits: Limits) {
        self.control.set_rules(Rules::new(&limits));
        self.limits = limits;
        self.same_limits = false;
        self.reactor.is_woken = true;
    }

    fn drain(&mut self) {
        self.control.request(Request::Drain);
        self.reactor.is_woken = true;
        self.draining_since_ms = Some(self.world.borrow().now_ms());
    }

    /// Every client sends its last byte and reads all that comes; the kernel recovers; the server
    /// drains.
    fn everybody_goes_home(&mut self) {
        {
            let mut world = self.world.borrow_mut();
            world.faults = false;
            world.accept_fault_ends();
            for peer in world.peers.iter_mut().filter(|it| !it.gone) {
                peer.ended = true;
                peer.edge = true;
            }
        }
        if self.draining_since_ms.is_none() {
            self.drain();
        }
    }

    fn clients_read(&self) {
        let mut world = self.world.borrow_mut();
        for peer in world.peers.iter_mut().filter(|it| !it.gone) {
            peer.take(u64::MAX);
            // Who asked for characters without end hangs up.
            if peer.service == Service::Chargen && peer.accepted {
                peer.reset = true;
                peer.edge = true;
            }
        }
    }

    /// What holds after every turn.
    fn check(&self) {
        let world = self.world.borrow();
        let metrics = self.reactor.context.metrics.snapshot();
        let counted = |filter: fn(&&Peer) -> bool| world.peers.iter().filter(filter).count() as u64;
        let accepted = counted(|it| it.accepted);
        let refused: u64 = RefuseReason::ALL
            .map(|reason| metrics.refused(reason))
            .iter()
            .sum();
        assert_eq!(metrics.accepted + refused, accepted, "each accepted once");
        let closed: u64 = CloseReason::ALL
            .map(|reason| metrics.closed(reason))
            .iter()
            .sum();
        assert_eq!(
            metrics.accepted,
            metrics.active + closed,
            "each closed once"
        );
        assert_eq!(metrics.active, self.control.admission.open() as u64);
        let open = counted(|it| it.is_open());
        assert_eq!(
            open,
            self.reactor.connections.len() as u64,
            "descriptors are the slab's"
        );
        assert_eq!(
            open,
            metrics.active + self.reactor.connections.refused_lingering() as u64
        );

        let backlogs: usize = self
            .reactor
            .connections
            .iter()
            .map(|(_, conn)| conn.backlog_len())
            .sum();
        assert_eq!(metrics.backlog_bytes, backlogs as u64);
        assert!(
            self.reactor
                .connections
                .iter()
                .all(|(_, conn)| conn.backlog_len() <= BUFFER)
        );
        for peer in &world.peers {
            // Of its own events and of the run queue, with some to spare.
            assert!(peer.reads_in_turn <= 3 * 4, "a greedy turn");
        }
        let now_ms = world.now_ms();
        for peer in world
            .peers
            .iter()
            .filter(|it| it.is_open() && it.server_ended)
        {
            let lingers_ms = now_ms - peer.server_ended_ms;
            assert!(
                lingers_ms <= connections::MAX_LINGER_MS + SLACK_MS,
                "lingers too long"
            );
        }
        if self.same_limits {
            self.check_limits(&world, &metrics);
        }
    }

    /// Connections were not ended before their time.
    fn check_patience(&self, world: &World) {
        for peer in world.peers.iter().filter(|it| it.is_open()) {
            let conn = peer.key.and_then(|key| self.reactor.connections.get(key));
            let (since, limit) = match conn.and_then(Conn::lingering) {
                Some(CloseReason::IdleTimeout) => (peer.last_moved_ms, self.limits.idle_timeout),
                Some(CloseReason::Lifetime) => (peer.accepted_ms, self.limits.lifetime),
                _ => continue,
            };
            let limit_ms = limit.map_or(u64::MAX, whole_ms);
            // Both ends of the time are cut to whole milliseconds.
            assert!(peer.server_ended_ms + 1 >= since + limit_ms, "ended early");
        }
    }

    fn check_limits(&self, world: &World, metrics: &Snapshot) {
        if let Some(most) = self.limits.max_connections {
            assert!(metrics.active <= most.get() as u64);
        }
        self.check_patience(world);
        let now_ms = world.now_ms();
        let is_served = |peer: &&Peer| peer.is_open() && !peer.server_ended;
        for peer in world.peers.iter().filter(is_served) {
            let at_most = |since: u64, limit: Option<Duration>| {
                limit.is_none_or(|limit| now_ms - since <= whole_ms(limit) + SLACK_MS)
            };
            assert!(
                at_most(peer.accepted_ms, self.limits.lifetime),
                "lives too long"
            );
            assert!(
                at_most(peer.last_moved_ms, self.limits.idle_timeout),
                "idles too long"
            );
        }
        if let Some(most) = self.limits.max_connections_per_ip {
            for address in ADDRESSES.into_iter().flatten() {
                let from_it = |peer: &&Peer| peer.ip == Some(address) && is_served(peer);
                let served = world.peers.iter().filter(from_it).count();
                assert!(served <= most.get(), "{served} from {address}");
            }
        }
    }

    /// What holds after the drain.
    fn check_the_end(&self) {
        let world = self.world.borrow();
        let metrics = self.reactor.context.metrics.snapshot();
        assert_eq!((metrics.active, metrics.backlog_bytes), (0, 0));
        assert_eq!(self.control.admission.open(), 0);
        let one_each = Policy::new(&Limits {
            max_connections_per_ip: NonZeroUsize::new(1),
            ..Limits::default()
        });
        for address in ADDRESSES {
            let permit = self.control.admission.acquire(&one_each, address, || 0);
            assert!(permit.is_ok(), "{address:?} still counts");
        }
        assert!(self.reactor.connections.is_empty());
        assert!(!world.listener.open);
        for peer in &world.peers {
            assert!(peer.gone || !peer.accepted, "client {} is left", peer.id);
        }
        let cut = metrics.closed(CloseReason::DrainTimeout)
            + metrics.closed(CloseReason::IdleTimeout)
            + metrics.closed(CloseReason::Stalled)
            + metrics.closed(CloseReason::Lifetime);
        let refused: u64 = RefuseReason::ALL
            .map(|reason| metrics.refused(reason))
            .iter()
            .sum();
        assert_eq!(metrics.closed(CloseReason::Error), 0);
        for peer in world.peers.iter().filter(|it| it.accepted && !it.reset) {
            assert!(!peer.cut_off || cut + refused > 0, "input was cut off");
            if peer.service == Service::Echo && cut + refused == 0 {
                assert_eq!(peer.written, peer.sent, "client {} lost an echo", peer.id);
            }
        }
        let since = self.draining_since_ms.expect("drained");
        let most = self.drain_timeout_ms + 50 + 1000 + 100;
        let took = world.now_ms() - since;
        // Steps before the end of the run may have moved the clock on.
        assert!(took <= most + STEPS as u64 * 41, "the drain took {took} ms");
    }
}

/// Limits that are met often.
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
        ..Limits::default()
    }
}
