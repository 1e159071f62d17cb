//! Binding endpoints, starting and joining workers, and steering them from outside.

use std::io;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use mio::Poll;
use tracing::warn;

use crate::config::{Balance, Config, Limits};
use crate::error::Error;
use crate::listen::{self, Bound, Inherited, Keeper, Sockets};
use crate::listen::{Listener, Owner};
use crate::metrics::Snapshot;
use crate::net::affinity;
use crate::net::endpoint::Endpoint;
use crate::net::sys::ThreadClock;
use crate::net::tcp;
use crate::reactor::{
    Control, Epoll, HandOff, Listening, MAX_INBOX, Reactor, Request, Rules, Setup, Share,
    UdpEndpoint,
};
use crate::service::Service;
use crate::udp::Guard;

/// A server whose endpoints are bound: clients can connect from now on, and are served once
/// [`Server::run`] is called.
///
/// ```
/// use echomark::{Config, Server, Service};
///
/// let server = Server::bind(Config {
///     services: vec![(Service::Echo, "tcp://127.0.0.1:0".parse()?)],
///     ..Config::default()
/// })?;
/// println!("listening on {}", server.endpoints()[0].1);
/// let handle = server.handle();
/// let thread = std::thread::spawn(|| server.run());
/// // ... connect, send, receive; then let open connections finish:
/// handle.drain();
/// thread.join().expect("run does not panic")?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Server {
    reactors: Vec<Reactor<Epoll>>,
    endpoints: Vec<(Service, Endpoint)>,
    balances: Vec<Balance>,
    handle: Handle,
    /// Of each worker the CPU that it is bound to; empty if they run where the scheduler likes.
    cpus: Vec<usize>,
}

impl Server {
    /// Binds every endpoint for every worker.
    ///
    /// # Errors
    /// [`Error`] names the endpoint, or the worker that could not be set up.
    pub fn bind(config: Config) -> Result<Self, Error> {
        Self::bind_with(config, Vec::new())
    }

