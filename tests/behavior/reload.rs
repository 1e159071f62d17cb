//! SIGHUP: a running server applies the limits of the changed file, or keeps the old ones.

use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::support::directory::Directory;
use crate::support::echod::{Echod, PROGRAM, Signal};
use crate::support::pattern::Pattern;
use crate::support::{AtEnd, Client, in_parallel, wait_until};

/// A server with a file that the test changes.
struct Reloadable {
    directory: Directory,
    echod: Echod,
}

impl Reloadable {
    #[track_caller]
    fn start(text: &str) -> Self {
        let directory = Directory::new();
        let path = directory.write("echod.toml", &Self::whole(text));
        let echod = Echod::start_command(Command::new(PROGRAM).arg("--config").arg(path));
        Self { directory, echod }
    }

    fn whole(text: &str) -> String {
        // Clients use other addresses of this machine to be told apart.
        format!("echo = 'tcp://0.0.0.0:0'\nadmin = '127.0.0.1:0'\nworkers = 2\n{text}")
    }

    #[track_caller]
    fn write(&self, text: &str) -> PathBuf {
        self.directory.write("echod.toml", &Self::whole(text))
    }

    /// Changes the file and waits until a line of the log says this.
    #[track_caller]
    fn reload(&mut self, text: &str, said: &str) {
        self.write(text);
        self.echod.signal(Signal::HUP);
        self.echod.wait_for_log(said);
    }

    /// Connects to an address of this machine, and then also from it.
    #[track_caller]
    fn connect(&self, host: &str) -> Client {
        let port = self.echod.address().port();
        Client::connect(format!("{host}:{port}").parse().expect("an address"))
    }

    #[track_caller]
    fn expect_refused(&self, host: &str) {
        self.connect(host).expect_end();
    }

    #[track_caller]
    fn refused(&self, reason: &str) -> u64 {
        let name = "echod_connections_refused_total";
        self.echod.metric(&format!("{name}{{reason=\"{reason}\"}}"))
    }
}

const RELOADED: &str = "reloaded the limits";

#[test]
fn access_lists_apply_to_new_connections() {
    let mut server = Reloadable::start("");
    let mut before = server.connect("127.0.0.1");
    before.echo(b"welcome");
    server.reload("deny = ['127.0.0.0/8']\n", RELOADED);
    server.expect_refused("127.0.0.1");
    before.echo(b"still welcome");
    server.reload(
        "deny = ['127.0.0.0/8']\nallow = ['127.0.0.1/32']\n",
        RELOADED,
    );
    server.connect("127.0.0.1").echo(b"an exception");
    server.reload("", RELOADED);
    server.connect("127.0.0.1").echo(b"welcome again");
    before.echo(b"all the time");
    assert_eq!(server.refused("denied"), 1);
}

#[test]
fn maxima_take_effect_with_the_open_connections_counted() {
    let mut server = Reloadable::start("max-connections = 10\n");
    let mut clients: Vec<_> = (0..4).map(|_| server.connect("127.0.0.1")).collect();
    for client in &mut clients {
        client.echo(b"one of four");
    }
    server.reload("max-connections = 2\n", RELOADED);
    for client in &mut clients {
        client.echo(b"still one of four");
    }
    server.expect_refused("127.0.0.1");
    server.reload("max-connections = 5\n", RELOADED);
    let mut fifth = server.connect("127.0.0.1");
    fifth.echo(b"room for one");
    server.expect_refused("127.0.0.1");
    // Without any limit.
    server.reload("", RELOADED);
    server.connect("127.0.0.1").echo(b"room for all");
    assert_eq!(server.refused("max_connections"), 2);
}

