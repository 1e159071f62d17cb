//! The host names by which a request may address the admin port.

use std::net::IpAddr;

/// The names that mean this server. Any IP address does, and `localhost`: an attacker can't register
/// these.
#[derive(Clone, Debug)]
pub enum HostNames {
    /// Whatever name a request gives: the port is not reached through an address.
    Any,
    /// These, without ports and in lower case.
    Only(Vec<String>),
}

impl HostNames {
    /// Whether the host of a request, perhaps with a port, is one of these names.
    pub(super) fn contain(&self, host: &str) -> bool {
        let Self::Only(names) = self else {
            return true;
        };
        let name = without_port(host);
        let address = name.strip_prefix('[').and_then(|it| it.strip_suffix(']'));
        if address.unwrap_or(name).parse::<IpAddr>().is_ok() {
            return true;
        }
        // The root's dot may end a name (RFC 1034, section 3.1).
        let name = name.strip_suffix('.').unwrap_or(name);
        let mut known = names.iter().map(String::as_str).chain(["localhost"]);
        known.any(|known| known.eq_ignore_ascii_case(name))
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_known_names_are_admitted_and_no_other() {
        let names = HostNames::Only(vec!["echod.example".to_owned(), "node-1".to_owned()]);
        for host in [
            "127.0.0.1",
            "127.0.0.1:9777",
            "10.1.2.3:80",
            "[::1]",
            "[2001:db8::1]:9777",
            "localhost",
            "LOCALHOST:9777",
            "localhost.",
            "echod.example",
            "Echod.Example.:9777",
            "node-1:",
        ] {
            assert!(names.contain(host), "{host}");
            assert!(HostNames::Any.contain(host));
        }
        for host in [
            "",
            ":9777",
            "evil.example",
            "echod.example.evil.example",
            "evil-localhost",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "evil.example@127.0.0.1",
            "127.0.0.1:9777:1",
            "127.1",
            "2130706433",
            "[::1",
            "[evil.example]",
        ] {
            assert!(!names.contain(host), "{host}");
        }
    }
}
