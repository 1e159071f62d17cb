//! The bare loop over UDP: recvfrom(2) waits, sendto(2) answers; there is nothing less to call.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};

use echomark_peers::announce_udp;
use echomark_peers::sys::{self, Mode, Transport};

fn main() -> io::Result<()> {
    let socket = sys::socket(Transport::Udp, Mode::Blocking)?;
    sys::bind(socket, SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    announce_udp(sys::local_port(socket)?);
    let mut buffer = vec![0; sys::BUFFER_LEN];
    loop {
        match sys::recv_from(socket, &mut buffer) {
            // An answer that can't be sent is lost, as any datagram may be; the load reports it.
            Ok((len, source)) => drop(sys::send_to(socket, &buffer[..len], &source)),
            // ECONNREFUSED tells of an earlier answer whose receiver has gone.
            Err(e) if sys::is_transient(&e) || e.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(e) => return Err(e),
        }
    }
}
