//! Why a server could not start or had to stop. Errors of one connection are not here: they become
//! its [`CloseReason`](crate::metrics::CloseReason).

use std::fmt;
use std::io;
use std::net::SocketAddr;

use crate::net::endpoint::Endpoint;
use crate::net::tuning::TuningError;

/// A failure of the whole server; each names the address or thread it happened on.
#[derive(Debug)]
pub enum Error {
    /// The host of an endpoint has no address.
    Resolve {
        /// As configured.
        endpoint: Endpoint,
        /// The resolver's error.
        source: io::Error,
    },
    /// An address could not be bound: in use, not of this machine, not permitted.
    Bind {
        /// As configured.
        endpoint: Endpoint,
        /// The resolved address, if the host was a name.
        address: Option<SocketAddr>,
        /// The error of bind(2) or listen(2).
        source: io::Error,
    },
    /// The kernel refused a socket option.
    Tuning {
        /// As configured.
        endpoint: Endpoint,
        /// The option and the error.
        source: TuningError,
    },
    /// There is an endpoint with TLS and no certificate.
    NoCertificate {
        /// As configured.
        endpoint: Endpoint,
    },
    /// An endpoint has a fault that makes no sense for its service.
    Faults {
        /// As configured.
        endpoint: Endpoint,
        /// Which one, and what to do instead.
        problem: String,
    },
    /// The descriptors for a successor could not be made.
    Handover(io::Error),
    /// A worker could not be set up: no descriptor, no thread.
    Setup {
        /// The worker's index.
        worker: usize,
        /// The failed call's error.
        source: io::Error,
    },
    /// A worker's event loop failed, and the server stopped.
    Worker {
        /// The worker's index.
        worker: usize,
        /// The failed call's error.
        source: io::Error,
    },
    /// A worker panicked, and the server stopped. A defect of this program.
    Panicked {
        /// The worker's index.
        worker: usize,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve { endpoint, source } => {
                write!(f, "cannot resolve the host of {endpoint}: {source}")
            }
            Self::Bind {
                endpoint,
                address,
                source,
            } => {
                write!(f, "cannot listen on {endpoint}")?;
                if let Some(address) = address
                    && !endpoint.to_string().ends_with(&address.to_string())
                {
                    write!(f, " ({address})")?;
                }
                write!(f, ": {source}")
            }
            Self::Tuning { endpoint, source } => write!(f, "{endpoint}: {source}"),
            Self::NoCertificate { endpoint } => {
                write!(f, "there is no certificate for {endpoint}")
            }
            Self::Faults { endpoint, problem } => write!(f, "{endpoint} {problem}"),
            Self::Handover(source) => {
                write!(f, "cannot prepare the hand-over to a successor: {source}")
            }
            Self::Setup { worker, source } => write!(f, "cannot set worker {worker} up: {source}"),
            Self::Worker { worker, source } => write!(f, "worker {worker} failed: {source}"),
            Self::Panicked { worker } => write!(f, "worker {worker} panicked"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Resolve { source, .. }
            | Self::Bind { source, .. }
            | Self::Setup { source, .. }
            | Self::Worker { source, .. }
            | Self::Handover(source) => Some(source),
            Self::Tuning { source, .. } => Some(source),
            Self::NoCertificate { .. } | Self::Faults { .. } | Self::Panicked { .. } => None,
        }
    }
}
