//! PROXY headers before the handshake: taken in any pieces, bounded in time, and told by the greeting.

use std::net::TcpStream;

use serde_json::Value;

use super::greeting::{serve_whoami, shown};
use super::*;
use crate::proxy_protocol::{V1, free_port, haproxy_file, start_proxy, v2, v2_of};
use crate::support::directory::Directory;
use crate::support::wait_for;

const REQUIRE: [&str; 2] = ["--proxy-protocol=require", "--proxy-from=127.0.0.0/8"];

#[track_caller]
fn serve(authority: &Authority, more: &[&str]) -> Echod {
    serve_whoami(authority, &[&REQUIRE[..], more].concat())
}

/// A client whose connections begin with this header, in pieces of this length.
fn client(
    authority: &Authority,
    echod: &Echod,
    task: &str,
    header: &[u8],
    piece: usize,
) -> Command {
    let mut command = authority.client(port(echod), task, None);
    let header: String = header.iter().map(|byte| format!("{byte:02x}")).collect();
    command
        .env("HEADER", header)
        .env("PIECE", piece.to_string());
    command
}

fn errors(echod: &Echod, reason: &str) -> u64 {
    echod.metric(&format!("echod_proxy_errors_total{{reason=\"{reason}\"}}"))
}

/// A header of version 2 with an authority, a unique name and a value that is not known.
fn v2_with_values() -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0x12, 0x34, 0, 7];
    let value = |kind: u8, value: &[u8]| {
        let len = u16::try_from(value.len()).expect("short").to_be_bytes();
        [&[kind], &len[..], value].concat()
    };
    let values = [
        value(0x02, b"example.org"),
        value(0xee, &[7; 100]),
        value(0x05, b"connection-1"),
    ];
    v2(0x21, 0x11, &[&addresses[..], &values.concat()].concat())
}

#[test]
fn a_header_comes_before_the_handshake_in_any_pieces() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = serve(&authority, &["--workers=1"]);
    for (header, version) in [
        (V1.to_vec(), Some("v1")),
        (v2_of([192, 0, 2, 1]), Some("v2")),
        (v2_with_values(), Some("v2")),
        // The proxy's own connection, and one of an unknown client.
        (v2(0x20, 0, b""), None),
        (b"PROXY UNKNOWN\r\n".to_vec(), None),
    ] {
        for piece in [1, 7, header.len() - 1, header.len()] {
            let said = run(&mut client(&authority, &echod, "greeting", &header, piece));
            let line = &shown(&said)[0]["line"];
            match version {
                Some(version) => {
                    assert_eq!(line["proxied"]["client"], "192.0.2.1:4660");
                    assert_eq!(line["proxied"]["version"], version);
                }
                None => assert!(line["proxied"].is_null(), "{line}"),
            }
            assert_eq!(line["tls"]["sni"], "localhost");
        }
        // With what follows in one segment.
        let said = run(&mut client(
            &authority,
            &echod,
            "greeting_first",
            &header,
            1,
        ));
        for line in shown(&said) {
            assert_eq!(line["proxied"].is_null(), version.is_none(), "{line}");
        }
    }
    let said = run(&mut client(
        &authority,
        &echod,
        "greeting",
        &v2_with_values(),
        1000,
    ));
    let proxied = &shown(&said)[0]["line"]["proxied"];
    assert_eq!(proxied["authority"], "example.org");
    assert_eq!(proxied["unique_id"], "connection-1");
    assert_eq!(echod.metric_sum("echod_proxy_errors_total"), 0);
    assert_eq!(echod.metric_sum("echod_tls_handshake_errors_total"), 0);
}

