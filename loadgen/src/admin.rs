//! Reads the counters of an echod from its admin port: one request for `/info` on its own
//! connection.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use echomark::net::endpoint::{AdminAddress, HostPort};
use echomark::net::unix;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

use crate::text::TextError;

/// Timeout of connecting, and of each read of the response.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of a response: normally a few kilobytes, and a little for each worker.
const MAX_ANSWER_LENGTH: u64 = 4 << 20;
/// Maximum uptime in seconds: thirty thousand years.
const MAX_UPTIME_S: f64 = 1e12;
/// Maximum of header fields in a response.
const MAX_HEADER_FIELDS: usize = 64;

/// The URL of an admin port: `http://HOST:PORT` or `unix:PATH`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AdminUrl(AdminAddress);

/// The used parts of `/info`.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are documented at echod's admin port"
)]
pub struct Info {
    pub version: String,
    pub pid: u32,
    #[serde(deserialize_with = "time")]
    pub uptime_s: f64,
    pub balance: String,
    pub per_worker: Vec<WorkerInfo>,
    pub counters: Counters,
}

/// A worker's part of `/info`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are documented at echod's admin port"
)]
pub struct WorkerInfo {
    pub connections_accepted: u64,
    pub loop_iterations: u64,
    pub loop_events: u64,
    pub loop_full_batches: u64,
    #[serde(deserialize_with = "time")]
    pub cpu_seconds: f64,
}

/// The sum of all workers' counters.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[expect(
    missing_docs,
    reason = "the fields are documented at echod's admin port"
)]
pub struct Counters {
    pub connections_accepted_total: u64,
    pub connections_refused_total: BTreeMap<String, u64>,
    pub accept_errors_total: BTreeMap<String, u64>,
    pub received_bytes_total: u64,
    pub sent_bytes_total: u64,
    pub backlog_bytes: u64,
    pub short_writes_total: u64,
    pub udp_received_datagrams_total: u64,
    pub udp_sent_datagrams_total: u64,
    pub udp_dropped_datagrams_total: BTreeMap<String, u64>,
    /// By endpoint. An earlier echod does not report it.
    #[serde(default)]
    pub udp_kernel_dropped_datagrams_total: BTreeMap<String, u64>,
}

/// Requests `/info`.
///
/// # Errors
/// The port can't be reached, or its response is not from an echod.
pub fn fetch(url: &AdminUrl) -> io::Result<Info> {
    match &url.0 {
        AdminAddress::Tcp(host) => fetch_over_tcp(host),
        AdminAddress::Unix(path) => fetch_over_unix(path),
    }
}

fn fetch_over_tcp(host: &HostPort) -> io::Result<Info> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in host.resolve()? {
        let asked = TcpStream::connect_timeout(&address, TIMEOUT).and_then(|stream| {
            stream.set_read_timeout(Some(TIMEOUT))?;
            stream.set_write_timeout(Some(TIMEOUT))?;
            ask(stream, host)
        });
        match asked {
            Ok(answer) => return read(&answer),
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn fetch_over_unix(path: &Path) -> io::Result<Info> {
    let stream = unix::connect(path)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    read(&ask(stream, &"localhost")?)
}

fn ask(mut stream: impl Read + Write, host: &dyn fmt::Display) -> io::Result<Vec<u8>> {
    stream.write_all(
        format!("GET /info HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_LENGTH).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Parses a response.
///
/// # Errors
/// The response is not from an echod.
pub fn read(answer: &[u8]) -> io::Result<Info> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_HEADER_FIELDS];
    let mut head = httparse::Response::new(&mut fields);
    let length = match head.parse(answer) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Err(error) => return Err(not_echod(&error)),
    };
    match head.code {
        Some(200) => {}
        Some(421) => {
            let way_out = "use its IP address, or start echod with --admin-host NAME";
            return Err(not_echod(&format!(
                "it does not know this host name; {way_out}"
            )));
        }
        code => return Err(not_echod(&format!("status {}", code.unwrap_or(0)))),
    }
    serde_json::from_slice(&answer[length..]).map_err(|error| not_echod(&error))
}

/// Reads seconds within the range of a clock, so that sums stay finite.
fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let seconds = f64::deserialize(deserializer)?;
    if (0.0..=MAX_UPTIME_S).contains(&seconds) {
        Ok(seconds)
    } else {
        Err(D::Error::custom(format!("no clock counts {seconds} s")))
    }
}

fn not_echod(problem: &dyn fmt::Display) -> io::Error {
    let text = format!("the answer is not that of an echod: {problem}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl FromStr for AdminUrl {
    type Err = TextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let address = if text.starts_with("unix:") {
            text
        } else {
            let rest = text.strip_prefix("http://").unwrap_or(text);
            let rest = rest.strip_suffix("/info").unwrap_or(rest);
            rest.trim_end_matches('/')
        };
        address
            .parse()
            .map(Self)
            .map_err(|problem| format!("{problem}; write http://HOST:PORT or unix:PATH").into())
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.url())
    }
}