#[test]
fn time_limits_apply_to_open_connections() {
    for limit in ["idle-timeout", "lifetime"] {
        let mut server = Reloadable::start("");
        let mut open = server.connect("127.0.0.1");
        open.echo(b"before");
        server.reload(&format!("{limit} = '100ms'\n"), RELOADED);
        open.expect_end();
        // And not after their removal.
        server.reload("", RELOADED);
        let mut open = server.connect("127.0.0.1");
        open.echo(b"after");
        server.echod.watch_log_for(Duration::from_millis(300));
        open.echo(b"much later");
    }
}

#[test]
fn a_bad_file_is_refused_whole() {
    let mut server = Reloadable::start("max-connections = 1\n");
    let mut client = server.connect("127.0.0.1");
    client.echo(b"the only one");
    for (text, line, problem) in [
        (
            "max-connections = 9\nidle-timeout = 'soon'\n",
            5,
            "idle-timeout",
        ),
        (
            "max-connections = 9\n\nmax-conections = 9\n",
            6,
            "unknown key",
        ),
        ("max-connections = 9\ndeny = ['300.0.0.0/8']\n", 5, "deny"),
        ("max-connections = 9\nlifetime\n", 5, "not valid TOML"),
    ] {
        server.reload(text, "did not reload; the old settings stay");
        let place = format!("echod.toml:{line}: {problem}");
        assert_eq!(server.echod.logged(&place), 1, "no {place}");
        server.expect_refused("127.0.0.1");
    }
    std::fs::remove_file(server.directory.join("echod.toml")).expect("a file");
    server.echod.signal(Signal::HUP);
    server
        .echod
        .wait_for_log("did not reload; the old settings stay");
    server.expect_refused("127.0.0.1");
    client.echo(b"still the only one");
    server.reload("max-connections = 2\n", RELOADED);
    server.connect("127.0.0.1").echo(b"two");
}

#[test]
fn settings_that_need_a_restart_are_named() {
    let mut server = Reloadable::start("");
    server.reload("backlog = 17\npin = true\nmax-connections = 1\n", RELOADED);
    let said = "need a restart to take effect settings=\"pin, backlog\"";
    assert_eq!(server.echod.logged(said), 1);
    // The reloadable setting has changed.
    let mut client = server.connect("127.0.0.1");
    client.echo(b"the only one");
    server.expect_refused("127.0.0.1");
    // Without the setting in the file there is no second warning.
    server.reload("max-connections = 1\n", RELOADED);
    assert_eq!(server.echod.logged("need a restart"), 1);
}

#[test]
fn many_signals_under_traffic_disturb_no_client() {
    const RELOADS: usize = 100;
    let server = Reloadable::start("idle-timeout = '1m'\nmax-connections-per-ip = 100\n");
    let stop = AtomicBool::new(false);
    let address = server.connect("127.0.0.1").peer_addr().expect("an address");
    let server = Mutex::new(server);
    in_parallel(4, |index| match index {
        0 => {
            let _stop = AtEnd(&stop);
            for number in 0..RELOADS {
                // With and without timeouts and limits per address.
                let text = [
                    "",
                    "idle-timeout = '1m'\n",
                    "max-connections-per-ip = 100\n",
                    "x = 1\n",
                ];
                let server = server.lock().expect("no panic");
                server.write(text[number % 4]);
                server.echod.signal(Signal::HUP);
            }
        }
        _ => {
            while !stop.load(Ordering::Relaxed) {
                let mut client = Client::connect(address);
                client.echo_stream(Pattern(index as u64), 300_000);
                client.half_close();
                client.expect_end();
            }
        }
    });
    let Reloadable { echod, .. } = server.into_inner().expect("no panic");
    wait_until("the end of all connections", || {
        let active =
            |worker| echod.metric(&format!("echod_connections_active{{worker=\"{worker}\"}}"));
        active(0) + active(1) == 0
    });
    let closed = "echod_connections_closed_total{reason=\"finished\"}";
    let accepted = "echod_connections_accepted_total";
    assert_eq!(echod.metric(closed), echod.metric(accepted));
    echod.signal(Signal::TERM);
    assert_eq!(echod.wait_for_exit().code, Some(0));
}
