//! Parsers of the settings' values. Errors name the mistake in the text.

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use crate::admission::rate::Rate;
use crate::config::{Balance, ProxyProtocol, Spin};
use crate::net::affinity;
use crate::net::endpoint::{AdminAddress, Endpoint};
use crate::net::memory;
use crate::net::tuning::Keepalive;
use crate::net::units;

pub(super) fn from_str<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// The word that switches a limit off.
pub(super) const OFF: &str = "off";

/// A value, or [`OFF`].
pub(super) fn or_off<T>(
    text: &str,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, String> {
    match text {
        OFF => Ok(None),
        _ => parse(text).map(Some),
    }
}

pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

/// The path of a file.
pub(super) fn file(text: &str) -> Result<PathBuf, String> {
    // A line end would break the lines that name the file.
    if text.is_empty() || text.contains(char::is_control) {
        return Err("it is not the path of a file".to_owned());
    }
    Ok(text.into())
}

pub(super) fn workers(text: &str) -> Result<NonZeroUsize, String> {
    /// More workers than any machine has CPUs are a typing error.
    const MAX_WORKERS: usize = 4096;
    if text == "auto" {
        return Ok(affinity::usable_cpus());
    }
    let workers = positive(text)?
        .ok_or_else(|| "must be at least 1, or auto for one on each CPU".to_owned())?;
    if workers.get() > MAX_WORKERS {
        return Err(format!("at most {MAX_WORKERS} workers"));
    }
    Ok(workers)
}

pub(super) fn spin(text: &str) -> Result<Spin, String> {
    Ok(match text {
        "always" => Spin::Always,
        "auto" => Spin::Auto,
        _ => match duration(text)? {
            Duration::ZERO => Spin::Never,
            duration => Spin::For(duration),
        },
    })
}

pub(super) fn balance(text: &str) -> Result<Balance, String> {
    match text {
        "kernel" => Ok(Balance::Kernel),
        "least-connections" => Ok(Balance::LeastConnections),
        "incoming-cpu" => Ok(Balance::IncomingCpu),
        _ => Err(format!(
            "`{text}` is not kernel, least-connections or incoming-cpu"
        )),
    }
}

pub(super) fn proxy_protocol(text: &str) -> Result<ProxyProtocol, String> {
    [
        ProxyProtocol::Off,
        ProxyProtocol::Accept,
        ProxyProtocol::Require,
    ]
    .into_iter()
    .find(|it| it.name() == text)
    .ok_or_else(|| format!("`{text}` is not off, accept or require"))
}

pub(super) fn variable(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(['=', '\0']) {
        return Err(format!(
            "`{text}` is not the name of an environment variable"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn backlog(text: &str) -> Result<u32, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    u32::try_from(count)
        .ok()
        .and_then(NonZeroU32::new)
        .map(NonZeroU32::get)
        .ok_or_else(|| "must be from 1 to 4294967295".to_owned())
}

pub(super) fn limit(text: &str) -> Result<NonZeroUsize, String> {
    positive(text)?.ok_or_else(|| "must be at least 1, or off for no limit".to_owned())
}

/// A count; `None` if it is 0, or none that this machine can count to.
fn positive(text: &str) -> Result<Option<NonZeroUsize>, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    Ok(usize::try_from(count).ok().and_then(NonZeroUsize::new))
}

pub(super) fn rate(text: &str) -> Result<f64, String> {
    let rate = units::parse_rate(text).map_err(|error| error.to_string())?;
    if rate <= 0.0 {
        return Err("must be above 0, or off for no limit".to_owned());
    }
    if !(Rate::MIN_PER_SECOND..=Rate::MAX_PER_SECOND).contains(&rate) {
        return Err("must be from 0.000000001 to 1G per second".to_owned());
    }
    Ok(rate)
}

pub(super) fn buffer(text: &str) -> Result<NonZeroUsize, String> {
    /// The socket options are C ints.
    const MAX_BUFFER: u64 = 1 << 30;
    match units::parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1B".to_owned()),
        size if size > MAX_BUFFER => Err(format!(
            "must be at most {}",
            units::format_size(MAX_BUFFER)
        )),
        size => Ok(NonZeroUsize::new(size as usize).unwrap_or(NonZeroUsize::MIN)),
    }
}

pub(super) fn backlog_memory(text: &str) -> Result<Option<u64>, String> {
    match text {
        "off" => Ok(None),
        "auto" => Ok(Some(memory::share_for_backlogs())),
        _ => units::parse_size(text)
            .map(Some)
            .map_err(|error| format!("{error}; or auto, or off for no limit")),
    }
}

pub(super) fn stall_bytes(text: &str) -> Result<u64, String> {
    match units::parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1B".to_owned()),
        size => Ok(size),
    }
}

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| error.to_string())
}

pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0, or off for none".to_owned()),
        duration => Ok(duration),
    }
}

/// The kernel takes this timeout as a C int in milliseconds, contrary to tcp(7), and refuses a
/// larger one (do_tcp_setsockopt in net/ipv4/tcp.c).
pub(super) fn user_timeout(text: &str) -> Result<Duration, String> {
    let timeout = positive_duration(text)?;
    match timeout.as_millis() {
        0 => Err("must be at least 1ms".to_owned()),
        ms if ms > i32::MAX as u128 => Err("must be at most 596h".to_owned()),
        _ => Ok(timeout),
    }
}

/// The kernel's bounds are MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL and MAX_TCP_KEEPCNT in
/// include/net/tcp.h; it counts in whole seconds.
pub(super) fn keepalive(text: &str) -> Result<Keepalive, String> {
    const MAX_SECONDS: u64 = 32_767;
    const MAX_COUNT: u64 = 127;
    let seconds = |text: &str| {
        let time = duration(text.trim())?;
        if time.subsec_nanos() == 0 && (1..=MAX_SECONDS).contains(&time.as_secs()) {
            Ok(time)
        } else {
            Err(format!(
                "{} is not in whole seconds from 1s to {MAX_SECONDS}s",
                units::format_duration(time)
            ))
        }
    };
    let probes = |text: &str| {
        let count = units::parse_count(text.trim()).map_err(|error| error.to_string())?;
        match count {
            1..=MAX_COUNT => Ok(count as u32),
            _ => Err(format!("{count} is not a count from 1 to {MAX_COUNT}")),
        }
    };
    let mut parts = text.splitn(3, ',');
    Ok(Keepalive {
        idle: seconds(parts.next().unwrap_or_default())?,
        interval: parts.next().map(seconds).transpose()?,
        count: parts.next().map(probes).transpose()?,
    })
}

pub(super) fn ipv6_prefix(text: &str) -> Result<u8, String> {
    let length = text.parse().ok();
    length
        .filter(|length| (1..=128).contains(length))
        .ok_or_else(|| "must be a number of bits from 1 to 128".to_owned())
}

pub(super) fn congestion(text: &str) -> Result<String, String> {
    /// TCP_CA_NAME_MAX, less the terminating zero.
    const MAX_LEN: usize = 15;
    if text.is_empty() || text.len() > MAX_LEN || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "`{text}` is not the name of an algorithm; write for example cubic or bbr"
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn mode(text: &str) -> Result<u32, String> {
    // A file may use TOML's octal prefix.
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let all_octal = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|mode| all_octal && *mode <= 0o777)
        .ok_or_else(|| {
            format!("`{text}` is not octal permissions from 0 to 777; write for example 660")
        })
}

pub(super) fn admin(text: &str) -> Result<AdminAddress, String> {
    text.parse().map_err(|problem| {
        format!("`{text}` is not an address: {problem}; write for example 127.0.0.1:9777")
    })
}

/// A name without a port, as it stands in the field `Host` of a request.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    /// The longest name of DNS as text (RFC 1035, section 2.3.4).
    const MAX_LEN: usize = 253;
    let is_of_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if text.is_empty() || text.len() > MAX_LEN || !text.bytes().all(is_of_name) {
        return Err(format!(
            "`{text}` is not a host name; write for example echod.example.org"
        ));
    }
    Ok(text.to_ascii_lowercase())
}

pub(super) fn socket_path(text: &str) -> Result<PathBuf, String> {
    match format!("unix:{text}").parse() {
        Ok(Endpoint::Unix(path)) => Ok(path),
        _ => Err(format!(
            "`{text}` is not a socket's path: it is empty, longer than 107 bytes or holds a control character"
        )),
    }
}
