//! Servers behind a target: PROXY headers for them, their greetings, and their shares of the
//! connections.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU64;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use echomark::{Config, Handle, Limits, ProxyProtocol, Server, Service};
use loadgen::plan::{Close, Opening, Plan, ProxyVersion, Workload};

use crate::program;
use crate::support::tools::require;
use crate::support::{
    Directory, PlainServer, check_accounts, number, plan, run, server, wait_until,
};

/// A whoami that believes this machine's headers.
struct Whoami {
    handle: Handle,
    endpoint: String,
    thread: Option<thread::JoinHandle<()>>,
}

impl Whoami {
    fn start(proxy_protocol: ProxyProtocol) -> Self {
        let server = Server::bind(Config {
            services: vec![(Service::Whoami, "tcp://127.0.0.1:0".parse().unwrap())],
            proxy_protocol,
            limits: Limits {
                proxy_from: vec!["127.0.0.0/8".parse().unwrap()],
                // Two of three clients below.
                deny: vec!["192.0.2.1".parse().unwrap()],
                ..Limits::default()
            },
            ..Config::default()
        })
        .unwrap();
        let (handle, endpoint) = (server.handle(), server.endpoints()[0].1.to_string());
        let thread = thread::spawn(move || {
            server.run().unwrap();
        });
        Self {
            handle,
            endpoint,
            thread: Some(thread),
        }
    }
}

impl Drop for Whoami {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn greeted(target: loadgen::plan::Target) -> Plan {
    Plan {
        opening: Opening {
            greeting: true,
            ..Opening::default()
        },
        ..plan(target)
    }
}

#[test]
fn connections_and_messages_are_told_apart_by_their_greeting() {
    let servers = [b"blue\n", b"gold\n"]
        .map(|name| PlainServer::greeting(name, |peer, bytes| peer.send(bytes)));
    for workload in [
        Workload::Request,
        Workload::Churn {
            close: Close::Orderly,
        },
    ] {
        let targets = servers.iter().map(PlainServer::endpoint).collect();
        let result = run(&Plan {
            workload,
            connections: number(4),
            ..greeted(loadgen::plan::Target::Servers { targets })
        });
        check_accounts(&result);
        let names: Vec<_> = result.backends.iter().map(|it| &*it.id).collect();
        assert_eq!(names, ["blue", "gold"]);
        let messages: u64 = result.backends.iter().map(|it| it.messages).sum();
        // Those that came back within the window, as fairness counts them.
        assert!(messages > 0 && messages <= result.messages.received);
        for backend in &result.backends {
            assert!(backend.connections >= 2);
            let response = backend.response.as_ref().expect("a latency");
            assert_eq!(response.count(), backend.messages);
        }
        let opened: u64 = result.backends.iter().map(|it| it.connections).sum();
        assert_eq!(opened, result.connections.opened);
    }
}

#[test]
fn a_header_and_a_greeting_come_before_the_first_message() {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let whoami = Whoami::start(ProxyProtocol::Require);
        let target = loadgen::plan::Target::Servers {
            targets: vec![whoami.endpoint.parse().unwrap()],
        };
        let result = run(&Plan {
            opening: Opening {
                proxy_protocol: Some(version),
                proxy_sources: vec!["192.0.2.8/30".parse().unwrap()],
                greeting: true,
                ..Opening::default()
            },
            connections: number(6),
            ..plan(target)
        });
        check_accounts(&result);
        assert_eq!(result.connections.opened, 6);
        assert_eq!(result.backends.len(), 1);
        let metrics = whoami.handle.metrics();
        let told = match version {
            ProxyVersion::V1 => echomark::metrics::ProxyVersion::V1,
            ProxyVersion::V2 => echomark::metrics::ProxyVersion::V2,
        };
        assert_eq!(metrics.proxy_headers(told), 6);
        // The clients in turn: none of them is denied.
        assert_eq!(metrics.refused(echomark::metrics::RefuseReason::Denied), 0);
    }
    // One that is denied is not served.
    let whoami = Whoami::start(ProxyProtocol::Require);
    let output = program::run(&[
        "run",
        &whoami.endpoint,
        "-d",
        "500ms",
        "-w",
        "0",
        "-c",
        "1",
        "--timeout",
        "200ms",
        "--proxy-protocol",
        "v2",
        "--proxy-source",
        "192.0.2.1",
    ]);
    assert_ne!(output.status.code(), Some(0));
    assert!(
        whoami
            .handle
            .metrics()
            .refused(echomark::metrics::RefuseReason::Denied)
            > 0
    );
}

