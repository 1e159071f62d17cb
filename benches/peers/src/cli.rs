//! The driver's command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use echomark_peers::load::{Shape, Workload};
use echomark_peers::peer::Peer;

/// echod and loadgen beside minimal peers, measured in turns on this machine
#[derive(Debug, Parser)]
#[command(name = "peers", max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Servers in one workload and one shape
    Compare(Compare),
    /// Servers in every workload and shape, one table each
    Matrix(Matrix),
    /// loadgen beside a minimal epoll client, both against one echod in a closed loop
    Clients(Clients),
    /// echod with 1 to N workers under loadgen with as many threads
    Scaling(Scaling),
    /// The minimal client alone, against a server that runs already
    Load(Load),
    /// The names of the peers, and why those that can't take part can't
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    #[command(flatten)]
    pub(crate) who: Who,
    /// What connections do
    #[arg(short, long, value_enum, default_value_t = Kind::Echo)]
    pub(crate) workload: Kind,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// Count system calls (strace) and user-space instructions (callgrind) per operation too
    #[arg(long)]
    pub(crate) counts: bool,
    #[command(flatten)]
    pub(crate) turns: TurnsArgs,
    #[command(flatten)]
    pub(crate) programs: Programs,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(crate) struct Matrix {
    #[command(flatten)]
    pub(crate) who: Who,
    /// Only these workloads [default: all]
    #[arg(short, long, value_enum)]
    pub(crate) workload: Vec<Kind>,
    /// Leave out more connections than this
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub(crate) connections_max: usize,
    #[command(flatten)]
    pub(crate) turns: TurnsArgs,
    #[command(flatten)]
    pub(crate) programs: Programs,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(crate) struct Clients {
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// How often each client has its turn
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Messages of a long run; a short one has a tenth
    #[arg(short = 'n', long, default_value_t = 300_000, value_parser = clap::value_parser!(u64).range(1000..))]
    pub(crate) messages: u64,
    /// Count system calls (strace) and user-space instructions (callgrind) per message too
    #[arg(long)]
    pub(crate) counts: bool,
    #[command(flatten)]
    pub(crate) programs: Programs,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(crate) struct Scaling {
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// Up to so many workers [default: as many as there are processors]
    #[arg(long, value_name = "N")]
    pub(crate) workers: Option<usize>,
    #[command(flatten)]
    pub(crate) turns: TurnsArgs,
    #[command(flatten)]
    pub(crate) programs: Programs,
    #[command(flatten)]
    pub(crate) outputs: Outputs,
}

#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Where the server listens
    #[arg(value_name = "ADDRESS")]
    pub(crate) target: std::net::SocketAddrV4,
    /// What connections do
    #[arg(short, long, value_enum, default_value_t = Kind::Echo)]
    pub(crate) workload: Kind,
    #[command(flatten)]
    pub(crate) shape: ShapeArgs,
    /// Stop after exactly so many operations, instead of after a time
    #[arg(short = 'n', long)]
    pub(crate) messages: Option<u64>,
    /// Neither compare bytes nor record latencies
    #[arg(long)]
    pub(crate) unchecked: bool,
    /// Length of the window
    #[arg(short, long, default_value = "1", value_parser = seconds)]
    pub(crate) duration: Duration,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) programs: Programs,
}

/// Who is measured.
#[derive(Debug, Args)]
pub(crate) struct Who {
    /// Peers; ratios are to the first [default: all that need not be installed, echod first]
    #[arg(value_name = "PEER", value_parser = peer)]
    named: Vec<Peer>,
    /// A command line of your own, with {port} for the port to listen on
    #[arg(long = "peer", value_name = "NAME=COMMAND", value_parser = given)]
    given: Vec<Peer>,
}

impl Who {
    /// The peers in their order: the named ones, then the user's own.
    pub(crate) fn peers(&self) -> Vec<Peer> {
        let usual = || {
            Peer::USUAL
                .iter()
                .filter_map(|name| Peer::named(name))
                .collect()
        };
        let mut peers = if self.named.is_empty() {
            usual()
        } else {
            self.named.clone()
        };
        peers.extend(self.given.iter().cloned());
        peers
    }
}

/// How many and how large.
#[derive(Debug, Args)]
pub(crate) struct ShapeArgs {
    /// Connections, or UDP peers [default: 50, or the workload's own]
    #[arg(short, long, value_name = "N")]
    connections: Option<usize>,
    /// Bytes of a message, such as 64 or 16KiB [default: 64, or the workload's own]
    #[arg(short, long, value_parser = bytes)]
    size: Option<usize>,
    /// Messages in flight on each connection [default: 1, or the workload's own]
    #[arg(short = 'p', long)]
    depth: Option<usize>,
}

