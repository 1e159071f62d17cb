//! The admin port reports the server's work, and none of its clients blocks another.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::time::Duration;

use echomark::internal::{About, Admin, HostNames, Running as Answering, SettingsStatus, Status};
use echomark::net::endpoint::{AdminAddress, Endpoint};
use echomark::{Balance, Config, Handle, Server, Service};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal, metric};
use crate::support::{
    Client, DEADLINE, Running, addresses, closed, config, in_parallel, wait_for, wait_until,
};

/// A server with an admin port. The port is answered until after the server has ended.
struct Administered {
    server: Running,
    admin: SocketAddr,
    _answering: Answering,
}

impl Administered {
    #[track_caller]
    fn start(config: Config) -> Self {
        let (admin, address) = bind_admin();
        let endpoints = config.services.clone();
        let server = Running::start(config);
        let status = status(&server.handle, endpoints);
        Self {
            server,
            admin: address,
            _answering: admin.start(status).expect("a thread"),
        }
    }

    #[track_caller]
    fn get(&self, path: &str) -> Response {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: admin\r\n\r\n").as_bytes())
    }

    #[track_caller]
    fn ask(&self, request: &[u8]) -> Response {
        let mut client = Client::connect(self.admin);
        client.send(request);
        Response::receive(&mut client)
    }

    #[track_caller]
    fn scrape(&self) -> Metrics {
        let response = self.get("/metrics");
        assert_eq!(response.status, 200);
        Metrics::parse(&response.body)
    }
}

/// A response that ended in good order.
#[derive(Debug)]
struct Response {
    status: u16,
    head: String,
    body: String,
}

impl Response {
    #[track_caller]
    fn receive(client: &mut Client) -> Self {
        let mut text = String::new();
        client.read_to_string(&mut text).expect("a whole response");
        Self::parse(&text)
    }

    #[track_caller]
    fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let status = head.strip_prefix("HTTP/1.1 ").expect("a status line");
        let response = Self {
            status: status[..3].parse().expect("a status code"),
            head: head.to_owned(),
            body: body.to_owned(),
        };
        assert_eq!(response.header("Connection"), Some("close"));
        response
    }

    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find_map(|(at, value)| (at == name).then_some(value))
    }
}

#[track_caller]
fn bind_admin() -> (Admin, SocketAddr) {
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    let admin = Admin::bind(&anywhere, None).expect("a free port");
    let AdminAddress::Tcp(address) = admin.address() else {
        panic!("{} is not TCP", admin.address());
    };
    let address = address.resolve().expect("an IP address")[0];
    (admin, address)
}

fn status(handle: &Handle, endpoints: Vec<(Service, Endpoint)>) -> Status {
    Status::new(
        handle.clone(),
        About {
            endpoints,
            balance: Balance::Kernel,
            balances: vec![Balance::Kernel],
            configuration: Box::new(|| "as \"resolved\"\n".into()),
            settings: Box::new(SettingsStatus::default),
            sandbox: "as \"entered\"\n".into(),
            hosts: HostNames::Only(vec!["admin".to_owned(), "slow".to_owned()]),
        },
    )
}

/// The result of a strict parser of the text format: each sample by its name with its labels.
struct Metrics(HashMap<String, f64>);

