//! A whoami over TLS: the line comes behind the handshake and tells what that agreed on.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::*;

/// A server with the certificate of this authority, and more arguments.
#[track_caller]
pub(super) fn serve_whoami(authority: &Authority, more: &[&str]) -> Echod {
    let mut command = Command::new(PROGRAM);
    command
        .args(["--whoami=tls://127.0.0.1:0", "--admin=127.0.0.1:0"])
        .arg(format!("--tls-cert={}", authority.cert("server")))
        .arg(format!("--tls-key={}", authority.key("server")))
        .args(more);
    Echod::start_command(&mut command)
}

/// What a client shows of its connections; see `client.py`.
#[track_caller]
pub(super) fn shown(said: &str) -> Vec<Value> {
    let lines = said.lines().map(serde_json::from_str);
    lines.collect::<Result<_, _>>().expect("lines of JSON")
}

/// The name in IANA's registry of what OpenSSL calls so.
fn registered(cipher: &str) -> String {
    let Some(rest) = cipher.strip_prefix("ECDHE-ECDSA-") else {
        return cipher.to_owned();
    };
    let rest = rest.replace("AES", "AES-").replace('-', "_");
    format!("TLS_ECDHE_ECDSA_WITH_{rest}")
}

#[test]
fn a_greeting_tells_what_the_handshake_agreed_on() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let client_ca = format!("--tls-client-ca={}", authority.cert("ca"));
    for (args, identity) in [(&[][..], None), (&[client_ca.as_str()], Some("client"))] {
        let echod = serve_whoami(&authority, args);
        let said = run(&mut authority.client(port(&echod), "greetings", identity));
        let shown = shown(&said);
        assert_eq!(shown.len(), 5);
        for (index, it) in shown.iter().enumerate() {
            let (line, ours) = (&it["line"], &it["ours"]);
            assert_eq!(line["service"], "whoami");
            assert_eq!(line["client"], ours["address"]);
            assert_eq!(line["server"], address(&echod).to_string());
            let version = ours["version"].as_str().expect("a version");
            let expected = json!({
                "version": version.strip_prefix("TLSv"),
                "cipher": registered(ours["cipher"].as_str().expect("a cipher")),
                // An address is no server name (RFC 6066, 3).
                "sni": if index < 4 { json!("localhost") } else { Value::Null },
                "alpn": null,
                "client_subject": identity.map(|_| "CN=localhost"),
                "resumed": ours["resumed"],
            });
            assert_eq!(line["tls"], expected);
            assert_eq!(ours["resumed"], index == 1 || index == 3);
        }
        wait_for_closed(&echod, "finished", 5);
        for version in ["1.2", "1.3"] {
            assert_eq!(handshakes(&echod, version, "yes"), 1);
        }
    }
}

/// The subject is what OpenSSL writes by the same rules.
#[test]
fn openssl_s_client_is_greeted_by_its_subject() {
    require!("openssl");
    let authority = Authority::new();
    authority.openssl(
        "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -utf8 -keyout odd.key -out odd.csr \
         -subj /C=DE/O=Acme,_Inc./OU=a\"b;c\\+d/CN=Bödefeld/emailAddress=a@example.org",
    );
    authority.openssl(
        "x509 -req -in odd.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile extensions -days 30 \
         -out odd.pem",
    );
    let written = Command::new("openssl")
        .args(["x509", "-noout", "-subject", "-nameopt", "RFC2253,-esc_msb"])
        .arg("-in")
        .arg(authority.cert("odd"))
        .output()
        .expect("openssl starts");
    let written = String::from_utf8(written.stdout).expect("text");
    let subject = written
        .trim_end()
        .strip_prefix("subject=")
        .expect("a subject");
    let client_ca = format!("--tls-client-ca={}", authority.cert("ca"));
    let echod = serve_whoami(&authority, &[&client_ca]);
    for version in ["-tls1_2", "-tls1_3"] {
        let mut child = Command::new("openssl")
            .args(["s_client", "-quiet", "-servername", "localhost", version])
            .args([
                "-cert",
                &authority.cert("odd"),
                "-key",
                &authority.key("odd"),
            ])
            .args(["-connect", &address(&echod).to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let line = lines.find_map(|line| line.ok().filter(|it| it.starts_with('{')));
        let line: Value = serde_json::from_str(&line.expect("a greeting")).expect("JSON");
        assert_eq!(line["tls"]["client_subject"], subject);
        assert_eq!(line["tls"]["sni"], "localhost");
        // The end of its input ends it.
        drop(child.stdin.take());
        child.kill().expect("it runs, or has ended");
        child.wait().expect("it ends");
    }
}

#[test]
fn what_comes_with_the_end_of_the_handshake_is_echoed_behind_the_greeting() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = serve_whoami(&authority, &["--workers=1"]);
    let said = run(&mut authority.client(port(&echod), "greeting_first", None));
    let lines = shown(&said);
    assert_eq!(lines[0]["tls"]["version"], "1.2");
    assert_eq!(lines[1]["tls"]["version"], "1.3");
}
