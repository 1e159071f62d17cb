//! Contestants under the same load: servers with one client, clients with one server, or echod and
//! loadgen with more and more threads.
//!
//! Each turn starts the server afresh. The package's client measures a window. loadgen runs twice
//! in a turn, for a tenth of the time and for all of it, and the difference of the processor times is
//! divided by the difference of the messages: starting, connecting and ending cancel, and all threads
//! count.

use std::io;
use std::time::Duration;

use serde_json::Value;

use crate::cli::Common;
use crate::client::{self, Checks, Length, Load, Shape, Workload};
use crate::counts;
use crate::loadgen::{self, Run};
use crate::peer::Peer;
use crate::process::{self, Usage};
use crate::programs::Programs;
use crate::report::{BUSY, Metric, Sample, Table};
use crate::server::{Server, Watcher};

/// A server, the client that drives it, and where they run.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) server: Peer,
    pub(crate) client: Client,
    /// Of the server's workers and of loadgen.
    pub(crate) threads: usize,
    pub(crate) compared: Side,
    pub(crate) server_cpus: Vec<usize>,
    pub(crate) client_cpus: Vec<usize>,
}

/// What differs between contestants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Server,
    Client,
}

#[derive(Clone, Debug)]
pub(crate) enum Client {
    /// That of this package, on the driver's own thread.
    Minimal(Checks),
    /// The program with its options. It does all that it does by default.
    Loadgen(Vec<String>),
}

/// One workload in one shape.
pub(crate) struct Contest<'a> {
    pub(crate) workload: Workload,
    pub(crate) shape: Shape,
    pub(crate) options: &'a Common,
    pub(crate) programs: &'a Programs,
}

impl Contest<'_> {
    /// Gives all contestants their turns.
    pub(crate) fn run(&self, contestants: &[Contestant]) -> Table {
        let absence = |c: &Contestant| c.server.absence(self.workload, self.shape, self.programs);
        let (present, absent): (Vec<_>, Vec<_>) = contestants
            .iter()
            .partition(|contestant| absence(contestant).is_none());
        let title = format!("{:?}: {}", self.workload, self.shape);
        let names = present
            .iter()
            .map(|contestant| contestant.name.clone())
            .collect();
        let rounds = self.options.rounds;
        let mut table = Table::measure(title, self.workload.unit(), names, rounds, |index| {
            self.turn(present[index])
        });
        for contestant in absent {
            table.leave_out(&contestant.name, absence(contestant).unwrap_or_default());
        }
        // A stream to a discard server has no operations of the server's, and idle connections have none.
        if self.options.counts
            && !matches!(
                self.workload,
                Workload::Discard | Workload::Idle | Workload::TlsIdle
            )
        {
            table.count(|index| self.count(present[index]));
        }
        table
    }

    fn turn(&self, contestant: &Contestant) -> io::Result<Sample> {
        let server = self.start(contestant, Watcher::None)?;
        let window = self.options.duration;
        match &contestant.client {
            Client::Minimal(checks) => {
                let warm_up = self.options.warm_up;
                let load = self.load(&server, Length::Window { warm_up, window }, *checks);
                let outcome = client::run(&load)?;
                let units = self.units(outcome.operations as f64, outcome.bytes as f64);
                Ok(Sample::of(&outcome, units))
            }
            Client::Loadgen(program) => {
                let run = |window: Duration| -> io::Result<Slice> {
                    let length = ["-d".to_owned(), format!("{}us", window.as_micros())];
                    let before = process::usage(server.pid())?;
                    let run = self.loadgen(contestant, program, &server, length);
                    let (client, result) = loadgen::run(&run, &Watcher::None)?;
                    let server = process::usage(server.pid())?.since(before);
                    self.slice(client, server, result)
                };
                let (short, long) = (run(window / 10)?, run(window)?);
                Ok(long.sample(&short, contestant))
            }
        }
    }

    /// What is watched is slowed down, and so saturated: the server, or loadgen.
    fn count(&self, contestant: &Contestant) -> Sample {
        let (side, client) = (contestant.compared, &contestant.client);
        counts::count(|watcher, operations| match (side, client) {
            (Side::Server, Client::Minimal(checks)) => {
                if let Some(why) = contestant.server.uncountable(&watcher) {
                    return Err(io::Error::other(why));
                }
                let server = self.start(contestant, watcher)?;
                client::run(&self.load(&server, Length::Count(operations), *checks))?;
                server.end()
            }
            (Side::Client, Client::Loadgen(program)) => {
                let server = self.start(contestant, Watcher::None)?;
                let length = ["-n".to_owned(), operations.to_string()];
                let run = self.loadgen(contestant, program, &server, length);
                loadgen::run(&run, &watcher).map(drop)
            }
            _ => Err(io::Error::other(
                "both sides, or the driver, would have to be watched",
            )),
        })
    }

    fn start(&self, contestant: &Contestant, watcher: Watcher) -> io::Result<Server> {
        let service = self.workload.service();
        let launch = contestant
            .server
            .launch(service, contestant.threads, self.programs)?;
        Server::start(&launch, watcher, &contestant.server_cpus)
    }

    fn load(&self, server: &Server, length: Length, checks: Checks) -> Load {
        Load {
            target: server.address(),
            server: server.pid(),
            workload: self.workload,
            shape: self.shape,
            length,
            checks,
        }
    }

    fn loadgen<'a>(
        &self,
        contestant: &'a Contestant,
        program: &'a [String],
        server: &Server,
        length: [String; 2],
    ) -> Run<'a> {
        Run {
            program,
            target: server.address(),
            workload: self.workload,
            shape: self.shape,
            threads: contestant.threads,
            length,
            cpus: &contestant.client_cpus,
        }
    }

    fn units(&self, operations: f64, bytes: f64) -> f64 {
        match self.workload.unit() {
            "MiB" => bytes / f64::from(1 << 20),
            _ => operations,
        }
    }

    /// A run of loadgen, in which every message must have come back right.
    fn slice(&self, client: f64, server: Usage, result: Value) -> io::Result<Slice> {
        let accounts = &result["messages"];
        let count = |name| accounts[name].as_f64().unwrap_or(0.0);
        let wrong = ["corrupt", "lost", "timed_out", "abandoned"]
            .into_iter()
            .map(count);
        if count("sent") == 0.0 || wrong.sum::<f64>() > 0.0 {
            return Err(io::Error::other(format!(
                "messages did not come back: {accounts}"
            )));
        }
        // What was out at the end of the window came back too, at the server's expense.
        let bytes = result["bytes"]["sent"].as_f64().unwrap_or(0.0);
        Ok(Slice {
            client,
            server: server.cpu.as_secs_f64(),
            units: self.units(count("sent"), bytes),
            result,
        })
    }
}