impl Metrics {
    #[track_caller]
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line is whole");
        let mut samples = HashMap::new();
        let mut seen = HashSet::new();
        let mut family = "";
        let mut helped = "";
        for line in text.lines() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                helped = help.split_once(' ').expect("a text").0;
                assert!(seen.insert(helped), "{helped} comes once");
            } else if let Some(kind) = line.strip_prefix("# TYPE ") {
                let (name, kind) = kind.split_once(' ').expect("a type");
                assert!(["counter", "gauge"].contains(&kind), "{line}");
                assert_eq!(name, helped, "HELP before TYPE");
                family = name;
            } else {
                let (sample, value) = line.rsplit_once(' ').expect("a value");
                let (name, labels) = match sample.split_once('{') {
                    Some((name, labels)) => (name, labels.strip_suffix('}').expect("a brace")),
                    None => (sample, ""),
                };
                assert_eq!(name, family, "samples stand behind their type");
                assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'));
                // A value that needed escapes would be cut at its comma or quote.
                for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
                    let (label, value) = pair.split_once("=\"").expect("a label");
                    assert!(label.bytes().all(|b| b.is_ascii_lowercase()));
                    let value = value.strip_suffix('"').expect("a quote");
                    assert!(
                        !value.contains(['"', '\\', '\n']),
                        "none of ours needs escapes"
                    );
                }
                let value = value.parse().expect("a number");
                assert!(samples.insert(sample.to_owned(), value).is_none(), "{line}");
            }
        }
        Self(samples)
    }

    #[track_caller]
    fn value(&self, sample: &str) -> f64 {
        match self.0.get(sample) {
            Some(value) => *value,
            None => panic!("no {sample}"),
        }
    }
}

/// Two workers, distinguished by labels.
fn two_workers() -> Config {
    Config {
        workers: NonZeroUsize::new(2).expect("not zero"),
        ..config()
    }
}

#[test]
fn a_scrape_counts_the_traffic() {
    let administered = Administered::start(two_workers());
    let before = administered.scrape();
    assert_eq!(before.value("echod_connections_accepted_total"), 0.0);
    let finished = "echod_connections_closed_total{reason=\"finished\"}";
    assert_eq!(before.value(finished), 0.0);
    let mut open = administered.server.connect();
    open.echo(b"Hello, World!");
    for _ in 0..3 {
        let mut client = administered.server.connect();
        client.echo(b"Hello, World!");
        client.half_close();
        client.expect_end();
    }
    administered
        .server
        .wait_for_metrics("end of three", |metrics| closed(metrics) == 3);
    let after = administered.scrape();
    assert_eq!(after.value("echod_connections_accepted_total"), 4.0);
    assert_eq!(after.value(finished), 3.0);
    assert_eq!(after.value("echod_received_bytes_total"), 52.0);
    assert_eq!(after.value("echod_sent_bytes_total"), 52.0);
    let of_worker = |name: &str, worker| after.value(&format!("{name}{{worker=\"{worker}\"}}"));
    let sum = |name| of_worker(name, 0) + of_worker(name, 1);
    assert_eq!(sum("echod_connections_active"), 1.0);
    assert!(sum("echod_loop_iterations_total") >= 4.0);
    assert!(sum("echod_loop_events_total") >= 4.0);
    assert!(sum("echod_worker_cpu_seconds_total") > 0.0);
    assert_eq!(after.value("echod_draining"), 0.0);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!("echod_build_info{{version=\"{version}\"}}");
    assert_eq!(after.value(&build), 1.0);
    for name in [
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    ] {
        assert!(after.value(name) > 0.0, "{name}");
    }
    assert_eq!(
        after.value("process_start_time_seconds"),
        before.value("process_start_time_seconds")
    );
    for sample in [
        "echod_connections_refused_total{reason=\"max_connections\"}",
        "echod_udp_received_datagrams_total",
        "echod_udp_sent_datagrams_total",
        "echod_udp_dropped_datagrams_total{reason=\"source_port\"}",
        "echod_backlog_bytes",
        "echod_short_writes_total",
        "echod_accept_errors_total{error=\"EMFILE\"}",
        "echod_loop_full_batches_total{worker=\"1\"}",
    ] {
        assert_eq!(after.value(sample), 0.0, "{sample}");
    }
}

