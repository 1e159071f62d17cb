//! The report of a search: the findings for each goal, latency by load, and the trials.

use std::io::Write;

use crate::report::document::{
    Document, Fact, Judgement, Medium, PAGE, Records, Report, Section, TERMINAL_AND_COMMENT,
    TERMINAL_AND_PAGE, Table,
};
use crate::report::format::{duration, grouped, known, number, percent, seconds};
use crate::report::{json, options, words as plan_words};
use crate::result::Status;
use crate::result::{GoalResult, SearchResult};
use crate::search::{Axis, Class, GoalEnd};

mod charts;
mod words;

/// Length of the longest bar of the curve, in characters, on a logarithmic scale.
const BAR: usize = 12;

impl Report for SearchResult {
    fn document(&self, medium: Medium) -> Document {
        let target = plan_words::target(&self.plan);
        let mut document = Document {
            medium,
            kind: "search",
            started_at: self.started_at.clone(),
            is_interrupted: self.interrupted,
            badge: "Search",
            subjects: vec![("target", target.clone())],
            heading: target,
            load: words::load(self),
            sections: Vec::new(),
        };
        document.section(&[Medium::Comment], "goals", "", |section| {
            section.table(goals_table(self));
        });
        for (index, goal) in self.goals.iter().enumerate() {
            document.section(TERMINAL_AND_PAGE, "goal", "", |section| {
                if section.is_for(Medium::Page) {
                    goal_on_page(self, index, goal, section);
                } else {
                    goal_lines(self, index, goal, section);
                }
            });
        }
        document.section(TERMINAL_AND_COMMENT, "curve", "", |section| {
            let curve = curve_table(self, None).without(&["offered /s", "p90", "p99.9", "trials"]);
            if section.is_for(Medium::Terminal) {
                section.table(curve.and("p99, logarithmic", bars(self)));
            } else {
                section.table(curve);
            }
        });
        document.section(TERMINAL_AND_PAGE, "trials", "Trials", |section| {
            trials(self, section);
        });
        document.section(PAGE, "plan", "Plan and host", |section| {
            let tables = [
                ("plan of each trial", trial_plan(self)),
                ("search", asked(self)),
                (
                    "host",
                    options::host(&self.host, &self.tool, &self.started_at),
                ),
            ];
            options::tables(section, tables);
        });
        document.section(PAGE, "reading", "How to read this", how_to_read);
        document
    }

    fn records(&self) -> Records {
        let mut records = Records::of(&COLUMNS, &self.trials);
        for (index, (row, trial)) in records.rows.iter_mut().zip(&self.trials).enumerate() {
            row[0] = (index + 1).to_string();
            row[COLUMNS.len() - 1] = words::trial_outcome(trial);
        }
        records
    }

    fn to_json(&self) -> serde_json::Result<String> {
        json::compact(self)
    }

    fn write_json(&self, out: &mut dyn Write) -> serde_json::Result<()> {
        json::pretty(self, out)
    }
}

/// The options that all trials have. Their load and length are the search's.
fn trial_plan(result: &SearchResult) -> Vec<Fact> {
    let load = match result.over {
        Axis::Rate => "rate",
        Axis::Connections => "connections",
    };
    let of_the_search = [load, "duration_s", "requests", "repeat"];
    let mut facts = options::flat(&result.plan);
    facts.retain(|fact| !of_the_search.contains(&fact.name.as_str()));
    facts
}

/// What was asked for: the limits and the goals.
fn asked(result: &SearchResult) -> Vec<Fact> {
    let mut facts = vec![Fact::new("over", result.over.unit())];
    facts.extend(options::flat(&result.limits));
    facts.push(Fact::new("confidence", result.confidence.to_string()));
    for (index, found) in result.goals.iter().enumerate() {
        let goal = &found.goal;
        let name = goal
            .name
            .clone()
            .unwrap_or_else(|| format!("goal {}", index + 1));
        facts.push(Fact::new(&name, goal.to_string()));
        let terms = options::flat(&goal.terms).into_iter();
        facts.extend(terms.map(|fact| Fact::new(format!("{name}: {}", fact.name), fact.value)));
    }
    facts
}

