//! The services: what a server does with what it receives.

use std::fmt;

pub mod chargen;

/// A service of the echo protocol family.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Service {
    /// RFC 862: every byte received is sent back, in order, until the peer has sent its last.
    Echo,
    /// RFC 863: what is received is thrown away.
    Discard,
    /// RFC 864: characters are sent whatever is received, over UDP a datagram for each received.
    Chargen,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
        })
    }
}
