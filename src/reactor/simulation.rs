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
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use mio::Token;

use super::*;
use crate::admission::Policy;
use crate::config::Limits;
use crate::conn::Readiness;
use crate::metrics::{RefuseReason, Snapshot};
use crate::service::{Service, chargen};
use crate::stream::Stream;
use crate::watch::whole_ms;

/// Worlds in one run of the test.
const SEEDS: u64 = 3000;
/// Steps of each before everybody goes home.
const STEPS: usize = 250;
/// The reactor's buffer: small, so that everything happens often.
const BUFFER: usize = 32;
/// The most that simulated time moves on between a deadline and the turn in which it is seen.
const SLACK_MS: u64 = 45;

/// Turns without sleep, event or outcome that interruptions may explain.
const MOST_IDLE_TURNS: usize = 20;

const EINTR: i32 = 4;
const ENOMEM: i32 = 12;
const EAGAIN: i32 = 11;
const EMFILE: i32 = 24;
const ECONNABORTED: i32 = 103;
const ECONNRESET: i32 = 104;
const ENOBUFS: i32 = 105;
const ENOTCONN: i32 = 107;

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

/// splitmix64 (Steele, Lea and Flood, 2014).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What clients and kernel know.
struct World {
    random: Random,
    now_ns: u64,
    peers: Vec<Peer>,
    /// Completed connections that nobody accepted yet.
    queue: VecDeque<usize>,
    listener: SimListener,
    /// What accept(2) answers for now.
    accept_fault: Option<i32>,
    /// Turns in a row in which the loop did not sleep and nothing came of it.
    idle_turns: usize,
    /// Whether calls on connections are interrupted or find no memory now and then.
    faults: bool,
}

struct SimListener {
    open: bool,
    refusing: bool,
    edge: bool,
}

/// One client, its connection, and the server's end of it.
struct Peer {
    id: usize,
    service: Service,
    ip: Option<IpAddr>,
    /// The server's slab key, once it watches the connection.
    key: Option<usize>,
    /// An edge is owed.
    edge: bool,
    /// Bytes that arrived at the server, and of these, read by it.
    sent: u64,
    read: u64,
    /// Where urgent bytes lie that were not read yet.
    marks: VecDeque<u64>,
    ended: bool,
    reset: bool,
    /// Bytes that the server wrote, and of these, taken by the client.
    written: u64,
    taken: u64,
    room: u64,
    found_no_room: bool,
    server_ended: bool,
    server_ended_ms: u64,
    accepted: bool,
    /// The server closed its socket.
    gone: bool,
    /// It did so with unread input, which resets the connection.
    cut_off: bool,
    accepted_ms: u64,
    last_moved_ms: u64,
    reads_in_turn: usize,
}

impl Peer {
    fn byte(&self, offset: u64) -> u8 {
        (self.id as u64)
            .wrapping_mul(0x9e37)
            .wrapping_add(offset)
            .wrapping_mul(0x2545_f491)
            .to_le_bytes()[2]
    }

    fn readiness(&self) -> Readiness {
        let hangup = self.ended || self.reset;
        Readiness {
            readable: self.sent > self.read || hangup,
            writable: self.written - self.taken < self.room || hangup,
            hangup,
            urgent: !self.marks.is_empty(),
        }
    }

    fn is_open(&self) -> bool {
        self.accepted && !self.gone
    }
}

impl World {
    fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    fn fault(&mut self) -> Option<i32> {
        let faults = self.faults;
        match self.random.below(24) {
            0 if faults => Some(EINTR),
            1 if faults => Some(ENOBUFS),
            2 if faults => Some(ENOMEM),
            _ => None,
        }
    }

    /// A client that is connected, at random, of those that the server has not closed.
    fn some_peer(&mut self) -> Option<&mut Peer> {
        let count = self.peers.len() as u64;
        let start = self.random.below(count.max(1)) as usize;
        let (before, after) = self.peers.split_at_mut(start.min(count as usize));
        let mut open = after.iter_mut().chain(before).filter(|it| !it.gone);
        open.next()
    }
}

/// The server's end of a client's connection. Dropping it closes the socket.
struct SimStream {
    world: Rc<RefCell<World>>,
    id: usize,
}

