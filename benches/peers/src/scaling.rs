//! echod with 1 to N workers, under loadgen with as many threads, on all processors together.
//!
//! Everything is over the whole run of loadgen, which has no warm-up, so that the server's processor
//! time and the messages belong together; making the connections is part of it.

use std::fs;
use std::io;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::artifacts::Artifacts;
use crate::load::{Gauge as _, Service, Shape};
use crate::report;
use crate::result::{Host, Remark};
use crate::scratch::Scratch;
use crate::server::{Launch, Ready, Server, Watcher};
use crate::stats::Spread;

/// At this share of its processors somebody has no reserve.
const BUSY: f64 = 0.95;

/// What is measured.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The highest number of workers.
    pub workers_max: usize,
    /// Processors for both sides.
    pub cpus: Vec<usize>,
    /// How many connections and how large messages.
    pub shape: Shape,
    /// How often each step has its turn.
    pub rounds: usize,
    /// How long a turn is.
    pub window: Duration,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Scaling {
    /// Where.
    pub host: Host,
    /// Processors for both sides.
    pub cpus: usize,
    /// How many connections and how large messages.
    pub shape: Shape,
    /// One for each number of workers.
    pub steps: Vec<Step>,
    /// Turns that failed, and why.
    pub failures: Vec<Remark>,
}

/// One number of workers.
#[derive(Clone, Debug, Serialize)]
pub struct Step {
    /// Of echod's workers and of loadgen's threads.
    pub workers: usize,
    /// Round by round; turns that failed are not in it.
    pub samples: Vec<StepSample>,
}

/// One turn.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StepSample {
    /// Echoes per second.
    pub per_second: f64,
    /// The server's processor time per echo in nanoseconds.
    pub cpu_ns_per_echo: f64,
    /// Processors that the server kept busy.
    pub server_cpus: f64,
    /// Processors that loadgen's threads kept busy.
    pub client_cpus: f64,
    /// The share of the time that the busiest of loadgen's threads was on a processor.
    pub busiest_thread: f64,
    /// What loadgen's verdict says, as codes.
    pub verdict: Vec<String>,
}

/// What kept the figures from being higher.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Limit {
    /// There was no processor left for either side.
    Processors,
    /// A thread of loadgen had no reserve.
    Client,
    /// The workers had no reserve.
    Server,
    /// Both sides waited for each other.
    Neither,
}

/// Measures every step in turns. `progress` is told each turn.
///
/// # Errors
/// None at present: turns that fail are reported with the others.
pub fn run(
    steps: &Steps,
    artifacts: &Artifacts,
    progress: &mut dyn FnMut(&str),
) -> io::Result<Scaling> {
    let mut failures = Vec::new();
    let mut done: Vec<Step> = (1..=steps.workers_max).map(Step::new).collect();
    for round in 1..=steps.rounds {
        for step in &mut done {
            let workers = step.workers;
            progress(&format!(
                "round {round} of {}: {workers} workers",
                steps.rounds
            ));
            match turn(workers, steps, artifacts) {
                Ok(sample) => step.samples.push(sample),
                Err(e) => failures.push(Remark {
                    peer: format!("{workers} workers"),
                    what: format!("round {round}: {e}"),
                }),
            }
        }
    }
    Ok(Scaling {
        host: Host::here(),
        cpus: steps.cpus.len(),
        shape: steps.shape,
        steps: done,
        failures,
    })
}