    /// As [`Server::bind`], with sockets that another process passed on: those of a running server
    /// that this one replaces, or those of a service manager. As long as [`Handle::settle`] was not
    /// called, those of a running server are left to it when this one ends.
    ///
    /// # Errors
    /// As [`Server::bind`].
    pub fn bind_with(config: Config, inherited: Vec<Inherited>) -> Result<Self, Error> {
        let workers = config.workers.get();
        let has_predecessor = inherited.iter().any(|it| it.keeper == Keeper::Nobody);
        let all = listen::bind_all(&config, inherited)?;
        if let Some(somaxconn) = tcp::somaxconn()
            && somaxconn < config.backlog
        {
            warn!(
                "the kernel cuts the backlog of {} to net.core.somaxconn, {somaxconn}",
                config.backlog
            );
        }
        let mut to_pass = Vec::new();
        if config.handover.is_some() {
            for bound in &all {
                to_pass.push(bound.to_pass().map_err(Error::Handover)?);
            }
        }
        let cpus = cpus(&config);
        let control = Arc::new(Control::new(&config.limits, workers, all.len()));
        if has_predecessor {
            control.note_undecided();
        }
        let setup = |worker| move |source| Error::Setup { worker, source };
        let mut polls = Vec::with_capacity(workers);
        let mut wakers = Vec::with_capacity(workers);
        for worker in 0..workers {
            let poll = Poll::new().map_err(setup(worker))?;
            wakers.push(Epoll::waker(&poll).map_err(setup(worker))?);
            polls.push(poll);
        }
        let wakers: Arc<[mio::Waker]> = wakers.into();
        let guard = Guard::new(all.iter().filter_map(udp_port));
        let mut endpoints = Vec::with_capacity(all.len());
        let mut balances = Vec::with_capacity(all.len());
        let mut listeners: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut datagrams: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        let mut any_hands_off = false;
        for (endpoint, bound) in all.into_iter().enumerate() {
            let share = share(&bound, &config);
            balances.push(balance(share, &bound.sockets, &config));
            prefer_cpus(share, &bound, &cpus, &config)?;
            let Bound { service, owner, .. } = bound;
            endpoints.push((service, bound.endpoint));
            // With nobody else to fill it, a queue that is to be emptied has an end.
            let most_queued = match owner {
                Owner::Another => config.backlog.saturating_add(1),
                Owner::Us | Owner::UsWithFile(_) => u32::MAX,
            };
            let mut listen = |number, listener| {
                let worker = accepting_worker(share, number, workers);
                if share == Share::LeastLoaded {
                    any_hands_off = true;
                }
                let listening = Listening::new(endpoint, service, share, most_queued);
                listeners[worker].push((listening, listener));
            };
            match bound.sockets {
                Sockets::Tcp(sockets) => {
                    for (number, socket) in sockets.into_iter().enumerate() {
                        listen(number, Listener::tcp(socket, owner.clone()));
                    }
                }
                Sockets::Unix(socket) => listen(0, Listener::unix(socket, owner)),
                Sockets::Udp(sockets) => {
                    for (number, socket) in sockets.into_iter().enumerate() {
                        let worker = accepting_worker(share, number, workers);
                        datagrams[worker].push(UdpEndpoint {
                            endpoint,
                            service,
                            socket,
                        });
                    }
                }
            }
        }
        let mut hand_offs: Vec<_> = if any_hands_off {
            HandOff::among(workers, MAX_INBOX)
                .into_iter()
                .map(Some)
                .collect()
        } else {
            (0..workers).map(|_| None).collect()
        };
        let mut reactors = Vec::with_capacity(workers);
        for (index, poll) in polls.into_iter().enumerate() {
            let parts = Setup {
                index,
                poll,
                wakers: Arc::clone(&wakers),
                listeners: std::mem::take(&mut listeners[index]),
                datagrams: std::mem::take(&mut datagrams[index]),
                guard: guard.clone(),
                hand_off: hand_offs[index].take(),
                control: Arc::clone(&control),
            };
            reactors.push(Reactor::on_epoll(parts, &config).map_err(setup(index))?);
        }
        Ok(Self {
            reactors,
            endpoints,
            balances,
            handle: Handle {
                control,
                wakers,
                to_pass: Arc::new(Mutex::new(to_pass)),
                clocks: (0..workers).map(|_| ThreadClock::default()).collect(),
            },
            cpus,
        })
    }

    /// The services and their endpoints as bound, with the ports that the kernel chose.
    pub fn endpoints(&self) -> &[(Service, Endpoint)] {
        &self.endpoints
    }

    /// Who decides which worker serves a client of each endpoint, in their order: what
    /// [`Config::balance`] asks for, or the least connections where there are fewer listeners than
    /// workers.
    pub fn balances(&self) -> &[Balance] {
        &self.balances
    }

    /// A handle to steer the server from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the workers and returns when all of them have ended: after [`Handle::stop`], after a
    /// drain, or because one failed, which stops the others.
    ///
    /// # Errors
    /// The first worker's failure.
    pub fn run(self) -> Result<Snapshot, Error> {
        let Self {
            reactors,
            handle,
            cpus,
            ..
        } = self;
        let mut threads = Vec::with_capacity(reactors.len());
        let mut result = Ok(());
        for (worker, reactor) in reactors.into_iter().enumerate() {
            let others = handle.clone();
            let cpu = cpus.get(worker).copied();
            let spawned = thread::Builder::new()
                .name(format!("echod-{worker}"))
                .spawn(move || run_worker(worker, reactor, cpu, &others));
            match spawned {
                Ok(thread) => threads.push(thread),
                Err(source) => {
                    handle.stop();
                    result = Err(Error::Setup { worker, source });
                    break;
                }
            }
        }
        for (worker, thread) in threads.into_iter().enumerate() {
            // A panic was caught inside, so joining can't fail.
            let ended = thread.join().unwrap_or(Err(Error::Panicked { worker }));
            result = result.and(ended);
        }
        result.map(|()| handle.metrics())
    }
}

/// Steers a running [`Server`]; clones steer the same one.
#[derive(Clone, Debug)]
pub struct Handle {
    control: Arc<Control>,
    wakers: Arc<[mio::Waker]>,
    /// Descriptors for a successor; none without [`Config::handover`]. They keep the sockets open, so
    /// they go as soon as the server is to end.
    to_pass: Arc<Mutex<Vec<Inherited>>>,
    clocks: Arc<[ThreadClock]>,
}

