//! `echod --healthcheck` says how a running echod is, by exit code and in one line.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, Exit, PROGRAM, Signal};
use crate::support::wait_until;

#[test]
fn a_serving_echod_is_alive_and_ready() {
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--admin=127.0.0.1:0"]);
    let admin = echod.address_of("admin http://").to_string();
    for (probe, answer) in [
        ("--healthcheck", "alive"),
        ("--healthcheck=livez", "alive"),
        ("--healthcheck=readyz", "ready"),
    ] {
        let exit = ask(probe, &admin);
        assert_eq!(exit.code, Some(0), "{exit:#?}");
        assert_eq!(exit.stdout, [answer]);
        assert!(exit.stderr.is_empty(), "{exit:#?}");
    }
}

/// The settings may come from the environment, as in a container; the wildcard is an address of this host.
#[test]
fn the_admin_port_of_the_environment_is_asked() {
    let echod = Echod::start(&["--echo=tcp://127.0.0.1:0", "--admin=0.0.0.0:0"]);
    let port = echod.address_of("admin http://").port();
    let admin = format!("0.0.0.0:{port}");
    let mut command = Command::new(PROGRAM);
    let exit = Echod::run_to_end(command.arg("--healthcheck").env("ECHOD_ADMIN", admin));
    assert_eq!(
        (exit.code, &exit.stdout[..]),
        (Some(0), &["alive".into()][..])
    );
}

#[test]
fn a_unix_socket_is_asked_too() {
    let directory = Directory::new();
    let admin = format!("unix:{}", directory.join("admin.sock").display());
    let _echod = Echod::start(&["--echo=tcp://127.0.0.1:0", &format!("--admin={admin}")]);
    let exit = ask("--healthcheck", &admin);
    assert_eq!(
        (exit.code, &exit.stdout[..]),
        (Some(0), &["alive".into()][..])
    );
}

/// A container whose server drains is not to be killed as unhealthy, and not to get new clients.
#[test]
fn a_draining_echod_is_alive_and_not_ready() {
    let echod = Echod::start(&[
        "--echo=tcp://127.0.0.1:0",
        "--admin=127.0.0.1:0",
        "--drain-delay=1h",
    ]);
    let admin = echod.address_of("admin http://").to_string();
    echod.signal(Signal::TERM);
    wait_until("a drain", || {
        ask("--healthcheck=readyz", &admin).code == Some(1)
    });
    let exit = ask("--healthcheck=readyz", &admin);
    let problem = format!("echod: http://{admin}/readyz: 503 Service Unavailable: draining");
    assert_eq!(exit.stderr, [problem]);
    assert!(exit.stdout.is_empty(), "{exit:#?}");
    assert_eq!(ask("--healthcheck", &admin).code, Some(0));
}

#[test]
fn nobody_there_is_unhealthy() {
    // Bound and not listening: no other program gets the port.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    socket.bind(&any.into()).unwrap();
    let admin = socket
        .local_addr()
        .unwrap()
        .as_socket()
        .unwrap()
        .to_string();
    let exit = ask("--healthcheck", &admin);
    assert_eq!(exit.code, Some(1));
    let [line] = &exit.stderr[..] else {
        panic!("not one line: {exit:#?}");
    };
    assert!(line.contains(&format!("http://{admin}/livez: ")), "{line}");
    assert!(line.contains("refused"), "{line}");
}

#[test]
fn silence_is_unhealthy_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = silent.local_addr().unwrap().to_string();
    let exit = ask("--healthcheck", &admin);
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr[0].ends_with("no answer within 5 s"),
        "{exit:#?}"
    );
}

/// A connect to a Unix socket waits as long as the queue is full, unless it is told not to.
#[test]
fn a_full_queue_is_unhealthy_in_time() {
    let directory = Directory::new();
    let path = directory.join("full.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let exit = ask("--healthcheck", &format!("unix:{}", path.display()));
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr[0].ends_with("no answer within 5 s"),
        "{exit:#?}"
    );
}

#[test]
fn another_service_is_not_taken_for_an_admin_port() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = other.local_addr().unwrap().to_string();
    let answering = thread::spawn(move || {
        let (mut client, _) = other.accept().unwrap();
        let mut request = [0; 5];
        client.read_exact(&mut request).unwrap();
        assert_eq!(&request, b"GET /");
        client.write_all(b"220 mail.example.com ESMTP\r\n").unwrap();
        // The rest of the request is read, so that the end is not a reset.
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = client.read_to_end(&mut Vec::new());
    });
    let exit = ask("--healthcheck", &admin);
    answering.join().unwrap();
    assert_eq!(exit.code, Some(1));
    assert!(
        exit.stderr[0].ends_with("the answer is not HTTP/1.1"),
        "{exit:#?}"
    );
}

#[test]
fn without_an_admin_port_there_is_nobody_to_ask() {
    let exit = Echod::run_to_end(Command::new(PROGRAM).arg("--healthcheck"));
    assert_eq!(exit.code, Some(2));
    let line = "echod: --healthcheck asks the admin port, and --admin is not set; see echod --help";
    assert_eq!(exit.stderr, [line]);
}

#[track_caller]
fn ask(probe: &str, admin: &str) -> Exit {
    Echod::run_to_end(Command::new(PROGRAM).args([probe, "--admin", admin]))
}
