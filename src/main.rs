//! `echod`: the command line in, an exit code out. All else is the library's.

use std::io::{self, Write};
use std::process::ExitCode;
use std::thread;

use clap::Parser;
use echomark::net::sys;
use echomark::{Config, Error, Handle, Server};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing::{info, level_filters::LevelFilter, warn};

mod cli;

use cli::{Args, LogFormat, LogLevel};

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return cli::refuse(&error),
    };
    start_logging(args.log_format, args.log_level);
    match serve(args.into_config()) {
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
