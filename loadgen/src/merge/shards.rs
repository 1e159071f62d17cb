//! Shards of one run: whether they belong together, and what the union has because they do.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use echomark::net::units::format_duration;

use super::{precision, server};
use crate::analysis::tcp;
use crate::plan::Plan;
use crate::plan::shard::MAX_SKEW;
use crate::result::{
    Code, MergedPart, Reason, RunResult, ServerResult, ShardResult, ShardsResult, TcpResult,
};

/// Below this share of the window in which all shards measured, their rates do not add up.
const MIN_OVERLAP: f64 = 0.95;
/// Maximum of ranks named in a line.
const MAX_NAMED: usize = 8;
/// Options that may differ between shards: each host has its own.
const OF_A_HOST: [&str; 2] = ["threads", "sources"];

/// The shards of a union.
#[derive(Debug, Default)]
pub(super) struct Shards {
    /// The number of shards of the run; 0 if the parts are no shards.
    size: usize,
    /// Each rank, with the name of its part and its window.
    ranks: BTreeMap<usize, Member>,
    first: Option<First>,
    max_skew: Option<Duration>,
    tcp: Option<TcpResult>,
    server: Option<ServerResult>,
}

/// The first part of a union.
#[derive(Debug)]
struct First {
    name: String,
    version: String,
    is_shard: bool,
}

#[derive(Debug)]
struct Member {
    part: String,
    host: Option<String>,
    shard: ShardResult,
    start: SystemTime,
    window: Window,
    /// The part of the window after which it was ended early.
    ended_early: Option<f64>,
}

/// A window in seconds since 1970.
#[derive(Clone, Copy, Debug)]
struct Window {
    begin_s: f64,
    end_s: f64,
}

/// Adds the plan of a shard to the union's, which is that of the whole run.
pub(super) fn add_plan(sum: &mut Plan, next: &Plan) -> Result<(), String> {
    let whole = Plan {
        shard: None,
        ..next.clone()
    };
    let mut differences = sum.differences(&whole, &OF_A_HOST);
    // Servers too must be the same, which plans of other unions need not have in common.
    if sum.target != whole.target || sum.server_admin != whole.server_admin {
        differences.push("targets".to_owned());
    }
    if !differences.is_empty() {
        return Err(differences.join(", "));
    }
    sum.threads = sum.threads.saturating_add(next.threads.get());
    for source in &next.sources {
        if !sum.sources.contains(source) {
            sum.sources.push(*source);
        }
    }
    Ok(())
}

impl Shards {
    /// Whether the parts are no shards.
    pub(super) fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Adds the shards of a part, which are all of its `runs`, or none of them.
    ///
    /// # Errors
    /// One line for the user: why the part does not belong to the others.
    pub(super) fn add(
        &mut self,
        name: &str,
        part: &RunResult,
        runs: &[MergedPart],
    ) -> Result<(), String> {
        let shards: Vec<(&MergedPart, &ShardResult)> = runs
            .iter()
            .filter_map(|run| Some((run, run.shard.as_ref()?)))
            .collect();
        let first = self.first.get_or_insert_with(|| First {
            name: name.to_owned(),
            version: part.tool.version.to_string(),
            is_shard: !shards.is_empty(),
        });
        first.check(name, part, !shards.is_empty())?;
        if shards.is_empty() {
            return Ok(());
        }
        let max_skew = part.plan.shard.as_ref().map(|shard| shard.max_skew);
        self.max_skew = self.max_skew.or(max_skew);
        for (run, shard) in shards {
            let member = Member::of(name, part, run, shard)?;
            self.add_member(member)?;
        }
        self.tcp = tcp::union(self.tcp.take(), part.tcp.as_ref(), part.plan.direction());
        server::add(&mut self.server, part.server.as_ref());
        Ok(())
    }

    fn add_member(&mut self, member: Member) -> Result<(), String> {
        let Member { part, shard, .. } = &member;
        if let Some(first) = self.ranks.values().next() {
            if shard.size != self.size {
                return Err(format!(
                    "{} is one of {} shards and {part} one of {}; they are of different runs",
                    first.part, self.size, shard.size
                ));
            }
            if first.window.overlap(member.window) <= 0.0 {
                return Err(format!(
                    "rank {} in {} and rank {} in {part} did not measure at the same time: one started \
                     at {} and the other at {}; they are of different runs",
                    first.shard.rank,
                    first.part,
                    shard.rank,
                    first.shard.started_at,
                    shard.started_at
                ));
            }
        }
        self.size = shard.size;
        let rank = shard.rank;
        if let Some(other) = self.ranks.get(&rank) {
            return Err(format!(
                "rank {rank} of {} is in {} and in {part}, and its messages would count twice; give each \
                 rank once",
                self.size, other.part
            ));
        }
        self.ranks.insert(rank, member);
        Ok(())
    }

