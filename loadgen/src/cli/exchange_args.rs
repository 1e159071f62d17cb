//! The options of a search that several processes make.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use loadgen::Plan;

use super::parse;

/// How long a process waits for the others by default.
const TIMEOUT: Duration = Duration::from_secs(60);

/// How the processes of a search meet.
#[derive(Args, Clone, Debug)]
pub(crate) struct ExchangeArgs {
    /// An empty folder that all shards (--rank) of the search share: each writes its part of every
    /// trial there and reads those of the others, and all decide the same
    #[arg(long, value_name = "DIR", help_heading = "Shards")]
    exchange: Option<PathBuf>,

    /// How long a shard waits for the others there [default: 1m]
    #[arg(long, value_name = "DURATION", value_parser = parse::positive_duration,
          requires = "exchange", help_heading = "Shards")]
    exchange_timeout: Option<Duration>,
}

impl ExchangeArgs {
    /// Checks that shards have a folder, and a folder shards.
    ///
    /// # Errors
    /// One line for the user: what is missing, or does not go together.
    pub(super) fn check(&self, plan: &Plan, is_given: impl Fn(&str) -> bool) -> Result<(), String> {
        if is_given("start_at") {
            return Err(
                "the trials of a search start when all shards are ready, not at a time (--start-at)"
                    .to_owned(),
            );
        }
        match (&self.exchange, &plan.shard) {
            (None, Some(_)) => Err(
                "a search by shards (--rank) needs a folder by which they tell each other of their \
                 trials (--exchange)"
                    .to_owned(),
            ),
            (Some(_), None) => Err(
                "--exchange is for the shards of a search; each needs its number, such as --rank 0/3"
                    .to_owned(),
            ),
            _ => Ok(()),
        }
    }

    /// The folder, and how long to wait there for the others.
    pub(crate) fn folder(&self) -> Option<(&PathBuf, Duration)> {
        let folder = self.exchange.as_ref()?;
        Some((folder, self.exchange_timeout.unwrap_or(TIMEOUT)))
    }
}
