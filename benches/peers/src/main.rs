//! The driver: measures what it is told to and prints the tables. The library describes the method.

mod cli;
mod client;
mod contest;
mod counts;
mod loadgen;
mod peer;
mod process;
mod programs;
mod report;
mod server;
mod sys;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::{Build, Cli, Clients, Command, Common};
use crate::client::{Checks, Shape, Workload};
use crate::contest::{Client, Contest, Contestant, Side};
use crate::peer::Peer;
use crate::programs::Programs;
use crate::report::Table;

/// Did every turn succeed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Complete,
    Gaps,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(Verdict::Complete) => ExitCode::SUCCESS,
        Ok(Verdict::Gaps) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<Verdict> {
    echomark_peers::raise_descriptor_limit()?;
    let options = command.common();
    let programs = Programs::locate(
        Build::unnamed(&options.echod),
        Build::unnamed(&options.loadgen),
    )?;
    let cpus = process::allowed_cpus()?;
    let contestants = contestants(&command, &programs, &cpus);
    let names: BTreeSet<&str> = contestants.iter().map(|one| one.name.as_str()).collect();
    if names.len() < contestants.len() {
        return Err(io::Error::other("two contestants have the same name"));
    }
    if !options.prebuilt {
        let own = [programs.loadgen.to_string_lossy().into_owned()];
        let needed = contestants.iter().flat_map(|one| {
            let echod = one.server.is_own_echod().then_some("echomark");
            let loadgen = matches!(&one.client, Client::Loadgen(words) if *words == own);
            echod.into_iter().chain(loadgen.then_some("loadgen"))
        });
        programs.build(&needed.collect::<Vec<_>>())?;
    }
    // From here on the driver is where its client is.
    process::pin(&second(&cpus))?;
    let cells = match command {
        Command::Matrix(_) => options.cells.matrix(),
        _ => options.cells.given(),
    };
    measure(&contestants, &cells, options, &programs)
}

/// The processor of the clients: the second, or the only one.
fn second(cpus: &[usize]) -> Vec<usize> {
    vec![cpus.get(1).copied().unwrap_or(cpus[0])]
}

fn contestants(command: &Command, programs: &Programs, cpus: &[usize]) -> Vec<Contestant> {
    let contestant = |name: &str, server: &Peer, client| Contestant {
        name: name.to_owned(),
        server: server.clone(),
        client,
        threads: 1,
        compared: Side::Server,
        server_cpus: cpus[..1].to_vec(),
        client_cpus: second(cpus),
    };
    match command {
        Command::Compare(options) | Command::Matrix(options) => {
            let peers = options.peers().into_iter();
            let compared = |peer: Peer| contestant(&peer.name, &peer, Client::Minimal(Checks::All));
            peers.map(compared).collect()
        }
        Command::Clients(options) => {
            let clients = clients(options, programs).into_iter();
            let compared = |(name, client): (String, Client)| Contestant {
                compared: Side::Client,
                ..contestant(&name, &options.server, client)
            };
            clients.map(compared).collect()
        }
        Command::Scaling(options) => {
            let client = Client::Loadgen(vec![programs.loadgen.to_string_lossy().into_owned()]);
            let scaled = |threads| Contestant {
                threads,
                server_cpus: cpus.to_vec(),
                client_cpus: cpus.to_vec(),
                ..contestant(
                    &format!("{threads} workers"),
                    &Peer::workers(),
                    client.clone(),
                )
            };
            (1..=options.workers.unwrap_or(cpus.len()))
                .map(scaled)
                .collect()
        }
    }
}

/// The clients with their names: builds of loadgen, then the named ones, or all.
fn clients(options: &Clients, programs: &Programs) -> Vec<(String, Client)> {
    let words = |command: &str| command.split_whitespace().map(String::from).collect();
    let builds = options.common.loadgen.iter().flat_map(Build::named);
    let builds = builds.map(|(name, command)| (name.to_owned(), Client::Loadgen(words(command))));
    let mut clients: Vec<(String, Client)> = builds.collect();
    let named = match options.named.is_empty() && clients.is_empty() {
        true => cli::CLIENTS.map(String::from).to_vec(),
        false => options.named.clone(),
    };
    clients.extend(named.into_iter().map(|name| {
        let client = match name.as_str() {
            "minimal-unchecked" => Client::Minimal(Checks::None),
            "minimal" => Client::Minimal(Checks::All),
            _ => Client::Loadgen(vec![programs.loadgen.to_string_lossy().into_owned()]),
        };
        (name, client)
    }));
    clients
}

/// Prints the tables one by one, and keeps them as JSON if that is asked for, so that an interrupted
/// matrix leaves what it has measured.
fn measure(
    contestants: &[Contestant],
    cells: &[(Workload, Shape)],
    options: &Common,
    programs: &Programs,
) -> io::Result<Verdict> {
    let method = method(options, contestants.first());
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{method}\n")?;
    let mut verdict = Verdict::Complete;
    let mut tables: Vec<Value> = Vec::new();
    for &(workload, shape) in cells {
        let contest = Contest {
            workload,
            shape,
            options,
            programs,
        };
        let table: Table = contest.run(contestants);
        writeln!(stdout, "{}", table.markdown())?;
        if table.has_failures() {
            verdict = Verdict::Gaps;
        }
        tables.push(table.json());
        if let Some(path) = &options.json {
            let document = json!({"method": method, "tables": tables});
            let context = |e| io::Error::other(format!("cannot write {}: {e}", path.display()));
            fs::write(path, format!("{document:#}\n")).map_err(context)?;
        }
    }
    Ok(verdict)
}

/// The machine and how it is measured, in sentences.
fn method(options: &Common, one: Option<&Contestant>) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, name)| name);
    let kernel = read("/proc/sys/kernel/osrelease");
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let (kernel, congestion) = (kernel.trim(), congestion.trim());
    let place = one.map(|one| {
        let (server, client) = (&one.server_cpus, &one.client_cpus);
        format!("Servers on CPUs {server:?}, clients on {client:?}.")
    });
    let place = place.unwrap_or_default();
    let (rounds, window, warm_up) = (options.rounds, options.duration, options.warm_up);
    let optimised = match cfg!(debug_assertions) {
        true => " **The peers were built without optimisation: these figures say nothing.**",
        false => "",
    };
    format!(
        "{model}, Linux {kernel}, congestion control {congestion}. {place} {rounds} rounds of {window:?} each \
         after {warm_up:?} of warm-up, medians; `×` is the median of the rounds' ratios to the first, with \
         its quartiles for processor times.{optimised}"
    )
}
