//! `loadgen report`: a stored result in another format.

use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

use loadgen::report::{self, csv, html, markdown, text};
use loadgen::result::Stored;

use crate::cli::{Format, ReportArgs, is_stdout};
use crate::commands::outputs::OutputFile;
use crate::exit::{DONE, Failure};

/// Reads the result and writes the report.
pub(crate) fn run(args: &ReportArgs) -> Result<u8, Failure> {
    let format = args.format().map_err(Failure::usage)?;
    let stored = read(&args.result).map_err(Failure::of_run)?;
    let report = render(&stored, format);
    let written = match args.output() {
        Some(path) => OutputFile::open(path)
            .and_then(|file| file.write(|out| out.write_all(report.as_bytes())))
            .map_err(|error| format!("cannot write {}: {error}", path.display())),
        None => io::stdout()
            .write_all(report.as_bytes())
            .map_err(|error| format!("cannot write to stdout: {error}")),
    };
    written.map(|()| DONE).map_err(Failure::of_run)
}

fn read(path: &Path) -> Result<Stored, String> {
    let (name, json) = if is_stdout(path) {
        let mut json = Vec::new();
        let read = io::stdin().read_to_end(&mut json);
        ("stdin".to_owned(), read.map(|_| json))
    } else {
        (path.display().to_string(), fs::read(path))
    };
    let json = json.map_err(|error| format!("cannot read {name}: {error}"))?;
    Stored::read(&json).map_err(|error| format!("cannot read {name}: {error}"))
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
