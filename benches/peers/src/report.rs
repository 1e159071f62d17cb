//! Rounds, the samples of each, and the tables and JSON made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use bytesize::ByteSize;
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::Outcome;

/// At this share of a processor a side has no reserve.
pub(crate) const BUSY: f64 = 0.95;

/// More of the window than this without a processor disturbs a turn.
const MAX_WAITED: f64 = 0.05;

/// What is compared, in the order of the columns. Per unit: for each echo, setup or MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Metric {
    /// Processor time per unit, in nanoseconds. These decide.
    ServerCpu,
    ClientCpu,
    /// Units per second.
    Rate,
    /// Latency in nanoseconds.
    P50,
    P99,
    /// Bytes per idle connection.
    AnonymousMemory,
    ResidentMemory,
    /// Bytes with all connections open.
    Resident,
    /// Share of the window that a side was on its processor.
    ServerBusy,
    ClientBusy,
    /// Counts per unit.
    Calls,
    Instructions,
}

/// One turn: its figures, and what disturbed or limited it.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Sample {
    pub(crate) values: BTreeMap<Metric, f64>,
    pub(crate) notes: BTreeSet<String>,
}

/// Where the values of several rounds lie.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) lower_quartile: f64,
    pub(crate) upper_quartile: f64,
}

/// What all contestants did in one workload.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    title: String,
    unit: &'static str,
    /// Ratios are to the first.
    rows: Vec<Row>,
    /// What is to be said besides the figures.
    remarks: Vec<String>,
    /// Who could not take part, and why.
    absent: BTreeMap<String, String>,
    failures: Vec<String>,
}

/// One contestant.
#[derive(Debug, Serialize)]
struct Row {
    name: String,
    /// Round by round; nothing where its turn failed.
    samples: Vec<Option<Sample>>,
}

/// How a figure is written.
#[derive(Clone, Copy)]
enum Format {
    Nanoseconds,
    Bytes,
    Number(usize),
    /// A share of busy time explains a figure; it is not compared.
    Share,
}

use Format::{Bytes, Nanoseconds, Number, Share};

/// The columns: what, under which heading, and how.
const COLUMNS: [(Metric, &str, Format); 12] = [
    (Metric::ServerCpu, "server CPU/{unit}", Nanoseconds),
    (Metric::ClientCpu, "client CPU/{unit}", Nanoseconds),
    (Metric::Rate, "{unit}/s", Number(1)),
    (Metric::P50, "p50", Nanoseconds),
    (Metric::P99, "p99", Nanoseconds),
    (Metric::AnonymousMemory, "anonymous/connection", Bytes),
    (Metric::ResidentMemory, "resident/connection", Bytes),
    (Metric::Resident, "resident", Bytes),
    (Metric::ServerBusy, "server busy", Share),
    (Metric::ClientBusy, "client busy", Share),
    (Metric::Calls, "calls/{unit}", Number(3)),
    (Metric::Instructions, "instructions/{unit}", Number(1)),
];

impl Format {
    fn show(self, value: f64) -> String {
        match self {
            Nanoseconds => format!("{:.2?}", Duration::from_nanos(value.max(0.0) as u64)),
            Bytes => ByteSize::b(value.max(0.0) as u64).to_string(),
            Number(digits) => format!("{value:.digits$}"),
            Share => format!("{:.0} %", value * 100.0),
        }
    }
}

