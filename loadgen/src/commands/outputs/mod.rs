//! The outputs of a run's result: files, stdout, the terminal.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::SystemTime;

use loadgen::observer::Slice;
use loadgen::observer::{Live, Observer, Phase};
use loadgen::report::hlog::HistogramLog;
use loadgen::report::ndjson::Ndjson;
use loadgen::report::{Report, csv, html, json, prometheus, text};
use loadgen::result::IntervalResult;
use loadgen::{Control, Plan, RunResult};

use crate::cli::{OutputArgs, is_stdout};
use crate::exit::Failure;
use crate::terminal::{progress, style, tui};

mod file;

pub(crate) use file::{OutputFile, remove_unfinished};

/// The outputs of one run: some are written during the run, the others at its end.
pub(crate) struct Outputs<'a> {
    args: &'a OutputArgs,
    watchers: Vec<Box<dyn Observer + 'a>>,
    ndjson: Option<Ndjson>,
    hlog: Option<HistogramLog>,
    json: Option<OutputFile>,
    csv: Option<OutputFile>,
    html: Option<OutputFile>,
    prometheus: Option<OutputFile>,
}

impl<'a> Outputs<'a> {
    /// Opens every file before the run, so that a wrong path fails early. On the terminal, keys
    /// control the run through `control`.
    ///
    /// # Errors
    /// One line for the user: the output that can't be written, and why.
    pub(crate) fn open(
        args: &'a OutputArgs,
        plan: &Plan,
        control: &Control,
    ) -> Result<Self, String> {
        let at_end = |path: &Path| {
            (!is_stdout(path))
                .then(|| OutputFile::open(path))
                .transpose()
        };
        let mut outputs = Self {
            args,
            watchers: Vec::new(),
            json: open(args.json.as_deref(), at_end)?.flatten(),
            csv: open(args.csv.as_deref(), at_end)?.flatten(),
            html: open(args.html.as_deref(), at_end)?.flatten(),
            prometheus: open(args.prometheus.as_deref(), at_end)?.flatten(),
            ndjson: open(args.ndjson.as_deref(), |path| {
                if is_stdout(path) {
                    Ndjson::start(io::stdout())
                } else {
                    Ndjson::start(File::create(path)?)
                }
            })?,
            hlog: open(args.hlog.as_deref(), |path| {
                HistogramLog::start(File::create(path)?)
            })?,
        };
        if args.tui {
            outputs.watchers.push(Box::new(tui::start(plan, control)?));
        } else if !args.quiet && progress::is_possible() {
            let feed = progress::start(plan)
                .map_err(|error| format!("cannot start a thread for the progress: {error}"))?;
            outputs.watchers.push(Box::new(feed));
        }
        Ok(outputs)
    }

    /// Writes the outputs at the end of the run. If one fails, the others are still written.
    ///
    /// # Errors
    /// One line for the user: the output that can't be written, and why.
    pub(crate) fn deliver(self, result: &RunResult) -> Result<(), String> {
        let args = self.args;
        // The progress leaves the terminal before the table is printed.
        drop(self.watchers);
        let mut problems = Problems::default();
        problems.note(
            args.json.as_deref(),
            self.json
                .map(|file| file.write(|out| json::write(result, out))),
        );
        problems.note(
            args.csv.as_deref(),
            self.csv
                .map(|file| file.write(|out| out.write_all(csv::render(result).as_bytes()))),
        );
        problems.note(
            args.html.as_deref(),
            self.html
                .map(|file| file.write(|out| out.write_all(html::render(result).as_bytes()))),
        );
        problems.note(
            args.prometheus.as_deref(),
            self.prometheus
                .map(|file| file.write(|out| out.write_all(prometheus::render(result).as_bytes()))),
        );
        let stdout = Path::new("-");
        if args.json.as_deref().is_some_and(is_stdout) {
            let written = json::write(result, io::BufWriter::new(io::stdout().lock()));
            problems.note(Some(stdout), Some(written));
        }
        if !args.quiet && !args.takes_stdout() {
            problems.note(Some(stdout), Some(print(result)));
        }
        // Last, because these may have to wait for a reader.
        problems.note(args.hlog.as_deref(), self.hlog.map(HistogramLog::finish));
        problems.note(
            args.ndjson.as_deref(),
            self.ndjson.map(|lines| lines.finish(result)),
        );
        problems.into_result()
    }

    fn observers(&mut self) -> impl Iterator<Item = &mut dyn Observer> {
        let streams = [
            self.ndjson.as_mut().map(|o| o as &mut dyn Observer),
            self.hlog.as_mut().map(|o| o as &mut dyn Observer),
        ];
        self.watchers
            .iter_mut()
            .map(|watcher| watcher.as_mut() as &mut dyn Observer)
            .chain(streams.into_iter().flatten())
    }
}

impl Observer for Outputs<'_> {
    fn phase(&mut self, phase: Phase) {
        self.observers().for_each(|observer| observer.phase(phase));
    }

    fn window(&mut self, begin: SystemTime) {
        self.observers().for_each(|observer| observer.window(begin));
    }

    fn slice(&mut self, live: &Live<'_>) {
        self.observers().for_each(|observer| observer.slice(live));
    }

    fn interval(&mut self, interval: &IntervalResult, samples: &Slice) {
        self.observers()
            .for_each(|observer| observer.interval(interval, samples));
    }

    fn drain(&mut self, interval: &IntervalResult, samples: &Slice) {
        self.observers()
            .for_each(|observer| observer.drain(interval, samples));
    }
}

/// Writes the table of a result to stdout.
pub(crate) fn print(report: &dyn Report) -> io::Result<()> {
    let table = text::render_in(report, style::of_stdout());
    io::stdout().write_all(table.as_bytes())
}

/// Opens an output, if it is asked for.
///
/// # Errors
/// One line for the user: the output that can't be written, and why.
pub(crate) fn open<T>(
    path: Option<&Path>,
    open: impl FnOnce(&Path) -> io::Result<T>,
) -> Result<Option<T>, String> {
    path.map(|path| open(path).map_err(|error| problem(path, error)))
        .transpose()
}

/// One line for the user: the output that can't be written, and why.
pub(crate) fn problem(path: &Path, error: impl ToString) -> String {
    let what = if is_stdout(path) {
        "to stdout".to_owned()
    } else {
        path.display().to_string()
    };
    format!("cannot write {what}: {}", error.to_string())
}

/// The failure of an output.
pub(crate) fn not_written(path: &Path, error: impl ToString) -> Failure {
    Failure::of_run(problem(path, error))
}

/// The output that could not be written.
#[derive(Default)]
pub(crate) struct Problems {
    texts: Vec<String>,
}

impl Problems {
    /// Notes the outcome of an output, if it was written.
    pub(crate) fn note<E: ToString>(
        &mut self,
        path: Option<&Path>,
        written: Option<Result<(), E>>,
    ) {
        if let Some((path, Err(error))) = path.zip(written) {
            self.texts.push(problem(path, error));
        }
    }

    /// # Errors
    /// One line for the user: the outputs that could not be written, and why.
    pub(crate) fn into_result(self) -> Result<(), String> {
        if self.texts.is_empty() {
            Ok(())
        } else {
            Err(self.texts.join("; "))
        }
    }
}