#[test]
fn what_comes_is_counted_at_its_endpoint() {
    let echo = "tcp://127.0.0.1:0".parse::<Endpoint>().expect("valid");
    let discard = "tcp://[::1]:0".parse::<Endpoint>().expect("valid");
    let udp = "udp://127.0.0.1:0".parse::<Endpoint>().expect("valid");
    let administered = Administered::start(Config {
        services: vec![
            (Service::Echo, echo),
            (Service::Discard, discard),
            (Service::Echo, udp),
        ],
        ..two_workers()
    });
    let bound = &administered.server.addresses;
    for _ in 0..5 {
        Client::connect(bound[0]).echo(b"echo");
    }
    let mut ended = Client::connect(bound[1]);
    ended.half_close();
    ended.expect_end();
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    for _ in 0..3 {
        socket.send_to(b"datagram", bound[2]).expect("loopback");
        socket.recv(&mut [0; 8]).expect("an answer");
    }
    // A batch is counted once its answers were sent.
    let after = wait_for("the last datagram's count", || {
        let scrape = administered.scrape();
        let name = "echod_endpoint_received_datagrams_total";
        let sample = format!("{name}{{service=\"echo\",endpoint=\"udp://127.0.0.1:0\"}}");
        (scrape.value(&sample) >= 3.0).then_some(scrape)
    });
    for (sample, count) in [
        (
            "connections_accepted_total{service=\"echo\",endpoint=\"tcp://127.0.0.1:0\"}",
            5.0,
        ),
        (
            "connections_accepted_total{service=\"discard\",endpoint=\"tcp://[::1]:0\"}",
            1.0,
        ),
        (
            "received_datagrams_total{service=\"echo\",endpoint=\"udp://127.0.0.1:0\"}",
            3.0,
        ),
    ] {
        assert_eq!(
            after.value(&format!("echod_endpoint_{sample}")),
            count,
            "{sample}"
        );
    }
    assert_eq!(after.value("echod_connections_accepted_total"), 6.0);
    assert_eq!(after.value("echod_udp_received_datagrams_total"), 3.0);
}

/// Nobody accepts: the kernel completes as many connections as its queue holds and drops the next.
#[test]
fn connections_that_wait_or_find_the_queue_full_are_counted() {
    const BACKLOG: u32 = 2;
    let server = Server::bind(Config {
        backlog: BACKLOG,
        ..config()
    });
    let server = server.expect("a free port");
    let (endpoints, address) = (server.endpoints().to_vec(), addresses(&server)[0]);
    let (admin, port) = bind_admin();
    let handle = server.handle();
    let _answering = admin.start(status(&handle, endpoints)).expect("a thread");
    let scrape = |name: &str| metric(port, &format!("{name}{{endpoint=\"tcp://{address}\"}}"));
    let (waiting, dropped) = (
        "echod_listen_queue_connections",
        "echod_listen_dropped_connects_total",
    );
    // The kernel lets one more wait (sk_acceptq_is_full).
    let queued = [(); BACKLOG as usize + 1].map(|()| Client::connect(address));
    assert_eq!(
        scrape("echod_listen_queue_max_connections"),
        u64::from(BACKLOG)
    );
    wait_until("a full queue", || scrape(waiting) == queued.len() as u64);
    assert_eq!(scrape(dropped), 0);
    // It gets no answer, and asks again while it waits.
    let patience = Duration::from_millis(100);
    Client::try_connect_for(patience, address)
        .err()
        .expect("no place");
    let before = scrape(dropped);
    assert!(before > 0);
    let server = Running::run(server);
    for mut client in queued {
        client.echo(b"at last");
    }
    wait_until("an empty queue", || scrape(waiting) == 0);
    // The last counts remain.
    server.handle.stop();
    server.join();
    assert!(scrape(dropped) >= before);
}

