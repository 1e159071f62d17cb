//! Where a run's result goes: files, stdout, the terminal.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

use loadgen::observer::{Live, Observer, Phase};
use loadgen::record::Slice;
use loadgen::report::{json, text};
use loadgen::result::IntervalResult;
use loadgen::{Control, Plan, RunResult};

use crate::cli::OutputArgs;
use crate::{progress, tui};

/// The outputs of one run: those that are written while it goes on, and those at its end.
pub(crate) struct Outputs<'a> {
    args: &'a OutputArgs,
    watchers: Vec<Box<dyn Observer + 'a>>,
}

impl<'a> Outputs<'a> {
    /// Opens what is written while the run goes on; on the terminal, keys steer it by `control`.
    ///
    /// # Errors
    /// One line for the user: what can't be written, and why.
    pub(crate) fn open(
        args: &'a OutputArgs,
        plan: &Plan,
        control: &Control,
    ) -> Result<Self, String> {
        let mut watchers: Vec<Box<dyn Observer + 'a>> = Vec::new();
        if args.tui {
            watchers.push(Box::new(tui::start(plan, control)?));
        } else if !args.quiet && progress::is_possible() {
            let feed = progress::start(plan)
                .map_err(|error| format!("cannot start a thread for the progress: {error}"))?;
            watchers.push(Box::new(feed));
        }
        Ok(Self { args, watchers })
    }

    /// Writes what is written at the end.
    ///
    /// # Errors
    /// One line for the user: which file can't be written, and why.
    pub(crate) fn deliver(self, result: &RunResult) -> Result<(), String> {
        let Self { args, watchers } = self;
        // What is on the terminal leaves it before the table comes.
        drop(watchers);
        let is_json_on_stdout = args.json.as_deref() == Some(Path::new("-"));
        if !args.quiet && !is_json_on_stdout {
            io::stdout()
                .write_all(text::render(result).as_bytes())
                .map_err(|error| format!("cannot write to stdout: {error}"))?;
        }
        let Some(path) = &args.json else {
            return Ok(());
        };
        let written = if is_json_on_stdout {
            json::write(result, io::stdout().lock())
        } else {
            File::create(path).and_then(|file| json::write(result, io::BufWriter::new(file)))
        };
        written.map_err(|error| format!("cannot write the result to {}: {error}", path.display()))
    }
}

impl Observer for Outputs<'_> {
    fn phase(&mut self, phase: Phase) {
        for watcher in &mut self.watchers {
            watcher.phase(phase);
        }
    }

    fn slice(&mut self, live: &Live<'_>) {
        for watcher in &mut self.watchers {
            watcher.slice(live);
        }
    }

    fn interval(&mut self, interval: &IntervalResult, samples: &Slice) {
        for watcher in &mut self.watchers {
            watcher.interval(interval, samples);
        }
    }
}
