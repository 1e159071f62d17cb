//! Socket options: every listener and every client socket of ours is made here.
//!
//! On Linux an accepted socket inherits the options of its listener (buffer sizes, TCP_NODELAY,
//! SO_OOBINLINE, SO_KEEPALIVE, congestion control, TCP_USER_TIMEOUT), so a server sets them once
//! and pays no system call for them per connection.

mod client;

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::sockopt;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::sys::datagram::{self, Destination, Family};

pub use client::{connect, connect_datagram, connect_from, is_port_exhaustion, reset_on_close};

/// Options of a TCP socket, of which UDP has the buffer sizes; `None` leaves the kernel's default.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Tuning {
    /// SO_RCVBUF in bytes. Setting it turns the kernel's automatic sizing off; the kernel doubles
    /// the value for its own book-keeping (socket(7)).
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
    /// IPV6_V6ONLY: a listener on an IPv6 address takes no IPv4 connections, so that another may
    /// have the same port for these (ipv6(7)).
    pub only_v6: bool,
}

impl Tuning {
    /// Sets the options on a socket that is neither connected nor listening yet: the buffer sizes
    /// decide the window scale of the handshake.
    ///
    /// # Errors
    /// [`TuningError`] names the option and what would do.
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
        Ok(())
    }

    fn apply_buffers(&self, socket: &Socket) -> Result<(), TuningError> {
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
            only_v6: false,
        }
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

/// Why a group of listeners could not be made.
#[derive(Debug)]
pub enum ListenError {
    /// The address can't be bound: in use, not ours, not permitted.
    Bind(io::Error),
    /// A socket option was refused.
    Tuning(TuningError),
    /// Any other call failed.
    Socket(io::Error),
}

/// Binds `count` TCP listeners to one address, among which the kernel spreads the connections by a
/// hash of their addresses (SO_REUSEPORT, socket(7)).
///
/// The first is bound before SO_REUSEPORT is set, so that an address that another program listens
/// on is reported as in use, even if that program would share it: two servers that each get a part
/// of the connections by accident are worse than an error. With port 0 the kernel chooses one port
/// for all.
///
/// # Errors
/// [`ListenError`] says which step failed.
pub fn listen(
    address: SocketAddr,
    count: usize,
    backlog: u32,
    tuning: &Tuning,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let first = stream_socket(address).map_err(ListenError::Socket)?;
    divide_families(&first, address, tuning)?;
    prepare_listener(&first, tuning)?;
    first.bind(&address.into()).map_err(ListenError::Bind)?;
    first.set_reuse_port(true).map_err(ListenError::Socket)?;
    let bound = first.local_addr().map_err(ListenError::Socket)?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(join(bound.as_socket().unwrap_or(address), tuning)?);
    }
    // All are bound before the first listens, so that no connection comes to a group that is not
    // complete yet.
    for socket in &sockets {
        start_listening(socket, backlog)?;
    }
    Ok(sockets.into_iter().map(Into::into).collect())
}

