//! `echod`: the command line in, an exit code out. All else is the library's.

use std::io::{self, Write};
use std::process::ExitCode;

use echomark::process::supervisor;
use echomark::settings::{LogFormat, LogLevel};
use tracing::{level_filters::LevelFilter, warn};

mod cli;

use cli::{Cli, Task};

fn main() -> ExitCode {
    let cli = match Cli::parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => return cli::refuse(error),
    };
    let resolved = match cli.resolve() {
        Ok(resolved) => resolved,
        Err(mistake) => return cli::refuse_mistake(&mistake),
    };
    start_logging(resolved.settings.log_format, resolved.settings.log_level);
    if !resolved.unknown_variables.is_empty() {
        let names = resolved.unknown_variables.join(", ");
        warn!(
            names,
            "environment variables that start with ECHOD_ and set nothing"
        );
    }
    match cli.task {
        Task::Serve => {}
        Task::CheckConfig => return print("the configuration is valid\n"),
        Task::PrintConfig => return print(&resolved.to_toml()),
    }
    let resolve = move || cli.resolve().map_err(|mistake| mistake.to_string());
    match supervisor::serve(resolved, Box::new(resolve)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let way_out = failure.way_out().map(|text| format!("; {text}"));
            let way_out = way_out.unwrap_or_default();
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "echod: {failure}{way_out}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the whole answer to a question.
fn print(text: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    let printed = stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush());
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        // A reader that closed the pipe has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "echod: cannot write to stdout: {error}");
            ExitCode::FAILURE
        }
    }
}

fn start_logging(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let builder = tracing_subscriber::fmt()
        .with_max_level(level)
        .with_writer(io::stderr)
        .with_target(false);
    match format {
        LogFormat::Text => builder
            .with_ansi(io::IsTerminal::is_terminal(&io::stderr()) && no_color_is_unset())
            .init(),
        LogFormat::Json => builder.json().init(),
    }
}

/// <https://no-color.org>: any value but an empty one asks for no colour.
fn no_color_is_unset() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