    /// Adds to the union what its shards have in common, and objections to them.
    pub(super) fn complete(self, union: &mut RunResult) {
        let shards = self.describe();
        union.verdict.add_reasons(self.objections(&shards));
        if shards.missing.is_empty() {
            union.rate.target = union.plan.target_rate();
        }
        union.tcp = self.tcp;
        if shards.size > 1 {
            union.statistics = precision::of(union);
        }
        if let Some(mut server) = self.server {
            // What the missing ones sent is not known.
            if shards.missing.is_empty() {
                union.verdict.add_reasons(server::judge(&mut server, union));
            }
            union.server = Some(server);
        }
        union.shards = Some(shards);
    }

    fn describe(&self) -> ShardsResult {
        let members = || self.ranks.values();
        let earliest = members().map(|member| member.start).min();
        let latest = members().map(|member| member.start).max();
        let skew = latest.zip(earliest).and_then(|(latest, earliest)| {
            let skew = latest.duration_since(earliest).ok()?;
            Some(skew.as_nanos() as u64)
        });
        let all = members().map(|member| member.window).reduce(|a, b| Window {
            begin_s: a.begin_s.max(b.begin_s),
            end_s: a.end_s.min(b.end_s),
        });
        let longest_s = members().map(|member| member.window.length_s());
        let overlap =
            all.map_or(0.0, Window::length_s) / longest_s.fold(f64::MIN_POSITIVE, f64::max);
        let clocks: BTreeSet<_> = members().map(Member::clock).collect();
        ShardsResult {
            size: self.size,
            missing: (0..self.size)
                .filter(|rank| !self.ranks.contains_key(rank))
                .collect(),
            clocks: clocks.len(),
            start_skew_ns: skew.unwrap_or(0),
            clock_error_ns: self.clock_error_ns(clocks.len()),
            overlap: overlap.clamp(0.0, 1.0),
        }
    }

    /// By how much two of the clocks may differ; `None` if one is not synchronised.
    fn clock_error_ns(&self, clocks: usize) -> Option<u64> {
        if clocks < 2 {
            return Some(0);
        }
        let mut errors: BTreeMap<_, u64> = BTreeMap::new();
        for member in self.ranks.values() {
            let clock = &member.shard.clock;
            let error = clock.max_error_ns.filter(|_| clock.synchronized)?;
            let known = errors.entry(member.clock()).or_default();
            *known = error.max(*known);
        }
        let mut errors: Vec<u64> = errors.into_values().collect();
        errors.sort_unstable_by(|a, b| b.cmp(a));
        Some(
            errors
                .iter()
                .take(2)
                .fold(0, |sum, &error| sum.saturating_add(error)),
        )
    }

    fn objections(&self, shards: &ShardsResult) -> Vec<Reason> {
        let mut reasons = Vec::new();
        if !shards.missing.is_empty() {
            reasons.push(Reason::invalid(
                Code::ShardsMissing,
                format!(
                    "of {} shards {} missing, with a part of the connections and messages; the rates \
                     are not those of the plan",
                    shards.size,
                    ranks(&shards.missing)
                ),
            ));
        }
        for member in self.ranks.values() {
            if let Some(share) = member.ended_early {
                reasons.push(Reason::invalid(
                    Code::EndedEarly,
                    format!(
                        "rank {} ({}) was ended early, after {:.0} % of the window",
                        member.shard.rank,
                        member.part,
                        100.0 * share
                    ),
                ));
            }
        }
        reasons.extend(self.apart(shards));
        reasons
    }

