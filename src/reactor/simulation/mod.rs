//! Servers in a simulated world: clients, network, kernel and operator act at random, within the
//! limits of real ones, and the crate's invariants are checked after every turn of a worker's loop.
//! The seed determines a run.
//!
//! Each server has two workers. They serve TCP with a listener each, a listener whose connections
//! the first worker accepts for both, and UDP; bulk streams are relayed through a pipe. In some worlds
//! a listener has TLS, whose clients speak real records. A server is
//! drained, stopped, or replaced by a successor that takes over its sockets and may fail.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::ops::Range;
use std::rc::Rc;

use crate::memory::allocation;
use crate::metrics::{CloseReason, DropReason, Fault, Handshake, RefuseReason, Snapshot};
use crate::net::readiness::Readiness;
use crate::reactor::connections::Security;
use crate::service::Service;

mod datagrams;
mod kernel;
mod server;
mod stream;
mod tls;
mod world;

use server::Server;
use tls::ClientConfigs;
use world::*;

/// Worlds in one run of the test.
const SEEDS: u64 = 3000;
/// Steps of each before the clients leave.
const STEPS: usize = 250;
/// One world in this number has TLS, because a handshake takes as long as all else in a world.
const TLS_WORLDS: u64 = 6;
/// The workers' buffer: small, so that rare cases happen often.
const BUFFER: usize = 32;
/// The most simulated time between a deadline and the turn that handles it.
const SLACK_MS: u64 = 45;
/// The most servers in a row in a world.
const MAX_GENERATIONS: usize = 3;

#[test]
fn whatever_clients_and_kernel_do_the_promises_hold() {
    let sum = run_worlds(0..SEEDS);
    // A world without events would satisfy every check.
    for reason in CloseReason::ALL {
        let count = sum.closed(reason);
        // Calls fail only by a reset, no client speaks for another, and no fault ends a connection.
        let is_expected = !matches!(
            reason,
            CloseReason::Error | CloseReason::Fault | CloseReason::ProxyHeader
        );
        assert_eq!(count > 0, is_expected, "{count} closed for {reason:?}");
    }
    for reason in [
        RefuseReason::AcceptRate,
        RefuseReason::MaxConnections,
        RefuseReason::MaxConnectionsPerIp,
        RefuseReason::Resources,
    ] {
        assert!(sum.refused(reason) > 0, "none was refused for {reason:?}");
    }
    for reason in [
        DropReason::SourcePort,
        DropReason::OwnPort,
        DropReason::Rate,
        DropReason::Memory,
        DropReason::SendError,
    ] {
        let count = sum.udp_dropped(reason);
        assert!(count > 0, "no datagram was dropped for {reason:?}");
    }
    for kind in Handshake::ALL {
        assert!(sum.tls_handshakes(kind) > 0, "no handshake was {kind:?}");
    }
    assert!(sum.faults(Fault::Delay) > 0 && sum.faults(Fault::Stall) > 0);
    assert!(sum.short_writes > 0 && sum.peeked_reads > 0 && sum.udp_sent_datagrams > 0);
}

/// `SIMULATION_SEEDS=3000..1000000 cargo test --release -p echomark --lib -- --ignored campaign`
#[test]
#[ignore = "a million worlds take hours; SIMULATION_SEEDS says which"]
fn a_campaign_of_worlds() {
    let seeds = std::env::var("SIMULATION_SEEDS").unwrap_or_else(|_| "0..1000000".to_owned());
    let (first, end) = seeds.split_once("..").expect("a range of seeds");
    run_worlds(first.parse().unwrap()..end.parse().unwrap());
}

/// Runs these worlds on all CPUs and adds up the servers' counters.
fn run_worlds(seeds: Range<u64>) -> Snapshot {
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let run_some = &|first: usize| {
        let mut sum = Snapshot::default();
        for seed in seeds.clone().skip(first).step_by(threads) {
            let seed = NamedOnPanic(seed);
            sum += Run::new(seed.0).live_out();
        }
        sum
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads)
            .map(|first| scope.spawn(move || run_some(first)))
            .collect();
        let mut sum = Snapshot::default();
        for thread in threads {
            sum += thread.join().expect("the promises hold");
        }
        sum
    })
}