/// The goals as a table.
fn goals_table(result: &SearchResult) -> Table {
    let rows = result.goals.iter().enumerate().map(|(index, found)| {
        let load = |load: Option<f64>| known(load.map(|load| words::at(result.over, load)));
        [
            found.goal.to_string(),
            load(found.finding.lower),
            load(found.finding.upper),
            words::capacity(result, &found.finding).0,
            words::goal_end(result, index, found),
        ]
    });
    let capacity = format!("capacity, {} CI", percent(result.confidence));
    Table::new(["goal", "met at", "missed at", &capacity, "ended"], rows).with_words(1)
}

/// The findings for a goal: the bounds, their distance, and the throughput.
fn bounds(result: &SearchResult, index: usize, found: &GoalResult) -> Vec<Fact> {
    let (finding, terms) = (&found.finding, &found.goal.terms);
    let load = |load: Option<f64>| known(load.map(|load| words::at(result.over, load)));
    // Trials may have met and missed the goal at one load.
    let bound = |bound: Option<f64>, class, sure, mixed, about| {
        let is_mixed = bound.is_some_and(|load| {
            words::standing(result, index, load, class) == words::Standing::Mixed
        });
        let votes = bound.map_or_else(String::new, |load| {
            format!("; {} trials met it", words::met_trials(result, index, load))
        });
        let name = if is_mixed { mixed } else { sure };
        Fact::new(name, load(bound)).noted(format!("{about}{votes}"))
    };
    vec![
        bound(
            finding.lower,
            Class::Lower,
            "met at",
            "met often enough at",
            "relevant lower bound",
        ),
        bound(
            finding.upper,
            Class::Upper,
            "missed at",
            "missed too often at",
            "relevant upper bound",
        ),
        Fact::new("apart", known(finding.precision.map(percent)))
            .noted(format!("{} requested", percent(terms.precision))),
        Fact::new("throughput", load(finding.conditional_throughput))
            .noted("within the objectives at the lower bound"),
    ]
}

fn goal_lines(result: &SearchResult, index: usize, found: &GoalResult, section: &mut Section) {
    let finding = &found.finding;
    let name = found
        .goal
        .name
        .as_ref()
        .map_or_else(String::new, |name| format!("{name}: "));
    let terms = words::terms(found);
    section.line("goal", format!("{name}{} {terms}", found.goal));
    section.facts("bounds", bounds(result, index, found));
    let (capacity, note) = words::capacity(result, finding);
    section.line("capacity", format!("{capacity} ({note})"));
    if let Some(dependence) = words::dependence(finding) {
        section.line("trials", dependence);
    }
    section.line("ended", words::goal_end(result, index, found));
}

/// The findings for a goal, and its view of latency by load.
fn goal_on_page(result: &SearchResult, index: usize, found: &GoalResult, section: &mut Section) {
    section.judgement(Judgement {
        status: match found.finding.end {
            GoalEnd::Found => Status::Valid,
            GoalEnd::ClientLimit { .. } | GoalEnd::Unsteady => Status::Invalid,
            GoalEnd::HighestMeets | GoalEnd::LowestMisses | GoalEnd::Unfinished => Status::Suspect,
        },
        badge: found.goal.name.clone().unwrap_or_default(),
        headline: found.goal.to_string(),
        text: words::goal_end(result, index, found),
        reasons: Vec::new(),
    });
    let (capacity, mut note) = words::capacity(result, &found.finding);
    if let Some(dependence) = words::dependence(&found.finding) {
        note = format!("{note}; {dependence}");
    }
    let mut facts = vec![Fact::new("capacity", capacity).noted(note)];
    facts.extend(bounds(result, index, found));
    facts.push(
        Fact::new("must hold", percent(1.0 - found.goal.terms.exceed_ratio))
            .noted(words::terms(found)),
    );
    section.facts("", facts);
    if result.curve.iter().any(|point| point.response_ns.is_some()) {
        section.chart(charts::latency_by_load(result, index, found));
        section.note(
            "Each judged load with all its trials. Shaded is the range between the bounds; the dashed \
             line is the objective's limit for its percentile.",
        );
    }
    section.details("Loads as a table", |section| {
        section.table(curve_table(result, Some(index)));
    });
}