impl Handle {
    /// Stops accepting, after all that the kernel had already accepted, and lets open connections
    /// finish within the drain timeout. Returns at once; [`Server::run`] returns at the end.
    pub fn drain(&self) {
        self.request(Request::Drain);
    }

    /// Closes everything now.
    pub fn stop(&self) {
        self.request(Request::Stop);
    }

    /// Puts new limits in force, for the open connections too: access lists and maxima for those that
    /// come, time limits for all. Returns at once; each worker follows with its next turn.
    pub fn set_limits(&self, limits: &Limits) {
        self.control.set_rules(Rules::new(limits));
        self.wake();
    }

    /// The counters of all workers, summed.
    pub fn metrics(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in self.workers() {
            sum += worker;
        }
        sum
    }

    /// Other descriptors of the sockets of every endpoint, in the order of [`Server::endpoints`], for
    /// a successor to go on with. None without [`Config::handover`], or once the server is to end.
    ///
    /// From now on they may be another's: if this server ends it leaves them to go on with, unless it
    /// hears by [`Handle::settle`] that nobody does.
    ///
    /// # Errors
    /// What dup(2) reports.
    pub fn sockets_to_pass(&self) -> io::Result<Vec<Inherited>> {
        let to_pass = self.to_pass.lock().unwrap_or_else(PoisonError::into_inner);
        let passed = to_pass.iter().map(Inherited::try_clone);
        let passed = passed.collect::<io::Result<Vec<_>>>()?;
        // Under the lock: whoever asks for the end later knows it, and who did earlier left none.
        if !passed.is_empty() {
            self.control.note_undecided();
        }
        Ok(passed)
    }

    /// The sockets are this server's alone: its predecessor has let go of them, or its successor has
    /// failed.
    pub fn settle(&self) {
        self.control.note_decided();
    }

    /// Leaves the endpoints with these indices to a successor that has their sockets, and drains:
    /// what waits to be accepted there is the successor's.
    pub fn release(&self, endpoints: &[usize]) {
        for &endpoint in endpoints {
            self.control.release(endpoint);
        }
        self.control.note_successor();
        self.control.note_decided();
        self.request(Request::Drain);
    }

    /// Whether a successor has taken over.
    pub fn has_successor(&self) -> bool {
        self.control.has_successor()
    }

    /// Wakes every worker, and says whether since `earlier`, an answer of this function, each of them
    /// has done at least one turn of its loop or has ended.
    pub fn beat(&self, earlier: &Heartbeat) -> (Heartbeat, Alive) {
        let turns: Vec<_> = self
            .control
            .metrics
            .iter()
            .map(|worker| worker.loop_iterations.value())
            .collect();
        let has_turned = |worker: usize| {
            let before = earlier.turns.get(worker).copied().unwrap_or(0);
            turns[worker] > before || self.control.has_ended(worker)
        };
        let alive = if (0..turns.len()).all(has_turned) {
            Alive::All
        } else {
            Alive::NotAll
        };
        self.wake();
        (Heartbeat { turns }, alive)
    }

    /// The counters of each worker, in the order of their indices.
    pub fn workers(&self) -> Vec<Snapshot> {
        let workers = self.control.metrics.iter();
        workers.map(|worker| worker.snapshot()).collect()
    }

    /// The processor time that each worker has used, in the order of their indices. Reading it does
    /// not disturb them, and it stays when they have ended.
    pub fn cpu_times(&self) -> Vec<Duration> {
        self.clocks.iter().map(ThreadClock::time).collect()
    }

    /// Whether a drain or a stop was asked for; true from then on.
    pub fn is_draining(&self) -> bool {
        self.control.requested() != Request::Serve
    }

    fn request(&self, request: Request) {
        self.to_pass
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
        self.control.request(request);
        self.wake();
    }

    fn wake(&self) {
        for waker in &*self.wakers {
            // Writing to an eventfd fails only if its counter is full, and then it wakes as well.
            let _ = waker.wake();
        }
    }
}

