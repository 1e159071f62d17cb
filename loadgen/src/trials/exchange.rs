//! A shared folder by which the processes of a search tell each other of their trials. There is no
//! coordinator: each writes its own files, reads those of all, and decides the same.
//!
//! ```text
//! rank-2            the search of this process: its size and its plan
//! trial-7-ready-2   its connections of trial 7 are made, and when
//! trial-7-rank-2    what it measured in trial 7
//! ended-2           why it has left before the end
//! ```
//!
//! A file appears whole or not at all. A process that does not come within the time that is allowed ends
//! the search of the others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use echomark::net::units::format_duration;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::SearchPlan;
use super::trial::{Cause, Failure, Trial};
use crate::error::RunError;
use crate::merge::merge;
use crate::observer::{Control, Unobserved};
use crate::plan::{Plan, Shard};
use crate::result::RunResult;
use crate::run::{Meeting, run_together};

/// How often the folder is read while something is waited for.
const PAUSE: Duration = Duration::from_millis(5);
/// The time between the last process that is ready and the common start. Each has to read of it first.
const MIN_NOTICE: Duration = Duration::from_millis(150);

/// A place in a search that several processes make together.
#[derive(Debug)]
pub struct Exchange {
    folder: PathBuf,
    rank: usize,
    size: usize,
    patience: Duration,
    notice: Duration,
    /// The number of the current trial,
    trial: usize,
    /// and whether its start was agreed on.
    has_met: bool,
}

/// What each process says first.
#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Hello {
    size: usize,
    version: String,
    plan: Plan,
    /// Everything else that decides the trials.
    terms: String,
}

impl Exchange {
    /// Joins the search in `folder` as the shard that the plan names, and waits until all have joined.
    /// A process that is missing for longer than `patience` ends the search.
    ///
    /// # Errors
    /// [`RunError::Apart`]: someone is missing, has another plan, or the folder has been used before.
    pub fn join(
        folder: &Path,
        plan: &SearchPlan,
        patience: Duration,
        control: &Control,
    ) -> Result<Self, RunError> {
        let Some(shard) = &plan.trial.shard else {
            return Err(RunError::Apart("the search is of no shards".to_owned()));
        };
        let exchange = Self {
            folder: folder.to_owned(),
            rank: shard.rank,
            size: shard.size.get(),
            patience,
            notice: MIN_NOTICE.max(shard.max_skew),
            trial: 0,
            has_met: false,
        };
        let own = Hello::of(plan, shard);
        exchange.announce(&own)?;
        let what = |rank| format!("rank-{rank}");
        let Some(all) = exchange.gather::<Hello>("to join the search", what, control)? else {
            return Ok(exchange);
        };
        for (rank, other) in all.iter().enumerate() {
            if let Some(difference) = own.difference(other) {
                return Err(exchange.problem(format!(
                    "rank {rank} makes another search than rank {}: {difference}",
                    exchange.rank
                )));
            }
        }
        Ok(exchange)
    }

    /// Makes this process's part of a trial, and returns the trial of all; `None` if the user stopped
    /// the search.
    pub(super) fn measure(
        &mut self,
        plan: &Plan,
        trial: usize,
        control: &Control,
    ) -> Result<Option<Trial>, RunError> {
        (self.trial, self.has_met) = (trial, false);
        let began = Instant::now();
        let measured = run_together(plan, control, &mut Unobserved, Some(self));
        if !self.has_met {
            // The others need not wait for the start of a trial that failed here.
            self.tell_ready()?;
        }
        let own = Part {
            cost_s: began.elapsed().as_secs_f64(),
            measured: match measured {
                Ok(result) if result.interrupted => return Ok(None),
                Ok(result) => Ok(Box::new(result)),
                Err(RunError::Apart(problem)) => return Err(RunError::Apart(problem)),
                Err(error) => Err(Failure::of(&error)),
            },
        };
        let parts = self.trade(&own, control)?;
        Ok(parts.map(Part::union))
    }

    /// Tells the others the outcome of the trial, and returns those of all in the order of their ranks;
    /// `None` if the user stopped the search.
    fn trade<T: Serialize + DeserializeOwned>(
        &self,
        own: &T,
        control: &Control,
    ) -> Result<Option<Vec<T>>, RunError> {
        let trial = self.trial;
        let name = |rank| format!("trial-{trial}-rank-{rank}");
        self.write(&name(self.rank), own)?;
        self.gather(&format!("to end trial {trial}"), name, control)
    }

    /// Leaves before the end of the search, so that the others need not wait.
    pub fn leave(&self, reason: &str) {
        // If that fails, they wait in vain, and say so.
        let _ = self.write(&format!("ended-{}", self.rank), &reason);
    }

