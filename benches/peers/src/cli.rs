//! The driver's command line.

use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use clap::{Args, Parser, Subcommand, ValueEnum as _};

use crate::client::{Shape, Workload};
use crate::peer::Peer;

/// A message beyond this would not be one.
const MAX_SIZE: u64 = 16 << 20;

/// The most bytes in flight over all connections: beyond, it is the kernel's memory that is measured.
const MAX_IN_FLIGHT: usize = 256 << 20;

/// echod and loadgen beside minimal peers, measured side by side on this machine
#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Servers, or builds of echod, under the same load: one table for each workload and shape
    Compare(Compare),
    /// The same in every workload and shape
    Matrix(Compare),
    /// Builds of loadgen, and a minimal epoll client, against one server in a closed loop
    Clients(Clients),
    /// echod with 1 to N workers under loadgen with as many threads
    Scaling(Scaling),
}

impl Command {
    pub(crate) fn common(&self) -> &Common {
        match self {
            Self::Compare(options) | Self::Matrix(options) => &options.common,
            Self::Clients(options) => &options.common,
            Self::Scaling(options) => &options.common,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Servers; ratios are to the first, after those that options name [default: all that need not be
    /// installed, echod first]
    #[arg(value_name = "PEER", value_parser = Peer::named)]
    named: Vec<Peer>,
    /// A command of your own, with {port} for the port to listen on, or with --{kind} {url} for what echod
    /// is given
    #[arg(long = "peer", value_name = "NAME=COMMAND", value_parser = custom)]
    custom: Vec<Peer>,
    #[command(flatten)]
    common: Common,
}

impl Compare {
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let builds = self.common.echod.iter().flat_map(Build::named);
        let mut peers: Vec<Peer> = builds
            .map(|(name, command)| Peer::echod(name, command))
            .collect();
        peers.extend(self.named.iter().cloned());
        if peers.is_empty() {
            peers = Peer::defaults();
        }
        peers.extend(self.custom.iter().cloned());
        peers
    }
}

#[derive(Debug, Args)]
pub(crate) struct Clients {
    /// Clients: minimal-unchecked, minimal, loadgen; ratios are to the first, after those that options
    /// name [default: all]
    #[arg(value_name = "CLIENT", value_parser = CLIENTS)]
    pub(crate) named: Vec<String>,
    /// The server
    #[arg(long, value_name = "PEER", value_parser = Peer::named, default_value = "echod")]
    pub(crate) server: Peer,
    #[command(flatten)]
    pub(crate) common: Common,
}

pub(crate) const CLIENTS: [&str; 3] = ["minimal-unchecked", "minimal", "loadgen"];

#[derive(Debug, Args)]
pub(crate) struct Scaling {
    /// Up to so many workers [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    #[command(flatten)]
    common: Common,
}

/// What connections do: every combination of these.
#[derive(Debug, Args)]
pub(crate) struct Cells {
    /// What connections do [default: echo; all in a matrix]
    #[arg(short, long, value_enum, value_delimiter = ',')]
    workload: Vec<Workload>,
    /// Connections, or UDP peers, such as 50,1000 [default: the workload's own]
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = positive)]
    connections: Vec<usize>,
    /// Bytes of a message, such as 64,16KiB [default: the workload's own]
    #[arg(short, long, value_delimiter = ',', value_parser = bytes)]
    size: Vec<usize>,
    /// Messages in flight on each connection [default: the workload's own]
    #[arg(short = 'p', long, value_name = "N", value_delimiter = ',', value_parser = positive)]
    depth: Vec<usize>,
}

impl Cells {
    /// The combinations of what was given, with the workload's own where nothing was.
    pub(crate) fn given(&self) -> Vec<(Workload, Shape)> {
        let workloads = or(&self.workload, &[Workload::Echo]);
        let cells = workloads.iter().flat_map(|workload| self.of(*workload));
        cells.collect()
    }

    /// All workloads, messages in all their shapes, as far as nothing was given.
    pub(crate) fn matrix(&self) -> Vec<(Workload, Shape)> {
        let workloads = or(&self.workload, Workload::value_variants());
        let cells = workloads.iter().flat_map(|&workload| match workload {
            Workload::Echo => {
                let sizes = [64, 1 << 10, 16 << 10, 256 << 10];
                self.combined(workload, &[1, 50, 1000, 10_000], &sizes, &[1, 16])
            }
            _ => self.of(workload),
        });
        let is_bounded =
            |shape: Shape| shape.connections * shape.size * shape.depth <= MAX_IN_FLIGHT;
        cells.filter(|(_, shape)| is_bounded(*shape)).collect()
    }

    fn of(&self, workload: Workload) -> Vec<(Workload, Shape)> {
        let own = workload.default_shape();
        self.combined(workload, &[own.connections], &[own.size], &[own.depth])
    }

    fn combined(
        &self,
        workload: Workload,
        connections: &[usize],
        sizes: &[usize],
        depths: &[usize],
    ) -> Vec<(Workload, Shape)> {
        let mut cells = Vec::new();
        for &connections in or(&self.connections, connections) {
            for &size in or(&self.size, sizes) {
                for &depth in or(&self.depth, depths) {
                    cells.push((workload, Shape::new(connections, size, depth)));
                }
            }
        }
        cells
    }
}