/// The steps as a Markdown document.
#[must_use]
pub fn markdown(scaling: &Scaling) -> String {
    let shape = scaling.shape;
    let mut out = format!(
        "### Scaling: {} connections, {} B, depth {}\n\n{}, Linux {}, {} processors for both sides; medians of \
         the rounds.\n\n\
         | workers | echoes/s | × | CPU/echo | × | server's CPUs | client's CPUs | limit | loadgen's verdict |\n\
         | ---: | ---: | ---: | ---: | ---: | ---: | ---: | --- | --- |\n",
        shape.connections,
        shape.size,
        shape.depth,
        scaling.host.processor,
        scaling.host.kernel,
        scaling.cpus
    );
    let first = scaling.steps.first();
    for step in &scaling.steps {
        let median = |read: fn(&StepSample) -> f64| step.median(read);
        let ratio = |read: fn(&StepSample) -> f64| Some(step.median(read)? / first?.median(read)?);
        let times = |value: f64| format!("{value:.3}");
        let cpus = |value: f64| format!("{value:.2}");
        let fields = [
            step.workers.to_string(),
            report::optional(median(|s| s.per_second), |v| format!("{v:.0}")),
            report::optional(ratio(|s| s.per_second), times),
            report::optional(median(|s| s.cpu_ns_per_echo), report::duration),
            report::optional(ratio(|s| s.cpu_ns_per_echo), times),
            report::optional(median(|s| s.server_cpus), cpus),
            report::optional(median(|s| s.client_cpus), cpus),
            report::optional(step.limit(scaling.cpus), |limit| limit.words().to_owned()),
            step.verdict(),
        ];
        report::write_row(&mut out, &fields);
    }
    out.push('\n');
    for failure in &scaling.failures {
        out += &format!("- **{} failed**, {}\n", failure.peer, failure.what);
    }
    out
}

impl Step {
    fn new(workers: usize) -> Self {
        Self {
            workers,
            samples: Vec::new(),
        }
    }

    fn median(&self, read: fn(&StepSample) -> f64) -> Option<f64> {
        Some(Spread::of(self.samples.iter().map(read))?.median)
    }

    /// What limited the median turn.
    #[must_use]
    pub fn limit(&self, cpus: usize) -> Option<Limit> {
        let server = self.median(|s| s.server_cpus)?;
        let client = self.median(|s| s.client_cpus)?;
        let busiest = self.median(|s| s.busiest_thread)?;
        let said = |s: &StepSample| s.verdict.iter().any(|code| code == "client_busy");
        let says_busy = self.samples.iter().filter(|s| said(s)).count() * 2 > self.samples.len();
        Some(if server + client >= BUSY * cpus as f64 {
            Limit::Processors
        } else if says_busy || busiest >= BUSY {
            Limit::Client
        } else if server >= BUSY * self.workers as f64 {
            Limit::Server
        } else {
            Limit::Neither
        })
    }

    /// The codes of all turns, each once.
    fn verdict(&self) -> String {
        let mut codes: Vec<&str> = self
            .samples
            .iter()
            .flat_map(|s| &s.verdict)
            .map(String::as_str)
            .collect();
        codes.sort_unstable();
        codes.dedup();
        if codes.is_empty() {
            "valid".to_owned()
        } else {
            codes.join(", ")
        }
    }
}

impl Limit {
    fn words(self) -> &'static str {
        match self {
            Self::Processors => "the processors: both sides share them",
            Self::Client => "the client",
            Self::Server => "the server",
            Self::Neither => "neither: they wait for each other",
        }
    }
}

