//! The services: echo, discard, chargen and whoami.

use std::fmt;
use std::str::FromStr;

pub(crate) mod chargen;
pub(crate) mod whoami;

/// A service of the echo protocol family.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Service {
    /// RFC 862: every received byte is sent back, in order, until the end of the input.
    Echo,
    /// RFC 863: received data is discarded.
    Discard,
    /// RFC 864: characters are sent regardless of input; over UDP, one datagram per received
    /// datagram.
    Chargen,
    /// A line of JSON about the server and the connection, and then as echo; over UDP, that line as
    /// the answer to a datagram that is as long.
    Whoami,
}

impl Service {
    /// Every service.
    pub const ALL: [Self; 4] = [Self::Echo, Self::Discard, Self::Chargen, Self::Whoami];

    /// The name, as on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Discard => "discard",
            Self::Chargen => "chargen",
            Self::Whoami => "whoami",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Service {
    type Err = ServiceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|service| service.name() == text)
            .ok_or_else(|| ServiceError {
                text: text.to_owned(),
            })
    }
}

/// A text that names no service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServiceError {
    text: String,
}

impl fmt::Display for ServiceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        write!(
            f,
            "`{text}` is not a service: echo, discard, chargen or whoami"
        )
    }
}

impl std::error::Error for ServiceError {}
