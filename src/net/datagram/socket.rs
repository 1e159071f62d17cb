//! UDP sockets of a server: bound or inherited, with the options that report each datagram's
//! destination.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::num::NonZeroU16;

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::encoding::Destination;
use crate::net::sys::set_option;
use crate::net::sys::socket::{IP_PKTINFO, IPV6_RECVPKTINFO, UDP_GRO};
use crate::net::tcp::{ListenError, divide_families};
use crate::net::tuning::Tuning;

/// Binds `count` UDP sockets to one address, ready for [`Batch`](super::Batch). The kernel
/// distributes the peers over them by a hash of their addresses (SO_REUSEPORT).
///
/// As with [`tcp::listen`](crate::net::tcp::listen), an address that another program uses is
/// reported as in use, and for port 0 the kernel chooses one port for all.
///
/// # Errors
/// [`ListenError`] says which step failed.
pub(crate) fn datagram_sockets(
    address: SocketAddr,
    count: usize,
    tuning: &Tuning,
) -> Result<Vec<UdpSocket>, ListenError> {
    let mut address = address;
    let mut sockets = Vec::with_capacity(count);
    for index in 0..count {
        let domain = Domain::for_address(address);
        let socket = Socket::new(domain, Type::DGRAM.cloexec(), Some(Protocol::UDP))?;
        divide_families(&socket, address, tuning)?;
        // Set before bind(2), so that the first datagram already reports its destination.
        prepare(&socket, address, tuning)?;
        if index > 0 {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into()).map_err(ListenError::Bind)?;
        let socket = UdpSocket::from(socket);
        if index == 0 {
            SockRef::from(&socket).set_reuse_port(true)?;
            address = socket.local_addr()?;
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

/// Prepares an inherited UDP socket like a new one, with these options or those that it has.
/// Datagrams that it received earlier do not report their destination.
///
/// # Errors
/// [`ListenError`] says which step failed; `InvalidInput` if it is not a UDP socket.
pub(crate) fn adopt_datagram_socket(
    socket: UdpSocket,
    tuning: Option<&Tuning>,
) -> Result<UdpSocket, ListenError> {
    let address = socket.local_addr()?;
    let socket = Socket::from(socket);
    let protocol = socket.protocol()?;
    if protocol != Some(Protocol::UDP) {
        return Err(ListenError::Socket(io::ErrorKind::InvalidInput.into()));
    }
    if let Some(tuning) = tuning {
        prepare(&socket, address, tuning)?;
    }
    Ok(socket.into())
}

/// Sets the options of a UDP socket on which another process may have set others.
///
/// # Errors
/// [`ListenError`] says which step failed.
pub(crate) fn prepare_inherited(socket: &Socket, tuning: &Tuning) -> Result<(), ListenError> {
    let address = socket.local_addr()?.as_socket();
    let address = address.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    tuning.reset_others(socket)?;
    prepare(socket, address, tuning)
}

/// The single destination of all datagrams to a UDP socket bound to `address`, if `address` is a
/// unicast address of this host.
pub(crate) fn only_destination(address: SocketAddr) -> Option<Destination> {
    let ip = address.ip().to_canonical();
    let (unspecified, needs_its_link): (IpAddr, _) = match ip {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED.into(), false),
        IpAddr::V6(ip) => (Ipv6Addr::UNSPECIFIED.into(), ip.is_unicast_link_local()),
    };
    if ip.is_unspecified() || ip.is_multicast() || needs_its_link {
        return None;
    }
    // Only the kernel knows the broadcast addresses: without SO_BROADCAST it refuses to connect to
    // one (connect(2), EACCES). Nothing is sent.
    let port = NonZeroU16::new(address.port()).map_or(7, NonZeroU16::get);
    let probe = UdpSocket::bind((unspecified, 0)).ok()?;
    probe.connect((ip, port)).ok()?;
    Some(Destination {
        address: ip,
        interface: 0,
        unicast: true,
    })
}

fn prepare(socket: &Socket, address: SocketAddr, tuning: &Tuning) -> Result<(), ListenError> {
    socket.set_nonblocking(true)?;
    tuning.apply_buffers(socket)?;
    if only_destination(address).is_none() {
        report_destinations(socket, address)?;
    }
    accept_aggregates(socket)?;
    Ok(())
}

/// Makes the kernel report the destination of each datagram. A socket bound to one address of this host
/// doesn't need it, which saves a tenth of the processor time.
fn report_destinations(socket: &Socket, address: SocketAddr) -> io::Result<()> {
    // An IPv6 socket may receive IPv4 too, and only this option tells broadcast from unicast there.
    set_option(socket, IP_PKTINFO, 1)?;
    if address.is_ipv6() {
        set_option(socket, IPV6_RECVPKTINFO, 1)?;
    }
    Ok(())
}

/// Lets the kernel deliver datagrams of one sender as an aggregate, if it supports that.
fn accept_aggregates(socket: &Socket) -> io::Result<()> {
    match set_option(socket, UDP_GRO, 1) {
        // Before Linux 5.0 there are no aggregates.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::NOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// Makes a client's socket divide each send into datagrams of `len` bytes (UDP_SEGMENT).
#[cfg(test)]
pub(crate) fn cut_into_segments(socket: &impl std::os::fd::AsFd, len: u16) -> io::Result<()> {
    set_option(socket, crate::net::sys::socket::UDP_SEGMENT, len.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::datagram::Batch;
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::OwnedFd;
    use std::time::Duration;

    const LOOPBACK: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

    #[test]
    fn datagram_sockets_share_one_port_and_no_other_socket_does() {
        let tuning = Tuning {
            recv_buffer: Some(32 << 10),
            send_buffer: Some(16 << 10),
            ..Tuning::default()
        };
        let sockets = datagram_sockets(LOOPBACK, 3, &tuning).unwrap();
        let address = sockets[0].local_addr().unwrap();
        for socket in &sockets {
            assert_eq!(socket.local_addr().unwrap(), address);
            let socket = SockRef::from(socket);
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
        let inherited = UdpSocket::bind("0.0.0.0:0").unwrap();
        let adopted = adopt_datagram_socket(inherited, Some(&Tuning::default())).unwrap();
        let port = adopted.local_addr().unwrap().port();
        let address = SocketAddr::new(LOOPBACK.ip(), port);
        let peer = UdpSocket::bind(LOOPBACK).unwrap();
        peer.send_to(b"x", address).unwrap();
        let mut batch = Batch::new();
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        while batch.receive(&adopted).is_err() {
            assert!(std::time::Instant::now() < deadline);
        }
        let destination = batch.datagram(0).destination.unwrap();
        assert_eq!(destination.address, address.ip());

        let stream = TcpListener::bind(LOOPBACK).unwrap();
        let stream = UdpSocket::from(OwnedFd::from(stream));
        assert!(matches!(
            adopt_datagram_socket(stream, None),
            Err(ListenError::Socket(_))
        ));
    }

    #[test]
    fn the_kernel_spreads_peers_over_datagram_sockets() {
        let sockets = datagram_sockets(LOOPBACK, 2, &Tuning::default()).unwrap();
        let address = sockets[0].local_addr().unwrap();
        // The chance that 64 peers all hash to one of two is 2^-63.
        for _ in 0..64 {
            let peer = UdpSocket::bind(LOOPBACK).unwrap();
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
}