impl Drop for SimStream {
    fn drop(&mut self) {
        // A failed check unwinds through a borrow.
        if std::thread::panicking() {
            return;
        }
        let mut world = self.world.borrow_mut();
        let peer = &mut world.peers[self.id];
        assert!(!peer.gone, "closed twice");
        peer.gone = true;
        peer.key = None;
        peer.edge = false;
        peer.cut_off = peer.sent > peer.read && !peer.reset;
        // Without unread input close(2) sends an end behind the last byte.
        peer.server_ended = true;
    }
}

impl std::fmt::Debug for SimStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "client {}", self.id)
    }
}

fn error<T>(errno: i32) -> io::Result<T> {
    Err(io::Error::from_raw_os_error(errno))
}

impl Read for SimStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault() {
            return error(errno);
        }
        let now_ms = world.now_ms();
        let peer = &mut world.peers[self.id];
        peer.reads_in_turn += 1;
        if peer.reset {
            return error(ECONNRESET);
        }
        if peer.service == Service::Echo && !peer.server_ended {
            assert_eq!(peer.read, peer.written, "read while a backlog waits");
        }
        while peer.marks.front().is_some_and(|&mark| mark < peer.read) {
            peer.marks.pop_front();
        }
        // A read ends before an urgent byte, unless it begins with it (tcp_recvmsg).
        let stop = peer.marks.iter().copied().find(|&mark| mark > peer.read);
        let available = stop.unwrap_or(peer.sent) - peer.read;
        let count = available.min(buffer.len() as u64);
        if count == 0 {
            return if peer.ended { Ok(0) } else { error(EAGAIN) };
        }
        for (at, byte) in buffer[..count as usize].iter_mut().enumerate() {
            *byte = peer.byte(peer.read + at as u64);
        }
        peer.read += count;
        if !peer.server_ended {
            peer.last_moved_ms = now_ms;
        }
        world.idle_turns = 0;
        let peer = &mut world.peers[self.id];
        while peer.marks.front().is_some_and(|&mark| mark < peer.read) {
            peer.marks.pop_front();
        }
        Ok(count as usize)
    }
}

impl Write for SimStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut world = self.world.borrow_mut();
        if let Some(errno) = world.fault() {
            return error(errno);
        }
        let now_ms = world.now_ms();
        let short = world.random.one_in(4);
        let most = if short {
            1 + world.random.below(8)
        } else {
            u64::MAX
        };
        let peer = &mut world.peers[self.id];
        assert!(!peer.server_ended, "wrote after its end");
        if peer.reset {
            return error(ECONNRESET);
        }
        let room = peer.room - (peer.written - peer.taken);
        if room == 0 {
            peer.found_no_room = true;
            return error(EAGAIN);
        }
        let count = room.min(bytes.len() as u64).min(most);
        for (at, &byte) in bytes[..count as usize].iter().enumerate() {
            let offset = peer.written + at as u64;
            let expected = match peer.service {
                Service::Echo => peer.byte(offset),
                Service::Chargen => chargen::from(offset as usize % chargen::CYCLE, 1)[0],
                Service::Discard => panic!("discard answers nothing"),
            };
            assert_eq!(byte, expected, "byte {offset} of client {}", self.id);
        }
        peer.written += count;
        peer.last_moved_ms = now_ms;
        if peer.service == Service::Echo {
            assert!(peer.written <= peer.read, "echoed what was not read");
        }
        world.idle_turns = 0;
        Ok(count as usize)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for SimStream {
    fn shutdown_write(&mut self) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let now_ms = world.now_ms();
        let peer = &mut world.peers[self.id];
        if peer.reset {
            return error(ENOTCONN);
        }
        peer.server_ended = true;
        peer.server_ended_ms = now_ms;
        Ok(())
    }

    fn drained_by_short_read(&self) -> bool {
        true
    }
}

/// The simulated kernel as the reactor sees it.
struct Simulated {
    world: Rc<RefCell<World>>,
}

impl Kernel for Simulated {
    type Stream = SimStream;
    type Events = Vec<(Token, Readiness)>;

