//! `loadgen`: the command line in, reports and an exit code out. All else is the library's.

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;
use std::thread;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};
use loadgen::verdict::Status;
use loadgen::{Control, Plan, RunResult};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod cli;
mod feed;
mod model;
mod outputs;
mod progress;
mod tui;
mod words;

use cli::{Cli, Command, OutputArgs, RunArgs};
use outputs::Outputs;

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
    let control = Control::default();
    if let Err(error) = obey_signals(control.clone()) {
        return complain(FAILED, &format!("cannot handle signals: {error}"));
    }
    match measure(&args.output, &plan, &control) {
        Ok(result) => exit_code(&args.output, &result),
        Err(problem) => complain(FAILED, &problem),
    }
}

/// Makes one run and puts its result where it was asked for.
fn measure(args: &OutputArgs, plan: &Plan, control: &Control) -> Result<RunResult, String> {
    let mut outputs = Outputs::open(args, plan, control)?;
    let result = loadgen::run(plan, control, &mut outputs).map_err(|error| error.to_string())?;
    outputs.deliver(&result)?;
    Ok(result)
}

/// Resolves the command line to a plan.
fn plan_of(matches: &ArgMatches) -> Result<(Box<RunArgs>, Plan), String> {
    let Cli {
        command: Command::Run(args),
    } = Cli::from_arg_matches(matches).map_err(|error| error.to_string())?;
    let is_given = |name: &str| {
        matches
            .subcommand()
            .and_then(|(_, run)| run.value_source(name))
            == Some(ValueSource::CommandLine)
    };
    let plan = args.plan.to_plan(is_given)?;
    if args.output.tui && !io::stderr().is_terminal() {
        return Err("--tui draws on a terminal, and stderr is none; run without it".to_owned());
    }
    Ok((args, plan))
}

fn exit_code(args: &OutputArgs, result: &RunResult) -> ExitCode {
    if result.interrupted {
        ExitCode::from(INTERRUPTED)
    } else if result.verdict.status == Status::Invalid && !args.allow_invalid {
        ExitCode::from(INVALID)
    } else {
        ExitCode::SUCCESS
    }
}

/// The first SIGINT or SIGTERM ends the run early with a result, the second at once without one.
fn obey_signals(control: Control) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::Builder::new()
        .name("loadgen-signals".to_owned())
        .spawn(move || {
            for _ in signals.forever() {
                if control.stop() {
                    tui::restore();
                    std::process::exit(INTERRUPTED.into());
                }
            }
        })?;
    Ok(())
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
