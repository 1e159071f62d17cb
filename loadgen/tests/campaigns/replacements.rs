//! echod is replaced ten times with `--handover`, and restarted ten times without, under a watch: no outage, and
//! how long ones.

use std::process::Command;
use std::time::Duration;

use loadgen::WatchResult;
use rustix::process::{Pid, Signal, kill_process};

use crate::network::{Process, pass};
use crate::support::{free_endpoint, start};
use crate::{number, say};

const REST: Duration = Duration::from_millis(500);

fn watch(endpoint: &str, json: &str) -> Process {
    let child = Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(["watch", endpoint, "-c", "4", "--interval", "10ms"])
        .args(["--new-rate", "100", "--quiet", "--json", json])
        .spawn()
        .unwrap();
    pass(REST);
    Process(child)
}

fn end(process: &mut Process, signal: Signal) {
    kill_process(Pid::from_child(&process.0), signal).unwrap();
    process.0.wait().unwrap();
}

/// Watches while `replace` makes a server of the one before, and returns what was seen.
fn campaign(
    name: &str,
    options: &[&str],
    replace: impl Fn(Process, &str) -> Process,
) -> WatchResult {
    let path = std::env::temp_dir().join(format!("echomark-{name}-{}.json", std::process::id()));
    let endpoint = free_endpoint();
    let mut server = start(&endpoint, options);
    let mut watch = watch(&endpoint, path.to_str().unwrap());
    let count = number("CAMPAIGN_REPLACEMENTS", 10);
    for _ in 0..count {
        server = replace(server, &endpoint);
        pass(REST);
    }
    end(&mut watch, Signal::INT);
    drop(server);
    let result: WatchResult = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    std::fs::remove_file(&path).unwrap();
    for target in &result.targets {
        let longest = target.longest_outage_s * 1000.0;
        let reconnect = target.reconnect.as_ref().map_or(0, |it| it.max()) as f64 / 1e6;
        say(&format!(
            "{name}, {count} times, {}: {} probes, {} failed, {} outages, the longest {longest:.1} ms, \
             {:.1} ms together; {} reconnects, the longest {reconnect:.1} ms",
            target.kind,
            target.probes,
            target.failed.total(),
            target.outage_count,
            target.outage_total_s * 1000.0,
            target.reconnects
        ));
    }
    result
}

#[test]
#[ignore = "a campaign"]
fn replacements() {
    let socket = std::env::temp_dir().join(format!("echomark-handover-{}", std::process::id()));
    let handover = [
        "--handover",
        socket.to_str().unwrap(),
        "--drain-timeout",
        "200ms",
    ];
    let rolling = campaign(
        "a replacement with --handover",
        &handover,
        |mut old, endpoint| {
            let successor = start(endpoint, &handover);
            old.0.wait().unwrap();
            successor
        },
    );
    for target in &rolling.targets {
        assert_eq!(target.outage_count, 0, "{:?}", target.outages);
    }
    let drain = ["--drain-timeout", "200ms"];
    let restarts = campaign("a restart", &drain, |mut old, endpoint| {
        end(&mut old, Signal::TERM);
        start(endpoint, &drain)
    });
    assert!(
        restarts
            .targets
            .iter()
            .all(|target| target.outage_count > 0)
    );
}
