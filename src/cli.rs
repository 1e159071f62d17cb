//! The command line of `echod`. Only this file knows clap; what leaves it is a typed [`Config`].

use std::io::{self, Write};
use std::num::{NonZeroU32, NonZeroUsize};
use std::process::ExitCode;
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use echomark::net::affinity;
use echomark::net::endpoint::Endpoint;
use echomark::net::tuning::Tuning;
use echomark::net::units::{self, UnitError};
use echomark::{Config, Error, Limits, Service, Spin};

/// An echo service (RFC 862) with one epoll event loop per core.
#[derive(Debug, Parser)]
#[command(name = "echod", version, max_term_width = 100)]
pub(crate) struct Args {
    /// Echo here: tcp://HOST:PORT, an IPv6 host in brackets; port 0 takes a free one. May be
    /// repeated [default: tcp://127.0.0.1:7777]
    #[arg(long, value_name = "ENDPOINT")]
    echo: Vec<Endpoint>,

    /// Reactor threads; auto: as many as CPUs that this process may use
    #[arg(long, value_name = "N|auto", default_value = "auto", value_parser = parse_workers)]
    workers: NonZeroUsize,

    /// Bind worker i to the i-th allowed CPU
    #[arg(long)]
    pin: bool,

    /// Stay awake for so long after the last event; 0: never, always: use the CPUs whole
    #[arg(long, value_name = "DURATION|always", default_value = "0", value_parser = parse_spin)]
    spin: Spin,

    /// Completed connections that the kernel may hold for each listener
    #[arg(long, value_name = "N", default_value = "4096", value_parser = parse_backlog)]
    backlog: NonZeroU32,

    /// Receive buffer of a connection, SO_RCVBUF [default: the kernel adapts it]
    #[arg(long, value_name = "SIZE", value_parser = parse_buffer)]
    recv_buffer: Option<NonZeroUsize>,

    /// Send buffer of a connection, SO_SNDBUF [default: the kernel adapts it]
    #[arg(long, value_name = "SIZE", value_parser = parse_buffer)]
    send_buffer: Option<NonZeroUsize>,

    /// Buffer of a worker: the most one read takes and a peer that does not read costs
    #[arg(long, value_name = "SIZE", default_value = "64KiB", value_parser = parse_buffer)]
    read_buffer: NonZeroUsize,

    /// Congestion control algorithm [default: the kernel's]
    #[arg(long, value_name = "NAME")]
    congestion: Option<String>,

    /// Let the kernel gather small segments (Nagle's algorithm)
    #[arg(long)]
    no_nodelay: bool,

    /// End a connection whose peer acknowledges nothing for so long [default: the kernel's]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    user_timeout: Option<Duration>,

    /// Connections open at a time; more are accepted and closed [default: no limit]
    #[arg(long, value_name = "N", value_parser = parse_limit)]
    max_connections: Option<NonZeroUsize>,

    /// Close a connection on which no byte moved for so long [default: never]
    #[arg(long, value_name = "DURATION", value_parser = parse_positive_duration)]
    idle_timeout: Option<Duration>,

    /// Go on accepting for so long after SIGTERM or SIGINT
    #[arg(long, value_name = "DURATION", default_value = "0", value_parser = units::parse_duration)]
    drain_delay: Duration,

    /// Then let open connections finish for so long; a second signal stops at once
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = units::parse_duration)]
    drain_timeout: Duration,

    /// How log lines on stderr look
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,

    /// Least important log lines to print
    #[arg(long, value_enum, default_value_t = LogLevel::Info)]
    pub(crate) log_level: LogLevel,
}

