//! The line of JSON by which a server says who it is and whom it serves. Written without a library,
//! which the server does not otherwise need, and within a bound that is known before.

use std::fmt::{self, Write};
use std::net::SocketAddr;

use super::Service;

/// What a line has beside the texts of its server: at most that of the longest names of
/// connections, each byte of which may need six.
const MAX_CONNECTION_LEN: usize = 12 << 10;

/// A server that says who it is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Whoami {
    /// The members that are the same in each line, from `host` on.
    server: String,
    /// The member `env`.
    environment: String,
}

/// A connection, or a datagram, that the line is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) worker: usize,
    /// The client's address, as the socket has it.
    pub(crate) client: Option<SocketAddr>,
    /// Ours.
    pub(crate) server: Option<SocketAddr>,
    pub(crate) proxied: Option<Proxied<'a>>,
    pub(crate) tls: Option<Tls<'a>>,
}

/// What a proxy has told.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Proxied<'a> {
    /// The version of the protocol: `v1` or `v2`.
    pub(crate) version: &'a str,
    pub(crate) client: SocketAddr,
    pub(crate) server: SocketAddr,
    pub(crate) authority: Option<&'a str>,
    pub(crate) unique_id: Option<&'a [u8]>,
}

/// What a handshake has agreed on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tls<'a> {
    pub(crate) version: &'a str,
    pub(crate) cipher: &'a str,
    /// The server name that the client asked for.
    pub(crate) sni: Option<&'a str>,
    pub(crate) alpn: Option<&'a str>,
    /// Of the client's certificate.
    pub(crate) client_subject: Option<&'a str>,
    pub(crate) is_resumed: bool,
}

impl Whoami {
    /// A server on this host, with these environment variables.
    pub(crate) fn new(host: &str, environment: impl IntoIterator<Item = (String, String)>) -> Self {
        let mut server = Line::default();
        server.member("host", host);
        server.raw("pid", std::process::id());
        server.member("version", env!("CARGO_PKG_VERSION"));
        let mut variables = Line::default();
        for (name, value) in environment {
            variables.member(&name, &value);
        }
        Self {
            server: server.0,
            environment: variables.0,
        }
    }

    /// No line is longer than this.
    pub(crate) fn max_len(&self) -> usize {
        self.server.len() + self.environment.len() + MAX_CONNECTION_LEN
    }

    /// Writes the line, with its end.
    pub(crate) fn write(&self, asked: Asked<'_>, line: &mut String) {
        let mut members = Line::default();
        std::mem::swap(&mut members.0, line);
        members.0.push('{');
        members.member("service", Service::Whoami.name());
        if !self.server.is_empty() {
            members.0.push(',');
            members.0.push_str(&self.server);
        }
        members.raw("worker", asked.worker);
        members.address("client", asked.client);
        members.address("server", asked.server);
        match asked.proxied {
            None => members.raw("proxied", "null"),
            Some(proxied) => members.proxied(proxied),
        }
        match asked.tls {
            None => members.raw("tls", "null"),
            Some(tls) => members.tls(tls),
        }
        members.name("env");
        members.0.push('{');
        members.0.push_str(&self.environment);
        members.0.push_str("}}\n");
        std::mem::swap(&mut members.0, line);
    }
}

/// Members of an object. Writing to a string does not fail.
#[derive(Default)]
struct Line(String);

impl Line {
    fn member(&mut self, name: &str, value: &str) {
        self.name(name);
        self.quoted(value);
    }

    fn raw(&mut self, name: &str, value: impl fmt::Display) {
        self.name(name);
        let _ = write!(self.0, "{value}");
    }

    fn address(&mut self, name: &str, address: Option<SocketAddr>) {
        self.name(name);
        match address {
            // A dual-stack listener sees IPv4 as IPv6.
            Some(it) => {
                let address = SocketAddr::new(it.ip().to_canonical(), it.port());
                let _ = write!(self.0, "\"{address}\"");
            }
            None => self.0.push_str("null"),
        }
    }

    fn proxied(&mut self, proxied: Proxied<'_>) {
        self.name("proxied");
        self.0.push('{');
        self.address("client", Some(proxied.client));
        self.address("server", Some(proxied.server));
        self.member("version", proxied.version);
        if let Some(authority) = proxied.authority {
            self.member("authority", authority);
        }
        if let Some(id) = proxied.unique_id {
            match str::from_utf8(id) {
                Ok(text) => self.member("unique_id", text),
                // It may be any bytes.
                Err(_) => {
                    self.name("unique_id");
                    self.0.push('"');
                    for byte in id {
                        let _ = write!(self.0, "{byte:02x}");
                    }
                    self.0.push('"');
                }
            }
        }
        self.0.push('}');
    }

