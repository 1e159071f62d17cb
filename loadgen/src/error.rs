//! Reasons for a run without a result.

use std::fmt;
use std::io;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use echomark::net::errno;
use echomark::net::units::format_duration;
use echomark::tls::Refusal;

use crate::admin::AdminUrl;
use crate::plan::watch::WatchPlanError;
use crate::profile::ProfileError;

/// The reason for a run without a result.
#[derive(Debug)]
#[expect(
    missing_docs,
    reason = "the fields are the target and the cause; Display says the rest"
)]
pub enum RunError {
    /// A target's host has no address.
    Resolve { target: Endpoint, source: io::Error },
    /// No connection could be established; the first error.
    NoConnection { target: Endpoint, source: io::Error },
    /// A target accepts connections and closes them before it echoes a byte.
    ClosesAtOnce { target: Endpoint },
    /// No socket receives datagrams at a target.
    Refused { target: Endpoint },
    /// The run needs more descriptors than the process may open.
    Descriptors { needed: usize, limit: u64 },
    /// The server's admin port did not provide its counters.
    Admin { admin: AdminUrl, source: io::Error },
    /// The options of a watch don't go together.
    Watch(WatchPlanError),
    /// The common start of the shards had passed before this one's connections were made.
    Late { by: Duration, max_skew: Duration },
    /// The shards of a run did not meet; the fact, as a sentence.
    Apart(String),
    /// What TLS needs can't be used: what it is, and why.
    Tls(String),
    /// The rate can't be laid out over the window.
    Rate(ProfileError),
    /// The embedded server could not be started.
    Embedded(echomark::Error),
    /// An unexpected failure of a system call.
    System(io::Error),
}

impl RunError {
    pub(crate) fn thread_died() -> Self {
        Self::System(io::Error::other("a measuring thread ended unexpectedly"))
    }
}

impl fmt::Display for RunError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { target, source } => {
                write!(
                    f,
                    "cannot resolve the host of {target}: {source}; check the name"
                )
            }
            Self::NoConnection { target, source } if errno::is_port_exhaustion(source) => write!(
                f,
                "cannot connect to {target}: this host has no port left for it ({source}); use more \
                 source addresses (--source) or close with a reset (--close reset)"
            ),
            Self::NoConnection { target, source } => {
                write!(f, "cannot connect to {target}: {source}")?;
                if let Some(refusal) = refusal_of(source) {
                    return f.write_str(way_out(refusal));
                }
                // Other errors explain themselves, or are not the server's.
                match source.kind() {
                    io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::NotFound
                    | io::ErrorKind::TimedOut => f.write_str("; is a server listening there?"),
                    _ => Ok(()),
                }
            }
            Self::ClosesAtOnce { target } => write!(
                f,
                "{target} accepts connections and closes them before it echoes a byte; is it the \
                 right server, and does it admit this host?"
            ),
            Self::Refused { target } => write!(
                f,
                "no socket receives datagrams at {target}; is an echo server listening there?"
            ),
            Self::Descriptors { needed, limit } => write!(
                f,
                "{needed} open descriptors are needed and {limit} allowed; raise the limit \
                 (ulimit -Hn) or use fewer connections (-c)"
            ),
            Self::Admin { admin, source } => write!(
                f,
                "cannot read what the server counts at {admin}: {source}; is it the admin port of the \
                 echod that is measured (echod --admin)?"
            ),
            Self::Late { by, max_skew } => write!(
                f,
                "the connections were made too late: this shard would have started {} after the common \
                 start (--start-at), and {} are allowed (--max-skew); it has measured nothing: start \
                 later, or connect faster (--ramp)",
                format_duration(rounded(*by)),
                format_duration(*max_skew)
            ),
            Self::Apart(problem) => f.write_str(problem),
            Self::Tls(problem) => f.write_str(problem),
            Self::Rate(error) => error.fmt(f),
            Self::Watch(error) => error.fmt(f),
            Self::Embedded(error) => write!(f, "cannot start the embedded server: {error}"),
            Self::System(error) => write!(f, "a system call failed: {error}"),
        }
    }
}

impl std::error::Error for RunError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::NoConnection { source, .. }
            | Self::Admin { source, .. } => Some(source),
            Self::Embedded(source) => Some(source),
            Self::System(source) => Some(source),
            Self::Rate(source) => Some(source),
            Self::Watch(source) => Some(source),
            Self::ClosesAtOnce { .. }
            | Self::Refused { .. }
            | Self::Descriptors { .. }
            | Self::Late { .. }
            | Self::Apart(_)
            | Self::Tls(_) => None,
        }
    }
}

/// To a millisecond.
fn rounded(duration: Duration) -> Duration {
    Duration::from_millis(duration.as_millis() as u64)
}

/// Why there is no TLS on a connection, if that is what an error is about.
fn refusal_of(error: &io::Error) -> Option<Refusal> {
    error.get_ref()?.downcast_ref().copied()
}

/// What the user can do.
fn way_out(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownAuthority => {
            "; name its authority with --tls-ca FILE, or believe anybody with --tls-insecure"
        }
        Refusal::WrongName => "; say which with --tls-server-name NAME",
        Refusal::Expired | Refusal::NotYetValid | Refusal::BadCertificate => {
            "; --tls-insecure accepts it all the same"
        }
        Refusal::NoCommonVersion => "; leave out --tls-version, if it is given",
        Refusal::NotTls | Refusal::NoAnswer => "; is it a server for tcp:// targets?",
        Refusal::Silent => " (--timeout); is it a server for tcp:// targets?",
        Refusal::CertificateRequired => "; give one with --tls-cert FILE and --tls-key FILE",
        Refusal::CertificateRefused => {
            "; give another with --tls-cert FILE and --tls-key FILE, or ask for its authority to be known"
        }
        Refusal::UnknownName => "; give another with --tls-server-name NAME",
        Refusal::Closed | Refusal::Alert(_) | Refusal::Broken => "",
    }
}