/// Binds `count` UDP sockets to one address, among which the kernel spreads the peers by a hash of
/// their addresses (SO_REUSEPORT), ready for [`Batch`](datagram::Batch).
///
/// As for [`listen`], an address that another program has is reported as in use, and with port 0
/// the kernel chooses one port for all.
///
/// # Errors
/// [`ListenError`] says which step failed.
pub fn datagram_sockets(
    address: SocketAddr,
    count: usize,
    tuning: &Tuning,
) -> Result<Vec<std::net::UdpSocket>, ListenError> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for index in 0..count {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))
            .map_err(ListenError::Socket)?;
        divide_families(&socket, address, tuning)?;
        // Before it is bound, so that the first datagram already tells its destination.
        prepare(&socket, address, tuning)?;
        if index > 0 {
            socket.set_reuse_port(true).map_err(ListenError::Socket)?;
        }
        socket.bind(&address.into()).map_err(ListenError::Bind)?;
        let socket = std::net::UdpSocket::from(socket);
        if index == 0 {
            socket2::SockRef::from(&socket)
                .set_reuse_port(true)
                .map_err(ListenError::Socket)?;
            address = socket.local_addr().map_err(ListenError::Socket)?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Binds `count` more listeners to an address whose listeners share it (SO_REUSEPORT) and are this
/// user's.
///
/// # Errors
/// As [`listen`].
pub fn listen_beside(
    address: SocketAddr,
    count: usize,
    backlog: u32,
    tuning: &Tuning,
) -> Result<Vec<std::net::TcpListener>, ListenError> {
    let mut sockets = Vec::with_capacity(count);
    for _ in 0..count {
        let socket = join(address, tuning)?;
        start_listening(&socket, backlog)?;
        sockets.push(socket.into());
    }
    Ok(sockets)
}

/// Makes a bound UDP socket that was inherited like those of [`datagram_sockets`]. What it received
/// before does not tell its destination.
///
/// # Errors
/// [`ListenError`] says which step failed; `InvalidInput` if it is no UDP socket.
pub fn adopt_datagram_socket(
    socket: std::net::UdpSocket,
    tuning: &Tuning,
) -> Result<std::net::UdpSocket, ListenError> {
    let address = socket.local_addr().map_err(ListenError::Socket)?;
    let socket = Socket::from(socket);
    let protocol = socket.protocol().map_err(ListenError::Socket)?;
    if protocol != Some(Protocol::UDP) {
        return Err(ListenError::Socket(io::ErrorKind::InvalidInput.into()));
    }
    prepare(&socket, address, tuning)?;
    Ok(socket.into())
}

/// Makes a TCP listener of a socket that another process made and bound.
///
/// # Errors
/// `InvalidInput` when it is not a TCP socket that listens; otherwise as [`listen`].
pub fn adopt_listener(
    socket: OwnedFd,
    tuning: &Tuning,
) -> Result<std::net::TcpListener, ListenError> {
    let socket = Socket::from(socket);
    let is_listener = socket.is_listener().map_err(ListenError::Socket)?;
    let protocol = socket.protocol().map_err(ListenError::Socket)?;
    if !is_listener || protocol != Some(Protocol::TCP) {
        return Err(ListenError::Socket(io::ErrorKind::InvalidInput.into()));
    }
    socket.set_nonblocking(true).map_err(ListenError::Socket)?;
    socket.set_cloexec(true).map_err(ListenError::Socket)?;
    prepare_listener(&socket, tuning)?;
    Ok(socket.into())
}

/// Leaves IPv4 to another socket if that is asked for; possible only before the socket is bound.
fn divide_families(
    socket: &Socket,
    address: SocketAddr,
    tuning: &Tuning,
) -> Result<(), ListenError> {
    if tuning.only_v6 && address.is_ipv6() {
        socket.set_only_v6(true).map_err(ListenError::Socket)?;
    }
    Ok(())
}

/// Sets what accepted connections inherit.
fn prepare_listener(socket: &Socket, tuning: &Tuning) -> Result<(), ListenError> {
    // Lets a restarted server bind while old connections linger in TIME_WAIT (tcp(7)).
    socket
        .set_reuse_address(true)
        .map_err(ListenError::Socket)?;
    // An urgent byte stays in its place in the stream: an echo must return it like any other.
    socket
        .set_out_of_band_inline(true)
        .map_err(ListenError::Socket)?;
    tuning.apply(socket).map_err(ListenError::Tuning)
}

/// A socket on an address whose other sockets share it.
fn join(address: SocketAddr, tuning: &Tuning) -> Result<Socket, ListenError> {
    let socket = stream_socket(address).map_err(ListenError::Socket)?;
    divide_families(&socket, address, tuning)?;
    prepare_listener(&socket, tuning)?;
    socket.set_reuse_port(true).map_err(ListenError::Socket)?;
    socket.bind(&address.into()).map_err(ListenError::Bind)?;
    Ok(socket)
}

/// Changes the backlog of a socket that listens already: listen(2) may be called again.
///
/// # Errors
/// What listen(2) reports.
pub fn set_backlog(listener: &std::net::TcpListener, backlog: u32) -> io::Result<()> {
    let backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
    socket2::SockRef::from(listener).listen(backlog)
}

/// Makes the kernel prefer this socket, among those that share its address (SO_REUSEPORT), for what
/// comes in on one CPU, or for nothing in particular.
///
/// Before Linux 6.2 it prefers nobody: the hash decides in such a group (commit b261eda84ec1,
/// "soreuseport: Fix socket selection for SO_INCOMING_CPU"). Of several that prefer the same CPU, and
/// of all if none prefers the CPU at hand, the hash decides as well.
///
/// # Errors
/// [`TuningError`] with what setsockopt(2) reports for SO_INCOMING_CPU.
pub fn prefer_cpu(socket: &impl AsFd, cpu: Option<usize>) -> Result<(), TuningError> {
    /// -1 as the kernel reads it: no CPU, which is what a fresh socket has.
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

/// Makes a listener ignore new connection requests, while those that the kernel already answered
/// still complete and can be accepted: the first step of closing a listener without losing one.
///
/// A classic BPF socket filter sees an incoming segment from its TCP header on (the kernel's
/// tcp_filter); byte 13 holds the flags, of which 0x02 is SYN. Returning 0 drops the segment, and
/// the peer sends it again later, when either another listener answers or the port is closed.
///
/// # Errors
/// What setsockopt(2) with SO_ATTACH_FILTER reports.
pub fn ignore_new_connections(listener: &impl AsFd) -> io::Result<()> {
    const LOAD_BYTE_13: SockFilter = SockFilter::new(0x30, 0, 0, 13);
    const SKIP_NEXT_UNLESS_SYN: SockFilter = SockFilter::new(0x45, 0, 1, 0x02);
    const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);
    const PASS: SockFilter = SockFilter::new(0x06, 0, 0, u32::MAX);
    socket2::SockRef::from(listener).attach_filter(&[
        LOAD_BYTE_13,
        SKIP_NEXT_UNLESS_SYN,
        DROP,
        PASS,
    ])
}

/// The ceiling that the kernel puts on every backlog, if it can be read (listen(2)).
pub fn somaxconn() -> Option<u32> {
    let text = fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}

fn option(option: &'static str) -> impl Fn(io::Error) -> TuningError {
    move |source| TuningError {
        option: option.to_owned(),
        source,
        available: None,
    }
}

fn stream_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::STREAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::TCP))
}

