//! The services: what a server does with what it receives.

use std::fmt;

/// A service of the echo protocol family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// RFC 862: every byte received is sent back, in order, until the peer has sent its last.
    Echo,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
        })
    }
}
