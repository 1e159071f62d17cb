//! The page of a search: what was found for each goal, latency by load, and how the search went.

use echomark::net::units::{format_duration, format_duration_ns};

use super::markup::Html;
use super::plot::{Axis, Band, Line, Marker, Plot, Shape, Stop};
use super::scale::Scale;
use super::{details, duration, known, run, seconds};
use crate::report::format::{count, grouped, number, percent};
use crate::report::text::search as words;
use crate::report::words::target;
use crate::result::{CurvePoint, GoalResult, SearchResult, TrialOutcome, TrialResult};
use crate::search::{Class, GoalEnd, Objective};

/// Loads that differ by more than this factor are drawn on a logarithmic axis.
const MANY_TIMES: f64 = 20.0;

/// The page's title.
pub(super) fn title(result: &SearchResult) -> String {
    format!("Search: {}", target(&result.plan))
}

/// Adds the whole page.
pub(super) fn write(result: &SearchResult, out: &mut Html) {
    out.fill(
        "<header>\n<p class=\"kind\">loadgen search · {}",
        &[&result.started_at],
    );
    if result.interrupted {
        out.put(" · <b>interrupted</b>");
    }
    out.fill(
        "</p>\n<h1>{}</h1>\n<p class=\"load\">{}; stopped {} after {} in {}</p>\n</header>\n",
        &[
            &target(&result.plan),
            &words::load(result),
            &words::stop(result.stop),
            &count(result.trials.len() as u64, "trial"),
            &format_duration_ns(result.spent_s * 1e9),
        ],
    );
    for (number, goal) in result.goals.iter().enumerate() {
        write_goal(result, number, goal, out);
    }
    course(result, out);
    details::plan(&result.plan, &host(result), out);
    how_to_read(out);
}

/// What was found for a goal, and latency by load as far as it is concerned.
fn write_goal(result: &SearchResult, number: usize, found: &GoalResult, out: &mut Html) {
    let finding = &found.finding;
    let class = match finding.end {
        GoalEnd::Found => "valid",
        GoalEnd::ClientLimit { .. } | GoalEnd::Unsteady => "invalid",
        GoalEnd::HighestMeets | GoalEnd::LowestMisses | GoalEnd::Unfinished => "suspect",
    };
    out.fill(
        "<section class=\"goal\">\n<div class=\"verdict {}\"><h2>",
        &[&class],
    );
    if let Some(name) = &found.goal.name {
        out.fill("<span class=\"badge\">{}</span> ", &[name]);
    }
    out.fill("{}</h2>\n", &[&found.goal]);
    out.fill(
        "<p>{}.</p></div>\n",
        &[&run::capitalised(&words::goal_end(result, found))],
    );
    goal_tiles(result, found, out);
    if result.curve.iter().any(|point| point.response_ns.is_some()) {
        curve(result, number, found).draw(out);
        out.put(
            "<p class=\"note\">Every judged load with all its trials together. Shaded is what lies \
             between the bounds; the dashed line is what the objective asks of the percentile that it \
             names.</p>\n",
        );
    }
    table(result, number, out);
    out.put("</section>\n");
}

