//! An echod whose endpoint does on order what its options say: the delay of each message, what is lost,
//! or sent twice is known by arithmetic.

use std::thread;
use std::time::{Duration, Instant};

use echomark::internal::delays;
use echomark::metrics::{Fault, Snapshot};
use echomark::net::endpoint::Endpoint;
use echomark::net::tuning::Tuning;
use echomark::{Config, Error, Faults, Handle, Limits, Server, Service, Spin};
use loadgen::plan::{Plan, Target};

use super::{DATAGRAM_BUFFER, Truth, show};
use crate::support::{number, run};

/// Above what a message takes without a delay on a machine that has a processor for each side.
const MAX_TRIP: Duration = Duration::from_micros(200);

/// A running server with faults.
pub(crate) struct Ordered {
    endpoint: Endpoint,
    faults: Faults,
    handle: Handle,
    thread: Option<thread::JoinHandle<Result<Snapshot, Error>>>,
    begin: Instant,
}

impl Ordered {
    /// An echo at a free port with these options.
    #[track_caller]
    pub(crate) fn start(scheme: &str, options: &str) -> Self {
        Self::start_with(Spin::Never, scheme, options)
    }

    /// One whose worker polls and never sleeps, so that a message arrives when it comes.
    #[track_caller]
    pub(crate) fn polling(scheme: &str, options: &str) -> Self {
        Self::start_with(Spin::Always, scheme, options)
    }

    #[track_caller]
    fn start_with(spin: Spin, scheme: &str, options: &str) -> Self {
        let endpoint = format!("{scheme}://127.0.0.1:0").parse().unwrap();
        let faults: Vec<Faults> = match options {
            "" => Vec::new(),
            options => vec![options.parse().unwrap()],
        };
        let server = Server::bind(Config {
            services: vec![(Service::Echo, endpoint)],
            faults,
            workers: number(1),
            spin,
            tuning: Tuning {
                recv_buffer: Some(DATAGRAM_BUFFER),
                ..Tuning::default()
            },
            limits: Limits {
                udp_rate_per_source: None,
                ..Limits::default()
            },
            ..Config::default()
        });
        let server = server.unwrap();
        let handle = server.handle();
        Self {
            endpoint: server.endpoints()[0].1.clone(),
            faults: handle.faults()[0].clone().unwrap_or_default(),
            handle,
            thread: Some(thread::spawn(|| server.run())),
            begin: Instant::now(),
        }
    }

    pub(crate) fn target(&self) -> Target {
        Target::Servers {
            targets: vec![self.endpoint.clone()],
        }
    }

    /// How often it did this.
    pub(crate) fn count(&self, fault: Fault) -> u64 {
        self.handle.metrics().faults(fault)
    }

    /// The share of time in which a polling one had no processor.
    pub(crate) fn absence(&self) -> f64 {
        let used: Duration = self.handle.cpu_times().iter().sum();
        1.0 - (used.as_secs_f64() / self.begin.elapsed().as_secs_f64()).min(1.0)
    }

    /// The delays of so many datagrams, to which a round trip of at most `trip` comes.
    pub(crate) fn truth(&self, datagrams: u64, trip: Duration) -> Truth {
        let delays = delays(&self.faults, 0).take(datagrams as usize);
        let mut sorted: Vec<u64> = delays.map(|it| it.as_nanos() as u64).collect();
        sorted.sort_unstable();
        let later = |delay: &u64| delay + trip.as_nanos() as u64;
        Truth {
            sorted_at_most: sorted.iter().map(later).collect(),
            sorted,
        }
    }
}

/// What a message of this plan takes there and back without a delay: the median.
pub(crate) fn trip(scheme: &str, plan_for: impl Fn(Target) -> Plan) -> Duration {
    let server = Ordered::polling(scheme, "");
    let result = run(&plan_for(server.target()));
    let median = result.latency_ns.response.unwrap().quantile(0.5).unwrap();
    let trip = Duration::from_nanos(median).min(MAX_TRIP);
    show(&format!("a round trip takes {trip:?}"));
    trip
}

impl Drop for Ordered {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
