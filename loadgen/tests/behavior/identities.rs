//! Sums that hold whatever happens: every workload in both loops over every transport, to its end
//! and interrupted at any moment.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use echomark::{Config, Limits, Server, Service};
use loadgen::observer::Unobserved;
use loadgen::plan::sizes::Sizes;
use loadgen::plan::{Close, Direction, Load, Plan, Target, TlsOptions, Workload};
use loadgen::{Control, RunResult};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};

use crate::support::{DEADLINE, check_accounts, constant, even, number, plan, run};
use crate::tls::identity::Authority;

/// Attempts for a run in which something came back.
const ATTEMPTS: usize = 5;

/// An echod of this process that serves one service over one transport.
struct Echod {
    endpoint: Endpoint,
    handle: echomark::Handle,
    tls: TlsOptions,
    /// The files of its certificate.
    _authority: Option<Authority>,
    thread: Option<thread::JoinHandle<()>>,
    path: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Transport {
    Tcp,
    Unix,
    Udp,
    Tls,
}

impl Echod {
    fn start(transport: Transport, service: Service) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let path = (transport == Transport::Unix).then(|| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let name = format!("loadgen-identities-{}-{number}", std::process::id());
            std::env::temp_dir().join(name)
        });
        let endpoint = match (transport, &path) {
            (_, Some(path)) => Endpoint::Unix(path.clone()),
            (Transport::Udp, None) => "udp://127.0.0.1:0".parse().unwrap(),
            (Transport::Tls, None) => "tls://127.0.0.1:0".parse().unwrap(),
            (_, None) => "tcp://127.0.0.1:0".parse().unwrap(),
        };
        let authority = (transport == Transport::Tls).then(Authority::new);
        let server = Server::bind(Config {
            services: vec![(service, endpoint)],
            tls: authority
                .as_ref()
                .map(|authority| authority.identity("server").server(None)),
            workers: number(1),
            // A test sends all it has from one address.
            limits: Limits {
                udp_rate_per_source: None,
                ..Limits::default()
            },
            ..Config::default()
        })
        .unwrap();
        let endpoint = server.endpoints()[0].1.clone();
        let handle = server.handle();
        let thread = thread::spawn(move || drop(server.run()));
        Self {
            endpoint,
            handle,
            tls: TlsOptions {
                ca: authority.as_ref().map(Authority::ca),
                ..TlsOptions::default()
            },
            _authority: authority,
            thread: Some(thread),
            path,
        }
    }
}

impl Drop for Echod {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
    }
}

const WORKLOADS: [Workload; 7] = [
    Workload::Request,
    Workload::Idle,
    Workload::Churn {
        close: Close::Orderly,
    },
    Workload::Churn {
        close: Close::Reset,
    },
    Workload::Stream {
        direction: Direction::Echo,
    },
    Workload::Stream {
        direction: Direction::Up,
    },
    Workload::Stream {
        direction: Direction::Down,
    },
];

fn service_for(workload: Workload) -> Service {
    match workload {
        Workload::Stream {
            direction: Direction::Up,
        } => Service::Discard,
        Workload::Stream {
            direction: Direction::Down,
        } => Service::Chargen,
        _ => Service::Echo,
    }
}

/// Plans for every workload that a transport knows, in both loops, that last a tenth of a second.
fn plans(transport: Transport, mut take: impl FnMut(&Plan)) {
    for workload in WORKLOADS {
        let is_stream = matches!(workload, Workload::Stream { .. });
        let is_echo = service_for(workload) == Service::Echo;
        if transport == Transport::Udp && (!is_echo || matches!(workload, Workload::Churn { .. })) {
            continue;
        }
        let server = Echod::start(transport, service_for(workload));
        let loops = [
            Load::Closed {
                pipeline: number(2),
            },
            constant(3000.0),
            even("1k..5k"),
        ];
        // The server decides how much it sends, in both loops.
        let loops = if server_decides(workload) {
            &loops[..1]
        } else {
            &loops[..]
        };
        for load in loops {
            take(&Plan {
                workload,
                load: load.clone(),
                threads: number(2),
                connections: number(5),
                size: match transport {
                    _ if is_stream && transport != Transport::Udp => Sizes::Fixed(20_000),
                    _ => Sizes::Uniform {
                        least: 8,
                        most: 1400,
                    },
                },
                verify: service_for(workload) != Service::Discard,
                duration: Some(Duration::from_millis(100)),
                warmup: Duration::from_millis(20),
                ramp: Duration::from_millis(20),
                interval: Duration::from_millis(30),
                timeout: Duration::from_secs(2),
                tls: server.tls.clone(),
                ..plan(Target::Servers {
                    targets: vec![server.endpoint.clone()],
                })
            });
        }
    }
}

fn server_decides(workload: Workload) -> bool {
    service_for(workload) == Service::Chargen
}

fn name(plan: &Plan) -> String {
    format!("{:?}, {:?}", plan.workload, plan.load)
}