    /// Whether the shards measured at different times, or may have done so.
    fn apart(&self, shards: &ShardsResult) -> Option<Reason> {
        let max_skew = self.max_skew.unwrap_or(MAX_SKEW);
        let skew = Duration::from_nanos(shards.start_skew_ns);
        let last = self.ranks.values().max_by_key(|member| member.start)?;
        let late = format!(
            "the shards started {} apart, the last of them rank {} ({})",
            format_duration(rounded(skew)),
            last.shard.rank,
            last.part
        );
        if shards.overlap < MIN_OVERLAP {
            let text = format!(
                "{late}; all of them measured in {:.0} % of the window only, so their rates do not add up",
                100.0 * shards.overlap
            );
            return Some(Reason::invalid(Code::NotTogether, text));
        }
        let allowed = format_duration(max_skew);
        if skew > max_skew {
            let text = format!("{late}, and {allowed} are allowed (--max-skew)");
            return Some(Reason::suspect(Code::NotTogether, text));
        }
        match shards.clock_error_ns.map(Duration::from_nanos) {
            None => {
                let unkept = self.ranks.values().find(|it| !it.shard.clock.synchronized);
                let host = unkept.and_then(|member| member.host.as_deref());
                Some(Reason::suspect(
                    Code::ClocksDiffer,
                    format!(
                        "the clock of {} is not synchronised, so nothing tells that the shards started \
                         together; run chrony or another NTP client there",
                        host.unwrap_or("a host")
                    ),
                ))
            }
            Some(error) if skew + error > max_skew => Some(Reason::suspect(
                Code::ClocksDiffer,
                format!(
                    "the clocks of the hosts may differ by {}, so the shards may have started {} apart, \
                     and {allowed} are allowed (--max-skew)",
                    format_duration(rounded(error)),
                    format_duration(rounded(skew + error))
                ),
            )),
            Some(_) => None,
        }
    }
}

impl First {
    /// Whether another part can belong to it.
    fn check(&self, name: &str, part: &RunResult, is_shard: bool) -> Result<(), String> {
        let first = self.name.as_str();
        if is_shard != self.is_shard {
            let (shard, other) = if is_shard {
                (name, first)
            } else {
                (first, name)
            };
            return Err(format!(
                "{shard} is a shard of a run (--rank), and {other} is none; merge shards only with the \
                 others of their run"
            ));
        }
        if is_shard && self.version != part.tool.version {
            return Err(format!(
                "{first} was made by loadgen {} and {name} by loadgen {}; shards of one run have one \
                 version",
                self.version, part.tool.version
            ));
        }
        Ok(())
    }
}

impl Member {
    fn of(
        name: &str,
        part: &RunResult,
        run: &MergedPart,
        shard: &ShardResult,
    ) -> Result<Self, String> {
        if shard.rank >= shard.size {
            return Err(format!(
                "{name} is damaged: there is no rank {} of {}",
                shard.rank, shard.size
            ));
        }
        let start = humantime::parse_rfc3339(&shard.started_at)
            .map_err(|error| format!("{name} is damaged: shard.started_at: {error}"))?;
        let since_1970 = start
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let begin_s = (since_1970 + part.plan.warmup).as_secs_f64();
        // Of a union, the verdict of each is known, and not whether it was ended early.
        let planned_s = part.plan.duration.map(|planned| planned.as_secs_f64());
        let share = planned_s.map_or(1.0, |planned_s| run.duration_s / planned_s);
        Ok(Self {
            part: name.to_owned(),
            host: run.host.name.clone(),
            shard: shard.clone(),
            start,
            window: Window {
                begin_s,
                end_s: begin_s + run.duration_s,
            },
            ended_early: (part.interrupted && (part.plan.shard.is_some() || share < 1.0))
                .then_some(share),
        })
    }

    /// The clock by which it started.
    fn clock(&self) -> Option<&str> {
        let known = self.shard.clock.boot_id.as_deref();
        known.or(self.host.as_deref())
    }
}

impl Window {
    fn length_s(self) -> f64 {
        (self.end_s - self.begin_s).max(0.0)
    }

    /// The time in which both measure; below 0 if there is time between them.
    fn overlap(self, other: Self) -> f64 {
        self.end_s.min(other.end_s) - self.begin_s.max(other.begin_s)
    }
}

/// Some ranks in words, with a verb.
fn ranks(ranks: &[usize]) -> String {
    let named: Vec<String> = ranks.iter().take(MAX_NAMED).map(usize::to_string).collect();
    let more = match ranks.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    match ranks {
        [only] => format!("rank {only} is"),
        _ => format!("ranks {}{more} are", named.join(", ")),
    }
}

/// To a microsecond.
fn rounded(duration: Duration) -> Duration {
    Duration::from_micros(duration.as_micros() as u64)
}