    fn wait(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let fixed = Fixed {
            listeners: 1,
            datagrams: 0,
        };
        events.clear();
        let few = world.random.one_in(3);
        let most = if few {
            1 + world.random.below(3) as usize
        } else {
            usize::MAX
        };
        let owed = world.peers.iter().any(|it| it.edge && it.key.is_some()) || world.listener.edge;
        if owed || timeout != Some(Duration::ZERO) {
            world.idle_turns = 0;
        } else {
            // Interruptions and the like explain some.
            world.idle_turns += 1;
            assert!(world.idle_turns < MOST_IDLE_TURNS, "spins");
        }
        if !owed && timeout != Some(Duration::ZERO) {
            check_nobody_waits_in_vain(&world, timeout);
        }
        if std::mem::take(&mut world.listener.edge) {
            let token = Source::Listener(0).token(fixed);
            events.push((token, READABLE));
        }
        for peer in &mut world.peers {
            peer.reads_in_turn = 0;
            if let (Some(key), true) = (peer.key, peer.edge)
                && events.len() < most
            {
                peer.edge = false;
                events.push((Source::Conn(key).token(fixed), peer.readiness()));
            }
        }
        // An event that nobody needed is legal.
        if world.random.one_in(10)
            && let Some(peer) = world.some_peer()
            && let Some(key) = peer.key
        {
            events.push((Source::Conn(key).token(fixed), peer.readiness()));
        }
        if events.is_empty()
            && let Some(timeout) = timeout
        {
            let slept = if world.random.one_in(2) {
                timeout
            } else {
                timeout / 2
            };
            world.now_ns += slept.as_nanos() as u64;
        }
        // Everything takes time.
        world.now_ns += world.random.below(200_000);
        Ok(())
    }

    fn reports(events: &Self::Events) -> impl Iterator<Item = (Token, Readiness)> {
        events.iter().copied()
    }

    fn now_ns(&self) -> u64 {
        self.world.borrow().now_ns
    }

    fn accept(&mut self, _: usize) -> io::Result<(SimStream, Option<IpAddr>)> {
        let mut world = self.world.borrow_mut();
        assert!(world.listener.open, "accepts on a closed listener");
        if let Some(errno) = world.accept_fault {
            if errno == ECONNABORTED {
                world.accept_fault = None;
            }
            return error(errno);
        }
        let Some(id) = world.queue.pop_front() else {
            return error(EAGAIN);
        };
        world.idle_turns = 0;
        let now_ms = world.now_ms();
        let peer = &mut world.peers[id];
        peer.accepted = true;
        peer.accepted_ms = now_ms;
        peer.last_moved_ms = now_ms;
        let ip = peer.ip;
        let stream = SimStream {
            world: Rc::clone(&self.world),
            id,
        };
        Ok((stream, ip))
    }

    fn watch(&mut self, stream: &mut SimStream, key: usize) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let occupied = world.peers.iter().any(|it| it.key == Some(key));
        assert!(!occupied, "key {key} is in use");
        let peer = &mut world.peers[stream.id];
        peer.key = Some(key);
        // A new registration reports what is ready already; being writable is enough.
        peer.edge = true;
        Ok(())
    }

    fn refuse_new(&mut self, _: usize) -> io::Result<()> {
        self.world.borrow_mut().listener.refusing = true;
        Ok(())
    }

    fn close(&mut self, _: usize) {
        let mut world = self.world.borrow_mut();
        let lost = world.queue.len();
        assert!(
            lost == 0 || world.accept_fault.is_some(),
            "{lost} completed connections were lost"
        );
        world.listener.open = false;
    }

    fn release(&mut self, _: usize) {
        self.world.borrow_mut().listener.open = false;
    }
}

const READABLE: Readiness = Readiness {
    readable: true,
    writable: false,
    hangup: false,
    urgent: false,
};

/// The loop is about to sleep and no event is owed: then there is nothing that it could do, unless a
/// timer will remind it.
fn check_nobody_waits_in_vain(world: &World, timeout: Option<Duration>) {
    if timeout.is_some_and(|timeout| timeout <= Duration::from_millis(100)) {
        // Perhaps it waits for memory or descriptors.
        return;
    }
    assert!(
        world.queue.is_empty() || !world.listener.open,
        "sleeps while connections wait to be accepted"
    );
    for peer in world.peers.iter().filter(|it| it.is_open()) {
        let id = peer.id;
        assert!(!peer.reset, "sleeps although client {id} is gone");
        let has_room = peer.written - peer.taken < peer.room;
        let has_backlog = peer.service == Service::Echo && peer.read > peer.written;
        let has_input = peer.sent > peer.read || peer.ended;
        let may_write = has_room && !peer.server_ended;
        let wants_to_write = has_backlog || peer.service == Service::Chargen;
        assert!(
            !(wants_to_write && may_write),
            "sleeps although client {id} has room for what waits"
        );
        // The end of the input is no end for chargen, and was noticed already.
        let ended_chargen = peer.service == Service::Chargen && peer.sent == peer.read;
        assert!(
            !has_input || ended_chargen || (has_backlog && !peer.server_ended),
            "sleeps although client {id} sent something"
        );
    }
}