    fn tls(&mut self, tls: Tls<'_>) {
        self.name("tls");
        self.0.push('{');
        self.member("version", tls.version);
        self.member("cipher", tls.cipher);
        self.optional("sni", tls.sni);
        self.optional("alpn", tls.alpn);
        self.optional("client_subject", tls.client_subject);
        self.raw("resumed", tls.is_resumed);
        self.0.push('}');
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        match value {
            Some(value) => self.member(name, value),
            None => self.raw(name, "null"),
        }
    }

    fn name(&mut self, name: &str) {
        if !self.0.is_empty() && !self.0.ends_with('{') {
            self.0.push(',');
        }
        self.quoted(name);
        self.0.push(':');
    }

    fn quoted(&mut self, text: &str) {
        self.0.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.0.extend(['\\', c]),
                c if u32::from(c) < 0x20 => {
                    let _ = write!(self.0, "\\u{:04x}", u32::from(c));
                }
                c => self.0.push(c),
            }
        }
        self.0.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(whoami: &Whoami, asked: Asked<'_>) -> serde_json::Value {
        let mut line = String::new();
        whoami.write(asked, &mut line);
        assert!(line.len() <= whoami.max_len());
        assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
        serde_json::from_str(&line).unwrap()
    }

    #[test]
    fn a_line_says_who_serves_whom() {
        let whoami = Whoami::new("a \"host\"", [("NAME".to_owned(), "one\ntwo".to_owned())]);
        let asked = Asked {
            worker: 3,
            client: Some("[::ffff:192.0.2.1]:5".parse().unwrap()),
            server: None,
            proxied: None,
            tls: None,
        };
        let expected = serde_json::json!({
            "service": "whoami", "host": "a \"host\"", "pid": std::process::id(),
            "version": env!("CARGO_PKG_VERSION"), "worker": 3, "client": "192.0.2.1:5",
            "server": null, "proxied": null, "tls": null, "env": {"NAME": "one\ntwo"},
        });
        assert_eq!(line(&whoami, asked), expected);

        let proxied = Proxied {
            version: "v2",
            client: "[2001:db8::1]:6".parse().unwrap(),
            server: "192.0.2.2:7".parse().unwrap(),
            authority: Some("example.org"),
            unique_id: Some(b"\xff\0"),
        };
        let asked = Asked {
            proxied: Some(proxied),
            ..asked
        };
        assert_eq!(
            line(&Whoami::default(), asked)["proxied"],
            serde_json::json!({
                "client": "[2001:db8::1]:6", "server": "192.0.2.2:7", "version": "v2",
                "authority": "example.org", "unique_id": "ff00",
            })
        );
    }

    #[test]
    fn a_line_tells_what_a_handshake_agreed_on() {
        let tls = Tls {
            version: "1.3",
            cipher: "TLS_AES_128_GCM_SHA256",
            sni: Some("example.org"),
            alpn: None,
            client_subject: Some("CN=\"a\",O=b"),
            is_resumed: false,
        };
        let asked = Asked {
            worker: 0,
            client: None,
            server: None,
            proxied: None,
            tls: Some(tls),
        };
        assert_eq!(
            line(&Whoami::default(), asked)["tls"],
            serde_json::json!({
                "version": "1.3", "cipher": "TLS_AES_128_GCM_SHA256", "sni": "example.org",
                "alpn": null, "client_subject": "CN=\"a\",O=b", "resumed": false,
            })
        );
    }

    proptest! {
        #[test]
        fn any_text_is_read_back(text in any::<String>(), name in "[A-Z]{1,9}") {
            let whoami = Whoami::new(&text, [(name.clone(), text.clone())]);
            let id = &text.as_bytes()[..text.len().min(128)];
            let address = SocketAddr::from(([127, 0, 0, 1], 1));
            let proxied = Proxied {
                version: "v1",
                client: address,
                server: address,
                authority: Some(&text).filter(|it| it.len() <= 520).map(String::as_str),
                unique_id: Some(id),
            };
            let tls = Tls {
                version: "1.2",
                cipher: "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
                sni: Some(&text).filter(|it| it.len() <= 253).map(String::as_str),
                alpn: Some(&text).filter(|it| it.len() <= 255).map(String::as_str),
                client_subject: Some(&text).filter(|it| it.len() <= 512).map(String::as_str),
                is_resumed: true,
            };
            let (proxied, tls) = (Some(proxied), Some(tls));
            let asked = Asked { worker: 0, client: None, server: None, proxied, tls };
            let line = line(&whoami, asked);
            prop_assert_eq!(&line["host"], &text);
            prop_assert_eq!(&line["env"][&name], &text);
        }
    }
}
