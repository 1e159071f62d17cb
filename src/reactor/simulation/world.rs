//! Clients, network and kernel: the world in which a reactor is simulated.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;
use std::time::Duration;

use mio::Token;

use crate::net::pipe::SplicePipe;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;
use crate::reactor::Kernel;
use crate::reactor::token::{Source, TokenLayout};
use crate::service::{Service, chargen};

/// Turns without sleep, event or outcome that interruptions may explain.
pub(super) const MOST_IDLE_TURNS: usize = 20;

pub(super) const EINTR: i32 = 4;
pub(super) const ENOMEM: i32 = 12;
pub(super) const EAGAIN: i32 = 11;
pub(super) const EMFILE: i32 = 24;
pub(super) const ECONNABORTED: i32 = 103;
pub(super) const ECONNRESET: i32 = 104;
pub(super) const ENOBUFS: i32 = 105;
pub(super) const ENOTCONN: i32 = 107;

/// The simulated addresses: few, so that limits per address are met.
pub(super) const ADDRESSES: [Option<IpAddr>; 4] = [
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2))),
    Some(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
    None,
];

/// splitmix64 (Steele, Lea and Flood, 2014).
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(super) fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }
}

/// What clients and kernel know.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) now_ns: u64,
    pub(super) peers: Vec<Peer>,
    /// Completed connections that nobody accepted yet.
    pub(super) queue: VecDeque<usize>,
    pub(super) listener: SimListener,
    /// What accept(2) answers for now.
    pub(super) accept_fault: Option<i32>,
    /// Turns in a row in which the loop did not sleep and nothing came of it.
    pub(super) idle_turns: usize,
    /// Whether calls on connections are interrupted or find no memory now and then.
    pub(super) faults: bool,
}

pub(super) struct SimListener {
    pub(super) open: bool,
    pub(super) refusing: bool,
    pub(super) edge: bool,
}

/// One client, its connection, and the server's end of it.
pub(super) struct Peer {
    pub(super) id: usize,
    pub(super) service: Service,
    pub(super) ip: Option<IpAddr>,
    /// The server's slab key, once it watches the connection.
    pub(super) key: Option<usize>,
    /// An edge is owed.
    pub(super) edge: bool,
    /// Bytes that arrived at the server, and of these, read by it.
    pub(super) sent: u64,
    pub(super) read: u64,
    /// Where urgent bytes lie that were not read yet.
    pub(super) marks: VecDeque<u64>,
    pub(super) ended: bool,
    pub(super) reset: bool,
    /// Bytes that the server wrote, and of these, taken by the client.
    pub(super) written: u64,
    pub(super) taken: u64,
    pub(super) room: u64,
    pub(super) found_no_room: bool,
    pub(super) server_ended: bool,
    pub(super) server_ended_ms: u64,
    pub(super) accepted: bool,
    /// The server closed its socket.
    pub(super) gone: bool,
    /// It did so with unread input, which resets the connection.
    pub(super) cut_off: bool,
    pub(super) accepted_ms: u64,
    pub(super) last_moved_ms: u64,
    pub(super) reads_in_turn: usize,
}

impl Peer {
    pub(super) fn byte(&self, offset: u64) -> u8 {
        (self.id as u64)
            .wrapping_mul(0x9e37)
            .wrapping_add(offset)
            .wrapping_mul(0x2545_f491)
            .to_le_bytes()[2]
    }

    pub(super) fn readiness(&self) -> Readiness {
        let hangup = self.ended || self.reset;
        let when = |holds: bool, what: Readiness| if holds { what } else { Readiness::NONE };
        when(self.sent > self.read || hangup, Readiness::READABLE)
            | when(
                self.written - self.taken < self.room || hangup,
                Readiness::WRITABLE,
            )
            | when(hangup, Readiness::HANGUP)
            | when(!self.marks.is_empty(), Readiness::URGENT)
    }

    pub(super) fn is_open(&self) -> bool {
        self.accepted && !self.gone
    }
}

