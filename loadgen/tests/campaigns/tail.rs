//! Beside a server whose answers take two seconds once in a hundred, a watch sees late answers and no outage, for
//! `CAMPAIGN_MINUTES` (60). Each minute the client itself is stopped for a second.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use loadgen::WatchResult;
use loadgen::result::watch::Outage;
use rustix::process::{Pid, Signal, kill_process};

use crate::network::{Process, pass};
use crate::{Random, number, say};

const TAIL: Duration = Duration::from_secs(2);
const MILLISECOND: Duration = Duration::from_millis(1);

/// Answers of a connection keep their order, so those behind a slow one wait too.
fn serve(mut stream: TcpStream, seed: u64) {
    let mut random = Random(seed);
    let mut buffer = [0; 16];
    stream.set_nodelay(true).unwrap();
    while stream.read_exact(&mut buffer).is_ok() {
        let is_slow = random.unit() < 0.01;
        pass(if is_slow { TAIL } else { MILLISECOND });
        if stream.write_all(&buffer).is_err() {
            return;
        }
    }
}

/// The resident memory of a process in KiB (proc_pid_status(5)).
fn resident_kib(process: &Process) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.0.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.unwrap().trim().split(' ').next().unwrap();
    number.parse().unwrap()
}

#[test]
#[ignore = "a campaign of an hour"]
fn tail() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    let connections = AtomicU64::new(0);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let seed = connections.fetch_add(1, Ordering::Relaxed);
            thread::spawn(move || serve(stream, seed));
        }
    });
    let path = std::env::temp_dir().join(format!("echomark-tail-{}.json", std::process::id()));
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["watch", &endpoint, "-c", "4", "--quiet", "--json"])
        .arg(&path)
        .spawn()
        .unwrap();
    let mut watch = Process(child);
    let minutes = number("CAMPAIGN_MINUTES", 60);
    let pid = Pid::from_child(&watch.0);
    for minute in 1..=minutes {
        pass(Duration::from_secs(59));
        kill_process(pid, Signal::STOP).unwrap();
        pass(Duration::from_secs(1));
        kill_process(pid, Signal::CONT).unwrap();
        if minute == 1 || minute == minutes {
            say(&format!(
                "minute {minute}: {} KiB resident",
                resident_kib(&watch)
            ));
        }
    }
    pass(Duration::from_secs(1));
    kill_process(pid, Signal::INT).unwrap();
    watch.0.wait().unwrap();
    let result: WatchResult = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    judge(&result, minutes);
}

fn judge(result: &WatchResult, minutes: u64) {
    for target in &result.targets {
        say(&format!(
            "{minutes} minutes beside a tail of 2 s, {}: {} probes, {} late, {} failed, {} outages",
            target.kind,
            target.probes,
            target.late,
            target.failed.total(),
            target.outage_count
        ));
    }
    let long = result.client.absences.iter();
    let stopped = long.filter(|it| it.end_s - it.start_s > 0.9).count() as u64;
    say(&format!(
        "the client was stopped {minutes} times and told {stopped} absences of a second, {} in all",
        result.client.absences.len()
    ));
    for target in &result.targets {
        let outages: Vec<&Outage> = target.outages.iter().filter(|it| it.is_outage()).collect();
        assert!(outages.is_empty(), "{outages:#?}");
        assert!(target.late > 0, "{target:?}");
    }
    assert!(stopped >= minutes);
}
