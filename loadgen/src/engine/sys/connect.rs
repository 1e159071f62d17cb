//! Non-blocking sockets of a client, for an event loop.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use echomark::net::tcp::stream_socket;
use echomark::net::tuning::Tuning;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::socket_options::leave_port_to_connect;

/// The receive buffer of a datagram socket if none was requested. It is large because datagrams
/// that arrive while the event loop is busy must not be lost here. The kernel limits it to
/// `net.core.rmem_max`.
const DATAGRAM_RECV_BUFFER: usize = 4 << 20;

/// Creates a non-blocking TCP socket and starts to connect it. Completion is reported as
/// writability.
///
/// With `source`, one of this machine's addresses, the kernel chooses the port at connect time. So
/// each source can use all ports for each destination.
///
/// # Errors
/// Immediate errors of socket(2), connect(2) or setsockopt(2); `InvalidInput` explains why `source`
/// can't be used. [`is_port_exhaustion`](echomark::net::errno::is_port_exhaustion) recognises the
/// error that no port is free.
pub(crate) fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    tuning: &Tuning,
) -> io::Result<std::net::TcpStream> {
    let socket = stream_socket(address)?;
    tuning.apply_to_new(&socket).map_err(io::Error::other)?;
    start_connecting(&socket, address, source)?;
    Ok(socket.into())
}

/// Creates a non-blocking UDP socket connected to one address: it sends to that address and
/// receives only from it. connect(2) on a datagram socket completes at once.
///
/// Only the buffer sizes of `tuning` apply. Without a receive buffer size, the buffer is as large
/// as the kernel allows, up to some megabytes.
///
/// # Errors
/// As [`connect`].
pub(crate) fn connect_datagram(
    address: SocketAddr,
    source: Option<IpAddr>,
    tuning: &Tuning,
) -> io::Result<std::net::UdpSocket> {
    let socket = datagram_socket(address)?;
    if tuning.recv_buffer.is_none() {
        socket.set_recv_buffer_size(DATAGRAM_RECV_BUFFER)?;
    }
    tuning.apply_buffers(&socket).map_err(io::Error::other)?;
    start_connecting_datagrams(&socket, address, source)?;
    Ok(socket.into())
}

/// Makes the next close of a TCP connection a reset. It discards unsent data and leaves no
/// TIME_WAIT, so the port is free at once (SO_LINGER with 0 seconds, socket(7)).
///
/// # Errors
/// What setsockopt(2) reports.
pub(crate) fn reset_on_close(socket: &impl AsFd) -> io::Result<()> {
    SockRef::from(socket).set_linger(Some(Duration::ZERO))
}

fn start_connecting(
    socket: &Socket,
    address: SocketAddr,
    source: Option<IpAddr>,
) -> io::Result<()> {
    bind_source(socket, address, source)?;
    match socket.connect(&address.into()) {
        Err(error) if Errno::from_io_error(&error) != Some(Errno::INPROGRESS) => Err(error),
        _ => Ok(()),
    }
}

fn start_connecting_datagrams(
    socket: &Socket,
    address: SocketAddr,
    source: Option<IpAddr>,
) -> io::Result<()> {
    bind_source(socket, address, source)?;
    socket.connect(&address.into()).map_err(|error| {
        // If no port is free, the kernel (inet_dgram_connect) returns EAGAIN, while TCP returns
        // EADDRNOTAVAIL.
        if error.kind() == io::ErrorKind::WouldBlock {
            io::ErrorKind::AddrNotAvailable.into()
        } else {
            error
        }
    })?;
    // If no socket receives there, the kernel may choose the target's own port: the socket would answer
    // itself.
    if socket.local_addr()?.as_socket() == Some(address) {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    Ok(())
}

/// Binds the source address and leaves the port to connect(2).
fn bind_source(socket: &Socket, address: SocketAddr, source: Option<IpAddr>) -> io::Result<()> {
    let Some(source) = source else {
        return Ok(());
    };
    // A separate error kind, because EADDRNOTAVAIL would be taken for port exhaustion.
    let refuse = |why: &dyn std::fmt::Display| {
        let text = format!("cannot connect to {address} from {source}: {why}");
        io::Error::new(io::ErrorKind::InvalidInput, text)
    };
    if source.is_ipv4() != address.is_ipv4() {
        return Err(refuse(&"one is an IPv4 address and the other an IPv6 one"));
    }
    leave_port_to_connect(socket)?;
    socket
        .bind(&SocketAddr::new(source, 0).into())
        .map_err(|error| refuse(&error))
}

fn datagram_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    Socket::new(Domain::for_address(address), kind, Some(Protocol::UDP))
}

#[cfg(test)]
mod tests {
    use super::super::socket_options::choose_only_port;
    use super::*;
    use echomark::net::errno::is_port_exhaustion;
    use std::io::Read;
    use std::net::{TcpListener, UdpSocket};

    const SOURCE: &str = "127.0.0.2";