impl ShapeArgs {
    /// The shape that a workload usually has, as far as it is not told otherwise.
    pub(crate) fn of(&self, workload: Workload) -> Shape {
        let usual = workload.usual_shape();
        Shape {
            connections: self.connections.unwrap_or(usual.connections).max(1),
            size: self.size.unwrap_or(usual.size).max(1),
            depth: self.depth.unwrap_or(usual.depth).max(1),
        }
    }
}

/// How often and for how long.
#[derive(Debug, Args)]
pub(crate) struct TurnsArgs {
    /// How often each has its turn
    #[arg(short, long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) rounds: u32,
    /// Seconds of a turn that are measured
    #[arg(short, long, default_value = "1", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Seconds before them
    #[arg(long, default_value = "0.2", value_parser = seconds)]
    pub(crate) warm_up: Duration,
}

/// What is measured, and where it runs.
#[derive(Debug, Args)]
pub(crate) struct Programs {
    /// The program echod [default: this repository's, built if it is not up to date]
    #[arg(long, value_name = "PATH")]
    pub(crate) echod: Option<PathBuf>,
    /// The program loadgen [default: likewise]
    #[arg(long, value_name = "PATH")]
    pub(crate) loadgen: Option<PathBuf>,
    /// Build nothing, measure what is there
    #[arg(long)]
    pub(crate) prebuilt: bool,
    /// The processor of the servers [default: the first of those allowed]
    #[arg(long, value_name = "CPU")]
    pub(crate) server_cpu: Option<usize>,
    /// The processor of the load [default: the second, if there is one]
    #[arg(long, value_name = "CPU")]
    pub(crate) client_cpu: Option<usize>,
}

/// Where results go besides the table on stdout.
#[derive(Debug, Args)]
pub(crate) struct Outputs {
    /// All samples and what follows from them, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// The tables, as on stdout
    #[arg(long, value_name = "FILE")]
    pub(crate) markdown: Option<PathBuf>,
}

/// The workloads by their names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Kind {
    /// Messages over TCP
    Echo,
    /// A connection for each message
    Churn,
    /// A stream there and back
    Stream,
    /// A stream that is thrown away
    Discard,
    /// Messages over UDP
    Udp,
    /// Bursts of datagrams from one peer
    UdpBulk,
    /// Memory of idle connections
    Idle,
}

impl From<Kind> for Workload {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Echo => Self::Echo,
            Kind::Churn => Self::Churn,
            Kind::Stream => Self::Stream,
            Kind::Discard => Self::Discard,
            Kind::Udp => Self::Udp,
            Kind::UdpBulk => Self::UdpBulk,
            Kind::Idle => Self::Idle,
        }
    }
}

fn peer(name: &str) -> Result<Peer, String> {
    Peer::named(name).ok_or_else(|| {
        let names: Vec<&str> = Peer::USUAL.iter().chain(&Peer::FURTHER).copied().collect();
        format!("there are {}", names.join(", "))
    })
}

fn given(text: &str) -> Result<Peer, String> {
    match text.split_once('=') {
        Some((name, command)) if !name.is_empty() && !command.trim().is_empty() => {
            Ok(Peer::given(name, command))
        }
        _ => Err("expected NAME=COMMAND".to_owned()),
    }
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number = text.strip_suffix('s').unwrap_or(text).parse::<f64>();
    let duration = number
        .ok()
        .and_then(|s| Duration::try_from_secs_f64(s).ok());
    duration.ok_or_else(|| "expected seconds, such as 1 or 0.5".to_owned())
}

fn bytes(text: &str) -> Result<usize, String> {
    let (number, unit) = match text.strip_suffix("KiB") {
        Some(number) => (number, 1024),
        None => match text.strip_suffix("MiB") {
            Some(number) => (number, 1024 * 1024),
            None => (text.strip_suffix('B').unwrap_or(text), 1),
        },
    };
    let number: Option<usize> = number.parse().ok();
    // A message beyond this would not be one.
    let bytes = number
        .and_then(|n| n.checked_mul(unit))
        .filter(|b| (1..=16 << 20).contains(b));
    bytes.ok_or_else(|| "expected 1 to 16MiB, such as 64 or 16KiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn values_are_read_with_their_units() {
        assert_eq!(bytes("16KiB"), Ok(16_384));
        assert_eq!(bytes("64"), Ok(64));
        assert!(bytes("0").is_err() && bytes("1GiB").is_err() && bytes("17MiB").is_err());
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(seconds("2s"), Ok(Duration::from_secs(2)));
        assert!(seconds("-1").is_err() && seconds("x").is_err());
        assert!(given("x").is_err() && given("=y").is_err() && given("x= ").is_err());
        assert!(peer("nginx").unwrap_err().contains("tokio-multi"));
    }
}
