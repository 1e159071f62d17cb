//! `loadgen report`: a stored result in another format.

use std::io::{self, Write};

use loadgen::report::{self, Report, csv, html, markdown, text};

use crate::cli::{Format, ReportArgs};
use crate::commands::outputs::{OutputFile, print, problem};
use crate::commands::stored;
use crate::exit::{DONE, Failure};

/// Reads the result and writes the report.
pub(crate) fn run(args: &ReportArgs) -> Result<u8, Failure> {
    let format = args.format().map_err(Failure::usage)?;
    stored::keep(&[&args.result], args.output())?;
    let stored = stored::read(&args.result)?;
    let report = report::of(&stored);
    let written = match (args.output(), format) {
        (Some(path), _) => OutputFile::open(path)
            .and_then(|file| file.write(|out| out.write_all(render(report, format).as_bytes())))
            .map_err(|error| problem(path, error)),
        (None, Format::Text) => print(report).map_err(|error| problem("-".as_ref(), error)),
        (None, _) => io::stdout()
            .write_all(render(report, format).as_bytes())
            .map_err(|error| problem("-".as_ref(), error)),
    };
    written.map(|()| DONE).map_err(Failure::of_run)
}

fn render(report: &dyn Report, format: Format) -> String {
    match format {
        Format::Csv => csv::render(report),
        Format::Html => html::render(report),
        Format::Markdown => markdown::render(report),
        Format::Text => text::render(report),
    }
}
