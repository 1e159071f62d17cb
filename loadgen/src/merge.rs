//! The union of results that several hosts or processes measured at the same time.
//!
//! Histograms, counts and rates add, so the union is the result that one load generator with all
//! the connections would have had. Values that do not add are not estimated: gauges of connections
//! are kept per part, and intervals without histograms have no percentiles. Shards of one run
//! (`--rank`) must belong together besides: `shards`.

use std::collections::BTreeMap;
use std::num::{NonZeroU64, NonZeroUsize};
use std::time::{Duration, SystemTime};

use crate::analysis::tls;
use crate::analysis::totals::{self, add_latency};
use crate::plan::{Load, Plan, Target};
use crate::result::{
    BackgroundResult, Host, IntervalResult, MergedPart, RampInterval, RunResult, Statistics,
};
use crate::result::{Code, Reason};

mod precision;
mod server;
mod shards;

use shards::Shards;

/// Options that add, or that differ between parts.
const OF_A_PART: [&str; 6] = [
    "connections",
    "threads",
    "rate",
    "requests",
    "seed",
    "sources",
];
/// Maximum difference of the parts' starts,
const MAX_APART: Duration = Duration::from_secs(1);
/// or this share of the window. Beyond it, the parts did not measure at the same time.
const MAX_APART_OF_WINDOW: f64 = 0.05;

/// The union of `parts`, each with its name, in the order of the report.
///
/// # Errors
/// As [`Union::add`] and [`Union::finish`].
pub fn merge(parts: Vec<(String, RunResult)>) -> Result<RunResult, String> {
    let mut union = Union::default();
    for (name, part) in parts {
        union.add(name, part)?;
    }
    union.finish()
}

/// A union in the making. Results are added one after the other, so that only the union and one of them
/// are in memory.
#[derive(Debug, Default)]
pub struct Union {
    /// The sum so far, and the name of its first part.
    sum: Option<(String, RunResult)>,
    /// The runs in it.
    runs: Vec<MergedPart>,
    /// Their identities, each with the name of its part.
    known: BTreeMap<String, String>,
    /// What the parts have to do with each other, if they are shards of one run.
    shards: Shards,
    span: Span,
}

impl Union {
    /// Adds a part. `name` is its file.
    ///
    /// # Errors
    /// One line for the user: the part is of another plan than the first, or of no time that it shares
    /// with it, or what is in it is in the union already.
    pub fn add(&mut self, name: String, mut part: RunResult) -> Result<(), String> {
        let runs = match part.merged.take() {
            Some(runs) => runs,
            None => vec![describe(&name, &part)],
        };
        self.shards.add(&name, &part, &runs)?;
        self.know(&name, &runs)?;
        self.span.add(&part);
        for reason in &mut part.verdict.reasons {
            reason.text = format!("{name}: {}", reason.text);
        }
        self.runs.extend(runs);
        let Some((first, sum)) = &mut self.sum else {
            part.plan.shard = None;
            self.sum = Some((name, part));
            return Ok(());
        };
        let added = if self.shards.is_empty() {
            add_plan(&mut sum.plan, &part.plan)
        } else {
            shards::add_plan(&mut sum.plan, &part.plan)
        };
        added.map_err(|differences| {
            format!("{first} and {name} are of different plans and can't be added; {differences}")
        })?;
        add(sum, part);
        Ok(())
    }

    /// The union of the parts.
    ///
    /// # Errors
    /// One line for the user: there is no part.
    pub fn finish(self) -> Result<RunResult, String> {
        let Some((_, mut union)) = self.sum else {
            return Err("there is nothing to merge".to_owned());
        };
        // They are listed for each part.
        (union.tcp, union.fairness, union.server) = (None, None, None);
        union.shard = None;
        if self.runs.len() > 1 {
            // These describe one process. Blocks and connections of other processes are not in them.
            union.statistics = Statistics::default();
            union.repeats = None;
        }
        if !self.shards.is_empty() {
            self.shards.complete(&mut union);
        } else if self.runs.len() > 1 {
            union.verdict.add_reasons(self.span.objection());
        }
        union.merged = Some(self.runs);
        Ok(union)
    }

    /// Notes the runs of a part, which must all be new: the messages of a run that is in two parts,
    /// whatever their files are called, would count twice.
    fn know(&mut self, name: &str, runs: &[MergedPart]) -> Result<(), String> {
        for run in runs {
            if let Some(other) = self.known.insert(identity(run), name.to_owned()) {
                return Err(format!(
                    "{other} and {name} contain the same run, and its messages would count twice; give \
                     each result once"
                ));
            }
        }
        Ok(())
    }
}

