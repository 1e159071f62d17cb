//! What a setting is: its name, its meaning, and the way from text to value and back.

use super::values::Settings;

/// What the names of environment variables start with.
pub const PREFIX: &str = "ECHOD_";

/// The environment variable that names the configuration file; it is not a [`Key`].
pub const FILE_VARIABLE: &str = "ECHOD_CONFIG";

/// One setting: its name, its meaning, and the way from text to value and back.
#[derive(Debug)]
pub struct Key {
    /// As in the file and, behind `--`, on the command line.
    pub name: &'static str,
    /// What stands for the value in usage texts.
    pub value: &'static str,
    /// How often and in which form values are given.
    pub kind: Kind,
    /// Where help texts list it.
    pub group: Group,
    /// What it means, in one or two sentences.
    pub help: &'static str,
    /// What holds when nothing is given, in words if the value is none.
    pub default: &'static str,
    /// Whether a running server can take a new value over.
    pub change: Change,
    /// Takes one value, as text, over; a list grows by it. Errors say what is wrong with the text.
    pub(super) apply: fn(&mut Settings, &str) -> Result<(), String>,
    /// The values that `apply` would have to be given for what is set now; none if it is unset.
    pub(super) show: fn(&Settings) -> Vec<String>,
    /// Forgets what weaker sources gave for a list.
    pub(super) clear: fn(&mut Settings),
}

/// How often and in which form values of a [`Key`] are given.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// One text or number.
    Value,
    /// Any number of texts; that of a stronger source replaces the whole list of a weaker one.
    List,
    /// True or false.
    Flag,
}

/// Headings under which keys are listed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Group {
    /// What is served where.
    Services,
    /// Threads and how they get their connections.
    Workers,
    /// Socket options and buffers.
    Sockets,
    /// Who is served, how many and how long.
    Limits,
    /// How often datagrams are answered.
    Udp,
    /// Starting and ending.
    LifeCycle,
    /// Watching and taking over.
    Administration,
    /// What is written to stderr.
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
            Self::Udp => "UDP",
            Self::LifeCycle => "Life cycle",
            Self::Administration => "Administration",
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

impl Key {
    /// The environment variable that sets it: `ECHOD_IDLE_TIMEOUT` for `idle-timeout`.
    pub fn variable(&self) -> String {
        format!(
            "{}{}",
            PREFIX,
            self.name.replace('-', "_").to_ascii_uppercase()
        )
    }
}