    /// Writes the first file, which must not be there.
    fn announce(&self, own: &Hello) -> Result<(), RunError> {
        let name = format!("rank-{}", self.rank);
        let place = self.folder.join(&name);
        let written = self
            .write_aside(&name, own)
            .and_then(|aside| fs::hard_link(&aside, &place).map(|()| aside))
            .and_then(fs::remove_file);
        match written {
            Ok(()) => Ok(()),
            Err(error) if place.exists() => {
                // What is left of the attempt is of no use to anyone.
                let _ = fs::remove_file(self.folder.join(format!(".{name}")));
                Err(RunError::Apart(format!(
                    "{} is there already ({error}): another search has used the folder, or another \
                     process has this rank; give an empty folder (--exchange)",
                    place.display()
                )))
            }
            Err(error) => Err(self.unusable(&name, &error)),
        }
    }

    fn write<T: Serialize>(&self, name: &str, content: &T) -> Result<(), RunError> {
        self.write_aside(name, content)
            .and_then(|aside| fs::rename(aside, self.folder.join(name)))
            .map_err(|error| self.unusable(name, &error))
    }

    fn write_aside<T: Serialize>(&self, name: &str, content: &T) -> io::Result<PathBuf> {
        let aside = self.folder.join(format!(".{name}"));
        fs::write(&aside, serde_json::to_vec(content)?)?;
        Ok(aside)
    }

