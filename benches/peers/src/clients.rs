//! `clients`: loadgen, or several builds of it, beside a minimal epoll client, in a closed loop against
//! the same server.
//!
//! loadgen runs twice in a turn, for few and for many messages, and the difference of its processor
//! times is divided by the difference of the messages: starting, connecting and ending cancel, and
//! all of its threads count. The minimal client is this process, which measures its own thread.

use std::fs::{self, File};
use std::io;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::cli::Clients;
use crate::client::{self, Checks, Length, Load, Service, Shape, Workload};
use crate::counts;
use crate::process;
use crate::programs::Programs;
use crate::report::{Metric, Sample, Table};
use crate::server::{Server, Watcher};
use crate::{Document, Place};

/// A client that can be measured.
#[derive(Clone, Debug)]
enum Client {
    /// The same loop as elsewhere, with all checks or with none.
    Minimal(Checks),
    /// The program with its options. It does all that it does by default.
    Loadgen(Vec<String>),
}

/// What all clients of a table do.
struct Cell<'a> {
    options: &'a Clients,
    workload: Workload,
    shape: Shape,
    programs: &'a Programs,
    place: Place,
    /// Messages of a long run.
    messages: u64,
}

pub(crate) fn run(
    options: &Clients,
    programs: &Programs,
    place: Place,
    document: &mut Document,
) -> io::Result<()> {
    let clients = clients(options, programs);
    for (workload, shape) in options.cells.given() {
        if workload == Workload::Idle {
            return Err(io::Error::other("idle connections have no messages"));
        }
        let cell = Cell {
            options,
            workload,
            shape,
            programs,
            place,
            messages: options.messages.unwrap_or(match workload {
                Workload::Churn => 50_000,
                Workload::Stream | Workload::Discard => 20_000,
                _ => 300_000,
            }),
        };
        document.add(cell.measure(&clients)?)?;
    }
    Ok(())
}

/// The clients with their names: builds, then the named ones, or all.
fn clients(options: &Clients, programs: &Programs) -> Vec<(String, Client)> {
    let words = |command: &str| command.split_whitespace().map(String::from).collect();
    let builds = options.common.loadgen.iter();
    let mut clients: Vec<(String, Client)> = builds
        .filter_map(|build| Some((build.name.clone()?, Client::Loadgen(words(&build.command)))))
        .collect();
    let all = ["minimal-unchecked", "minimal", "loadgen"].map(String::from);
    let named = match &options.named {
        named if named.is_empty() && clients.is_empty() => &all[..],
        named => named,
    };
    clients.extend(named.iter().map(|name| {
        let client = match name.as_str() {
            "minimal-unchecked" => Client::Minimal(Checks::None),
            "minimal" => Client::Minimal(Checks::All),
            _ => Client::Loadgen(words(&programs.loadgen.to_string_lossy())),
        };
        (name.clone(), client)
    }));
    clients
}

