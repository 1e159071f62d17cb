//! TLS on the connections.

use serde::{Deserialize, Serialize};

use super::latency::Latency;

/// TLS on the connections to `tls://` targets.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TlsResult {
    /// Version of the protocol: 1.3 or 1.2, or `1.2, 1.3` if connections differ; null if no handshake was
    /// complete.
    pub version: Option<String>,
    /// Cipher suite, by its name in IANA's registry; several in a list, as of `version`.
    pub cipher: Option<String>,
    /// Group of the key exchange, by its name in IANA's registry; several in a list. Null if there was no
    /// exchange: TLS 1.2 resumes without.
    pub group: Option<String>,
    /// Protocol above TLS (ALPN, RFC 7301); null, because none is offered.
    pub alpn: Option<String>,
    /// Complete handshakes that resumed nothing, over the whole run, set-up and warm-up included.
    pub full: u64,
    /// Complete handshakes that resumed an earlier session, of the same time.
    pub resumed: u64,
    /// Handshakes that failed, of the same time.
    pub failed: u64,
    /// Connections that the server ended without close_notify, of the same time.
    pub truncated: u64,
    /// Complete handshakes per second, of the messages in the window; null unless each message has a
    /// connection of its own (--workload churn).
    pub handshakes_per_s: Option<f64>,
    /// The parts of `latency_ns.handshake`.
    pub handshake_ns: TlsHandshakes,
}

/// Times of handshakes in nanoseconds, from the established connection to the end of the handshake; one
/// without a sample is absent.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TlsHandshakes {
    /// Those that resumed nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<Latency>,
    /// Those that resumed an earlier session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resumed: Option<Latency>,
}
