//! The options of a search, and how they go together.

use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches, ValueEnum};
use echomark::net::units::format_duration;
use loadgen::TextError;
use loadgen::plan::{MAX_IN_FLIGHT, Plan, Workload};
use loadgen::profile::MAX_RATE;
use loadgen::search::{Axis, Goal, Limits, MIN_MESSAGES, Objective, Preset, Terms, parse_ratio};
use loadgen::trials::SearchPlan;

use super::exchange_args::ExchangeArgs;
use super::plan_args::{PlanArgs, Trial};
use super::shard_args::ShardArgs;
use super::{one_line, parse};

/// The default first load: low enough for any server, so that the search comes from below.
const START_RATE: f64 = 1_000.0;
const START_CONNECTIONS: f64 = 16.0;
/// Maximum of the default warm-up of a trial.
const MAX_WARMUP: Duration = Duration::from_secs(1);
/// The minimum default timeout, for objectives that allow less.
const TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
pub(crate) struct SearchArgs {
    #[command(flatten)]
    plan: PlanArgs,

    #[command(flatten)]
    shard: ShardArgs,

    #[command(flatten)]
    pub(crate) exchange: ExchangeArgs,

    /// Objective: p99<1ms, p99.9<5ms, max<20ms, errors<0.1% (not back as it was sent), lost<=0
    /// (not back); several must all hold
    #[arg(long, value_name = "OBJECTIVE", help_heading = "Search")]
    slo: Vec<Objective>,

    /// A further goal, with objectives and optionally a name: 'web: p99<1ms, errors<0.1%'. All
    /// goals are searched for at once and share their trials
    #[arg(long, value_name = "GOAL", value_parser = named_goal, help_heading = "Search")]
    goal: Vec<NamedGoal>,

    /// Unit of the load
    #[arg(long, value_enum, default_value_t = AxisArg::Rate, help_heading = "Search")]
    over: AxisArg,

    /// Required evidence
    #[arg(long, value_enum, default_value_t = PresetArg::Quick, help_heading = "Search")]
    preset: PresetArg,

    /// The load of the first trial [default: 1k messages/s; 16 connections]
    #[arg(long, value_name = "N", value_parser = parse::positive_count, help_heading = "Search")]
    start: Option<NonZeroU64>,

    /// The lowest load to try [default: the lowest at which the first trials have enough messages for
    /// the objectives: 200 messages/s for a p99, 2000 for a p99.9; a connection for each target]
    #[arg(long, value_name = "N", value_parser = parse::positive_count, help_heading = "Search")]
    min: Option<NonZeroU64>,

    /// The highest load to try [default: no limit]
    #[arg(long, value_name = "N", value_parser = parse::positive_count, help_heading = "Search")]
    max: Option<NonZeroU64>,

