//! The driver: measures what it is told to and writes the tables. See the library for the method.

mod cli;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use clap::Parser as _;
use echomark_peers::artifacts::{Artifacts, Build};
use echomark_peers::clients::{self, Contest};
use echomark_peers::compare::{self, Turns};
use echomark_peers::load::{self, Checks, Length, NoGauge, Order, Shape, Workload};
use echomark_peers::peer::Peer;
use echomark_peers::result::{Comparison, Host, Method, Sample};
use echomark_peers::scaling::{self, Steps};
use echomark_peers::{matrix, report, sys};
use serde::Serialize;

use cli::{Cli, Command};

/// Operations of the short and of the long run that are counted: enough that what varies in each
/// cancels, few enough for programs that are slowed down a hundred times.
const COUNTED: (u64, u64) = (2_000, 12_000);

/// A driver that leaves room below the limit of descriptors for what else is open.
const DESCRIPTORS_ELSE: u64 = 100;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(Verdict::Whole) => ExitCode::SUCCESS,
        Ok(Verdict::Gaps) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Did every turn succeed?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Whole,
    Gaps,
}

fn run(command: Command) -> io::Result<Verdict> {
    sys::raise_descriptor_limit()?;
    match command {
        Command::Compare(compare) => {
            let workload = Workload::from(compare.workload);
            let shape = compare.shape.of(workload);
            let turns = (&compare.turns, compare.counts.then_some(COUNTED));
            let peers = compare.who.peers();
            compare_all(
                &peers,
                &[(workload, shape)],
                turns,
                &compare.programs,
                &compare.outputs,
            )
        }
        Command::Matrix(matrix) => {
            let (mut cells, left_out) = matrix::cells(matrix.connections_max);
            if left_out > 0 {
                let mib = matrix::IN_FLIGHT_MAX >> 20;
                eprintln!(
                    "{left_out} cells with more than {mib} MiB in flight, or too many connections, are left out"
                );
            }
            if !matrix.workload.is_empty() {
                cells.retain(|(workload, _)| {
                    matrix
                        .workload
                        .iter()
                        .any(|kind| Workload::from(*kind) == *workload)
                });
            }
            let peers = matrix.who.peers();
            compare_all(
                &peers,
                &cells,
                (&matrix.turns, None),
                &matrix.programs,
                &matrix.outputs,
            )
        }
        Command::Clients(contest) => contest_of_clients(&contest),
        Command::Scaling(steps) => scale(&steps),
        Command::Load(load) => put_load(&load),
        Command::List(list) => list_peers(&list.programs),
    }
}

fn compare_all(
    peers: &[Peer],
    cells: &[(Workload, Shape)],
    (turns, counts): (&cli::TurnsArgs, Option<(u64, u64)>),
    programs: &cli::Programs,
    outputs: &cli::Outputs,
) -> io::Result<Verdict> {
    let unique: BTreeSet<&str> = peers.iter().map(|peer| peer.name.as_str()).collect();
    if unique.len() < peers.len() {
        return Err(io::Error::other("two peers have the same name"));
    }
    enough_descriptors(cells)?;
    let artifacts = programs.locate()?;
    if peers.iter().any(Peer::is_echod) {
        artifacts.need_echod()?;
    }
    if peers.iter().any(Peer::is_own) {
        artifacts.need_servers()?;
    }
    let places = programs.places()?;
    // From here on the driver is where its load is.
    sys::pin(&[places.client])?;
    let turns = Turns {
        server_cpus: vec![places.server],
        rounds: turns.rounds as usize,
        warm_up: turns.warm_up,
        window: turns.duration,
        counts,
    };
    let mut comparison = Comparison {
        host: Host {
            cpus: places.all.clone(),
            ..Host::here()
        },
        method: Method {
            server_cpus: turns.server_cpus.clone(),
            client_cpus: vec![places.client],
            rounds: turns.rounds,
            warm_up_s: turns.warm_up.as_secs_f64(),
            window_s: turns.window.as_secs_f64(),
            optimised: !cfg!(debug_assertions),
        },
        cells: Vec::new(),
    };
    for &(workload, shape) in cells {
        let cell = compare::cell(peers, workload, shape, &turns, &artifacts, &mut progress);
        comparison.cells.push(cell);
        // Whoever interrupts a long matrix keeps what there is.
        write_outputs(outputs, &comparison, &report::markdown(&comparison))?;
    }
    clear_progress();
    print_document(&report::markdown(&comparison))?;
    let failed = comparison
        .cells
        .iter()
        .any(|cell| !cell.failures.is_empty());
    Ok(if failed {
        Verdict::Gaps
    } else {
        Verdict::Whole
    })
}

