//! The settings as typed values.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use crate::config::Config;
use crate::net::endpoint::AdminAddress;

/// The settings of the program `echod`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    /// The server's configuration.
    pub config: Config,
    /// The address of the admin port: metrics, health and information over HTTP.
    pub admin: Option<AdminAddress>,
    /// Names by which the admin port may be addressed, beside those that are known to mean it.
    pub admin_hosts: Vec<String>,
    /// The Unix socket over which a new process takes the listening sockets over from a running one.
    pub handover: Option<PathBuf>,
    /// Where the lines go that scripts wait for.
    pub announce: Announce,
    /// The files of certificates.
    pub tls: TlsFiles,
    /// The format of log lines.
    pub log_format: LogFormat,
    /// The least important log lines to print.
    pub log_level: LogLevel,
    /// The user that the process becomes once its sockets are bound.
    pub user: Option<UserName>,
    /// Whether the process then enters a sandbox.
    pub sandbox: SandboxMode,
}

/// The files of certificates, which are read at the start and at each reload.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TlsFiles {
    /// The server's certificate, with those that lead to its authority.
    pub cert: Option<PathBuf>,
    /// Its private key.
    pub key: Option<PathBuf>,
    /// The authorities of clients.
    pub client_ca: Option<PathBuf>,
    /// Whether a certificate is made at the start instead.
    pub self_signed: bool,
}

/// A user, by name or number, and perhaps a group.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UserName {
    /// A name or a number.
    pub user: String,
    /// A name or a number; without it, the user's own group.
    pub group: Option<String>,
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (user, group) = match text.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (text, None),
        };
        let is_name = |name: &str| !name.is_empty() && !name.contains([':', ',', '\n', '\0']);
        if !is_name(user) || !group.is_none_or(is_name) {
            return Err(format!("`{text}` is not NAME, NAME:GROUP or UID:GID"));
        }
        Ok(Self {
            user: user.to_owned(),
            group: group.map(str::to_owned),
        })
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.user)?;
        match &self.group {
            Some(group) => write!(f, ":{group}"),
            None => Ok(()),
        }
    }
}

/// Whether the process enters a sandbox.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum SandboxMode {
    /// As far as the kernel can.
    #[default]
    Auto,
    /// It does not.
    Off,
    /// It does, or does not start.
    Require,
}

impl FromStr for SandboxMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "off" => Ok(Self::Off),
            "require" => Ok(Self::Require),
            _ => Err(format!("`{text}` is not auto, off or require")),
        }
    }
}

impl fmt::Display for SandboxMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Off => "off",
            Self::Require => "require",
        })
    }
}

/// Where the bound endpoints are announced, beside the log.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Announce {
    /// On stdout.
    #[default]
    Stdout,
    /// Nowhere.
    Off,
}

impl FromStr for Announce {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "stdout" => Ok(Self::Stdout),
            "off" => Ok(Self::Off),
            _ => Err(format!("`{text}` is neither stdout nor off")),
        }
    }
}

impl fmt::Display for Announce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stdout => "stdout",
            Self::Off => "off",
        })
    }
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// For machines: an object in each line.
    Json,
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => Err(format!("`{text}` is neither text nor json")),
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Text => "text",
            Self::Json => "json",
        })
    }
}

/// How important a log line is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// The server can't do something as configured.
    Warn,
    /// Start, end, reload and replacement of the server.
    #[default]
    Info,
    /// Every connection that is opened, closed or refused.
    Debug,
    /// The same as debug at present.
    Trace,
}

impl FromStr for LogLevel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "error" => Ok(Self::Error),
            "warn" => Ok(Self::Warn),
            "info" => Ok(Self::Info),
            "debug" => Ok(Self::Debug),
            "trace" => Ok(Self::Trace),
            _ => Err(format!("`{text}` is not error, warn, info, debug or trace")),
        }
    }
}

impl fmt::Display for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        })
    }
}
