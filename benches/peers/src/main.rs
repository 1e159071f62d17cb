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

use crate::cli::{Cli, Command, Common};
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
    // The first two processors, as far as there are so many; taskset(1) chooses others.
    let cpus = process::allowed_cpus()?;
    let (Some(&first), Some(&second)) = (cpus.first(), cpus.get(1).or_else(|| cpus.first())) else {
        return Err(io::Error::other("no processor is allowed"));
    };
    let alone = |name: &str, server: &Peer, client| Contestant {
        name: name.to_owned(),
        server: server.clone(),
        client,
        threads: 1,
        compared: Side::Server,
        server_cpus: vec![first],
        client_cpus: vec![second],
    };
    let place = format!("Servers on CPU {first}, client on CPU {second}.");
    let common = command.common();
    let programs = Programs::locate(common)?;
    let (contestants, cells, place) = match &command {
        Command::Compare(options) | Command::Matrix(options) => {
            let peers = options.peers();
            let contestant = |peer: &Peer| alone(&peer.name, peer, Client::Minimal(Checks::All));
            let cells = match command {
                Command::Matrix(_) => common.cells.matrix(),
                _ => common.cells.given(),
            };
            (peers.iter().map(contestant).collect(), cells, place)
        }
        Command::Clients(options) => {
            let clients = options.clients(&programs).into_iter();
            let contestants = clients.map(|(name, client)| Contestant {
                compared: Side::Client,
                ..alone(&name, &options.server, client)
            });
            (contestants.collect::<Vec<_>>(), common.cells.given(), place)
        }
        Command::Scaling(options) => {
            let loadgen = vec![programs.loadgen.to_string_lossy().into_owned()];
            let contestant = |threads| Contestant {
                threads,
                server_cpus: cpus.clone(),
                client_cpus: cpus.clone(),
                ..alone(
                    &format!("{threads} workers"),
                    &Peer::workers(),
                    Client::Loadgen(loadgen.clone()),
                )
            };
            let most = options.workers.unwrap_or(cpus.len());
            let place = format!("Servers and clients on CPUs {cpus:?}.");
            (
                (1..=most).map(contestant).collect(),
                common.cells.given(),
                place,
            )
        }
    };
    let names: BTreeSet<&str> = contestants.iter().map(|one| one.name.as_str()).collect();
    if names.len() < contestants.len() {
        return Err(io::Error::other("two contestants have the same name"));
    }
    if !common.prebuilt {
        programs.build()?;
    }
    // From here on the driver is where its client is.
    process::pin(&[second])?;
    measure(&contestants, &cells, common, &programs, &place)
}

/// Prints the tables one by one, and keeps them as JSON if that is asked for, so that an interrupted
/// matrix leaves what it has measured.
fn measure(
    contestants: &[Contestant],
    cells: &[(Workload, Shape)],
    options: &Common,
    programs: &Programs,
    place: &str,
) -> io::Result<Verdict> {
    let method = method(options, place);
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
fn method(options: &Common, place: &str) -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo
        .lines()
        .find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown CPU", |(_, name)| name);
    let kernel = read("/proc/sys/kernel/osrelease");
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let (kernel, congestion) = (kernel.trim(), congestion.trim());
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