fn goal_tiles(result: &SearchResult, found: &GoalResult, out: &mut Html) {
    let (finding, terms) = (&found.finding, &found.goal.terms);
    let load = |load: Option<f64>| known(load.map(|load| words::at(result.over, load)));
    out.put("<dl class=\"tiles\">\n");
    let sure = percent(result.confidence);
    let (capacity, note) = match &finding.interval {
        None => (
            known(None),
            "one trial decides, so nothing is known of chance".to_owned(),
        ),
        Some(interval) if interval.is_empty() => {
            (known(None), "no load fits all that was seen".to_owned())
        }
        Some(interval) => {
            let text = match (interval.lower, interval.upper) {
                (Some(lower), Some(upper)) => format!("{} to {}", number(lower), number(upper)),
                (Some(lower), None) => format!("at least {}", number(lower)),
                (None, Some(upper)) => format!("below {}", number(upper)),
                (None, None) => known(None),
            };
            let unit = words::short_unit(result.over);
            let spells = words::spells(finding).map(|spells| format!("; trials {spells}"));
            let spells = spells.unwrap_or_default();
            (text, format!("{unit}; {sure} sure{spells}"))
        }
    };
    run::tile("capacity", &capacity, &note, out);
    run::tile("met at", &load(finding.lower), "relevant lower bound", out);
    run::tile(
        "missed at",
        &load(finding.upper),
        "relevant upper bound",
        out,
    );
    run::tile(
        "apart",
        &known(finding.precision.map(percent)),
        &format!("{} asked for", percent(terms.precision)),
        out,
    );
    run::tile(
        "carried",
        &load(finding.conditional_throughput),
        "within the objectives at the lower bound",
        out,
    );
    run::tile(
        "must hold",
        &percent(1.0 - terms.exceed_ratio),
        &format!(
            "of the trials' time; trials of {} to {}, {} decide",
            format_duration(terms.initial_trial),
            format_duration(terms.final_trial),
            format_duration(terms.duration_sum)
        ),
        out,
    );
    out.put("</dl>\n");
}

fn curve(result: &SearchResult, goal: usize, found: &GoalResult) -> Plot {
    let points = &result.curve;
    let loads = load_axis(result);
    let quantile = |point: &CurvePoint, quantile: f64| {
        let value = point.response_ns.as_ref()?.quantile(quantile)?;
        Some(value.max(1) as f64)
    };
    let max = |point: &CurvePoint| Some(point.response_ns.as_ref()?.max().max(1) as f64);
    let line = |name, class, figure: &dyn Fn(&CurvePoint) -> Option<f64>| Line {
        name,
        class,
        shape: Shape::Open,
        pieces: points
            .split(|point| figure(point).is_none())
            .map(|piece| {
                let figures = piece.iter().filter_map(|p| Some((p.load, figure(p)?)));
                figures.collect()
            })
            .collect(),
    };
    let dots = |name, class, wanted: Class| Line {
        name,
        class,
        shape: Shape::Dots,
        pieces: vec![
            points
                .iter()
                .filter(|point| point.classes.get(goal) == Some(&wanted))
                .filter_map(|p| Some((p.load, quantile(p, 0.99).or_else(|| max(p))?)))
                .collect(),
        ],
    };
    let limits = found
        .goal
        .objectives
        .iter()
        .filter_map(|objective| match objective {
            Objective::Late { limit, .. } => Some(limit.as_nanos() as f64),
            Objective::Errors { .. } | Objective::Lost { .. } => None,
        });
    let limits: Vec<f64> = limits.collect();
    let figures = points
        .iter()
        .flat_map(|point| [quantile(point, 0.5), quantile(point, 0.99), max(point)])
        .flatten()
        .chain(limits.iter().copied());
    let (least, most) = figures.fold((f64::INFINITY, 1.0_f64), |(least, most), value| {
        (least.min(value), most.max(value))
    });
    let mut lines = vec![Line {
        name: if limits.is_empty() { "" } else { "objective" },
        class: "target",
        shape: Shape::Open,
        pieces: limits
            .iter()
            .map(|&limit| vec![(loads.scale.low(), limit), (loads.scale.high(), limit)])
            .collect(),
    }];
    lines.push(line("max", "max", &max));
    lines.push(line("p99", "p99", &|point| quantile(point, 0.99)));
    lines.push(line("p50", "response", &|point| quantile(point, 0.5)));
    lines.push(dots("met", "met", Class::Lower));
    lines.push(dots("missed", "missed", Class::Upper));
    lines.push(dots("undecided", "undecided", Class::Undecided));
    Plot {
        title: "Latency by load".to_owned(),
        description: format!(
            "Response times at each load for {}; a table follows",
            found.goal
        ),
        height: 280.0,
        x: loads,
        y: Axis::new(
            Scale::logarithmic(least, most),
            5,
            "response time",
            format_duration_ns,
        ),
        bands: between(found),
        markers: bound_markers(result, found),
        lines,
        whiskers: Vec::new(),
        stops: curve_stops(result, goal),
    }
}

