//! The streams that a connection can be made of.

use std::io::{Read, Write};
use std::net::Shutdown;

use mio::net::TcpStream;

/// A non-blocking byte stream in both directions. Sockets are, and so are the scripted streams that
/// test [`Conn`](crate::conn::Conn) without any.
pub trait Stream: Read + Write {
    /// Tells the peer that no more bytes come, while its own can still be read: shutdown(2) with
    /// `SHUT_WR`.
    ///
    /// # Errors
    /// What shutdown(2) reports; ENOTCONN when the peer is gone already.
    fn shutdown_write(&mut self) -> std::io::Result<()>;
}

impl Stream for TcpStream {
    fn shutdown_write(&mut self) -> std::io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}
