//! TCP listeners: bound, inherited, and closed without losing a connection.

use std::fmt;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockFilter, SockRef, Socket, Type};

use super::sys;
use super::tuning::{Tuning, TuningError, option};

/// Why a group of listeners could not be created.
#[derive(Debug)]
pub enum ListenError {
    /// The address can't be bound: in use, not of this host, not permitted.
    Bind(io::Error),
    /// A socket option was refused.
    Tuning(TuningError),
    /// Any other call failed.
    Socket(io::Error),
}

impl fmt::Display for ListenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(source) => write!(f, "cannot bind: {source}"),
            Self::Tuning(source) => source.fmt(f),
            Self::Socket(source) => write!(f, "a call on a socket failed: {source}"),
        }
    }
}

impl std::error::Error for ListenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Bind(source) | Self::Socket(source) => Some(source),
            Self::Tuning(source) => Some(source),
        }
    }
}

impl From<io::Error> for ListenError {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

impl From<TuningError> for ListenError {
    fn from(error: TuningError) -> Self {
        Self::Tuning(error)
    }
}

/// Binds `count` TCP listeners to one address. The kernel distributes the connections over them by
/// a hash of their addresses (SO_REUSEPORT, socket(7)).
///
/// The first is bound before SO_REUSEPORT is set, so that another program's address is reported as
/// in use, even if that program would share it: two servers that share connections by accident are
/// worse than an error. With port 0 the kernel chooses one port for all.
///
/// # Errors
/// [`ListenError`] says which step failed.
pub fn listen(
    address: SocketAddr,
    count: usize,
    backlog: u32,
    tuning: &Tuning,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let first = stream_socket(address)?;
    divide_families(&first, address, tuning)?;
    prepare_listener(&first, tuning)?;
    first.bind(&address.into()).map_err(ListenError::Bind)?;
    first.set_reuse_port(true)?;
    let bound = first.local_addr()?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(join(bound.as_socket().unwrap_or(address), tuning)?);
    }
    // All are bound before the first listens, so that no connection reaches an incomplete group.
    for socket in &sockets {
        start_listening(socket, backlog)?;
    }
    Ok(sockets.into_iter().map(Into::into).collect())
}

/// Binds `count` more sockets to an address that this user's listeners already share
/// (SO_REUSEPORT). They get no connection before [`set_backlog`] makes them listen.
///
/// # Errors
/// As [`listen`].
pub fn bind_beside(
    address: SocketAddr,
    count: usize,
    tuning: &Tuning,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    (0..count)
        .map(|_| Ok(join(address, tuning)?.into()))
        .collect()
}

/// Makes a TCP listener of a socket that another process bound, with these options, or those that
/// it has.
///
/// # Errors
/// `InvalidInput` when it is not a listening TCP socket; otherwise as [`listen`].
pub fn adopt_listener(
    socket: OwnedFd,
    tuning: Option<&Tuning>,
) -> Result<std::net::TcpListener, ListenError> {
    let socket = Socket::from(socket);
    let is_listener = socket.is_listener()?;
    let protocol = socket.protocol()?;
    if !is_listener || protocol != Some(Protocol::TCP) {
        return Err(ListenError::Socket(io::ErrorKind::InvalidInput.into()));
    }
    socket.set_nonblocking(true)?;
    socket.set_cloexec(true)?;
    if let Some(tuning) = tuning {
        prepare_listener(&socket, tuning)?;
    }
    Ok(socket.into())
}

/// Sets the options of a listener on which another process may have set others.
///
/// # Errors
/// As [`listen`].
pub fn prepare_inherited(socket: &Socket, tuning: &Tuning) -> Result<(), ListenError> {
    tuning.reset_others(socket)?;
    prepare_listener(socket, tuning)
}

/// Sets IPV6_V6ONLY if configured; possible only before bind(2).
pub(super) fn divide_families(
    socket: &Socket,
    address: SocketAddr,
    tuning: &Tuning,
) -> Result<(), ListenError> {
    if tuning.only_v6 && address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(())
}

/// Sets the options that accepted connections inherit.
fn prepare_listener(socket: &Socket, tuning: &Tuning) -> Result<(), ListenError> {
    // Lets a restarted server bind while old connections linger in TIME_WAIT (tcp(7)).
    socket.set_reuse_address(true)?;
    // An urgent byte stays in its place in the stream: an echo must return it like any other.
    socket.set_out_of_band_inline(true)?;
    tuning.apply(socket)?;
    Ok(())
}

/// A socket bound to an address that other sockets share.
fn join(address: SocketAddr, tuning: &Tuning) -> Result<Socket, ListenError> {
    let socket = stream_socket(address)?;
    divide_families(&socket, address, tuning)?;
    prepare_listener(&socket, tuning)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into()).map_err(ListenError::Bind)?;
    Ok(socket)
}

