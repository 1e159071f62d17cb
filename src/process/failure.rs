//! Why the program could not serve, with advice for the user.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::handover::TakeoverError;
use super::sandbox::ConfinementError;
use crate::admin::AdminError;
use crate::error::Error;
use crate::net::endpoint::Endpoint;

/// Why the process could not serve.
#[derive(Debug)]
pub enum Failure {
    /// The server could not start, or a worker failed.
    Server(Error),
    /// The admin port could not be opened.
    Admin(AdminError),
    /// The service manager passed an unsupported socket.
    Passed(io::Error),
    /// The running server could not be replaced.
    Takeover(TakeoverError),
    /// The hand-over socket could not be bound.
    Offer {
        /// As configured.
        path: String,
        /// The error of bind(2) or listen(2).
        source: io::Error,
    },
    /// The user of the configuration does not exist, or is root.
    User(String),
    /// The process could not be confined as required.
    Confinement(ConfinementError),
    /// The lines that scripts wait for could not be written to stdout.
    Announce(io::Error),
    /// A thread could not be started.
    Thread(io::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(error) => error.fmt(f),
            Self::Admin(error) => error.fmt(f),
            Self::Passed(error) => {
                write!(
                    f,
                    "cannot serve on the sockets passed by the service manager: {error}"
                )
            }
            Self::Takeover(error) => error.fmt(f),
            Self::Offer { path, source } => {
                write!(f, "cannot wait for a successor on {path}: {source}")
            }
            Self::User(problem) => f.write_str(problem),
            Self::Confinement(error) => error.fmt(f),
            Self::Announce(error) => write!(f, "cannot write to stdout: {error}"),
            Self::Thread(error) => write!(f, "cannot start a thread: {error}"),
        }?;
        match self.way_out() {
            Some(way_out) => write!(f, "; {way_out}"),
            None => Ok(()),
        }
    }
}

/// The first failure of a thread beside the workers, which ends the server.
#[derive(Clone, Default)]
pub(super) struct FirstFailure(Arc<Mutex<Option<Failure>>>);

impl FirstFailure {
    pub(super) fn note(&self, failure: Failure) {
        self.lock().get_or_insert(failure);
    }

    pub(super) fn take(&self) -> Option<Failure> {
        self.lock().take()
    }

    fn lock(&self) -> MutexGuard<'_, Option<Failure>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Failure {
    /// Whether an address is in use.
    pub(super) fn is_of_used_address(&self) -> bool {
        let (Self::Server(Error::Bind { source, .. })
        | Self::Admin(AdminError { source, .. })
        | Self::Offer { source, .. }) = self
        else {
            return false;
        };
        source.kind() == io::ErrorKind::AddrInUse
    }

    /// What the user can do about it, in terms of the command line.
    fn way_out(&self) -> Option<&'static str> {
        match self {
            Self::Server(error) => way_out(error),
            Self::Admin(_) => Some("choose another address with --admin"),
            Self::Passed(_) => Some(
                "see ListenStream=, ListenDatagram=, Accept= and FileDescriptorName= of the socket unit",
            ),
            Self::Takeover(_) => Some("start beside it with another --handover path"),
            Self::Offer { .. } => Some("choose another path with --handover"),
            Self::User(_) | Self::Confinement(_) | Self::Announce(_) => None,
            Self::Thread(_) => Some("see ulimit -u"),
        }
    }
}

/// What the user can do about a failure, in terms of the command line.
fn way_out(error: &Error) -> Option<&'static str> {
    match error {
        Error::Bind {
            endpoint: Endpoint::Unix(_),
            source,
            ..
        } => Some(match source.kind() {
            io::ErrorKind::AddrInUse => "another program listens there; choose another path",
            io::ErrorKind::AlreadyExists => "choose another path, or remove the file",
            io::ErrorKind::PermissionDenied => "choose a directory that this user may write to",
            io::ErrorKind::NotFound => "make the directory, or choose another path",
            _ => return None,
        }),
        Error::Bind { source, .. } => Some(match source.kind() {
            io::ErrorKind::AddrInUse => {
                "choose another port with --echo (or --discard, --chargen, --whoami), or port 0 for a free one"
            }
            io::ErrorKind::PermissionDenied => {
                "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one with --echo (or \
                 --discard, --chargen, --whoami)"
            }
            io::ErrorKind::AddrNotAvailable => {
                "this machine does not have the address; choose one with --echo (or --discard, \
                 --chargen, --whoami), 0.0.0.0 or [::] for all"
            }
            _ => return None,
        }),
        Error::Resolve { .. } => Some("check the name, or give an address instead"),
        Error::Setup { .. } => {
            Some("fewer --workers need fewer descriptors and threads; see ulimit -n and -u")
        }
        Error::NoCertificate { .. } => Some("give one with --tls-cert and --tls-key"),
        Error::Tuning { .. }
        | Error::Faults { .. }
        | Error::Handover(_)
        | Error::Worker { .. }
        | Error::Panicked { .. } => None,
    }
}