impl Cell<'_> {
    fn measure(&self, clients: &[(String, Client)]) -> io::Result<Table> {
        let names = clients.iter().map(|(name, _)| name.clone()).collect();
        let title = format!(
            "{}: {}, {} messages, server {}",
            self.workload, self.shape, self.messages, self.options.server.name
        );
        // All clients of a round share a server; each round has another.
        let mut servers: Option<(u32, Server)> = None;
        let rounds = self.options.common.rounds;
        let mut table = Table::measure(title, "message", names, rounds, |index, round| {
            let server = match servers.take() {
                Some((started, server)) if started == round => server,
                _ => self.start_server()?,
            };
            let sample = self.turn(&clients[index].1, &server);
            servers = Some((round, server));
            sample
        });
        if self.options.counts {
            drop(servers);
            let server = self.start_server()?;
            table.count(|index| match &clients[index].1 {
                Client::Minimal(_) => Sample::default(),
                Client::Loadgen(program) => counts::count(|watcher, messages| {
                    let cpu = self.run_loadgen(program, &watcher, server.address(), messages);
                    cpu.map(drop)
                }),
            });
        }
        Ok(table)
    }

    fn start_server(&self) -> io::Result<Server> {
        let peer = &self.options.server;
        if let Some(why) = peer.absence(self.workload, self.shape, self.programs) {
            return Err(io::Error::other(format!("{}: {why}", peer.name)));
        }
        let launch = peer.launch(self.workload.service(), self.programs)?;
        Server::start(&launch, Watcher::None, &[self.place.server])
    }

    fn turn(&self, client: &Client, server: &Server) -> io::Result<Sample> {
        let cpu_ns = match client {
            Client::Minimal(checks) => {
                let outcome = client::run(&Load {
                    target: server.address(),
                    server: server.pid(),
                    workload: self.workload,
                    shape: self.shape,
                    length: Length::Count(self.messages),
                    checks: *checks,
                })?;
                outcome.client_cpu.as_secs_f64() * 1e9 / outcome.operations as f64
            }
            Client::Loadgen(program) => {
                let run = |messages| {
                    self.run_loadgen(program, &Watcher::None, server.address(), messages)
                };
                let (short, few) = run(self.messages / 10)?;
                let (long, many) = run(self.messages)?;
                (long - short) * 1e9 / (many - few)
            }
        };
        let mut sample = Sample::default();
        sample.set(Metric::ClientCpu, cpu_ns);
        Ok(sample)
    }

    /// Runs loadgen and returns its processor time in seconds and the messages that came back, which
    /// must be all and right.
    fn run_loadgen(
        &self,
        program: &[String],
        watcher: &Watcher,
        target: SocketAddr,
        messages: u64,
    ) -> io::Result<(f64, f64)> {
        let json = NamedTempFile::new()?;
        let mut words = watcher.words();
        words.extend(program.first().cloned());
        let mut command = Command::new(&words[0]);
        let scheme = match self.workload.service() {
            Service::Echo | Service::Discard => "tcp",
            Service::UdpEcho => "udp",
        };
        command
            .args(&words[1..])
            .args(["run", &format!("{scheme}://{target}"), "-t", "1", "-w", "0"])
            .args([
                "-c",
                &self.shape.connections.to_string(),
                "-s",
                &self.shape.size.to_string(),
            ])
            .args(["-n", &messages.to_string(), "--allow-invalid", "--json"])
            .arg(json.path())
            .args(&program[1..]);
        match self.workload {
            Workload::Churn => {
                command.args(["--workload", "churn", "--source", "127.1.0.0/22"]);
            }
            Workload::Stream => {
                command.args(["--workload", "stream", "-p", &self.shape.depth.to_string()]);
            }
            Workload::Discard => {
                command.args(["--workload", "stream", "--direction", "up"]);
            }
            _ => {
                command.args(["-p", &self.shape.depth.to_string()]);
            }
        }
        let cpu = run_to_end(command, self.place.client)?;
        let result: Value = serde_json::from_str(&fs::read_to_string(json.path())?)?;
        let count = |name| result["messages"][name].as_u64().unwrap_or(0);
        let done = match self.workload {
            Workload::Discard => count("sent"),
            _ => count("received"),
        };
        if done < messages || count("corrupt") + count("lost") + count("timed_out") > 0 {
            let accounts = &result["messages"];
            return Err(io::Error::other(format!(
                "not all of {messages} messages came back: {accounts}"
            )));
        }
        Ok((cpu, done as f64))
    }
}

/// Runs a command on a processor and returns its processor time in seconds. An error quotes what it wrote.
fn run_to_end(mut command: Command, cpu: usize) -> io::Result<f64> {
    let output = NamedTempFile::new()?;
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(output.path())?);
    process::pin_command(&mut command, &[cpu]);
    let program = command.get_program().to_owned();
    let spawned = command.spawn();
    let mut child = spawned
        .map_err(|e| io::Error::new(e.kind(), format!("cannot run {}: {e}", program.display())))?;
    // The clock of a process can be read until it is waited for.
    let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    waitid(WaitId::Pid(Pid::from_child(&child)), ended)?;
    let cpu = process::cpu_time(child.id())?;
    match child.wait()? {
        status if status.success() => Ok(cpu.as_secs_f64()),
        status => {
            let words = fs::read_to_string(output.path())?;
            Err(io::Error::other(format!("{status}\n{words}").trim()))
        }
    }
}