#[test]
fn info_is_an_object_with_the_same_counters() {
    let administered = Administered::start(two_workers());
    administered.server.connect().echo(b"Hello, World!");
    let response = administered.get("/info?pretty");
    assert_eq!(response.header("Content-Type"), Some("application/json"));
    let info: serde_json::Value = serde_json::from_str(&response.body).expect("JSON");
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(info["pid"], std::process::id());
    assert_eq!(info["workers"], 2);
    assert_eq!(info["per_worker"].as_array().map(Vec::len), Some(2));
    assert_eq!(info["balance"], "kernel");
    assert_eq!(info["draining"], false);
    assert_eq!(info["endpoints"][0]["service"], "echo");
    assert_eq!(info["endpoints"][0]["endpoint"], "tcp://127.0.0.1:0");
    assert_eq!(info["configuration"], "as \"resolved\"\n");
    assert_eq!(info["counters"]["connections_accepted_total"], 1);
    assert_eq!(info["counters"]["received_bytes_total"], 13);
    assert_eq!(info["counters"]["connections_closed_total"]["reset"], 0);
    assert!(
        info["kernel"]
            .as_str()
            .is_some_and(|text| text.contains('.'))
    );
    let started_at = info["started_at"].as_str().expect("a time");
    assert!(started_at.contains('T') && started_at.ends_with('Z'));
    assert!(
        info["uptime_s"]
            .as_f64()
            .is_some_and(|uptime_s| uptime_s >= 0.0)
    );
}

/// Dashboards and the load generator rely on these: the files hold the names of version 0.1.0 and
/// later additions.
#[test]
fn names_and_keys_are_those_of_the_first_version() {
    let administered = Administered::start(two_workers());
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let metrics = administered.get("/metrics").body;
    let names = metrics.lines().map(|line| match line.rsplit_once(' ') {
        Some((name, _)) if !line.starts_with('#') => name.replace(&version, "version=\"\""),
        _ => line.to_owned(),
    });
    assert_same_lines(names.collect(), include_str!("admin/metrics.txt"));

    let info = administered.get("/info").body;
    let mut keys = Vec::new();
    collect_keys(&serde_json::from_str(&info).expect("JSON"), "", &mut keys);
    let version = env!("CARGO_PKG_VERSION");
    let keys = keys.iter().map(|key| key.replace(version, "VERSION"));
    assert_same_lines(keys.collect(), include_str!("admin/info.txt"));
}

/// The paths of all values that are neither an object nor an array.
fn collect_keys(value: &serde_json::Value, path: &str, keys: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(members) => {
            for (key, value) in members {
                collect_keys(value, &format!("{path}/{key}"), keys);
            }
        }
        serde_json::Value::Array(elements) => {
            for value in elements {
                collect_keys(value, &format!("{path}/*"), keys);
            }
        }
        _ => keys.push(path.to_owned()),
    }
}

#[track_caller]
fn assert_same_lines(lines: Vec<String>, expected: &str) {
    let lines: HashSet<&str> = lines.iter().map(String::as_str).collect();
    let expected: HashSet<&str> = expected.lines().collect();
    let missing: Vec<_> = expected.difference(&lines).collect();
    let added: Vec<_> = lines.difference(&expected).collect();
    assert!(
        missing.is_empty() && added.is_empty(),
        "missing {missing:#?}, added {added:#?}"
    );
}

#[test]
fn readiness_fails_from_the_start_of_a_drain_until_after_its_end() {
    let administered = Administered::start(Config {
        drain_timeout: DEADLINE * 60,
        ..config()
    });
    let mut open = administered.server.connect();
    open.echo(b"Hello, World!");
    assert_eq!(administered.get("/readyz").status, 200);
    administered.server.handle.drain();
    let response = administered.get("/readyz");
    assert_eq!(
        (response.status, response.body.as_str()),
        (503, "draining\n")
    );
    assert_eq!(administered.get("/livez").status, 200);
    assert_eq!(administered.scrape().value("echod_draining"), 1.0);
    open.half_close();
    open.expect_end();
    let Administered {
        server,
        admin,
        _answering: answering,
    } = administered;
    server.join();
    let mut client = Client::connect(admin);
    client.send(b"GET /metrics HTTP/1.0\r\n\r\n");
    let metrics = Metrics::parse(&Response::receive(&mut client).body);
    let cpu = metrics.value("echod_worker_cpu_seconds_total{worker=\"0\"}");
    assert!(cpu > 0.0, "the time of a worker stays when it has ended");
    drop(answering);
    wait_until("a closed port", || TcpStream::connect(admin).is_err());
}

