//! TLS, against clients of another making: OpenSSL's `s_client` and Python's ssl module.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use crate::support::directory::Directory;
use crate::support::echod::{Echod, Exit, PROGRAM, Signal};
use crate::support::tools::{require, require_python};
use crate::support::wait_until;

mod faulty;
mod greeting;
mod passed;
mod proxied;

/// An authority with a server's and a client's certificate, and strangers.
struct Authority {
    directory: Directory,
}

impl Authority {
    #[track_caller]
    fn new() -> Self {
        let authority = Self {
            directory: Directory::new(),
        };
        authority.make_authority("ca");
        authority.make("server", "ca", 30);
        authority.make("client", "ca", 30);
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn cert(&self, name: &str) -> String {
        format!("{}", self.path(&format!("{name}.pem")).display())
    }

    fn key(&self, name: &str) -> String {
        format!("{}", self.path(&format!("{name}.key")).display())
    }

    #[track_caller]
    fn make_authority(&self, name: &str) {
        self.openssl(&format!(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
             -subj /CN={name} -keyout {name}.key -out {name}.pem"
        ));
    }

    /// A certificate of this authority for `localhost`, valid for this number of days.
    #[track_caller]
    fn make(&self, name: &str, authority: &str, days: i32) {
        self.openssl(&format!(
            "req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=localhost \
             -keyout {name}.key -out {name}.csr"
        ));
        let extensions = "subjectAltName=DNS:localhost,IP:127.0.0.1\nbasicConstraints=CA:FALSE";
        self.directory.write("extensions", extensions);
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial \
             -extfile extensions -days {days} -out {name}.pem"
        ));
    }

    #[track_caller]
    fn openssl(&self, args: &str) {
        let made = Command::new("openssl")
            .args(args.split_whitespace())
            .current_dir(self.path(""))
            .output()
            .expect("openssl starts");
        assert!(made.status.success(), "{made:?}");
    }

    /// The arguments of a server with the certificate of this name.
    fn args(&self, name: &str) -> Vec<String> {
        let mut args = ["--echo=tls://127.0.0.1:0", "--admin=127.0.0.1:0"]
            .map(str::to_owned)
            .to_vec();
        args.push(format!("--tls-cert={}", self.cert(name)));
        args.push(format!("--tls-key={}", self.key(name)));
        args
    }

    #[track_caller]
    fn serve(&self, more: &[&str]) -> Echod {
        let mut command = Command::new(PROGRAM);
        Echod::start_command(command.args(self.args("server")).args(more))
    }

    #[track_caller]
    fn fail_to_serve(&self, args: &[String]) -> Exit {
        Echod::run_to_end(Command::new(PROGRAM).args(args))
    }

    /// A client in Python at a task; see there.
    fn client(&self, port: u16, task: &str, identity: Option<&str>) -> Command {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/behavior/tls/client.py");
        let mut command = Command::new("python3");
        command
            .arg(script)
            .arg(task)
            .arg(port.to_string())
            .arg(self.path("ca.pem"));
        if let Some(name) = identity {
            command.args([self.cert(name), self.key(name)]);
        }
        command
    }

    #[track_caller]
    fn expect(&self, echod: &Echod, task: &str, identity: Option<&str>) {
        run(&mut self.client(port(echod), task, identity));
    }

    /// A client in Python that holds its connection until it is released.
    #[track_caller]
    fn hold(&self, echod: &Echod, task: &str) -> Held {
        let mut command = self.client(port(echod), task, None);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let release = child.stdin.take().expect("a pipe");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("a pipe"))
            .read_line(&mut line)
            .expect("a line");
        assert_eq!(line, "held\n");
        Held { child, release }
    }
}

struct Held {
    child: Child,
    release: ChildStdin,
}

impl Held {
    #[track_caller]
    fn expect_served(mut self) {
        self.release.write_all(b"\n").expect("it waits");
        assert!(self.child.wait().expect("it ends").success());
    }

    fn end(mut self) {
        let _ = self.release.write_all(b"\n");
        let _ = self.child.wait();
    }
}