/// Adds a part's plan to the union's.
fn add_plan(sum: &mut Plan, next: &Plan) -> Result<(), String> {
    let mut differences = sum.differences(next, &OF_A_PART);
    if let (Load::Open { rate, .. }, Load::Open { rate: other, .. }) = (&mut sum.load, &next.load) {
        match rate.plus(other) {
            Some(both) => *rate = both,
            None => differences.push(format!("rate: {rate} and {other}")),
        }
    }
    if sum.requests.is_some() != next.requests.is_some() {
        differences.push("requests: one has a number of them and one has none".to_owned());
    }
    match (&mut sum.target, &next.target) {
        (Target::Servers { targets }, Target::Servers { targets: others }) => {
            for other in others {
                if !targets.contains(other) {
                    targets.push(other.clone());
                }
            }
        }
        (
            Target::Embedded { embedded_workers },
            Target::Embedded {
                embedded_workers: others,
            },
        ) => *embedded_workers = plus(*embedded_workers, *others),
        _ => differences.push("targets: servers and an embedded one".to_owned()),
    }
    if !differences.is_empty() {
        return Err(differences.join(", "));
    }
    sum.connections = plus(sum.connections, next.connections);
    sum.threads = plus(sum.threads, next.threads);
    sum.requests = sum
        .requests
        .zip(next.requests)
        .and_then(|(sum, next)| NonZeroU64::new(sum.get().saturating_add(next.get())));
    for source in &next.sources {
        if !sum.sources.contains(source) {
            sum.sources.push(*source);
        }
    }
    sum.server_admin = None;
    Ok(())
}

fn plus(a: NonZeroUsize, b: NonZeroUsize) -> NonZeroUsize {
    a.saturating_add(b.get())
}

/// A part, with the values that do not add.
fn describe(name: &str, part: &RunResult) -> MergedPart {
    let response = part.latency_ns.response.as_ref();
    MergedPart {
        name: name.to_owned(),
        started_at: part.started_at.clone(),
        shard: part.shard.clone(),
        host: part.host.clone(),
        duration_s: part.duration_s,
        connections: part.plan.own_connections(),
        achieved: part.rate.achieved,
        response_p50_ns: response.and_then(|response| response.quantile(0.5)),
        response_p99_ns: response.and_then(|response| response.quantile(0.99)),
        status: part.verdict.status,
        tcp: part.tcp.clone(),
        fairness: part.fairness.clone(),
        server: part.server.clone(),
    }
}

/// What no two runs share: when and where a run was made, as which shard, to the nanosecond what it took,
/// and what it found.
fn identity(run: &MergedPart) -> String {
    format!(
        "{:?} {} {:?} {} {} {} {:?} {:?}",
        run.shard.as_ref().map(|shard| shard.rank),
        run.started_at,
        run.host.name,
        run.duration_s,
        run.connections,
        run.achieved,
        run.response_p50_ns,
        run.response_p99_ns
    )
}

/// When parts were started that are no shards.
#[derive(Debug, Default)]
struct Span {
    first: Option<SystemTime>,
    last: Option<SystemTime>,
    /// Whether the start of a part is not known.
    is_unknown: bool,
    window_s: f64,
}

impl Span {
    fn add(&mut self, part: &RunResult) {
        match humantime::parse_rfc3339(&part.started_at) {
            Ok(start) => {
                self.first = Some(self.first.map_or(start, |first| first.min(start)));
                self.last = self.last.max(Some(start));
            }
            Err(_) => self.is_unknown = true,
        }
        self.window_s = self.window_s.max(part.duration_s);
    }

    /// Whether the parts were measured at different times, so that their sum is meaningless.
    fn objection(&self) -> Option<Reason> {
        let apart = self.last?.duration_since(self.first?).ok()?;
        // In seconds, because a file may contain a length that is no valid duration.
        let may_be_apart_s = f64::max(MAX_APART.as_secs_f64(), self.window_s * MAX_APART_OF_WINDOW);
        (!self.is_unknown && apart.as_secs_f64() > may_be_apart_s).then(|| {
            Reason::suspect(
                Code::NotTogether,
                format!(
                    "the parts were started {:.1} s apart, so their rates do not add up; start them \
                     together (--rank, --start-at), or use --repeat for consecutive runs",
                    apart.as_secs_f64()
                ),
            )
        })
    }
}

