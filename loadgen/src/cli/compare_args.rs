//! The options of `compare`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches};
use echomark::net::endpoint::Endpoint;
use loadgen::Plan;
use loadgen::admin::AdminUrl;
use loadgen::compare::MAX_ROUNDS;
use loadgen::search::parse_ratio;

use super::plan_args::LoadArgs;
use super::target_args::{TargetArgs, has_tls};
use super::{one_line, parse};

/// The default window of each run, and the warm-up before it: many short rounds tell more than a
/// few long ones.
const WINDOW: Duration = Duration::from_secs(2);
const WARM_UP: Duration = Duration::from_millis(500);
/// The options that apply to stored results.
const OF_RESULTS: [&str; 6] = ["base", "new", "threshold", "json", "allow_invalid", "quiet"];

#[derive(Args, Debug)]
pub(crate) struct CompareArgs {
    /// The base: a stored result, or a server, tcp://HOST:PORT, udp://HOST:PORT or
    /// unix:PATH
    #[arg(value_name = "BASE", conflicts_with = "base_command", requires = "new",
          value_parser = side)]
    base: Option<SideArg>,

    /// The new side: likewise
    #[arg(value_name = "NEW", value_parser = side)]
    new: Option<SideArg>,

    /// Start the base with this command line for each of its runs, and stop it after: with {port}
    /// for a free port of 127.0.0.1 that it is to listen on; without, it must print `listening echo
    /// ENDPOINT` and `ready`, as echod does
    #[arg(long, value_name = "COMMAND", requires = "new_command")]
    base_command: Option<String>,

    /// The command line of the new side
    #[arg(long, value_name = "COMMAND", requires = "base_command")]
    new_command: Option<String>,

    /// Admin port of the base, http://HOST:PORT: compares the server's processor time too [default:
    /// the one that a started echod prints]
    #[arg(long, value_name = "URL", requires = "new_admin")]
    base_admin: Option<AdminUrl>,

    /// Admin port of the new side
    #[arg(long, value_name = "URL", requires = "base_admin")]
    new_admin: Option<AdminUrl>,

    /// Number of rounds; each measures both sides in turn, with fresh connections
    #[arg(long, value_name = "N", default_value_t = 15,
          value_parser = clap::value_parser!(u64).range(2..=MAX_ROUNDS as u64))]
    rounds: u64,

    /// Maximum number of rounds, if --rounds is not enough evidence
    #[arg(long, value_name = "N",
          value_parser = clap::value_parser!(u64).range(2..=MAX_ROUNDS as u64))]
    max_rounds: Option<u64>,

    /// A figure has regressed if it is worse by more than this
    #[arg(long, value_name = "SHARE", default_value = "5%", value_parser = parse_ratio)]
    pub(crate) threshold: f64,

    #[command(flatten)]
    load: LoadArgs,

    /// Write the comparison here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output, help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// Do not exit with 97 if the runs can't be believed
    #[arg(long, help_heading = "Output")]
    pub(crate) allow_invalid: bool,

    /// No progress and no table
    #[arg(short, long, help_heading = "Output")]
    pub(crate) quiet: bool,

    /// The options given by the user.
    #[arg(skip)]
    given: BTreeSet<String>,
}

/// One side of the comparison.
#[derive(Clone, Debug)]
pub(crate) enum SideArg {
    /// A stored result.
    Result(PathBuf),
    /// A running server.
    Target(Endpoint),
    /// A server to start.
    Command(String),
}

/// The two sides.
#[derive(Debug)]
pub(crate) enum Comparands {
    /// Two stored results.
    Results(PathBuf, PathBuf),
    /// Two servers.
    Servers {
        /// The base.
        base: ServerArg,
        /// The new side.
        new: ServerArg,
        /// The numbers of rounds after which the evidence is checked.
        looks: Vec<usize>,
    },
}

/// A server to be measured.
#[derive(Clone, Debug)]
pub(crate) struct ServerArg {
    /// Its endpoint, or its command line.
    pub(crate) side: SideArg,
    /// Its admin port.
    pub(crate) admin: Option<AdminUrl>,
}