#[test]
fn what_is_no_header_is_an_orderly_end_without_a_handshake() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = serve(&authority, &["--handshake-timeout=300ms", "--workers=1"]);
    // A handshake without a header.
    let hello = b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00";
    let oversized = v2(0x21, 0x11, &[0; 2000]);
    for (reason, bytes) in [
        ("missing", &hello[..]),
        ("malformed", b"PROXY TCP4 somewhere\r\n"),
        ("too_long", &oversized),
        // They stop in the middle, and at once.
        ("timeout", &V1[..20]),
        ("timeout", b""),
    ] {
        let before = errors(&echod, reason);
        run(&mut client(&authority, &echod, "nothing", bytes, 1000));
        assert_eq!(errors(&echod, reason), before + 1, "{reason}");
    }
    wait_for_closed(&echod, "proxy_header", 5);
    // The time for the handshake begins behind the header.
    run(&mut client(&authority, &echod, "nothing", V1, 1000));
    wait_for_errors(&echod, "timeout", 1);
    run(&mut client(
        &authority,
        &echod,
        "half_a_handshake",
        V1,
        1000,
    ));
    wait_for_errors(&echod, "timeout", 2);
    run(&mut client(&authority, &echod, "plain_text", V1, 1000));
    wait_for_errors(&echod, "not_tls", 1);
    // A second header, in plain text, is no handshake.
    run(&mut client(
        &authority,
        &echod,
        "plain_text",
        &[V1, V1].concat(),
        1000,
    ));
    wait_for_errors(&echod, "not_tls", 2);
    run(&mut client(&authority, &echod, "greeting", V1, 1000));
}

#[test]
fn a_header_need_not_come_where_it_is_accepted() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let accept = ["--proxy-protocol=accept", "--proxy-from=127.0.0.0/8"];
    let echod = serve_whoami(&authority, &accept);
    for (header, client_address) in [(&b""[..], None), (V1, Some("192.0.2.1:4660"))] {
        let said = run(&mut client(&authority, &echod, "greeting", header, 1000));
        let line = &shown(&said)[0]["line"];
        assert_eq!(line["proxied"]["client"].as_str(), client_address);
    }
    run(&mut client(&authority, &echod, "greeting_first", b"", 1));
}

#[test]
fn limits_and_access_lists_are_the_clients() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = serve(&authority, &["--deny=192.0.2.66"]);
    run(&mut client(
        &authority,
        &echod,
        "nothing",
        &v2_of([192, 0, 2, 66]),
        1000,
    ));
    let refused = "echod_connections_refused_total{reason=\"denied\"}";
    assert_eq!(echod.metric(refused), 1);
    run(&mut client(
        &authority,
        &echod,
        "greeting",
        &v2_of([192, 0, 2, 1]),
        1000,
    ));
}

#[test]
fn haproxy_passes_tls_on_and_tells_the_client() {
    require!("openssl", "python3", "haproxy");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = serve(&authority, &[]);
    let directory = Directory::new();
    for (options, version) in [
        ("send-proxy", "v1"),
        ("send-proxy-v2 proxy-v2-options crc32c,unique-id", "v2"),
    ] {
        let port = free_port();
        let text = haproxy_file(port, &format!("{} {options}", address(&echod)));
        let file = directory.write("haproxy.cfg", &text);
        let _proxy = start_proxy("haproxy", &["-db", "-f"], &file);
        wait_for("a listening proxy", || {
            TcpStream::connect(("127.0.0.1", port)).ok()
        });
        let said = run(&mut authority.client(port, "greetings", None));
        for it in shown(&said) {
            let line: &Value = &it["line"];
            assert_eq!(line["proxied"]["client"], it["ours"]["address"]);
            assert_eq!(line["proxied"]["server"], format!("127.0.0.1:{port}"));
            assert_eq!(line["proxied"]["version"], version);
            assert_eq!(line["tls"]["resumed"], it["ours"]["resumed"]);
        }
    }
    assert_eq!(echod.metric_sum("echod_proxy_errors_total"), 0);
}

/// They speak for themselves (LOCAL) and begin no handshake.
#[test]
fn haproxy_s_health_checks_are_no_mistake() {
    require!("openssl", "haproxy");
    let authority = Authority::new();
    let echod = serve(&authority, &["--deny=127.0.0.0/8"]);
    let directory = Directory::new();
    let options = "send-proxy-v2 check check-send-proxy inter 50ms";
    let text = haproxy_file(free_port(), &format!("{} {options}", address(&echod)));
    let file = directory.write("haproxy.cfg", &text);
    let _proxy = start_proxy("haproxy", &["-db", "-f"], &file);
    let no_data = "echod_tls_handshake_errors_total{reason=\"no_data\"}";
    wait_until("health checks", || echod.metric(no_data) >= 3);
    assert_eq!(echod.metric_sum("echod_proxy_errors_total"), 0);
}
