//! `loadgen run`: one measurement.

use clap::ArgMatches;
use loadgen::result::Status;
use loadgen::{Control, Plan, RunResult};

use crate::cli::{OutputArgs, RunArgs};
use crate::commands::outputs::Outputs;
use crate::commands::signals;
use crate::exit::{DONE, Failure, INTERRUPTED, INVALID, OBJECTIVE_NOT_MET};

/// Measures, writes the result, and returns the exit code.
pub(crate) fn run(matches: &ArgMatches) -> Result<u8, Failure> {
    let run = matches.subcommand_matches("run").unwrap_or(matches);
    let (args, plan) = RunArgs::resolve(run).map_err(Failure::usage)?;
    let control = signals::stop_on_signals()?;
    let result = measure(&args.output, &plan, &control).map_err(Failure::of_run)?;
    Ok(exit_code(&args.output, &result))
}

/// Makes one run and writes its result to the outputs.
pub(crate) fn measure(
    args: &OutputArgs,
    plan: &Plan,
    control: &Control,
) -> Result<RunResult, String> {
    let mut outputs = Outputs::open(args, plan, control)?;
    let result = loadgen::run(plan, control, &mut outputs).map_err(|error| error.to_string())?;
    outputs.deliver(&result)?;
    Ok(result)
}

/// The exit code for a result.
pub(crate) fn exit_code(args: &OutputArgs, result: &RunResult) -> u8 {
    if result.interrupted {
        INTERRUPTED
    } else if result.verdict.status == Status::Invalid && !args.allow_invalid {
        INVALID
    } else if result.expected_shares.as_ref().is_some_and(|it| !it.is_met) {
        OBJECTIVE_NOT_MET
    } else {
        DONE
    }
}
