//! Whoami: a line of JSON about the server and the connection, and then an echo.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, UdpSocket};
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::Value;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM};
use crate::support::pattern::Pattern;
use crate::support::{Client, DEADLINE};

const ADMIN: &str = "--admin=127.0.0.1:0";

#[test]
fn a_connection_is_greeted_and_echoed() {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--whoami=tcp://127.0.0.1:0", "--workers=1"])
        .args(["--whoami-env=COLOUR", "--whoami-env=NOT_SET"])
        .env("COLOUR", "a \"blue\" one\n")
        .env("HOSTNAME", "not asked for");
    let echod = Echod::start_command(&mut command);
    let address = echod.address_of("whoami tcp://");
    let mut client = Client::connect(address);
    let line: Value = serde_json::from_str(&client.receive_line()).expect("JSON");
    let ours = client.local_addr().expect("an address");
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let expected = serde_json::json!({
        "service": "whoami", "host": host.trim_end(), "pid": echod.process_id(), "worker": 0,
        "version": env!("CARGO_PKG_VERSION"), "client": ours.to_string(),
        "server": address.to_string(), "proxied": null, "tls": null,
        "env": {"COLOUR": "a \"blue\" one\n"},
    });
    assert_eq!(line, expected);
    client.echo_stream(Pattern(3), 1 << 20);
    client.half_close();
    client.expect_end();
}

#[test]
fn a_greeting_does_not_wait_for_a_reader_nor_for_input() {
    let echod = Echod::start(&["--whoami=tcp://127.0.0.1:0", "--idle-timeout=1m", ADMIN]);
    let address = echod.address_of("whoami tcp://");
    let clients: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
    for mut client in clients {
        assert!(
            client
                .receive_line()
                .starts_with("{\"service\":\"whoami\",")
        );
    }
}

#[test]
fn a_unix_socket_has_no_addresses() {
    let directory = Directory::new();
    let path = directory.join("whoami.sock");
    let echod = Echod::start(&[&format!("--whoami=unix:{}", path.display())]);
    let mut client = UnixStream::connect(&path).expect("a server");
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    let mut reader = BufReader::new(client.try_clone().expect("a descriptor"));
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    let line: Value = serde_json::from_str(&line).expect("JSON");
    assert!(line["client"].is_null() && line["server"].is_null());
    assert_eq!(line["pid"], echod.process_id());
    client.write_all(b"and back\n").expect("sent");
    client.shutdown(Shutdown::Write).expect("half-closed");
    let mut rest = String::new();
    reader.read_line(&mut rest).expect("a line");
    assert_eq!(rest, "and back\n");
}

#[test]
fn a_datagram_is_answered_if_it_is_as_long() {
    let echod = Echod::start(&["--whoami=udp://127.0.0.1:0", "--workers=1", ADMIN]);
    let server = echod.address_of("whoami udp://");
    let client = UdpSocket::bind("127.0.0.1:0").expect("a port");
    client.set_read_timeout(Some(DEADLINE)).expect("a deadline");
    client.send_to(b"who are you?", server).expect("sent");
    client.send_to(&[b'?'; 1200], server).expect("sent");
    let mut buffer = [0; 2000];
    let (len, from) = client.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, server);
    let line: Value = serde_json::from_slice(&buffer[..len]).expect("JSON");
    assert_eq!(
        line["client"],
        client.local_addr().expect("one").to_string()
    );
    assert_eq!(line["server"], server.to_string());
    let dropped = "echod_udp_dropped_datagrams_total{reason=\"too_short\"}";
    assert_eq!(echod.metric(dropped), 1);
}
