//! PROXY headers: taken from trusted proxies only, whole in any pieces, bounded in size and time; the
//! client that a header names is the one that counts. HAProxy and nginx agree about what a header is.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, Signal};
use crate::support::pattern::Pattern;
use crate::support::tools::{require, skip_without};
use crate::support::{Client, DEADLINE, wait_for, wait_until};

const WHOAMI: &str = "--whoami=tcp://127.0.0.1:0";
const ADMIN: &str = "--admin=127.0.0.1:0";
pub(crate) const V1: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 4660 7\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2.
pub(crate) fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let mut header = SIGNATURE.to_vec();
    header.extend([command, family]);
    header.extend(u16::try_from(body.len()).expect("short").to_be_bytes());
    header.extend(body);
    header
}

pub(crate) fn v2_of(client: [u8; 4]) -> Vec<u8> {
    let addresses = [&client[..], &[198, 51, 100, 2, 0x12, 0x34, 0, 7]].concat();
    v2(0x21, 0x11, &addresses)
}

#[track_caller]
fn start(mode: &str, more: &[&str]) -> Echod {
    let mode = format!("--proxy-protocol={mode}");
    let args = [&[WHOAMI, ADMIN, "--proxy-from=127.0.0.0/8", &mode], more].concat();
    Echod::start(&args)
}

fn address(echod: &Echod) -> SocketAddr {
    echod.address_of("whoami tcp://")
}

/// Connects with this begin of the stream.
#[track_caller]
fn connect(echod: &Echod, header: &[u8]) -> Client {
    let mut client = Client::connect(address(echod));
    client.send(header);
    client
}

#[track_caller]
fn greeting(client: &mut Client) -> Value {
    serde_json::from_str(&client.receive_line()).expect("JSON")
}

fn errors(echod: &Echod, reason: &str) -> u64 {
    echod.metric(&format!("echod_proxy_errors_total{{reason=\"{reason}\"}}"))
}

#[test]
fn headers_of_both_versions_name_the_client() {
    for mode in ["accept", "require"] {
        let echod = start(mode, &[]);
        let mapped = [&[0; 10][..], &[0xff; 2], &[192, 0, 2, 9]].concat();
        let six = [&mapped[..], &mapped, &[0, 1, 0, 2]].concat();
        for (header, client, version) in [
            (V1.to_vec(), "192.0.2.1:4660", "v1"),
            (v2_of([192, 0, 2, 1]), "192.0.2.1:4660", "v2"),
            // An IPv4-mapped address is that IPv4 address.
            (v2(0x21, 0x21, &six), "192.0.2.9:1", "v2"),
        ] {
            let mut connection = connect(&echod, &[&header[..], b"Hello, World!"].concat());
            let line = greeting(&mut connection);
            assert_eq!(line["proxied"]["client"], client);
            assert_eq!(line["proxied"]["version"], version);
            let ours = connection.local_addr().expect("an address");
            assert_eq!(line["client"], ours.to_string(), "the proxy");
            assert_eq!(connection.receive(13), b"Hello, World!");
            connection.half_close();
            connection.expect_end();
        }
        // Headers without a client's address: a health check of the proxy, and an unknown client.
        for header in [v2(0x20, 0, b""), b"PROXY UNKNOWN\r\n".to_vec()] {
            let mut connection = connect(&echod, &header);
            assert!(greeting(&mut connection)["proxied"].is_null());
            connection.echo(b"served");
        }
        let headers = |version| {
            echod.metric(&format!(
                "echod_proxy_headers_total{{version=\"{version}\"}}"
            ))
        };
        assert_eq!((headers("v1"), headers("v2")), (2, 3));
    }
}

#[test]
fn a_header_is_whole_in_any_pieces() {
    let echod = start("require", &["--workers=1"]);
    for header in [V1.to_vec(), v2_of([192, 0, 2, 1])] {
        let whole = [&header[..], b"then data"].concat();
        for pieces in [1, 7, whole.len() - 1] {
            let mut connection = Client::connect(address(&echod));
            for piece in whole.chunks(pieces) {
                connection.send(piece);
            }
            assert_eq!(
                greeting(&mut connection)["proxied"]["client"],
                "192.0.2.1:4660"
            );
            assert_eq!(connection.receive(9), b"then data");
        }
    }
}