/// How far every worker's loop was at one moment; the default is before the first turn.
#[derive(Clone, Debug, Default)]
pub struct Heartbeat {
    turns: Vec<u64>,
}

/// Whether all workers turn.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alive {
    /// Each did since the last time.
    All,
    /// One or more did not: perhaps they had no time yet.
    NotAll,
}

fn run_worker(
    worker: usize,
    reactor: Reactor<Epoll>,
    cpu: Option<usize>,
    others: &Handle,
) -> Result<(), Error> {
    // Wherever it runs instead, what comes in on that CPU is still best served by one worker.
    if let Some(cpu) = cpu
        && let Err(error) = affinity::pin_thread(cpu)
    {
        warn!(worker, cpu, %error, "cannot pin the worker to its CPU");
    }
    // Without its clock a worker serves as well; the time it uses is just not known.
    let _clock = others.clocks[worker].start();
    // Unwinding drops the reactor; what is shared are counters, which stay as they are.
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| reactor.run()));
    others.control.note_end(worker);
    let result = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(source)) => Err(Error::Worker { worker, source }),
        Err(_) => Err(Error::Panicked { worker }),
    };
    others.stop();
    result
}

/// Who serves the connections of an endpoint: with fewer listeners than workers, whoever has the
/// fewest.
fn share(bound: &Bound, config: &Config) -> Share {
    let listeners = match &bound.sockets {
        Sockets::Tcp(listeners) => listeners.len(),
        Sockets::Unix(_) => 1,
        Sockets::Udp(_) => return Share::Own,
    };
    if config.workers.get() > 1
        && (config.balance == Balance::LeastConnections || listeners < config.workers.get())
    {
        Share::LeastLoaded
    } else {
        Share::Own
    }
}

/// The worker that has the socket of this number.
fn accepting_worker(share: Share, number: usize, workers: usize) -> usize {
    match share {
        Share::Own => number % workers,
        Share::LeastLoaded => 0,
    }
}

/// What becomes of the configured balance at an endpoint.
fn balance(share: Share, sockets: &Sockets, config: &Config) -> Balance {
    match (share, sockets) {
        (Share::LeastLoaded, _) => Balance::LeastConnections,
        (Share::Own, Sockets::Unix(_)) => Balance::Kernel,
        (Share::Own, Sockets::Tcp(_) | Sockets::Udp(_)) => match config.balance {
            Balance::IncomingCpu => Balance::IncomingCpu,
            Balance::Kernel | Balance::LeastConnections => Balance::Kernel,
        },
    }
}

/// The CPU that each worker is to be bound to; none if they may run anywhere.
fn cpus(config: &Config) -> Vec<usize> {
    if !config.pins_workers() {
        return Vec::new();
    }
    affinity::cpus_in_turn(config.workers.get()).unwrap_or_else(|error| {
        warn!(%error, "cannot tell which CPUs to pin the workers to");
        Vec::new()
    })
}

/// Tells the kernel of each socket which CPU's packets it is for, or that it is for none in
/// particular: a predecessor that passed it on may have wanted otherwise.
fn prefer_cpus(share: Share, bound: &Bound, cpus: &[usize], config: &Config) -> Result<(), Error> {
    if let Sockets::Unix(_) = bound.sockets {
        return Ok(());
    }
    let by_cpu = balance(share, &bound.sockets, config) == Balance::IncomingCpu;
    for (number, socket) in bound.sockets.descriptors().into_iter().enumerate() {
        let worker = accepting_worker(share, number, config.workers.get());
        let cpu = cpus.get(worker).copied().filter(|_| by_cpu);
        match tcp::prefer_cpu(&socket, cpu) {
            Err(source) if cpu.is_some() => {
                return Err(Error::Tuning {
                    endpoint: bound.configured.clone(),
                    source,
                });
            }
            // A kernel that can't be told to prefer none was never told to prefer any.
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The port of a UDP endpoint as bound.
fn udp_port(bound: &Bound) -> Option<u16> {
    match &bound.endpoint {
        Endpoint::Udp(address) => Some(address.port),
        Endpoint::Tcp(_) | Endpoint::Unix(_) => None,
    }
}
