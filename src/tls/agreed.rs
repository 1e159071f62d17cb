//! What a handshake agreed on, in a form that costs nothing to keep.

use std::fmt;

use rustls::{CipherSuite, HandshakeKind, NamedGroup, ProtocolVersion};

use super::session::Session;
use super::side::Side;

/// A version of TLS.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Version {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl Version {
    /// Its number: `1.2` or `1.3`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What a complete handshake agreed on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Agreed {
    /// The version.
    pub version: Version,
    /// Whether the handshake resumed an earlier session.
    pub is_resumed: bool,
    cipher: CipherSuite,
    group: Option<NamedGroup>,
}

impl Agreed {
    /// The cipher suite, by its name in IANA's registry.
    pub fn cipher(&self) -> String {
        let name = self.cipher.as_str().unwrap_or_default();
        // rustls tells those of TLS 1.3 apart by a prefix of its own.
        match name.strip_prefix("TLS13_") {
            Some(rest) => format!("TLS_{rest}"),
            None => name.to_owned(),
        }
    }

    /// The group of the key exchange, by its name in IANA's registry. `None` if there was none: TLS 1.2
    /// resumes without.
    pub fn group(&self) -> Option<String> {
        let name = self.group?.as_str().unwrap_or_default();
        Some(match name {
            "X25519" => "x25519".to_owned(),
            name => name.to_owned(),
        })
    }
}

impl<C: Side> Session<C> {
    /// What the handshake agreed on, once it is complete.
    pub fn agreed(&self) -> Option<Agreed> {
        let common = self.connection().common();
        if common.is_handshaking() {
            return None;
        }
        let version = match common.protocol_version()? {
            ProtocolVersion::TLSv1_2 => Version::Tls12,
            // Older ones are not offered.
            _ => Version::Tls13,
        };
        let group = common.negotiated_key_exchange_group();
        Some(Agreed {
            version,
            is_resumed: common.handshake_kind()? == HandshakeKind::Resumed,
            cipher: common.negotiated_cipher_suite()?.suite(),
            group: group.map(|group| group.name()),
        })
    }
}
