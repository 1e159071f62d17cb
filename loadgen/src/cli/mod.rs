//! The command line of `loadgen`. Only this folder uses clap. It returns a typed
//! [`Plan`](loadgen::Plan) and the outputs.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use loadgen::Plan;

use crate::exit::{Failure, USAGE};

mod compare_args;
mod exchange_args;
mod keys;
mod launcher;
mod manual;
mod output_args;
mod parse;
mod place;
mod plan_args;
mod report_args;
mod search_args;
mod shard_args;
mod target_args;
mod tls_args;
mod watch_args;

pub(crate) use compare_args::{Comparands, CompareArgs, ServerArg, SideArg};
pub(crate) use keys::{Keys, Kind};
pub(crate) use manual::{CompletionsArgs, ManArgs};
pub(crate) use output_args::OutputArgs;
pub(crate) use place::{is_same, is_stdout};
pub(crate) use plan_args::PlanArgs;
pub(crate) use report_args::{Format, ReportArgs};
pub(crate) use search_args::SearchArgs;
pub(crate) use shard_args::ShardArgs;
pub(crate) use watch_args::WatchArgs;

/// What to try first. It is also the answer to a call without arguments.
const START: &str = "\
To begin with:
  loadgen run                                         an echod inside of it, over loopback
  loadgen run tcp://HOST:PORT -c 50 -R 20k            latency at 20 000 messages per second
  loadgen search tcp://HOST:PORT --slo 'p99<1ms'      the highest rate that meets this
  loadgen compare tcp://HOST:PORT tcp://HOST:PORT     which of two servers is better
  loadgen watch tcp://HOST:PORT                       how long it does not answer, and why
loadgen run --help has the options, loadgen man run the page of the manual.";

/// Measures latency and throughput of echo servers, truthfully.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 100, after_help = START)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// The definition of the command line.
pub(crate) fn command() -> clap::Command {
    Cli::command().mut_subcommand("search", |search| {
        // A search refuses these with a hint. They would only lengthen its help.
        ["duration", "requests", "repeat", "start_at"]
            .into_iter()
            .fold(search, |search, name| {
                search.mut_arg(name, |argument| argument.hide(true))
            })
            .mut_arg("warmup", |argument| {
                argument.help(
                    "Time before the window of each trial in which messages flow and are not counted \
                     [default: half of --trial, 1s at most]",
                )
            })
            .mut_arg("timeout", |argument| {
                argument.help(
                    "Timeout of a connect or an echo [default: 1s, or twice the longest time of an \
                     objective]",
                )
            })
            .mut_arg("rate", |argument| {
                argument.help(
                    "With --over connections: messages per second over all of them; without it, each \
                     has one in flight (-p)",
                )
            })
    })
}

/// Parses the command line. Help, the version and usage errors are printed here, and return an exit
/// code.
pub(crate) fn parse() -> Result<(Command, ArgMatches), ExitCode> {
    let matches = command()
        .try_get_matches()
        .map_err(|error| refuse(&error))?;
    match Cli::from_arg_matches(&matches) {
        Ok(cli) => Ok((cli.command, matches)),
        Err(error) => Err(refuse(&error)),
    }
}

/// Help and version go to stdout; a usage error becomes one line.
fn refuse(error: &clap::Error) -> ExitCode {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // If the reader closed the pipe, it needs no more.
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(USAGE)
        }
        _ => {
            let problem = hint(error).unwrap_or_else(|| one_line(error));
            Failure::usage(format!("{problem}; see {}", help())).report()
        }
    }
}