    /// Maximum final distance of the bounds, as a share of the upper one [default: 5%; thorough
    /// 2%; rfc2544 1%]
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, help_heading = "Search")]
    precision: Option<f64>,

    /// Length of the trials that decide [default: 1s; thorough 5s; rfc2544 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration,
          help_heading = "Search")]
    trial: Option<Duration>,

    /// Length of the first trials [default: 500ms; 1s; with --trial in proportion]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration,
          help_heading = "Search")]
    initial_trial: Option<Duration>,

    /// Total length of the trials that decide about a load [default: five; rfc2544 one]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration,
          help_heading = "Search")]
    duration_sum: Option<Duration>,

    /// The share of that time in which objectives may be missed [default: 50%; rfc2544 0]
    #[arg(long, value_name = "RATIO", value_parser = parse_ratio, help_heading = "Search")]
    exceed_ratio: Option<f64>,

    /// Maximum number of trials
    #[arg(long, value_name = "N", default_value = "500", value_parser = parse::number,
          help_heading = "Search")]
    max_trials: NonZeroUsize,

    /// Maximum duration of the search [default: 10m; thorough 1h; rfc2544 4h]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration,
          help_heading = "Search")]
    max_time: Option<Duration>,

    /// Write the result here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output, help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// No progress and no table
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum AxisArg {
    /// Messages per second
    Rate,
    /// Connections, each with one message in flight, or all together with the rate of -R
    Connections,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PresetArg {
    /// Trials of a second, in half of which objectives must hold; a minute or two
    Quick,
    /// Trials of five seconds and a higher precision; ten minutes or more
    Thorough,
    /// One trial of a minute decides, as RFC 2544 asks
    Rfc2544,
}

/// Objectives, and the user's name for them.
#[derive(Clone, Debug, PartialEq)]
struct NamedGoal {
    name: Option<String>,
    objectives: Vec<Objective>,
}

impl SearchArgs {
    /// Resolves the matches of `search`.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn resolve(search: &ArgMatches) -> Result<(Self, SearchPlan), String> {
        let args = Self::from_arg_matches(search).map_err(|error| one_line(&error))?;
        let is_given = |name: &str| search.value_source(name) == Some(ValueSource::CommandLine);
        let plan = args.to_plan(is_given)?;
        Ok((args, plan))
    }

    fn to_plan(&self, is_given: impl Fn(&str) -> bool) -> Result<SearchPlan, String> {
        let over = Axis::from(self.over);
        refuse_what_the_search_decides(over, &is_given)?;
        let terms = self.to_terms()?;
        let goals = self.to_goals(terms)?;
        let limits = self.to_limits(over, &goals)?;
        let mut trial = self.plan.to_trial_plan(
            &is_given,
            &Trial {
                over,
                start: limits.start,
                window: terms.initial_trial,
                warmup: (terms.final_trial / 2).min(MAX_WARMUP),
                timeout: timeout(&goals),
            },
        )?;
        if matches!(trial.workload, Workload::Stream { .. }) {
            return Err(
                "a stream has no load to search for; --workload request, churn or idle has"
                    .to_owned(),
            );
        }
        self.shard.apply(&mut trial, &is_given)?;
        // With a number of connections that is searched for, each trial has its own number of threads.
        if over == Axis::Rate {
            self.shard.fit_threads(&mut trial, &is_given)?;
        }
        self.exchange.check(&trial, &is_given)?;
        let limits = within_what_can_be_tried(limits, over, &trial)?;
        Ok(SearchPlan {
            trial,
            over,
            limits,
            goals,
        })
    }

    fn to_terms(&self) -> Result<Terms, String> {
        let usual = Preset::from(self.preset).terms();
        let final_trial = self.trial.unwrap_or(usual.final_trial);
        let scale = final_trial.as_secs_f64() / usual.final_trial.as_secs_f64();
        let in_proportion = |usual: Duration| {
            // In whole milliseconds, as they are displayed.
            let millis = (usual.as_secs_f64() * scale * 1e3).round().max(1.0);
            Duration::from_millis(millis as u64)
        };
        let terms = Terms {
            initial_trial: self
                .initial_trial
                .unwrap_or_else(|| in_proportion(usual.initial_trial).min(final_trial)),
            final_trial,
            duration_sum: self
                .duration_sum
                .unwrap_or_else(|| in_proportion(usual.duration_sum).max(final_trial)),
            exceed_ratio: self.exceed_ratio.unwrap_or(usual.exceed_ratio),
            precision: self.precision.unwrap_or(usual.precision),
        };
        terms.check()?;
        Ok(terms)
    }

    fn to_goals(&self, terms: Terms) -> Result<Vec<Goal>, String> {
        let unnamed = (!self.slo.is_empty()).then(|| NamedGoal {
            name: None,
            objectives: self.slo.clone(),
        });
        let goals: Vec<Goal> = unnamed
            .into_iter()
            .chain(self.goal.iter().cloned())
            .map(|NamedGoal { name, objectives }| Goal {
                name,
                objectives,
                terms,
            })
            .collect();
        if goals.is_empty() {
            return Err("an objective is missing; for example --slo 'p99<1ms'".to_owned());
        }
        Ok(goals)
    }

    fn to_limits(&self, over: Axis, goals: &[Goal]) -> Result<Limits, String> {
        let load = |given: Option<NonZeroU64>| given.map(|load| load.get() as f64);
        let (usual_start, usual_lowest, most) = match over {
            Axis::Rate => (START_RATE, telling_rate(goals), MAX_RATE),
            Axis::Connections => (START_CONNECTIONS, 1.0, MAX_IN_FLIGHT as f64),
        };
        let highest = load(self.max).unwrap_or(most);
        let lowest = load(self.min).unwrap_or_else(|| {
            usual_lowest
                .min(load(self.start).unwrap_or(usual_lowest))
                .min(highest)
        });
        check_messages(over, lowest, goals)?;
        if lowest > highest {
            return Err(format!(
                "--min {lowest} is above --max {highest}, the highest load that can be tried"
            ));
        }
        if let Some(start) = load(self.start).filter(|start| !(lowest..=highest).contains(start)) {
            return Err(format!(
                "--start {start} is not within --min {lowest} and --max {highest}"
            ));
        }
        Ok(Limits {
            start: load(self.start)
                .unwrap_or(usual_start)
                .clamp(lowest, highest),
            lowest,
            highest,
            max_trials: self.max_trials.get(),
            max_time: self.max_time.unwrap_or(match self.preset {
                PresetArg::Quick => Duration::from_secs(600),
                PresetArg::Thorough => Duration::from_secs(3600),
                PresetArg::Rfc2544 => Duration::from_secs(4 * 3600),
            }),
        })
    }
}

