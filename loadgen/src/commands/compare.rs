//! `loadgen compare`: two stored results, or two servers measured in rounds.

use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use clap::ArgMatches;
use echomark::net::clock::monotonic_ns;
use loadgen::compare::{
    self, Comparand, Criteria, End, Measured, Named, NamedResult, Round, Setting,
};
use loadgen::observer::Unobserved;
use loadgen::plan::{Direction, Plan};
use loadgen::report::{Report, json, words};
use loadgen::result::comparison::{ComparedSide, Comparison, ComparisonVerdict, Side, Source};
use loadgen::result::{SideBySide, Status, Stored};
use loadgen::{Control, RunResult};
use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::cli::{Comparands, CompareArgs, ServerArg, SideArg, is_stdout};
use crate::commands::outputs::{self, OutputFile, not_written};
use crate::commands::servers::Server;
use crate::commands::{signals, stored};
use crate::exit::{DONE, Failure, INTERRUPTED, INVALID, REGRESSION};
use crate::terminal::progress;

/// Compares, writes the result, and returns the exit code.
pub(crate) fn run(matches: &ArgMatches) -> Result<u8, Failure> {
    let compare = matches.subcommand_matches("compare").unwrap_or(matches);
    let (args, comparands) = CompareArgs::resolve(compare).map_err(Failure::usage)?;
    let args = &args;
    if let Comparands::Results(base, new) = &comparands {
        stored::keep(&[base, new], args.json.as_deref())?;
    }
    let file = args
        .json
        .as_deref()
        .filter(|path| !is_stdout(path))
        .map(|path| OutputFile::open(path).map_err(|error| not_written(path, error)))
        .transpose()?;
    let comparison = match &comparands {
        Comparands::Results(base, new) => match Results::read(base, new)? {
            Results::Runs(results) => of_results(args, [base, new], &results)?,
            Results::Imported(beside) => {
                deliver(args, file, &*beside)?;
                return Ok(DONE);
            }
        },
        Comparands::Servers { base, new, looks } => {
            Rounds::new(args, [base, new], looks)?.make()?
        }
    };
    deliver(args, file, &comparison)?;
    Ok(exit_code(args, &comparison))
}

fn exit_code(args: &CompareArgs, comparison: &Comparison) -> u8 {
    if comparison.interrupted && comparison.base.source != Source::Result {
        INTERRUPTED
    } else if comparison.validity.status == Status::Invalid && !args.allow_invalid {
        INVALID
    } else if comparison.verdict == ComparisonVerdict::Regression {
        REGRESSION
    } else {
        DONE
    }
}