#[test]
fn other_requests_are_refused_by_their_codes() {
    let administered = Administered::start(config());
    let got = administered.get("/livez");
    assert_eq!((got.status, got.body.as_str()), (200, "alive\n"));
    let head = administered.ask(b"HEAD /livez HTTP/1.1\r\n\r\n");
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("Content-Length"), Some("6"));
    assert_eq!(administered.get("/nowhere").status, 404);
    let post = administered.ask(b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc");
    assert_eq!(
        (post.status, post.header("Allow")),
        (405, Some("GET, HEAD"))
    );
    assert_eq!(administered.ask(b"\x16\x03\x01\x02\0\x01\0").status, 400);
    assert_eq!(administered.ask(b"GET /livez\r\n\r\n").status, 400);
    assert_eq!(administered.scrape().value("echod_draining"), 0.0);
}

#[test]
fn a_request_may_be_followed_by_anything_or_by_an_end() {
    let administered = Administered::start(config());
    let mut garbage = b"GET /livez HTTP/1.1\r\n\r\n".to_vec();
    garbage.extend((0..200_000_u32).map(|i| (i * 7) as u8));
    let response = administered.ask(&garbage);
    assert_eq!((response.status, response.body.as_str()), (200, "alive\n"));
    for (request, status) in [("GET /livez HTTP/1.1\r\n\r\n", 200), ("GET /livez HT", 400)] {
        let mut client = Client::connect(administered.admin);
        client.send(request.as_bytes());
        client.half_close();
        assert_eq!(Response::receive(&mut client).status, status);
    }
    let mut silent = Client::connect(administered.admin);
    silent.half_close();
    silent.expect_end();
}

#[test]
fn a_head_without_end_is_refused_and_its_rest_ignored() {
    let administered = Administered::start(config());
    for (start, status) in [("GET /", 414), ("GET / HTTP/1.1\r\na: ", 431)] {
        let huge = format!("{start}{}", "x".repeat(100 << 10));
        assert_eq!(administered.ask(huge.as_bytes()).status, status);
    }
}

#[test]
fn silent_clients_block_no_other() {
    let administered = Administered::start(config());
    let mut silent = Vec::with_capacity(200);
    for _ in 0..200 {
        silent.push(Client::connect(administered.admin));
    }
    for _ in 0..5 {
        administered.scrape();
    }
    // The oldest clients were replaced: they see an end or a reset, long before their deadline.
    for client in silent.iter_mut().take(100) {
        let ended = match client.read(&mut [0; 1]) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == ErrorKind::ConnectionReset,
        };
        assert!(ended, "an old client is closed");
    }
}

/// On a long way a request comes long after the connect, and many others connect meanwhile.
#[test]
fn a_flood_of_silent_clients_shuts_nobody_out() {
    const ROUNDS: usize = 10;
    let administered = Administered::start(config());
    let mut silent = Vec::new();
    let answered = (0..ROUNDS).filter(|_| {
        let mut slow = Client::connect(administered.admin);
        silent.extend((0..100).map(|_| Client::connect(administered.admin)));
        // An answer shows that those before it were accepted, if they are at all.
        administered.scrape();
        answers(&mut slow)
    });
    // Where this process is held up for a second, the kernel no longer holds the clients back.
    assert!(answered.count() > ROUNDS / 2);
}

#[test]
fn a_flood_from_one_address_shuts_out_no_other_address() {
    let administered = Administered::start(config());
    let mut slow = Client::connect(administered.admin);
    slow.send(b"G");
    let flood: Vec<_> = (0..200)
        .map(|_| {
            let mut client = Client::connect_from([127, 0, 0, 2].into(), administered.admin);
            client.send(b"GET /metrics HTTP/1.1");
            client
        })
        .collect();
    // An answer shows that the flood before it was accepted.
    administered.scrape();
    slow.send(b"ET /livez HTTP/1.1\r\n\r\n");
    assert_eq!(Response::receive(&mut slow).status, 200);
    drop(flood);
}

