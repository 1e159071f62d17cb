//! Values as users write them.

use std::convert::Infallible;
use std::num::{NonZeroU64, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use echomark::net::units;

use super::place;

/// More sockets or threads than any host can have.
const MAX_COUNT: u64 = 10_000_000;
/// SO_RCVBUF and SO_SNDBUF are C ints, and the kernel doubles them (socket(7)).
const MAX_BUFFER: u64 = 1 << 30;
/// Shorter intervals would mostly measure their own overhead.
const MIN_INTERVAL: Duration = Duration::from_millis(10);

pub(super) fn endpoint(text: &str) -> Result<Endpoint, String> {
    text.parse::<Endpoint>()
        .map_err(|error| hint(text).unwrap_or_else(|| error.to_string()))
}

/// Whether the user probably means a server, although it is not written as one.
pub(super) fn is_like_an_endpoint(text: &str) -> bool {
    text.contains("://") || with_scheme(text).is_some()
}

/// What the user probably means.
fn hint(text: &str) -> Option<String> {
    let is_http = |scheme: &&str| text.starts_with(*scheme);
    if ["http://", "https://", "ws://", "wss://"]
        .iter()
        .any(is_http)
    {
        return Some(
            "loadgen speaks no HTTP; it measures echo servers, tcp://HOST:PORT".to_owned(),
        );
    }
    with_scheme(text).map(|endpoint| format!("did you mean {endpoint}?"))
}

/// HOST:PORT as a TCP endpoint.
fn with_scheme(text: &str) -> Option<Endpoint> {
    format!("tcp://{text}").parse().ok()
}

pub(super) fn number(text: &str) -> Result<NonZeroUsize, String> {
    match positive_count(text)?.get() {
        count if count > MAX_COUNT => Err(format!("must be at most {MAX_COUNT}")),
        count => Ok(at_least_one(count as usize)),
    }
}

pub(super) fn positive_count(text: &str) -> Result<NonZeroU64, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    NonZeroU64::new(count).ok_or_else(|| "must be at least 1".to_owned())
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match units::parse_duration(text).map_err(|error| error.to_string())? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        duration => Ok(duration),
    }
}

pub(super) fn interval(text: &str) -> Result<Duration, String> {
    match positive_duration(text)? {
        interval if interval < MIN_INTERVAL => Err("must be at least 10ms".to_owned()),
        interval => Ok(interval),
    }
}

pub(super) fn buffer(text: &str) -> Result<usize, String> {
    match units::parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1".to_owned()),
        size if size > MAX_BUFFER => Err(format!(
            "must be at most {}",
            units::format_size(MAX_BUFFER)
        )),
        size => Ok(size as usize),
    }
}

/// The path of an output that can go to stdout, as `-` or by the name of the open file.
#[expect(clippy::unnecessary_wraps, reason = "value parsers return a Result")]
pub(super) fn output(text: &str) -> Result<PathBuf, Infallible> {
    Ok(place::of_output(text))
}

/// The path of an output that can't go to stdout.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    let path = place::of_output(text);
    if place::is_stdout(&path) {
        Err("must be a file; only --json and --ndjson can go to stdout".to_owned())
    } else {
        Ok(path)
    }
}

pub(super) fn at_least_one(count: usize) -> NonZeroUsize {
    NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN)
}
