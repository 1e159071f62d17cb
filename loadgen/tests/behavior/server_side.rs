//! The server's counters stand beside the client's figures, and both agree.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::Duration;

use echomark::internal::{About, Admin, HostNames, Running, SettingsStatus, Status};
use echomark::metrics::Snapshot;
use echomark::net::endpoint::AdminAddress;
use echomark::{Balance, Config, Handle, Limits, Server, Service};
use loadgen::RunResult;
use loadgen::plan::{Background, Close, Direction, Load, Plan, Target, Workload};
use loadgen::result::Code;

use crate::program;
use crate::support::{
    PlainServer, codes, constant, number, plan, run, server, try_run, wait_until,
};

/// An echod with an admin port.
pub(crate) struct Echod {
    pub(crate) endpoints: Vec<echomark::net::endpoint::Endpoint>,
    pub(crate) admin: SocketAddr,
    handle: Handle,
    thread: Option<thread::JoinHandle<Result<Snapshot, echomark::Error>>>,
    _answering: Running,
}

impl Echod {
    pub(crate) fn start(services: &[(Service, &str)], workers: usize) -> Self {
        // A test sends all it has from one address.
        let limits = Limits {
            udp_rate_per_source: None,
            ..Limits::default()
        };
        Self::start_with(limits, services, workers)
    }

    fn start_with(limits: Limits, services: &[(Service, &str)], workers: usize) -> Self {
        let server = Server::bind(Config {
            services: services
                .iter()
                .map(|(service, endpoint)| (*service, endpoint.parse().unwrap()))
                .collect(),
            workers: number(workers),
            limits,
            ..Config::default()
        })
        .unwrap();
        let endpoints: Vec<_> = server.endpoints().to_vec();
        let admin = Admin::bind(&"127.0.0.1:0".parse().unwrap(), None).unwrap();
        let AdminAddress::Tcp(address) = admin.address() else {
            panic!("{} is not TCP", admin.address());
        };
        let address = address.resolve().unwrap()[0];
        let handle = server.handle();
        let answering = admin
            .start(Status::new(
                handle.clone(),
                About {
                    balances: vec![Balance::Kernel; endpoints.len()],
                    endpoints: endpoints.clone(),
                    balance: Balance::Kernel,
                    configuration: Box::new(|| "none".into()),
                    settings: Box::new(SettingsStatus::default),
                    sandbox: "none".into(),
                    hosts: HostNames::Any,
                },
            ))
            .unwrap();
        Self {
            endpoints: endpoints
                .into_iter()
                .map(|(_, endpoint)| endpoint)
                .collect(),
            admin: address,
            handle,
            thread: Some(thread::spawn(move || server.run())),
            _answering: answering,
        }
    }

    pub(crate) fn echo() -> Self {
        Self::start(&[(Service::Echo, "tcp://127.0.0.1:0")], 2)
    }

    fn plan(&self) -> Plan {
        Plan {
            server_admin: Some(self.admin.to_string().parse().unwrap()),
            warmup: Duration::from_millis(100),
            ..plan(Target::Servers {
                targets: vec![self.endpoints[0].clone()],
            })
        }
    }
}

