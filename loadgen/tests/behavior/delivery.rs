//! A measured result is delivered: if the server disappears, if signals arrive, and if the file
//! can't be replaced.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;

use loadgen::observer::{Observer, Phase};
use loadgen::plan::{Plan, Target};
use loadgen::result::Code;
use loadgen::{Control, RunResult};
use rustix::process::Signal;
use serde_json::Value;

use crate::program::{kill, loadgen};
use crate::server_side::Echod;
use crate::support::tools::{require, skip};
use crate::support::{
    Directory, PlainServer, check_accounts, codes, number, plan, server, wait_until,
};

/// Performs an action when a phase begins.
struct At<F>(F);

impl<F: FnMut(Phase) + Send> Observer for At<F> {
    fn phase(&mut self, phase: Phase) {
        (self.0)(phase);
    }
}

fn run_and(plan: &Plan, at: impl FnMut(Phase) + Send) -> RunResult {
    let result = loadgen::run(plan, &Control::default(), &mut At(at)).unwrap();
    check_accounts(&result);
    result
}

/// Forwards requests for `/info` to an admin port until it is told to answer as another process, or
/// not at all.
struct AdminRelay {
    address: SocketAddr,
    answers: std::sync::Arc<std::sync::Mutex<Answers>>,
}

#[derive(Clone, Copy)]
enum Answers {
    OfTheServer,
    OfAnother,
    Missing,
}

impl AdminRelay {
    fn start(admin: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answers = std::sync::Arc::new(std::sync::Mutex::new(Answers::OfTheServer));
        let shared = std::sync::Arc::clone(&answers);
        thread::spawn(move || {
            for client in listener.incoming() {
                let answers = *shared.lock().unwrap();
                let _ = relay(client.unwrap(), admin, answers);
            }
        });
        Self { address, answers }
    }

    fn now(&self, answers: Answers) {
        *self.answers.lock().unwrap() = answers;
    }
}

fn relay(mut client: TcpStream, admin: SocketAddr, answers: Answers) -> std::io::Result<()> {
    if matches!(answers, Answers::Missing) {
        return Ok(());
    }
    let mut request = [0; 4096];
    let length = client.read(&mut request)?;
    let mut server = TcpStream::connect(admin)?;
    server.write_all(&request[..length])?;
    let mut answer = String::new();
    server.read_to_string(&mut answer)?;
    if matches!(answers, Answers::OfAnother) {
        let pid = std::process::id().to_string();
        let other: String = pid
            .chars()
            .map(|digit| if digit == '1' { '2' } else { '1' })
            .collect();
        answer = answer.replacen(&pid, &other, 1);
    }
    client.write_all(answer.as_bytes())
}

#[test]
fn a_server_that_stops_telling_its_side_costs_only_its_side() {
    for (answers, words) in [
        (Answers::Missing, "cannot read"),
        (Answers::OfAnother, "started anew"),
    ] {
        let echod = Echod::echo();
        let relay = AdminRelay::start(echod.admin);
        let plan = Plan {
            server_admin: Some(relay.address.to_string().parse().unwrap()),
            ..plan(Target::Servers {
                targets: vec![echod.endpoints[0].clone()],
            })
        };
        let result = run_and(&plan, |phase| {
            if matches!(phase, Phase::Measuring(_)) {
                relay.now(answers);
            }
        });
        assert!(result.messages.received > 0);
        assert!(result.server.is_none());
        let reasons = &result.verdict.reasons;
        let missing = reasons
            .iter()
            .find(|reason| reason.code == Code::ServerSideMissing);
        let text = &missing.expect("the missing side is a reason").text;
        assert!(text.contains(words), "{text}");
    }
}

#[test]
fn repeats_that_were_made_are_delivered_when_the_next_one_fails() {
    let target = PlainServer::echo();
    let plan = Plan {
        repeat: number(3),
        ..plan(server(&target))
    };
    let mut target = Some(target);
    let mut repeats = 0;
    let result = run_and(&plan, |phase| {
        repeats += usize::from(phase == Phase::Connecting);
        // The second repeat can connect; the third can't.
        if repeats == 2 && matches!(phase, Phase::Measuring(_)) {
            target.take();
        }
    });
    assert!(result.messages.received > 0);
    assert_eq!(codes(&result)[0], &Code::RepeatFailed);
    let text = &result.verdict.reasons[0].text;
    assert!(text.starts_with("repeat 3 of 3 failed: "), "{text}");
}