/// Runs a client to its end, and returns what it printed.
#[track_caller]
fn run(client: &mut Command) -> String {
    let ran = client.output().expect("python3 starts");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{client:?}: {said}");
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

/// The port of its only endpoint with TLS.
#[track_caller]
fn port(echod: &Echod) -> u16 {
    address(echod).port()
}

#[track_caller]
fn address(echod: &Echod) -> SocketAddr {
    let address = echod.listening().find_map(|it| it.split_once(" tls://"));
    let address = address.and_then(|(_, address)| address.parse().ok());
    address.expect("an endpoint with TLS")
}

#[track_caller]
fn handshakes(echod: &Echod, version: &str, resumed: &str) -> u64 {
    let labels = format!("version=\"{version}\",resumed=\"{resumed}\"");
    echod.metric(&format!("echod_tls_handshakes_total{{{labels}}}"))
}

#[track_caller]
fn wait_for_errors(echod: &Echod, reason: &str, count: u64) {
    let name = format!("echod_tls_handshake_errors_total{{reason=\"{reason}\"}}");
    wait_until(reason, || echod.metric(&name) == count);
}

#[track_caller]
fn wait_for_closed(echod: &Echod, reason: &str, count: u64) {
    let name = format!("echod_connections_closed_total{{reason=\"{reason}\"}}");
    wait_until(reason, || echod.metric(&name) == count);
}

#[test]
fn both_versions_are_served_ended_in_order_and_resumed() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = authority.serve(&["--sandbox=auto"]);
    authority.expect(&echod, "versions", None);
    for version in ["1.2", "1.3"] {
        assert_eq!(handshakes(&echod, version, "no"), 1);
        assert_eq!(handshakes(&echod, version, "yes"), 1);
    }
    wait_for_closed(&echod, "finished", 4);
}

#[test]
fn close_notify_is_the_end_of_input_and_an_end_without_it_is_counted_as_truncated() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = authority.serve(&[]);
    authority.expect(&echod, "half_close", None);
    wait_for_closed(&echod, "finished", 2);
    authority.expect(&echod, "truncation", None);
    wait_for_closed(&echod, "truncated", 2);
}

#[test]
fn only_clients_with_a_certificate_of_the_authority_are_served() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    authority.make_authority("other-ca");
    authority.make("stranger", "other-ca", 30);
    authority.make("expired", "ca", -1);
    let client_ca = format!("--tls-client-ca={}", authority.cert("ca"));
    let echod = authority.serve(&[&client_ca]);
    authority.expect(&echod, "versions", Some("client"));
    for (count, identity) in [(1, None), (2, Some("stranger")), (3, Some("expired"))] {
        authority.expect(&echod, "refused", identity);
        wait_for_errors(&echod, "certificate", count);
    }
    wait_for_closed(&echod, "handshake", 3);
    authority.expect(&echod, "versions", Some("client"));
}

#[test]
fn what_is_no_handshake_ends_in_order_and_disturbs_nobody() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let echod = authority.serve(&["--handshake-timeout=300ms", "--workers=1"]);
    let held = authority.hold(&echod, "hold");
    authority.expect(&echod, "plain_text", None);
    wait_for_errors(&echod, "not_tls", 1);
    authority.expect(&echod, "half_a_handshake", None);
    wait_for_errors(&echod, "timeout", 1);
    drop(std::net::TcpStream::connect(address(&echod)).unwrap());
    wait_for_errors(&echod, "no_data", 1);
    wait_for_closed(&echod, "handshake", 3);
    held.expect_served();
}

#[test]
fn a_client_that_does_not_trust_the_certificate_is_counted() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let mut args = vec!["--echo=tls://127.0.0.1:0", "--admin=127.0.0.1:0"];
    args.push("--tls-self-signed");
    let mut echod = Echod::start(&args);
    echod.wait_for_log("serving with a self-signed certificate sha256=");
    authority.expect(&echod, "refused", None);
    wait_for_errors(&echod, "alert", 1);
}

