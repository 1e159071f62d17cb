//! TLS on the connections.

use super::counts::above_zero;
use crate::report::document::{Fact, Section};
use crate::report::format::{grouped, known, rate};
use crate::result::TlsResult;

/// Adds what was negotiated, and the handshakes.
pub(super) fn describe(tls: &TlsResult, section: &mut Section) {
    let mut facts = vec![
        Fact::new("version", known(tls.version.clone())),
        Fact::new("cipher", known(tls.cipher.clone())),
        Fact::new("key exchange", known(tls.group.clone())),
    ];
    if let Some(per_second) = tls.handshakes_per_s {
        facts.push(Fact::new("handshakes", rate(per_second)).noted("of the window"));
    }
    facts.push(Fact::new("full handshakes", grouped(tls.full)).noted("of the whole run"));
    facts.push(Fact::new("resumed", grouped(tls.resumed)).noted("with less to do"));
    facts.extend(above_zero([
        ("failed", tls.failed),
        ("truncated", tls.truncated),
    ]));
    section.facts("tls", facts);
}
