//! `loadgen search`: trials until the capacity is found.

use std::io;
use std::time::{Duration, Instant};

use clap::ArgMatches;
use loadgen::SearchResult;
use loadgen::observer::Unobserved;
use loadgen::report::{format, json};
use loadgen::result::TrialResult;
use loadgen::search::{Axis, GoalEnd, Search, StopReason};
use loadgen::trials::{self, Exchange, SearchObserver};

use crate::cli::{SearchArgs, is_stdout};
use crate::commands::outputs::{self, OutputFile};
use crate::commands::signals;
use crate::exit::{DONE, FAILED, Failure, INTERRUPTED, INVALID, OBJECTIVE_NOT_MET};
use crate::terminal::progress;

/// Searches and writes the result to the outputs. Returns the exit code.
pub(crate) fn run(matches: &ArgMatches) -> Result<u8, Failure> {
    let search = matches.subcommand_matches("search").unwrap_or(matches);
    let (args, plan) = SearchArgs::resolve(search).map_err(Failure::usage)?;
    let file = match args.json.as_deref() {
        Some(path) if !is_stdout(path) => Some(
            OutputFile::open(path)
                .map_err(|error| Failure::of_run(outputs::problem(path, error)))?,
        ),
        _ => None,
    };
    let control = signals::stop_on_signals()?;
    let mut line = Line::start();
    let observer: &mut dyn SearchObserver = if args.quiet || !progress::is_possible() {
        &mut Unobserved
    } else {
        &mut line
    };
    let result = match args.exchange.folder() {
        None => trials::find(&plan, &control, observer),
        Some((folder, timeout)) => Exchange::join(folder, &plan, timeout, &control)
            .and_then(|mut all| trials::find_together(&plan, &mut all, &control, observer)),
    };
    drop(line);
    let result = result.map_err(|error| Failure::of_run(error.to_string()))?;
    deliver(&args, file, &result).map_err(Failure::of_run)?;
    exit_code(&result)
}

fn deliver(
    args: &SearchArgs,
    file: Option<OutputFile>,
    result: &SearchResult,
) -> Result<(), String> {
    let Some(path) = args.json.as_deref() else {
        return page(args, result);
    };
    let written = match file {
        Some(file) => file.write(|out| json::write(result, out)),
        None => json::write(result, io::BufWriter::new(io::stdout().lock())),
    };
    let written = written.map_err(|error| outputs::problem(path, error));
    if is_stdout(path) {
        return written;
    }
    // If one output fails, the others are still written.
    page(args, result).and(written)
}

fn page(args: &SearchArgs, result: &SearchResult) -> Result<(), String> {
    if args.quiet {
        return Ok(());
    }
    outputs::print(result).map_err(|error| format!("cannot write to stdout: {error}"))
}

/// The worst exit code of all goals: an unreliable result, then a missed objective, then too little
/// evidence.
fn exit_code(result: &SearchResult) -> Result<u8, Failure> {
    if result.interrupted {
        return Ok(INTERRUPTED);
    }
    let codes = result.goals.iter().map(|goal| {
        match goal.finding.end {
            GoalEnd::Found | GoalEnd::HighestMeets => DONE,
            GoalEnd::ClientLimit { .. } | GoalEnd::Unsteady => INVALID,
            GoalEnd::LowestMisses => OBJECTIVE_NOT_MET,
            // Bounds that may be due to chance can be far off if trials vary much.
            GoalEnd::Unfinished => FAILED,
        }
    });
    let codes: Vec<u8> = codes.collect();
    let worst = [INVALID, OBJECTIVE_NOT_MET, FAILED]
        .into_iter()
        .find(|code| codes.contains(code))
        .unwrap_or(DONE);
    match worst {
        FAILED if result.stop == StopReason::TargetLost => Err(Failure::of_run(format!(
            "the target takes no connections any more: {}",
            last_error(result)
        ))),
        FAILED => Err(Failure::of_run(
            "the search ended before the capacity was known; allow more time (--max-time), more \
             trials (--max-trials) or bounds farther apart (--precision)"
                .to_owned(),
        )),
        code => Ok(code),
    }
}

fn last_error(result: &SearchResult) -> &str {
    let errors = result.trials.iter().rev();
    errors
        .filter_map(|trial| trial.error.as_deref())
        .next()
        .unwrap_or("it was lost")
}

/// The progress line of a search, rewritten for each trial.
struct Line {
    began: Instant,
    is_shown: bool,
}

impl Line {
    fn start() -> Self {
        Self {
            began: Instant::now(),
            is_shown: false,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.is_shown {
            progress::write("");
        }
    }
}

impl SearchObserver for Line {
    fn trial(&mut self, search: &Search, trials: &[TrialResult], load: f64, window: Duration) {
        self.is_shown = true;
        let spent = format::clock(self.began.elapsed());
        progress::write(&progress::fitted(&news(
            search,
            trials.len() + 1,
            load,
            window,
            &spent,
        )));
    }
}

/// The parts of the line, most important first.
fn news(search: &Search, trial: usize, load: f64, window: Duration, spent: &str) -> Vec<String> {
    let unit = match search.axis() {
        Axis::Rate => "/s",
        Axis::Connections => "connections",
    };
    let bound = |bound: Option<f64>| bound.map_or_else(|| "?".to_owned(), format::number);
    let mut parts = vec![
        format!("trial {trial}"),
        format!(
            "{} {unit} for {}",
            format::number(load),
            format::clock(window)
        ),
    ];
    for (goal, finding) in search.goals().iter().zip(search.findings()) {
        parts.push(format!(
            "{} {} to {}",
            goal.name.clone().unwrap_or_else(|| goal.to_string()),
            bound(finding.lower),
            bound(finding.upper)
        ));
    }
    parts.push(spent.to_owned());
    parts
}