/// What `s_client` says to this input, which ends it.
#[track_caller]
fn s_client(echod: &Echod, args: &[&str], input: &str) -> String {
    let mut child = Command::new("openssl")
        .args(["s_client", "-connect"])
        .arg(format!("127.0.0.1:{}", port(echod)))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("openssl starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let ran = child.wait_with_output().expect("it ends");
    let said = [ran.stdout, ran.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    said.concat()
}

#[test]
fn openssl_is_served_and_may_not_renegotiate() {
    require!("openssl");
    let authority = Authority::new();
    let echod = authority.serve(&[]);
    let ca = authority.cert("ca");
    let verify = [
        "-CAfile",
        &ca,
        "-verify_return_error",
        "-servername",
        "localhost",
    ];
    for version in ["-tls1_2", "-tls1_3"] {
        let args = [&verify[..], &[version]].concat();
        // A line without a way out: only the server's answer shows it.
        let said = s_client(&echod, &[&args[..], &["-brief"]].concat(), "");
        assert!(said.contains("Verification: OK"), "{said}");
    }
    // `R` asks for a renegotiation (openssl-s_client(1)).
    let args = [&verify[..], &["-tls1_2"]].concat();
    let said = s_client(&echod, &args, "R\n");
    assert!(said.contains("RENEGOTIATING"), "{said}");
    assert!(
        said.contains("no renegotiation") || said.contains("alert"),
        "{said}"
    );
    // `K` updates both sides' keys, `k` the client's.
    let args = [&verify[..], &["-tls1_3"]].concat();
    let said = s_client(&echod, &args, "K\n");
    assert!(said.contains("KEYUPDATE"), "{said}");
    assert!(!said.contains("alert"), "{said}");
}

#[test]
fn certificates_are_read_again_and_a_bad_set_is_refused_whole() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let mut echod = authority.serve(&["--max-connections=100"]);
    let held = authority.hold(&echod, "hold");

    // A key that is not of the certificate.
    authority.make("next", "ca", 30);
    std::fs::copy(authority.path("next.key"), authority.path("server.key")).unwrap();
    echod.signal(Signal::HUP);
    echod.wait_for_log("did not reload; the old settings stay");
    authority.expect(&echod, "versions", None);

    std::fs::copy(authority.path("next.pem"), authority.path("server.pem")).unwrap();
    echod.signal(Signal::HUP);
    echod.wait_for_log("reloaded the limits");
    let shown = s_client(&echod, &["-showcerts"], "");
    let next = std::fs::read_to_string(authority.path("next.pem")).unwrap();
    assert!(shown.contains(next.lines().nth(3).unwrap()), "{shown}");
    authority.expect(&echod, "versions", None);
    held.expect_served();

    std::fs::remove_file(authority.path("server.pem")).unwrap();
    echod.signal(Signal::HUP);
    echod.wait_for_log("server.pem: No such file or directory (os error 2)");
    authority.expect(&echod, "versions", None);
}

#[test]
fn a_start_with_a_bad_set_is_refused_in_one_line() {
    require!("openssl");
    let authority = Authority::new();
    authority.make("other", "ca", 30);
    authority.directory.write("empty.pem", "no certificate\n");
    let args = |cert: &str, key: &str| {
        let mut args = vec!["--echo=tls://127.0.0.1:0".to_owned()];
        args.push(format!("--tls-cert={cert}"));
        args.push(format!("--tls-key={key}"));
        args
    };
    let (cert, key) = (authority.cert("server"), authority.key("server"));
    for (args, problem) in [
        (
            args(&cert, &authority.key("other")),
            "it is not the key of the certificate",
        ),
        (
            args(&authority.cert("empty"), &key),
            "there is no certificate in it",
        ),
        (args(&cert, &cert), "there is no private key in it"),
        (args("/no/such/file", &key), "cannot read /no/such/file"),
        (args("/", &key), "it is not a regular file"),
        (
            vec!["--echo=tls://127.0.0.1:0".to_owned()],
            "needs tls-cert and tls-key",
        ),
        (
            vec![format!("--tls-cert={cert}")],
            "it needs tls-key as well",
        ),
        (
            vec!["--tls-self-signed".to_owned()],
            "no effect without an endpoint tls://",
        ),
    ] {
        let exit = authority.fail_to_serve(&args);
        assert_eq!(exit.code, Some(2), "{exit:#?}");
        assert_eq!(exit.stderr.len(), 1, "{exit:#?}");
        assert!(exit.stderr[0].contains(problem), "{exit:#?}");
    }
    authority.make("expired", "ca", -1);
    let mut echod = Echod::start_command(Command::new(PROGRAM).args(authority.args("expired")));
    echod.wait_for_log("clients will refuse the certificate");
}

#[test]
fn a_replacement_keeps_the_endpoint_and_its_connections() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    let authority = Authority::new();
    let handover = format!("--handover={}", authority.path("handover").display());
    let more = [handover.as_str(), "--drain-timeout=10m"];
    let first = authority.serve(&more);
    let listening = address(&first);
    let held = authority.hold(&first, "hold");
    let second = authority.serve(&more);
    assert_eq!(address(&second), listening);
    authority.expect(&second, "versions", None);
    assert_eq!(handshakes(&second, "1.3", "no"), 1);
    held.expect_served();
    assert_eq!(first.wait_for_exit().code, Some(0));
}

#[test]
fn peers_that_never_read_cost_no_more_than_the_budget_and_others_are_served() {
    require!("openssl", "python3");
    require_python!("ssl", "ssl");
    const BUDGET: u64 = 2 << 20;
    let authority = Authority::new();
    let echod = authority.serve(&["--workers=1", "--backlog-memory=2MiB"]);
    authority.expect(&echod, "versions", None);
    let before = echod.private_bytes();
    let held = authority.hold(&echod, "never_read");
    // Beside the budget: what rustls and the table keep of forty connections.
    let grown = echod.private_bytes().saturating_sub(before);
    assert!(grown < BUDGET + (2 << 20), "{grown} bytes more");
    authority.expect(&echod, "versions", None);
    held.end();
}
