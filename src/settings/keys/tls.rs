//! Certificates.

use super::{FLAG, VALUE, one, shown};
use crate::settings::key::{Audience, Change, Group, Key};
use crate::settings::parse;

pub(super) const KEYS: &[Key] = &[
    Key {
        name: "tls-cert",
        value: "FILE",
        group: Group::Tls,
        help: "Certificate of every tls:// endpoint, in PEM, with those that lead to its authority. It \
               is read again on SIGHUP, for new connections.",
        default: "none",
        change: Change::Reload,
        audience: Audience::ThisMachine,
        apply: |s, text| parse::file(text).map(|v| s.tls.cert = Some(v)),
        show: |s| shown(s.tls.cert.as_ref(), |path| path.display().to_string()),
        ..VALUE
    },
    Key {
        name: "tls-key",
        value: "FILE",
        group: Group::Tls,
        help: "Its private key, in PEM; read again on SIGHUP, so the user that serves must be able to \
               read it.",
        default: "none",
        change: Change::Reload,
        audience: Audience::ThisMachine,
        apply: |s, text| parse::file(text).map(|v| s.tls.key = Some(v)),
        show: |s| shown(s.tls.key.as_ref(), |path| path.display().to_string()),
        ..VALUE
    },
    Key {
        name: "tls-client-ca",
        value: "FILE",
        group: Group::Tls,
        help: "Serve only clients with a certificate of one of these authorities, in PEM (mutual TLS); \
               read again on SIGHUP.",
        default: "no certificate is asked for",
        change: Change::Reload,
        audience: Audience::ThisMachine,
        apply: |s, text| parse::file(text).map(|v| s.tls.client_ca = Some(v)),
        show: |s| shown(s.tls.client_ca.as_ref(), |path| path.display().to_string()),
        ..VALUE
    },
    Key {
        name: "tls-self-signed",
        group: Group::Tls,
        help: "For a first try: make a certificate at the start, for localhost, this machine's name and \
               the hosts of the endpoints, and log its SHA-256 fingerprint.",
        apply: |s, text| parse::boolean(text).map(|v| s.tls.self_signed = v),
        show: |s| one(s.tls.self_signed),
        ..FLAG
    },
];