fn prepare(socket: &Socket, address: SocketAddr, tuning: &Tuning) -> Result<(), ListenError> {
    socket.set_nonblocking(true).map_err(ListenError::Socket)?;
    tuning.apply_buffers(socket).map_err(ListenError::Tuning)?;
    if only_destination(address).is_none() {
        let family = match address {
            SocketAddr::V4(_) => Family::V4,
            SocketAddr::V6(_) => Family::V6,
        };
        datagram::tell_destinations(socket, family).map_err(ListenError::Socket)?;
    }
    datagram::take_aggregates(socket).map_err(ListenError::Socket)
}

/// Where everything was sent to that a UDP socket bound to `address` receives, if that is known
/// beforehand: the address is that of one interface of this host, and no group's.
pub fn only_destination(address: SocketAddr) -> Option<Destination> {
    let ip = address.ip().to_canonical();
    let (unspecified, needs_its_link): (IpAddr, _) = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), false),
        IpAddr::V6(ip) => (Ipv6Addr::UNSPECIFIED.into(), ip.is_unicast_link_local()),
    };
    if ip.is_unspecified() || ip.is_multicast() || needs_its_link {
        return None;
    }
    // Which addresses are the broadcasts of networks the kernel alone knows: without SO_BROADCAST it
    // does not connect there (connect(2), EACCES). Nothing is sent.
    let port = NonZeroU16::new(address.port()).map_or(7, NonZeroU16::get);
    let probe = std::net::UdpSocket::bind((unspecified, 0)).ok()?;
    probe.connect((ip, port)).ok()?;
    Some(Destination {
        address: ip,
        interface: 0,
        unicast: true,
    })
}

