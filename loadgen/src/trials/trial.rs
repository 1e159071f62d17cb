//! One trial of a search: its result, or why there is none.

use std::time::{Duration, Instant};

use echomark::net::errno;
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::result::RunResult;
use crate::search::{Judgement, Outcome};

/// A trial that was made, or could not be.
pub(super) struct Trial {
    /// The result, or why there is none; the error itself if it is of this process.
    pub(super) measured: Result<RunResult, (Failure, Option<RunError>)>,
    /// Its total time, with all overhead.
    pub(super) cost: Duration,
}

impl Trial {
    pub(super) fn of(measured: Result<RunResult, RunError>, began: Instant) -> Self {
        Self {
            measured: measured.map_err(|error| (Failure::of(&error), Some(error))),
            cost: began.elapsed(),
        }
    }
}

/// Why a trial could not be made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Failure {
    pub(super) text: String,
    pub(super) cause: Cause,
}

/// What the failure of a trial says.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub(super) enum Cause {
    /// The server closes all connections.
    Unserved,
    /// The server accepts none.
    Unreachable,
    /// The trial had more connections than this process may open: a limit of the client.
    Descriptors,
    /// Something else, which says nothing about the server.
    Client,
}

impl Failure {
    pub(super) fn of(error: &RunError) -> Self {
        let cause = match error {
            RunError::NoConnection { source, .. } if errno::is_port_exhaustion(source) => {
                Cause::Client
            }
            RunError::NoConnection { .. } | RunError::Refused { .. } => Cause::Unreachable,
            RunError::ClosesAtOnce { .. } => Cause::Unserved,
            RunError::Descriptors { .. } => Cause::Descriptors,
            RunError::Resolve { .. }
            | RunError::Late { .. }
            | RunError::Apart(_)
            | RunError::Rate(_)
            | RunError::Tls(_)
            | RunError::Watch(_)
            | RunError::Embedded(_)
            | RunError::Admin { .. }
            | RunError::System(_) => Cause::Client,
        };
        Self {
            text: error.to_string(),
            cause,
        }
    }
}

impl Cause {
    /// The outcome for each goal. If the server accepts no connection, or closes all of them, the
    /// server failed; in all other cases, the client.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::Unserved | Self::Unreachable => Outcome::Judged(Judgement {
                failed: 1.0,
                is_met: false,
            }),
            Self::Descriptors | Self::Client => Outcome::ClientFailed,
        }
    }
}