/// Also where the buffer is smaller than the header, and where nothing may be kept.
#[test]
fn what_comes_in_one_segment_with_a_header_is_echoed() {
    for more in [&[][..], &["--read-buffer=16"], &["--backlog-memory=1"]] {
        let args = [
            "--echo=tcp://127.0.0.1:0",
            ADMIN,
            "--proxy-protocol=require",
            "--proxy-from=127.0.0.1",
            "--workers=1",
        ];
        let echod = Echod::start(&[&args[..], more].concat());
        let mut sent = 0;
        for header in [V1.to_vec(), v2_of([192, 0, 2, 1]), v2(0x20, 0, b"")] {
            let mut client = Client::connect(echod.address());
            client.send(&[&header[..], b"Hello, World!"].concat());
            assert_eq!(client.receive(13), b"Hello, World!");
            client.echo_stream(Pattern(5), 100_000);
            // All at once, and no more.
            let mut other = Client::connect(echod.address());
            other.send(&[&header[..], b"the last words"].concat());
            other.half_close();
            assert_eq!(other.receive(14), b"the last words");
            other.expect_end();
            client.half_close();
            client.expect_end();
            sent += 13 + 100_000 + 14;
        }
        wait_until("all closed", || {
            let closed = "echod_connections_closed_total{reason=\"finished\"}";
            echod.metric(closed) == 6
        });
        // A header is nobody's input.
        assert_eq!(echod.metric("echod_received_bytes_total"), sent);
        assert_eq!(echod.metric("echod_sent_bytes_total"), sent);
    }
}

#[test]
fn a_second_header_is_data() {
    let echod = start("require", &[]);
    let mut connection = connect(&echod, &[V1, V1].concat());
    greeting(&mut connection);
    assert_eq!(connection.receive(V1.len()), V1);
}