fn available_congestion() -> Option<String> {
    let text = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn listeners_share_one_port_and_pass_their_options_on() {
        let tuning = Tuning {
            recv_buffer: Some(32 << 10),
            congestion: Some("reno".to_owned()),
            user_timeout: Some(Duration::from_secs(7)),
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
        let accepted = socket2::SockRef::from(&accepted);
        assert!(accepted.tcp_nodelay().unwrap());
        assert!(accepted.out_of_band_inline().unwrap());
        assert_eq!(accepted.recv_buffer_size().unwrap(), 64 << 10);
        assert_eq!(
            accepted.tcp_user_timeout().unwrap(),
            Some(Duration::from_secs(7))
        );
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
    fn datagram_sockets_share_one_port_and_nobody_else_does() {
        let tuning = Tuning {
            recv_buffer: Some(32 << 10),
            send_buffer: Some(16 << 10),
            ..Tuning::default()
        };
        let sockets = datagram_sockets(LOOPBACK, 3, &tuning).unwrap();
        let address = sockets[0].local_addr().unwrap();
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
            let socket = socket2::SockRef::from(socket);
            assert_eq!(socket.recv_buffer_size().unwrap(), 64 << 10);
            assert_eq!(socket.send_buffer_size().unwrap(), 32 << 10);
        }
        match datagram_sockets(address, 2, &Tuning::default()) {
            Err(ListenError::Bind(error)) => {
                assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
            }
            other => panic!("expected an address in use, got {other:?}"),
        }
    }

    #[test]
    fn an_inherited_socket_is_adopted_if_it_is_one_of_udp() {
        let inherited = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
        let adopted = adopt_datagram_socket(inherited, &Tuning::default()).unwrap();
        let port = adopted.local_addr().unwrap().port();
        let address = SocketAddr::new(LOOPBACK.ip(), port);
        let peer = std::net::UdpSocket::bind(LOOPBACK).unwrap();
        peer.send_to(b"x", address).unwrap();
        let mut batch = datagram::Batch::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while batch.receive(&adopted).is_err() {
            assert!(std::time::Instant::now() < deadline);
        }
        let destination = batch.datagram(0).destination.unwrap();
        assert_eq!(destination.address, address.ip());

        let stream = std::net::TcpListener::bind(LOOPBACK).unwrap();
        let stream = std::net::UdpSocket::from(OwnedFd::from(stream));
        assert!(matches!(
            adopt_datagram_socket(stream, &Tuning::default()),
            Err(ListenError::Socket(_))
        ));
    }

    #[test]
    fn the_kernel_spreads_peers_over_datagram_sockets() {
        let sockets = datagram_sockets(LOOPBACK, 2, &Tuning::default()).unwrap();
        let address = sockets[0].local_addr().unwrap();
        // The chance that 64 peers all hash to one of two is 2^-63.
        for _ in 0..64 {
            let peer = std::net::UdpSocket::bind(LOOPBACK).unwrap();
            peer.send_to(b"x", address).unwrap();
        }
        for socket in sockets {
            socket.set_nonblocking(false).unwrap();
            socket
                .set_read_timeout(Some(Duration::from_secs(60)))
                .unwrap();
            let mut buffer = [0; 1];
            assert_eq!(socket.recv(&mut buffer).unwrap(), 1);
        }
    }

    #[test]
    fn the_backlog_is_the_one_asked_for() {
        for backlog in [3, 200] {
            let listeners = listen(LOOPBACK, 1, backlog, &Tuning::default()).unwrap();
            let address = listeners[0].local_addr().unwrap();
            // Nobody accepts, so connects succeed until the queue is full: one more than the
            // backlog, in the kernel's way of counting (sk_acceptq_is_full).
            let patience = Duration::from_secs(1);
            let mut queued = Vec::new();
            while let Ok(stream) = std::net::TcpStream::connect_timeout(&address, patience) {
                queued.push(stream);
            }
            assert_eq!(queued.len(), backlog as usize + 1);
        }
    }

    #[test]
    fn an_unknown_congestion_algorithm_is_named_with_what_there_is() {
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
    fn one_address_of_this_host_is_the_only_destination() {
        let only = |address: &str| only_destination(address.parse().unwrap());
        let known = only("127.0.0.1:7").unwrap();
        assert_eq!((known.address, known.unicast), (LOOPBACK.ip(), true));
        assert_eq!(only("[::ffff:127.0.0.1]:0"), Some(known));
        for group in [
            "0.0.0.0:7",
            "[::]:7",
            "127.255.255.255:7",
            "255.255.255.255:7",
        ] {
            assert_eq!(only(group), None, "{group}");
        }
        for group in ["224.0.0.1:7", "[ff02::1]:7", "[fe80::1]:7"] {
            assert_eq!(only(group), None, "{group}");
        }
    }

    #[test]
    fn a_listener_that_ignores_new_connections_keeps_those_it_has() {
        let listener = listen(LOOPBACK, 1, 16, &Tuning::default())
            .unwrap()
            .remove(0);
        let address = listener.local_addr().unwrap();
        let _before = std::net::TcpStream::connect(address).unwrap();
        ignore_new_connections(&listener).unwrap();
        let after = std::net::TcpStream::connect_timeout(&address, Duration::from_millis(200));
        assert_eq!(after.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(listener.accept().is_ok());
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    }
}
