//! The table of settings, and how the text of each becomes a value and text again.

use std::fmt::Display;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::Settings;
use crate::admission::rate::Rate;
use crate::config::{Balance, Spin};
use crate::net::affinity;
use crate::net::cidr::Cidr;
use crate::net::endpoint::{Endpoint, HostPort};
use crate::net::units;
use crate::service::Service;

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

/// Every setting that there is, in the order of the documentation.
pub const KEYS: &[Key] = &[
    Key {
        name: "echo",
        value: "ENDPOINT",
        kind: Kind::List,
        group: Group::Services,
        help: "Echo here (RFC 862): tcp://HOST:PORT, udp://HOST:PORT or unix:PATH, an IPv6 host in \
               brackets; port 0 takes a free one. Endpoints of echo, discard and chargen belong \
               together: a source that gives any of them replaces all that weaker sources gave.",
        default: "tcp://127.0.0.1:7777 if there is no endpoint at all",
        change: Change::Restart,
        apply: |s, text| serve(s, Service::Echo, text),
        show: |s| served(s, Service::Echo),
        clear: clear_services,
    },
    Key {
        name: "discard",
        value: "ENDPOINT",
        kind: Kind::List,
        group: Group::Services,
        help: "Throw away what comes in here (RFC 863), endpoints as for echo.",
        default: "none",
        change: Change::Restart,
        apply: |s, text| serve(s, Service::Discard, text),
        show: |s| served(s, Service::Discard),
        clear: clear_services,
    },
    Key {
        name: "chargen",
        value: "ENDPOINT",
        kind: Kind::List,
        group: Group::Services,
        help: "Send characters without end here (RFC 864), endpoints as for echo but no unix:PATH; \
               over UDP only with udp-chargen.",
        default: "none",
        change: Change::Restart,
        apply: |s, text| serve(s, Service::Chargen, text),
        show: |s| served(s, Service::Chargen),
        clear: clear_services,
    },
    Key {
        name: "udp-chargen",
        value: "BOOL",
        kind: Kind::Flag,
        group: Group::Services,
        help: "Allow chargen over UDP at all. An answer is never larger than 512 bytes nor than its \
               request.",
        default: "false",
        change: Change::Restart,
        apply: |s, text| parse_bool(text).map(|v| s.config.udp_chargen = v),
        show: |s| one(s.config.udp_chargen),
        clear: keep,
    },
    Key {
        name: "unix-mode",
        value: "MODE",
        kind: Kind::Value,
        group: Group::Services,
        help: "Permissions of the files of Unix sockets, octal, such as 660.",
        default: "the umask decides",
        change: Change::Restart,
        apply: |s, text| parse_mode(text).map(|v| s.config.unix_mode = Some(v)),
        show: |s| shown(s.config.unix_mode, |mode| format!("{mode:o}")),
        clear: keep,
    },
    Key {
        name: "workers",
        value: "N|auto",
        kind: Kind::Value,
        group: Group::Workers,
        help: "Worker threads, each with an event loop of its own; auto: as many as CPUs that this \
               process may use.",
        default: "auto",
        change: Change::Restart,
        apply: |s, text| parse_workers(text).map(|v| s.config.workers = v),
        show: |s| one(s.config.workers),
        clear: keep,
    },
    Key {
        name: "pin",
        value: "BOOL",
        kind: Kind::Flag,
        group: Group::Workers,
        help: "Bind worker i to the i-th CPU that this process may use; balance incoming-cpu always \
               does.",
        default: "false",
        change: Change::Restart,
        apply: |s, text| parse_bool(text).map(|v| s.config.pin = v),
        show: |s| one(s.config.pin),
        clear: keep,
    },
    Key {
        name: "spin",
        value: "DURATION|auto|always",
        kind: Kind::Value,
        group: Group::Workers,
        help: "Stay awake for so long after the last event; 0: never, auto: up to 100us if that paid \
               lately, always: use the CPUs whole.",
        default: "0",
        change: Change::Restart,
        apply: |s, text| parse_spin(text).map(|v| s.config.spin = v),
        show: |s| one(format_spin(s.config.spin)),
        clear: keep,
    },
    Key {
        name: "balance",
        value: "MODE",
        kind: Kind::Value,
        group: Group::Workers,
        help: "Who spreads connections over the workers: kernel, by a hash of the addresses; \
               least-connections, one acceptor that hands each to the worker with the fewest; or \
               incoming-cpu, the kernel (6.2 or newer) by the CPU that a connect or a datagram comes \
               in on, each worker pinned to its own. That wakes nobody on another CPU, where the \
               network card spreads packets over the CPUs (RSS, RPS) or clients are pinned on this \
               host; where all connects come in on one CPU, one worker gets all connections.",
        default: "kernel",
        change: Change::Restart,
        apply: |s, text| parse_balance(text).map(|v| s.config.balance = v),
        show: |s| one(s.config.balance.name()),
        clear: keep,
    },
    Key {
        name: "backlog",
        value: "N",
        kind: Kind::Value,
        group: Group::Sockets,
        help: "Completed connections that the kernel may hold for each listener, up to \
               net.core.somaxconn.",
        default: "4096",
        change: Change::Restart,
        apply: |s, text| parse_backlog(text).map(|v| s.config.backlog = v),
        show: |s| one(s.config.backlog),
        clear: keep,
    },
    Key {
        name: "recv-buffer",
        value: "SIZE",
        kind: Kind::Value,
        group: Group::Sockets,
        help: "Receive buffer of a connection, SO_RCVBUF.",
        default: "the kernel adapts it",
        change: Change::Restart,
        apply: |s, text| parse_buffer(text).map(|v| s.config.tuning.recv_buffer = Some(v.get())),
        show: |s| shown(s.config.tuning.recv_buffer, size),
        clear: keep,
    },
    Key {
        name: "send-buffer",
        value: "SIZE",
        kind: Kind::Value,
        group: Group::Sockets,
        help: "Send buffer of a connection, SO_SNDBUF.",
        default: "the kernel adapts it",
        change: Change::Restart,
        apply: |s, text| parse_buffer(text).map(|v| s.config.tuning.send_buffer = Some(v.get())),
        show: |s| shown(s.config.tuning.send_buffer, size),
        clear: keep,
    },
    Key {
        name: "read-buffer",
        value: "SIZE",
        kind: Kind::Value,
        group: Group::Sockets,
        help: "Buffer of a worker: the most that one read takes and that a peer that does not read \
               costs. Above 64KiB, streams that keep it full are relayed without copying.",
        default: "256KiB",
        change: Change::Restart,
        apply: |s, text| parse_buffer(text).map(|v| s.config.read_buffer = v),
        show: |s| one(size(s.config.read_buffer.get())),
        clear: keep,
    },
    Key {
        name: "congestion",
        value: "NAME",
        kind: Kind::Value,
        group: Group::Sockets,
        help: "Congestion control algorithm of TCP, such as cubic or bbr.",
        default: "the kernel's",
        change: Change::Restart,
        apply: |s, text| parse_congestion(text).map(|v| s.config.tuning.congestion = Some(v)),
        show: |s| s.config.tuning.congestion.iter().cloned().collect(),
        clear: keep,
    },
    Key {
        name: "no-nodelay",
        value: "BOOL",
        kind: Kind::Flag,
        group: Group::Sockets,
        help: "Let the kernel gather small segments (Nagle's algorithm).",
        default: "false",
        change: Change::Restart,
        apply: |s, text| parse_bool(text).map(|v| s.config.tuning.nodelay = !v),
        show: |s| one(!s.config.tuning.nodelay),
        clear: keep,
    },
    Key {
        name: "user-timeout",
        value: "DURATION",
        kind: Kind::Value,
        group: Group::Sockets,
        help: "End a connection whose peer acknowledges nothing for so long, TCP_USER_TIMEOUT.",
        default: "the kernel's",
        change: Change::Restart,
        apply: |s, text| parse_user_timeout(text).map(|v| s.config.tuning.user_timeout = Some(v)),
        show: |s| shown(s.config.tuning.user_timeout, units::format_duration),
        clear: keep,
    },
    Key {
        name: "max-connections",
        value: "N",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Connections open at a time; more are accepted and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| parse_limit(text).map(|v| s.config.limits.max_connections = Some(v)),
        show: |s| shown(s.config.limits.max_connections, |n| n.to_string()),
        clear: keep,
    },
    Key {
        name: "max-connections-per-ip",
        value: "N",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Connections open at a time from one IPv4 address or one IPv6 /64; more are accepted \
               and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| {
            parse_limit(text).map(|v| s.config.limits.max_connections_per_ip = Some(v))
        },
        show: |s| shown(s.config.limits.max_connections_per_ip, |n| n.to_string()),
        clear: keep,
    },
    Key {
        name: "accept-rate",
        value: "RATE",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Connections served anew per second; more are accepted and closed.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| parse_rate(text).map(|v| s.config.limits.accept_rate = Some(v)),
        show: |s| shown(s.config.limits.accept_rate, |rate| rate.to_string()),
        clear: keep,
    },
    Key {
        name: "allow",
        value: "CIDR",
        kind: Kind::List,
        group: Group::Limits,
        help: "Serve addresses of this prefix, such as 10.0.0.0/8 or 2001:db8::/32; once one is \
               given, no others.",
        default: "everyone that is not denied",
        change: Change::Reload,
        apply: |s, text| read::<Cidr>(text).map(|v| s.config.limits.allow.push(v)),
        show: |s| all(&s.config.limits.allow),
        clear: |s| s.config.limits.allow.clear(),
    },
    Key {
        name: "deny",
        value: "CIDR",
        kind: Kind::List,
        group: Group::Limits,
        help: "Do not serve addresses of this prefix. Of several prefixes with an address, here and \
               in allow, the longest decides, and of the same in both this one.",
        default: "nobody",
        change: Change::Reload,
        apply: |s, text| read::<Cidr>(text).map(|v| s.config.limits.deny.push(v)),
        show: |s| all(&s.config.limits.deny),
        clear: |s| s.config.limits.deny.clear(),
    },
    Key {
        name: "idle-timeout",
        value: "DURATION",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Close a connection on which no byte moved for so long.",
        default: "never",
        change: Change::Reload,
        apply: |s, text| {
            parse_positive_duration(text).map(|v| s.config.limits.idle_timeout = Some(v))
        },
        show: |s| shown(s.config.limits.idle_timeout, units::format_duration),
        clear: keep,
    },
    Key {
        name: "stall-timeout",
        value: "DURATION",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Close a connection of which fewer than stall-bytes moved within so long while some \
               moved or waited to be taken.",
        default: "never",
        change: Change::Reload,
        apply: |s, text| {
            parse_positive_duration(text).map(|v| s.config.limits.stall_timeout = Some(v))
        },
        show: |s| shown(s.config.limits.stall_timeout, units::format_duration),
        clear: keep,
    },
    Key {
        name: "stall-bytes",
        value: "SIZE",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Bytes, both directions together, that have to move within each stall-timeout.",
        default: "1KiB",
        change: Change::Reload,
        apply: |s, text| parse_stall_bytes(text).map(|v| s.config.limits.stall_bytes = v),
        show: |s| one(units::format_size(s.config.limits.stall_bytes)),
        clear: keep,
    },
    Key {
        name: "lifetime",
        value: "DURATION",
        kind: Kind::Value,
        group: Group::Limits,
        help: "Close a connection so long after it was accepted, whatever it does.",
        default: "never",
        change: Change::Reload,
        apply: |s, text| parse_positive_duration(text).map(|v| s.config.limits.lifetime = Some(v)),
        show: |s| shown(s.config.limits.lifetime, units::format_duration),
        clear: keep,
    },
    Key {
        name: "udp-rate",
        value: "RATE",
        kind: Kind::Value,
        group: Group::Udp,
        help: "Datagrams answered per second, over all sources; more are dropped.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| parse_rate(text).map(|v| s.config.limits.udp_rate = Some(v)),
        show: |s| shown(s.config.limits.udp_rate, |rate| rate.to_string()),
        clear: keep,
    },
    Key {
        name: "udp-rate-per-source",
        value: "RATE",
        kind: Kind::Value,
        group: Group::Udp,
        help: "Datagrams answered per second from one IPv4 address or one IPv6 /64; more are \
               dropped.",
        default: "no limit",
        change: Change::Reload,
        apply: |s, text| parse_rate(text).map(|v| s.config.limits.udp_rate_per_source = Some(v)),
        show: |s| shown(s.config.limits.udp_rate_per_source, |rate| rate.to_string()),
        clear: keep,
    },
    Key {
        name: "drain-delay",
        value: "DURATION",
        kind: Kind::Value,
        group: Group::LifeCycle,
        help: "Go on accepting for so long after SIGTERM or SIGINT, until load balancers have \
               noticed.",
        default: "0",
        change: Change::Restart,
        apply: |s, text| parse_duration(text).map(|v| s.config.drain_delay = v),
        show: |s| one(units::format_duration(s.config.drain_delay)),
        clear: keep,
    },
    Key {
        name: "drain-timeout",
        value: "DURATION",
        kind: Kind::Value,
        group: Group::LifeCycle,
        help: "Then let open connections finish for so long; a second signal stops at once.",
        default: "10s",
        change: Change::Restart,
        apply: |s, text| parse_duration(text).map(|v| s.config.drain_timeout = v),
        show: |s| one(units::format_duration(s.config.drain_timeout)),
        clear: keep,
    },
    Key {
        name: "handover",
        value: "PATH",
        kind: Kind::Value,
        group: Group::LifeCycle,
        help: "Unix socket over which a new echod takes the listening sockets of the running one \
               over.",
        default: "none",
        change: Change::Restart,
        apply: |s, text| parse_socket_path(text).map(|v| s.config.handover = Some(v)),
        show: |s| {
            shown(s.config.handover.as_ref(), |path| {
                path.display().to_string()
            })
        },
        clear: keep,
    },
    Key {
        name: "admin",
        value: "HOST:PORT",
        kind: Kind::Value,
        group: Group::Administration,
        help: "Serve /metrics, /livez, /readyz and /info over HTTP here. Whoever reaches it may \
               read all of it.",
        default: "off",
        change: Change::Restart,
        apply: |s, text| parse_admin(text).map(|v| s.config.admin = Some(v)),
        show: |s| shown(s.config.admin.as_ref(), HostPort::to_string),
        clear: keep,
    },
    Key {
        name: "log-format",
        value: "FORMAT",
        kind: Kind::Value,
        group: Group::Logging,
        help: "How log lines on stderr look: text or json.",
        default: "text",
        change: Change::Restart,
        apply: |s, text| read(text).map(|v| s.log_format = v),
        show: |s| one(s.log_format),
        clear: keep,
    },
    Key {
        name: "log-level",
        value: "LEVEL",
        kind: Kind::Value,
        group: Group::Logging,
        help: "Least important log lines to print: error, warn, info, debug or trace.",
        default: "info",
        change: Change::Restart,
        apply: |s, text| read(text).map(|v| s.log_level = v),
        show: |s| one(s.log_level),
        clear: keep,
    },
];