impl Sample {
    /// What came of a load, in units of which it had `units`.
    pub(crate) fn of(outcome: &Outcome, units: f64) -> Self {
        let mut sample = Self::default();
        let wall = outcome.wall.as_secs_f64();
        let nanos = |time: Duration| time.as_secs_f64() * 1e9;
        if let Some((before, connections)) = outcome.memory_before {
            let growth = |after: u64, before| (after as f64 - before as f64) / connections as f64;
            let now = outcome.memory;
            let anonymous = growth(now.anonymous, before.anonymous);
            sample.set(Metric::AnonymousMemory, anonymous);
            sample.set(
                Metric::ResidentMemory,
                growth(now.resident, before.resident),
            );
        } else {
            sample.set(Metric::ServerCpu, nanos(outcome.server.cpu) / units);
            sample.set(Metric::ClientCpu, nanos(outcome.client_cpu) / units);
            sample.set(Metric::Rate, units / wall);
            sample.set(Metric::ServerBusy, nanos(outcome.server.cpu) / 1e9 / wall);
            sample.set(Metric::ClientBusy, nanos(outcome.client_cpu) / 1e9 / wall);
            sample.note_limit();
            if outcome.server.waited.as_secs_f64() > MAX_WAITED * wall {
                sample.note("the server was ready and had no processor for over 5 % of the time");
            }
        }
        if !outcome.latency_ns.is_empty() {
            let percentile = |share| outcome.latency_ns.value_at_quantile(share) as f64;
            sample.set(Metric::P50, percentile(0.5));
            sample.set(Metric::P99, percentile(0.99));
        }
        sample.set(Metric::Resident, outcome.memory.resident as f64);
        sample
    }

    pub(crate) fn get(&self, metric: Metric) -> Option<f64> {
        self.values.get(&metric).copied()
    }

    /// A value that is not finite, as that of a division by nothing, is none.
    pub(crate) fn set(&mut self, metric: Metric, value: f64) {
        if value.is_finite() {
            self.values.insert(metric, value);
        }
    }

    pub(crate) fn note(&mut self, note: impl Into<String>) {
        self.notes.insert(note.into());
    }

    pub(crate) fn note_limit(&mut self) {
        let (server, client) = (self.get(Metric::ServerBusy), self.get(Metric::ClientBusy));
        if client >= Some(BUSY) && server < Some(BUSY) {
            self.note("the client was the limit, so throughput and latency are the client's");
        }
    }
}

impl Spread {
    /// Between two values, quantiles are interpolated linearly (type 7 of Hyndman and Fan, the default
    /// of R and numpy).
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = values.filter(|value| value.is_finite()).collect();
        sorted.sort_by(f64::total_cmp);
        let last = sorted.len().checked_sub(1)?;
        let quantile = |share: f64| {
            let position = share * last as f64;
            let (below, above) = (position.floor() as usize, position.ceil() as usize);
            sorted[below] + (sorted[above] - sorted[below]) * position.fract()
        };
        Some(Self {
            median: quantile(0.5),
            lower_quartile: quantile(0.25),
            upper_quartile: quantile(0.75),
        })
    }

    fn show_with_quartiles(self) -> String {
        let (median, low, high) = (self.median, self.lower_quartile, self.upper_quartile);
        format!("{median:.3} ({low:.3} to {high:.3})")
    }
}

impl Row {
    fn values(&self, metric: Metric) -> impl Iterator<Item = Option<f64>> + '_ {
        let samples = self.samples.iter();
        samples.map(move |sample| sample.as_ref().and_then(|sample| sample.get(metric)))
    }

    fn spread(&self, metric: Metric) -> Option<Spread> {
        Spread::of(self.values(metric).flatten())
    }

    /// The ratios to `base` of the rounds in which there are both. What disturbs a whole round, such
    /// as a slower clock of the processor, cancels in each of them.
    fn ratio(&self, base: &Self, metric: Metric) -> Option<Spread> {
        let pairs = self.values(metric).zip(base.values(metric));
        Spread::of(pairs.filter_map(|(value, base)| Some(value? / base?)))
    }
}

