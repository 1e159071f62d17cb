//! The options of a process that makes a part of a run.

use std::num::NonZeroUsize;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;
use echomark::net::units;
use loadgen::plan::shard::MAX_SKEW;
use loadgen::plan::{Plan, Shard, StartAt, Target};

use super::launcher;
use super::parse::at_least_one;

/// The part of a run that this process makes.
#[derive(Args, Clone, Debug)]
pub(crate) struct ShardArgs {
    /// Make one part of the run, number I of N, from 0: connections, rate and messages are those of the
    /// whole run. auto: as Slurm, mpirun, or another launcher with PMI says; auto/N or LOADGEN_SIZE=N
    /// with a Kubernetes Job, PMIx and GNU parallel, which don't say N
    #[arg(long, value_name = "I/N|auto", help_heading = "Shards")]
    rank: Option<RankArg>,

    /// Connect, and start at this time: 2026-01-31T12:00:00Z, @1769860800 in seconds since 1970; +10s
    /// from now; next:10s, at the next full ten seconds
    #[arg(long, value_name = "TIME|+D|next:D", help_heading = "Shards")]
    start_at: Option<StartAt>,

    /// Maximum difference between the starts of the shards; one that is later measures nothing
    /// [default: 100ms]
    #[arg(long, value_name = "DURATION", value_parser = units::parse_duration,
          help_heading = "Shards")]
    max_skew: Option<Duration>,
}

/// A rank as users write it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum RankArg {
    /// A rank, and the number of shards.
    Given(usize, NonZeroUsize),
    /// What the launcher says; the number of shards if it doesn't say it.
    Auto(Option<NonZeroUsize>),
}

impl FromStr for RankArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (rank, size) = match text.split_once('/') {
            Some((rank, size)) => (rank, Some(size)),
            None => (text, None),
        };
        let problem = || "write a number from 0 and how many there are, 0/3, or auto".to_owned();
        let size: Option<NonZeroUsize> = size
            .map(|size| size.parse().map_err(|_| problem()))
            .transpose()?;
        if rank == "auto" {
            return Ok(Self::Auto(size));
        }
        let rank: usize = rank.parse().map_err(|_| problem())?;
        match size.ok_or_else(problem)? {
            size if rank < size.get() => Ok(Self::Given(rank, size)),
            size => Err(format!("of {size} the last is {}", size.get() - 1)),
        }
    }
}

impl ShardArgs {
    /// Makes the plan that of a part, if these options say so.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(super) fn apply(
        &self,
        plan: &mut Plan,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let Some(shard) = self.to_shard(&|name| std::env::var(name).ok())? else {
            return Ok(());
        };
        check(plan, shard.size)?;
        plan.shard = Some(shard);
        // The same in every process.
        if !is_given("seed") {
            plan.seed = 0;
        }
        Ok(())
    }

    /// Leaves a connection of the shard to each thread.
    ///
    /// # Errors
    /// One line for the user: there are fewer than the given threads.
    pub(super) fn fit_threads(
        &self,
        plan: &mut Plan,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<(), String> {
        let own = plan.own_connections();
        if own < plan.threads.get() {
            if is_given("threads") {
                return Err(format!(
                    "{} threads (-t) need at least as many connections, and a shard has {own} of {} \
                     (-c)",
                    plan.threads, plan.connections
                ));
            }
            plan.threads = at_least_one(own);
        }
        Ok(())
    }

    fn to_shard(&self, variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<Shard>, String> {
        let (rank, size) = match (self.rank, self.start_at) {
            (Some(RankArg::Given(rank, size)), _) => (rank, size),
            (Some(RankArg::Auto(size)), _) => launcher::rank_and_size(size, variable)?,
            // The only one, with a start.
            (None, Some(_)) => (0, NonZeroUsize::MIN),
            (None, None) if self.max_skew.is_some() => {
                return Err("--max-skew is for shards (--rank) and a start (--start-at)".to_owned());
            }
            (None, None) => return Ok(None),
        };
        Ok(Some(Shard {
            rank,
            size,
            start_at: self.start_at,
            max_skew: self.max_skew.unwrap_or(MAX_SKEW),
        }))
    }
}

/// Refuses what can't be shared by processes.
fn check(plan: &Plan, size: NonZeroUsize) -> Result<(), String> {
    if matches!(plan.target, Target::Embedded { .. }) {
        return Err(
            "a shard (--rank, --start-at) needs a target: each process would start a server of its own"
                .to_owned(),
        );
    }
    if plan.repeat.get() > 1 {
        return Err(
            "the repeats of shards would not start together (--repeat); make each a run of its own"
                .to_owned(),
        );
    }
    let streams = plan.background.as_ref().map(|it| it.streams.get());
    for (option, number) in [
        ("-c", Some(plan.connections.get())),
        ("--background", streams),
        ("-n", plan.requests.map(|it| it.get() as usize)),
    ] {
        if let Some(number) = number.filter(|&number| number < size.get()) {
            return Err(format!(
                "{option} {number} is too few for {size} shards (--rank): each needs one at least"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_read_and_what_is_none_is_refused() {
        let size = |size| NonZeroUsize::new(size).unwrap();
        assert_eq!("2/3".parse(), Ok(RankArg::Given(2, size(3))));
        assert_eq!("auto".parse(), Ok(RankArg::Auto(None)));
        assert_eq!("auto/16".parse(), Ok(RankArg::Auto(Some(size(16)))));
        for (text, words) in [
            ("3/3", "of 3 the last is 2"),
            ("1", "0/3, or auto"),
            ("-1/3", "0/3, or auto"),
            ("1/0", "0/3, or auto"),
            ("auto/x", "0/3, or auto"),
        ] {
            let problem = text.parse::<RankArg>().unwrap_err();
            assert!(problem.contains(words), "{text}: {problem}");
        }
    }
}
