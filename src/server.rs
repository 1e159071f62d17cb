//! A server's life: bind or inherit sockets, assign them to workers, run the workers, join them.

use std::net::{TcpListener, UdpSocket};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, mpsc};
use std::thread;
use std::{env, fs, io};

use mio::Poll;
use tracing::warn;

use crate::config::{Balance, Config};
use crate::error::Error;
use crate::listen::{self, Bound, Inherited, InheritedOptions, Listener, Owner, Sockets};
use crate::memory::Budget;
use crate::metrics::Snapshot;
use crate::net::affinity;
use crate::net::endpoint::Endpoint;
use crate::net::stream::Socket;
use crate::net::sys;
use crate::net::tcp;
use crate::reactor::{
    Control, Epoll, HandOff, Listening, MAX_INBOX, Origin, Reactor, Rules, Security, Setup, Share,
    UdpEndpoint,
};
use crate::service::Service;
use crate::service::whoami::Whoami;
use crate::udp::Guard;

mod assignment;
mod handle;
mod socket_counters;

use assignment::Assignment;
pub(crate) use handle::Standing;
pub use handle::{Alive, Handle, Heartbeat};
pub(crate) use socket_counters::EndpointCounts;
use socket_counters::SocketCounters;

/// A server with bound endpoints: clients can connect, and are served once [`Server::run`] is
/// called.
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
    /// The CPU of each worker; empty if the workers are not pinned.
    cpus: Vec<usize>,
    /// Sockets beside inherited ones, which listen once the workers run, each with its endpoint.
    beside: Vec<(Endpoint, TcpListener)>,
    backlog: u32,
    /// Dropped with this server, also if it never runs.
    _descriptors: Descriptors,
}

/// Whether a server may pass its sockets to a successor, for which it keeps a second descriptor of each.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Succession {
    /// It has no successor.
    Never,
    /// A successor may ask for the sockets.
    Offered,
}

/// Closes the descriptors of a handle, which would keep the ports of a server that is gone.
#[derive(Debug)]
struct Descriptors(Handle);

impl Drop for Descriptors {
    fn drop(&mut self) {
        self.0.close_descriptors();
    }
}

impl Server {
    /// Binds every endpoint for every worker.
    ///
    /// # Errors
    /// [`Error`] names the endpoint, or the worker that could not be set up.
    pub fn bind(config: Config) -> Result<Self, Error> {
        Self::bind_with(config, Vec::new(), Succession::Never)
    }

    /// As [`Server::bind`], with sockets that another process passed on: a running server that this
    /// one replaces, or a service manager.
    ///
    /// # Errors
    /// As [`Server::bind`].
    #[doc(hidden)]
    pub fn bind_with(
        config: Config,
        inherited: Vec<Inherited>,
        succession: Succession,
    ) -> Result<Self, Error> {
        refuse_missing_certificate(&config)?;
        refuse_faults_without_sense(&config)?;
        let bound = listen::bind_all(&config, inherited)?;
        warn_of_cut_backlog(&config);
        let to_pass = sockets_to_pass(&bound, succession)?;
        let socket_counters = SocketCounters::new(&bound);
        let beside = beside(&bound)?;
        let assigned: Vec<_> = bound.iter().map(|it| assign(it, &config)).collect();
        let cpus = cpus(&config);
        let cpu_of = |endpoint: usize, socket: usize| {
            let assignment: &Assignment = &assigned[endpoint];
            let cpu = cpus.get(assignment.worker_of(socket)).copied();
            cpu.filter(|_| assignment.balance == Balance::IncomingCpu)
        };
        for (index, bound) in bound.iter().enumerate() {
            prefer_cpus(bound, |socket| cpu_of(index, socket))?;
        }
        let inherited_options = InheritedOptions::of(&bound, &config, cpu_of)?;
        let endpoints = bound.iter().map(|it| (it.service, it.endpoint.clone()));
        let endpoints: Vec<_> = endpoints.collect();
        let balances: Vec<_> = assigned.iter().map(|it| it.balance).collect();

        let workers = config.workers.get();
        let memory = Budget::new(config.backlog_memory);
        let rules = Rules::new(&config.limits, config.tls.clone());
        let control = Control::new(rules, memory, workers, endpoints.len());
        let control = control.with(whoami(&config), config.proxy_protocol);
        let control = Arc::new(control.with_faults(&config.faults));
        let (polls, wakers) = polls(workers)?;
        let inherited = bound.iter().enumerate().filter(|(_, it)| it.inherited > 0);
        let inherited = inherited.map(|(index, _)| index).collect();
        let guard = Guard::new(endpoints.iter().filter_map(udp_port));
        let sockets = distribute(bound, &assigned, &config);
        let mut reactors = Vec::with_capacity(workers);
        let parts = polls
            .into_iter()
            .zip(sockets)
            .zip(hand_offs(&balances, workers));
        for (index, ((poll, sockets), hand_off)) in parts.enumerate() {
            let setup = Setup {
                index,
                poll,
                wakers: Arc::clone(&wakers),
                listeners: sockets.listeners,
                datagrams: sockets.datagrams,
                guard: guard.clone(),
                hand_off,
                control: Arc::clone(&control),
            };
            reactors.push(Reactor::on_epoll(setup, &config).map_err(setup_error(index))?);
        }
        let handle = Handle::new(
            control,
            wakers,
            to_pass,
            inherited,
            inherited_options,
            socket_counters,
        );
        Ok(Self {
            reactors,
            endpoints,
            balances,
            _descriptors: Descriptors(handle.clone()),
            handle,
            cpus,
            beside,
            backlog: config.backlog,
        })
    }