impl Table {
    /// Gives each contestant one turn in each round, in every other round in reverse order.
    pub(crate) fn measure(
        title: String,
        unit: &'static str,
        names: Vec<String>,
        rounds: u32,
        mut turn: impl FnMut(usize) -> io::Result<Sample>,
    ) -> Self {
        let row = |name| Row {
            name,
            samples: Vec::new(),
        };
        let mut table = Self {
            title,
            unit,
            rows: names.into_iter().map(row).collect(),
            remarks: Vec::new(),
            absent: BTreeMap::new(),
            failures: Vec::new(),
        };
        for round in 0..rounds {
            let mut order: Vec<usize> = (0..table.rows.len()).collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for index in order {
                let row = &mut table.rows[index];
                let number = round + 1;
                progress(&format!(
                    "{}, round {number} of {rounds}: {}",
                    table.title, row.name
                ));
                let sample = turn(index);
                if let Err(e) = &sample {
                    let failure = format!("{} failed in round {number}: {e}", row.name);
                    table.failures.push(failure);
                }
                row.samples.push(sample.ok());
            }
        }
        progress("");
        table
    }

    /// Adds what `count` counts of each contestant to its first sample: counts do not vary.
    pub(crate) fn count(&mut self, mut count: impl FnMut(usize) -> Sample) {
        for (index, row) in self.rows.iter_mut().enumerate() {
            progress(&format!("{}, counting: {}", self.title, row.name));
            let counts = count(index);
            let notes = counts.notes.iter();
            self.remarks
                .extend(notes.map(|note| format!("{}: {note}", row.name)));
            if let Some(first) = row.samples.first_mut() {
                let first = first.get_or_insert_default();
                first.values.extend(counts.values);
            }
        }
        progress("");
    }

    pub(crate) fn leave_out(&mut self, name: &str, why: String) {
        self.absent.insert(name.to_owned(), why);
    }

    pub(crate) fn has_failures(&self) -> bool {
        !self.failures.is_empty()
    }

    /// The table in Markdown, with what is to be said about it.
    pub(crate) fn markdown(&self) -> String {
        let mut lines = vec![vec![String::new()], vec!["---".to_owned()]];
        lines.extend(self.rows.iter().map(|row| vec![row.name.clone()]));
        for (metric, heading, format) in COLUMNS {
            if self.rows.iter().all(|row| row.spread(metric).is_none()) {
                continue;
            }
            let is_compared = !matches!(format, Share);
            let headings = [&heading.replace("{unit}", self.unit), "×"].map(str::to_owned);
            let columns = if is_compared { 2 } else { 1 };
            lines[0].extend(headings.into_iter().take(columns));
            lines[1].extend((0..columns).map(|_| "---:".to_owned()));
            for (row, line) in self.rows.iter().zip(&mut lines[2..]) {
                let value = row.spread(metric).map(|spread| format.show(spread.median));
                let ratio = row.ratio(&self.rows[0], metric).map(|ratio| {
                    match matches!(metric, Metric::ServerCpu | Metric::ClientCpu) {
                        true => ratio.show_with_quartiles(),
                        false => format!("{:.3}", ratio.median),
                    }
                });
                let fields = [value, ratio].map(|field| field.unwrap_or_else(|| "-".to_owned()));
                line.extend(fields.into_iter().take(columns));
            }
        }
        let mut text = format!("### {}\n\n", self.title);
        for line in lines {
            let _ = writeln!(text, "| {} |", line.join(" | "));
        }
        text.push('\n');
        for remark in self.remarks() {
            let _ = writeln!(text, "- {remark}");
        }
        text
    }

    fn remarks(&self) -> Vec<String> {
        let mut remarks = self.remarks.clone();
        for row in &self.rows {
            let samples = || row.samples.iter().flatten();
            let notes: BTreeSet<&String> = samples().flat_map(|sample| &sample.notes).collect();
            for note in notes {
                let times = samples()
                    .filter(|sample| sample.notes.contains(note))
                    .count();
                let rounds = row.samples.len();
                remarks.push(format!("{}: {note} ({times} of {rounds} rounds)", row.name));
            }
        }
        let absent = self.absent.iter();
        remarks.extend(absent.map(|(name, why)| format!("{name} is left out: {why}")));
        remarks.extend(self.failures.iter().map(|failure| format!("**{failure}**")));
        remarks
    }

