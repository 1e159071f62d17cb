//! `loadgen`: parses the command line, runs the command, and returns its exit code. The library
//! does the rest.

use std::process::ExitCode;

mod cli;
mod commands;
mod exit;
mod terminal;

use cli::Command;
use commands::{compare, man, merge, report, run, scenario, search, watch};

fn main() -> ExitCode {
    let (command, matches) = match cli::parse() {
        Ok(parsed) => parsed,
        Err(exit_code) => return exit_code,
    };
    let outcome = match command {
        Command::Run(_) => run::run(&matches),
        Command::Search(_) => search::run(&matches),
        Command::Compare(_) => compare::run(&matches),
        Command::Watch(args) => watch::run(&args),
        Command::Merge(args) => merge::run(&args),
        Command::Scenario(args) => scenario::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Completions(args) => man::completions(&args),
    };
    outcome.map_or_else(|failure| failure.report(), ExitCode::from)
}
