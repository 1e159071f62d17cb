//! From all sources to the settings in force, and back to text.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::file;
use super::key::{Audience, Change, Key, Kind, PREFIX};
use super::keys::{self, KEYS, is_of_endpoints};
use super::nearest::nearest;
use super::parse::OFF;
use super::source::{Given, Origin, SettingsError, from_environment, from_flags, one_line};
use super::values::Settings;
use crate::config::{Balance, ProxyProtocol};
use crate::faults::Faults;
use crate::net::endpoint::{AdminAddress, Endpoint, HostPort};
use crate::service::Service;

impl Settings {
    /// Merges `flags` (names without dashes, and values), `environment` and the text of `file`. If
    /// one source gives a value twice, the last counts.
    ///
    /// # Errors
    /// [`SettingsError`] names the first mistake: an invalid value, an unknown key in the file,
    /// settings that contradict each other. Unknown variables are not mistakes, because Kubernetes
    /// sets `ECHOD_PORT` and the like for a service named echod; see
    /// [`Resolved::unknown_variables`].
    pub fn resolve(
        flags: &[(impl AsRef<str>, impl AsRef<str>)],
        environment: impl IntoIterator<Item = (String, String)>,
        file: Option<(&Path, &str)>,
    ) -> Result<Resolved, SettingsError> {
        let mut resolved = Resolved {
            settings: Self::default(),
            file: file.map(|(path, _)| path.to_owned()),
            unknown_variables: Vec::new(),
            origins: BTreeMap::new(),
        };
        if let Some((path, text)) = file {
            resolved.add(file::parse(path, text)?)?;
        }
        let (given, unknown_variables) = from_environment(environment);
        resolved.add(given)?;
        resolved.unknown_variables = unknown_variables;
        resolved.add(from_flags(flags)?)?;
        // The order of keys in a source has no meaning, but users compare outputs.
        let config = &mut resolved.settings.config;
        let endpoints = config.endpoints();
        let mut endpoints: Vec<_> = endpoints
            .map(|(service, endpoint, faults)| {
                let faults = faults.cloned().unwrap_or_default();
                ((service, endpoint.clone()), faults)
            })
            .collect();
        endpoints.sort_by_key(|((service, _), _)| *service);
        (config.services, config.faults) = endpoints.into_iter().unzip();
        let faults = &mut config.faults;
        faults.truncate(
            faults
                .iter()
                .rposition(|it| *it != Faults::default())
                .map_or(0, |it| it + 1),
        );
        resolved.check()?;
        resolved.imply();
        Ok(resolved)
    }

    /// The value of every key that the audience may know, as a JSON value of its kind; of any other,
    /// the number of its values.
    pub fn to_json(&self, audience: Audience) -> serde_json::Value {
        let value = |key: &Key| {
            let values = (key.show)(self);
            if key.audience > audience {
                return values.len().into();
            }
            match key.kind {
                Kind::List => values.into(),
                Kind::Flag => values.iter().any(|value| value == "true").into(),
                Kind::Value => values.into_iter().next().into(),
            }
        };
        let values = KEYS.iter().map(|key| (key.name.to_owned(), value(key)));
        serde_json::Value::Object(values.collect())
    }

    /// The names of keys that differ from `running` and need a restart.
    pub fn needing_restart(&self, running: &Self) -> Vec<&'static str> {
        KEYS.iter()
            .filter(|key| {
                let shown = |settings| restarted_for(key, (key.show)(settings));
                key.change == Change::Restart && shown(self) != shown(running)
            })
            .map(|key| key.name)
            .collect()
    }
}

/// The part of a key's values that needs a restart: faults of endpoints don't.
fn restarted_for(key: &Key, mut values: Vec<String>) -> Vec<String> {
    if is_of_endpoints(key.name) {
        for value in &mut values {
            value.truncate(value.find('?').unwrap_or(value.len()));
        }
    }
    values
}

/// Settings with their origins.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The merged settings.
    pub settings: Settings,
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Environment variables that start with [`PREFIX`](super::PREFIX) and set nothing, in alphabetical order.
    pub unknown_variables: Vec<String>,
    /// For every given key, its strongest source.
    origins: BTreeMap<&'static str, Origin>,
}