/// What helps more than clap's own words.
fn hint(error: &clap::Error) -> Option<String> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let called = text(ContextKind::InvalidSubcommand)?;
            if parse::is_like_an_endpoint(called) {
                return Some(format!(
                    "`{called}` is no command; did you mean loadgen run {called}?"
                ));
            }
            if let Some(ContextValue::Strings(alike)) = error.get(ContextKind::SuggestedSubcommand)
                && let Some(alike) = alike.first()
            {
                return Some(format!(
                    "`{called}` is no command; did you mean loadgen {alike}?"
                ));
            }
            let command = command();
            // As in the help.
            let mut commands: Vec<&clap::Command> = command.get_subcommands().collect();
            commands.sort_by_key(|command| command.get_display_order());
            let names: Vec<&str> = commands.iter().map(|command| command.get_name()).collect();
            let names = names.join(", ");
            Some(format!(
                "`{called}` is no command; the commands are {names}"
            ))
        }
        ErrorKind::UnknownArgument => {
            let unknown = text(ContextKind::InvalidArg)?;
            let is_number = |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit());
            let negative = unknown.strip_prefix('-').is_some_and(is_number);
            // clap names the first letter only.
            let given = std::env::args().find(|argument| argument.starts_with(unknown));
            negative.then(|| format!("{}: no value is negative", given.unwrap_or_default()))
        }
        _ => None,
    }
}

/// The help of the called command.
fn help() -> String {
    let called = std::env::args().nth(1).unwrap_or_default();
    match command().find_subcommand(&called) {
        Some(known) => format!("loadgen {} --help", known.get_name()),
        None => "loadgen --help".to_owned(),
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure once
    Run(Box<RunArgs>),
    /// Find the highest load that meets objectives
    Search(Box<SearchArgs>),
    /// Compare two servers, measured in turn, or two results
    Compare(Box<CompareArgs>),
    /// Watch for outages, their causes and lengths, until stopped
    Watch(Box<WatchArgs>),
    /// Add up the results of several hosts or processes that measured at the same time
    Merge(MergeArgs),
    /// Make the runs of a file one after the other, and put a result of each into a folder
    Scenario(ScenarioArgs),
    /// Show a stored result as a page, a text, a table
    Report(ReportArgs),
    /// Print a page of the manual, in roff for man(1)
    Man(ManArgs),
    /// Print completions for a shell
    Completions(CompletionsArgs),
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    #[command(flatten)]
    pub(crate) shard: ShardArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

impl RunArgs {
    /// Resolves the matches of `run`.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn resolve(run: &ArgMatches) -> Result<(Self, Plan), String> {
        let args = Self::from_arg_matches(run).map_err(|error| one_line(&error))?;
        let is_given = |name: &str| run.value_source(name) == Some(ValueSource::CommandLine);
        let mut plan = args.plan.to_plan(is_given)?;
        args.shard.apply(&mut plan, is_given)?;
        args.shard.fit_threads(&mut plan, is_given)?;
        args.output.check()?;
        if plan.shard.is_some() && args.output.tui {
            return Err(
                "--tui can change the rate, and the other shards would not know (--rank)"
                    .to_owned(),
            );
        }
        Ok((args, plan))
    }
}

#[derive(Args, Debug)]
pub(crate) struct MergeArgs {
    /// The results, of one plan: the shards of a run (--rank), or runs whose rates, connections,
    /// threads and targets may differ; -: from stdin, one after the other, as logs have them
    #[arg(value_name = "RESULT|-", required = true)]
    pub(crate) results: Vec<PathBuf>,

    /// Write the union here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output)]
    pub(crate) json: Option<PathBuf>,

    /// Exit with 0 even if the verdict is invalid
    #[arg(long)]
    pub(crate) allow_invalid: bool,

    /// No table
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

#[derive(Args, Debug)]
pub(crate) struct ScenarioArgs {
    /// The runs, in TOML: a table [[run]] for each, with a name and the options of run as keys;
    /// [defaults] holds for all
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,

    /// Put the results here, NAME.json for each run
    #[arg(short, long, value_name = "DIR", default_value = ".")]
    pub(crate) output: PathBuf,

    /// Make only the run of this name; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) only: Vec<String>,

    /// Check the file and make no run
    #[arg(long)]
    pub(crate) check: bool,
}

/// The error of a command line, without the usage and hints around it.
pub(crate) fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    text.lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .map(|line| line.trim_start_matches("error: "))
        .collect::<Vec<_>>()
        .join("; ")
}
