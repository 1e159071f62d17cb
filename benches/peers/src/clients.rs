//! loadgen beside a minimal epoll client, in turns, in a closed loop against the same echod.
//!
//! Each client runs twice in a turn, for few and for many messages, and the difference of its
//! processor times is divided by the difference of the messages: starting, connecting and ending
//! cancel, and all of its threads count.

use std::fs;
use std::io::{self, Read as _};
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use crate::artifacts::Artifacts;
use crate::counts::{self, Counts, Lengths};
use crate::load::{Shape, Workload};
use crate::peer::Peer;
use crate::report;
use crate::result::{Host, Remark};
use crate::scratch::Scratch;
use crate::server::{Server, Watcher};
use crate::stats::{self, Spread};
use crate::sys::{self, ExitedWell};

/// How clients are compared.
#[derive(Clone, Debug)]
pub struct Contest {
    /// The server's processor.
    pub server_cpu: usize,
    /// The clients' processor.
    pub client_cpu: usize,
    /// How many connections and how large messages.
    pub shape: Shape,
    /// How often each client has its turn.
    pub rounds: usize,
    /// Messages of the short and of the long run.
    pub messages: Lengths,
    /// The same for counting, if that is asked for.
    pub counts: Option<Lengths>,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct ClientComparison {
    /// Where.
    pub host: Host,
    /// The server's processor.
    pub server_cpu: usize,
    /// The clients' processor.
    pub client_cpu: usize,
    /// How many connections and how large messages.
    pub shape: Shape,
    /// Messages of the short and of the long run.
    pub messages: Lengths,
    /// One row for each client; ratios are to the first.
    pub rows: Vec<ClientRow>,
    /// Turns that failed, and why.
    pub failures: Vec<Remark>,
}

/// One client.
#[derive(Clone, Debug, Serialize)]
pub struct ClientRow {
    /// Which.
    pub client: &'static str,
    /// Its processor time per message in nanoseconds, round by round; nothing where a turn failed.
    pub cpu_ns_per_message: Vec<Option<f64>>,
    /// Messages per second of its processor time.
    pub messages_per_cpu_second: Option<Spread>,
    /// The same as ratios to the first client's, round by round.
    pub ratio: Option<Spread>,
    /// Counts per message, if they were asked for.
    pub counts: Option<Counts>,
}

/// A client that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Client {
    /// Neither compares bytes nor records latencies.
    Minimal,
    /// The same loop with both.
    MinimalChecked,
    /// With all that it does by default.
    Loadgen,
}

const CLIENTS: [Client; 3] = [Client::Minimal, Client::MinimalChecked, Client::Loadgen];

/// Measures the clients in turns. `progress` is told each turn.
///
/// # Errors
/// Where echod can't be started.
pub fn run(
    contest: &Contest,
    artifacts: &Artifacts,
    progress: &mut dyn FnMut(&str),
) -> io::Result<ClientComparison> {
    let mut failures = Vec::new();
    let mut cpu_ns = CLIENTS.map(|_| Vec::new());
    for round in 1..=contest.rounds {
        let server = start_echod(contest, artifacts)?;
        for (client, samples) in CLIENTS.iter().zip(&mut cpu_ns) {
            progress(&format!(
                "round {round} of {}: {}",
                contest.rounds,
                client.name()
            ));
            let sample = turn(*client, server.address(), contest, artifacts);
            samples.push(
                sample
                    .map_err(|e| {
                        failures.push(Remark {
                            peer: client.name().to_owned(),
                            what: format!("round {round}: {e}"),
                        })
                    })
                    .ok(),
            );
        }
    }
    let mut counted = CLIENTS.map(|_| None);
    if let Some(lengths) = contest.counts {
        let server = start_echod(contest, artifacts)?;
        for (client, slot) in CLIENTS.iter().zip(&mut counted) {
            progress(&format!("counting: {}", client.name()));
            *slot = Some(counts::count(lengths, |_, words, messages| {
                let call = Call::new(
                    *client,
                    server.address(),
                    contest.shape,
                    messages,
                    artifacts,
                );
                call.run(words, contest.client_cpu).map(drop)
            }));
        }
    }
    let rates = cpu_ns.clone().map(|samples| {
        let rate = |ns: Option<f64>| ns.filter(|ns| *ns > 0.0).map(|ns| 1e9 / ns);
        samples.into_iter().map(rate).collect::<Vec<Option<f64>>>()
    });
    let row = |index: usize| ClientRow {
        client: CLIENTS[index].name(),
        cpu_ns_per_message: cpu_ns[index].clone(),
        messages_per_cpu_second: Spread::of(rates[index].iter().copied().flatten()),
        ratio: stats::ratios(&rates[index], &rates[0]),
        counts: counted[index].clone(),
    };
    Ok(ClientComparison {
        host: Host::here(),
        server_cpu: contest.server_cpu,
        client_cpu: contest.client_cpu,
        shape: contest.shape,
        messages: contest.messages,
        rows: (0..CLIENTS.len()).map(row).collect(),
        failures,
    })
}

