//! Binding endpoints, starting and joining workers, and steering them from outside.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::thread;

use tracing::warn;

use crate::admission::{Admission, Policy};
use crate::config::Config;
use crate::error::Error;
use crate::metrics::{Snapshot, WorkerMetrics};
use crate::net::affinity;
use crate::net::endpoint::Endpoint;
use crate::net::tuning::{self, ListenError};
use crate::reactor::{Control, Reactor, Wish};
use crate::service::Service;

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
    reactors: Vec<Reactor>,
    endpoints: Vec<(Service, Endpoint)>,
    handle: Handle,
    pin: bool,
}

impl Server {
    /// Binds every endpoint once for each worker.
    ///
    /// # Errors
    /// [`Error`] names the endpoint, or the worker that could not be set up.
    pub fn bind(config: Config) -> Result<Self, Error> {
        let workers = config.workers.get();
        let mut endpoints = Vec::with_capacity(config.services.len());
        let mut listeners: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
        for (service, endpoint) in &config.services {
            let (bound, group) = listen(endpoint, workers, &config)?;
            endpoints.push((*service, bound));
            for (mine, listener) in listeners.iter_mut().zip(group) {
                mine.push(listener);
            }
        }
        if let Some(somaxconn) = tuning::somaxconn()
            && somaxconn < config.backlog
        {
            warn!(
                "the kernel cuts the backlog of {} to net.core.somaxconn, {somaxconn}",
                config.backlog
            );
        }
        let control = Arc::new(Control::new(
            Admission::new(),
            (0..workers)
                .map(|_| Arc::new(WorkerMetrics::default()))
                .collect(),
        ));
        let policy = Arc::new(Policy::new(&config.limits));
        let mut reactors = Vec::with_capacity(workers);
        let mut wakers = Vec::with_capacity(workers);
        for (worker, listeners) in listeners.into_iter().enumerate() {
            let (policy, control) = (Arc::clone(&policy), Arc::clone(&control));
            let (reactor, waker) = Reactor::new(worker, listeners, &config, policy, control)
                .map_err(|source| Error::Setup { worker, source })?;
            reactors.push(reactor);
            wakers.push(waker);
        }
        Ok(Self {
            reactors,
            endpoints,
            handle: Handle {
                control,
                wakers: wakers.into(),
            },
            pin: config.pin,
        })
    }

    /// The services and their endpoints as bound, with the ports that the kernel chose.
    pub fn endpoints(&self) -> &[(Service, Endpoint)] {
        &self.endpoints
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
            pin,
            ..
        } = self;
        let mut threads = Vec::with_capacity(reactors.len());
        let mut result = Ok(());
        for (worker, reactor) in reactors.into_iter().enumerate() {
            let others = handle.clone();
            let spawned = thread::Builder::new()
                .name(format!("echod-{worker}"))
                .spawn(move || run_worker(worker, reactor, pin, &others));
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
}

impl Handle {
    /// Stops accepting, after all that the kernel had already accepted, and lets open connections
    /// finish within the drain timeout. Returns at once; [`Server::run`] returns at the end.
    pub fn drain(&self) {
        self.ask(Wish::Drain);
    }

    /// Closes everything now.
    pub fn stop(&self) {
        self.ask(Wish::Stop);
    }

    /// The counters of all workers, summed.
    pub fn metrics(&self) -> Snapshot {
        let mut sum = Snapshot::default();
        for worker in &self.control.metrics {
            sum += worker.snapshot();
        }
        sum
    }

    fn ask(&self, wish: Wish) {
        self.control.ask(wish);
        for waker in &*self.wakers {
            // Writing to an eventfd fails only if its counter is full, and then it wakes as well.
            let _ = waker.wake();
        }
    }
}

fn run_worker(worker: usize, reactor: Reactor, pin: bool, others: &Handle) -> Result<(), Error> {
    if pin && let Err(error) = affinity::pin_to_nth_cpu(worker) {
        warn!(worker, %error, "cannot pin the worker to its CPU");
    }
    // Unwinding drops the reactor; what is shared are counters, which stay as they are.
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| reactor.run()));
    let result = match ended {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(source)) => Err(Error::Worker { worker, source }),
        Err(_) => Err(Error::Panicked { worker }),
    };
    others.stop();
    result
}

/// Binds one endpoint for all workers. A name with several addresses is bound on the first.
fn listen(
    endpoint: &Endpoint,
    workers: usize,
    config: &Config,
) -> Result<(Endpoint, Vec<std::net::TcpListener>), Error> {
    let fail = |source| Error::Resolve {
        endpoint: endpoint.clone(),
        source,
    };
    let address = *endpoint
        .resolve()
        .map_err(fail)?
        .first()
        .ok_or_else(|| fail(std::io::ErrorKind::NotFound.into()))?;
    let bind_error = |source| Error::Bind {
        endpoint: endpoint.clone(),
        address,
        source,
    };
    let listeners =
        tuning::listen(address, workers, config.backlog, &config.tuning).map_err(|error| {
            match error {
                ListenError::Bind(source) | ListenError::Socket(source) => bind_error(source),
                ListenError::Tuning(source) => Error::Tuning {
                    endpoint: endpoint.clone(),
                    source,
                },
            }
        })?;
    let bound = match listeners.first() {
        Some(listener) => listener.local_addr().map_err(bind_error)?,
        None => address,
    };
    Ok((Endpoint::Tcp(bound.into()), listeners))
}