fn curve_stops(result: &SearchResult, goal: usize) -> Vec<Stop> {
    let points = &result.curve;
    (0..points.len())
        .map(|index| {
            let point = &points[index];
            let response = point.response_ns.as_ref();
            let quantile = |q: f64| duration(response.and_then(|latency| latency.quantile(q)));
            let class = point.classes.get(goal).map_or("?", words::class);
            let before = points[index.saturating_sub(1)].load;
            let after = points[(index + 1).min(points.len() - 1)].load;
            Stop {
                from: f64::midpoint(before, point.load),
                to: f64::midpoint(point.load, after),
                at: point.load,
                dots: Vec::new(),
                text: format!(
                    "{}: {class}\nachieved {} /s\np50 {}\np99 {}\nmax {}\n{} of {}",
                    words::at(result.over, point.load),
                    number(point.achieved),
                    quantile(0.5),
                    quantile(0.99),
                    duration(response.map(|latency| latency.max())),
                    count(point.trials, "trial"),
                    format_duration_ns(point.duration_s * 1e9),
                ),
            }
        })
        .collect()
}

/// The stretch between the bounds.
fn between(found: &GoalResult) -> Vec<Band> {
    let bounds = found.finding.lower.zip(found.finding.upper);
    let band = bounds.map(|(from, to)| Band {
        from,
        to,
        class: "band after",
    });
    band.into_iter().collect()
}

fn bound_markers(result: &SearchResult, found: &GoalResult) -> Vec<Marker> {
    let client = result.client_limit.map(|at| Marker {
        at,
        class: "limit",
        label: "the client's limit".to_owned(),
    });
    let lower = found.finding.lower.map(|at| Marker {
        at,
        class: "limit",
        label: format!("met at {}", words::at(result.over, at)),
    });
    lower.into_iter().chain(client).collect()
}

/// The loads that were tried.
fn load_axis(result: &SearchResult) -> Axis {
    let loads = || result.curve.iter().map(|point| point.load);
    let least = loads().fold(f64::INFINITY, f64::min);
    let most = loads().fold(0.0, f64::max);
    let scale = if most > least * MANY_TIMES {
        Scale::logarithmic(least, most)
    } else {
        Scale::linear(least.min(most), most)
    };
    Axis::new(scale, 7, words::short_unit(result.over), number)
}

fn table(result: &SearchResult, goal: usize, out: &mut Html) {
    out.put("<details><summary>Loads as a table</summary>\n");
    let rows = result.curve.iter().map(|point| {
        let response = point.response_ns.as_ref();
        let quantile = |q: f64| duration(response.and_then(|latency| latency.quantile(q)));
        vec![
            number(point.load),
            number(point.offered),
            number(point.achieved),
            quantile(0.5),
            quantile(0.9),
            quantile(0.99),
            quantile(0.999),
            duration(response.map(|latency| latency.max())),
            grouped(point.trials),
            point.classes.get(goal).map_or("?", words::class).to_owned(),
        ]
    });
    out.table(
        &[
            words::short_unit(result.over),
            "offered /s",
            "achieved /s",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "trials",
            "goal",
        ],
        rows,
    );
    out.put("</details>\n");
}

/// How the search went from trial to trial.
fn course(result: &SearchResult, out: &mut Html) {
    if result.trials.is_empty() {
        return;
    }
    out.put("<section id=\"trials\"><h2>Trials</h2>\n");
    course_plot(result).draw(out);
    out.put("<details><summary>Trials as a table</summary>\n");
    let head = [
        "trial",
        "at",
        "load",
        "window",
        "offered /s",
        "achieved /s",
        "p50",
        "p99",
        "max",
        "verdict",
        "outcome",
    ];
    let rows = result.trials.iter().enumerate().map(|(index, trial)| {
        let measured = trial.measured.as_ref();
        let response = measured.and_then(|figures| figures.response_ns);
        vec![
            (index + 1).to_string(),
            format!("{} s", seconds(trial.start_s)),
            number(trial.load),
            format!("{} s", seconds(trial.planned_s)),
            known(measured.map(|figures| number(figures.offered))),
            known(measured.map(|figures| number(figures.achieved))),
            duration(response.and_then(|latency| latency.p50)),
            duration(response.and_then(|latency| latency.p99)),
            duration(response.map(|latency| latency.max)),
            known(measured.map(|figures| {
                crate::report::words::status(figures.verdict.status).to_lowercase()
            })),
            words::trial_outcome(trial),
        ]
    });
    out.table(&head, rows);
    out.put("</details>\n</section>\n");
}