impl Key {
    /// The key of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// The environment variable that sets it: `ECHOD_IDLE_TIMEOUT` for `idle-timeout`.
    pub fn variable(&self) -> String {
        format!(
            "{}{}",
            super::PREFIX,
            self.name.replace('-', "_").to_ascii_uppercase()
        )
    }
}

fn serve(settings: &mut Settings, service: Service, text: &str) -> Result<(), String> {
    let endpoint = read::<Endpoint>(text)?;
    settings.config.services.push((service, endpoint));
    Ok(())
}

fn served(settings: &Settings, service: Service) -> Vec<String> {
    let services = settings.config.services.iter();
    services
        .filter(|(of, _)| *of == service)
        .map(|(_, endpoint)| endpoint.to_string())
        .collect()
}

/// The endpoints of all services belong together, so that a server told on the command line to
/// discard does not echo as well because a file says so.
fn clear_services(settings: &mut Settings) {
    settings.config.services.clear();
}

/// Only lists have something to forget: one value takes the place of another.
fn keep(_: &mut Settings) {}

fn one(value: impl ToString) -> Vec<String> {
    vec![value.to_string()]
}

fn shown<T>(value: Option<T>, format: impl FnOnce(T) -> String) -> Vec<String> {
    value.map(format).into_iter().collect()
}

