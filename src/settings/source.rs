//! Keys from flags and environment, still as text, each with its origin.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::key::{FILE_VARIABLE, Key, Kind, PREFIX};
use super::keys::{self, KEYS, is_of_endpoints};

/// The origin of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Origin {
    Flag(&'static str),
    Variable(String),
    File { path: PathBuf, line: usize },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Variable(name) => f.write_str(name),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
        }
    }
}

/// One key's values from one source.
pub(super) struct Given {
    pub(super) key: &'static Key,
    pub(super) origin: Origin,
    /// The values as text, each with its origin.
    pub(super) values: Vec<(String, Origin)>,
}

/// A mistake in the settings, as one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SettingsError {
    /// `None`: the given values and the defaults contradict each other.
    pub(super) origin: Option<Origin>,
    pub(super) problem: String,
}

impl SettingsError {
    /// Whether the mistake is on the command line, so that `--help` is good advice.
    pub fn is_in_flags(&self) -> bool {
        matches!(self.origin, Some(Origin::Flag(_)))
    }

    pub(super) fn of(origin: &Origin, name: &str, problem: String) -> Self {
        Self {
            origin: Some(origin.clone()),
            problem: match origin {
                // These origins include the key.
                Origin::Flag(_) | Origin::Variable(_) => problem,
                Origin::File { .. } => format!("{name}: {problem}"),
            },
        }
    }
}

impl fmt::Display for SettingsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(origin) = &self.origin {
            write!(f, "{}: ", one_line(&origin.to_string()))?;
        }
        f.write_str(&one_line(&self.problem))
    }
}

impl std::error::Error for SettingsError {}

pub(super) fn from_flags(
    flags: &[(impl AsRef<str>, impl AsRef<str>)],
) -> Result<Vec<Given>, SettingsError> {
    let mut given: Vec<Given> = Vec::new();
    for (name, value) in flags {
        let name = name.as_ref();
        let key = keys::named(name).ok_or_else(|| SettingsError {
            origin: None,
            problem: format!("unknown option `--{name}`"),
        })?;
        let origin = Origin::Flag(key.name);
        let value = (value.as_ref().to_owned(), origin.clone());
        match given.iter_mut().find(|earlier| earlier.key.name == name) {
            Some(earlier) => earlier.values.push(value),
            None => given.push(Given {
                key,
                origin,
                values: vec![value],
            }),
        }
    }
    Ok(given)
}

/// The values of the variables, and the names of unknown variables.
pub(super) fn from_environment(
    environment: impl IntoIterator<Item = (String, String)>,
) -> (Vec<Given>, Vec<String>) {
    // Sorted by name, so that the order of the environment does not decide which mistake is
    // reported.
    let ours: BTreeMap<_, _> = environment
        .into_iter()
        .filter(|(name, _)| name.starts_with(PREFIX) && name != FILE_VARIABLE)
        .collect();
    let mut given = Vec::new();
    let mut unknown = Vec::new();
    for (name, value) in ours {
        let Some(key) = KEYS.iter().find(|key| key.variable() == name) else {
            unknown.push(name);
            continue;
        };
        // For orchestrators it is easier to set a variable to the empty text than to omit it.
        if value.trim().is_empty() {
            continue;
        }
        let origin = Origin::Variable(name);
        let texts: Vec<_> = match key.kind {
            Kind::List if is_of_endpoints(key.name) => endpoints(&value),
            Kind::List => value.split(',').map(str::trim).collect(),
            Kind::Value | Kind::Flag => vec![value.trim()],
        };
        given.push(Given {
            key,
            values: texts
                .into_iter()
                .filter(|text| !text.is_empty())
                .map(|text| (text.to_owned(), origin.clone()))
                .collect(),
            origin,
        });
    }
    (given, unknown)
}

/// The endpoints of a list: a comma before anything else belongs to the options of the one before it.
fn endpoints(list: &str) -> Vec<&str> {
    let is_begin = |text: &str| text.trim_start().starts_with("unix:") || text.contains("://");
    let mut endpoints = Vec::new();
    let mut begin = 0;
    for (at, _) in list.match_indices(',') {
        let next = list[at + 1..].split(',').next().unwrap_or_default();
        if is_begin(next) || next.trim().is_empty() || !list[begin..at].contains('?') {
            endpoints.push(list[begin..at].trim());
            begin = at + 1;
        }
    }
    endpoints.push(list[begin..].trim());
    endpoints
}

/// The text with line ends and other control characters escaped.
pub(super) fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            c if c.is_control() => line.extend(c.escape_default()),
            c => line.push(c),
        }
    }
    line
}