/// Prints the seed of a world that failed.
struct NamedOnPanic(u64);

impl Drop for NamedOnPanic {
    #[expect(clippy::print_stderr, reason = "the seed is what a failure needs")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("in the world of seed {}", self.0);
        }
    }
}

/// A world with its servers.
struct Run {
    world: Rc<RefCell<World>>,
    /// The servers by generation; some have ended.
    servers: Vec<Server>,
    /// The newest server in charge.
    newest: usize,
    /// Another server that also has the newest's sockets, until one of the two keeps them.
    successor: Option<usize>,
    events: Vec<(mio::Token, Readiness)>,
}

impl Run {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let faults = random.one_in(2);
        if faults {
            allocation::faults::begin(seed);
        } else {
            allocation::faults::end();
        }
        let mut world = World::new(random, faults);
        let random = &mut world.random;
        let services = [
            Service::Echo,
            Service::Echo,
            Service::Echo,
            Service::Echo,
            Service::Discard,
            Service::Chargen,
        ];
        let endpoints = [(); 3].map(|()| random.some(&services));
        let shared = random.some(&[Kind::Tcp, Kind::Unix]);
        let own = [(endpoints[0], Kind::Tcp); WORKERS];
        let has_tls = random.one_in(TLS_WORLDS);
        let (own_tls, shared_tls) = match random.below(3) {
            0 => (true, false),
            1 => (false, true),
            _ => (true, true),
        };
        world.client_tls = has_tls.then(ClientConfigs::new);
        for (service, kind) in own.into_iter().chain([(endpoints[1], shared)]) {
            let is_shared = world.listeners.len() == WORKERS;
            let has_tls = has_tls && if is_shared { shared_tls } else { own_tls };
            world.listeners.push(ListenSocket {
                service,
                kind,
                security: match kind {
                    Kind::Tcp if has_tls => Security::Tls,
                    Kind::Tcp | Kind::Unix => Security::None,
                },
                queue: VecDeque::new(),
                is_refusing: false,
                holders: Vec::new(),
            });
        }
        for _ in 0..WORKERS {
            world.datagrams.push(DatagramQueue {
                service: endpoints[2],
                queue: VecDeque::new(),
                room: usize::MAX,
                holders: Vec::new(),
                open_requests: Vec::new(),
                received: 0,
                answered: 0,
            });
        }
        let world = Rc::new(RefCell::new(world));
        Self {
            servers: vec![Server::start(&world, 0)],
            world,
            newest: 0,
            successor: None,
            events: Vec::new(),
        }
    }

    fn live_out(mut self) -> Snapshot {
        for _ in 0..STEPS {
            self.something_happens();
            self.turn();
            if !self.is_running() {
                break;
            }
        }
        self.clients_leave();
        // Reading, lingering, timeouts and the drain are all bounded in simulated time, and must
        // not take many turns.
        for _ in 0..20_000 {
            if !self.is_running() {
                break;
            }
            self.clients_read();
            self.turn();
        }
        assert!(!self.is_running(), "the drain did not end");
        let mut sum = Snapshot::default();
        for server in &self.servers {
            sum += server.metrics();
        }
        sum
    }

    fn is_running(&self) -> bool {
        self.servers.iter().any(Server::is_running)
    }

    /// Runs every worker that has work, in random order. If none has, time passes.
    fn turn(&mut self) {
        self.world.borrow_mut().let_clients_go_on();
        let mut due = self.due();
        if due.is_empty() {
            self.pass_time();
            return;
        }
        if self.world.borrow_mut().random.one_in(2) {
            due.reverse();
        }
        for id in due {
            self.servers[id.generation].turn(id.worker, &mut self.events);
        }
    }

    fn due(&self) -> Vec<WorkerId> {
        let mut world = self.world.borrow_mut();
        let now_ns = world.now_ns;
        let running = self.servers.iter().flat_map(Server::running);
        let due = running.filter(|&id| {
            // An interruption wakes a worker without work.
            world.is_owed(id)
                || world.random.one_in(10)
                || world
                    .thread(id)
                    .sleeps_until_ns
                    .is_some_and(|it| it <= now_ns)
        });
        due.collect()
    }

    fn pass_time(&self) {
        let mut world = self.world.borrow_mut();
        let running = self.servers.iter().flat_map(Server::running);
        let sleeps = running.filter_map(|id| world.thread(id).sleeps_until_ns);
        if let Some(next) = sleeps.min() {
            let halfway = world.random.one_in(2);
            let ahead_ns = next.saturating_sub(world.now_ns);
            world.now_ns += if halfway { ahead_ns / 2 + 1 } else { ahead_ns };
        }
    }

    /// One action of a client, the network or the operator.
    fn something_happens(&mut self) {
        let mut world = self.world.borrow_mut();
        match world.random.below(120) {
            0..=21 => world.connect(),
            22..=46 => world.send(),
            47..=71 => world.take(),
            72..=77 => world.end(),
            78..=80 => world.reset(),
            81..=83 => world.send_urgently(),
            84..=86 => {
                let fault = world.random.some(&[EMFILE, ENOMEM, ECONNABORTED]);
                world.accept_fault = Some(fault);
            }
            87..=91 => world.accept_fault = None,
            92..=97 => {
                let pause = world.random.below(40_000_000);
                world.now_ns += pause;
            }
            98..=109 => world.send_datagrams(),
            110..=112 => world.change_room(),
            other => {
                drop(world);
                self.operate(other);
            }
        }
    }

    /// One action of the operator.
    fn operate(&mut self, choice: u64) {
        match (choice, self.successor) {
            (113, _) => self.servers[self.newest].reload(),
            // Also while it is undecided which of the two keeps the sockets.
            (114, _) => self.servers[self.newest].drain(),
            (115, Some(successor)) => self.take_over(successor),
            (116, Some(successor)) => self.fail(successor),
            (117.., None) if self.servers.len() < MAX_GENERATIONS => self.start_successor(),
            _ => {}
        }
    }

    /// A new process gets the sockets of the running one and serves, unless the running one is
    /// ending.
    fn start_successor(&mut self) {
        let newest = &self.servers[self.newest];
        if newest.is_running() && newest.draining_since_ms.is_none() {
            newest.control.note_undecided();
            let generation = self.servers.len();
            let successor = Server::start(&self.world, generation);
            successor.control.note_undecided();
            self.servers.push(successor);
            self.successor = Some(generation);
        }
    }

    fn take_over(&mut self, successor: usize) {
        self.servers[self.newest].release();
        self.servers[successor].control.note_decided();
        self.newest = successor;
        self.successor = None;
    }

    /// The successor ends before it confirms: the running server keeps the sockets.
    fn fail(&mut self, successor: usize) {
        let failed = &mut self.servers[successor];
        failed.stop();
        while failed.is_running() {
            for worker in 0..WORKERS {
                failed.turn(worker, &mut self.events);
            }
        }
        self.servers[self.newest].control.note_decided();
        self.successor = None;
    }

    /// Every client sends its last byte and reads all output; the kernel recovers; the servers
    /// drain.
    fn clients_leave(&mut self) {
        {
            let mut world = self.world.borrow_mut();
            world.faults = false;
            allocation::faults::end();
            world.accept_fault = None;
            for client in world.clients.iter_mut().filter(|it| !it.gone) {
                if client.secured.is_some() {
                    client.leave_secured();
                    continue;
                }
                client.ended = true;
                client.edge = true;
            }
        }
        if let Some(successor) = self.successor {
            self.take_over(successor);
        }
        for server in &mut self.servers {
            if server.is_running() && server.draining_since_ms.is_none() {
                server.drain();
            }
        }
    }

    fn clients_read(&self) {
        let mut world = self.world.borrow_mut();
        for client in world.clients.iter_mut().filter(|it| !it.gone) {
            if client.secured.is_some() {
                client.take_secured(u64::MAX);
            } else {
                client.take(u64::MAX);
            }
            // A chargen client hangs up.
            if client.service == Service::Chargen && client.accepted_by.is_some() {
                client.reset = true;
                client.edge = true;
            }
        }
    }
}
