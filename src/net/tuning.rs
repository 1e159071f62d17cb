//! Socket options that a user may set.
//!
//! On Linux an accepted socket inherits the options of its listener (buffer sizes, TCP_NODELAY,
//! SO_OOBINLINE, SO_KEEPALIVE and its times, congestion control, TCP_USER_TIMEOUT), so a server sets them once
//! and pays no system call for them per connection.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive};

use super::units;

/// Options of a TCP socket, of which UDP has the buffer sizes; `None` leaves the kernel's default.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tuning {
    /// SO_RCVBUF in bytes. Setting it turns off the kernel's automatic sizing; the kernel doubles
    /// the value for its own overhead (socket(7)).
    pub recv_buffer: Option<usize>,
    /// SO_SNDBUF in bytes, as for `recv_buffer`.
    pub send_buffer: Option<usize>,
    /// TCP_CONGESTION: an algorithm's name, such as `cubic` or `bbr`.
    pub congestion: Option<String>,
    /// TCP_NODELAY: send small segments at once.
    pub nodelay: bool,
    /// TCP_USER_TIMEOUT: how long sent data may stay unacknowledged before the kernel ends the
    /// connection.
    pub user_timeout: Option<Duration>,
    /// SO_KEEPALIVE: probes that find out whether the peer of a silent connection is still there.
    pub keepalive: Option<Keepalive>,
    /// IPV6_V6ONLY: a listener on an IPv6 address takes no IPv4 connections, so that another
    /// listener may have the same port for IPv4 (ipv6(7)).
    pub only_v6: bool,
}

impl Tuning {
    /// Sets the options on a socket that is neither connected nor listening yet: the buffer sizes
    /// decide the window scale of the handshake.
    ///
    /// # Errors
    /// [`TuningError`] names the option, and for an unknown congestion algorithm the available
    /// ones.
    pub fn apply(&self, socket: &Socket) -> Result<(), TuningError> {
        self.apply_buffers(socket)?;
        if let Some(name) = &self.congestion {
            socket
                .set_tcp_congestion(name.as_bytes())
                .map_err(|source| TuningError {
                    option: format!("congestion algorithm `{name}`"),
                    source,
                    available: available_congestion(),
                })?;
        }
        socket
            .set_tcp_nodelay(self.nodelay)
            .map_err(option("TCP_NODELAY"))?;
        if let Some(timeout) = self.user_timeout {
            socket
                .set_tcp_user_timeout(Some(timeout))
                .map_err(option("TCP_USER_TIMEOUT"))?;
        }
        if let Some(keepalive) = self.keepalive {
            socket
                .set_tcp_keepalive(&keepalive.into())
                .map_err(option("SO_KEEPALIVE"))?;
        }
        Ok(())
    }

    /// Sets the buffer sizes, the options that a datagram socket has too.
    ///
    /// # Errors
    /// As [`Tuning::apply`].
    pub fn apply_buffers(&self, socket: &Socket) -> Result<(), TuningError> {
        if let Some(bytes) = self.recv_buffer {
            socket
                .set_recv_buffer_size(bytes)
                .map_err(option("SO_RCVBUF"))?;
        }
        if let Some(bytes) = self.send_buffer {
            socket
                .set_send_buffer_size(bytes)
                .map_err(option("SO_SNDBUF"))?;
        }
        Ok(())
    }
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            recv_buffer: None,
            send_buffer: None,
            congestion: None,
            nodelay: true,
            user_timeout: None,
            keepalive: None,
            only_v6: false,
        }
    }
}

/// When the kernel probes a silent connection, and when it gives up; `None` leaves the kernel's
/// default (tcp(7)).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Keepalive {
    /// TCP_KEEPIDLE: silence before the first probe, in whole seconds.
    pub idle: Duration,
    /// TCP_KEEPINTVL: the interval between probes, in whole seconds.
    pub interval: Option<Duration>,
    /// TCP_KEEPCNT: unanswered probes after which the connection ends. TCP_USER_TIMEOUT overrides
    /// it.
    pub count: Option<u32>,
}

impl From<Keepalive> for TcpKeepalive {
    fn from(keepalive: Keepalive) -> Self {
        let mut options = Self::new().with_time(keepalive.idle);
        if let Some(interval) = keepalive.interval {
            options = options.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            options = options.with_retries(count);
        }
        options
    }
}

impl fmt::Display for Keepalive {
    /// As on the command line. A count without an interval can't be written there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&units::format_duration(self.idle))?;
        if let Some(interval) = self.interval {
            write!(f, ",{}", units::format_duration(interval))?;
            if let Some(count) = self.count {
                write!(f, ",{count}")?;
            }
        }
        Ok(())
    }
}

/// A socket option that the kernel refused.
#[derive(Debug)]
pub struct TuningError {
    option: String,
    source: io::Error,
    available: Option<String>,
}

impl fmt::Display for TuningError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot set the {}: {}", self.option, self.source)?;
        if let Some(available) = &self.available {
            write!(f, "; this kernel has: {available}")?;
        }
        Ok(())
    }
}

impl std::error::Error for TuningError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// Names the option that could not be set.
pub(super) fn option(option: &'static str) -> impl Fn(io::Error) -> TuningError {
    move |source| TuningError {
        option: option.to_owned(),
        source,
        available: None,
    }
}

fn available_congestion() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").ok()?;
    Some(text.trim().to_owned())
}
