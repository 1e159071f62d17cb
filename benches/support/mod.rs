//! The server under test and its CPU, for the benchmarks over loopback.

use std::net::{SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use echomark::metrics::Snapshot;
use echomark::net::affinity;
use echomark::{Config, Error, Handle, Server, Service};

/// The longest wait for an echo: a server that does not answer ends the benchmark with an error
/// instead of hanging it.
const PATIENCE: Duration = Duration::from_secs(10);

/// Binds the calling thread, which plays the client, to a CPU. Returns that CPU, and another one if
/// the process may use more.
///
/// The placement of two threads that wait for each other decides the result: on one CPU they hand
/// it over, on two each wakes an idle CPU, which takes several times as long and varies more.
/// Without pinning, a benchmark measures the scheduler's choice.
pub(crate) fn pin_client() -> (usize, Option<usize>) {
    let cpus = affinity::allowed_cpus().expect("the kernel tells");
    let mut cpus = cpus.into_iter().rev();
    let client = cpus.next().expect("this thread runs on one");
    affinity::pin_thread(client).expect("this CPU is allowed");
    (client, cpus.next())
}

/// The configuration of all benchmarks: one worker, and this number of free ports of the loopback
/// address.
pub(crate) fn config(ports: usize) -> Config {
    let endpoint = "tcp://127.0.0.1:0".parse().expect("it is an endpoint");
    Config {
        services: vec![(Service::Echo, endpoint); ports],
        workers: NonZeroUsize::MIN,
        ..Config::default()
    }
}

/// An echo server in this process. It is stopped and joined when it is dropped.
#[derive(Debug)]
pub(crate) struct TestServer {
    addresses: Vec<SocketAddr>,
    next_address: usize,
    handle: Handle,
    thread: Option<JoinHandle<Result<Snapshot, Error>>>,
}

impl TestServer {
    /// Starts a server with all of its threads on one CPU.
    pub(crate) fn start(config: Config, cpu: usize) -> Self {
        let server = Server::bind(config).expect("loopback has free ports");
        let addresses = server
            .endpoints()
            .iter()
            .map(|(_, bound)| bound.resolve().expect("it is bound to an address")[0])
            .collect();
        Self {
            addresses,
            next_address: 0,
            handle: server.handle(),
            thread: Some(thread::spawn(move || {
                // The workers inherit the affinity of the thread that starts them.
                affinity::pin_thread(cpu).expect("this CPU is allowed");
                server.run()
            })),
        }
    }

    /// Connects to the server's ports in turn.
    pub(crate) fn connect(&mut self) -> TcpStream {
        let address = self.addresses[self.next_address];
        self.next_address = (self.next_address + 1) % self.addresses.len();
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream
            .set_read_timeout(Some(PATIENCE))
            .expect("the timeout is not zero");
        stream
    }

    /// Stops the server, closing what is open, and returns what it counted.
    pub(crate) fn stop(mut self) -> Snapshot {
        self.handle.stop();
        let thread = self.thread.take().expect("only this and drop take it");
        thread
            .join()
            .expect("the server does not panic")
            .expect("no worker failed")
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // Only an unwinding benchmark gets here, and it has its own failure to report.
            let _ = thread.join();
        }
    }
}