/// Latency by load, and the class of each load for one goal or for all.
fn curve_table(result: &SearchResult, goal: Option<usize>) -> Table {
    let rows = result.curve.iter().map(|point| {
        let response = point.response_ns.as_ref();
        let quantile = |q: f64| duration(response.and_then(|latency| latency.quantile(q)));
        let goals = goal.map_or(0..result.goals.len(), |goal| goal..goal + 1);
        [
            number(point.load),
            number(point.offered),
            number(point.achieved),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            duration(response.map(|latency| latency.max())),
            grouped(point.trials),
            goals
                .map(|goal| words::class(result, goal, point))
                .collect::<Vec<_>>()
                .join("; "),
        ]
    });
    let head = [
        words::short_unit(result.over),
        "offered /s",
        "achieved /s",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "trials",
        if goal.is_none() && result.goals.len() > 1 {
            "goals, trials that met"
        } else {
            "goal, trials that met"
        },
    ];
    let mut table = Table::new(head, rows).with_words(1);
    if goal.is_none() {
        // On a terminal, a bar follows.
        table.word_columns = 2;
    }
    table
}

/// The p99 of each load as a bar on a logarithmic scale.
fn bars(result: &SearchResult) -> Vec<String> {
    let p99s: Vec<Option<u64>> = result
        .curve
        .iter()
        .map(|point| point.response_ns.as_ref()?.quantile(0.99))
        .collect();
    let known = || p99s.iter().flatten().map(|&p99| p99.max(1) as f64);
    let least = known().fold(f64::INFINITY, f64::min);
    let most = known().fold(1.0, f64::max);
    p99s.iter()
        .map(|p99| {
            p99.map_or_else(String::new, |p99| {
                let share = (p99.max(1) as f64 / least).ln() / (most / least).ln().max(1e-9);
                "█".repeat(1 + (share * (BAR - 1) as f64).round() as usize)
            })
        })
        .collect()
}

/// The trials in order.
fn trials(result: &SearchResult, section: &mut Section) {
    if section.is_for(Medium::Terminal) {
        section.table(trials_table(result).without(&["at", "offered /s", "verdict"]));
    } else if !result.trials.is_empty() {
        section.chart(charts::course(result));
        section.details("Trials as a table", |section| {
            section.table(trials_table(result));
        });
    }
    section.line("stopped", words::end(result));
}

fn trials_table(result: &SearchResult) -> Table {
    let rows = result.trials.iter().enumerate().map(|(index, trial)| {
        let measured = trial.measured.as_ref();
        let response = measured.and_then(|figures| figures.response_ns);
        [
            (index + 1).to_string(),
            seconds(trial.start_s),
            number(trial.load),
            words::planned(trial),
            known(measured.map(|figures| number(figures.offered))),
            known(measured.map(|figures| number(figures.achieved))),
            duration(response.and_then(|latency| latency.p50)),
            duration(response.and_then(|latency| latency.p99)),
            duration(response.map(|latency| latency.max)),
            known(
                measured.map(|figures| plan_words::status(figures.verdict.status).to_lowercase()),
            ),
            words::trial_outcome(trial),
        ]
    });
    let head = [
        "trial",
        "at",
        words::short_unit(result.over),
        "window",
        "offered /s",
        "achieved /s",
        "p50",
        "p99",
        "max",
        "verdict",
        "failed",
    ];
    Table::new(head, rows).with_words(1)
}