#[test]
fn a_bad_header_is_an_orderly_end_and_counted_by_its_reason() {
    let echod = start("require", &["--handshake-timeout=200ms"]);
    let mut bystander = connect(&echod, V1);
    greeting(&mut bystander);
    let checksum = [&[1; 12][..], &[3, 0, 4, 0, 0, 0, 0]].concat();
    let endless = [b"PROXY ", &[b'x'; 5000][..]].concat();
    let cases: [(&str, Vec<u8>); 7] = [
        ("missing", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("malformed", b"PROXY TCP4 somewhere\r\nand data".to_vec()),
        ("malformed", v2(0x21, 0x11, b"short")),
        ("unsupported", v2(0x31, 0x11, &[1; 12])),
        ("too_long", endless),
        ("too_long", v2(0x21, 0x11, &[0; 2000])),
        ("checksum", v2(0x21, 0x11, &checksum)),
    ];
    for (reason, bytes) in cases {
        let before = errors(&echod, reason);
        let mut connection = connect(&echod, &bytes);
        connection.expect_end();
        assert_eq!(errors(&echod, reason), before + 1, "{reason}");
    }
    // In the middle of a header.
    let mut connection = connect(&echod, &V1[..20]);
    connection.half_close();
    connection.expect_end();
    assert_eq!(errors(&echod, "truncated"), 1);
    // Without a byte, as a check of the port.
    let mut connection = Client::connect(address(&echod));
    connection.half_close();
    connection.expect_end();
    assert_eq!(errors(&echod, "no_data"), 1);
    // Never.
    let mut connection = connect(&echod, &V1[..20]);
    connection.expect_end();
    assert_eq!(errors(&echod, "timeout"), 1);
    bystander.echo(b"nothing disturbed");
    let closed = "echod_connections_closed_total{reason=\"proxy_header\"}";
    wait_until("all closed", || echod.metric(closed) == 10);
}

#[test]
fn only_trusted_senders_are_believed() {
    let echod = Echod::start(&[
        WHOAMI,
        ADMIN,
        "--proxy-protocol=require",
        "--proxy-from=127.0.0.2",
    ]);
    Client::connect(address(&echod)).expect_end();
    assert_eq!(errors(&echod, "untrusted"), 1);
    let proxy = IpAddr::from([127, 0, 0, 2]);
    let mut connection = Client::connect_from(proxy, address(&echod));
    connection.send(V1);
    assert_eq!(
        greeting(&mut connection)["proxied"]["client"],
        "192.0.2.1:4660"
    );

    // Where a header need not come, that of a stranger is data.
    let echod = Echod::start(&[
        WHOAMI,
        ADMIN,
        "--proxy-protocol=accept",
        "--proxy-from=127.0.0.2",
    ]);
    let mut connection = connect(&echod, V1);
    assert!(greeting(&mut connection)["proxied"].is_null());
    assert_eq!(connection.receive(V1.len()), V1);
}

#[test]
fn a_header_need_not_come_where_it_is_accepted() {
    let echod = start("accept", &["--handshake-timeout=100ms"]);
    // It is certain with the first byte, or after the time.
    for first in [&b"Hello"[..], b"PROXY", b""] {
        let mut connection = connect(&echod, first);
        assert!(greeting(&mut connection)["proxied"].is_null());
        assert_eq!(connection.receive(first.len()), first);
        connection.echo(b"and on");
    }
    let mut connection = connect(&echod, b"PROXY TCP4");
    connection.half_close();
    greeting(&mut connection);
    assert_eq!(connection.receive(10), b"PROXY TCP4");
    connection.expect_end();
}

#[test]
fn limits_and_access_lists_are_the_clients() {
    let echod = start(
        "require",
        &["--deny=192.0.2.66", "--max-connections-per-ip=1"],
    );
    connect(&echod, &v2_of([192, 0, 2, 66])).expect_end();
    let mut first = connect(&echod, &v2_of([192, 0, 2, 1]));
    greeting(&mut first);
    connect(&echod, &v2_of([192, 0, 2, 1])).expect_end();
    let mut other = connect(&echod, &v2_of([192, 0, 2, 2]));
    greeting(&mut other);
    let refused = |reason| {
        echod.metric(&format!(
            "echod_connections_refused_total{{reason=\"{reason}\"}}"
        ))
    };
    assert_eq!(refused("denied"), 1);
    assert_eq!(refused("max_connections_per_ip"), 1);
    first.half_close();
    first.expect_end();
    wait_until("its place is free", || {
        let mut again = connect(&echod, &v2_of([192, 0, 2, 1]));
        !again.receive_line().is_empty()
    });
}

#[test]
fn a_unix_socket_has_its_file_s_permissions_for_trust() {
    let directory = Directory::new();
    let path = directory.join("echo.sock");
    let endpoint = format!("--whoami=unix:{}", path.display());
    let echod = Echod::start(&[&endpoint, "--proxy-protocol=require"]);
    let mut client = UnixStream::connect(&path).expect("a server");
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    for byte in V1 {
        client.write_all(&[*byte]).expect("sent");
    }
    let mut line = String::new();
    BufReader::new(&client)
        .read_line(&mut line)
        .expect("a line");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(line["proxied"]["client"], "192.0.2.1:4660");
    drop(echod);
}

#[test]
fn a_drain_does_not_wait_for_a_header() {
    let echod = start(
        "require",
        &["--drain-timeout=100ms", "--handshake-timeout=off"],
    );
    let mut waiting = connect(&echod, &V1[..10]);
    echod.signal(Signal::TERM);
    waiting.expect_end();
    assert_eq!(echod.wait_for_exit().code, Some(0));
}

#[test]
fn headers_without_a_believed_proxy_are_a_mistake() {
    for endpoint in [
        &[WHOAMI][..],
        &["--echo=tls://127.0.0.1:0", "--tls-self-signed"],
    ] {
        let mut command = Command::new(crate::support::echod::PROGRAM);
        let exit = Echod::run_to_end(command.args(endpoint).arg("--proxy-protocol=require"));
        assert_eq!(exit.code, Some(2), "{exit:#?}");
        assert!(exit.stderr[0].contains("--proxy-from"), "{exit:#?}");
    }
}

/// A program that passes connections on. Dropping it ends it.
pub(crate) struct Proxy(Child);

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Starts a proxy on a free port and returns its address once it listens.
#[track_caller]
pub(crate) fn start_proxy(program: &str, args: &[&str], file: &Path) -> Proxy {
    let child = Command::new(program)
        .args(args)
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    Proxy(child.unwrap_or_else(|error| panic!("cannot start {program}: {error}")))
}

/// Connects through a proxy, reads the greeting, and echoes.
#[track_caller]
fn through(proxy: &mut Proxy, port: u16) -> (SocketAddr, Value) {
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let stream = wait_for("a listening proxy", || {
        let ended = proxy.0.try_wait().expect("wait");
        assert!(ended.is_none(), "the proxy ended: {ended:?}");
        TcpStream::connect(address).ok()
    });
    stream.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let ours = stream.local_addr().expect("an address");
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a greeting");
    (&stream).write_all(b"Hello, World!").expect("sent");
    let mut back = [0; 13];
    reader.read_exact(&mut back).expect("an echo");
    assert_eq!(&back, b"Hello, World!");
    (ours, serde_json::from_str(&line).expect("JSON"))
}

pub(crate) fn haproxy_file(port: u16, server: &str) -> String {
    format!(
        "defaults\n mode tcp\n timeout connect 10s\n timeout client 1m\n timeout server 1m\n\
         frontend front\n bind 127.0.0.1:{port}\n unique-id-format conn-%pid\n default_backend back\n\
         backend back\n server one {server}\n"
    )
}

#[test]
fn haproxy_in_front_tells_the_client() {
    require!("haproxy");
    let echod = start("require", &[]);
    let directory = Directory::new();
    let address = address(&echod);
    for (options, version) in [
        ("send-proxy", "v1"),
        ("send-proxy-v2", "v2"),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", "v2"),
    ] {
        let port = free_port();
        let text = haproxy_file(port, &format!("{address} {options}"));
        let file = directory.write("haproxy.cfg", &text);
        let mut proxy = start_proxy("haproxy", &["-db", "-f"], &file);
        let (ours, line) = through(&mut proxy, port);
        assert_eq!(line["proxied"]["client"], ours.to_string(), "{options}");
        assert_eq!(line["proxied"]["server"], format!("127.0.0.1:{port}"));
        assert_eq!(line["proxied"]["version"], version);
        if options.contains("unique-id") {
            let id = line["proxied"]["unique_id"].as_str().expect("a name");
            assert!(id.starts_with("conn-"), "{id}");
        }
    }
}

/// Its health checks speak for themselves (LOCAL).
#[test]
fn haproxy_s_health_checks_are_served() {
    require!("haproxy");
    let echod = start("require", &["--deny=127.0.0.0/8"]);
    let directory = Directory::new();
    let port = free_port();
    let options = "send-proxy-v2 check check-send-proxy inter 50ms";
    let text = haproxy_file(port, &format!("{} {options}", address(&echod)));
    let file = directory.write("haproxy.cfg", &text);
    let _proxy = start_proxy("haproxy", &["-db", "-f"], &file);
    let taken = "echod_proxy_headers_total{version=\"v2\"}";
    wait_until("health checks", || echod.metric(taken) >= 3);
    assert_eq!(echod.metric_sum("echod_proxy_errors_total"), 0);
}

#[test]
fn nginx_in_front_tells_the_client() {
    /// Debian has it in a package of its own, `libnginx-mod-stream`.
    const MODULE: &str = "/usr/lib/nginx/modules/ngx_stream_module.so";
    require!("nginx");
    if !Path::new(MODULE).exists() {
        skip_without!("nginx with its stream module");
    }
    let echod = start("require", &[]);
    let directory = Directory::new();
    let port = free_port();
    let at = directory.join("").display().to_string();
    let text = format!(
        "load_module {MODULE};\ndaemon off;\nmaster_process off;\npid {at}/pid;\n\
         error_log stderr;\nevents {{}}\nstream {{\n server {{\n  listen 127.0.0.1:{port};\n  \
         proxy_pass {};\n  proxy_protocol on;\n }}\n}}\n",
        address(&echod)
    );
    let file = directory.write("nginx.conf", &text);
    let mut proxy = start_proxy("nginx", &["-e", "stderr", "-p", &at, "-c"], &file);
    let (ours, line) = through(&mut proxy, port);
    assert_eq!(line["proxied"]["client"], ours.to_string());
    assert_eq!(line["proxied"]["version"], "v1");
}
