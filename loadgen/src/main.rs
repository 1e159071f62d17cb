//! `loadgen`: the command line in, reports and an exit code out. All else is the library's.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use clap::error::ErrorKind;
use clap::{ArgMatches, FromArgMatches};
use loadgen::verdict::Status;
use loadgen::{Control, Plan, RunResult};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

mod cli;
mod feed;
mod find;
mod model;
mod outputs;
mod progress;
mod scenario;
mod tui;
mod words;

use cli::{Cli, Command, OutputArgs, RunArgs};
use outputs::Outputs;

const DONE: u8 = 0;
const FAILED: u8 = 1;
const USAGE: u8 = 2;
const INVALID: u8 = 97;
const OBJECTIVE_NOT_MET: u8 = 99;
const INTERRUPTED: u8 = 130;

fn main() -> ExitCode {
    let matches = match cli::command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => return refuse(&error),
    };
    let command = match Cli::from_arg_matches(&matches) {
        Ok(cli) => cli.command,
        Err(error) => return refuse(&error),
    };
    let outcome = match command {
        Command::Run(_) => run(&matches),
        Command::Search(_) => find::run(&matches),
        Command::Scenario(args) => scenario::run(&args),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(Failure { code, problem }) => complain(code, &problem),
    }
}

/// Why the program ends without having done what it was asked for.
#[derive(Debug)]
struct Failure {
    code: u8,
    problem: String,
}

impl Failure {
    fn usage(problem: String) -> Self {
        Self {
            code: USAGE,
            problem,
        }
    }

    fn of_run(problem: String) -> Self {
        Self {
            code: FAILED,
            problem,
        }
    }
}

/// `loadgen run`.
fn run(matches: &ArgMatches) -> Result<u8, Failure> {
    let run = matches.subcommand_matches("run").unwrap_or(matches);
    let (args, plan) = RunArgs::resolve(run).map_err(Failure::usage)?;
    let control = obey_signals()?;
    let result = measure(&args.output, &plan, &control).map_err(Failure::of_run)?;
    Ok(exit_code(&args.output, &result))
}

/// Makes one run and puts its result where it was asked for.
fn measure(args: &OutputArgs, plan: &Plan, control: &Control) -> Result<RunResult, String> {
    let mut outputs = Outputs::open(args, plan, control)?;
    let result = loadgen::run(plan, control, &mut outputs).map_err(|error| error.to_string())?;
    outputs.deliver(&result)?;
    Ok(result)
}

fn exit_code(args: &OutputArgs, result: &RunResult) -> u8 {
    if result.interrupted {
        INTERRUPTED
    } else if result.verdict.status == Status::Invalid && !args.allow_invalid {
        INVALID
    } else {
        DONE
    }
}

/// What the first SIGINT or SIGTERM ends early, with a result; the second ends the program at once.
fn obey_signals() -> Result<Control, Failure> {
    let control = Control::default();
    let stopped = control.clone();
    Signals::new([SIGINT, SIGTERM])
        .and_then(|mut signals| {
            thread::Builder::new()
                .name("loadgen-signals".to_owned())
                .spawn(move || {
                    for _ in signals.forever() {
                        if stopped.stop() {
                            tui::restore();
                            std::process::exit(INTERRUPTED.into());
                        }
                    }
                })
        })
        .map_err(|error| Failure::of_run(format!("cannot handle signals: {error}")))?;
    Ok(control)
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
    complain(USAGE, &format!("{}; see {}", cli::one_line(error), help()))
}

/// The help for the command that was called. Not every error says which that is.
fn help() -> &'static str {
    match std::env::args().nth(1).as_deref() {
        Some("scenario") => "loadgen scenario --help",
        Some("search") => "loadgen search --help",
        _ => "loadgen run --help",
    }
}

fn complain(code: u8, problem: &str) -> ExitCode {
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(io::stderr(), "loadgen: {problem}");
    ExitCode::from(code)
}