/// The columns of a trial, and the paths of their values. The first and the last are computed.
const COLUMNS: [(&str, &str); 17] = [
    ("trial", "/"),
    ("start_s", "/start_s"),
    ("load", "/load"),
    ("planned_s", "/planned_s"),
    ("cost_s", "/cost_s"),
    ("offered", "/measured/offered"),
    ("achieved", "/measured/achieved"),
    ("due", "/measured/due"),
    ("lost_ratio", "/measured/lost_ratio"),
    ("corrupt_ratio", "/measured/corrupt_ratio"),
    ("response_p50_ns", "/measured/response_ns/p50"),
    ("response_p90_ns", "/measured/response_ns/p90"),
    ("response_p95_ns", "/measured/response_ns/p95"),
    ("response_p99_ns", "/measured/response_ns/p99"),
    ("response_p99_9_ns", "/measured/response_ns/p99_9"),
    ("response_max_ns", "/measured/response_ns/max"),
    ("outcome", "/"),
];

fn how_to_read(section: &mut Section) {
    section.list([
        "The **bounds** are loads that were tried: the highest that met the goal below the first that \
         missed it, and the lowest that missed it. Their distance is the precision of the search, not its \
         certainty.",
        "At a load, some trials may meet the goal and others miss it. **Met** and **missed** are said if \
         all trials agree or the confidence interval excludes the contrary, else **mixed**, with the \
         number of trials that met the goal.",
        "The **capacity** is the load up to which trials meet the goal as often as they must. Its \
         confidence interval holds however the search chose its trials.",
        "An objective such as p99<1ms allows 1 % of the due messages to be late, lost, failed or unsent.",
        "A trial that the client disturbed says nothing about the server, and is repeated.",
        "– stands for what is not known.",
    ]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::text;
    use crate::search::CapacityInterval;

    #[test]
    fn trials_that_depend_on_each_other_are_told_of() {
        let seed = include_bytes!("../../../../fuzz/seeds/search/unfinished");
        let mut search: SearchResult = serde_json::from_slice(seed).expect("is a search");
        for (dependence, is_told) in [(None, false), (Some(1.2), false), (Some(3.4), true)] {
            search.goals[0].finding.dependence = dependence;
            let text = text::render(&search);
            assert_eq!(text.contains("3.4 of them count as one"), is_told, "{text}");
        }
    }

    /// A load has trials of both outcomes, and the class is that of the majority: chance may have made
    /// it.
    #[test]
    fn missed_is_said_with_evidence_only() {
        let seed = include_bytes!("../../../../fuzz/seeds/search/unfinished");
        let mut search: SearchResult = serde_json::from_slice(seed).expect("is a search");
        let load = search.curve[0].load;
        let trial = search.trials.iter().find(|trial| trial.load == load);
        let trial = trial.expect("the curve is of trials").clone();
        let mut shown = |met: usize, missed: usize, class, lower, upper| {
            let outcomes = [vec![true; met], vec![false; missed]].concat();
            let trials = outcomes.into_iter().map(|is_met| {
                let mut trial = trial.clone();
                trial.judgements = vec![Some(crate::search::Judgement {
                    failed: 0.0,
                    is_met,
                })];
                trial
            });
            search.trials = trials.collect();
            search.curve.truncate(1);
            search.curve[0].classes = vec![class];
            let finding = &mut search.goals[0].finding;
            finding.interval = Some(CapacityInterval { lower, upper });
            (finding.lower, finding.upper) = match class {
                Class::Lower => (Some(load), None),
                Class::Upper => (None, Some(load)),
                Class::Undecided => (None, None),
            };
            let text = text::render(&search);
            text.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        for (met, missed, class, lower, upper, words) in [
            (2, 3, Class::Upper, None, None, "mixed, 2 of 5"),
            (2, 3, Class::Upper, None, None, "missed too often at"),
            (4, 1, Class::Lower, None, None, "mixed, 4 of 5"),
            (4, 1, Class::Lower, None, None, "met often enough at"),
            (0, 5, Class::Upper, None, None, "missed, 0 of 5"),
            (5, 0, Class::Lower, None, None, "met, 5 of 5"),
            (1, 0, Class::Undecided, None, None, "?, 1 of 1"),
            // The interval is that of all loads' trials.
            (2, 9, Class::Upper, None, Some(load), "missed, 2 of 11"),
            (9, 2, Class::Lower, Some(load), None, "met, 9 of 11"),
        ] {
            let text = shown(met, missed, class, lower, upper);
            assert!(text.contains(words), "{words} is not in {text}");
        }
    }
}
