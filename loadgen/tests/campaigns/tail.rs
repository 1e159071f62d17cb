//! Beside a server whose answers take two seconds once in a hundred, a watch sees late answers and no outage, for
//! `CAMPAIGN_MINUTES` (60). Each minute the client itself is stopped for a second.

use std::process::Command;
use std::time::Duration;

use loadgen::WatchResult;
use loadgen::result::watch::Outage;
use rustix::process::{Pid, Signal, kill_process};

use crate::network::{Process, pass};
use crate::support::{free_endpoint, start};
use crate::{number, say};

/// What the endpoint is asked for. Answers of a connection keep their order, so those behind a slow one wait too.
const FAULT: &str = "delay=mix:1ms=99,2s=1";

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
    let endpoint = free_endpoint();
    let _server = start(&format!("{endpoint}?{FAULT}"), &[]);
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
