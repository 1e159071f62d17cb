//! Clients, network and kernel: the world in which servers are simulated.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV4};

use super::tls::{ClientConfigs, Secured};
use crate::net::readiness::Readiness;
use crate::reactor::connections::Security;
use crate::service::Service;

/// Workers of each server.
pub(super) const WORKERS: usize = 2;

pub(super) const EINTR: i32 = 4;
pub(super) const EAGAIN: i32 = 11;
pub(super) const ENOMEM: i32 = 12;
pub(super) const EMFILE: i32 = 24;
pub(super) const ENOSPC: i32 = 28;
pub(super) const EPERM: i32 = 1;
pub(super) const ECONNABORTED: i32 = 103;
pub(super) const ECONNRESET: i32 = 104;
pub(super) const ENOBUFS: i32 = 105;
pub(super) const ENOTCONN: i32 = 107;

/// Datagrams that a socket's receive buffer holds; further ones are dropped.
const MAX_DATAGRAMS: usize = 40;
/// The port of the servers' UDP sockets.
pub(super) const UDP_PORT: u16 = 7777;

/// The simulated addresses: few, so that limits per address are reached.
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

    pub(super) fn some<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len() as u64) as usize]
    }
}

/// A worker of one generation of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct WorkerId {
    pub(super) generation: usize,
    pub(super) worker: usize,
}

impl WorkerId {
    fn index(self) -> usize {
        self.generation * WORKERS + self.worker
    }
}

/// The state of clients and kernel.
pub(super) struct World {
    pub(super) random: Random,
    pub(super) now_ns: u64,
    pub(super) clients: Vec<Client>,
    pub(super) listeners: Vec<ListenSocket>,
    pub(super) datagrams: Vec<DatagramQueue>,
    workers: Vec<Thread>,
    /// Servers that must leave their sockets to their successors.
    pub(super) leaving: Vec<usize>,
    /// The error that accept(2) returns for now.
    pub(super) accept_fault: Option<i32>,
    /// The TLS of its clients, if a listener has it.
    pub(super) client_tls: Option<ClientConfigs>,
    /// Whether calls on connections sometimes fail with EINTR or for lack of memory.
    pub(super) faults: bool,
    /// Whether a server holds answers back on order, and reads on meanwhile.
    pub(super) holds_back: bool,
}

/// The kernel's state of a worker's thread.
#[derive(Default)]
pub(super) struct Thread {
    /// Its waker's event is owed.
    pub(super) woken: bool,
    /// Turns in a row without sleep and without progress.
    pub(super) idle_turns: usize,
    /// When it wakes without an event; `None`: never.
    pub(super) sleeps_until_ns: Option<u64>,
    /// The time of its alarm, until it has fired.
    pub(super) alarm_ns: Option<u64>,
}

/// A listening socket, possibly shared by two servers.
pub(super) struct ListenSocket {
    pub(super) service: Service,
    pub(super) kind: Kind,
    pub(super) security: Security,
    /// Completed connections that were not accepted yet.
    pub(super) queue: VecDeque<usize>,
    pub(super) is_refusing: bool,
    pub(super) holders: Vec<Holder>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    Tcp,
    Unix,
}

/// A worker that has a socket in its epoll instance.
pub(super) struct Holder {
    pub(super) worker: WorkerId,
    /// An event is owed.
    pub(super) edge: bool,
    /// The registered interest of a UDP socket; a listener's is always reading.
    pub(super) interest: Readiness,
}

/// A UDP socket, possibly shared by two servers.
pub(super) struct DatagramQueue {
    pub(super) service: Service,
    pub(super) queue: VecDeque<(SocketAddrV4, Vec<u8>)>,
    /// Datagrams that it accepts before it would block.
    pub(super) room: usize,
    pub(super) holders: Vec<Holder>,
    /// Requests that were received and not yet answered.
    pub(super) open_requests: Vec<(SocketAddrV4, Vec<u8>)>,
    pub(super) received: u64,
    pub(super) answered: u64,
}

/// One client, its connection, and the server's end of it.
pub(super) struct Client {
    pub(super) id: usize,
    pub(super) service: Service,
    pub(super) kind: Kind,
    pub(super) ip: Option<IpAddr>,
    /// With TLS, its bytes are records.
    pub(super) secured: Option<Box<Secured>>,
    /// The server that accepted it.
    pub(super) accepted_by: Option<usize>,
    /// The worker that serves it and its slab key there.
    pub(super) key: Option<(WorkerId, usize)>,
    /// An edge is owed.
    pub(super) edge: bool,
    /// Bytes that arrived at the server; `read` counts those that it read.
    pub(super) sent: u64,
    pub(super) read: u64,
    /// Bytes that it has seen: `read` or more.
    pub(super) peeked: u64,
    /// The positions of unread urgent bytes.
    pub(super) marks: VecDeque<u64>,
    pub(super) ended: bool,
    pub(super) reset: bool,
    /// Bytes that the server wrote; `taken` counts those that the client read.
    pub(super) written: u64,
    pub(super) taken: u64,
    pub(super) room: u64,
    pub(super) found_no_room: bool,
    pub(super) server_ended: bool,
    pub(super) server_ended_ms: u64,
    /// The server closed its socket.
    pub(super) gone: bool,
    /// Closing it will reset it.
    pub(super) resets_on_close: bool,
    /// The server closed it such that it was reset.
    pub(super) cut_off: bool,
    /// It had sent more than came back when the server half-closed it.
    pub(super) was_cut_at_end: bool,
    /// Its server holds answers back on order.
    pub(super) is_held_back: bool,
    /// When the server began to end it by its own decision.
    pub(super) lingers_since_ms: Option<u64>,
    pub(super) accepted_ms: u64,
    pub(super) last_moved_ms: u64,
    pub(super) turn: ClientTurn,
}