impl World {
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ns / 1_000_000
    }

    pub(super) fn fault(&mut self) -> Option<i32> {
        let faults = self.faults;
        match self.random.below(24) {
            0 if faults => Some(EINTR),
            1 if faults => Some(ENOBUFS),
            2 if faults => Some(ENOMEM),
            _ => None,
        }
    }

    /// A client that is connected, at random, of those that the server has not closed.
    pub(super) fn some_peer(&mut self) -> Option<&mut Peer> {
        let count = self.peers.len() as u64;
        let start = self.random.below(count.max(1)) as usize;
        let (before, after) = self.peers.split_at_mut(start.min(count as usize));
        let mut open = after.iter_mut().chain(before).filter(|it| !it.gone);
        open.next()
    }
}

/// The server's end of a client's connection. Dropping it closes the socket.
pub(super) struct SimStream {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) id: usize,
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

pub(super) fn error<T>(errno: i32) -> io::Result<T> {
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
    type Pipe = SplicePipe;

    fn open_pipe(&self) -> io::Result<SplicePipe> {
        error(22)
    }

    fn fill(&mut self, _: &mut SplicePipe, _: usize) -> io::Result<usize> {
        error(22)
    }

    fn pour(&mut self, _: &mut SplicePipe) -> io::Result<usize> {
        error(22)
    }

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

impl World {
    pub(super) fn connect(&mut self, service: Service) {
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

    pub(super) fn send(&mut self) {
        let large = self.random.one_in(4);
        let count = 1 + self.random.below(if large { 400 } else { 40 });
        if let Some(peer) = self.some_peer().filter(|it| !it.ended && !it.reset) {
            peer.sent += count;
            peer.edge = true;
        }
    }

    pub(super) fn send_urgently(&mut self) {
        if let Some(peer) = self.some_peer().filter(|it| !it.ended && !it.reset) {
            // Only the last urgent byte is remembered (tcp(7)).
            peer.marks.clear();
            peer.marks.push_back(peer.sent);
            peer.sent += 1;
            peer.edge = true;
        }
    }

    pub(super) fn take(&mut self) {
        let count = 1 + self.random.below(100);
        if let Some(peer) = self.some_peer() {
            peer.take(count);
        }
    }

    pub(super) fn end(&mut self) {
        if let Some(peer) = self.some_peer().filter(|it| !it.ended) {
            peer.ended = true;
            peer.edge = true;
        }
    }

    pub(super) fn reset(&mut self) {
        if let Some(peer) = self.some_peer().filter(|it| it.accepted) {
            peer.reset = true;
            peer.edge = true;
        }
    }

    pub(super) fn accept_fault_ends(&mut self) {
        self.accept_fault = None;
    }
}

impl Peer {
    /// The client reads.
    pub(super) fn take(&mut self, most: u64) {
        let count = most.min(self.written - self.taken);
        self.taken += count;
        if count > 0 && std::mem::take(&mut self.found_no_room) {
            self.edge = true;
        }
    }
}

/// The simulated kernel as the reactor sees it.
pub(super) struct Simulated {
    pub(super) world: Rc<RefCell<World>>,
}

impl Kernel for Simulated {
    type Stream = SimStream;
    type Datagrams = crate::udp::EpollSocket;
    type Events = Vec<(Token, Readiness)>;

    fn wait(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        let layout = TokenLayout::new(1, 0);
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
            let token = Source::Listener(0).token(layout);
            events.push((token, Readiness::READABLE));
        }
        for peer in &mut world.peers {
            peer.reads_in_turn = 0;
            if let (Some(key), true) = (peer.key, peer.edge)
                && events.len() < most
            {
                peer.edge = false;
                events.push((Source::Conn(key).token(layout), peer.readiness()));
            }
        }
        // An event that nobody needed is legal.
        if world.random.one_in(10)
            && let Some(peer) = world.some_peer()
            && let Some(key) = peer.key
        {
            events.push((Source::Conn(key).token(layout), peer.readiness()));
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

    fn register(&mut self, stream: &mut SimStream, key: usize) -> io::Result<()> {
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

    fn wake(&self, _: usize) {}

    fn release(&mut self, _: usize) {
        self.world.borrow_mut().listener.open = false;
    }
}

/// The loop is about to sleep and no event is owed: then there is nothing that it could do, unless a
/// timer will remind it.
pub(super) fn check_nobody_waits_in_vain(world: &World, timeout: Option<Duration>) {
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