/// Checks beyond [`check_accounts`].
#[track_caller]
fn check_all(result: &RunResult, name: &str) {
    let total = |rate: f64| (rate * result.duration_s).round() as u64;
    let messages = &result.messages;
    assert_eq!(
        total(result.rate.offered),
        messages.sent + messages.unsent,
        "{name}: {messages:?}"
    );
    // Bytes add up as their messages do, those of the wait after the window included.
    let sent_bytes: u64 = result.intervals.iter().map(|i| i.sent_bytes).sum();
    let received_bytes: u64 = result.intervals.iter().map(|i| i.received_bytes).sum();
    let bytes = &result.bytes;
    assert_eq!(
        (sent_bytes, received_bytes),
        (bytes.sent, bytes.received),
        "{name}"
    );
    // In an open loop, the rate counts the messages that were due in the window.
    let is_closed = !result.plan.is_open_loop();
    if let Some(fairness) = result.fairness.as_ref().filter(|_| is_closed) {
        // All are listed, so they add up to the messages received in the window.
        let shares: u64 = fairness.slowest.iter().map(|share| share.messages).sum();
        assert_eq!(shares, total(result.rate.achieved), "{name}");
    }
    let opened: u64 = result.intervals.iter().map(|i| i.opened).sum();
    let in_ramp: u64 = result.ramp.iter().map(|part| part.opened).sum();
    assert!(opened + in_ramp <= result.connections.opened, "{name}");
    let json = serde_json::to_value(result).unwrap();
    for key in [
        "duration_s",
        "rate",
        "messages",
        "intervals",
        "client",
        "verdict",
    ] {
        assert!(!json[key].is_null(), "{name}: {key}");
    }
    for rate in [
        "/rate/offered",
        "/rate/achieved",
        "/throughput/sent_bits_per_s",
    ] {
        assert!(json.pointer(rate).unwrap().is_number(), "{name}: {rate}");
    }
    assert!(!loadgen::report::text::render(result).is_empty());
}

fn complete(transport: Transport) {
    plans(transport, |plan| {
        let name = name(plan);
        // On a busy machine, a thread may have no CPU during a whole short window.
        let result = (0..ATTEMPTS)
            .map(|_| run(plan))
            .find(|result| result.messages.received > 0)
            .unwrap_or_else(|| panic!("{name}: nothing came back, however often it was tried"));
        assert!(!result.interrupted, "{name}");
        assert_eq!(result.messages.corrupt, 0, "{name}");
        assert!((result.duration_s - 0.1).abs() < 1e-9, "{name}");
        check_all(&result, &name);
    });
}

#[test]
fn everything_adds_up_over_tcp() {
    complete(Transport::Tcp);
}

#[test]
fn everything_adds_up_over_unix_sockets() {
    complete(Transport::Unix);
}

#[test]
fn everything_adds_up_over_tls() {
    complete(Transport::Tls);
}

#[test]
fn everything_adds_up_over_udp() {
    complete(Transport::Udp);
}

#[test]
fn everything_adds_up_for_a_number_of_messages() {
    plans(Transport::Tcp, |plan| {
        if server_decides(plan.workload) {
            return;
        }
        let result = run(&Plan {
            duration: Some(DEADLINE),
            requests: NonZeroU64::new(101),
            ..plan.clone()
        });
        let name = name(plan);
        assert_eq!(result.messages.sent, 101, "{name}");
        assert_eq!(result.messages.received, 101, "{name}");
        assert!(result.duration_s < DEADLINE.as_secs_f64(), "{name}");
        check_all(&result, &name);
    });
}

/// Stops each run once, at any time from the first connect to the last echo.
fn interrupted(transport: Transport) {
    let mut rng = Xoshiro256PlusPlus::seed_from_u64(transport as u64);
    plans(transport, |plan| {
        let name = name(plan);
        let control = Control::default();
        let moment = Duration::from_micros(rng.next_u64() % 150_000);
        let result = thread::scope(|scope| {
            let steering = control.clone();
            scope.spawn(move || {
                // Any moment is valid.
                thread::park_timeout(moment);
                steering.stop();
            });
            loadgen::run(plan, &control, &mut Unobserved)
        });
        let result = result.unwrap_or_else(|error| panic!("{name} after {moment:?}: {error}"));
        let name = format!("{name} after {moment:?}");
        check_accounts(&result);
        check_all(&result, &name);
        assert!(result.duration_s <= 0.1 + 1e-9, "{name}");
    });
}

#[test]
fn an_interruption_leaves_accounts_that_add_up_over_tcp() {
    interrupted(Transport::Tcp);
}

#[test]
fn an_interruption_leaves_accounts_that_add_up_over_unix_sockets() {
    interrupted(Transport::Unix);
}

#[test]
fn an_interruption_leaves_accounts_that_add_up_over_tls() {
    interrupted(Transport::Tls);
}

#[test]
fn an_interruption_leaves_accounts_that_add_up_over_udp() {
    interrupted(Transport::Udp);
}