/// What a turn of a connection's worker did with it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ClientTurn {
    pub(super) reads: usize,
    /// Reports of the kernel.
    pub(super) events: usize,
    /// It had yielded before.
    pub(super) was_queued: bool,
    /// Entries of its key in the run queue.
    pub(super) queue_entries: usize,
    /// It lingered before.
    pub(super) was_lingering: bool,
    /// The server half-closed it.
    pub(super) was_ended: bool,
}

impl Client {
    pub(super) fn byte(&self, offset: u64) -> u8 {
        Self::byte_of(self.id, offset)
    }

    pub(super) fn byte_of(id: usize, offset: u64) -> u8 {
        (id as u64)
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
        self.accepted_by.is_some() && !self.gone
    }

    /// Whether it waits in a worker's inbox.
    pub(super) fn is_handed_off(&self) -> bool {
        self.is_open() && self.key.is_none()
    }

    pub(super) fn is_served_by(&self, id: WorkerId) -> bool {
        self.key.is_some_and(|(worker, _)| worker == id)
    }

    /// Bytes that a call can take, up to the next urgent mark that stops it.
    pub(super) fn available(&self, is_before_mark: impl Fn(u64, u64) -> bool) -> u64 {
        let mut marks = self.marks.iter().copied();
        let stop = marks.find(|&mark| is_before_mark(self.read, mark));
        stop.unwrap_or(self.sent) - self.read
    }

    /// Records input that the server took.
    pub(super) fn take_input(&mut self, count: u64, now_ms: u64) {
        self.read += count;
        self.peeked = self.peeked.max(self.read);
        if !self.server_ended {
            self.last_moved_ms = now_ms;
        }
        self.forget_passed_marks();
    }

    pub(super) fn forget_passed_marks(&mut self) {
        while self.marks.front().is_some_and(|&mark| mark < self.read) {
            self.marks.pop_front();
        }
    }

    /// The client reads.
    pub(super) fn take(&mut self, max: u64) {
        let count = max.min(self.written - self.taken);
        self.taken += count;
        if count > 0 && std::mem::take(&mut self.found_no_room) {
            self.edge = true;
        }
    }
}

impl World {
    pub(super) fn new(random: Random, faults: bool) -> Self {
        Self {
            random,
            now_ns: 1_000_000_000,
            clients: Vec::new(),
            listeners: Vec::new(),
            datagrams: Vec::new(),
            workers: Vec::new(),
            leaving: Vec::new(),
            accept_fault: None,
            client_tls: None,
            faults,
            holds_back: false,
        }
    }

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

    pub(super) fn thread(&mut self, id: WorkerId) -> &mut Thread {
        if self.workers.len() <= id.index() {
            self.workers.resize_with(id.index() + 1, Thread::default);
        }
        &mut self.workers[id.index()]
    }

    /// Records progress in a worker's turn.
    pub(super) fn note_progress(&mut self, id: WorkerId) {
        self.thread(id).idle_turns = 0;
    }

    /// Whether an event is owed to a worker.
    pub(super) fn is_owed(&mut self, id: WorkerId) -> bool {
        let owes = |it: &Holder| it.worker == id && it.edge;
        self.thread(id).woken
            || self.listeners.iter().any(|it| it.holders.iter().any(owes))
            || self.datagrams.iter().any(|it| it.holders.iter().any(owes))
            || self.clients.iter().any(|it| it.edge && it.is_served_by(id))
    }

    /// A random client whose connection the server has not closed.
    pub(super) fn some_client(&mut self) -> Option<&mut Client> {
        let count = self.clients.len() as u64;
        let start = self.random.below(count.max(1)) as usize;
        let (before, after) = self.clients.split_at_mut(start.min(count as usize));
        let mut open = after.iter_mut().chain(before).filter(|it| !it.gone);
        open.next()
    }