fn course_plot(result: &SearchResult) -> Plot {
    let end = |trial: &TrialResult| trial.start_s + trial.cost_s.max(0.0);
    let last = result.trials.iter().map(end).fold(1e-3, f64::max);
    let loads = || result.trials.iter().map(|trial| trial.load);
    let least = loads().fold(f64::INFINITY, f64::min);
    let of = |name, class, is_it: &dyn Fn(&TrialResult) -> bool| Line {
        name,
        class,
        shape: Shape::Dots,
        pieces: vec![
            result
                .trials
                .iter()
                .filter(|trial| is_it(trial))
                .map(|trial| (f64::midpoint(trial.start_s, end(trial)), trial.load))
                .collect(),
        ],
    };
    let is_judged = |trial: &TrialResult| trial.outcome == TrialOutcome::Judged;
    let meets_all = |trial: &TrialResult| {
        trial
            .judgements
            .iter()
            .all(|judgement| judgement.is_some_and(|judgement| judgement.is_met))
    };
    let unit = words::short_unit(result.over);
    Plot {
        title: "The course of the search".to_owned(),
        description: "The load of each trial, in the order in which they were made".to_owned(),
        height: 200.0,
        x: Axis::new(Scale::linear(0.0, last), 8, "time", |tick| {
            format!("{} s", seconds(tick))
        }),
        y: Axis::new(
            Scale::logarithmic(least, loads().fold(1.0, f64::max)),
            5,
            unit,
            number,
        ),
        bands: Vec::new(),
        markers: Vec::new(),
        lines: vec![
            of("met", "met", &|trial| is_judged(trial) && meets_all(trial)),
            of("missed", "missed", &|trial| {
                is_judged(trial) && !meets_all(trial)
            }),
            of("the client's, or not ended", "undecided", &|trial| {
                !is_judged(trial)
            }),
        ],
        whiskers: Vec::new(),
        stops: result
            .trials
            .iter()
            .enumerate()
            .map(|(index, trial)| Stop {
                from: trial.start_s,
                to: end(trial),
                at: f64::midpoint(trial.start_s, end(trial)),
                dots: Vec::new(),
                text: format!(
                    "trial {}: {}\nwindow of {}\n{}",
                    index + 1,
                    words::at(result.over, trial.load),
                    words::planned(trial),
                    words::trial_outcome(trial)
                ),
            })
            .collect(),
    }
}

fn host(result: &SearchResult) -> Vec<Vec<String>> {
    let mut rows = details::flat(&result.host);
    rows.push(vec![
        "tool".to_owned(),
        format!("{} {}", result.tool.name, result.tool.version),
    ]);
    rows.push(vec!["started_at".to_owned(), result.started_at.clone()]);
    rows.push(vec!["confidence".to_owned(), result.confidence.to_string()]);
    rows.extend(details::flat(&result.limits));
    rows
}

fn how_to_read(out: &mut Html) {
    out.put(
        "<section id=\"reading\"><h2>How to read this</h2>\n<ul class=\"reading\">\n\
         <li>The <b>bounds</b> are loads that were tried: the highest that met the goal below the first \
         that missed it, and the lowest that missed it. How close they are is the precision of the \
         search, not its certainty.</li>\n\
         <li>The <b>capacity</b> is the load up to which a trial meets the goal as often as it must; the \
         interval says where it lies, however the search chose its trials.</li>\n\
         <li>An objective such as p99&lt;1ms allows 1 % of the messages that were due to be late, lost, \
         failed or unsent.</li>\n\
         <li>A trial that the client spoilt says nothing of the server, and is made again.</li>\n\
         <li>– stands for what is not known.</li>\n\
         </ul></section>\n",
    );
}