    /// All samples, and for each contestant the spread of each metric and of its ratios.
    pub(crate) fn json(&self) -> Value {
        let mut value = json!(self);
        for (index, row) in self.rows.iter().enumerate() {
            let json = &mut value["rows"][index];
            for (metric, ..) in COLUMNS {
                let (spread, ratio) = (row.spread(metric), row.ratio(&self.rows[0], metric));
                if let (Value::String(name), Some(spread)) = (json!(metric), spread) {
                    json[name] = json!({"spread": spread, "ratio": ratio});
                }
            }
        }
        value
    }
}

/// Shows on a terminal what is being done.
fn progress(what: &str) {
    let mut stderr = io::stderr().lock();
    if stderr.is_terminal() {
        // A terminal that has gone is no reason to fail.
        let _ = write!(stderr, "\r\x1b[K{what}").and_then(|()| stderr.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(samples: [&[f64]; 2]) -> Table {
        let names = ["base", "other"].map(String::from).to_vec();
        let rounds = samples[0].len() as u32;
        let mut done = [0; 2];
        Table::measure("Echo".to_owned(), "echo", names, rounds, |index| {
            let value = samples[index][done[index]];
            done[index] += 1;
            if value < 0.0 {
                return Err(io::Error::other("stalled"));
            }
            let mut sample = Sample::default();
            sample.set(Metric::ServerCpu, value);
            sample.set(Metric::ServerBusy, 0.5);
            sample.set(Metric::ClientBusy, value / 1000.0);
            sample.note_limit();
            Ok(sample)
        })
    }

    #[test]
    fn quantiles_are_those_of_r_and_numpy() {
        let spread = Spread::of([4.0, 1.0, 3.0, 2.0, f64::NAN].into_iter()).unwrap();
        let expected = Spread {
            lower_quartile: 1.75,
            median: 2.5,
            upper_quartile: 3.25,
        };
        assert_eq!(spread, expected);
        assert_eq!(Spread::of([7.0].into_iter()).unwrap().upper_quartile, 7.0);
        assert_eq!(Spread::of([].into_iter()), None);
    }

    #[test]
    fn a_ratio_is_taken_within_each_round_that_has_both() {
        // The second round ran at half the speed for both; the ratio does not show it.
        let table = table([&[100.0, 200.0, 100.0, -1.0], &[120.0, 240.0, -1.0, 700.0]]);
        let ratio = table.rows[1]
            .ratio(&table.rows[0], Metric::ServerCpu)
            .unwrap();
        assert!((ratio.lower_quartile - 1.2).abs() < 1e-12, "{ratio:?}");
        assert!((ratio.upper_quartile - 1.2).abs() < 1e-12, "{ratio:?}");
        assert_eq!(table.failures.len(), 2);
        assert!(
            table
                .markdown()
                .contains("**other failed in round 3: stalled**")
        );
        assert!(table.json()["rows"][1]["samples"][2].is_null());
    }

    #[test]
    fn every_other_round_is_in_reverse_order() {
        let mut order = Vec::new();
        let names = ["a", "b", "c"].map(String::from).to_vec();
        Table::measure(String::new(), "echo", names, 3, |index| {
            order.push(index);
            Ok(Sample::default())
        });
        assert_eq!(order, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
    }

    #[test]
    fn the_table_has_a_field_under_every_heading_and_says_what_was_the_limit() {
        let text = table([&[500.0, 500.0], &[990.0, 400.0]]).markdown();
        let rows: Vec<&str> = text.lines().filter(|line| line.starts_with('|')).collect();
        let fields = |row: &str| row.split('|').count();
        assert!(
            rows.iter().all(|row| fields(row) == fields(rows[0])),
            "{text}"
        );
        assert_eq!(
            rows[2],
            "| base | 500.00ns | 1.000 (1.000 to 1.000) | 50 % | 50 % |"
        );
        assert!(text.contains("other: the client was the limit"), "{text}");
        assert!(
            text.contains("(1 of 2 rounds)") && !text.contains("base: "),
            "{text}"
        );
    }
}