/// The simulated addresses: few, so that limits per address are met.
const ADDRESSES: [Option<IpAddr>; 4] = [
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
    Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
    None,
];

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
        let reactor = Reactor::new(0, kernel, vec![listening], &config, Arc::clone(&control));
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
        self.reactor.metrics.snapshot()
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
        self.reactor.woken = true;
    }

    fn drain(&mut self) {
        self.control.ask(Wish::Drain);
        self.reactor.woken = true;
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
        let metrics = self.reactor.metrics.snapshot();
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
            self.reactor.conns.len() as u64,
            "descriptors are the slab's"
        );
        assert_eq!(open, metrics.active + self.reactor.refused_lingering as u64);

        let backlogs: usize = self
            .reactor
            .conns
            .iter()
            .map(|(_, conn)| conn.backlog_len())
            .sum();
        assert_eq!(metrics.backlog_bytes, backlogs as u64);
        assert!(
            self.reactor
                .conns
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
            assert!(lingers_ms <= LINGER_MS + SLACK_MS, "lingers too long");
        }
        if self.same_limits {
            self.check_limits(&world, &metrics);
        }
    }

    /// Connections were not ended before their time.
    fn check_patience(&self, world: &World) {
        for peer in world.peers.iter().filter(|it| it.is_open()) {
            let conn = peer.key.and_then(|key| self.reactor.conns.get(key));
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
        let metrics = self.reactor.metrics.snapshot();
        assert_eq!((metrics.active, metrics.backlog_bytes), (0, 0));
        assert_eq!(self.control.admission.open(), 0);
        let one_each = Policy::new(&Limits {
            max_connections_per_ip: NonZeroUsize::new(1),
            ..Limits::default()
        });
        for address in ADDRESSES {
            let place = self.control.admission.enter(&one_each, address, || 0);
            assert!(place.is_ok(), "{address:?} still counts");
        }
        assert!(self.reactor.conns.is_empty() && self.reactor.closed.is_empty());
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

impl World {
    fn connect(&mut self, service: Service) {
        if !self.listener.open || self.listener.refusing {
            return;
        }
        let id = self.peers.len();
        let room = 1 + self.random.below(200);
        self.peers.push(Peer {
            id,
            service,
            ip: ADDRESSES[self.random.below(ADDRESSES.len() as u64) as usize],
            key: None,
            edge: false,
            sent: 0,
            read: 0,
            marks: VecDeque::new(),
            ended: false,
            reset: false,
            written: 0,
            taken: 0,
            room,
            found_no_room: false,
            server_ended: false,
            server_ended_ms: 0,
            accepted: false,
            gone: false,
            cut_off: false,
            accepted_ms: 0,
            last_moved_ms: 0,
            reads_in_turn: 0,
        });
        self.queue.push_back(id);
        self.listener.edge = true;
    }

    fn send(&mut self) {
        let large = self.random.one_in(4);
        let count = 1 + self.random.below(if large { 400 } else { 40 });
        if let Some(peer) = self.some_peer().filter(|it| !it.ended && !it.reset) {
            peer.sent += count;
            peer.edge = true;
        }
    }

    fn send_urgently(&mut self) {
        if let Some(peer) = self.some_peer().filter(|it| !it.ended && !it.reset) {
            // Only the last urgent byte is remembered (tcp(7)).
            peer.marks.clear();
            peer.marks.push_back(peer.sent);
            peer.sent += 1;
            peer.edge = true;
        }
    }

    fn take(&mut self) {
        let count = 1 + self.random.below(100);
        if let Some(peer) = self.some_peer() {
            peer.take(count);
        }
    }

    fn end(&mut self) {
        if let Some(peer) = self.some_peer().filter(|it| !it.ended) {
            peer.ended = true;
            peer.edge = true;
        }
    }

    fn reset(&mut self) {
        if let Some(peer) = self.some_peer().filter(|it| it.accepted) {
            peer.reset = true;
            peer.edge = true;
        }
    }

    fn accept_fault_ends(&mut self) {
        self.accept_fault = None;
    }
}

impl Peer {
    /// The client reads.
    fn take(&mut self, most: u64) {
        let count = most.min(self.written - self.taken);
        self.taken += count;
        if count > 0 && std::mem::take(&mut self.found_no_room) {
            self.edge = true;
        }
    }
}