/// Makes a bound socket listen, or changes the backlog of a listening one: listen(2) may be called
/// again.
///
/// # Errors
/// What listen(2) reports.
pub fn set_backlog(listener: &std::net::TcpListener, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    SockRef::from(listener).listen(backlog)
}

/// Makes the kernel hold a connection back until its first byte has come, or for about a second
/// (TCP_DEFER_ACCEPT, tcp(7)): accept(2) then returns clients that have sent something.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn defer_accept(listener: &impl AsFd) -> io::Result<()> {
    const SECONDS: libc::c_int = 1;
    sys::set_option(listener, sys::socket::TCP_DEFER_ACCEPT, SECONDS)
}

/// Makes the kernel prefer this socket, in its SO_REUSEPORT group, for packets that come in on one
/// CPU. `None` removes the preference.
///
/// Before Linux 6.2 it has no effect: the hash decides in such a group (commit b261eda84ec1,
/// "soreuseport: Fix socket selection for SO_INCOMING_CPU"). The hash also decides
/// among several that prefer the same CPU, and among all if none prefers this CPU.
///
/// # Errors
/// [`TuningError`] with what setsockopt(2) reports for SO_INCOMING_CPU.
pub fn prefer_cpu(socket: &impl AsFd, cpu: Option<usize>) -> Result<(), TuningError> {
    /// -1 as the kernel reads it: no CPU, the default of a socket.
    const NONE: u32 = u32::MAX;
    let cpu = cpu.map_or(Ok(NONE), u32::try_from);
    let cpu = cpu.map_err(|_| io::ErrorKind::InvalidInput.into());
    cpu.and_then(|cpu| Ok(sockopt::set_socket_incoming_cpu(socket, cpu)?))
        .map_err(option("SO_INCOMING_CPU"))
}

fn start_listening(socket: &Socket, backlog: u32) -> Result<(), ListenError> {
    // Two programs that bind at the same moment both pass bind(2); listen(2) tells them apart.
    socket
        .listen(i32::try_from(backlog).unwrap_or(i32::MAX))
        .map_err(ListenError::Bind)
}

/// How a listener ignores new connections.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ignoring {
    /// By a filter of its segments.
    Filter,
    /// By the least number of hops that a packet may have left. An accepted connection inherits it,
    /// and needs [`take_all_hops`].
    Hops,
}

/// Makes a listener drop new SYNs, while handshakes under way still complete and can be accepted:
/// the first step of closing a listener without losing a connection.
///
/// Some systems refuse a filter to other users than root. There the listener takes only packets
/// that no router has passed on and that were sent with 255 hops, which those of a TCP connection
/// are not: Linux sends 64, others 64 or 128.
///
/// # Errors
/// What setsockopt(2) reports for both ways.
pub fn ignore_new_connections(listener: &impl AsFd) -> io::Result<Ignoring> {
    match drop_new_connections(listener) {
        Ok(()) => Ok(Ignoring::Filter),
        Err(_) => require_hops(listener, MAX_HOPS).map(|()| Ignoring::Hops),
    }
}

/// Lets a connection take packets with any number of hops left, after [`Ignoring::Hops`].
///
/// # Errors
/// What setsockopt(2) reports.
pub fn take_all_hops(stream: &impl AsFd) -> io::Result<()> {
    require_hops(stream, 0)
}

/// The most hops that a packet can have.
const MAX_HOPS: libc::c_int = 255;

/// Makes the kernel drop packets to a listener or a connection that have fewer hops left
/// (IP_MINTTL, ip(7); IPV6_MINHOPCOUNT). A handshake under way is not looked at: it belongs neither
/// to a listener nor to a connection (tcp_v4_rcv in the kernel).
fn require_hops(socket: &impl AsFd, hops: libc::c_int) -> io::Result<()> {
    if SockRef::from(socket).domain()? == Domain::IPV6 {
        sys::set_option(socket, sys::socket::IPV6_MINHOPCOUNT, hops)?;
    }
    // An IPv6 listener takes IPv4 too.
    sys::set_option(socket, sys::socket::IP_MINTTL, hops)
}

/// A classic BPF socket filter sees an incoming segment from its TCP header on (the kernel's
/// tcp_filter); byte 13 holds the flags, and 0x02 is SYN. Returning 0 drops the segment. The peer
/// sends it again later, when another listener answers or the port is closed.
///
/// # Errors
/// What setsockopt(2) with SO_ATTACH_FILTER reports.
fn drop_new_connections(listener: &impl AsFd) -> io::Result<()> {
    const LOAD_BYTE_13: SockFilter = SockFilter::new(0x30, 0, 0, 13);
    const SKIP_NEXT_UNLESS_SYN: SockFilter = SockFilter::new(0x45, 0, 1, 0x02);
    const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    const PASS: SockFilter = SockFilter::new(0x06, 0, 0, u32::MAX);
    SockRef::from(listener).attach_filter(&[LOAD_BYTE_13, SKIP_NEXT_UNLESS_SYN, DROP, PASS])
}

