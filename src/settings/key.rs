//! The definition of a setting: its name, its meaning, and its conversion from and to text.

use super::values::Settings;

/// The prefix of environment variables.
pub const PREFIX: &str = "ECHOD_";

/// The environment variable that names the configuration file; it is not a [`Key`].
pub const FILE_VARIABLE: &str = "ECHOD_CONFIG";

/// One setting: its name, its meaning, and its conversion from and to text.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// The name in the file and, behind `--`, on the command line.
    pub name: &'static str,
    /// The placeholder of the value in usage texts.
    pub value: &'static str,
    /// The form of its values.
    pub kind: Kind,
    /// Its group in help texts.
    pub group: Group,
    /// Its meaning, in one or two sentences.
    pub help: &'static str,
    /// The default, in words if there is no value.
    pub default: &'static str,
    /// Whether a running server can apply a new value.
    pub change: Change,
    /// Who may know its values.
    pub audience: Audience,
    /// Sets one value from text, or appends it to a list. An error names the mistake in the text.
    pub(super) apply: fn(&mut Settings, &str) -> Result<(), String>,
    /// The current values as text for `apply`; none if the key is unset.
    pub(super) show: fn(&Settings) -> Vec<String>,
    /// Clears the values of a list from weaker sources.
    pub(super) clear: fn(&mut Settings),
}

/// The form of a [`Key`]'s values.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One text or number.
    Value,
    /// Any number of texts; the list of a stronger source replaces that of a weaker one.
    List,
    /// True or false.
    Flag,
}

/// Headings under which keys are listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// Services and their endpoints.
    Services,
    /// Threads, and how connections are distributed over them.
    Workers,
    /// Socket options and buffers.
    Sockets,
    /// Access lists, maximum connections, rates and timeouts.
    Limits,
    /// Proxies in front of the server.
    Proxy,
    /// Certificates and handshakes.
    Tls,
    /// Rates of UDP answers.
    Udp,
    /// Starting and ending.
    LifeCycle,
    /// The admin port and the hand-over.
    Administration,
    /// The user and the sandbox of the process.
    Confinement,
    /// The log on stderr.
    Logging,
}

impl Group {
    /// As shown to users.
    pub const fn heading(self) -> &'static str {
        match self {
            Self::Services => "Services",
            Self::Workers => "Workers",
            Self::Sockets => "Sockets",
            Self::Limits => "Limits",
            Self::Proxy => "Proxies",
            Self::Tls => "TLS",
            Self::Udp => "UDP",
            Self::LifeCycle => "Life cycle",
            Self::Administration => "Administration",
            Self::Confinement => "Confinement",
            Self::Logging => "Logging",
        }
    }
}

/// When a new value of a [`Key`] takes effect.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Change {
    /// As soon as the configuration is read again.
    Reload,
    /// With the next start only.
    Restart,
}

/// Who may know the values of a [`Key`].
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Audience {
    /// Every client of the admin port.
    Everybody,
    /// Users of this machine. Others learn how many values there are.
    ThisMachine,
}

impl Key {
    /// The key's environment variable: `ECHOD_IDLE_TIMEOUT` for `idle-timeout`.
    pub fn variable(&self) -> String {
        format!(
            "{}{}",
            PREFIX,
            self.name.replace('-', "_").to_ascii_uppercase()
        )
    }
}