/// A run of loadgen: what it sent, and the processor time of both sides in seconds.
struct Slice {
    client: f64,
    server: f64,
    units: f64,
    result: Value,
}

impl Slice {
    fn sample(&self, short: &Self, contestant: &Contestant) -> Sample {
        let seconds = self.result["duration_s"].as_f64().unwrap_or(f64::NAN);
        let threads = self.result["client"]["threads"]
            .as_array()
            .into_iter()
            .flatten();
        let busy = threads.filter_map(|thread| thread["cpu_ratio"].as_f64());
        let mut sample = Sample::default();
        let units = self.units - short.units;
        sample.set(
            Metric::ServerCpu,
            (self.server - short.server) * 1e9 / units,
        );
        sample.set(
            Metric::ClientCpu,
            (self.client - short.client) * 1e9 / units,
        );
        sample.set(Metric::Rate, self.units / seconds);
        sample.set(
            Metric::ServerBusy,
            self.server / seconds / contestant.threads as f64,
        );
        sample.set(Metric::ClientBusy, busy.fold(0.0, f64::max));
        let cpus = &contestant.server_cpus;
        let all = (self.server + self.client) / seconds;
        if *cpus == contestant.client_cpus && all >= BUSY * cpus.len() as f64 {
            sample.note("the processors were the limit: both sides share them");
        } else {
            sample.note_limit();
        }
        let reasons = self.result["verdict"]["reasons"]
            .as_array()
            .into_iter()
            .flatten();
        let codes: Vec<&str> = reasons
            .filter_map(|reason| reason["code"].as_str())
            .collect();
        if !codes.is_empty() {
            sample.note(format!("loadgen says {}", codes.join(", ")));
        }
        sample
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn slice(client: f64, server: f64, units: f64) -> Slice {
        let result = json!({"duration_s": 2.0, "client": {"threads": [{"cpu_ratio": 0.5}, {"cpu_ratio": 0.99}]},
            "verdict": {"reasons": [{"code": "client_busy", "text": ""}]}});
        Slice {
            client,
            server,
            units,
            result,
        }
    }

    fn sample(client: f64, server: f64) -> Sample {
        let contestant = Contestant {
            name: "2 workers".to_owned(),
            server: Peer::named("echod").unwrap(),
            client: Client::Minimal(Checks::All),
            threads: 2,
            compared: Side::Server,
            server_cpus: vec![0, 1],
            client_cpus: vec![0, 1],
        };
        slice(client, server, 1000.0).sample(&slice(0.1, 0.2, 500.0), &contestant)
    }

    #[test]
    fn what_both_runs_of_loadgen_have_in_common_cancels() {
        let sample = sample(0.6, 1.2);
        let value = |metric| sample.get(metric).unwrap();
        assert!((value(Metric::ClientCpu) - 1e6).abs() < 1.0);
        assert!((value(Metric::ServerCpu) - 2e6).abs() < 1.0);
        assert_eq!(
            (value(Metric::Rate), value(Metric::ServerBusy)),
            (500.0, 0.3)
        );
        assert!(
            sample.notes.contains("loadgen says client_busy"),
            "{sample:?}"
        );
    }

    #[test]
    fn the_limit_is_the_side_without_a_reserve() {
        let has = |sample: Sample, what| sample.notes.iter().any(|note| note.contains(what));
        assert!(has(sample(1.9, 1.99), "processors were the limit"));
        assert!(has(sample(1.0, 1.2), "client was the limit"));
    }
}
