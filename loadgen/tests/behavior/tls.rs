//! Targets with TLS: the echod of this repository, servers of another making, and servers that refuse,
//! stop or lie.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use echomark::metrics::{CloseReason, Handshake, HandshakeError};
use echomark::tls::ServerTls;
use echomark::{Config, Handle, Limits, ProxyProtocol, Server, Service};
use loadgen::plan::{
    Close, Direction, Opening, Plan, ProxyVersion, Target, TlsOptions, TlsVersion, Workload,
};
use loadgen::result::TlsResult;

use crate::program;
use crate::support::tools::{require, require_python};
use crate::support::{PlainServer, constant, plan, run, try_run, wait_until};

pub(crate) mod identity;

use identity::Authority;

/// An echod with TLS.
pub(crate) struct Secured {
    handle: Handle,
    pub(crate) endpoint: String,
    thread: Option<thread::JoinHandle<()>>,
}

impl Secured {
    pub(crate) fn start(service: Service, tls: ServerTls) -> Self {
        Self::with(service, tls, |_| {})
    }

    fn with(service: Service, tls: ServerTls, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            services: vec![(service, "tls://127.0.0.1:0".parse().unwrap())],
            tls: Some(tls),
            ..Config::default()
        };
        change(&mut config);
        let server = Server::bind(config).unwrap();
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

    fn target(&self) -> Target {
        target(&self.endpoint)
    }

    /// Complete handshakes: full and resumed.
    fn handshakes(&self) -> [u64; 2] {
        let metrics = self.handle.metrics();
        [
            [Handshake::Full12, Handshake::Full13],
            [Handshake::Resumed12, Handshake::Resumed13],
        ]
        .map(|kinds| kinds.map(|kind| metrics.tls_handshakes(kind)).iter().sum())
    }

    /// Waits until all connections are closed, each in good order, or so many of them.
    #[track_caller]
    fn expect_orderly_ends(&self, except: u64) {
        let closed = || {
            let metrics = self.handle.metrics();
            let orderly = metrics.closed(CloseReason::Finished);
            let all: u64 = CloseReason::ALL.iter().map(|&it| metrics.closed(it)).sum();
            (orderly, all, metrics.accepted)
        };
        wait_until("all connections are closed", || {
            let (_, all, accepted) = closed();
            all == accepted
        });
        let (orderly, all, _) = closed();
        assert!(orderly + except >= all, "{orderly} of {all} in order");
        let metrics = self.handle.metrics();
        assert_eq!(metrics.closed(CloseReason::Truncated), 0);
    }
}

