//! `scaling`: echod with 1 to N workers, under loadgen with as many threads, on all processors together.
//!
//! Everything is over the whole run of loadgen, which has no warm-up, so that the server's processor
//! time and the messages belong together; making the connections is part of it.

use std::fs;
use std::io;
use std::process::{Command, Stdio};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::Document;
use crate::cli::Scaling;
use crate::client::{Service, Shape, Workload};
use crate::peer::Peer;
use crate::process;
use crate::programs::Programs;
use crate::report::{BUSY, Metric, Sample, Table};
use crate::server::{Server, Watcher};

pub(crate) fn run(
    options: &Scaling,
    programs: &Programs,
    document: &mut Document,
) -> io::Result<()> {
    let cpus = process::allowed_cpus()?;
    let most = options.workers.unwrap_or(cpus.len()).max(1);
    for (workload, shape) in options.cells.given() {
        if workload != Workload::Echo {
            return Err(io::Error::other(
                "scaling is measured with the workload echo only",
            ));
        }
        let names = (1..=most).map(|workers| format!("{workers} workers"));
        let title = format!("scaling on {} processors: {shape}", cpus.len());
        let rounds = options.common.rounds;
        let table = Table::measure(title, "echo", names.collect(), rounds, |index, _| {
            turn(index + 1, shape, options, programs, &cpus)
        });
        document.add(table)?;
    }
    Ok(())
}

fn turn(
    workers: usize,
    shape: Shape,
    options: &Scaling,
    programs: &Programs,
    cpus: &[usize],
) -> io::Result<Sample> {
    let count = workers.to_string();
    let echod = Peer::echod("echod", &format!("{{echod}} --workers {count}"));
    let server = Server::start(&echod.launch(Service::Echo, programs)?, Watcher::None, cpus)?;
    let json = NamedTempFile::new()?;
    let before = process::usage(server.pid())?;
    let status = Command::new(&programs.loadgen)
        .args([
            "run",
            &format!("tcp://{}", server.address()),
            "-t",
            &count,
            "-w",
            "0",
        ])
        .args([
            "-c",
            &shape.connections.max(workers).to_string(),
            "-s",
            &shape.size.to_string(),
        ])
        .args([
            "-p",
            &shape.depth.to_string(),
            "-d",
            &format!("{}ms", options.duration.as_millis()),
        ])
        .args(["--allow-invalid", "--json"])
        .arg(json.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let used = process::usage(server.pid())?.since(before);
    if !status.success() {
        return Err(io::Error::other(format!("loadgen failed: {status}")));
    }
    let result: Value = serde_json::from_str(&fs::read_to_string(json.path())?)?;
    sample(&result, used.cpu.as_secs_f64(), workers, cpus.len())
}

/// A turn from loadgen's result and the processor time in seconds that the server used meanwhile.
fn sample(result: &Value, server: f64, workers: usize, cpus: usize) -> io::Result<Sample> {
    let count = |name| result["messages"][name].as_f64().unwrap_or(0.0);
    if count("verified") == 0.0 || count("verified") != count("received") || count("lost") > 0.0 {
        let why = "messages were lost, or came back wrong, or not at all";
        return Err(io::Error::other(why));
    }
    let duration = result["duration_s"].as_f64().unwrap_or(f64::NAN);
    let threads = result["client"]["threads"].as_array().into_iter().flatten();
    let threads: Vec<f64> = threads
        .filter_map(|thread| thread["cpu_ratio"].as_f64())
        .collect();
    let mut sample = Sample::default();
    // What was still out at the end of the window was echoed too, at the server's expense.
    let echoed = count("verified") + count("unfinished");
    sample.set(Metric::ServerCpu, server * 1e9 / echoed);
    sample.set(Metric::Rate, count("verified") / duration);
    sample.set(Metric::ServerBusy, server / duration / workers as f64);
    sample.set(
        Metric::ClientBusy,
        threads.iter().copied().fold(0.0, f64::max),
    );
    if server / duration + threads.iter().sum::<f64>() >= BUSY * cpus as f64 {
        sample.note("the processors were the limit: both sides share them");
    } else {
        sample.note_limit();
    }
    for reason in result["verdict"]["reasons"]
        .as_array()
        .into_iter()
        .flatten()
    {
        let code = reason["code"].as_str().unwrap_or("");
        sample.note(format!("loadgen says {code}"));
    }
    Ok(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn result(threads: [f64; 2]) -> Value {
        json!({"duration_s": 2.0,
            "messages": {"received": 1990, "verified": 1990, "lost": 0, "unfinished": 10},
            "client": {"threads": [{"cpu_ratio": threads[0]}, {"cpu_ratio": threads[1]}]},
            "verdict": {"status": "suspect", "reasons": [{"code": "client_busy", "text": ""}]}})
    }

    #[test]
    fn a_turn_is_read_from_loadgens_result() {
        let sample = sample(&result([0.5, 0.75]), 0.01, 1, 4).unwrap();
        assert_eq!(sample.get(Metric::ServerCpu), Some(5000.0));
        assert_eq!(sample.get(Metric::Rate), Some(995.0));
        assert_eq!(sample.get(Metric::ServerBusy), Some(0.005));
        assert_eq!(sample.get(Metric::ClientBusy), Some(0.75));
        assert_eq!(
            sample.notes.into_iter().collect::<Vec<_>>(),
            ["loadgen says client_busy"]
        );
    }

    #[test]
    fn the_limit_is_the_side_without_a_reserve() {
        let notes = |server, threads| sample(&result(threads), server, 2, 4).unwrap().notes;
        let has = |notes: std::collections::BTreeSet<String>, what| {
            notes.iter().any(|note| note.contains(what))
        };
        assert!(has(notes(3.8, [0.99, 0.99]), "processors were the limit"));
        assert!(has(notes(1.6, [0.5, 0.99]), "client was the limit"));
        assert!(!has(notes(1.6, [0.5, 0.6]), "the limit"));
    }

    #[test]
    fn a_message_that_came_back_wrong_fails() {
        let mut result = result([0.5, 0.5]);
        result["messages"]["verified"] = json!(1989);
        assert!(sample(&result, 0.01, 1, 4).is_err());
    }
}