/// The comparison as a Markdown document.
#[must_use]
pub fn markdown(comparison: &ClientComparison) -> String {
    let shape = comparison.shape;
    let (short, long) = comparison.messages;
    let mut out = format!(
        "### Clients in a closed loop: {} connections, {} B, depth {}\n\n\
         {}, Linux {}. The same echod on CPU {}, clients on CPU {}. {} rounds; differences of runs of {long} \
         and {short} messages, medians; `×` is the median of the rounds' ratios to the first, with its \
         quartiles.\n\n\
         | client | messages/CPU second | × | CPU/message | calls/message | instructions/message |\n\
         | --- | ---: | ---: | ---: | ---: | ---: |\n",
        shape.connections,
        shape.size,
        shape.depth,
        comparison.host.processor,
        comparison.host.kernel,
        comparison.server_cpu,
        comparison.client_cpu,
        comparison
            .rows
            .first()
            .map_or(0, |row| row.cpu_ns_per_message.len()),
    );
    for row in &comparison.rows {
        let counts = row.counts.as_ref();
        let fields = [
            row.client.to_owned(),
            report::optional(row.messages_per_cpu_second, |s| format!("{:.0}", s.median)),
            report::optional(row.ratio, report::ratio_with_quartiles),
            report::optional(row.messages_per_cpu_second, |s| {
                report::duration(1e9 / s.median)
            }),
            report::optional(counts.and_then(|c| c.calls), |v| format!("{v:.3}")),
            report::optional(counts.and_then(|c| c.instructions), |v| format!("{v:.1}")),
        ];
        report::write_row(&mut out, &fields);
    }
    out.push('\n');
    for row in &comparison.rows {
        for line in row.counts.iter().flat_map(report::counts_remarks) {
            out += &format!("- {}: {line}\n", row.client);
        }
    }
    for failure in &comparison.failures {
        out += &format!("- **{} failed**, {}\n", failure.peer, failure.what);
    }
    out
}

impl Client {
    fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal client",
            Self::MinimalChecked => "minimal client, verifying, with a histogram",
            Self::Loadgen => "loadgen",
        }
    }
}

fn start_echod(contest: &Contest, artifacts: &Artifacts) -> io::Result<Server> {
    let echod = Peer::named("echod").ok_or_else(|| io::Error::other("echod is not a peer"))?;
    let launch = echod.launch(Workload::Echo, contest.shape.connections, artifacts);
    let launch = launch.map_err(|why| io::Error::other(why.0))?;
    Server::start(&launch, &Watcher::None, &[contest.server_cpu])
}

/// Processor time per message in nanoseconds.
fn turn(
    client: Client,
    target: SocketAddrV4,
    contest: &Contest,
    artifacts: &Artifacts,
) -> io::Result<f64> {
    let (short, long) = contest.messages;
    let cpu_ns = |messages| {
        let call = Call::new(client, target, contest.shape, messages, artifacts);
        call.run(&[], contest.client_cpu)
    };
    let (cpu_short, cpu_long) = (cpu_ns(short)?, cpu_ns(long)?);
    Ok((cpu_long as f64 - cpu_short as f64) / (long - short) as f64)
}