#[test]
fn a_server_that_does_not_greet_is_not_served_in_time() {
    let silent = PlainServer::echo();
    let output = program::run(&[
        "run",
        &silent.endpoint().to_string(),
        "-d",
        "500ms",
        "-w",
        "0",
        "-c",
        "2",
        "--timeout",
        "200ms",
        "--greeting",
    ]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn a_wrong_expectation_is_exit_code_99_and_a_sentence() {
    let servers = [b"blue\n", b"gold\n"]
        .map(|name| PlainServer::greeting(name, |peer, bytes| peer.send(bytes)));
    let endpoints = servers.each_ref().map(|it| it.endpoint().to_string());
    let with = |shares: &str| {
        program::run(&[
            "run",
            &endpoints[0],
            &endpoints[1],
            "-c",
            "100",
            "-d",
            "300ms",
            "-w",
            "0",
            "--greeting",
            "--expect-share",
            shares,
            "--allow-invalid",
        ])
    };
    let met = with("blue=50%,gold=50%");
    let text = String::from_utf8_lossy(&met.stdout);
    assert_eq!(met.status.code(), Some(0), "{text}");
    assert!(text.contains("as expected"), "{text}");
    assert!(text.contains("blue") && text.contains("50.0 %"), "{text}");
    let refused = with("blue=90%,gold=10%");
    let text = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(99), "{text}");
    assert!(text.contains("not as expected"), "{text}");
}

#[test]
fn options_without_effect_are_refused() {
    for (arguments, part) in [
        (&["run", "udp://127.0.0.1:7", "--greeting"][..], "UDP"),
        (&["run", "--greeting"], "needs a target"),
        (
            &["run", "tcp://127.0.0.1:7", "--proxy-source", "192.0.2.1"],
            "--proxy-protocol",
        ),
        (
            &["run", "tcp://127.0.0.1:7", "--expect-share", "a=1"],
            "--greeting",
        ),
        (
            &[
                "run",
                "tcp://127.0.0.1:7",
                "--greeting",
                "--expect-share",
                "a=70%,b=40%",
            ],
            "110.0 %",
        ),
        (
            &[
                "run",
                "tcp://127.0.0.1:7",
                "--greeting",
                "--workload",
                "stream",
                "--direction",
                "up",
            ],
            "one-way",
        ),
    ] {
        let output = program::run(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(part), "{part} in {stderr}");
    }
}

/// HAProxy. Dropping it ends it.
struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// HAProxy deals connections in turn by weight, so the shares are those of the weights.
#[test]
fn haproxy_s_weights_are_found_and_others_refused() {
    require!("haproxy");
    let servers = [b"blue\n", b"gold\n"]
        .map(|name| PlainServer::greeting(name, |peer, bytes| peer.send(bytes)));
    let [blue, gold] = servers.each_ref().map(|it| {
        let endpoint = it.endpoint().to_string();
        endpoint.trim_start_matches("tcp://").to_owned()
    });
    let port = {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let folder = Directory::new("haproxy");
    let file = folder.path("haproxy.cfg");
    let text = format!(
        "defaults\n mode tcp\n timeout connect 10s\n timeout client 1m\n timeout server 1m\n\
         listen front\n bind 127.0.0.1:{port}\n balance roundrobin\n\
         \x20server blue {blue} weight 70\n server gold {gold} weight 30\n"
    );
    std::fs::write(&file, text).unwrap();
    let child = Command::new("haproxy")
        .args(["-db", "-f"])
        .arg(&file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut proxy = Proxy(child);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    wait_until("a listening proxy", || {
        assert!(proxy.0.try_wait().unwrap().is_none(), "haproxy ended");
        TcpStream::connect(address).is_ok()
    });
    let with = |shares: &str| {
        program::run(&[
            "run",
            &format!("tcp://{address}"),
            "--workload",
            "churn",
            "-c",
            "8",
            "-n",
            "1000",
            "-w",
            "0",
            "--greeting",
            "--expect-share",
            shares,
            "--allow-invalid",
        ])
    };
    let met = with("blue=70%,gold=30%");
    let text = String::from_utf8_lossy(&met.stdout);
    assert_eq!(met.status.code(), Some(0), "{text}");
    assert!(text.contains("as expected"), "{text}");
    let refused = with("blue=50%,gold=50%");
    let text = String::from_utf8_lossy(&refused.stdout);
    assert_eq!(refused.status.code(), Some(99), "{text}");
}

/// The kernel keeps the header until the message comes, so that neither end pays for a segment more.
#[test]
fn a_header_and_the_message_behind_it_share_a_segment() {
    const HEADER: usize = 28;
    const SIZE: usize = 64;
    let others = Arc::new(AtomicU64::new(0));
    let target = PlainServer::start({
        let others = Arc::clone(&others);
        move |peer, bytes| {
            if peer.received == 0 && bytes.len() == HEADER + SIZE {
                return peer.send(&bytes[HEADER..]);
            }
            // A connection that only tries whether the server is there ends behind its header.
            let is_trial = peer.received == 0 && bytes.len() == HEADER;
            others.fetch_add(u64::from(!is_trial), Ordering::Relaxed);
            is_trial
        }
    });
    let result = run(&Plan {
        workload: Workload::Churn {
            close: Close::Orderly,
        },
        opening: Opening {
            proxy_protocol: Some(ProxyVersion::V2),
            ..Opening::default()
        },
        requests: NonZeroU64::new(50),
        ..plan(server(&target))
    });
    assert_eq!(others.load(Ordering::Relaxed), 0);
    assert_eq!(result.messages.verified, 50, "{:?}", result.messages);
}
