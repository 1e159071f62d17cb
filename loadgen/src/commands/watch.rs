//! `loadgen watch`: outages and their causes, until stopped.

use std::fs::File;
use std::io;
use std::path::Path;

use loadgen::observer::watch::{WatchEvent, WatchObserver, WatchStatus};
use loadgen::plan::watch::WatchPlan;
use loadgen::report::ndjson::WatchNdjson;
use loadgen::report::{html, json};
use loadgen::watch;
use loadgen::{Control, WatchResult};

use crate::cli::{WatchArgs, is_stdout};
use crate::commands::outputs::{OutputFile, Problems, open, print};
use crate::commands::signals;
use crate::exit::{DONE, Failure, INTERRUPTED, INVALID, OBJECTIVE_NOT_MET};
use crate::terminal::progress;
use crate::terminal::watch::{line, tui};

/// Watches, writes the result to the outputs, and returns the exit code.
pub(crate) fn run(args: &WatchArgs) -> Result<u8, Failure> {
    let plan = args.resolve().map_err(Failure::usage)?;
    let control = signals::stop_on_signals()?;
    let mut outputs = Outputs::open(args, &plan, &control).map_err(Failure::of_run)?;
    let result = watch::run(&plan, &control, &mut outputs)
        .map_err(|error| Failure::of_run(error.to_string()))?;
    let Some(result) = result else {
        return Ok(INTERRUPTED);
    };
    outputs.deliver(&result).map_err(Failure::of_run)?;
    Ok(exit_code(args, &result))
}

/// An outage that is too long was seen, however the watch ended.
fn exit_code(args: &WatchArgs, result: &WatchResult) -> u8 {
    if result.exceeds_limit() {
        OBJECTIVE_NOT_MET
    } else if result.interrupted {
        INTERRUPTED
    } else if result.is_blind() && !args.allow_invalid {
        INVALID
    } else {
        DONE
    }
}

/// Where the events and the result go.
struct Outputs<'a> {
    args: &'a WatchArgs,
    live: Option<Box<dyn WatchObserver>>,
    ndjson: Option<WatchNdjson>,
    json: Option<OutputFile>,
    html: Option<OutputFile>,
}

impl<'a> Outputs<'a> {
    /// Opens every file before the watch, so that a wrong path fails early. On the whole terminal, keys end
    /// the watch through `control`.
    fn open(args: &'a WatchArgs, plan: &WatchPlan, control: &Control) -> Result<Self, String> {
        let at_end = |path: &Path| {
            (!is_stdout(path))
                .then(|| OutputFile::open(path))
                .transpose()
        };
        let mut outputs = Self {
            args,
            live: None,
            json: open(args.json.as_deref(), at_end)?.flatten(),
            html: open(args.html.as_deref(), at_end)?.flatten(),
            ndjson: open(args.ndjson.as_deref(), |path| {
                if is_stdout(path) {
                    WatchNdjson::start(plan, io::stdout())
                } else {
                    WatchNdjson::start(plan, File::create(path)?)
                }
            })?,
        };
        if args.tui {
            outputs.live = Some(Box::new(tui::start(plan, control)?));
        } else if !args.quiet && progress::is_possible() {
            let line = line::start(plan)
                .map_err(|error| format!("cannot start a thread for the live line: {error}"))?;
            outputs.live = Some(Box::new(line));
        }
        Ok(outputs)
    }

    /// Writes the outputs at the end. If one fails, the others are still written.
    fn deliver(self, result: &WatchResult) -> Result<(), String> {
        let args = self.args;
        // The live line leaves the terminal before the table is printed.
        drop(self.live);
        let stdout = Path::new("-");
        let mut problems = Problems::default();
        problems.note(
            args.json.as_deref(),
            self.json
                .map(|file| file.write(|out| json::write(result, out))),
        );
        problems.note(
            args.html.as_deref(),
            self.html
                .map(|file| file.write(|out| out.write_all(html::render(result).as_bytes()))),
        );
        if args.json.as_deref().is_some_and(is_stdout) {
            let written = json::write(result, io::BufWriter::new(io::stdout().lock()));
            problems.note(Some(stdout), Some(written));
        }
        if !args.quiet && !args.takes_stdout() {
            problems.note(Some(stdout), Some(print(result)));
        }
        // Last, because it may have to wait for a reader.
        problems.note(
            args.ndjson.as_deref(),
            self.ndjson.map(|lines| lines.finish(result)),
        );
        problems.into_result()
    }
}

impl WatchObserver for Outputs<'_> {
    fn event(&mut self, event: &WatchEvent) {
        if let Some(live) = &mut self.live {
            live.event(event);
        }
        if let Some(ndjson) = &mut self.ndjson {
            ndjson.event(event);
        }
    }

    fn status(&mut self, status: &WatchStatus) {
        if let Some(live) = &mut self.live {
            live.status(status);
        }
    }
}
