//! Why a connection failed by TLS, and not by its socket.

use std::fmt;

/// A failure of TLS.
#[derive(Clone, Debug, PartialEq)]
pub enum Failure {
    /// The peer closed the connection without having sent a byte, as a check of a port does.
    NoData,
    /// The peer closed the connection in the middle of the handshake.
    Closed,
    /// The input ended without close_notify: it may have been cut off (RFC 8446, 6.1).
    Truncated,
    /// What rustls objects to, or the alert that the peer sent.
    Tls(rustls::Error),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoData => f.write_str("closed without a byte"),
            Self::Closed => f.write_str("closed in the middle of the handshake"),
            Self::Truncated => f.write_str("the input ended without close_notify"),
            Self::Tls(error) => error.fmt(f),
        }
    }
}
