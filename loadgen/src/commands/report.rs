//! `loadgen report`: a stored result in another format.

use std::io::{self, Write};

use loadgen::report::{self, csv, html, markdown, text};
use loadgen::result::Stored;

use crate::cli::{Format, ReportArgs};
use crate::commands::outputs::{OutputFile, problem};
use crate::commands::stored;
use crate::exit::{DONE, Failure};

/// Reads the result and writes the report.
pub(crate) fn run(args: &ReportArgs) -> Result<u8, Failure> {
    let format = args.format().map_err(Failure::usage)?;
    stored::keep(&[&args.result], args.output())?;
    let report = render(&stored::read(&args.result)?, format);
    let written = match args.output() {
        Some(path) => OutputFile::open(path)
            .and_then(|file| file.write(|out| out.write_all(report.as_bytes())))
            .map_err(|error| problem(path, error)),
        None => io::stdout()
            .write_all(report.as_bytes())
            .map_err(|error| problem("-".as_ref(), error)),
    };
    written.map(|()| DONE).map_err(Failure::of_run)
}

fn render(stored: &Stored, format: Format) -> String {
    let report = report::of(stored);
    match format {
        Format::Csv => csv::render(report),
        Format::Html => html::render(report),
        Format::Markdown => markdown::render(report),
        Format::Text => text::render(report),
    }
}
