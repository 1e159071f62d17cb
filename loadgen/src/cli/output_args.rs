//! The options that say where the result goes.

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;

use super::parse;
use super::place::{check_apart, is_stdout};
use crate::terminal::progress;

/// Where the result goes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Write the result here as JSON; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output)]
    pub(crate) json: Option<PathBuf>,

    /// Write the histograms of every interval here while running: an HdrHistogram interval log
    #[arg(long, value_name = "FILE", value_parser = parse::file)]
    pub(crate) hlog: Option<PathBuf>,

    /// Write the intervals here as CSV
    #[arg(long, value_name = "FILE", value_parser = parse::file)]
    pub(crate) csv: Option<PathBuf>,

    /// Write the result here as a page for a browser, whole in one file
    #[arg(long, value_name = "FILE", value_parser = parse::file)]
    pub(crate) html: Option<PathBuf>,

    /// Write each interval here as a line of JSON while running; -: to stdout, and nothing else there
    #[arg(long, value_name = "FILE|-", value_parser = parse::output)]
    pub(crate) ndjson: Option<PathBuf>,

    /// Write the result here in Prometheus' text format, to be pushed or collected
    #[arg(long, value_name = "FILE", value_parser = parse::file)]
    pub(crate) prometheus: Option<PathBuf>,

    /// Exit with 0 even if the verdict is invalid
    #[arg(long)]
    pub(crate) allow_invalid: bool,

    /// No progress and no table
    #[arg(short, long, conflicts_with = "tui")]
    pub(crate) quiet: bool,

    /// Show the run on the whole terminal; keys end it and change its rate
    #[arg(long)]
    pub(crate) tui: bool,
}

impl OutputArgs {
    /// Checks that no output overwrites another, and that there is a terminal to draw on.
    ///
    /// # Errors
    /// One line for the user: two options with the same place, or a missing terminal.
    pub(crate) fn check(&self) -> Result<(), String> {
        check_apart(&self.places())?;
        if self.tui {
            check_screen(self.ndjson.as_deref())?;
        }
        Ok(())
    }

    /// Whether an output uses stdout exclusively.
    pub(crate) fn takes_stdout(&self) -> bool {
        self.places().iter().any(|(_, place)| is_stdout(place))
    }

    /// The outputs with a place, by option name.
    pub(crate) fn places(&self) -> Vec<(&'static str, &Path)> {
        [
            ("json", &self.json),
            ("hlog", &self.hlog),
            ("csv", &self.csv),
            ("html", &self.html),
            ("ndjson", &self.ndjson),
            ("prometheus", &self.prometheus),
        ]
        .into_iter()
        .filter_map(|(option, place)| Some((option, place.as_deref()?)))
        .collect()
    }
}

/// Checks that there is a terminal to draw on, and that the lines of `ndjson` do not go there too.
///
/// # Errors
/// One line for the user: what is in the way.
pub(super) fn check_screen(ndjson: Option<&Path>) -> Result<(), String> {
    if !io::stderr().is_terminal() {
        return Err("--tui draws on a terminal, and stderr is none; run without it".to_owned());
    }
    if !progress::is_possible() {
        return Err(
            "--tui draws on the whole terminal, and TERM=dumb says that it has no cursor to \
             move; run without it, or set TERM to what the terminal is"
                .to_owned(),
        );
    }
    if ndjson.is_some_and(is_stdout) && io::stdout().is_terminal() {
        return Err("--tui and --ndjson - can't both write to the terminal".to_owned());
    }
    Ok(())
}