fn contest_of_clients(given: &cli::Clients) -> io::Result<Verdict> {
    let artifacts = given.programs.locate()?;
    artifacts.need_echod()?;
    artifacts.need_loadgen()?;
    let places = given.programs.places()?;
    let contest = Contest {
        server_cpu: places.server,
        client_cpu: places.client,
        shape: given.shape.of(Workload::Echo),
        rounds: given.rounds as usize,
        messages: (given.messages / 10, given.messages),
        counts: given.counts.then_some(COUNTED),
    };
    let result = clients::run(&contest, &artifacts, &mut progress)?;
    clear_progress();
    let document = clients::markdown(&result);
    write_outputs(&given.outputs, &result, &document)?;
    print_document(&document)?;
    Ok(if result.failures.is_empty() {
        Verdict::Whole
    } else {
        Verdict::Gaps
    })
}

fn scale(given: &cli::Scaling) -> io::Result<Verdict> {
    let artifacts = given.programs.locate()?;
    artifacts.need_echod()?;
    artifacts.need_loadgen()?;
    let cpus = sys::allowed_cpus()?;
    let steps = Steps {
        workers_max: given.workers.unwrap_or(cpus.len()).max(1),
        cpus,
        shape: given.shape.of(Workload::Echo),
        rounds: given.turns.rounds as usize,
        window: given.turns.duration,
    };
    let result = scaling::run(&steps, &artifacts, &mut progress)?;
    clear_progress();
    let document = scaling::markdown(&result);
    write_outputs(&given.outputs, &result, &document)?;
    print_document(&document)?;
    Ok(if result.failures.is_empty() {
        Verdict::Whole
    } else {
        Verdict::Gaps
    })
}

fn put_load(given: &cli::Load) -> io::Result<Verdict> {
    let workload = Workload::from(given.workload);
    let order = Order {
        target: given.target,
        workload,
        shape: given.shape.of(workload),
        length: match given.messages {
            Some(count) => Length::Count(count),
            None => Length::Window {
                warm_up: std::time::Duration::ZERO,
                window: given.duration,
            },
        },
        checks: if given.unchecked {
            Checks::None
        } else {
            Checks::All
        },
    };
    let outcome = load::run(&order, &NoGauge)?;
    print_document(&serde_json::to_string(&Sample::of(&outcome))?)?;
    Ok(Verdict::Whole)
}

fn list_peers(programs: &cli::Programs) -> io::Result<Verdict> {
    let artifacts = programs.locate()?;
    let mut lines = String::new();
    for name in Peer::USUAL.iter().chain(&Peer::FURTHER) {
        let launch = Peer::named(name).map(|peer| peer.launch(Workload::Echo, 1, &artifacts));
        lines += &match launch {
            Some(Err(why)) => format!("{name:14}  left out: {}\n", why.0),
            _ => format!("{name}\n"),
        };
    }
    print_document(lines.trim_end())?;
    Ok(Verdict::Whole)
}

/// Where servers and load run.
struct Places {
    all: Vec<usize>,
    server: usize,
    client: usize,
}

impl cli::Programs {
    fn locate(&self) -> io::Result<Artifacts> {
        let build = if self.prebuilt {
            Build::Never
        } else {
            Build::UpToDate
        };
        Artifacts::locate(self.echod.clone(), self.loadgen.clone(), build)
    }

    fn places(&self) -> io::Result<Places> {
        let all = sys::allowed_cpus()?;
        let first = all.first().copied().unwrap_or(0);
        let server = self.server_cpu.unwrap_or(first);
        let another = all.iter().copied().find(|cpu| *cpu != server);
        let client = self.client_cpu.or(another).unwrap_or(server);
        for cpu in [server, client] {
            if !all.contains(&cpu) {
                return Err(io::Error::other(format!("CPU {cpu} is not one of {all:?}")));
            }
        }
        Ok(Places {
            all,
            server,
            client,
        })
    }
}

fn enough_descriptors(cells: &[(Workload, Shape)]) -> io::Result<()> {
    let limit = sys::raise_descriptor_limit()?;
    let most = cells
        .iter()
        .map(|(_, shape)| shape.connections)
        .max()
        .unwrap_or(0) as u64;
    match most + DESCRIPTORS_ELSE <= limit {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{most} connections need more descriptors than the hard limit of {limit} allows; raise it \
             (ulimit -Hn) or ask for fewer"
        ))),
    }
}

/// Says on a terminal what is being done.
fn progress(what: &str) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        // A terminal that has gone is no reason to fail.
        let _ = write!(stderr, "\r\x1b[K{what}").and_then(|()| stderr.flush());
    }
}

fn clear_progress() {
    progress("");
}

fn print_document(text: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

fn write_outputs(
    outputs: &cli::Outputs,
    result: &impl Serialize,
    document: &str,
) -> io::Result<()> {
    let fail = |path: &std::path::Path, e: io::Error| {
        io::Error::new(e.kind(), format!("cannot write {}: {e}", path.display()))
    };
    if let Some(path) = &outputs.json {
        let text = serde_json::to_string_pretty(result)? + "\n";
        fs::write(path, text).map_err(|e| fail(path, e))?;
    }
    if let Some(path) = &outputs.markdown {
        fs::write(path, document).map_err(|e| fail(path, e))?;
    }
    Ok(())
}