/// The lowest rate at which the shortest trials have enough messages for every goal.
fn telling_rate(goals: &[Goal]) -> f64 {
    let rates = goals
        .iter()
        .map(|goal| goal.min_messages() / goal.terms.initial_trial.as_secs_f64());
    rates.fold(1.0, f64::max).ceil()
}

fn check_messages(over: Axis, lowest: f64, goals: &[Goal]) -> Result<(), String> {
    let trials = goals.iter().map(|goal| goal.terms.initial_trial);
    let Some(shortest) = trials.min().filter(|_| over == Axis::Rate) else {
        return Ok(());
    };
    let messages = lowest * shortest.as_secs_f64();
    if messages < MIN_MESSAGES {
        return Err(format!(
            "at {lowest} messages/s, the lowest rate, a trial of {} has {messages:.1} of them, which \
             tell nothing; use a higher --min or a longer --initial-trial",
            format_duration(shortest)
        ));
    }
    Ok(())
}

fn refuse_what_the_search_decides(
    over: Axis,
    is_given: impl Fn(&str) -> bool,
) -> Result<(), String> {
    let problem = if is_given("duration") {
        "a search decides how long its trials are: --trial says within what, not -d"
    } else if is_given("requests") {
        "the trials of a search end by time (--trial), not by a number of messages (-n)"
    } else if is_given("repeat") {
        "a search repeats trials as often as it needs to; --repeat is for run"
    } else if over == Axis::Rate && is_given("rate") {
        "the rate is what is searched for; --start, --min and --max say where, not -R"
    } else if over == Axis::Connections && is_given("connections") {
        "the number of connections is what is searched for; --start, --min and --max say where, \
         not -c"
    } else {
        return Ok(());
    };
    Err(problem.to_owned())
}

/// At least one connection per target, and no more than can be opened.
fn within_what_can_be_tried(limits: Limits, over: Axis, trial: &Plan) -> Result<Limits, String> {
    if over == Axis::Rate {
        return Ok(limits);
    }
    let targets = match &trial.target {
        loadgen::plan::Target::Servers { targets } => targets.len(),
        loadgen::plan::Target::Embedded { .. } => 1,
    };
    let in_flight = trial.pipeline().map_or(1, NonZeroUsize::get);
    let shards = trial.shard.as_ref().map_or(1, |shard| shard.size.get());
    let lowest = limits.lowest.max(targets.max(shards) as f64);
    let highest = limits.highest.min((MAX_IN_FLIGHT / in_flight) as f64);
    if lowest > highest {
        return Err(format!(
            "{targets} targets with {in_flight} messages in flight on each connection (-p) leave \
             nothing between --min {lowest} and --max {highest}"
        ));
    }
    Ok(Limits {
        start: limits.start.clamp(lowest, highest),
        lowest,
        highest,
        ..limits
    })
}

/// Longer than the objectives allow: later responses fail them anyway.
fn timeout(goals: &[Goal]) -> Duration {
    let longest = goals
        .iter()
        .flat_map(|goal| &goal.objectives)
        .filter_map(|objective| match objective {
            Objective::Late { limit, .. } => Some(*limit * 2),
            Objective::Errors { .. } | Objective::Lost { .. } => None,
        })
        .max();
    longest.unwrap_or_default().max(TIMEOUT)
}

fn named_goal(text: &str) -> Result<NamedGoal, TextError> {
    let (name, objectives) = match text.split_once(':') {
        Some((name, objectives)) => (Some(name.trim().to_owned()), objectives),
        None => (None, text),
    };
    let objectives = objectives
        .split(',')
        .map(|objective| objective.trim().parse())
        .collect::<Result<_, _>>()?;
    Ok(NamedGoal {
        name: name.filter(|name| !name.is_empty()),
        objectives,
    })
}

impl From<AxisArg> for Axis {
    fn from(axis: AxisArg) -> Self {
        match axis {
            AxisArg::Rate => Self::Rate,
            AxisArg::Connections => Self::Connections,
        }
    }
}