    /// The services and their endpoints as bound, with the ports that the kernel chose.
    pub fn endpoints(&self) -> &[(Service, Endpoint)] {
        &self.endpoints
    }

    /// The effective balance of each endpoint, in their order: [`Config::balance`], or least
    /// connections for an endpoint with fewer listeners than workers.
    pub fn balances(&self) -> &[Balance] {
        &self.balances
    }

    /// A handle to steer the server from other threads.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// Starts the workers and returns when all of them have ended: after [`Handle::stop`], after a
    /// drain, or after a worker's failure, which stops the others.
    ///
    /// # Errors
    /// The first worker's failure.
    pub fn run(self) -> Result<Snapshot, Error> {
        let handle = self.handle.clone();
        let result = self.run_workers();
        handle.note_over();
        result.map(|()| handle.metrics())
    }

    /// Returns once all workers have ended.
    fn run_workers(mut self) -> Result<(), Error> {
        let mut threads = Vec::with_capacity(self.reactors.len());
        // One request is enough for all.
        let (return_freed, freed) = mpsc::sync_channel(1);
        for reactor in &mut self.reactors {
            reactor.ask_to_return_freed(return_freed.clone());
        }
        drop(return_freed);
        let mut result = self.start_workers(&mut threads);
        // The last worker drops the last sender.
        while freed.recv().is_ok() {
            sys::return_freed_memory();
        }
        for (worker, thread) in threads.into_iter().enumerate() {
            // The thread catches panics, so joining can't fail.
            let ended = thread.join().unwrap_or(Err(Error::Panicked { worker }));
            result = result.and(ended);
        }
        result
    }

    /// Starts the workers together, when nothing can fail any more: until then nothing is accepted,
    /// so a predecessor can go on as if this server had never been.
    fn start_workers(&mut self, threads: &mut Vec<WorkerThread>) -> Result<(), Error> {
        let mut starts = Vec::with_capacity(self.reactors.len());
        for (worker, reactor) in self.reactors.drain(..).enumerate() {
            let others = self.handle.clone();
            let cpu = self.cpus.get(worker).copied();
            let (start, started) = mpsc::channel();
            let thread = thread::Builder::new()
                .name(format!("echod-{worker}"))
                .spawn(move || match started.recv() {
                    Ok(()) => run_worker(worker, reactor, cpu, &others),
                    // Dropped: the start failed.
                    Err(mpsc::RecvError) => Ok(()),
                })
                .map_err(setup_error(worker))?;
            threads.push(thread);
            starts.push(start);
        }
        for (endpoint, socket) in self.beside.drain(..) {
            tcp::set_backlog(&socket, self.backlog).map_err(|source| Error::Bind {
                endpoint,
                address: socket.local_addr().ok(),
                source,
            })?;
        }
        for start in starts {
            // The thread waits for it.
            let _ = start.send(());
        }
        Ok(())
    }
}

