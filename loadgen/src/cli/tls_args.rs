//! TLS of the connections to tls:// targets.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use loadgen::plan::{TlsOptions, TlsVersion};

/// TLS of the connections to tls:// targets.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "TLS")]
pub(super) struct TlsArgs {
    /// Trust servers with a certificate of these authorities, or with one of these, in PEM [default:
    /// the authorities of this system]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,

    /// Show servers this certificate, in PEM, with those that lead to its authority
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Its private key, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Ask for this name, and expect a certificate for it [default: the host of the target]
    #[arg(long, value_name = "NAME")]
    tls_server_name: Option<String>,

    /// Accept any certificate: who is in the middle could read and change everything
    #[arg(long, conflicts_with = "tls_ca")]
    tls_insecure: bool,

    /// Speak this version only [default: 1.3, or else 1.2]
    #[arg(long, value_enum, value_name = "VERSION")]
    tls_version: Option<VersionArg>,

    /// Make a full handshake on each connection, and resume no session
    #[arg(long)]
    no_resumption: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum VersionArg {
    /// RFC 5246
    #[value(name = "1.2")]
    V1_2,
    /// RFC 8446
    #[value(name = "1.3")]
    V1_3,
}

impl TlsArgs {
    /// The options of a plan.
    pub(super) fn to_options(&self) -> TlsOptions {
        TlsOptions {
            ca: self.tls_ca.clone(),
            cert: self.tls_cert.clone(),
            key: self.tls_key.clone(),
            server_name: self.tls_server_name.clone(),
            insecure: self.tls_insecure,
            version: self.tls_version.map(|version| match version {
                VersionArg::V1_2 => TlsVersion::V1_2,
                VersionArg::V1_3 => TlsVersion::V1_3,
            }),
            resumption: !self.no_resumption,
        }
    }

    /// The first option that is given.
    pub(super) fn given(&self) -> Option<&'static str> {
        [
            ("--tls-ca", self.tls_ca.is_some()),
            ("--tls-cert", self.tls_cert.is_some()),
            ("--tls-key", self.tls_key.is_some()),
            ("--tls-server-name", self.tls_server_name.is_some()),
            ("--tls-insecure", self.tls_insecure),
            ("--tls-version", self.tls_version.is_some()),
            ("--no-resumption", self.no_resumption),
        ]
        .into_iter()
        .find_map(|(name, is_given)| is_given.then_some(name))
    }
}