/// Adds a part to the union.
fn add(sum: &mut RunResult, mut next: RunResult) {
    totals::add(sum, &mut next);
    sum.started_at = earlier(&sum.started_at, next.started_at);
    sum.host = both(&sum.host, &next.host);
    sum.duration_s = sum.duration_s.max(next.duration_s);
    tls::set_rate(sum);
    sum.rate.target = sum.rate.target.zip(next.rate.target).map(|(a, b)| a + b);
    sum.rate.offered += next.rate.offered;
    sum.rate.achieved += next.rate.achieved;
    sum.rate.changes.extend(next.rate.changes);
    sum.throughput.sent_bits_per_s += next.throughput.sent_bits_per_s;
    sum.throughput.received_bits_per_s += next.throughput.received_bits_per_s;
    sum.intervals = aligned(
        std::mem::take(&mut sum.intervals),
        next.intervals,
        |interval| interval.start_s,
        add_interval,
    );
    sum.ramp = aligned(
        std::mem::take(&mut sum.ramp),
        next.ramp,
        |interval| interval.start_s,
        add_ramp,
    );
    add_background(&mut sum.background, next.background);
    let client = &mut sum.client;
    client.threads.extend(next.client.threads);
    // The value of the worst host.
    client.steal_ratio = client
        .steal_ratio
        .zip(next.client.steal_ratio)
        .map(|(a, b)| a.max(b));
}

/// RFC 3339 in UTC with equal digits sorts by time.
fn earlier(a: &str, b: String) -> String {
    if a <= b.as_str() { a.to_owned() } else { b }
}

/// The hosts' common values, and their names and processors.
fn both(a: &Host, b: &Host) -> Host {
    if a == b {
        return a.clone();
    }
    let common = |a: &Option<String>, b: &Option<String>| a.clone().filter(|_| a == b);
    let names = match (&a.name, &b.name) {
        (Some(a), Some(b)) if !a.split(", ").any(|name| name == b) => Some(format!("{a}, {b}")),
        (a, b) => a.clone().or_else(|| b.clone()),
    };
    Host {
        name: names,
        kernel: common(&a.kernel, &b.kernel),
        cpu_model: common(&a.cpu_model, &b.cpu_model),
        cpus: a.cpus + b.cpus,
    }
}

/// Adds intervals that start at the same time. The others are kept in order.
fn aligned<T>(
    sum: Vec<T>,
    next: Vec<T>,
    start: impl Fn(&T) -> f64,
    add: impl Fn(&mut T, T),
) -> Vec<T> {
    // No interval is as short as a millisecond.
    let key = |interval: &T| (start(interval) * 1e3).round() as u64;
    let mut all: BTreeMap<u64, T> = BTreeMap::new();
    for interval in sum.into_iter().chain(next) {
        match all.entry(key(&interval)) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(interval);
            }
            std::collections::btree_map::Entry::Occupied(mut taken) => {
                add(taken.get_mut(), interval);
            }
        }
    }
    all.into_values().collect()
}

fn add_interval(sum: &mut IntervalResult, next: IntervalResult) {
    sum.end_s = sum.end_s.max(next.end_s);
    sum.counts += next.counts;
    sum.sent_bytes += next.sent_bytes;
    sum.received_bytes += next.received_bytes;
    sum.opened += next.opened;
    sum.failed += next.failed;
    add_latency(&mut sum.response, next.response);
    add_latency(&mut sum.service, next.service);
    sum.tcp = match (sum.tcp.take(), next.tcp) {
        // A mean of means would be meaningless.
        (Some(_), Some(_)) => None,
        (one, other) => one.or(other),
    };
    sum.background_received_bytes = match (
        sum.background_received_bytes,
        next.background_received_bytes,
    ) {
        (Some(sum), Some(next)) => Some(sum + next),
        (one, other) => one.or(other),
    };
}

fn add_ramp(sum: &mut RampInterval, next: RampInterval) {
    sum.end_s = sum.end_s.max(next.end_s);
    sum.opened += next.opened;
    sum.failed += next.failed;
    add_latency(&mut sum.connect, next.connect);
}

fn add_background(sum: &mut Option<BackgroundResult>, next: Option<BackgroundResult>) {
    let Some(next) = next else { return };
    let Some(sum) = sum else {
        *sum = Some(next);
        return;
    };
    sum.throughput.sent_bits_per_s += next.throughput.sent_bits_per_s;
    sum.throughput.received_bits_per_s += next.throughput.received_bits_per_s;
    sum.bytes += next.bytes;
    sum.connections += next.connections;
    sum.corrupt += next.corrupt;
    sum.tcp = None;
}

#[cfg(test)]
mod tests;
