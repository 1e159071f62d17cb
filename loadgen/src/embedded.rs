//! The server of a run without a target: an echod in this process, measured over real sockets.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread;

use echomark::net::endpoint::Endpoint;
use echomark::{Config, Limits, Server, Service};

use crate::engine::priority::Scheduling;
use crate::error::RunError;

/// An echod in this process, with real threads and real sockets.
pub(crate) struct Embedded {
    /// One endpoint per service, in their order.
    pub(crate) endpoints: Vec<Endpoint>,
    handle: echomark::Handle,
    thread: Option<thread::JoinHandle<Result<echomark::metrics::Snapshot, echomark::Error>>>,
}

impl Embedded {
    pub(crate) fn start(
        workers: NonZeroUsize,
        services: &[Service],
        scheduling: &Scheduling,
    ) -> Result<Self, RunError> {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        let server = Server::bind(Config {
            services: services
                .iter()
                .map(|&service| (service, Endpoint::Tcp(any_port.into())))
                .collect(),
            workers,
            // Only this process's own client sends to it.
            limits: Limits {
                udp_rate_per_source: None,
                ..Limits::default()
            },
            pin: scheduling.keeps_apart(),
            ..Config::default()
        })
        .map_err(RunError::Embedded)?;
        let bound = server.endpoints().iter();
        let endpoints = bound.map(|(_, endpoint)| endpoint.clone()).collect();
        let handle = server.handle();
        let thread = thread::Builder::new()
            .name("echod".to_owned())
            .spawn(move || server.run())
            .map_err(RunError::System)?;
        Ok(Self {
            endpoints,
            handle,
            thread: Some(thread),
        })
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            // A failure would have shown in the measurement.
            let _ = thread.join();
        }
    }
}