    /// The file of each process, once all are there; `None` if the user stopped the search.
    fn gather<T: DeserializeOwned>(
        &self,
        what: &str,
        name: impl Fn(usize) -> String,
        control: &Control,
    ) -> Result<Option<Vec<T>>, RunError> {
        let deadline = Instant::now() + self.patience;
        let mut found: Vec<Option<T>> = (0..self.size).map(|_| None).collect();
        loop {
            for (rank, place) in found.iter_mut().enumerate() {
                if place.is_none() {
                    *place = self.read(&name(rank))?;
                }
            }
            if found.iter().all(Option::is_some) {
                return Ok(Some(found.into_iter().flatten().collect()));
            }
            if control.is_stopped() {
                return Ok(None);
            }
            let missing = (0..self.size).filter(|&rank| found[rank].is_none());
            for rank in missing.clone() {
                if let Some(reason) = self.read::<String>(&format!("ended-{rank}"))? {
                    return Err(RunError::Apart(format!(
                        "rank {rank} has ended the search: {reason}"
                    )));
                }
            }
            if Instant::now() >= deadline {
                let missing: Vec<String> = missing.map(|rank| rank.to_string()).collect();
                return Err(self.problem(format!(
                    "rank {} of {} did not come {what} within {} (--exchange-timeout)",
                    missing.join(", "),
                    self.size,
                    format_duration(self.patience)
                )));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Says that this process is ready to start the trial.
    fn tell_ready(&self) -> Result<(), RunError> {
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        let name = ready_file(self.trial, self.rank);
        self.write(&name, &since_1970.unwrap_or_default())
    }

    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, RunError> {
        let content = match fs::read(self.folder.join(name)) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(name, &error)),
        };
        serde_json::from_slice(&content)
            .map(Some)
            .map_err(|error| self.unusable(name, &error.into()))
    }

    /// A reason to leave, of which the others are told.
    fn problem(&self, problem: String) -> RunError {
        self.leave(&problem);
        RunError::Apart(problem)
    }

    fn unusable(&self, name: &str, error: &io::Error) -> RunError {
        let place = self.folder.join(name);
        RunError::Apart(format!(
            "cannot use {}: {error}; give a folder that all processes share (--exchange)",
            place.display()
        ))
    }
}

impl Meeting for Exchange {
    fn agree(&mut self, control: &Control) -> Result<Option<SystemTime>, RunError> {
        self.tell_ready()?;
        self.has_met = true;
        let trial = self.trial;
        let what = format!("to start trial {trial}");
        let ready = self.gather::<Duration>(&what, |rank| ready_file(trial, rank), control)?;
        let last = ready.into_iter().flatten().max();
        Ok(last.map(|last| SystemTime::UNIX_EPOCH + last + self.notice))
    }
}

fn ready_file(trial: usize, rank: usize) -> String {
    format!("trial-{trial}-ready-{rank}")
}

/// A process's part of a trial.
#[derive(Debug, Deserialize, Serialize)]
struct Part {
    cost_s: f64,
    measured: Result<Box<RunResult>, Failure>,
}

impl Part {
    /// The trial that all parts are of: the union of the results, or a failure. It is the same in each
    /// process.
    fn union(parts: Vec<Self>) -> Trial {
        let cost_s = parts.iter().map(|part| part.cost_s).fold(0.0, f64::max);
        let mut results = Vec::with_capacity(parts.len());
        let mut failures = Vec::new();
        for (rank, part) in parts.into_iter().enumerate() {
            match part.measured {
                Ok(result) => results.push((format!("rank {rank}"), *result)),
                Err(failure) => failures.push(failure),
            }
        }
        // What is about the server goes before what is about a client.
        let failure = failures.into_iter().min_by_key(|failure| failure.cause);
        let measured = match failure {
            Some(failure) => Err(failure),
            None => merge(results).map_err(|text| Failure {
                text,
                cause: Cause::Client,
            }),
        };
        Trial {
            measured: measured.map_err(|failure| (failure, None)),
            cost: Duration::try_from_secs_f64(cost_s).unwrap_or_default(),
        }
    }
}

impl Hello {
    fn of(plan: &SearchPlan, shard: &Shard) -> Self {
        let whole = Plan {
            shard: None,
            ..plan.trial.clone()
        };
        Self {
            size: shard.size.get(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            plan: whole,
            terms: format!("{:?} {:?} {:?}", plan.over, plan.limits, plan.goals),
        }
    }

    /// What makes another process decide otherwise, or measure something else.
    fn difference(&self, other: &Self) -> Option<String> {
        if self.version != other.version {
            return Some(format!("loadgen {} and {}", other.version, self.version));
        }
        if self.size != other.size {
            return Some(format!("{} shards and {}", other.size, self.size));
        }
        let mut differences = other.plan.differences(&self.plan, &["threads", "sources"]);
        if other.plan.target != self.plan.target {
            differences.push("targets".to_owned());
        }
        if other.terms != self.terms {
            differences.push("the objectives, or the limits of the search".to_owned());
        }
        (!differences.is_empty()).then(|| differences.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::plan::shard::MAX_SKEW;
    use crate::search::{Axis, Limits};

    /// A folder that is removed with its contents.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let name = format!("loadgen-exchange-{name}-{}", std::process::id());
            let path = std::env::temp_dir().join(name);
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn plan(rank: usize, size: usize, seed: u64) -> SearchPlan {
        SearchPlan {
            trial: Plan {
                seed,
                shard: Some(Shard {
                    rank,
                    size: NonZeroUsize::new(size).unwrap(),
                    start_at: None,
                    max_skew: MAX_SKEW,
                }),
                ..Plan::default()
            },
            over: Axis::Rate,
            limits: Limits {
                start: 1e3,
                lowest: 1e3,
                highest: 1e3,
                max_trials: 1,
                max_time: Duration::from_secs(1),
            },
            goals: Vec::new(),
        }
    }

    fn joined<T>(ranks: Vec<thread::ScopedJoinHandle<'_, T>>) -> Vec<T> {
        let mut all = Vec::new();
        for rank in ranks {
            all.push(rank.join().unwrap());
        }
        all
    }

    const PATIENCE: Duration = Duration::from_secs(60);

    fn join(folder: &Folder, plan: &SearchPlan, patience: Duration) -> Result<Exchange, String> {
        let control = Control::default();
        Exchange::join(&folder.0, plan, patience, &control).map_err(|error| error.to_string())
    }

    #[test]
    fn all_get_what_each_has_written_and_the_same_start() {
        let folder = Folder::new("all");
        let control = Control::default();
        let outcomes: Vec<(Option<Vec<usize>>, Option<SystemTime>)> = thread::scope(|scope| {
            let ranks: Vec<_> = (0..3)
                .map(|rank| {
                    let (folder, control) = (&folder, &control);
                    scope.spawn(move || {
                        let mut exchange = join(folder, &plan(rank, 3, 1), PATIENCE).unwrap();
                        exchange.trial = 7;
                        let start = exchange.agree(control).unwrap();
                        (exchange.trade(&(rank * 10), control).unwrap(), start)
                    })
                })
                .collect();
            joined(ranks)
        });
        let start = outcomes[0].1;
        assert!(start > Some(SystemTime::UNIX_EPOCH));
        for outcome in outcomes {
            assert_eq!(outcome, (Some(vec![0, 10, 20]), start));
        }
        let problem = join(&folder, &plan(1, 3, 1), PATIENCE).unwrap_err();
        assert!(problem.contains("give an empty folder"), "{problem}");
    }

    #[test]
    fn who_is_missing_is_named_and_the_others_do_not_wait_for_ever() {
        let folder = Folder::new("missing");
        let problem = join(&folder, &plan(0, 3, 1), Duration::from_millis(20)).unwrap_err();
        assert!(
            problem.contains("rank 1, 2 of 3 did not come to join"),
            "{problem}"
        );
        // Who comes later is told at once.
        let problem = join(&folder, &plan(2, 3, 1), PATIENCE).unwrap_err();
        assert!(problem.contains("did not come to join"), "{problem}");
    }

    #[test]
    fn another_plan_is_refused_by_both_sides() {
        let folder = Folder::new("plans");
        let problems: Vec<String> = thread::scope(|scope| {
            let ranks: Vec<_> = [1, 2]
                .into_iter()
                .enumerate()
                .map(|(rank, seed)| {
                    let folder = &folder;
                    scope.spawn(move || join(folder, &plan(rank, 2, seed), PATIENCE).unwrap_err())
                })
                .collect();
            joined(ranks)
        });
        for problem in problems {
            assert!(
                problem.contains("another search") && problem.contains("seed"),
                "{problem}"
            );
        }
    }
}