impl Serialize for AdminUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AdminUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_read_as_people_write_them() {
        for text in [
            "http://127.0.0.1:9777",
            "127.0.0.1:9777",
            "http://127.0.0.1:9777/",
            "http://127.0.0.1:9777/info",
        ] {
            let url: AdminUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), "http://127.0.0.1:9777");
        }
        let url: AdminUrl = "http://[::1]:9777".parse().unwrap();
        assert_eq!(url.to_string(), "http://[::1]:9777");
        let url: AdminUrl = "unix:/run/echod/info".parse().unwrap();
        assert_eq!(url.to_string(), "unix:/run/echod/info");
        for text in [
            "",
            "http://",
            "localhost",
            "https://localhost:1",
            "a:b",
            "unix:",
        ] {
            assert!(text.parse::<AdminUrl>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_unix_socket_is_asked_as_a_port_is() {
        let name = format!("loadgen-admin-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let (listener, file) = unix::listen(&path, 16, None).unwrap();
        listener.set_nonblocking(false).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                request.extend(byte);
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"version\": \"1\"}")
                .unwrap();
            String::from_utf8(request).unwrap()
        });
        let url: AdminUrl = format!("unix:{}", path.display()).parse().unwrap();
        let problem = fetch(&url).unwrap_err().to_string();
        file.remove();
        assert!(problem.contains("missing field `pid`"), "{problem}");
        assert!(server.join().unwrap().starts_with("GET /info HTTP/1.1\r\n"));
    }

    #[test]
    fn times_that_no_clock_counts_are_refused() {
        let read = |seconds: &str| -> Result<Info, _> {
            serde_json::from_str(&format!(
                r#"{{"version": "", "pid": 1, "uptime_s": {seconds}}}"#
            ))
        };
        for seconds in ["-1", "1e308"] {
            let problem = read(seconds).unwrap_err().to_string();
            assert!(problem.contains("no clock counts"), "{problem}");
        }
        let problem = read("1.5").unwrap_err().to_string();
        assert!(problem.contains("missing field"), "{problem}");
    }

    #[test]
    fn answers_that_are_none_say_so() {
        for (answer, part) in [
            ("SSH-2.0-OpenSSH_9.6\r\n\r\n", "not that of an echod"),
            ("HTTP/1.1 404 Not Found\r\n\r\n", "status 404"),
            ("HTTP/1.1 421 Misdirected Request\r\n\r\n", "--admin-host"),
            ("HTTP/1.1 200 OK\r\n\r\n{}", "missing field"),
            ("HTTP/1.1 200 OK\r\n", "end of file"),
        ] {
            let problem = read(answer.as_bytes()).unwrap_err().to_string();
            assert!(problem.contains(part), "{answer}: {problem}");
        }
    }
}