/// Whether a late request is answered.
fn answers(client: &mut Client) -> bool {
    let mut text = String::new();
    // A connection that was given up is an error of either call.
    client.write_all(b"GET /livez HTTP/1.1\r\n\r\n").is_ok()
        && client.read_to_string(&mut text).is_ok()
        && text.starts_with("HTTP/1.1 200 OK\r\n")
}

#[test]
fn a_name_that_an_attacker_can_register_is_refused() {
    let administered = Administered::start(config());
    for (host, status) in [
        ("evil.example", 421),
        ("evil.example:9777", 421),
        ("admin", 200),
        ("localhost:9777", 200),
        ("127.0.0.1:9777", 200),
        ("[::1]", 200),
    ] {
        let request = format!("GET /info HTTP/1.1\r\nHost: {host}\r\n\r\n");
        let response = administered.ask(request.as_bytes());
        assert_eq!(response.status, status, "{host}");
        assert_eq!(response.body.contains("configuration"), status == 200);
    }
}

#[test]
fn slow_requests_are_answered_while_others_are() {
    const REQUEST: &[u8] = b"GET /livez HTTP/1.1\r\nHost: slow\r\n\r\n";
    let administered = Administered::start(config());
    let mut slow: Vec<_> = (0..30)
        .map(|_| Client::connect(administered.admin))
        .collect();
    // All send a byte in turn, and a scrape is answered between two of their bytes.
    for byte in REQUEST {
        for client in &mut slow {
            client.send(&[*byte]);
        }
        administered.scrape();
    }
    for client in &mut slow {
        // On a busy machine the deadline may come first.
        let status = Response::receive(client).status;
        assert!([200, 408].contains(&status), "{status}");
    }
}

#[test]
fn a_request_that_does_not_end_is_told_of_its_deadline() {
    let administered = Administered::start(config());
    let mut unfinished = Client::connect(administered.admin);
    unfinished.send(b"GET /metrics HTTP/1.1\r\nHost:");
    let mut silent = Client::connect(administered.admin);
    assert_eq!(Response::receive(&mut unfinished).status, 408);
    silent.expect_end();
    // A slow trickle does not extend the deadline.
    let mut dripping = Client::connect(administered.admin);
    let response = wait_for("the deadline", || {
        let _ = dripping.write(b"x");
        let mut text = [0; 512];
        let count = dripping.receive_at_once(&mut text).ok()??;
        Some(String::from_utf8_lossy(&text[..count]).into_owned())
    });
    let status = Response::parse(&response).status;
    assert!([408, 414].contains(&status), "{status}");
}

#[test]
fn many_scrapes_at_once_are_all_whole() {
    let administered = Administered::start(two_workers());
    in_parallel(8, |_| {
        for _ in 0..20 {
            administered.scrape();
        }
    });
}

#[test]
fn an_address_in_use_is_an_error_that_names_it() {
    let administered = Administered::start(config());
    let error = Admin::bind(&AdminAddress::Tcp(administered.admin.into()), None)
        .expect_err("the port is taken");
    let text = error.to_string();
    assert!(
        text.contains(&format!("http://{}", administered.admin)),
        "{text}"
    );
}

#[test]
fn clients_that_do_not_read_block_no_other() {
    let administered = Administered::start(config());
    let deaf: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect_with_buffers(administered.admin, 1);
            client.send(b"GET /metrics HTTP/1.1\r\n\r\n");
            client
        })
        .collect();
    administered.scrape();
    for client in deaf {
        // The other side may be gone already.
        let _ = client.shutdown(Shutdown::Both);
    }
}

/// A page of the program's admin port, over any stream.
#[track_caller]
fn page(mut stream: impl Read + Write, host: &str, path: &str) -> Response {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("send");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("a whole response");
    Response::parse(&text)
}