impl CompareArgs {
    /// Resolves the matches of `compare`.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn resolve(matches: &ArgMatches) -> Result<(Self, Comparands), String> {
        let mut args = Self::from_arg_matches(matches).map_err(|error| one_line(&error))?;
        args.given = matches
            .ids()
            .map(|id| id.as_str().to_owned())
            .filter(|id| is_option(id))
            .filter(|id| matches.value_source(id) == Some(ValueSource::CommandLine))
            .collect();
        args.load.fix_seed();
        let comparands = args.comparands()?;
        args.check(&comparands)?;
        Ok((args, comparands))
    }

    fn comparands(&self) -> Result<Comparands, String> {
        let (base, new) = match (&self.base, &self.new, &self.base_command, &self.new_command) {
            (Some(base), Some(new), None, None) => (base.clone(), new.clone()),
            (None, None, Some(base), Some(new)) => (
                SideArg::Command(base.clone()),
                SideArg::Command(new.clone()),
            ),
            _ => {
                return Err(
                    "name what is to be compared: two results, two targets, or --base-command and \
                     --new-command"
                        .to_owned(),
                );
            }
        };
        match (base, new) {
            (SideArg::Result(base), SideArg::Result(new)) => Ok(Comparands::Results(base, new)),
            (SideArg::Result(file), _) | (_, SideArg::Result(file)) => Err(format!(
                "{} is not a target, tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:PATH: a \
                 stored result can only be compared with another",
                file.display()
            )),
            (base, new) => Ok(Comparands::Servers {
                base: ServerArg {
                    side: base,
                    admin: self.base_admin.clone(),
                },
                new: ServerArg {
                    side: new,
                    admin: self.new_admin.clone(),
                },
                looks: self.looks()?,
            }),
        }
    }

    /// After the first rounds, and each time their number has doubled.
    fn looks(&self) -> Result<Vec<usize>, String> {
        let first = self.rounds as usize;
        let last = self.max_rounds.map_or(first, |most| most as usize);
        if last < first {
            return Err(format!(
                "--max-rounds {last} is less than --rounds {first}; give fewer rounds to begin with"
            ));
        }
        let doubled = std::iter::successors(Some(first), |rounds| rounds.checked_mul(2));
        Ok(doubled
            .take_while(|&rounds| rounds < last)
            .chain(std::iter::once(last))
            .collect())
    }

    fn check(&self, comparands: &Comparands) -> Result<(), String> {
        match comparands {
            Comparands::Results(..) => {
                match self
                    .given
                    .iter()
                    .find(|id| !OF_RESULTS.contains(&id.as_str()))
                {
                    Some(id) => Err(format!(
                        "--{} is for servers that are measured; stored results were measured already",
                        id.replace('_', "-")
                    )),
                    None => Ok(()),
                }
            }
            Comparands::Servers { base, new, .. } => {
                if self.given.contains("server_admin") {
                    return Err(
                        "each server has an admin port of its own: --base-admin and --new-admin"
                            .to_owned(),
                    );
                }
                let is_secured = |server: &ServerArg| match &server.side {
                    SideArg::Target(target) => has_tls(target),
                    // What it prints decides.
                    SideArg::Command(_) => true,
                    SideArg::Result(_) => false,
                };
                if let Some(name) = self.load.tls_option()
                    && !is_secured(base)
                    && !is_secured(new)
                {
                    return Err(format!(
                        "{name} is for TLS, and no target is tls://HOST:PORT; leave it out"
                    ));
                }
                if self.given.contains("repeat") {
                    return Err("the rounds are the repeats: --rounds".to_owned());
                }
                let plans = [self.plan(base)?, self.plan(new)?];
                let differences = plans[0].differences(&plans[1], &[]);
                if differences.is_empty() {
                    Ok(())
                } else {
                    Err(format!(
                        "the two would be measured differently, {}; say which it is to be",
                        differences.join(", ")
                    ))
                }
            }
        }
    }

    /// The plan for `server`. A server that is not started yet is assumed to use TCP.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn plan(&self, server: &ServerArg) -> Result<Plan, String> {
        let target = match &server.side {
            SideArg::Target(target) => target.clone(),
            SideArg::Result(_) | SideArg::Command(_) => {
                Endpoint::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into())
            }
        };
        self.plan_for(target, server.admin.clone())
    }

    /// The plan for the server at `target`.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn plan_for(
        &self,
        target: Endpoint,
        admin: Option<AdminUrl>,
    ) -> Result<Plan, String> {
        let is_given = |name: &str| self.given.contains(name);
        let load = if has_tls(&target) {
            self.load.clone()
        } else {
            self.load.without_tls()
        };
        let mut plan = load.to_plan(&TargetArgs::one(target), is_given)?;
        let has_length = is_given("requests") || plan.is_open_loop() && !plan.has_steady_load();
        if !is_given("duration") && !has_length {
            plan.duration = Some(WINDOW);
        }
        if !is_given("warmup") && !has_length {
            plan.warmup = WARM_UP;
        }
        plan.server_admin = admin;
        Ok(plan)
    }
}

/// Different from clap's groups, which have the names of types.
fn is_option(id: &str) -> bool {
    id.starts_with(|first: char| first.is_ascii_lowercase())
}

fn side(text: &str) -> Result<SideArg, String> {
    let is_target = ["tcp:", "tls:", "udp:", "unix:"]
        .iter()
        .any(|scheme| text.starts_with(scheme));
    if is_target || parse::is_like_an_endpoint(text) && !Path::new(text).exists() {
        parse::endpoint(text).map(SideArg::Target)
    } else {
        Ok(SideArg::Result(text.into()))
    }
}