impl Resolved {
    /// All values as an equivalent configuration file, each with its origin. Unset keys are
    /// commented out.
    pub fn to_toml(&self) -> String {
        let mut toml = String::new();
        for key in KEYS {
            let values = (key.show)(&self.settings);
            let origin = match self.origins.get(key.name) {
                Some(origin) => one_line(&origin.to_string()),
                None => "default".to_owned(),
            };
            let name = key.name;
            let line = match (key.kind, &values[..]) {
                (Kind::List, values) => {
                    let quoted: Vec<_> = values.iter().map(|value| quote(value)).collect();
                    format!("{name} = [{}] # {origin}", quoted.join(", "))
                }
                (Kind::Flag, [value]) => format!("{name} = {value} # {origin}"),
                (_, [value]) if is_plain_number(value) => format!("{name} = {value} # {origin}"),
                (_, [value]) => format!("{name} = {} # {origin}", quote(value)),
                // A limit that a source switched off.
                _ if self.is_given(name) => format!("{name} = \"{OFF}\" # {origin}"),
                _ => format!("# {name} is unset: {}", key.default),
            };
            toml.push_str(&line);
            toml.push('\n');
        }
        toml
    }

    /// Refuses a variable that sets nothing and that no orchestrator sets, because it is misspelt.
    ///
    /// # Errors
    /// [`SettingsError`] names the first one, and what was probably meant.
    pub fn refuse_misspelt_variables(&self) -> Result<(), SettingsError> {
        let mut unknown = self.unknown_variables.iter();
        let Some(name) = unknown.find(|name| !is_of_a_service(name)) else {
            return Ok(());
        };
        let meant = name.strip_prefix(PREFIX).and_then(nearest);
        let meant = meant.and_then(keys::named).map_or_else(
            || "every one is a flag in capitals; see echod --help".to_owned(),
            |key| format!("did you mean {}?", key.variable()),
        );
        Err(SettingsError {
            origin: Some(Origin::Variable(name.clone())),
            problem: format!("sets nothing; {meant}"),
        })
    }

    /// Whether any source gave an endpoint; otherwise the default is in force.
    pub fn has_endpoints(&self) -> bool {
        Service::ALL
            .iter()
            .any(|service| self.is_given(service.name()))
    }

