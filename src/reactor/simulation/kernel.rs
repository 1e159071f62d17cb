//! The simulated kernel as a worker sees it.
//!
//! The model follows epoll(7) and tcp(7): an edge is owed when input arrives and when room appears
//! after a write found none; an event reports the state at the time it is fetched; a batch may be
//! stale by the time its last event is handled; a read stops at an urgent mark; closing a socket
//! with unread input resets the connection.
//!
//! A wait never blocks: it records how long the worker would sleep, and the world runs the worker
//! again after that time or when an event is owed.

use std::cell::RefCell;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use mio::Token;

use super::datagrams::SimDatagrams;
use super::stream::{SimStream, error};
use super::world::*;
use crate::net::readiness::Readiness;
use crate::reactor::Kernel;
use crate::reactor::token::{Source, TokenLayout};
use crate::service::Service;

/// The most turns in a row without sleep, event or progress, which interruptions may cause.
const MAX_IDLE_TURNS: usize = 20;

/// The kernel of one worker.
#[derive(Debug)]
pub(super) struct Simulated {
    pub(super) world: Rc<RefCell<World>>,
    pub(super) id: WorkerId,
    /// The index in the world of each of the worker's listeners; `None` once closed.
    pub(super) listeners: Vec<Option<usize>>,
    pub(super) layout: TokenLayout,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("world")
    }
}

impl Kernel for Simulated {
    type Stream = SimStream;
    type Datagrams = SimDatagrams;
    type Events = Vec<(Token, Readiness)>;

    fn wait(&mut self, events: &mut Self::Events, timeout: Option<Duration>) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        events.clear();
        let is_owed = world.is_owed(self.id);
        let is_sleep = timeout != Some(Duration::ZERO);
        if is_sleep && !is_owed {
            check_nothing_waits_in_vain(&world, self.id, timeout);
        }
        let now_ns = world.now_ns;
        let thread = world.thread(self.id);
        let timeout_ns = timeout.map(|it| now_ns + it.as_nanos() as u64);
        let alarm_ns = thread.alarm_ns;
        thread.alarm_ns = alarm_ns.filter(|at| *at > now_ns);
        thread.sleeps_until_ns = timeout_ns.into_iter().chain(alarm_ns).min();
        if is_owed || is_sleep {
            thread.idle_turns = 0;
        } else {
            thread.idle_turns += 1;
            assert!(thread.idle_turns < MAX_IDLE_TURNS, "{:?} spins", self.id);
        }
        self.collect(&mut world, events);
        if !events.is_empty() {
            // The wait returns at once.
            world.thread(self.id).sleeps_until_ns = Some(now_ns);
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

    fn accept(&mut self, listener: usize) -> io::Result<(SimStream, Option<IpAddr>)> {
        let mut world = self.world.borrow_mut();
        let socket = self.listeners[listener].expect("accepts on a closed listener");
        if let Some(errno) = world.accept_fault {
            if errno == ECONNABORTED {
                world.accept_fault = None;
            }
            return error(errno);
        }
        let Some(id) = world.listeners[socket].queue.pop_front() else {
            return error(EAGAIN);
        };
        world.note_progress(self.id);
        let (now_ms, holds_back) = (world.now_ms(), world.holds_back);
        let client = &mut world.clients[id];
        client.is_held_back = holds_back;
        client.accepted_by = Some(self.id.generation);
        client.accepted_ms = now_ms;
        client.last_moved_ms = now_ms;
        let ip = client.ip;
        let world = Rc::clone(&self.world);
        Ok((SimStream { world, id }, ip))
    }

    fn register(&mut self, stream: &mut SimStream, key: usize) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        if world.faults && world.random.one_in(20) {
            let errno = world.random.some(&[ENOMEM, ENOSPC]);
            return error(errno);
        }
        let place = Some((self.id, key));
        let is_used = world.clients.iter().any(|it| it.key == place);
        assert!(!is_used, "key {key} is in use");
        let now_ms = world.now_ms();
        let client = &mut world.clients[stream.id];
        assert!(client.key.is_none(), "registered twice");
        client.key = place;
        // Its time begins when it is served.
        client.accepted_ms = now_ms;
        client.last_moved_ms = now_ms;
        // A new registration reports existing readiness, and a fresh socket is writable.
        client.edge = true;
        Ok(())
    }

    fn refuse_new(&mut self, listener: usize) -> io::Result<()> {
        if let Some(socket) = self.listeners[listener] {
            self.expect_no_other_holder(socket);
            self.world.borrow_mut().listeners[socket].is_refusing = true;
        }
        Ok(())
    }

    fn close(&mut self, listener: usize) {
        let socket = self.listeners[listener].expect("closed twice");
        self.release(listener);
        self.expect_no_other_holder(socket);
        let world = self.world.borrow();
        let socket = &world.listeners[socket];
        let lost = socket.queue.len();
        assert!(
            lost == 0 || world.accept_fault.is_some(),
            "{lost} completed connections were lost"
        );
    }

    fn release(&mut self, listener: usize) {
        let socket = self.listeners[listener].take().expect("closed twice");
        let mut world = self.world.borrow_mut();
        let holders = &mut world.listeners[socket].holders;
        holders.retain(|it| it.worker != self.id);
    }

    fn real_ns(&self) -> u64 {
        self.world.borrow().now_ns
    }

    fn burn(&mut self, ns: u64) {
        self.world.borrow_mut().now_ns += ns;
    }

    fn set_alarm(&mut self, at_ns: u64) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        if world.faults && world.random.one_in(20) {
            return error(EMFILE);
        }
        world.thread(self.id).alarm_ns = Some(at_ns);
        Ok(())
    }

    fn wake(&self, worker: usize) -> io::Result<()> {
        let mut world = self.world.borrow_mut();
        if world.faults && world.random.one_in(4) {
            return error(ENOMEM);
        }
        let generation = self.id.generation;
        let id = WorkerId { generation, worker };
        world.thread(id).woken = true;
        Ok(())
    }
}