fn all<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

fn size(bytes: usize) -> String {
    units::format_size(bytes as u64)
}

fn read<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "true" | "yes" | "1" => Ok(true),
        "false" | "no" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither true nor false")),
    }
}

fn parse_workers(text: &str) -> Result<NonZeroUsize, String> {
    /// More threads than any machine has CPUs would only be a typing error.
    const MOST: usize = 4096;
    if text == "auto" {
        return Ok(affinity::usable_cpus());
    }
    let workers = parse_limit(text)?;
    if workers.get() > MOST {
        return Err(format!("at most {MOST} workers"));
    }
    Ok(workers)
}

fn parse_spin(text: &str) -> Result<Spin, String> {
    Ok(match text {
        "always" => Spin::Always,
        "auto" => Spin::Auto,
        _ => match parse_duration(text)? {
            Duration::ZERO => Spin::Never,
            duration => Spin::For(duration),
        },
    })
}

fn format_spin(spin: Spin) -> String {
    match spin {
        Spin::Never => "0".to_owned(),
        Spin::For(duration) => units::format_duration(duration),
        Spin::Auto => "auto".to_owned(),
        Spin::Always => "always".to_owned(),
    }
}

fn parse_balance(text: &str) -> Result<Balance, String> {
    match text {
        "kernel" => Ok(Balance::Kernel),
        "least-connections" => Ok(Balance::LeastConnections),
        "incoming-cpu" => Ok(Balance::IncomingCpu),
        _ => Err(format!(
            "`{text}` is not kernel, least-connections or incoming-cpu"
        )),
    }
}

