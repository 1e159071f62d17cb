//! Pipes through which a socket's input goes to a socket's output without being copied (splice(2)).

use std::fmt::Debug;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The size of a pipe. The kernel gives it a slot for each page of that, and a slot holds one piece of a
/// segment, however small, so the number of slots bounds what a peer can make us hold.
const CAPACITY: usize = 256 << 10;

/// What input of a [`Stream`](super::stream::Stream) can be moved into, to be moved to its output or
/// read from there.
pub trait Pipe: Read + Debug {
    /// Bytes at a time from which on this way costs less than reading and writing them.
    const MIN_BULK: usize;

    /// Bytes in the pipe.
    fn held(&self) -> usize;
}

/// A non-blocking pipe(2) that counts what is in it.
#[derive(Debug)]
pub struct SplicePipe {
    reader: OwnedFd,
    writer: OwnedFd,
    held: usize,
}

impl SplicePipe {
    /// An empty pipe.
    ///
    /// # Errors
    /// What pipe(2) reports, and fcntl(2) with F_SETPIPE_SZ: a pipe of the usual size would not pay.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&writer, CAPACITY)?;
        Ok(Self {
            reader,
            writer,
            held: 0,
        })
    }

    /// Moves up to `max` bytes of a socket's input into the pipe. Fewer don't mean that no more wait.
    /// The kernel never moves past an urgent mark this way, whatever SO_OOBINLINE says
    /// (`tcp_read_sock`).
    ///
    /// # Errors
    /// What splice(2) reports; `WouldBlock` when there is no input, or no slot left.
    pub fn fill(&mut self, from: &impl AsFd, max: usize) -> io::Result<usize> {
        let count = splice(from, None, &self.writer, None, max, SpliceFlags::NONBLOCK)?;
        self.held += count;
        Ok(count)
    }

    /// Moves as much of what is held to a socket's output as that takes at once.
    ///
    /// # Errors
    /// What splice(2) reports; `WouldBlock` when the socket takes nothing. A peer that is gone raises
    /// SIGPIPE besides, which Rust programs ignore.
    pub fn pour(&mut self, to: &impl AsFd) -> io::Result<usize> {
        let count = splice(
            &self.reader,
            None,
            to,
            None,
            self.held,
            SpliceFlags::NONBLOCK,
        )?;
        self.held -= count;
        Ok(count)
    }
}

impl Pipe for SplicePipe {
    /// Moving large pieces costs half as much as moving pieces of this size.
    const MIN_BULK: usize = 64 << 10;

    fn held(&self) -> usize {
        self.held
    }
}

/// Copies out what is held.
impl Read for SplicePipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(&self.reader, buffer)?;
        self.held -= count;
        Ok(count)
    }
}

/// Copies into it, for tests of what it is used for.
#[cfg(test)]
impl io::Write for SplicePipe {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = rustix::io::write(&self.writer, bytes)?;
        self.held += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    fn connection() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        server.set_nonblocking(true).unwrap();
        (client, server)
    }

    #[test]
    fn input_comes_out_again_in_order() {
        let (mut client, server) = connection();
        let sent: Vec<u8> = (0..100_000_u32).map(|at| (at % 251) as u8).collect();
        client.write_all(&sent).unwrap();
        let mut pipe = SplicePipe::new().unwrap();
        let mut back = 0;
        while back < sent.len() {
            match pipe.fill(&server, 30_000) {
                Ok(count) => assert!(count <= 30_000),
                Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
            }
            while pipe.held() > 0 {
                back += pipe.pour(&server).unwrap();
            }
        }
        let mut read = vec![0; sent.len()];
        client.read_exact(&mut read).unwrap();
        assert!(read == sent);
    }

    #[test]
    fn what_the_socket_does_not_take_can_be_read() {
        let (mut client, server) = connection();
        let (mut full, silent) = connection();
        full.set_nonblocking(true).unwrap();
        while full.write(&[0; 1 << 16]).is_ok() {}
        client.write_all(b"left over").unwrap();
        let mut pipe = SplicePipe::new().unwrap();
        while pipe.fill(&server, 100).is_err() {}
        let error = pipe.pour(&full).unwrap_err();
        assert_eq!((error.kind(), pipe.held()), (io::ErrorKind::WouldBlock, 9));
        let mut read = [0; 16];
        assert_eq!(pipe.read(&mut read).unwrap(), 9);
        assert_eq!((&read[..9], pipe.held()), (&b"left over"[..], 0));
        drop(silent);
    }

    #[test]
    fn an_end_is_no_bytes_and_a_peer_that_is_gone_an_error() {
        let (client, server) = connection();
        drop(client);
        let mut pipe = SplicePipe::new().unwrap();
        while pipe
            .fill(&server, 100)
            .is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        {}
        assert_eq!(pipe.fill(&server, 100).unwrap(), 0);
        let error = loop {
            pipe.write_all(b"x").unwrap();
            if let Err(error) = pipe.pour(&server) {
                break error;
            }
        };
        let is_gone = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
        assert!(is_gone.contains(&error.kind()), "{error}");
    }
}