    /// An address that no other test uses, and a free port on it. `None` if the kernel can't be
    /// restricted to this port.
    fn own_source(text: &str) -> Option<(IpAddr, u16)> {
        let source: IpAddr = text.parse().unwrap();
        let free = TcpListener::bind((source, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        choose_only_port(&free, port).ok()?;
        Some((source, port))
    }

    fn listener(ip: &str) -> (TcpListener, SocketAddr) {
        let listener = TcpListener::bind((ip, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    }

    #[test]
    fn a_connection_comes_from_the_source_that_was_asked_for() {
        let source = SOURCE.parse().unwrap();
        let (listener, address) = listener("127.0.0.1");
        let client = connect(address, Some(source), &Tuning::default()).unwrap();
        let (_accepted, peer) = listener.accept().unwrap();
        assert_eq!(peer.ip(), source);
        assert_eq!(client.local_addr().unwrap(), peer);
        assert!(client.nodelay().unwrap());
    }

    #[test]
    fn an_ipv6_source_takes_the_option_too() {
        let socket = stream_socket("[::1]:1".parse().unwrap()).unwrap();
        let address = "[::1]:1".parse().unwrap();
        bind_source(&socket, address, Some("::".parse().unwrap())).unwrap();
        let bound = socket.local_addr().unwrap().as_socket().unwrap();
        assert_eq!(bound.port(), 0, "the port is left to connect");
    }

    #[test]
    fn datagrams_go_to_and_come_from_one_address() {
        let source = SOURCE.parse().unwrap();
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = peer.local_addr().unwrap();
        let client = connect_datagram(address, Some(source), &Tuning::default()).unwrap();
        assert_eq!(client.peer_addr().unwrap(), address);
        let nothing = client.recv(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);

        client.send(b"x").unwrap();
        let (_, from) = peer.recv_from(&mut [0]).unwrap();
        assert_eq!(from, client.local_addr().unwrap());
        assert_eq!(from.ip(), source);
    }

    #[test]
    fn a_datagram_socket_has_a_large_receive_buffer_unless_one_was_asked_for() {
        let size = |tuning: &Tuning| {
            let socket = connect_datagram("127.0.0.1:1".parse().unwrap(), None, tuning).unwrap();
            SockRef::from(&socket).recv_buffer_size().unwrap()
        };
        let usual = UdpSocket::bind("127.0.0.1:0").unwrap();
        let usual = SockRef::from(&usual).recv_buffer_size().unwrap();
        assert!(size(&Tuning::default()) > usual);
        let small = Tuning {
            recv_buffer: Some(32 << 10),
            ..Tuning::default()
        };
        assert_eq!(size(&small), 64 << 10);
    }

    #[test]
    fn one_port_serves_connections_to_two_destinations_and_then_is_exhausted() {
        let Some((source, port)) = own_source("127.9.8.7") else {
            return;
        };
        let (_first, to_first) = listener("127.0.0.1");
        let (_second, to_second) = listener("127.0.0.1");
        let connect = |address| {
            let socket = stream_socket(address).unwrap();
            choose_only_port(&socket, port).unwrap();
            start_connecting(&socket, address, Some(source)).map(|()| socket)
        };
        let expected = SocketAddr::new(source, port);
        let connected = [to_first, to_second].map(|address| connect(address).unwrap());
        for socket in &connected {
            let bound = socket.local_addr().unwrap().as_socket();
            assert_eq!(bound, Some(expected));
        }
        assert!(is_port_exhaustion(&connect(to_first).unwrap_err()));
    }

    #[test]
    fn datagram_sockets_run_out_of_ports_too() {
        let Some((source, port)) = own_source("127.9.8.6") else {
            return;
        };
        let address = "127.0.0.1:1".parse().unwrap();
        let connect = || {
            let socket = datagram_socket(address).unwrap();
            choose_only_port(&socket, port).unwrap();
            start_connecting_datagrams(&socket, address, Some(source)).map(|()| socket)
        };
        let _first = connect().unwrap();
        assert!(is_port_exhaustion(&connect().unwrap_err()));
    }

    #[test]
    fn a_datagram_socket_that_would_answer_itself_is_refused() {
        let Some((source, port)) = own_source("127.9.8.5") else {
            return;
        };
        let address = SocketAddr::new(source, port);
        let socket = datagram_socket(address).unwrap();
        choose_only_port(&socket, port).unwrap();
        let error = start_connecting_datagrams(&socket, address, Some(source)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_source_that_cannot_be_is_named() {
        let tuning = Tuning::default();
        let address = "127.0.0.1:1".parse().unwrap();
        // The second address is in TEST-NET-1 (RFC 5737), which no machine has.
        for (source, why) in [("::1", "IPv6"), ("192.0.2.1", "os error")] {
            let from = Some(source.parse().unwrap());
            let stream = connect(address, from, &tuning).unwrap_err();
            let datagram = connect_datagram(address, from, &tuning).unwrap_err();
            for error in [stream, datagram] {
                assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
                assert!(!is_port_exhaustion(&error));
                let text = error.to_string();
                assert!(text.contains(source) && text.contains(why), "{text}");
            }
        }
    }

    #[test]
    fn closing_resets_if_that_was_asked_for() {
        let (listener, address) = listener("127.0.0.1");
        let client = connect(address, None, &Tuning::default()).unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        reset_on_close(&client).unwrap();
        drop(client);
        let error = accepted.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
