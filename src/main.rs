//! `echod`: the command line in, an exit code out. All else is the library's.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use echomark::net::sys;
use echomark::settings::{LogFormat, LogLevel};
use echomark::{Config, Error, Handle, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, level_filters::LevelFilter, warn};

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
    match serve(resolved.settings.config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let way_out = cli::way_out(&error)
                .map(|text| format!("; {text}"))
                .unwrap_or_default();
            // Nobody is left to tell when stderr is closed.
            let _ = writeln!(io::stderr(), "echod: {error}{way_out}");
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

fn serve(config: Config) -> Result<(), Error> {
    if let Err(error) = sys::raise_descriptor_limit() {
        warn!(%error, "cannot raise the limit on open descriptors");
    }
    let server = Server::bind(config)?;
    if let Err(error) = obey_signals(server.handle()) {
        warn!(%error, "cannot handle signals; SIGTERM and SIGINT will end echod without a drain");
    }
    announce(&server);
    let total = server.run()?;
    info!(
        accepted = total.accepted,
        received_bytes = total.received_bytes,
        sent_bytes = total.sent_bytes,
        "stopped"
    );
    Ok(())
}

/// Prints what scripts wait for. A closed stdout means that none is waiting.
fn announce(server: &Server) {
    let mut stdout = io::stdout().lock();
    for (service, endpoint) in server.endpoints() {
        let _ = writeln!(stdout, "listening {service} {endpoint}");
    }
    let _ = writeln!(stdout, "ready");
    let _ = stdout.flush();
}

/// The first SIGTERM or SIGINT drains, the second stops at once.
fn obey_signals(handle: Handle) -> io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    thread::Builder::new()
        .name("echod-signals".to_owned())
        .spawn(move || {
            let mut signals = signals.forever();
            if signals.next().is_some() {
                info!("draining; a second signal stops at once");
                handle.drain();
            }
            if signals.next().is_some() {
                handle.stop();
            }
        })?;
    Ok(())
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
