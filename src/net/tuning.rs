//! Socket options that a user may set.
//!
//! On Linux an accepted socket inherits the options of its listener (buffer sizes, TCP_NODELAY,
//! SO_OOBINLINE, SO_KEEPALIVE and its times, congestion control, TCP_USER_TIMEOUT), so a server sets them once
//! and pays no system call for them per connection.

use std::fmt;
use std::fs;
use std::io;
use std::time::Duration;

use socket2::{Socket, TcpKeepalive, Type};

use super::sys::socket::{RECV_BUFFER_LOCK, SEND_BUFFER_LOCK, SO_BUF_LOCK};
use super::{sys, units};

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
        self.apply_to_new(socket)?;
        if !self.nodelay {
            set_nodelay(socket, false)?;
        }
        Ok(())
    }

    /// As [`Tuning::apply`], on a socket that has the kernel's defaults: none of them is set again.
    ///
    /// # Errors
    /// As [`Tuning::apply`].
    pub fn apply_to_new(&self, socket: &Socket) -> Result<(), TuningError> {
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
        if self.nodelay {
            set_nodelay(socket, true)?;
        }
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

impl Tuning {
    /// Gives a TCP or UDP socket the kernel's defaults, as a new socket has them, for all options
    /// that these don't set: another process may have set them. IPV6_V6ONLY stays, because it can't
    /// change once a socket is bound, and before Linux 5.14 so do the sizes of buffers.
    ///
    /// # Errors
    /// [`TuningError`] names the option.
    pub fn reset_others(&self, socket: &Socket) -> Result<(), TuningError> {
        let fresh = fresh_like(socket).map_err(option("defaults of a socket"))?;
        self.reset_buffers(socket, &fresh)
            .map_err(option("buffer sizes to the kernel's default"))?;
        if fresh.r#type().is_ok_and(|it| it == Type::STREAM) {
            self.reset_tcp(socket, &fresh)
                .map_err(option("TCP options to the kernel's defaults"))?;
        }
        Ok(())
    }

    fn reset_buffers(&self, socket: &Socket, fresh: &Socket) -> io::Result<()> {
        let Ok(locked) = sys::socket::read_bits(socket, SO_BUF_LOCK) else {
            // An older kernel can't let go of a size.
            return Ok(());
        };
        let mut kept = locked;
        // The kernel doubles what is set.
        if self.recv_buffer.is_none() && locked & RECV_BUFFER_LOCK != 0 {
            socket.set_recv_buffer_size(fresh.recv_buffer_size()? / 2)?;
            kept &= !RECV_BUFFER_LOCK;
        }
        if self.send_buffer.is_none() && locked & SEND_BUFFER_LOCK != 0 {
            socket.set_send_buffer_size(fresh.send_buffer_size()? / 2)?;
            kept &= !SEND_BUFFER_LOCK;
        }
        if kept != locked {
            sys::set_option(socket, SO_BUF_LOCK, kept.cast_signed())?;
        }
        Ok(())
    }

    fn reset_tcp(&self, socket: &Socket, fresh: &Socket) -> io::Result<()> {
        if self.congestion.is_none() {
            let name = fresh.tcp_congestion()?;
            let end = name.iter().position(|&byte| byte == 0);
            let name = &name[..end.unwrap_or(name.len())];
            // Setting the one that it has may need a privilege.
            if !socket.tcp_congestion()?.starts_with(name) {
                socket.set_tcp_congestion(name)?;
            }
        }
        if self.user_timeout.is_none() {
            socket.set_tcp_user_timeout(None)?;
        }
        if self.keepalive.is_none() {
            socket.set_keepalive(false)?;
        }
        let defaults = TcpKeepalive::new()
            .with_time(fresh.tcp_keepalive_time()?)
            .with_interval(fresh.tcp_keepalive_interval()?)
            .with_retries(fresh.tcp_keepalive_retries()?);
        let is_on = socket.keepalive()?;
        // This also turns them on.
        socket.set_tcp_keepalive(&defaults)?;
        socket.set_keepalive(is_on)
    }
}

fn set_nodelay(socket: &Socket, is_on: bool) -> Result<(), TuningError> {
    socket.set_tcp_nodelay(is_on).map_err(option("TCP_NODELAY"))
}

/// A new socket of the same kind.
fn fresh_like(socket: &Socket) -> io::Result<Socket> {
    Socket::new(socket.domain()?, socket.r#type()?, socket.protocol()?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tcp::stream_socket;

    #[test]
    fn what_another_process_set_is_undone_unless_it_is_configured() {
        let set = Tuning {
            recv_buffer: Some(12_345),
            send_buffer: Some(23_456),
            congestion: Some("reno".to_owned()),
            nodelay: true,
            user_timeout: Some(Duration::from_secs(7)),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(50),
                interval: Some(Duration::from_secs(9)),
                count: Some(4),
            }),
            only_v6: false,
        };
        let [fresh, socket] = [(); 2].map(|()| {
            let loopback = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
            stream_socket(loopback).unwrap()
        });
        set.apply(&socket).unwrap();
        let kept = Tuning {
            send_buffer: set.send_buffer,
            ..Tuning::default()
        };
        kept.reset_others(&socket).unwrap();
        assert_eq!(
            socket.recv_buffer_size().unwrap(),
            fresh.recv_buffer_size().unwrap()
        );
        assert_eq!(socket.send_buffer_size().unwrap(), 2 * 23_456);
        // The kernel sizes the one buffer itself again, and not the other.
        let locked = sys::socket::read_bits(&socket, SO_BUF_LOCK).unwrap();
        assert_eq!(locked, SEND_BUFFER_LOCK);
        assert_eq!(
            socket.tcp_congestion().unwrap(),
            fresh.tcp_congestion().unwrap()
        );
        assert_eq!(socket.tcp_user_timeout().unwrap(), None);
        assert!(!socket.keepalive().unwrap());
        let times = |it: &Socket| {
            (
                it.tcp_keepalive_time().unwrap(),
                it.tcp_keepalive_interval().unwrap(),
                it.tcp_keepalive_retries().unwrap(),
            )
        };
        assert_eq!(times(&socket), times(&fresh));
    }
}