impl Drop for Echod {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[track_caller]
fn assert_agreed(result: &RunResult) {
    let server = result.server.as_ref().unwrap();
    assert!(server.accounts.agree, "{:?}", server.accounts);
    assert!(!codes(result).contains(&&Code::ServerDisagrees));
}

#[test]
fn both_sides_count_the_same_bytes_and_connections() {
    let echod = Echod::echo();
    let result = run(&Plan {
        load: constant(1000.0),
        ..echod.plan()
    });
    assert_agreed(&result);
    let server = result.server.as_ref().unwrap();
    let accounts = &server.accounts;
    assert_eq!(accounts.client_sent_bytes, accounts.server_received_bytes);
    assert_eq!(accounts.client_received_bytes, accounts.server_sent_bytes);
    // These accounts include the warm-up; the window's do not.
    assert!(accounts.client_sent_bytes > result.bytes.sent);
    assert_eq!((accounts.client_opened, accounts.server_accepted), (4, 4));
    assert_eq!(accounts.server_refused, 0);

    assert_eq!((server.workers, server.balance.as_str()), (2, "kernel"));
    assert_eq!(server.per_worker.len(), 2);
    let accepted: u64 = server
        .per_worker
        .iter()
        .map(|worker| worker.connections_accepted)
        .sum();
    assert_eq!(accepted, 4);
    let window = server.window.unwrap();
    let messages = window.received_bytes as f64 / 64.0;
    assert!((window.messages - messages).abs() < 1e-6 * messages);
    // CPU time per message times messages is the total.
    let cpu_s = server.cpu_ns_per_message.unwrap() * window.messages / 1e9;
    assert!((cpu_s - window.cpu_s).abs() < 1e-9);
    assert!(window.cpu_s > 0.0 && server.cpu_ratio.unwrap() <= 2.5);
    assert!(server.events_per_turn.unwrap() > 0.0);
    assert!(server.balance_jain.unwrap() >= 0.5 - 1e-9);
}

#[test]
fn accounts_agree_for_every_workload() {
    let echod = Echod::start(
        &[
            (Service::Echo, "tcp://127.0.0.1:0"),
            (Service::Discard, "tcp://127.0.0.1:0"),
            (Service::Chargen, "tcp://127.0.0.1:0"),
            (Service::Echo, "udp://127.0.0.1:0"),
        ],
        1,
    );
    let base = echod.plan();
    let to = |index: usize| Target::Servers {
        targets: vec![echod.endpoints[index].clone()],
    };
    let stream = |direction| Workload::Stream { direction };
    let closed = Load::Closed {
        pipeline: number(4),
    };
    for plan in [
        Plan {
            load: constant(1000.0),
            ..base.clone()
        },
        Plan {
            workload: Workload::Churn {
                close: Close::Orderly,
            },
            ..base.clone()
        },
        Plan {
            workload: Workload::Idle,
            load: constant(100.0),
            ..base.clone()
        },
        Plan {
            workload: stream(Direction::Echo),
            load: closed.clone(),
            ..base.clone()
        },
        Plan {
            workload: stream(Direction::Up),
            load: closed.clone(),
            verify: false,
            target: to(1),
            ..base.clone()
        },
        Plan {
            workload: stream(Direction::Down),
            load: closed,
            target: to(2),
            ..base.clone()
        },
        Plan {
            load: constant(1000.0),
            target: to(3),
            timeout: Duration::from_secs(1),
            ..base.clone()
        },
        Plan {
            background: Some(Background {
                streams: number(1),
                direction: Direction::Echo,
                targets: Vec::new(),
            }),
            ..base.clone()
        },
        Plan {
            repeat: number(2),
            ..base
        },
    ] {
        let result = run(&plan);
        assert_agreed(&result);
        let server = result.server.as_ref().unwrap();
        // A stream may leave the admin port no processor until it is over.
        if let Some(window) = server.window {
            assert!(window.messages > 0.0, "{:?}", plan.workload);
            assert!(server.cpu_ns_per_message.is_some());
        }
        assert!(
            loadgen::report::text::render(&result).contains("counters of client and server agree")
        );
    }
}

#[test]
fn other_clients_and_other_servers_show_in_the_accounts() {
    let echod = Echod::echo();
    let endpoint = echod.endpoints[0].to_string();
    let address = endpoint.strip_prefix("tcp://").unwrap().to_owned();
    let base = echod.plan();
    let plan = Plan {
        requests: std::num::NonZeroU64::new(200),
        duration: None,
        warmup: Duration::ZERO,
        load: constant(400.0),
        ..base
    };
    let measured = thread::spawn(move || run(&plan));
    wait_until("the run has begun", || {
        let mut client = TcpStream::connect(&address).unwrap();
        client.write_all(b"another client").unwrap();
        let mut back = [0; 14];
        client.read_exact(&mut back).unwrap();
        measured.is_finished()
    });
    let result = measured.join().unwrap();
    let accounts = &result.server.as_ref().unwrap().accounts;
    assert!(!accounts.agree);
    assert!(accounts.server_received_bytes > accounts.client_sent_bytes);
    assert!(codes(&result).contains(&&Code::ServerDisagrees));
    let table = loadgen::report::text::render(&result);
    assert!(
        table.contains("counters of client and server differ"),
        "{table}"
    );

    // The admin port of one server, and the target is another.
    let plain = PlainServer::echo();
    let result = run(&Plan {
        server_admin: Some(echod.admin.to_string().parse().unwrap()),
        ..crate::support::plan(server(&plain))
    });
    assert!(codes(&result).contains(&&Code::ServerDisagrees));
}

/// By default an echod limits the rate of one source, which every measurement over UDP exceeds.
#[test]
fn a_server_that_limits_datagrams_is_named() {
    let services = [(Service::Echo, "udp://127.0.0.1:0")];
    let echod = Echod::start_with(Limits::default(), &services, 1);
    let plan = Plan {
        requests: std::num::NonZeroU64::new(6000),
        duration: None,
        timeout: Duration::from_millis(200),
        load: constant(6000.0),
        ..echod.plan()
    };
    let reason = |plan: &Plan, code: Code| {
        let result = run(plan);
        let mut reasons = result.verdict.reasons.into_iter();
        let reason = reasons.find(|it| it.code == code);
        (reason.map(|it| it.text), result.server)
    };
    let (text, server) = reason(&plan, Code::ServerLimited);
    let over = server.unwrap().accounts.server_over_source_rate;
    let text = text.expect("a reason");
    assert!(over > 0 && text.contains(&over.to_string()), "{text}");
    assert!(text.contains("--udp-rate-per-source off"), "{text}");
    // Without its counters it may be the reason.
    let plan = Plan {
        server_admin: None,
        ..plan
    };
    let (text, _) = reason(&plan, Code::Missing);
    let text = text.expect("a reason");
    assert!(text.contains("--udp-rate-per-source off"), "{text}");
}

#[test]
fn what_does_not_tell_what_it_counts_is_named() {
    let plain = PlainServer::echo();
    let url = plain.endpoint().to_string().replace("tcp://", "http://");
    let plan = Plan {
        server_admin: Some(url.parse().unwrap()),
        ..plan(server(&plain))
    };
    // An echo of the request is no valid response.
    let problem = try_run(&plan).unwrap_err().to_string();
    assert!(
        problem.contains(&url) && problem.contains("--admin"),
        "{problem}"
    );
    let free = UdpSocket::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let output = program::run(&["run", "--server-admin", &free.to_string()]);
    program::assert_one_line(&output, 1, &[&format!("http://{free}"), "refused"]);
    let output = program::run(&["run", "--server-admin", "https://localhost:1"]);
    program::assert_one_line(&output, 2, &["--server-admin", "http://HOST:PORT"]);
}