fn deliver<T: Report + Serialize>(
    args: &CompareArgs,
    file: Option<OutputFile>,
    comparison: &T,
) -> Result<(), Failure> {
    let stdout = Path::new("-");
    if let (Some(file), Some(path)) = (file, &args.json) {
        file.write(|out| json::write(comparison, out))
            .map_err(|error| not_written(path, error))?;
    }
    if args.json.as_deref().is_some_and(is_stdout) {
        return json::write(comparison, io::BufWriter::new(io::stdout().lock()))
            .map_err(|error| not_written(stdout, error));
    }
    if args.quiet {
        return Ok(());
    }
    outputs::print(comparison).map_err(|error| not_written(stdout, error))
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

/// Two stored results.
enum Results {
    /// Of loadgen.
    Runs(Box<[RunResult; 2]>),
    /// At least one of another tool.
    Imported(Box<SideBySide>),
}

impl Results {
    fn read(base: &Path, new: &Path) -> Result<Self, Failure> {
        let paths = [base, new];
        let both = (stored::read(base)?, stored::read(new)?);
        let both = match both {
            (Stored::Run(base), Stored::Run(new)) => {
                return Ok(Self::Runs(Box::new([*base, *new])));
            }
            (base, new) => [base, new],
        };
        let names = paths.map(|path| path.display().to_string());
        let mut loads = Vec::new();
        for (path, stored) in paths.into_iter().zip(&both) {
            loads.push(match stored {
                Stored::Run(result) => words::load(&result.plan),
                Stored::Imported(result) => result.load.clone(),
                other => return Err(stored::no_run(path, stored::kind(other))),
            });
        }
        let named = |side: usize| {
            let result = match &both[side] {
                Stored::Run(result) => Comparand::Run(result),
                Stored::Imported(result) => Comparand::Imported(result),
                other => return Err(stored::no_run(paths[side], stored::kind(other))),
            };
            Ok(Named {
                name: &names[side],
                load: &loads[side],
                result,
            })
        };
        let beside = compare::side_by_side(named(0)?, named(1)?, now());
        Ok(Self::Imported(Box::new(beside)))
    }
}

fn of_results(
    args: &CompareArgs,
    paths: [&Path; 2],
    results: &[RunResult; 2],
) -> Result<Comparison, Failure> {
    let names = paths.map(|path| path.display().to_string());
    let named = |side: usize| NamedResult {
        name: &names[side],
        result: &results[side],
    };
    let criteria = Criteria {
        threshold: args.threshold,
        looks: 1,
    };
    compare::of_results(named(0), named(1), &criteria, now()).map_err(|differences| {
        Failure::usage(format!(
            "{} and {} are of different plans or hosts and say nothing of each other; {}",
            names[0],
            names[1],
            differences.join(", ")
        ))
    })
}

/// The rounds of a comparison.
struct Rounds<'a> {
    args: &'a CompareArgs,
    servers: [&'a ServerArg; 2],
    looks: &'a [usize],
    control: Control,
    /// The last measurement of each side.
    plans: [Plan; 2],
    order: Xoshiro256PlusPlus,
    made: Vec<Round>,
    started_at: String,
}

impl<'a> Rounds<'a> {
    fn new(
        args: &'a CompareArgs,
        servers: [&'a ServerArg; 2],
        looks: &'a [usize],
    ) -> Result<Self, Failure> {
        let plan = |server| args.plan(server).map_err(Failure::usage);
        let plans = [plan(servers[0])?, plan(servers[1])?];
        Ok(Self {
            order: Xoshiro256PlusPlus::seed_from_u64(plans[0].seed),
            plans,
            args,
            servers,
            looks,
            control: signals::stop_on_signals()?,
            made: Vec::new(),
            started_at: now(),
        })
    }

    /// Makes rounds until every figure is decided or the maximum is reached.
    fn make(mut self) -> Result<Comparison, Failure> {
        let most = self.looks.last().copied().unwrap_or_default();
        let began = monotonic_ns();
        for number in 0..most {
            self.show(number, most, began);
            let round = match self.round(number) {
                Ok(round) => round,
                // The earlier rounds are delivered.
                Err(problem) if !self.made.is_empty() => {
                    return Ok(self.compare(End::Failed(problem)));
                }
                Err(problem) => return Err(Failure::of_run(problem)),
            };
            let Some(round) = round else {
                return Ok(self.compare(End::Interrupted));
            };
            self.made.push(round);
            if self.looks.contains(&self.made.len()) && number + 1 < most {
                let comparison = self.compare(End::Complete);
                if compare::is_decided(&comparison) {
                    self.hide();
                    return Ok(comparison);
                }
            }
        }
        self.hide();
        Ok(self.compare(End::Complete))
    }

    /// Measures each side once, in random order; `None` if it was interrupted.
    fn round(&mut self, number: usize) -> Result<Option<Round>, String> {
        let first = if self.order.next_u64() >> 63 == 0 {
            Side::Base
        } else {
            Side::New
        };
        let order = match first {
            Side::Base => [0, 1],
            Side::New => [1, 0],
        };
        let mut runs = [None, None];
        for side in order {
            let name = ["base", "new"][side];
            let result = match self.measure(side, number) {
                Ok(result) => result,
                Err(_) if self.control.is_stopped() => return Ok(None),
                Err(problem) => {
                    self.hide();
                    return Err(format!("round {}, {name}: {problem}", number + 1));
                }
            };
            if result.interrupted {
                return Ok(None);
            }
            runs[side] = Some(Measured::of(&result));
        }
        let [base, new] = runs;
        Ok(base.zip(new).map(|(base, new)| Round { first, base, new }))
    }

    fn measure(&mut self, side: usize, number: usize) -> Result<RunResult, String> {
        let server = self.servers[side];
        let started = match &server.side {
            SideArg::Command(command) => {
                let service = service(&self.plans[side]);
                Some(Server::start(command, service, &self.control)?)
            }
            SideArg::Target(_) | SideArg::Result(_) => None,
        };
        if let Some(started) = &started {
            let admin = server.admin.clone().or_else(|| started.admin.clone());
            self.plans[side] = self.args.plan_for(started.endpoint.clone(), admin)?;
        }
        let plan = Plan {
            // Both sides of a round have the same payloads and arrivals; each round has different
            // ones.
            seed: self.plans[side].seed.wrapping_add(number as u64),
            ..self.plans[side].clone()
        };
        loadgen::run(&plan, &self.control, &mut Unobserved).map_err(|error| error.to_string())
    }

    fn compare(&self, end: End) -> Comparison {
        let side = |side: usize| {
            let (name, source) = match &self.servers[side].side {
                SideArg::Command(command) => (command.clone(), Source::Command),
                SideArg::Target(_) | SideArg::Result(_) => {
                    (words::target(&self.plans[side]), Source::Targets)
                }
            };
            ComparedSide {
                name,
                source,
                runs: self.made.len(),
                plan: self.plans[side].clone(),
            }
        };
        let setting = Setting {
            started_at: self.started_at.clone(),
            host: loadgen::describe_host(),
            end,
            base: side(0),
            new: side(1),
        };
        let criteria = Criteria {
            threshold: self.args.threshold,
            looks: self.looks.len(),
        };
        compare::of_rounds(setting, &self.made, &criteria)
    }

    /// Writes a progress line, on a terminal.
    fn show(&self, number: usize, most: usize, began: u64) {
        if !self.has_progress() {
            return;
        }
        let left = match number {
            0 => String::new(),
            number => {
                let each = (monotonic_ns() - began) as f64 / number as f64;
                let left = each * (most - number) as f64 / 1e9;
                format!(", {left:.0} s left")
            }
        };
        // If stderr is closed, there is no reader.
        let _ = write!(io::stderr(), "\r\x1b[Kround {} of {most}{left}", number + 1);
    }

    fn hide(&self) {
        if self.has_progress() {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }

    fn has_progress(&self) -> bool {
        !self.args.quiet && progress::is_possible()
    }
}

/// The service that a server must offer, as it announces it.
fn service(plan: &Plan) -> &'static str {
    match plan.direction() {
        None | Some(Direction::Echo) => "echo",
        Some(Direction::Up) => "discard",
        Some(Direction::Down) => "chargen",
    }
}