fn parse_backlog(text: &str) -> Result<u32, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    u32::try_from(count)
        .ok()
        .and_then(NonZeroU32::new)
        .map(NonZeroU32::get)
        .ok_or_else(|| "must be from 1 to 4294967295".to_owned())
}

fn parse_limit(text: &str) -> Result<NonZeroUsize, String> {
    let count = units::parse_count(text).map_err(|error| error.to_string())?;
    usize::try_from(count)
        .ok()
        .and_then(NonZeroUsize::new)
        .ok_or_else(|| "must be at least 1; leave it out for no limit".to_owned())
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = units::parse_rate(text).map_err(|error| error.to_string())?;
    if rate <= 0.0 {
        return Err("must be above 0; leave it out for no limit".to_owned());
    }
    if !(Rate::MIN_PER_SECOND..=Rate::MAX_PER_SECOND).contains(&rate) {
        return Err("must be from 0.000000001 to 1G per second".to_owned());
    }
    Ok(rate)
}

fn parse_buffer(text: &str) -> Result<NonZeroUsize, String> {
    /// The socket options are C ints.
    const MOST: u64 = 1 << 30;
    match units::parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1B".to_owned()),
        size if size > MOST => Err(format!("must be at most {}", units::format_size(MOST))),
        size => Ok(NonZeroUsize::new(size as usize).unwrap_or(NonZeroUsize::MIN)),
    }
}

