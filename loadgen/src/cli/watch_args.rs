//! The options of `watch`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use echomark::net::endpoint::Endpoint;
use echomark::net::units;
use loadgen::plan::watch::WatchPlan;

use super::output_args::check_screen;
use super::parse;
use super::place::{check_apart, is_stdout};
use super::target_args::has_tls;
use super::tls_args::TlsArgs;

#[derive(Args, Debug)]
pub(crate) struct WatchArgs {
    /// Servers, tcp://HOST:PORT, tls://HOST:PORT, udp://HOST:PORT or unix:PATH; each is asked on its own
    #[arg(value_name = "TARGET", required = true, value_parser = parse::endpoint)]
    targets: Vec<Endpoint>,

    /// Time between two probes of a persistent connection
    #[arg(long, value_name = "D", default_value = "50ms", value_parser = parse::positive_duration)]
    interval: Duration,

    /// Persistent connections to each target; 0: none
    #[arg(short, long, value_name = "N", default_value = "1", value_parser = connections)]
    connections: usize,

    /// New connections per second to each target, each asked once and closed; 0: none
    #[arg(long, value_name = "R", default_value = "10", value_parser = rate)]
    new_rate: f64,

    /// The time after which a probe counts as not answered: when a client gives up
    #[arg(long, value_name = "D", default_value = "5s", value_parser = parse::positive_duration)]
    timeout: Duration,

    /// An answer that takes longer is late, which is no outage [default: a fifth of --timeout]
    #[arg(long, value_name = "D", value_parser = parse::positive_duration)]
    late: Option<Duration>,

    /// Exit with 99 if an outage is longer, and with 97 if the client itself did not run for longer
    #[arg(long, value_name = "D", value_parser = duration)]
    max_outage: Option<Duration>,

    /// Length of the watch [default: until it is stopped, by ctrl-C or SIGTERM]
    #[arg(short, long, value_name = "D", value_parser = parse::positive_duration)]
    duration: Option<Duration>,

    #[command(flatten)]
    tls: TlsArgs,

    /// Write the result here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output, help_heading = "Output")]
    pub(crate) json: Option<PathBuf>,

    /// Write the result here as a page for a browser, with a timeline for each target
    #[arg(long, value_name = "FILE", value_parser = parse::file, help_heading = "Output")]
    pub(crate) html: Option<PathBuf>,

    /// Write what happens here as lines of JSON while watching; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output, help_heading = "Output")]
    pub(crate) ndjson: Option<PathBuf>,

    /// Exit with 0 even if the client did not run for longer than --max-outage
    #[arg(long, help_heading = "Output")]
    pub(crate) allow_invalid: bool,

    /// No live line and no table
    #[arg(short, long, conflicts_with = "tui", help_heading = "Output")]
    pub(crate) quiet: bool,

    /// Show the watch on the whole terminal; keys end it
    #[arg(long, help_heading = "Output")]
    pub(crate) tui: bool,
}

impl WatchArgs {
    /// The plan.
    ///
    /// # Errors
    /// One line for the user: options that don't go together.
    pub(crate) fn resolve(&self) -> Result<WatchPlan, String> {
        let plan = WatchPlan {
            targets: self.targets.clone(),
            interval: self.interval,
            connections: self.connections,
            new_rate: self.new_rate,
            timeout: self.timeout,
            late: self
                .late
                .unwrap_or_else(|| WatchPlan::usual_late(self.timeout)),
            max_outage: self.max_outage,
            duration: self.duration,
            tls: self.tls.to_options(),
        };
        if let Some(name) = self.tls.given()
            && !self.targets.iter().any(has_tls)
        {
            return Err(format!(
                "{name} is for TLS, and no target is tls://HOST:PORT; leave it out"
            ));
        }
        plan.check().map_err(|error| error.to_string())?;
        check_apart(&self.places())?;
        if self.tui {
            check_screen(self.ndjson.as_deref())?;
        }
        Ok(plan)
    }

    /// Whether an output uses stdout exclusively.
    pub(crate) fn takes_stdout(&self) -> bool {
        self.places().iter().any(|(_, place)| is_stdout(place))
    }

    /// The outputs with a place, by option name.
    fn places(&self) -> Vec<(&'static str, &Path)> {
        [
            ("json", &self.json),
            ("html", &self.html),
            ("ndjson", &self.ndjson),
        ]
        .into_iter()
        .filter_map(|(option, place)| Some((option, place.as_deref()?)))
        .collect()
    }
}

fn connections(text: &str) -> Result<usize, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    usize::try_from(count).map_err(|error| error.to_string())
}

/// Connections per second; a fraction is one in several seconds.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate >= 0.0 => Ok(rate),
        Ok(_) => Err("must be a number from 0 on".to_owned()),
        Err(_) => units::parse_count(text)
            .map(|count| count as f64)
            .map_err(|error| error.to_string()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| error.to_string())
}
