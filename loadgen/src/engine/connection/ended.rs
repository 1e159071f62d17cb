//! Why connections end, and why they were not served.

use std::io;

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
    /// The server sent more bytes than it had received.
    Excess,
    /// An echo timed out.
    TimedOut,
    /// The client closed it after use.
    ByUs,
    /// The client closed it after use, and the server did not close within the timeout.
    Unclosed,
}

/// Why a connection was not served.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Unserved {
    /// The last connect failed with this errno.
    NotConnected(i32),
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
            Ended::NotConnected(error) => Self::NotConnected(
                error
                    .raw_os_error()
                    .unwrap_or(Errno::TIMEDOUT.raw_os_error()),
            ),
            Ended::ByPeer => Self::Closed,
            Ended::Broken => Self::Reset,
            Ended::Excess => Self::Foreign,
            Ended::TimedOut | Ended::ByUs | Ended::Unclosed => Self::Silent,
        }
    }
}