type WorkerThread = thread::JoinHandle<Result<(), Error>>;

fn run_worker(
    worker: usize,
    reactor: Reactor<Epoll>,
    cpu: Option<usize>,
    others: &Handle,
) -> Result<(), Error> {
    // An unpinned worker still serves; it may only be slower.
    if let Some(cpu) = cpu
        && let Err(error) = affinity::pin_thread(cpu)
    {
        warn!(worker, cpu, %error, "cannot pin the worker to its CPU");
    }
    // A worker without its clock serves too, but its processor time is unknown.
    let _clock = others.clock(worker).start();
    // Unwinding drops the reactor; only atomic counters are shared, and they stay valid.
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| reactor.run()));
    others.note_end(worker);
    let result = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(source)) => Err(Error::Worker { worker, source }),
        Err(_) => Err(Error::Panicked { worker }),
    };
    others.stop();
    result
}

fn setup_error(worker: usize) -> impl Fn(io::Error) -> Error {
    move |source| Error::Setup { worker, source }
}

fn refuse_missing_certificate(config: &Config) -> Result<(), Error> {
    let mut endpoints = config.services.iter().map(|(_, endpoint)| endpoint);
    match endpoints.find(|endpoint| matches!(endpoint, Endpoint::Tls(_))) {
        Some(endpoint) if config.tls.is_none() => Err(Error::NoCertificate {
            endpoint: endpoint.clone(),
        }),
        _ => Ok(()),
    }
}

fn refuse_faults_without_sense(config: &Config) -> Result<(), Error> {
    for ((service, endpoint), faults) in config.services.iter().zip(&config.faults) {
        if let Some(problem) = faults.objection(*service, endpoint) {
            return Err(Error::Faults {
                endpoint: endpoint.clone(),
                problem,
            });
        }
    }
    Ok(())
}

fn warn_of_cut_backlog(config: &Config) {
    if let Some(somaxconn) = tcp::somaxconn()
        && somaxconn < config.backlog
    {
        warn!(
            "the kernel cuts the backlog of {} to net.core.somaxconn, {somaxconn}",
            config.backlog
        );
    }
}