fn parse_stall_bytes(text: &str) -> Result<u64, String> {
    match units::parse_size(text).map_err(|error| error.to_string())? {
        0 => Err("must be at least 1B".to_owned()),
        size => Ok(size),
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    units::parse_duration(text).map_err(|error| error.to_string())
}

fn parse_positive_duration(text: &str) -> Result<Duration, String> {
    match parse_duration(text)? {
        Duration::ZERO => Err("must be longer than 0; leave it out for none".to_owned()),
        duration => Ok(duration),
    }
}

/// The kernel counts this timeout in milliseconds and takes it as a C int, whatever tcp(7) says: a larger
/// one is refused (do_tcp_setsockopt in net/ipv4/tcp.c).
fn parse_user_timeout(text: &str) -> Result<Duration, String> {
    let timeout = parse_positive_duration(text)?;
    match timeout.as_millis() {
        0 => Err("must be at least 1ms".to_owned()),
        ms if ms > i32::MAX as u128 => Err("must be at most 596h".to_owned()),
        _ => Ok(timeout),
    }
}

fn parse_congestion(text: &str) -> Result<String, String> {
    /// TCP_CA_NAME_MAX, less the terminating zero.
    const LONGEST: usize = 15;
    if text.is_empty() || text.len() > LONGEST || !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(format!(
            "`{text}` is not the name of an algorithm; write for example cubic or bbr"
        ));
    }
    Ok(text.to_owned())
}

fn parse_mode(text: &str) -> Result<u32, String> {
    // The file can write the number as TOML writes octal numbers.
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let all_octal = !digits.is_empty() && digits.bytes().all(|b| matches!(b, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok();
    mode.filter(|mode| all_octal && *mode <= 0o777)
        .ok_or_else(|| {
            format!("`{text}` is not octal permissions from 0 to 777; write for example 660")
        })
}

fn parse_admin(text: &str) -> Result<HostPort, String> {
    text.parse().map_err(|problem| {
        format!("`{text}` is not an address: {problem}; write for example 127.0.0.1:9777")
    })
}

fn parse_socket_path(text: &str) -> Result<PathBuf, String> {
    match format!("unix:{text}").parse() {
        Ok(Endpoint::Unix(path)) => Ok(path),
        _ => Err(format!(
            "`{text}` is not a socket's path: it is empty, longer than 107 bytes or holds a zero byte"
        )),
    }
}