    pub(super) fn connect(&mut self) {
        let listener = self.random.below(self.listeners.len() as u64) as usize;
        let ip = self.random.some(&ADDRESSES);
        let mut room = 1 + self.random.below(200);
        let socket = &mut self.listeners[listener];
        if socket.holders.is_empty() || socket.is_refusing {
            return;
        }
        let id = self.clients.len();
        let mut secured = None;
        if socket.security == Security::Tls
            && let Some(configs) = &self.client_tls
        {
            secured = Some(Box::new(Secured::new(configs, &mut self.random)));
            if self.random.one_in(2) {
                // A server's flight fits.
                room += 4000;
            }
        }
        self.clients.push(Client {
            id,
            service: socket.service,
            kind: socket.kind,
            ip: match socket.kind {
                Kind::Tcp => ip,
                Kind::Unix => None,
            },
            secured,
            accepted_by: None,
            key: None,
            edge: false,
            sent: 0,
            read: 0,
            peeked: 0,
            marks: VecDeque::new(),
            ended: false,
            reset: false,
            written: 0,
            taken: 0,
            room,
            found_no_room: false,
            server_ended: false,
            server_ended_ms: 0,
            gone: false,
            resets_on_close: false,
            cut_off: false,
            was_cut_at_end: false,
            is_held_back: false,
            lingers_since_ms: None,
            accepted_ms: 0,
            last_moved_ms: 0,
            turn: ClientTurn::default(),
        });
        socket.queue.push_back(id);
        for holder in &mut socket.holders {
            holder.edge = true;
        }
    }

    pub(super) fn send(&mut self) {
        let large = self.random.one_in(4);
        let count = 1 + self.random.below(if large { 400 } else { 40 });
        // Of the records of a client with TLS.
        let most = 1 + self.random.below(if large { 40_000 } else { 300 });
        let is_garbage = self.random.one_in(60);
        let garbage = if is_garbage { count } else { 0 };
        if let Some(client) = self.some_client().filter(|it| !it.ended && !it.reset) {
            if client.secured.is_some() {
                // Sometimes a record that is longer than any buffer of the server's.
                let count = if large { 50 * count } else { count };
                client.send_secured(count, most, garbage);
                return;
            }
            client.sent += count;
            client.edge = true;
        }
    }

    pub(super) fn send_urgently(&mut self) {
        let client = self.some_client();
        if let Some(client) = client.filter(|it| !it.ended && !it.reset && it.secured.is_none()) {
            // Only the last urgent byte is remembered (tcp(7)).
            client.marks.clear();
            client.marks.push_back(client.sent);
            client.sent += 1;
            client.edge = true;
        }
    }

    pub(super) fn take(&mut self) {
        let count = 1 + self.random.below(100);
        if let Some(client) = self.some_client() {
            if client.secured.is_some() {
                client.take_secured(20 * count);
                return;
            }
            client.take(count);
        }
    }

    pub(super) fn end(&mut self) {
        let (is_cut, is_at_once) = (self.random.one_in(4), self.random.one_in(2));
        if let Some(client) = self.some_client().filter(|it| !it.ended) {
            if client.secured.is_some() {
                client.end_secured(is_cut, is_at_once);
                return;
            }
            client.ended = true;
            client.edge = true;
        }
    }

    pub(super) fn reset(&mut self) {
        if let Some(client) = self.some_client().filter(|it| it.accepted_by.is_some()) {
            client.reset = true;
            client.edge = true;
        }
    }

    /// Clients with TLS that wait for nothing do what they can.
    pub(super) fn let_clients_go_on(&mut self) {
        for client in self.clients.iter_mut().filter(|it| it.secured.is_some()) {
            client.go_on();
        }
    }

    /// Some datagrams arrive: from clients, and a few that no server may answer.
    pub(super) fn send_datagrams(&mut self) {
        let index = self.random.below(self.datagrams.len() as u64) as usize;
        let many = self.random.one_in(4);
        for _ in 0..1 + self.random.below(if many { 60 } else { 3 }) {
            let port = match self.random.below(10) {
                0 => 53,
                1 => UDP_PORT,
                _ => 40_000 + self.random.below(5) as u16,
            };
            let host = self.random.below(3) as u8;
            let source = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, host), port);
            let len = self.random.below(30);
            let payload = (0..len).map(|_| self.random.next() as u8).collect();
            let socket = &mut self.datagrams[index];
            if socket.queue.len() < MAX_DATAGRAMS && !socket.holders.is_empty() {
                socket.queue.push_back((source, payload));
            }
        }
        self.datagrams[index].report(Readiness::READABLE);
    }

    /// The send buffer of a UDP socket fills up, or has room again.
    pub(super) fn change_room(&mut self) {
        let index = self.random.below(self.datagrams.len() as u64) as usize;
        let room = self.random.some(&[0, 1, 5, usize::MAX]);
        let socket = &mut self.datagrams[index];
        let had_none = socket.room == 0;
        socket.room = room;
        if had_none && room > 0 {
            socket.report(Readiness::WRITABLE);
        }
    }
}

impl DatagramQueue {
    /// Owes an event to every holder with this interest.
    fn report(&mut self, readiness: Readiness) {
        for holder in &mut self.holders {
            holder.edge |= holder.interest.intersects(readiness);
        }
    }

    pub(super) fn readiness(&self) -> Readiness {
        let when = |holds: bool, what: Readiness| if holds { what } else { Readiness::NONE };
        when(!self.queue.is_empty(), Readiness::READABLE) | when(self.room > 0, Readiness::WRITABLE)
    }
}
