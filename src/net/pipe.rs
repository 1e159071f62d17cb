//! Pipes that move a socket's input to a socket's output without a copy (splice(2)).

use std::fmt::Debug;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// The size of a pipe. The kernel allocates one slot per page, and a slot holds one piece of a
/// segment of any size, so the number of slots bounds the memory that a peer can make us hold.
const CAPACITY: usize = 256 << 10;

/// A pipe that takes input of a [`Stream`](super::stream::Stream), to be moved to its output or
/// read.
pub trait Pipe: Read + Debug {
    /// From this number of bytes at a time, the pipe costs less than read and write.
    const MIN_BULK: usize;

    /// Bytes in the pipe.
    fn held(&self) -> usize;
}

/// A non-blocking pipe(2) that counts its content.
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
    /// What pipe(2) reports, and fcntl(2) with F_SETPIPE_SZ: a pipe of the default size would save
    /// nothing.
    pub fn new() -> io::Result<Self> {
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK)?;
        fcntl_setpipe_size(&writer, CAPACITY)?;
        Ok(Self {
            reader,
            writer,
            held: 0,
        })
    }

    /// Moves up to `max` bytes of a socket's input into the pipe. A smaller count does not mean
    /// that the socket is drained. Splicing never passes an urgent mark, even with SO_OOBINLINE
    /// (`tcp_read_sock`).
    ///
    /// # Errors
    /// What splice(2) reports; `WouldBlock` when there is no input, or no slot left.
    pub fn fill(&mut self, from: &impl AsFd, max: usize) -> io::Result<usize> {
        let count = splice(from, None, &self.writer, None, max, SpliceFlags::NONBLOCK)?;
        self.held += count;
        Ok(count)
    }

    /// Moves the pipe's content to a socket's output, as much as the socket takes at once.
    ///
    /// # Errors
    /// What splice(2) reports; `WouldBlock` when the socket takes nothing. A closed peer also
    /// raises SIGPIPE, which Rust programs ignore.
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

/// Copies the content out.
impl Read for SplicePipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(&self.reader, buffer)?;
        self.held -= count;
        Ok(count)
    }
}

/// Copies into the pipe, for tests of its users.
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
    fn bytes_that_the_socket_does_not_take_can_be_read() {
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