fn turn(workers: usize, steps: &Steps, artifacts: &Artifacts) -> io::Result<StepSample> {
    let echod = artifacts.echod.to_string_lossy().into_owned();
    let count = workers.to_string();
    let words = [&echod, "--echo", "tcp://127.0.0.1:0", "--workers", &count];
    let launch = Launch {
        command: words.iter().map(ToString::to_string).collect(),
        ready: Ready::Announced,
        service: Service::Echo,
        file: None,
    };
    let server = Server::start(&launch, &Watcher::None, &steps.cpus)?;
    let json = Scratch::new("result.json");
    let shape = steps.shape;
    let before = server.usage()?;
    let status = Command::new(&artifacts.loadgen)
        .args([
            "run",
            &format!("tcp://{}", server.address()),
            "-w",
            "0",
            "--allow-invalid",
        ])
        .args([
            "-t",
            &count,
            "-c",
            &shape.connections.max(workers).to_string(),
        ])
        .args([
            "-s",
            &shape.size.to_string(),
            "-p",
            &shape.depth.to_string(),
        ])
        .args(["-d", &format!("{}ms", steps.window.as_millis()), "--json"])
        .arg(json.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()?;
    let after = server.usage()?;
    if !status.success() {
        return Err(io::Error::other(format!("loadgen failed: {status}")));
    }
    let text = fs::read_to_string(json.path())?;
    step_sample(&text, after.cpu_ns - before.cpu_ns)
}

/// A turn from loadgen's result and what the server used meanwhile.
fn step_sample(json: &str, server_cpu_ns: u64) -> io::Result<StepSample> {
    let result: LoadgenResult = serde_json::from_str(json)?;
    let messages = &result.messages;
    if messages.verified == 0 || messages.verified != messages.received || messages.lost > 0 {
        return Err(io::Error::other(
            "messages were lost, or came back wrong, or not at all",
        ));
    }
    // What was still out at the end of the window was echoed too, at the server's expense.
    let echoed = (messages.verified + messages.unfinished) as f64;
    let threads = result.client.threads.iter().map(|t| t.cpu_ratio);
    Ok(StepSample {
        per_second: messages.verified as f64 / result.duration_s,
        cpu_ns_per_echo: server_cpu_ns as f64 / echoed,
        server_cpus: server_cpu_ns as f64 / 1e9 / result.duration_s,
        client_cpus: threads.clone().sum(),
        busiest_thread: threads.fold(0.0, f64::max),
        verdict: result.verdict.reasons.into_iter().map(|r| r.code).collect(),
    })
}

#[derive(Deserialize)]
struct LoadgenResult {
    duration_s: f64,
    messages: Messages,
    client: ClientResult,
    verdict: Verdict,
}

#[derive(Deserialize)]
struct Messages {
    received: u64,
    verified: u64,
    lost: u64,
    unfinished: u64,
}

#[derive(Deserialize)]
struct ClientResult {
    threads: Vec<Thread>,
}

#[derive(Deserialize)]
struct Thread {
    cpu_ratio: f64,
}

#[derive(Deserialize)]
struct Verdict {
    reasons: Vec<Reason>,
}

#[derive(Deserialize)]
struct Reason {
    code: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULT: &str = r#"{"duration_s": 2.0, "rate": {"achieved": 1.0},
        "messages": {"received": 1990, "verified": 1990, "lost": 0, "unfinished": 10},
        "client": {"threads": [{"cpu_ratio": 0.5}, {"cpu_ratio": 0.75}]},
        "verdict": {"status": "suspect", "reasons": [{"code": "client_busy", "text": ""}]}}"#;

    #[test]
    fn a_turn_is_read_from_loadgens_result() {
        let expected = StepSample {
            per_second: 995.0,
            cpu_ns_per_echo: 5000.0,
            server_cpus: 0.005,
            client_cpus: 1.25,
            busiest_thread: 0.75,
            verdict: vec!["client_busy".to_owned()],
        };
        assert_eq!(step_sample(RESULT, 10_000_000).unwrap(), expected);
        let wrong = RESULT.replace("\"verified\": 1990", "\"verified\": 1989");
        assert!(step_sample(&wrong, 1).is_err());
    }

    #[test]
    fn the_limit_is_who_has_no_reserve() {
        let limit = |server_cpus, client_cpus, busiest_thread, codes: &[&str]| {
            let sample = StepSample {
                per_second: 1.0,
                cpu_ns_per_echo: 1.0,
                server_cpus,
                client_cpus,
                busiest_thread,
                verdict: codes.iter().map(ToString::to_string).collect(),
            };
            let step = Step {
                workers: 1,
                samples: vec![sample; 3],
            };
            step.limit(4).unwrap()
        };
        assert_eq!(limit(1.9, 1.99, 0.99, &["client_busy"]), Limit::Processors);
        assert_eq!(limit(0.8, 0.99, 0.99, &[]), Limit::Client);
        assert_eq!(limit(0.8, 0.9, 0.9, &["client_busy"]), Limit::Client);
        assert_eq!(limit(0.99, 0.8, 0.8, &["steal"]), Limit::Server);
        assert_eq!(limit(0.7, 0.7, 0.7, &[]), Limit::Neither);
        assert_eq!(Step::new(1).limit(4), None);
    }
}
