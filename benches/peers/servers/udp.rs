//! The bare loop over UDP: recvfrom(2) waits, sendto(2) answers; no call can be left out.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, UdpSocket};

use echomark_peers::{BUFFER_LEN, announce};

fn main() -> io::Result<()> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce("udp", socket.local_addr()?.port());
    let mut buffer = vec![0; BUFFER_LEN];
    loop {
        match socket.recv_from(&mut buffer) {
            // An answer that can't be sent is lost, as any datagram may be; the client reports it.
            Ok((len, source)) => drop(socket.send_to(&buffer[..len], source)),
            // ECONNREFUSED tells of an earlier answer whose receiver has gone.
            Err(e)
                if matches!(
                    e.kind(),
                    ErrorKind::Interrupted | ErrorKind::ConnectionRefused
                ) => {}
            Err(e) => return Err(e),
        }
    }
}