#[test]
fn names_of_the_host_and_by_option_are_answered() {
    let args = ["--echo", "tcp://127.0.0.1:0", "--admin", "127.0.0.1:0"];
    let names = ["--admin-host", "echod.default.svc"];
    let echod = Echod::start_command(Command::new(PROGRAM).args(args).args(names));
    let own = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let status = |host: &str| {
        let admin = TcpStream::connect(echod.address_of("admin http://")).expect("a listener");
        page(admin, host, "/livez").status
    };
    assert_eq!(status("echod.default.svc:9777"), 200);
    assert_eq!(status(own.trim_end()), 200);
    assert_eq!(status("other.default.svc"), 421);
}

#[test]
fn off_loopback_everybody_is_told_less_and_the_user_warned() {
    let args = [
        "--echo",
        "tcp://127.0.0.1:0",
        "--deny",
        "192.0.2.0/24",
        "--deny",
        "10.0.0.0/8",
    ];
    let denied = |admin: &str| {
        let mut command = Command::new(PROGRAM);
        let mut echod = Echod::start_command(command.args(args).args(["--admin", admin]));
        let port = echod.address_of("admin http://").port();
        let warned = admin.starts_with("0.0.0.0");
        if warned {
            echod.wait_for_log("tells metrics and the configuration to everybody");
        }
        let client = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
        let info = page(client, "127.0.0.1", "/info").body;
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        echod.signal(Signal::TERM);
        let exit = echod.wait_for_exit();
        let told = exit.stderr.iter().any(|line| line.contains("to everybody"));
        assert_eq!(told, warned, "{exit:#?}");
        info["configuration"]["deny"].clone()
    };
    assert_eq!(denied("0.0.0.0:0"), 2);
    assert_eq!(
        denied("127.0.0.1:0"),
        serde_json::json!(["192.0.2.0/24", "10.0.0.0/8"])
    );
}

#[test]
fn a_unix_socket_serves_its_user_and_is_removed_at_the_end() {
    let directory = Directory::new();
    let path = directory.join("admin.sock");
    let admin = format!("unix:{}", path.display());
    let args = ["--echo", "tcp://127.0.0.1:0", "--admin", &admin];
    let echod = Echod::start(&args);
    assert!(echod.listening().any(|it| it == format!("admin {admin}")));
    let mode = fs::metadata(&path).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let connect = || UnixStream::connect(&path).expect("a listener");
    assert_eq!(page(connect(), "anything", "/livez").body, "alive\n");
    let info = page(connect(), "localhost", "/info").body;
    let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
    assert_eq!(info["configuration"]["admin"], admin.as_str());
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
    assert!(!fs::exists(&path).expect("a directory"));
    // Another program's file stays.
    let echod = Echod::start(&args);
    fs::remove_file(&path).expect("remove");
    let _other = UnixListener::bind(&path).expect("bind");
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
    assert!(fs::exists(&path).expect("a directory"));
}

#[test]
fn a_unix_socket_is_passed_to_a_successor() {
    let directory = Directory::new();
    let path = directory.join("admin.sock");
    let admin = format!("unix:{}", path.display());
    let handover = format!("--handover={}", directory.join("handover").display());
    let args = ["--echo", "tcp://127.0.0.1:0", "--admin", &admin, &handover];
    let first = Echod::start(&args);
    let second = Echod::start(&args);
    assert_eq!(first.wait_for_exit().code, Some(0));
    let pid = || {
        let info = page(
            UnixStream::connect(&path).expect("a listener"),
            "x",
            "/info",
        )
        .body;
        serde_json::from_str::<serde_json::Value>(&info).expect("JSON")["pid"].clone()
    };
    assert_eq!(pid(), second.process_id());
    second.signal(Signal::TERM);
    assert_eq!(second.wait_for_exit().code, Some(0));
    assert!(!fs::exists(&path).expect("a directory"));
}
