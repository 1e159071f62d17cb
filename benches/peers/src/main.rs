//! The driver: measures what it is told to and prints the tables. The library describes the method.

mod cli;
mod client;
mod clients;
mod compare;
mod counts;
mod peer;
mod process;
mod programs;
mod report;
mod scaling;
mod server;

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser as _;
use serde_json::{Value, json};

use crate::cli::{Build, Cli, Command, Common, Cpus};
use crate::client::{Shape, Workload};
use crate::programs::Programs;
use crate::report::Table;

/// Descriptors of a server or of the driver besides those of the connections.
const OTHER_DESCRIPTORS: u64 = 100;

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(document) if document.is_complete => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> io::Result<Document> {
    match command {
        Command::Compare(options) => {
            let cells = options.cells.given();
            compare(&options, &cells)
        }
        Command::Matrix(options) => {
            let cells = options.cells.matrix();
            compare(&options, &cells)
        }
        Command::Clients(options) => {
            check_descriptors(&options.cells.given())?;
            let place = Place::of(&options.cpus)?;
            let programs = locate(&options.common)?;
            process::pin(&[place.client])?;
            let mut document = Document::new(&options.common, place.describe());
            clients::run(&options, &programs, place, &mut document)?;
            Ok(document)
        }
        Command::Scaling(options) => {
            let programs = locate(&options.common)?;
            let mut document =
                Document::new(&options.common, "Both sides share the processors.".into());
            scaling::run(&options, &programs, &mut document)?;
            Ok(document)
        }
    }
}

fn compare(options: &cli::Compare, cells: &[(Workload, Shape)]) -> io::Result<Document> {
    check_descriptors(cells)?;
    let names: BTreeSet<String> = options.peers().into_iter().map(|peer| peer.name).collect();
    if names.len() < options.peers().len() {
        return Err(io::Error::other("two peers have the same name"));
    }
    let place = Place::of(&options.cpus)?;
    let programs = locate(&options.common)?;
    // From here on the driver is where its client is.
    process::pin(&[place.client])?;
    let (window, warm_up) = (options.duration, options.warm_up);
    let method = format!(
        "{} Windows of {window:?} after {warm_up:?} of warm-up.",
        place.describe()
    );
    let mut document = Document::new(&options.common, method);
    compare::run(options, cells, &programs, place, &mut document)?;
    Ok(document)
}

fn locate(common: &Common) -> io::Result<Programs> {
    let (echod, loadgen) = (
        Build::unnamed(&common.echod),
        Build::unnamed(&common.loadgen),
    );
    let programs = Programs::locate(echod, loadgen)?;
    if !common.prebuilt {
        programs.build()?;
    }
    Ok(programs)
}

fn check_descriptors(cells: &[(Workload, Shape)]) -> io::Result<()> {
    let limit = echomark_peers::raise_descriptor_limit()?;
    let most = cells
        .iter()
        .map(|(_, shape)| shape.connections)
        .max()
        .unwrap_or(0);
    match most as u64 + OTHER_DESCRIPTORS <= limit {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "{most} connections need more descriptors than the hard limit of {limit} allows; raise it \
             (ulimit -Hn) or ask for fewer (-c)"
        ))),
    }
}

/// The processors of both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) server: usize,
    pub(crate) client: usize,
}

impl Place {
    fn of(cpus: &Cpus) -> io::Result<Self> {
        let allowed = process::allowed_cpus()?;
        let server = cpus
            .server_cpu
            .or_else(|| allowed.first().copied())
            .unwrap_or(0);
        let another = allowed.iter().copied().find(|cpu| *cpu != server);
        let client = cpus.client_cpu.or(another).unwrap_or(server);
        match [server, client].iter().find(|cpu| !allowed.contains(cpu)) {
            Some(cpu) => Err(io::Error::other(format!(
                "CPU {cpu} is not one of {allowed:?}"
            ))),
            None => Ok(Self { server, client }),
        }
    }

    fn describe(self) -> String {
        let Self { server, client } = self;
        match server == client {
            true => format!("**Servers and client take turns on one processor, CPU {server}.**"),
            false => format!("Servers on CPU {server}, client on CPU {client}."),
        }
    }
}

/// All that a command measured: printed table by table, and kept as JSON if that is asked for.
pub(crate) struct Document {
    is_complete: bool,
    head: String,
    tables: Vec<Value>,
    json: Option<PathBuf>,
}

impl Document {
    fn new(common: &Common, method: String) -> Self {
        let optimised = match cfg!(debug_assertions) {
            true => " **The peers were built without optimisation: these figures say nothing.**",
            false => "",
        };
        let head = format!(
            "{} {method} {} rounds, medians; `×` is the median of the rounds' ratios to the first, with \
             its quartiles for the first column.{optimised}",
            host(),
            common.rounds
        );
        Self {
            is_complete: true,
            head,
            tables: Vec::new(),
            json: common.json.clone(),
        }
    }

    /// An interrupted matrix leaves what it has measured.
    fn add(&mut self, table: Table) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        if self.tables.is_empty() {
            writeln!(stdout, "{}\n", self.head)?;
        }
        writeln!(stdout, "{}", table.markdown())?;
        self.is_complete &= !table.has_failures();
        self.tables.push(table.json());
        if let Some(path) = &self.json {
            let document = json!({"method": self.head, "tables": self.tables});
            let written = fs::write(path, format!("{document:#}\n"));
            let context = |e: io::Error| format!("cannot write {}: {e}", path.display());
            written.map_err(|e| io::Error::other(context(e)))?;
        }
        Ok(())
    }
}

/// The machine, in a sentence.
fn host() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let cpuinfo = read("/proc/cpuinfo");
    let model = cpuinfo.lines().find(|line| line.starts_with("model name"));
    let model = model
        .and_then(|line| line.split_once(": "))
        .map_or("unknown CPU", |(_, name)| name);
    let kernel = read("/proc/sys/kernel/osrelease");
    let congestion = read("/proc/sys/net/ipv4/tcp_congestion_control");
    let (kernel, congestion) = (kernel.trim(), congestion.trim());
    format!("{model}, Linux {kernel}, congestion control {congestion}.")
}
