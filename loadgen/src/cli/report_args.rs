//! The options of `report`.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::{is_stdout, parse};

#[derive(Args, Debug)]
pub(crate) struct ReportArgs {
    /// The result: a file that --json wrote, a page of it, or an output of iperf3 -J, fortio -json, netperf
    /// (-- -k or -o) or sockperf; -: from stdin
    #[arg(value_name = "RESULT|-")]
    pub(crate) result: PathBuf,

    /// Write the report here; what its name ends with says in which format: .html, .txt, .csv, .md
    #[arg(short, long, value_name = "FILE|-", value_parser = parse::output)]
    output: Option<PathBuf>,

    /// The format, whatever the file's name
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
}

/// A report format.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Format {
    /// A page for a browser, whole in one file
    Html,
    /// The table that a run prints
    Text,
    /// The intervals, or trials, or figures, a line each
    Csv,
    /// Tables for a pull request
    Markdown,
}

impl ReportArgs {
    /// The report's file; `None` for stdout.
    pub(crate) fn output(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| !is_stdout(path))
    }

    /// The requested format, or the format of the file's extension.
    ///
    /// # Errors
    /// One line for the user: the extension is of no format.
    pub(crate) fn format(&self) -> Result<Format, String> {
        match (self.format, self.output()) {
            (Some(format), _) => Ok(format),
            (None, None) => Ok(Format::Text),
            (None, Some(path)) => format_of(path).ok_or_else(|| {
                format!(
                    "what format is {}? End its name with .html, .txt, .csv or .md, or say --format",
                    path.display()
                )
            }),
        }
    }
}

fn format_of(path: &Path) -> Option<Format> {
    let extension = path.extension()?.to_str()?.to_ascii_lowercase();
    match extension.as_str() {
        "html" | "htm" => Some(Format::Html),
        "txt" => Some(Format::Text),
        "csv" => Some(Format::Csv),
        "md" | "markdown" => Some(Format::Markdown),
        _ => None,
    }
}