    /// Whether any source gave this key.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.origins.contains_key(name)
    }

    /// Adds the values of a source that is stronger than all earlier ones.
    fn add(&mut self, given: Vec<Given>) -> Result<(), SettingsError> {
        for source in &given {
            (source.key.clear)(&mut self.settings);
            if is_of_endpoints(source.key.name) {
                // This source decides about all services, even to leave them empty.
                for service in Service::ALL {
                    let origin = source.origin.clone();
                    self.origins.insert(service.name(), origin);
                }
            }
        }
        for source in given {
            for (text, origin) in &source.values {
                (source.key.apply)(&mut self.settings, text)
                    .map_err(|problem| SettingsError::of(origin, source.key.name, problem))?;
            }
            self.origins.insert(source.key.name, source.origin);
        }
        Ok(())
    }

    /// Sets values that follow from others, so that the printed settings are those in force.
    fn imply(&mut self) {
        let config = &mut self.settings.config;
        if config.balance == Balance::IncomingCpu
            && !config.pin
            && let Some(origin) = self.origins.get("balance").cloned()
        {
            config.pin = true;
            self.origins.insert("pin", origin);
        }
    }

    /// Refuses settings that are valid alone but contradict each other.
    fn check(&self) -> Result<(), SettingsError> {
        let config = &self.settings.config;
        if config.services.is_empty() {
            let problem =
                "there is nothing to serve: give an endpoint for echo, discard, chargen or whoami";
            let given = Service::ALL
                .into_iter()
                .find(|service| self.origins.contains_key(service.name()))
                .unwrap_or(Service::Echo);
            return Err(self.error(given.name(), problem.to_owned()));
        }
        for (index, (service, endpoint)) in config.services.iter().enumerate() {
            let fail = |problem| Err(self.error(service.name(), format!("{endpoint} {problem}")));
            if let Some(objection) = config.objection(*service, endpoint) {
                return fail(objection);
            }
            let faults = config.faults.get(index);
            if let Some(objection) = faults.and_then(|it| it.objection(*service, endpoint)) {
                return fail(&objection);
            }
            let earlier = &config.services[..index];
            if let Some((other, _)) = earlier.iter().find(|(_, e)| is_same(e, endpoint)) {
                return fail(&format!(
                    "is given to {other} already; choose another port or path"
                ));
            }
        }
        self.check_proxies()?;
        if let Some(admin) = &self.settings.admin {
            let admin_endpoint = admin.as_endpoint();
            let mut endpoints = config.services.iter();
            if let Some((service, _)) = endpoints.find(|(_, e)| is_same(e, &admin_endpoint)) {
                let problem =
                    format!("{admin} is given to {service} already; choose another address");
                return Err(self.error("admin", problem));
            }
        }
        if config.balance == Balance::IncomingCpu && !config.pin && self.origins.contains_key("pin")
        {
            let problem = "balance incoming-cpu binds every worker to its CPU; leave this out";
            return Err(self.error("pin", problem.to_owned()));
        }
        if let Some(path) = &self.settings.handover {
            let handover = Endpoint::Unix(path.clone());
            let admin = self.settings.admin.as_ref().map(AdminAddress::as_endpoint);
            let is_of = if config.services.iter().any(|(_, e)| *e == handover) {
                Some("an endpoint of a service")
            } else {
                (admin.as_ref() == Some(&handover)).then_some("the admin port")
            };
            if let Some(is_of) = is_of {
                let problem = format!("{handover} is {is_of}; choose another path");
                return Err(self.error("handover", problem));
            }
        }
        Ok(())
    }

    /// Refuses PROXY headers over TCP without an address of a proxy: none would be believed.
    fn check_proxies(&self) -> Result<(), SettingsError> {
        let config = &self.settings.config;
        let is_tcp = |endpoint: &Endpoint| matches!(endpoint, Endpoint::Tcp(_) | Endpoint::Tls(_));
        if config.proxy_protocol != ProxyProtocol::Off
            && config.limits.proxy_from.is_empty()
            && config.services.iter().any(|(_, endpoint)| is_tcp(endpoint))
        {
            let problem = "needs the addresses of the proxies that are believed: give --proxy-from";
            return Err(self.error("proxy-protocol", problem.to_owned()));
        }
        Ok(())
    }

    fn error(&self, name: &str, problem: String) -> SettingsError {
        match self.origins.get(name) {
            Some(origin) => SettingsError::of(origin, name, problem),
            None => SettingsError {
                origin: None,
                problem: format!("{name}: {problem}"),
            },
        }
    }
}

/// Whether Kubernetes sets a variable of this name for a service whose name begins with echod:
/// `ECHOD_SERVICE_HOST`, `ECHOD_SERVICE_PORT_ECHO`, `ECHOD_ADMIN_PORT_9777_TCP_ADDR`.
fn is_of_a_service(name: &str) -> bool {
    let Some(name) = name.strip_prefix(PREFIX) else {
        return false;
    };
    let parts: Vec<&str> = name.split('_').collect();
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let is_service = |pair: &[&str]| matches!(pair, ["SERVICE", "HOST" | "PORT"]);
    let is_link = |(index, part): (usize, &&str)| {
        *part == "PORT"
            && match &parts[index + 1..] {
                [] => true,
                [port, "TCP" | "UDP" | "SCTP"]
                | [port, "TCP" | "UDP" | "SCTP", "PROTO" | "PORT" | "ADDR"] => is_number(port),
                _ => false,
            }
    };
    parts.windows(2).any(is_service) || parts.iter().enumerate().any(is_link)
}

/// Whether two endpoints can't both be bound. Port 0 is a different port each time.
fn is_same(one: &Endpoint, other: &Endpoint) -> bool {
    match one {
        Endpoint::Tcp(HostPort { port: 0, .. })
        | Endpoint::Tls(HostPort { port: 0, .. })
        | Endpoint::Udp(HostPort { port: 0, .. }) => false,
        _ => one.of_socket() == other.of_socket(),
    }
}

/// Whether the text is a TOML number that reads back as the same text.
fn is_plain_number(text: &str) -> bool {
    /// A number of digits that every TOML parser keeps exactly.
    const MAX_DIGITS: usize = 15;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    text.len() <= MAX_DIGITS
        && digits(whole)
        && digits(fraction)
        && (whole == "0" || !whole.starts_with('0'))
}

/// A basic string of TOML.
pub(super) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                // Writing to a string does not fail.
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