impl Args {
    pub(crate) fn into_config(self) -> Config {
        let mut config = Config {
            workers: self.workers,
            pin: self.pin,
            spin: self.spin,
            backlog: self.backlog.get(),
            tuning: Tuning {
                recv_buffer: self.recv_buffer.map(NonZeroUsize::get),
                send_buffer: self.send_buffer.map(NonZeroUsize::get),
                congestion: self.congestion,
                nodelay: !self.no_nodelay,
                user_timeout: self.user_timeout,
            },
            read_buffer: self.read_buffer,
            limits: Limits {
                max_connections: self.max_connections,
                idle_timeout: self.idle_timeout,
                ..Limits::default()
            },
            drain_delay: self.drain_delay,
            drain_timeout: self.drain_timeout,
            ..Config::default()
        };
        if !self.echo.is_empty() {
            config.services = self.echo.into_iter().map(|e| (Service::Echo, e)).collect();
        }
        config
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// Help and version go to stdout; a usage error becomes one line on stderr and exit code 2.
pub(crate) fn refuse(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // A reader that closed the pipe has seen enough.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    let text = error.render().to_string();
    let problem: Vec<_> = text
        .lines()
        .map(|line| line.trim().trim_start_matches("error: "))
        .take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"))
        .filter(|line| !line.is_empty())
        .collect();
    // Nobody is left to tell when stderr is closed.
    let _ = writeln!(
        io::stderr(),
        "echod: {}; see echod --help",
        problem.join("; ")
    );
    ExitCode::from(2)
}

/// What the user can do about a failure, in terms of the command line.
pub(crate) fn way_out(error: &Error) -> Option<&'static str> {
    match error {
        Error::Bind { source, .. } => Some(match source.kind() {
            io::ErrorKind::AddrInUse => {
                "choose another port with --echo tcp://HOST:PORT, or port 0 for a free one"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with \
                 --echo tcp://HOST:PORT"
            }
            io::ErrorKind::AddrNotAvailable => {
                "the address is not of this machine; choose one with --echo tcp://HOST:PORT, \
                 0.0.0.0 or [::] for all"
            }
            _ => return None,
        }),
        Error::Resolve { .. } => {
            Some("check the name, or give an address with --echo tcp://HOST:PORT")
        }
        Error::Setup { .. } => {
            Some("fewer --workers need fewer descriptors and threads; see ulimit -n and -u")
        }
        Error::Tuning { .. }
        | Error::Handover(_)
        | Error::Worker { .. }
        | Error::Panicked { .. } => None,
    }
}

fn parse_workers(text: &str) -> Result<NonZeroUsize, String> {
    /// More threads than any machine has CPUs would only be a typing error.
    const MOST: usize = 4096;
    if text == "auto" {
        return Ok(affinity::usable_cpus());
    }
    let workers = parse_limit(text)?;
    if workers.get() > MOST {
        return Err(format!("at most {MOST} workers"));
    }
    Ok(workers)
}

fn parse_spin(text: &str) -> Result<Spin, UnitError> {
    Ok(match text {
        "always" => Spin::Always,
        _ => match units::parse_duration(text)? {
            Duration::ZERO => Spin::Never,
            duration => Spin::For(duration),
        },
    })
}

fn parse_backlog(text: &str) -> Result<NonZeroU32, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    u32::try_from(count)
        .ok()
        .and_then(NonZeroU32::new)
        .ok_or_else(|| "must be from 1 to 4294967295".to_owned())
}

fn parse_limit(text: &str) -> Result<NonZeroUsize, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    usize::try_from(count)
        .ok()
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| "must be at least 1".to_owned())
}

fn parse_buffer(text: &str) -> Result<NonZeroUsize, String> {
    /// The socket options are C ints.
    const MOST: u64 = 1 << 30;
    match units::parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1B".to_owned()),
        size if size > MOST => Err(format!("must be at most {}", units::format_size(MOST))),
        size => Ok(NonZeroUsize::new(size as usize).unwrap_or(NonZeroUsize::MIN)),
    }
}

fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("must be longer than 0; leave the option out for none".to_owned()),
        duration => Ok(duration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn no_flags_mean_the_library_s_defaults() {
        let args = Args::try_parse_from(["echod"]).unwrap();
        assert_eq!(args.into_config(), Config::default());
    }

    #[test]
    fn flags_become_typed_values() {
        let args = Args::try_parse_from([
            "echod",
            "--echo=tcp://[::1]:0",
            "--echo=tcp://127.0.0.1:0",
            "--workers=3",
            "--spin=50us",
            "--recv-buffer=64k",
            "--no-nodelay",
            "--max-connections=10k",
        ])
        .unwrap();
        let config = args.into_config();
        assert_eq!(config.services.len(), 2);
        assert_eq!(config.workers.get(), 3);
        assert_eq!(config.spin, Spin::For(Duration::from_micros(50)));
        assert_eq!(config.tuning.recv_buffer, Some(65_536));
        assert!(!config.tuning.nodelay);
        assert_eq!(config.limits.max_connections, NonZeroUsize::new(10_000));
    }

    #[test]
    fn what_can_t_be_is_refused() {
        for flag in [
            "--workers=0",
            "--workers=1G",
            "--backlog=0",
            "--recv-buffer=0",
            "--recv-buffer=2GiB",
            "--idle-timeout=0",
            "--idle-timeout=10",
            "--max-connections=0",
            "--echo=127.0.0.1:7",
            "--spin=sometimes",
        ] {
            assert!(Args::try_parse_from(["echod", flag]).is_err(), "{flag}");
        }
    }
}
