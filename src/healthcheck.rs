//! `echod --healthcheck`: a client of the admin port, for the health check of a container that has no
//! other program. It asks for one page over HTTP, within a time that is bounded as a whole.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use echomark::net::endpoint::AdminAddress;
use socket2::{Domain, SockAddr, Socket, Type};

/// How long the whole exchange may take. Kubernetes and Docker wait for 1 s and 30 s by default, and
/// end what takes longer.
const MAX_TIME: Duration = Duration::from_secs(5);
/// The most bytes of a response, whose body is one word.
const MAX_RESPONSE_LEN: u64 = 8 << 10;

/// What is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub(crate) enum Probe {
    /// Whether it runs; a server that drains does.
    #[value(name = "livez")]
    Live,
    /// Whether it welcomes new connections; a server that drains does not.
    #[value(name = "readyz")]
    Ready,
}

impl Probe {
    fn path(self) -> &'static str {
        match self {
            Self::Live => "/livez",
            Self::Ready => "/readyz",
        }
    }
}

/// Asks the admin port at this address, and returns what it says with a status of 200: `alive` or `ready`.
///
/// # Errors
/// One line that names the page: no socket listens, it took too long, or the status was another.
pub(crate) fn ask(admin: &AdminAddress, probe: Probe) -> Result<String, String> {
    let path = probe.path();
    let fail = |problem: &dyn fmt::Display| format!("{}{path}: {problem}", admin.url());
    let response = exchange(admin, path).map_err(|error| fail(&error))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status_line = head.lines().next().unwrap_or_default();
    match status_line.strip_prefix("HTTP/1.1 ") {
        Some(status) if status.starts_with("200 ") => Ok(body.trim().to_owned()),
        Some(status) => Err(fail(&format_args!("{status}: {}", body.trim()))),
        None => Err(fail(&"the answer is not HTTP/1.1")),
    }
}

/// The whole response to a request for a page.
fn exchange(admin: &AdminAddress, path: &str) -> io::Result<String> {
    let end = Instant::now() + MAX_TIME;
    let (mut socket, host) = match admin {
        // Linux connects to the loopback address if it is told the wildcard that a server listens on.
        AdminAddress::Tcp(address) => (connect(&address.resolve()?, end)?, address.to_string()),
        AdminAddress::Unix(path) => (connect_to_file(path, end)?, "localhost".to_owned()),
    };
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    socket.set_write_timeout(Some(left(end)?))?;
    socket.write_all(request.as_bytes())?;
    let mut response = Vec::new();
    let mut socket = socket.take(MAX_RESPONSE_LEN);
    loop {
        socket.get_ref().set_read_timeout(Some(left(end)?))?;
        let mut part = [0; 1024];
        match socket.read(&mut part) {
            Ok(0) => return Ok(String::from_utf8_lossy(&response).into_owned()),
            Ok(length) => response.extend_from_slice(&part[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // How the kernel reports a timeout of reading.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(too_late()),
            Err(error) => return Err(error),
        }
    }
}

/// A connection to the first of these addresses that accepts one.
fn connect(addresses: &[SocketAddr], end: Instant) -> io::Result<Socket> {
    let mut refused = None;
    for &address in addresses {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        match socket.connect_timeout(&address.into(), left(end)?) {
            Ok(()) => return Ok(socket),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.unwrap_or_else(too_late))
}

fn connect_to_file(path: &Path, end: Instant) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    // A connect to a full queue waits for as long as a write may (unix(7), SO_SNDTIMEO).
    socket.set_write_timeout(Some(left(end)?))?;
    match socket.connect(&SockAddr::unix(path)?) {
        Ok(()) => Ok(socket),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Err(too_late()),
        Err(error) => Err(error),
    }
}

/// The rest of the time, never zero.
fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() {
        Err(too_late())
    } else {
        Ok(left)
    }
}

fn too_late() -> io::Error {
    let text = format!("no answer within {} s", MAX_TIME.as_secs());
    io::Error::new(io::ErrorKind::TimedOut, text)
}