/// The kernel's maximum of every backlog, if it can be read (listen(2)).
pub fn somaxconn() -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

/// A non-blocking TCP socket of the address's family.
///
/// # Errors
/// What socket(2) reports.
pub fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::tuning::Keepalive;
    use std::io::{Read, Write};
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn listeners_share_one_port_and_pass_their_options_on() {
        let tuning = Tuning {
            recv_buffer: Some(32 << 10),
            congestion: Some("reno".to_owned()),
            user_timeout: Some(Duration::from_secs(7)),
            keepalive: Some(Keepalive {
                idle: Duration::from_secs(50),
                interval: Some(Duration::from_secs(9)),
                count: Some(4),
            }),
            ..Tuning::default()
        };
        let listeners = listen(LOOPBACK, 3, 16, &tuning).unwrap();
        let address = listeners[0].local_addr().unwrap();
        assert!(listeners.iter().all(|l| l.local_addr().unwrap() == address));

        // One listener left, so the connection must reach it.
        let listener = listeners.into_iter().next_back().unwrap();
        listener.set_nonblocking(false).unwrap();
        let _client = std::net::TcpStream::connect(address).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        let accepted = SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
        assert_eq!(accepted.recv_buffer_size().unwrap(), 64 << 10);
        assert_eq!(
            accepted.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(7))
        );
        assert!(accepted.keepalive().unwrap());
        assert_eq!(
            accepted.tcp_keepalive_time().unwrap(),
            Duration::from_secs(50)
        );
        assert_eq!(
            accepted.tcp_keepalive_interval().unwrap(),
            Duration::from_secs(9)
        );
        assert_eq!(accepted.tcp_keepalive_retries().unwrap(), 4);
        assert!(accepted.tcp_congestion().unwrap().starts_with(b"reno"));
    }

    #[test]
    fn an_address_that_someone_listens_on_is_in_use_even_if_shared() {
        let taken = listen(LOOPBACK, 2, 16, &Tuning::default()).unwrap();
        let address = taken[0].local_addr().unwrap();
        match listen(address, 2, 16, &Tuning::default()) {
            Err(ListenError::Bind(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
            other => panic!("expected an address in use, got {other:?}"),
        }
    }

    #[test]
    fn the_backlog_is_the_one_asked_for() {
        for backlog in [3, 200] {
            let listeners = listen(LOOPBACK, 1, backlog, &Tuning::default()).unwrap();
            let address = listeners[0].local_addr().unwrap();
            // No connection is accepted, so connects succeed until the queue is full: one more than
            // the backlog, as the kernel counts (sk_acceptq_is_full).
            let patience = Duration::from_secs(1);
            let mut queued = Vec::new();
            while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, patience) {
                queued.push(stream);
            }
            assert_eq!(queued.len(), backlog as usize + 1);
        }
    }

    #[test]
    fn an_unknown_congestion_algorithm_is_named_with_the_available_ones() {
        let tuning = Tuning {
            congestion: Some("nosuch".to_owned()),
            ..Tuning::default()
        };
        let Err(ListenError::Tuning(error)) = listen(LOOPBACK, 1, 16, &tuning) else {
            panic!("`nosuch` was accepted as a congestion algorithm");
        };
        let text = error.to_string();
        assert!(text.contains("nosuch") && text.contains("reno"), "{text}");
    }

    #[test]
    fn a_listener_that_ignores_new_connections_keeps_those_it_has() {
        let ways: [fn(&std::net::TcpListener) -> io::Result<()>; 2] =
            [drop_new_connections, |it| require_hops(it, MAX_HOPS)];
        let hosts = ["127.0.0.1:0", "[::1]:0", "[::]:0", "0.0.0.0:0"];
        for (host, ignore) in hosts.iter().flat_map(|host| ways.map(|way| (host, way))) {
            let listener = listen(host.parse().unwrap(), 1, 16, &Tuning::default())
                .unwrap()
                .remove(0);
            let address = listener.local_addr().unwrap();
            let mut before = std::net::TcpStream::connect(address).unwrap();
            ignore(&listener).unwrap();
            let after = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
            assert_eq!(after.unwrap_err().kind(), io::ErrorKind::TimedOut, "{host}");
            let (mut accepted, _) = listener.accept().unwrap();
            assert_eq!(
                listener.accept().unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            // The connection is whole.
            take_all_hops(&accepted).unwrap();
            before.write_all(b"x").unwrap();
            accepted.set_nonblocking(false).unwrap();
            accepted.read_exact(&mut [0]).unwrap();
        }
    }
}