impl From<PresetArg> for Preset {
    fn from(preset: PresetArg) -> Self {
        match preset {
            PresetArg::Quick => Self::Quick,
            PresetArg::Thorough => Self::Thorough,
            PresetArg::Rfc2544 => Self::Rfc2544,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use loadgen::plan::Load;

    use super::*;
    use crate::cli::Cli;

    fn plan(arguments: &str) -> Result<SearchPlan, String> {
        let words = ["loadgen", "search"]
            .into_iter()
            .chain(arguments.split_whitespace());
        let matches = Cli::command()
            .try_get_matches_from(words)
            .map_err(|error| one_line(&error))?;
        let search = matches.subcommand_matches("search").expect("is a search");
        SearchArgs::resolve(search).map(|(_, plan)| plan)
    }

    #[test]
    fn a_search_is_over_the_rate_from_a_low_one() {
        let plan = plan("tcp://127.0.0.1:7 --slo p99<1ms --slo errors<0.1%").unwrap();
        assert_eq!(plan.over, Axis::Rate);
        assert_eq!(plan.goals.len(), 1);
        assert_eq!(plan.goals[0].to_string(), "p99<1ms, errors<0.1%");
        assert_eq!(plan.goals[0].terms, Preset::Quick.terms());
        assert_eq!((plan.limits.start, plan.limits.lowest), (2_000.0, 2_000.0));
        assert_eq!(plan.trial.warmup, Duration::from_millis(500));
        assert_eq!(plan.trial.timeout, Duration::from_secs(1));
        assert_eq!(plan.trial.target_rate(), Some(2_000.0));
    }

    #[test]
    fn the_lowest_rate_gives_trials_enough_messages() {
        let lowest = |arguments: &str| plan(arguments).unwrap().limits.lowest;
        assert_eq!(lowest("--slo p99<1ms"), 200.0);
        assert_eq!(lowest("--slo p99<1ms --initial-trial 1s"), 100.0);
        assert_eq!(lowest("--slo p50<1ms"), 20.0);
        assert_eq!(lowest("--slo p99<1ms --min 20"), 20.0);
        assert_eq!(lowest("--slo p99<1ms --start 50"), 50.0);
        assert_eq!(lowest("--slo p99<1ms --over connections"), 1.0);
    }

    #[test]
    fn goals_may_have_names_and_several_objectives() {
        let plan = plan("--slo max<2s --goal web:p99<1ms,errors<0.1% --goal lost<=0").unwrap();
        let names: Vec<_> = plan.goals.iter().map(|goal| goal.name.as_deref()).collect();
        assert_eq!(names, [None, Some("web"), None]);
        assert_eq!(plan.goals[1].objectives.len(), 2);
        assert_eq!(plan.trial.timeout, Duration::from_secs(4));
    }

    #[test]
    fn terms_follow_the_length_of_the_trials() {
        let terms = |arguments: &str| {
            plan(&format!("--slo p99<1ms {arguments}")).map(|plan| plan.goals[0].terms)
        };
        let short = terms("--trial 200ms --precision 2%").unwrap();
        assert_eq!(short.initial_trial, Duration::from_millis(100));
        assert_eq!(short.duration_sum, Duration::from_secs(1));
        assert_eq!(short.precision, 0.02);
        let rfc = terms("--preset rfc2544 --trial 2s").unwrap();
        assert_eq!(rfc.duration_sum, Duration::from_secs(2));
        assert_eq!(rfc.exceed_ratio, 0.0);
        assert!(terms("--trial 1s --initial-trial 2s").is_err());
    }

    #[test]
    fn connections_are_searched_for_in_a_closed_loop_or_with_a_rate() {
        let closed = plan("--slo p99<1ms --over connections -p 4").unwrap();
        assert!(matches!(closed.trial.load, Load::Closed { .. }));
        assert_eq!(closed.limits.highest, (MAX_IN_FLIGHT / 4) as f64);
        let open = plan("--slo p99<1ms --over connections -R 2k --start 4").unwrap();
        assert_eq!(open.trial.target_rate(), Some(2_000.0));
        assert_eq!(open.trial.connections.get(), 4);
        let two = "tcp://127.0.0.1:7 tcp://127.0.0.1:8";
        let two = plan(&format!("{two} --slo p99<1ms --over connections")).unwrap();
        assert_eq!(two.limits.lowest, 2.0);
    }

    #[test]
    fn what_does_not_go_together_is_refused_with_the_way_out() {
        for (arguments, part) in [
            ("", "--slo"),
            ("--slo p99>1ms", "p99>1ms"),
            ("--slo p99<1ms -R 5k", "--start"),
            ("--slo p99<1ms -d 5s", "--trial"),
            ("--slo p99<1ms -n 5", "--trial"),
            ("--slo p99<1ms --repeat 5", "--repeat"),
            ("--slo p99<1ms --over connections -c 5", "--start"),
            ("--slo p99<1ms --min 100 --max 50", "--min 100"),
            ("--slo p99<1ms --max 50 --start 60", "--start 60"),
            ("--slo p99<1ms --min 19", "--initial-trial"),
            ("--slo p99<1ms --precision 0", "precision"),
            ("--slo p99<1ms --workload stream", "stream"),
            ("--goal web:", "is no objective"),
        ] {
            let error = plan(arguments).expect_err(arguments);
            assert!(error.contains(part), "{arguments}: {error}");
        }
    }
}
