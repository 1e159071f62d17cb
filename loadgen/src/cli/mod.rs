//! The command line of `loadgen`. Only this folder knows clap; what leaves it is a typed
//! [`Plan`](loadgen::Plan) and where to put the result.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

mod parse;
mod plan_args;

pub(crate) use plan_args::PlanArgs;

/// Measures latency and throughput of echo servers, truthfully.
#[derive(Debug, Parser)]
#[command(name = "loadgen", version, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Measure once
    Run(Box<RunArgs>),
}

#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) plan: PlanArgs,

    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Where the result goes.
#[derive(Args, Debug)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write the result here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-")]
    pub(crate) json: Option<PathBuf>,

    /// Write the histograms of every interval here while running: an HdrHistogram interval log
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,

    /// Write the intervals here as CSV
    #[arg(long, value_name = "FILE")]
    pub(crate) csv: Option<PathBuf>,

    /// Write each interval here as a line of JSON while running; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-")]
    pub(crate) ndjson: Option<PathBuf>,

    /// Write the result here in Prometheus' text format, to be pushed or collected
    #[arg(long, value_name = "FILE")]
    pub(crate) prometheus: Option<PathBuf>,

    /// Exit with 0 even if the verdict is invalid
    #[arg(long)]
    pub(crate) allow_invalid: bool,

    /// No progress and no table
    #[arg(short, long, conflicts_with = "tui")]
    pub(crate) quiet: bool,

    /// Watch the run on the whole terminal; keys end it and change its rate
    #[arg(long)]
    pub(crate) tui: bool,
}