/// One run of a client.
struct Call {
    client: Client,
    messages: u64,
    command: Vec<String>,
    /// Where loadgen writes its result.
    json: Scratch,
}

impl Call {
    fn new(
        client: Client,
        target: SocketAddrV4,
        shape: Shape,
        messages: u64,
        artifacts: &Artifacts,
    ) -> Self {
        let json = Scratch::new("result.json");
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut command = match client {
            Client::Minimal => {
                vec![
                    text(&artifacts.driver),
                    "load".into(),
                    target.to_string(),
                    "--unchecked".into(),
                ]
            }
            Client::MinimalChecked => {
                vec![text(&artifacts.driver), "load".into(), target.to_string()]
            }
            Client::Loadgen => {
                let words = [
                    "run",
                    &format!("tcp://{target}"),
                    "-w",
                    "0",
                    "--allow-invalid",
                    "--json",
                ];
                let words = words.iter().map(ToString::to_string);
                [text(&artifacts.loadgen)]
                    .into_iter()
                    .chain(words)
                    .chain([text(json.path())])
                    .collect()
            }
        };
        let shape = [
            ("-c", shape.connections as u64),
            ("-s", shape.size as u64),
            ("-p", shape.depth as u64),
            ("-n", messages),
        ];
        command.extend(
            shape
                .iter()
                .flat_map(|(flag, value)| [flag.to_string(), value.to_string()]),
        );
        Self {
            client,
            messages,
            command,
            json,
        }
    }

    /// Runs it under the words of a watcher, checks that every message came back, and returns its
    /// processor time in nanoseconds.
    fn run(&self, watcher: &[String], cpu: usize) -> io::Result<u64> {
        let words: Vec<&String> = watcher.iter().chain(&self.command).collect();
        let mut command = Command::new(words[0]);
        command
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        // SAFETY: both make one system call each and allocate nothing.
        unsafe {
            command.pre_exec(move || {
                sys::die_with_parent()?;
                sys::pin(&[cpu])
            })
        };
        let child = command.spawn();
        let mut child =
            child.map_err(|e| io::Error::new(e.kind(), format!("cannot run {}: {e}", words[0])))?;
        let mut output = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut output)?;
        }
        let (cpu_ns, well) = sys::wait_with_cpu_ns(child.id())?;
        if well == ExitedWell::No {
            return Err(io::Error::other(format!("{} failed", self.client.name())));
        }
        let returned = match self.client {
            Client::Minimal | Client::MinimalChecked => {
                serde_json::from_str::<OwnResult>(&output)?.operations
            }
            Client::Loadgen => {
                let text = fs::read_to_string(self.json.path())?;
                serde_json::from_str::<LoadgenResult>(&text)?
                    .messages
                    .verified
            }
        };
        match returned == self.messages {
            true => Ok(cpu_ns),
            false => Err(io::Error::other(format!(
                "{returned} messages of {} came back right",
                self.messages
            ))),
        }
    }
}

#[derive(Deserialize)]
struct OwnResult {
    operations: u64,
}

#[derive(Deserialize)]
struct LoadgenResult {
    messages: Messages,
}

#[derive(Deserialize)]
struct Messages {
    verified: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_names_every_client_and_what_failed() {
        let row = |client, ns: f64| ClientRow {
            client,
            cpu_ns_per_message: vec![Some(ns)],
            messages_per_cpu_second: Spread::of([1e9 / ns]),
            ratio: Spread::of([4000.0 / ns]),
            counts: None,
        };
        let comparison = ClientComparison {
            host: Host::here(),
            server_cpu: 0,
            client_cpu: 1,
            shape: Workload::Echo.usual_shape(),
            messages: (1000, 10_000),
            rows: vec![row("minimal client", 4000.0), row("loadgen", 5000.0)],
            failures: vec![Remark {
                peer: "loadgen".to_owned(),
                what: "round 2: gone".to_owned(),
            }],
        };
        let text = markdown(&comparison);
        assert!(
            text.contains("| loadgen | 200000 | 0.800 (0.800 to 0.800) | 5.00 µs | - | - |"),
            "{text}"
        );
        assert!(text.contains("**loadgen failed**, round 2: gone"));
    }
}