impl Simulated {
    /// Checks that no other server keeps or may keep a listening socket.
    fn expect_no_other_holder(&self, socket: usize) {
        let world = self.world.borrow();
        let leaves =
            |it: &Holder| it.worker == self.id || world.leaving.contains(&it.worker.generation);
        assert!(
            world.listeners[socket].holders.iter().all(leaves),
            "shut down a socket that another server keeps"
        );
    }

    /// Fetches the events that are owed, or some of them.
    fn collect(&self, world: &mut World, events: &mut Vec<(Token, Readiness)>) {
        let few = world.random.one_in(3);
        let max = if few {
            1 + world.random.below(3) as usize
        } else {
            usize::MAX
        };
        let token = |source: Source| source.token(self.layout);
        // A full batch may lack the waker.
        let is_missing = few && world.random.one_in(2);
        if !is_missing && std::mem::take(&mut world.thread(self.id).woken) {
            events.push((token(Source::Waker), Readiness::READABLE));
        }
        for (index, socket) in self.listeners.iter().enumerate() {
            let Some(socket) = *socket else { continue };
            if world.listeners[socket].take_edge(self.id) {
                events.push((token(Source::Listener(index)), Readiness::READABLE));
            }
        }
        // Each worker has one UDP socket, with the worker's number.
        let datagrams = &mut world.datagrams[self.id.worker];
        let readiness = datagrams.readiness();
        if take_edge(&mut datagrams.holders, self.id) {
            events.push((token(Source::Datagrams(0)), readiness));
        }
        for client in &mut world.clients {
            let Some((worker, key)) = client.key else {
                continue;
            };
            if worker != self.id {
                continue;
            }
            if client.edge && events.len() < max {
                client.edge = false;
                client.turn.events += 1;
                events.push((token(Source::Conn(key)), client.readiness()));
            }
        }
        // An event that nothing needed is legal.
        if world.random.one_in(10)
            && let Some(client) = world.some_client()
            && let Some((worker, key)) = client.key
            && worker == self.id
        {
            client.turn.events += 1;
            events.push((token(Source::Conn(key)), client.readiness()));
        }
    }
}

impl ListenSocket {
    fn take_edge(&mut self, worker: WorkerId) -> bool {
        take_edge(&mut self.holders, worker)
    }
}

fn take_edge(holders: &mut [Holder], worker: WorkerId) -> bool {
    let holder = holders.iter_mut().find(|it| it.worker == worker);
    holder.is_some_and(|it| std::mem::take(&mut it.edge))
}

/// Checks a worker that is about to sleep without an owed event: it must have nothing to do, unless
/// a timer is set.
fn check_nothing_waits_in_vain(world: &World, id: WorkerId, timeout: Option<Duration>) {
    if timeout.is_some_and(|timeout| timeout <= Duration::from_millis(100)) {
        // Perhaps it waits for memory or descriptors.
        return;
    }
    let is_held = |holders: &[Holder]| holders.iter().any(|it| it.worker == id);
    for socket in world.listeners.iter().filter(|it| is_held(&it.holders)) {
        assert!(
            socket.queue.is_empty(),
            "sleeps while connections wait to be accepted"
        );
    }
    for socket in &world.datagrams {
        for holder in socket.holders.iter().filter(|it| it.worker == id) {
            assert!(
                holder.interest != Readiness::NONE,
                "sleeps without asking for datagrams"
            );
            let awaits_room = holder.interest.is_writable();
            assert!(
                if awaits_room {
                    // If deregistering failed, it still asks for room that nothing needs.
                    socket.room == 0 || socket.queue.is_empty()
                } else {
                    socket.queue.is_empty()
                },
                "sleeps while datagrams wait"
            );
        }
    }
    for client in world.clients.iter().filter(|it| it.is_served_by(id)) {
        check_client_needs_nothing(client);
    }
}

fn check_client_needs_nothing(client: &Client) {
    if client.lingers_since_ms.is_some() && !client.server_ended {
        // It is cut off and waits for its deadline, which resets it.
        return;
    }
    let id = client.id;
    assert!(!client.reset, "sleeps although client {id} is gone");
    let has_room = client.written - client.taken < client.room;
    let has_input = client.sent > client.read || client.ended;
    let may_write = has_room && !client.server_ended;
    if let Some(secured) = client.secured.as_deref() {
        let is_blocked = !has_room && client.found_no_room && !client.server_ended;
        let ended_chargen = client.service == Service::Chargen && client.sent == client.read;
        assert!(
            !has_input || is_blocked || ended_chargen,
            "sleeps although client {id} sent records"
        );
        let generates = client.service == Service::Chargen && secured.has_received();
        assert!(
            !(generates && may_write && !has_input),
            "sleeps although client {id} has room for what is made"
        );
        return;
    }
    let has_backlog = client.service == Service::Echo && client.read > client.written;
    let wants_to_write = has_backlog || client.service == Service::Chargen;
    assert!(
        !(wants_to_write && may_write),
        "sleeps although client {id} has room for what waits"
    );
    // The end of the input does not end chargen, which has noticed it already.
    let ended_chargen = client.service == Service::Chargen && client.sent == client.read;
    // Without memory for a backlog it waits for room, of which the kernel owes a report.
    let awaits_room = client.service == Service::Echo
        && client.peeked > client.read
        && client.found_no_room
        && !has_room;
    assert!(
        !has_input || ended_chargen || awaits_room || (has_backlog && !client.server_ended),
        "sleeps although client {id} sent something"
    );
}
