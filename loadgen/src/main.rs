//! `loadgen`: the command line in, reports and an exit code out. All else is the library's.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use echomark::net::units::format_duration_ns;
use loadgen::report::{json, text};
use loadgen::result::IntervalResult;
use loadgen::verdict::Status;
use loadgen::{Plan, RunResult};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod cli;

use cli::{Cli, Command, RunArgs};

const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INVALID: u8 = 97;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let matches = match Cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let (args, plan) = match plan_of(&matches) {
        Ok(resolved) => resolved,
        Err(problem) => return complain(USAGE, &problem),
    };
    let stop = Arc::new(AtomicBool::new(false));
    if let Err(error) = obey_signals(Arc::clone(&stop)) {
        return complain(FAILED, &format!("cannot handle signals: {error}"));
    }
    let shows_progress = !args.quiet && io::stderr().is_terminal();
    let result = loadgen::run(&plan, &stop, &mut |interval| {
        if shows_progress {
            print_progress(interval);
        }
    });
    match result {
        Ok(result) => match deliver(&args, &result) {
            Ok(()) => exit_code(&args, &result),
            Err(problem) => complain(FAILED, &problem),
        },
        Err(error) => complain(FAILED, &error.to_string()),
    }
}

/// Resolves the command line to a plan.
fn plan_of(matches: &ArgMatches) -> Result<(RunArgs, Plan), String> {
    let Cli {
        command: Command::Run(args),
    } = Cli::from_arg_matches(matches).map_err(|error| error.to_string())?;
    let is_given = |name: &str| {
        matches
            .subcommand()
            .and_then(|(_, run)| run.value_source(name))
            == Some(ValueSource::CommandLine)
    };
    let plan = args.to_plan(is_given)?;
    Ok((args, plan))
}

/// Puts the result where it was asked for.
fn deliver(args: &RunArgs, result: &RunResult) -> Result<(), String> {
    let is_json_on_stdout = args.json.as_deref() == Some(Path::new("-"));
    if !args.quiet && !is_json_on_stdout {
        io::stdout()
            .write_all(text::render(result).as_bytes())
            .map_err(|error| format!("cannot write to stdout: {error}"))?;
    }
    let Some(path) = &args.json else {
        return Ok(());
    };
    let written = if is_json_on_stdout {
        json::write(result, io::stdout().lock())
    } else {
        File::create(path).and_then(|file| json::write(result, io::BufWriter::new(file)))
    };
    written.map_err(|error| format!("cannot write the result to {}: {error}", path.display()))
}

fn exit_code(args: &RunArgs, result: &RunResult) -> ExitCode {
    if result.interrupted {
        ExitCode::from(INTERRUPTED)
    } else if result.verdict.status == Status::Invalid && !args.allow_invalid {
        ExitCode::from(INVALID)
    } else {
        ExitCode::SUCCESS
    }
}

/// The first SIGINT or SIGTERM ends the run early with a result, the second at once without one.
fn obey_signals(stop: Arc<AtomicBool>) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("loadgen-signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if stop.swap(true, Ordering::Relaxed) {
                    std::process::exit(INTERRUPTED.into());
                }
            }
        })?;
    Ok(())
}

fn print_progress(interval: &IntervalResult) {
    let seconds = (interval.end_s - interval.start_s).max(f64::MIN_POSITIVE);
    let latency = interval.response.map_or_else(String::new, |response| {
        let p50 = response.p50.map_or_else(
            || "-".to_owned(),
            |nanoseconds| format_duration_ns(nanoseconds as f64),
        );
        format!(
            "   p50 {p50}   max {}",
            format_duration_ns(response.max as f64)
        )
    });
    // Progress that nobody can read any more is no reason to stop.
    let _ = writeln!(
        io::stderr(),
        "{:>6.1} s   {:>9.0} /s{latency}",
        interval.end_s,
        interval.received as f64 / seconds,
    );
}

/// Help and version go to stdout; a usage error becomes one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // A reader that closed the pipe has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let _ = error.print();
        return ExitCode::from(USAGE);
    }
    let text = error.render().to_string();
    let problem = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_start_matches("error: "))
        .collect::<Vec<_>>()
        .join("; ");
    complain(USAGE, &format!("{problem}; see loadgen run --help"))
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "loadgen: {problem}");
    ExitCode::from(code)
}
