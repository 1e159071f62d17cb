//! Sockets of the client: persistent connections are made in batches, each is proven with an echo, and
//! closed with a reset in the end; churn and datagrams have their own.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use super::load::{MAX_SILENCE, failed};
use super::pattern::Pattern;
use crate::sys::set_option;

/// Connections that may wait to be accepted, fewer than any server's queue has room for.
const BATCH: usize = 128;

/// Bytes that prove a connection, few enough to fit into any socket's buffers.
const MAX_HELLO: usize = 1024;

/// Opens `count` connections, of which each has echoed once.
pub(super) fn proven(target: SocketAddr, count: usize, size: usize) -> io::Result<Vec<OwnedFd>> {
    let hello = Pattern::new(size.min(MAX_HELLO), 0);
    let hello = hello.at(0, MAX_HELLO);
    batches(target, count, |mut stream| {
        let mut back = [0; MAX_HELLO];
        let back = &mut back[..hello.len()];
        stream.write_all(hello)?;
        stream.read_exact(back)?;
        match hello == back {
            true => Ok(()),
            false => Err(failed("other bytes came back than were sent")),
        }
    })
}

/// Opens `count` connections to a server that answers nothing.
pub(super) fn unproven(target: SocketAddr, count: usize) -> io::Result<Vec<OwnedFd>> {
    batches(target, count, |_| Ok(()))
}

fn batches(
    target: SocketAddr,
    count: usize,
    prove: impl Fn(&TcpStream) -> io::Result<()>,
) -> io::Result<Vec<OwnedFd>> {
    let mut streams = Vec::with_capacity(count);
    while streams.len() < count {
        let proven = streams.len();
        while streams.len() < count.min(proven + BATCH) {
            let stream = connect(target).map_err(|e| failed(format!("connecting: {e}")))?;
            streams.push(stream);
        }
        for stream in &streams[proven..] {
            prove(stream).map_err(|e| failed(format!("first echo of a connection: {e}")))?;
            stream.set_nonblocking(true)?;
        }
    }
    Ok(streams.into_iter().map(OwnedFd::from).collect())
}

/// Connects, without waiting on close.
pub(super) fn connect(target: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, MAX_SILENCE)?;
    stream.set_read_timeout(Some(MAX_SILENCE))?;
    stream.set_nodelay(true)?;
    // A reset on close leaves nothing in TIME_WAIT; all that was sent was received by then.
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream)
}

/// Starts the connection number `turn` of a churn. Its source address is one of a thousand, 127.1.0.1 to
/// 127.1.3.250, each with its own ports, so that they do not run out while closed connections
/// wait in TIME_WAIT.
pub(super) fn begin(target: SocketAddr, turn: u64) -> io::Result<OwnedFd> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
    let index = turn % 1000;
    let source = Ipv4Addr::new(127, 1, (index / 250) as u8, (index % 250) as u8 + 1);
    // The port is chosen at connect(2), where it need only differ from others to the same destination.
    set_option(&socket, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1)?;
    net::bind(&socket, &SocketAddrV4::new(source, 0))?;
    match net::connect(&socket, &target) {
        Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
        Err(e) => Err(failed(format!("connecting: {}", io::Error::from(e)))),
    }
}

/// A UDP socket. With a segment size, what is sent at once leaves as datagrams of it, and what came
/// joined is received joined (UDP_SEGMENT, UDP_GRO).
pub(super) fn datagrams(target: SocketAddr, segment: Option<usize>) -> io::Result<OwnedFd> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    socket.connect(target)?;
    socket.set_nonblocking(true)?;
    let socket = OwnedFd::from(socket);
    if let Some(size) = segment {
        set_option(&socket, libc::SOL_UDP, libc::UDP_SEGMENT, size as i32)?;
        set_option(&socket, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    }
    Ok(socket)
}
