//! `loadgen scenario`: the runs of a file, one after the other.

use std::fs;
use std::io::{self, Write};

use echomark::net::units::format_duration_ns;
use loadgen::report::format;
use loadgen::result::Status;
use loadgen::{Control, RunResult};

use crate::cli::ScenarioArgs;
use crate::commands::run::{exit_code, measure};
use crate::commands::signals;
use crate::exit::{DONE, FAILED, Failure, INTERRUPTED, INVALID, complain};

mod file;

use file::Run;

/// Checks the whole file, makes its runs in order, and reports each. If a run fails, the next is
/// still made. Returns the exit code, the worst of all runs.
pub(crate) fn run(args: &ScenarioArgs) -> Result<u8, Failure> {
    let file = args.file.display();
    let text = fs::read_to_string(&args.file)
        .map_err(|error| Failure::usage(format!("cannot read {file}: {error}")))?;
    let runs = file::parse(&file.to_string(), &text, &args.output).map_err(Failure::usage)?;
    let runs = selected(runs, &args.only)
        .map_err(|problem| Failure::usage(format!("{file}: {problem}")))?;
    if args.check {
        let count = runs.len();
        let plural = if count == 1 { "" } else { "s" };
        return say(&format!("{file}: {count} run{plural}, nothing wrong\n")).map(|()| DONE);
    }
    fs::create_dir_all(&args.output).map_err(|error| {
        Failure::of_run(format!("cannot create {}: {error}", args.output.display()))
    })?;
    let control = signals::stop_on_signals()?;
    let mut code = DONE;
    let mut summary = String::from(HEADLINE);
    for (index, run) in runs.iter().enumerate() {
        if control.is_stopped() {
            code = INTERRUPTED;
            summary.push_str(&line(&run.name, "not made"));
            continue;
        }
        say(&format!(
            "run       {} ({} of {})\n",
            run.name,
            index + 1,
            runs.len()
        ))?;
        let (own_code, own_line) = make(run, &control)?;
        code = worse(code, own_code);
        summary.push_str(&own_line);
        say("\n")?;
    }
    say(&summary)?;
    Ok(code)
}

/// The selected runs.
fn selected(runs: Vec<Run>, names: &[String]) -> Result<Vec<Run>, String> {
    if names.is_empty() {
        return Ok(runs);
    }
    if let Some(unknown) = names
        .iter()
        .find(|name| runs.iter().all(|run| run.name != **name))
    {
        return Err(format!("there is no run `{unknown}` (--only)"));
    }
    Ok(runs
        .into_iter()
        .filter(|run| names.contains(&run.name))
        .collect())
}

/// Makes one run. Returns its exit code and its line of the summary.
fn make(run: &Run, control: &Control) -> Result<(u8, String), Failure> {
    let result = match measure(&run.output, &run.plan, control) {
        Ok(result) => result,
        Err(problem) => {
            complain(&format!("{}: {problem}", run.name));
            return Ok((FAILED, line(&run.name, "failed")));
        }
    };
    Ok((
        exit_code(&run.output, &result),
        result_line(&run.name, &result),
    ))
}

/// An interruption ends everything. A failed run is worse than an unreliable one.
fn worse(a: u8, b: u8) -> u8 {
    [INTERRUPTED, FAILED, INVALID]
        .into_iter()
        .find(|&code| a == code || b == code)
        .unwrap_or(DONE)
}

const HEADLINE: &str =
    "run                             achieved       p50       p99       max  verdict\n";

fn result_line(name: &str, result: &RunResult) -> String {
    let response = result.latency_ns.response.as_ref();
    let cell = |nanoseconds: Option<u64>| {
        nanoseconds.map_or_else(|| "-".to_owned(), |value| format_duration_ns(value as f64))
    };
    let status = match result.verdict.status {
        Status::Valid => "valid",
        Status::Suspect => "suspect",
        Status::Invalid => "invalid",
    };
    let interrupted = if result.interrupted {
        ", interrupted"
    } else {
        ""
    };
    format!(
        "{name:<24}{:>13} /s{:>10}{:>10}{:>10}  {status}{interrupted}\n",
        format::number(result.rate.achieved),
        cell(response.and_then(|latency| latency.quantile(0.5))),
        cell(response.and_then(|latency| latency.quantile(0.99))),
        cell(response.map(|latency| latency.max())),
    )
}

/// The line of a run that has no result.
fn line(name: &str, what: &str) -> String {
    format!("{name:<72}{what}\n")
}

fn say(text: &str) -> Result<(), Failure> {
    io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| Failure::of_run(format!("cannot write to stdout: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_code_is_that_of_all() {
        for (a, b, worst) in [
            (DONE, DONE, DONE),
            (DONE, INVALID, INVALID),
            (FAILED, INVALID, FAILED),
            (INVALID, FAILED, FAILED),
            (INTERRUPTED, FAILED, INTERRUPTED),
            (FAILED, DONE, FAILED),
        ] {
            assert_eq!(worse(a, b), worst);
        }
    }
}