/// What a server with whoami says of itself.
fn whoami(config: &Config) -> Whoami {
    if config.services.iter().all(|it| it.0 != Service::Whoami) {
        return Whoami::default();
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let variables = config.whoami_env.iter();
    let set = variables.filter_map(|name| Some((name.clone(), env::var(name).ok()?)));
    Whoami::new(host.trim_end(), set)
}

/// Other descriptors of all sockets, if a successor may ask for them.
fn sockets_to_pass(bound: &[Bound], succession: Succession) -> Result<Vec<Inherited>, Error> {
    if succession == Succession::Never {
        return Ok(Vec::new());
    }
    let to_pass = bound.iter().map(Bound::to_pass);
    to_pass.collect::<io::Result<_>>().map_err(Error::Handover)
}

/// Other descriptors of the sockets that do not listen yet, each with its endpoint.
fn beside(bound: &[Bound]) -> Result<Vec<(Endpoint, TcpListener)>, Error> {
    let mut all = Vec::new();
    for bound in bound {
        let beside = bound.beside().map_err(Error::Handover)?;
        all.extend(beside.into_iter().map(|it| (bound.configured.clone(), it)));
    }
    Ok(all)
}

fn assign(bound: &Bound, config: &Config) -> Assignment {
    let workers = config.workers.get();
    match &bound.sockets {
        Sockets::Tcp(sockets) => Assignment::tcp(sockets.len(), workers, config.balance),
        Sockets::Unix(_) => Assignment::unix(workers),
        Sockets::Udp(_) => Assignment::udp(workers, config.balance),
    }
}

/// An epoll instance and a waker for each worker.
fn polls(workers: usize) -> Result<(Vec<Poll>, Arc<[mio::Waker]>), Error> {
    let mut polls = Vec::with_capacity(workers);
    let mut wakers = Vec::with_capacity(workers);
    for worker in 0..workers {
        let poll = Poll::new().map_err(setup_error(worker))?;
        wakers.push(Epoll::waker(&poll).map_err(setup_error(worker))?);
        polls.push(poll);
    }
    Ok((polls, wakers.into()))
}

/// Each worker's hand-off; `None` if each worker serves the connections it accepts.
fn hand_offs(balances: &[Balance], workers: usize) -> Vec<Option<HandOff<Socket>>> {
    if balances.contains(&Balance::LeastConnections) {
        let ends = HandOff::among(workers, MAX_INBOX);
        ends.into_iter().map(Some).collect()
    } else {
        (0..workers).map(|_| None).collect()
    }
}

/// The sockets of one worker.
#[derive(Default)]
struct WorkerSockets {
    listeners: Vec<(Listening, Listener)>,
    datagrams: Vec<UdpEndpoint<UdpSocket>>,
}

/// Moves every socket to its assigned worker.
fn distribute(bound: Vec<Bound>, assigned: &[Assignment], config: &Config) -> Vec<WorkerSockets> {
    let mut workers = Vec::new();
    workers.resize_with(config.workers.get(), WorkerSockets::default);
    for (endpoint, (bound, assignment)) in bound.into_iter().zip(assigned).enumerate() {
        let is_beside: Vec<_> = (0..bound.sockets.descriptors().len())
            .map(|number| bound.is_beside(number))
            .collect();
        let security = match bound.configured {
            Endpoint::Tls(_) => Security::Tls,
            Endpoint::Tcp(_) | Endpoint::Udp(_) | Endpoint::Unix(_) => Security::None,
        };
        let Bound { service, owner, .. } = bound;
        let share = match assignment.balance {
            Balance::LeastConnections => Share::LeastLoaded,
            Balance::Kernel | Balance::IncomingCpu => Share::Own,
        };
        // Only a queue that another process keeps open needs a bound.
        let max_queued = match owner {
            Owner::Another => config.backlog.saturating_add(1),
            Owner::Us | Owner::UsWithFile(_) => u32::MAX,
        };
        let mut listen = |number, listener| {
            let origin = if is_beside[number] {
                Origin::Beside
            } else {
                Origin::Endpoint
            };
            let listening =
                Listening::new(endpoint, origin, (service, security), share, max_queued);
            let worker = &mut workers[assignment.worker_of(number)];
            worker.listeners.push((listening, listener));
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
                    let worker = &mut workers[assignment.worker_of(number)];
                    worker.datagrams.push(UdpEndpoint {
                        endpoint,
                        service,
                        socket,
                    });
                }
            }
        }
    }
    workers
}

/// The CPU of each worker; empty if the workers are not pinned.
fn cpus(config: &Config) -> Vec<usize> {
    if !config.pins_workers() {
        return Vec::new();
    }
    affinity::cpus_in_turn(config.workers.get()).unwrap_or_else(|error| {
        warn!(%error, "cannot read the CPUs to pin the workers to");
        Vec::new()
    })
}

/// Sets or resets SO_INCOMING_CPU of each socket that no predecessor serves on.
fn prefer_cpus(bound: &Bound, cpu_of: impl Fn(usize) -> Option<usize>) -> Result<(), Error> {
    if let Sockets::Unix(_) = bound.sockets {
        return Ok(());
    }
    let first = if bound.is_of_predecessor() {
        bound.inherited
    } else {
        0
    };
    let sockets = bound.sockets.descriptors().into_iter().enumerate();
    for (number, socket) in sockets.skip(first) {
        listen::prefer_cpu(&socket, cpu_of(number))
            .map_err(|error| listen::fail(&bound.configured, None, error))?;
    }
    Ok(())
}

/// The port of a UDP endpoint as bound.
fn udp_port((_, endpoint): &(Service, Endpoint)) -> Option<u16> {
    match endpoint {
        Endpoint::Udp(address) => Some(address.port),
        Endpoint::Tcp(_) | Endpoint::Tls(_) | Endpoint::Unix(_) => None,
    }
}
