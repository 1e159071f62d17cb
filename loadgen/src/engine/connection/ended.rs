//! Why connections end, and why they were not served.

use std::io;

use echomark::tls::Refusal;
use rustix::io::Errno;

/// Why a connection ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It was never established.
    NotConnected(io::Error),
    /// The server closed it in an orderly way.
    ByPeer,
    /// It was reset or failed.
    Broken,
    /// It ended without close_notify, so that something may be missing.
    Truncated,
    /// It failed by TLS, after the handshake.
    Refused(Refusal),
    /// The server sent more bytes than it had received.
    Excess,
    /// An echo timed out.
    TimedOut,
    /// The client closed it after use.
    ByUs,
    /// The client closed it after use, and the server did not close within the timeout.
    Unclosed,
}

/// Why a connect failed.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum ConnectError {
    /// With this errno.
    System(i32),
    /// In the TLS handshake.
    Tls(Refusal),
}

impl From<&io::Error> for ConnectError {
    /// One with neither an errno nor a refusal is a timeout.
    fn from(error: &io::Error) -> Self {
        let cause = error.get_ref();
        match cause.and_then(|cause| cause.downcast_ref::<Refusal>()) {
            Some(refusal) => Self::Tls(*refusal),
            None => Self::System(
                error
                    .raw_os_error()
                    .unwrap_or(Errno::TIMEDOUT.raw_os_error()),
            ),
        }
    }
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Unserved {
    /// The last connect failed.
    NotConnected(ConnectError),
    /// It failed by TLS before it answered.
    Refused(Refusal),
    /// The server closed it before it answered.
    Closed,
    /// It was reset before it answered.
    Reset,
    /// It answered something else.
    Foreign,
    /// It never answered.
    Silent,
}

impl Unserved {
    /// What the end of a connection without an answer says.
    pub(super) fn after(ended: &Ended) -> Self {
        match ended {
            Ended::NotConnected(error) => Self::NotConnected(error.into()),
            Ended::Refused(refusal) => Self::Refused(*refusal),
            Ended::ByPeer => Self::Closed,
            Ended::Broken | Ended::Truncated => Self::Reset,
            Ended::Excess => Self::Foreign,
            Ended::TimedOut | Ended::ByUs | Ended::Unclosed => Self::Silent,
        }
    }
}