#[derive(Debug, Args)]
pub(crate) struct Common {
    #[command(flatten)]
    pub(crate) cells: Cells,
    /// A program echod: a path without a name stands for this repository's; with a name, and options if
    /// need be, it is one more to compare [default: this repository's dist build, brought up to date]
    #[arg(long, value_name = "[NAME=]COMMAND", value_parser = build)]
    pub(crate) echod: Vec<Build>,
    /// A program loadgen, likewise
    #[arg(long, value_name = "[NAME=]COMMAND", value_parser = build)]
    pub(crate) loadgen: Vec<Build>,
    /// Build nothing, measure what is there
    #[arg(long)]
    pub(crate) prebuilt: bool,
    /// How often each has its turn
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds of a turn that are measured
    #[arg(short, long, default_value = "1", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Seconds before them, for this package's client
    #[arg(long, default_value = "0.2", value_parser = seconds)]
    pub(crate) warm_up: Duration,
    /// Count system calls (strace) and user-space instructions (callgrind) of what is compared too
    #[arg(long)]
    pub(crate) counts: bool,
    /// Write all samples and what follows from them as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

/// A program to be measured, with its options.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Build {
    pub(crate) name: Option<String>,
    pub(crate) command: String,
}

impl Build {
    pub(crate) fn named(&self) -> Option<(&str, &str)> {
        Some((self.name.as_deref()?, &self.command))
    }

    /// The last path that has no name.
    pub(crate) fn unnamed(builds: &[Self]) -> Option<&str> {
        let unnamed = builds.iter().rfind(|build| build.name.is_none());
        unnamed.map(|build| build.command.as_str())
    }
}

fn or<'a, T>(given: &'a [T], otherwise: &'a [T]) -> &'a [T] {
    match given {
        [] => otherwise,
        given => given,
    }
}

fn build(text: &str) -> Result<Build, String> {
    // A path may contain the sign too; a name has no slash.
    let (name, command) = match text.split_once('=') {
        Some((name, command)) if !name.contains('/') => (Some(name), command),
        _ => (None, text),
    };
    if name == Some("") || command.trim().is_empty() {
        return Err("expected PATH or NAME=PATH".to_owned());
    }
    Ok(Build {
        name: name.map(str::to_owned),
        command: command.to_owned(),
    })
}

fn custom(text: &str) -> Result<Peer, String> {
    match build(text)? {
        Build {
            name: Some(name),
            command,
        } => Ok(Peer::custom(&name, &command)),
        Build { name: None, .. } => Err("expected NAME=COMMAND".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse().ok();
    let duration = number.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "expected seconds, such as 1 or 0.5".to_owned())
}

fn bytes(text: &str) -> Result<usize, String> {
    match text.parse::<ByteSize>() {
        Ok(size) if (1..=MAX_SIZE).contains(&size.0) => Ok(size.0 as usize),
        _ => Err("expected 1 to 16MiB, such as 64 or 16KiB".to_owned()),
    }
}

fn positive(text: &str) -> Result<usize, String> {
    let number = text.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| "expected a number from 1".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    fn compare(arguments: &str) -> Compare {
        let words = ["peers", "compare"].into_iter();
        match Cli::parse_from(words.chain(arguments.split_whitespace())).command {
            Command::Compare(compare) => compare,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read_with_their_units() {
        assert_eq!((bytes("16KiB"), bytes("64")), (Ok(16_384), Ok(64)));
        assert!(bytes("0").is_err() && bytes("1GiB").is_err() && bytes("17MiB").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert!(seconds("-1").is_err() && seconds("x").is_err() && positive("0").is_err());
        assert!(custom("x").is_err() && custom("=y").is_err() && custom("x= ").is_err());
        assert_eq!(build("/a=b/echod").unwrap().name, None);
    }

    #[test]
    fn builds_come_first_and_stand_alone() {
        let names = |arguments| -> Vec<String> {
            let peers = compare(arguments).peers();
            peers.into_iter().map(|peer| peer.name).collect()
        };
        assert_eq!(
            names("--echod old=a/echod --echod new=b/echod"),
            ["old", "new"]
        );
        assert_eq!(
            names("mio --echod new=a/echod --peer x=y"),
            ["new", "mio", "x"]
        );
        assert_eq!(names("--peer x=y").len(), Peer::defaults().len() + 1);
        assert_eq!(names("--echod a/echod"), names(""));
    }

    #[test]
    fn cells_are_the_combinations() {
        let given = compare("-w echo,churn -c 50,1000 -s 1KiB")
            .common
            .cells
            .given();
        let expected = [
            (Workload::Echo, 50),
            (Workload::Echo, 1000),
            (Workload::Churn, 50),
            (Workload::Churn, 1000),
        ];
        let short = |(workload, shape): &(Workload, Shape)| (*workload, shape.connections);
        assert_eq!(given.iter().map(short).collect::<Vec<_>>(), expected);
        assert!(
            given
                .iter()
                .all(|(_, shape)| shape.size == 1024 && shape.depth == 1)
        );
    }

    #[test]
    fn the_matrix_has_every_value_of_every_dimension() {
        let cells = compare("").common.cells.matrix();
        // Left out are 10 000 x 256 KiB at both depths, 10 000 x 16 KiB x 16 and 1000 x 256 KiB x 16.
        // Each workload but the echo has one cell.
        let others = Workload::value_variants().len() - 1;
        assert_eq!(cells.len(), 32 - 4 + others);
        assert!(
            cells
                .iter()
                .any(|(_, s)| s.connections == 10_000 && s.size == 16 << 10)
        );
        assert!(
            cells
                .iter()
                .any(|(_, s)| s.size == 256 << 10 && s.depth == 16)
        );
        let few = compare("-c 1,50").common.cells.matrix();
        assert!(few.iter().all(|(_, shape)| shape.connections <= 50));
    }
}