#[test]
fn rounds_that_were_made_are_delivered_when_the_next_one_fails() {
    let target = PlainServer::echo();
    let endpoint = target.endpoint().to_string();
    let directory = Directory::new("delivery-rounds");
    let path = directory.path("comparison.json");
    let mut child = loadgen(&["compare", &endpoint, &endpoint, "--rounds", "200"])
        .args(["-d", "100ms", "-w", "0", "-c", "2", "--timeout", "1s"])
        .args(["--quiet", "--json", path.to_str().unwrap()])
        .spawn()
        .unwrap();
    // Two connections for each side of a round.
    wait_until("three rounds are made", || target.connections() > 12);
    drop(target);
    assert_eq!(child.wait().unwrap().code(), Some(97));
    let comparison: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert!(comparison["rounds"].as_array().unwrap().len() >= 3);
    let reasons = comparison["validity"]["reasons"].as_array().unwrap();
    assert_eq!(reasons[0]["code"], "round_failed");
}

fn endless(target: &PlainServer, json: &str) -> Child {
    let before = target.bytes();
    let endpoint = target.endpoint().to_string();
    let child = loadgen(&["run", &endpoint, "-d", "1h", "-w", "0", "--json", json])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("messages flow", || target.bytes() > before + 64_000);
    child
}

fn is_interrupted(path: &std::path::Path) -> bool {
    let json: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    json["interrupted"] == true
}

#[test]
fn one_request_to_stop_that_comes_as_two_signals_is_one() {
    let target = PlainServer::echo();
    let directory = Directory::new("delivery-signals");
    let path = directory.path("result.json");
    for signals in [
        [Signal::TERM, Signal::TERM],
        [Signal::INT, Signal::INT],
        [Signal::HUP, Signal::TERM],
        [Signal::QUIT, Signal::QUIT],
    ] {
        let mut child = endless(&target, path.to_str().unwrap());
        for signal in signals {
            kill(&child, signal);
        }
        assert_eq!(child.wait().unwrap().code(), Some(130), "{signals:?}");
        assert!(is_interrupted(&path));
        assert_eq!(directory.names(), ["result.json"]);
        fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_program_that_is_told_to_end_at_once_leaves_no_temporary_file() {
    // The server never answers, and closes when its peer does, so the run waits for something at
    // its end.
    let target = PlainServer::start(|_, _| true);
    let directory = Directory::new("delivery-at-once");
    let path = directory.path("result.json");
    let mut child = loadgen(&["run", &target.endpoint().to_string(), "-d", "1h", "-w", "0"])
        .args(["--timeout", "1h", "--json", path.to_str().unwrap()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("messages flow", || target.bytes() > 0);
    wait_until("it has ended", || {
        if child.try_wait().unwrap().is_none() {
            kill(&child, Signal::INT);
        }
        child.try_wait().unwrap().is_some()
    });
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let names = directory.names();
    assert!(names.iter().all(|name| name == "result.json"), "{names:?}");
}

#[test]
fn nohup_is_obeyed() {
    require!("sh");
    let target = PlainServer::echo();
    let directory = Directory::new("delivery-nohup");
    let path = directory.path("result.json");
    let before = target.bytes();
    let mut child = Command::new("sh")
        .args(["-c", "trap '' HUP; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .args([
            "run",
            &target.endpoint().to_string(),
            "-n",
            "2000",
            "-R",
            "4k",
        ])
        .args([
            "-w",
            "0",
            "--allow-invalid",
            "--json",
            path.to_str().unwrap(),
        ])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    wait_until("messages flow", || target.bytes() > before);
    kill(&child, Signal::HUP);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!is_interrupted(&path));
}

#[test]
fn a_mount_point_is_written_in_place() {
    require!("mount", "sh", "unshare");
    let directory = Directory::new("delivery-mount");
    let (volume, host) = (directory.path("result.json"), directory.path("host.json"));
    fs::write(&volume, "").unwrap();
    fs::write(&host, "what was there before, and longer than nothing").unwrap();
    let script = "mount --bind \"$0\" \"$1\" || exit 77; shift; exec \"$@\"";
    let output = Command::new("unshare")
        .args(["--map-root-user", "--mount", "sh", "-c", script])
        .args([&host, &volume])
        .arg(env!("CARGO_BIN_EXE_loadgen"))
        .args([
            "run",
            "-d",
            "100ms",
            "-w",
            "0",
            "--quiet",
            "--allow-invalid",
        ])
        .arg("--json")
        .arg(&volume)
        .output();
    let refused = |output: &std::process::Output| {
        output.status.code() == Some(77)
            || String::from_utf8_lossy(&output.stderr).starts_with("unshare:")
    };
    match output {
        Ok(output) if !refused(&output) => {
            let stderr = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
        }
        other => {
            crate::known::show(&format!("no mount namespace: {other:?}"));
            skip!("a mount namespace");
        }
    }
    let json: Value = serde_json::from_slice(&fs::read(&host).unwrap()).unwrap();
    assert_eq!(json["schema"], 1);
    let mut names = directory.names();
    names.sort();
    assert_eq!(names, ["host.json", "result.json"]);
}