impl Drop for Secured {
    fn drop(&mut self) {
        self.handle.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

fn target(endpoint: &str) -> Target {
    Target::Servers {
        targets: vec![endpoint.parse().unwrap()],
    }
}

/// What trusts an authority.
pub(crate) fn trusting(authority: &Authority) -> TlsOptions {
    TlsOptions {
        ca: Some(authority.ca()),
        ..TlsOptions::default()
    }
}

const CHURN: Workload = Workload::Churn {
    close: Close::Orderly,
};

fn count(latency: &Option<loadgen::result::Latency>) -> u64 {
    latency.as_ref().map_or(0, |latency| latency.count())
}

#[test]
fn both_versions_are_measured_and_every_connection_ends_with_close_notify() {
    let authority = Authority::new();
    for (version, name) in [
        (None, "1.3"),
        (Some(TlsVersion::V1_3), "1.3"),
        (Some(TlsVersion::V1_2), "1.2"),
    ] {
        let server = Secured::start(Service::Echo, authority.identity("server").server(None));
        let result = run(&Plan {
            tls: TlsOptions {
                version,
                ..trusting(&authority)
            },
            ..plan(server.target())
        });
        assert!(result.messages.verified > 0);
        assert_eq!(result.messages.lost + result.connections.reset, 0);
        let TlsResult {
            version,
            cipher,
            group,
            alpn,
            full,
            resumed,
            failed,
            truncated,
            handshakes_per_s,
            handshake_ns,
        } = result.tls.as_ref().unwrap();
        assert_eq!(version.as_deref(), Some(name));
        assert!(cipher.as_ref().unwrap().starts_with("TLS_"), "{cipher:?}");
        assert_eq!(group.as_deref(), Some("x25519"));
        assert_eq!(*alpn, None);
        assert_eq!([*full, *resumed, *failed, *truncated], [4, 0, 0, 0]);
        assert_eq!(*handshakes_per_s, None, "connections are kept");
        assert_eq!(count(&handshake_ns.full), 4);
        assert_eq!(count(&result.latency_ns.handshake), 4);
        assert_eq!(count(&result.latency_ns.connect), 4);
        assert_eq!(server.handshakes(), [4, 0]);
        server.expect_orderly_ends(0);
    }
}

#[test]
fn churn_resumes_sessions_and_counts_the_handshakes_that_the_server_counts() {
    let authority = Authority::new();
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        for resumption in [true, false] {
            let server = Secured::start(Service::Echo, authority.identity("server").server(None));
            let result = run(&Plan {
                tls: TlsOptions {
                    version: Some(version),
                    resumption,
                    ..trusting(&authority)
                },
                workload: CHURN,
                ..plan(server.target())
            });
            let tls = result.tls.as_ref().unwrap();
            assert_eq!(tls.full + tls.resumed, result.connections.opened);
            assert_eq!(server.handshakes(), [tls.full, tls.resumed]);
            assert_eq!(tls.resumed > 0, resumption, "{tls:?}");
            assert_eq!([tls.failed, tls.truncated], [0, 0]);
            // The first connection only shows that the target accepts.
            let timed = count(&result.latency_ns.handshake);
            assert_eq!(timed + 1, tls.full + tls.resumed);
            assert_eq!(
                timed,
                count(&tls.handshake_ns.full) + count(&tls.handshake_ns.resumed)
            );
            let expected = timed as f64 / result.duration_s;
            assert!((tls.handshakes_per_s.unwrap() - expected).abs() < 1e-6);
            assert!(count(&result.latency_ns.close) > 0);
            // That one was closed while tickets were on their way, and so reset.
            server.expect_orderly_ends(1);
        }
    }
}

#[test]
fn connections_that_are_reset_send_no_close_notify() {
    let authority = Authority::new();
    let server = Secured::start(Service::Echo, authority.identity("server").server(None));
    let result = run(&Plan {
        tls: trusting(&authority),
        workload: Workload::Churn {
            close: Close::Reset,
        },
        ..plan(server.target())
    });
    assert!(result.messages.verified > 0);
    wait_until("all connections are closed", || {
        let metrics = server.handle.metrics();
        metrics.closed(CloseReason::Reset) + 1 >= metrics.accepted
    });
}

#[test]
fn streams_paced_messages_and_idle_connections_run_over_tls() {
    let authority = Authority::new();
    let stream = |direction| Workload::Stream { direction };
    for (service, workload) in [
        (Service::Echo, stream(Direction::Echo)),
        (Service::Discard, stream(Direction::Up)),
        (Service::Chargen, stream(Direction::Down)),
        (Service::Echo, Workload::Request),
        (Service::Echo, Workload::Idle),
    ] {
        let server = Secured::start(service, authority.identity("server").server(None));
        let is_paced = matches!(workload, Workload::Request | Workload::Idle);
        let plain = plan(server.target());
        let result = run(&Plan {
            tls: trusting(&authority),
            workload,
            load: if is_paced {
                constant(400.0)
            } else {
                plain.load.clone()
            },
            size: "uniform:1-100000".parse().unwrap(),
            verify: workload != stream(Direction::Up),
            ..plain
        });
        assert!(result.messages.received > 0, "{workload:?}");
        assert_eq!(result.messages.corrupt, 0, "{workload:?}");
        assert_eq!(result.connections.reset, 0, "{workload:?}");
        assert_eq!(result.connections.held, 4);
        assert!(result.tcp.is_some());
        if is_paced {
            assert_eq!(result.messages.unfinished + result.messages.lost, 0);
        }
    }
}

#[test]
fn a_client_shows_its_certificate_to_a_server_that_wants_one() {
    let authority = Authority::new();
    let identity = authority.identity("client");
    for version in [TlsVersion::V1_2, TlsVersion::V1_3] {
        let tls = authority.identity("server").server(Some(&authority));
        let server = Secured::start(Service::Echo, tls);
        let without = TlsOptions {
            version: Some(version),
            ..trusting(&authority)
        };
        let with = TlsOptions {
            cert: Some(identity.cert.clone()),
            key: Some(identity.key.clone()),
            ..without.clone()
        };
        let elsewhere = Authority::new();
        let stranger = elsewhere.identity("stranger");
        let other = TlsOptions {
            cert: Some(stranger.cert.clone()),
            key: Some(stranger.key.clone()),
            ..without.clone()
        };
        let result = run(&Plan {
            tls: with,
            ..plan(server.target())
        });
        assert!(result.messages.verified > 0);
        for workload in [Workload::Request, CHURN] {
            for (tls, clause) in [
                (
                    &without,
                    "it wants a certificate of its clients; give one with --tls-cert",
                ),
                (
                    &other,
                    "it does not accept this client's certificate; give another",
                ),
            ] {
                let problem = refused(&Plan {
                    tls: tls.clone(),
                    workload,
                    ..plan(server.target())
                });
                assert!(problem.contains(clause), "{problem}");
            }
        }
    }
}

/// Why there is no result.
#[track_caller]
fn refused(plan: &Plan) -> String {
    match try_run(plan) {
        Ok(result) => panic!("it is measured: {:?}", result.verdict),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_server_that_is_not_the_right_one_is_refused_with_the_option_that_helps() {
    let authority = Authority::new();
    let identity = authority.identity("server");
    let server = Secured::start(Service::Echo, identity.server(None));
    let expired = authority.identity_until("expired", 2001).server(None);
    let expired = Secured::start(Service::Echo, expired);
    let by_name = |name: &str| TlsOptions {
        server_name: Some(name.to_owned()),
        ..trusting(&authority)
    };
    for (target, tls, clause) in [
        (
            server.target(),
            trusting(&Authority::new()),
            "its certificate is of no trusted authority; name its authority with --tls-ca",
        ),
        (
            server.target(),
            by_name("example.org"),
            "its certificate is for another name; say which with --tls-server-name",
        ),
        (
            expired.target(),
            trusting(&authority),
            "its certificate is expired; --tls-insecure",
        ),
    ] {
        let mut plan = Plan {
            tls,
            ..plan(target)
        };
        let problem = refused(&plan);
        assert!(problem.contains(clause), "{problem}");
        assert!(problem.starts_with("cannot connect to tls://127.0.0.1:"));
        plan.tls.insecure = true;
        assert!(run(&plan).messages.verified > 0);
    }
    let result = run(&Plan {
        tls: by_name("localhost"),
        ..plan(server.target())
    });
    assert!(result.messages.verified > 0);
    let metrics = expired.handle.metrics();
    assert!(metrics.tls_handshake_errors(HandshakeError::Alert) > 0);
}

#[test]
fn a_certificate_that_is_trusted_itself_may_be_one_for_authorities() {
    let authority = Authority::new();
    let own = authority.self_signed("own");
    let server = Secured::start(Service::Echo, own.server(None));
    let mut tls = TlsOptions {
        ca: Some(own.cert),
        server_name: Some("localhost".to_owned()),
        ..TlsOptions::default()
    };
    let result = run(&Plan {
        tls: tls.clone(),
        ..plan(server.target())
    });
    assert!(result.messages.verified > 0);
    // Its name counts, and another one of its kind is not trusted.
    tls.server_name = Some("example.org".to_owned());
    let problem = refused(&Plan {
        tls: tls.clone(),
        ..plan(server.target())
    });
    assert!(problem.contains("for another name"), "{problem}");
    tls.ca = Some(authority.self_signed("other").cert);
    let problem = refused(&Plan {
        tls,
        ..plan(server.target())
    });
    assert!(problem.contains("no trusted authority"), "{problem}");
}

#[test]
fn servers_that_speak_no_tls_stop_or_close_are_named() {
    let authority = Authority::new();
    let plain = PlainServer::greeting(b"220 here is plain text\r\n", |_, _| true);
    let echo = PlainServer::echo();
    let silent = PlainServer::start(|_, _| true);
    let closing = PlainServer::start(|_, _| false);
    let at_once = PlainServer::start_if(|_| false, |_, _| false);
    for (server, clause) in [
        (
            &plain,
            "it does not speak TLS; is it a server for tcp:// targets?",
        ),
        (
            &echo,
            "it does not speak TLS; is it a server for tcp:// targets?",
        ),
        (
            &silent,
            "it did not complete the TLS handshake in time (--timeout)",
        ),
        (&closing, "it closes the connection without a word of TLS"),
        (&at_once, "it closes the connection without a word of TLS"),
    ] {
        let endpoint = server.endpoint().to_string().replace("tcp://", "tls://");
        let problem = refused(&Plan {
            tls: trusting(&authority),
            timeout: Duration::from_millis(300),
            ..plan(target(&endpoint))
        });
        // A server that closes with unread input resets.
        let is_reset = problem.contains("Connection reset");
        assert!(problem.contains(clause) || is_reset, "{problem}");
    }
}

#[test]
fn a_header_of_a_proxy_comes_before_the_handshake() {
    let authority = Authority::new();
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let tls = authority.identity("server").server(None);
        let server = Secured::with(Service::Echo, tls, |config| {
            config.proxy_protocol = ProxyProtocol::Require;
            config.limits = Limits {
                proxy_from: vec!["127.0.0.0/8".parse().unwrap()],
                ..Limits::default()
            };
        });
        let result = run(&Plan {
            tls: trusting(&authority),
            opening: Opening {
                proxy_protocol: Some(version),
                ..Opening::default()
            },
            workload: CHURN,
            ..plan(server.target())
        });
        let tls = result.tls.as_ref().unwrap();
        assert!(result.messages.verified > 0 && tls.resumed > 0);
        let metrics = server.handle.metrics();
        let headers = metrics.proxy_headers(match version {
            ProxyVersion::V1 => echomark::metrics::ProxyVersion::V1,
            ProxyVersion::V2 => echomark::metrics::ProxyVersion::V2,
        });
        assert_eq!(headers, result.connections.opened);
        assert_eq!(server.handshakes(), [tls.full, tls.resumed]);
    }
}

#[test]
fn a_greeting_comes_behind_the_handshake() {
    let authority = Authority::new();
    let whoami = Secured::start(Service::Whoami, authority.identity("server").server(None));
    for workload in [Workload::Request, CHURN] {
        let result = run(&Plan {
            tls: trusting(&authority),
            opening: Opening {
                greeting: true,
                ..Opening::default()
            },
            workload,
            ..plan(whoami.target())
        });
        assert!(result.messages.verified > 0);
        assert_eq!(result.messages.corrupt, 0);
        assert_eq!(result.backends.len(), 1);
        assert_eq!(result.backends[0].connections, result.connections.opened);
        let tls = result.tls.as_ref().unwrap();
        assert_eq!(tls.full + tls.resumed, result.connections.opened);
    }
}

/// A server of another making; it ends with the test.
struct Foreign {
    child: Child,
    endpoint: String,
}

impl Drop for Foreign {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Foreign {
    /// OpenSSL's server of one version, which answers no message.
    fn openssl(authority: &Authority, version: &str) -> Self {
        let identity = authority.identity("openssl");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", version, "-accept", &port.to_string()])
            .arg("-cert")
            .arg(identity.cert)
            .arg("-key")
            .arg(identity.key)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        wait_until("openssl listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        Self {
            child,
            endpoint: format!("tls://127.0.0.1:{port}"),
        }
    }

    /// An echo in Python, which ends its connections by close_notify, or without it.
    fn python(authority: &Authority, ending: &str) -> Self {
        use std::io::{BufRead, BufReader};
        let identity = authority.identity("python");
        let script = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/tests/behavior/tls/echo_server.py"
        );
        let mut child = Command::new("python3")
            .args([script, ending])
            .args([identity.cert, identity.key])
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let mut port = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        out.read_line(&mut port).expect("a line");
        Self {
            child,
            endpoint: format!("tls://127.0.0.1:{}", port.trim()),
        }
    }
}

#[test]
fn a_server_by_openssl_is_measured_and_ends_without_close_notify_are_counted() {
    require!("python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    for (ending, is_truncated) in [("close_notify", false), ("without", true)] {
        let server = Foreign::python(&authority, ending);
        let result = run(&Plan {
            tls: trusting(&authority),
            workload: CHURN,
            ..plan(target(&server.endpoint))
        });
        let tls = result.tls.as_ref().unwrap();
        assert!(result.messages.verified > 0);
        assert_eq!(result.messages.corrupt + result.messages.lost, 0);
        assert!(tls.resumed > 0, "{tls:?}");
        assert_eq!(tls.truncated > 0, is_truncated, "{tls:?}");
    }
}

#[test]
fn connections_that_are_cut_off_are_counted_and_made_again() {
    require!("python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let server = Foreign::python(&authority, "cut");
    let result = run(&Plan {
        tls: trusting(&authority),
        ..plan(target(&server.endpoint))
    });
    let tls = result.tls.as_ref().unwrap();
    assert!(result.messages.verified > 0);
    assert_eq!(result.messages.corrupt, 0);
    assert!(tls.truncated > 0, "{tls:?}");
    assert!(result.connections.reset >= tls.truncated);
    assert_eq!(result.connections.closed_by_peer, 0);
    assert_eq!(tls.full + tls.resumed, result.connections.opened);
    assert!(result.connections.opened > 4, "they are made again");
}

#[test]
fn a_version_that_the_server_does_not_speak_is_named() {
    require!("openssl");
    let authority = Authority::new();
    for (spoken, asked) in [("-tls1_2", TlsVersion::V1_3), ("-tls1_3", TlsVersion::V1_2)] {
        let server = Foreign::openssl(&authority, spoken);
        let problem = refused(&Plan {
            tls: TlsOptions {
                version: Some(asked),
                ..trusting(&authority)
            },
            ..plan(target(&server.endpoint))
        });
        let clause = "it speaks no version of TLS that is allowed here; leave out --tls-version";
        assert!(problem.contains(clause), "{problem}");
    }
}

#[test]
fn handshakes_of_several_processes_and_of_repeats_add_up() {
    let authority = Authority::new();
    let server = Secured::start(Service::Echo, authority.identity("server").server(None));
    let churn = |version| Plan {
        tls: TlsOptions {
            version: Some(version),
            ..trusting(&authority)
        },
        workload: CHURN,
        ..plan(server.target())
    };
    let parts = [TlsVersion::V1_2, TlsVersion::V1_3].map(|version| run(&churn(version)));
    let sum = |count: fn(&TlsResult) -> u64| -> u64 {
        parts
            .iter()
            .map(|part| count(part.tls.as_ref().unwrap()))
            .sum()
    };
    let named = parts.iter().cloned().enumerate();
    let named = named.map(|(number, part)| (format!("{number}.json"), part));
    let union = loadgen::merge::merge(named.collect()).unwrap();
    let tls = union.tls.as_ref().unwrap();
    assert_eq!(tls.version.as_deref(), Some("1.2, 1.3"));
    assert_eq!(tls.group.as_deref(), Some("x25519"));
    assert_eq!(tls.full, sum(|tls| tls.full));
    assert_eq!(tls.resumed, sum(|tls| tls.resumed));
    let timed: u64 = parts
        .iter()
        .map(|part| count(&part.latency_ns.handshake))
        .sum();
    assert_eq!(count(&union.latency_ns.handshake), timed);
    assert_eq!(
        count(&tls.handshake_ns.full) + count(&tls.handshake_ns.resumed),
        timed
    );
    let expected = timed as f64 / union.duration_s;
    assert!((tls.handshakes_per_s.unwrap() - expected).abs() < 1e-6);

    let repeated = run(&Plan {
        repeat: crate::support::number(2),
        ..churn(TlsVersion::V1_3)
    });
    let tls = repeated.tls.as_ref().unwrap();
    assert_eq!(tls.full + tls.resumed, repeated.connections.opened);
    let timed = count(&repeated.latency_ns.handshake) as f64;
    assert!((tls.handshakes_per_s.unwrap() - timed / repeated.duration_s).abs() < 1e-6);
}

#[test]
fn what_can_not_be_used_is_named_in_one_line() {
    let authority = Authority::new();
    let [one, other] = ["one", "other"].map(|name| authority.identity(name));
    let [ca, cert, key, other_key] =
        [&authority.ca(), &one.cert, &one.key, &other.key].map(|path| path.display().to_string());
    let empty = authority.path("empty.pem");
    std::fs::write(&empty, "nothing\n").unwrap();
    let empty = empty.display().to_string();
    for (options, code, parts) in [
        (
            &["--tls-ca", "/no/such/file"][..],
            1,
            &["--tls-ca: cannot read /no/such/file: No such file"][..],
        ),
        (
            &["--tls-ca", &empty],
            1,
            &["--tls-ca: ", "empty.pem: there is no certificate in it"],
        ),
        (
            &[
                "--tls-ca",
                &ca,
                "--tls-cert",
                &cert,
                "--tls-key",
                &other_key,
            ],
            1,
            &["--tls-key: ", "it is not the key of the certificate"],
        ),
        (
            &["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &cert],
            1,
            &["--tls-key: ", "there is no private key in it"],
        ),
        (
            &["--tls-ca", &ca, "--tls-cert", &key, "--tls-key", &key],
            1,
            &["--tls-cert: ", "there is no certificate in it"],
        ),
        (
            &["--tls-ca", &ca, "--tls-server-name", "no name"],
            1,
            &["--tls-server-name: no certificate can be for `no name`"],
        ),
        (&["--tls-cert", &cert], 2, &["--tls-key"]),
        (&["--tls-key", &key], 2, &["--tls-cert"]),
        (
            &["--tls-ca", &ca, "--tls-insecure"],
            2,
            &["--tls-ca", "--tls-insecure"],
        ),
        (&["--tls-version", "1.1"], 2, &["1.1", "1.2, 1.3"]),
    ] {
        let arguments = [&["run", "tls://127.0.0.1:1", "-d", "100ms"][..], options].concat();
        program::assert_one_line(&program::run(&arguments), code, parts);
    }
    for option in [
        &["--tls-ca", "ca.pem"][..],
        &["--tls-insecure"],
        &["--no-resumption"],
    ] {
        for command in [
            &["run", "tcp://127.0.0.1:1"][..],
            &["compare", "tcp://127.0.0.1:1", "tcp://127.0.0.1:2"],
        ] {
            let arguments = [command, option].concat();
            let parts = [option[0], "no target is tls://HOST:PORT"];
            program::assert_one_line(&program::run(&arguments), 2, &parts);
        }
    }
}

#[test]
fn without_an_authority_of_ones_own_those_of_the_system_are_believed() {
    let authority = Authority::new();
    let server = Secured::start(Service::Echo, authority.identity("server").server(None));
    let run = |file: &std::path::Path| {
        let arguments = [
            "run",
            &server.endpoint,
            "-n",
            "100",
            "--json",
            "-",
            "--allow-invalid",
        ];
        program::loadgen(&arguments)
            .env("SSL_CERT_FILE", file)
            .env_remove("SSL_CERT_DIR")
            .output()
            .unwrap()
    };
    let measured = run(&authority.ca());
    let said = String::from_utf8_lossy(&measured.stderr);
    assert_eq!(measured.status.code(), Some(0), "{said}");
    let result: serde_json::Value = serde_json::from_slice(&measured.stdout).unwrap();
    assert_eq!(result["tls"]["version"], "1.3");
    assert_eq!(result["tls"]["full"], 16);
    assert_eq!(result["latency_ns"]["handshake"]["count"], 16);
    assert_eq!(result["messages"]["verified"], 100);
    let refused = run(&Authority::new().ca());
    program::assert_one_line(&refused, 1, &["no trusted authority", "--tls-ca"]);
    let none = run(&authority.path("missing.pem"));
    program::assert_one_line(
        &none,
        1,
        &["this system has none", "--tls-ca", "--tls-insecure"],
    );
}
