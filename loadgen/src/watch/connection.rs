//! A socket on which probes are sent, and those that are out on it.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use echomark::net::tuning::Tuning;
use echomark::net::unix;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use socket2::SockRef;

use super::address::Address;
use super::channel::{Channel, SharedBuffers};
use super::probe::{self, PROBE_LEN};
use crate::engine::sys;

/// Maximum of reads for one event, so that a server that sends without end does not keep the client from its
/// schedule.
const MAX_READS: usize = 16;

/// A socket and its probes.
#[derive(Debug)]
pub(super) struct Connection {
    channel: Channel,
    /// Whether there is a connection, on which TLS may not be agreed yet.
    is_connected: bool,
    pub(super) lane: usize,
    pub(super) is_datagram: bool,
    pub(super) is_open: bool,
    /// Whether it has brought an answer.
    pub(super) has_answered: bool,
    /// The probes that are out on it, in the order in which they were sent.
    pub(super) out: VecDeque<u64>,
    /// What the socket did not take yet.
    output: Vec<u8>,
    /// A part of an answer.
    input: Vec<u8>,
}

/// Why nothing more comes on a connection.
#[derive(Debug)]
pub(super) enum End {
    /// The server closed it.
    Closed,
    /// Something else than the echo came.
    Wrong,
    Failed(io::Error),
}

impl Connection {
    /// Begins to connect a socket for a lane. A TCP connection is not open yet.
    ///
    /// # Errors
    /// The error of a call that fails at once.
    pub(super) fn dial(
        address: &Address,
        lane: usize,
        buffers: &SharedBuffers,
    ) -> io::Result<Self> {
        let tuning = Tuning {
            nodelay: true,
            ..Tuning::default()
        };
        let (channel, is_datagram, is_open) = match address {
            Address::Tcp(address) => {
                let stream = sys::connect(*address, None, &tuning)?;
                (Channel::Plain(stream.into()), false, false)
            }
            Address::Tls(address, connector) => {
                let stream = sys::connect(*address, None, &tuning)?;
                let channel = Channel::secured(stream, connector, buffers)?;
                (channel, false, false)
            }
            Address::Udp(address) => {
                let socket = sys::connect_datagram(*address, None, &tuning)?;
                sys::queue_errors(&socket, address.is_ipv4())?;
                (Channel::Plain(socket.into()), true, true)
            }
            Address::Unix(path) => {
                let stream = unix::connect_nonblocking(path)?;
                (Channel::Plain(stream.into()), false, true)
            }
        };
        Ok(Self {
            channel,
            is_connected: is_open,
            lane,
            is_datagram,
            is_open,
            has_answered: false,
            out: VecDeque::new(),
            output: Vec::new(),
            input: Vec::new(),
        })
    }

    pub(super) fn register(&self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(
            &mut SourceFd(&self.channel.as_fd().as_raw_fd()),
            token,
            Interest::READABLE | Interest::WRITABLE,
        )
    }

    /// The kernel reported something of the socket.
    pub(super) fn note(&mut self) {
        self.channel.note();
    }

    /// Whether messages may be sent now.
    ///
    /// # Errors
    /// Why they never can be.
    pub(super) fn finish_connect(&mut self) -> io::Result<bool> {
        self.is_connected = self.is_connected || self.is_established()?;
        self.is_open = self.is_connected && self.channel.shake_hands()?;
        Ok(self.is_open)
    }

    fn is_established(&self) -> io::Result<bool> {
        let socket = SockRef::from(&self.channel);
        if let Some(error) = socket.take_error()? {
            return Err(error);
        }
        let Ok(peer) = socket.peer_addr() else {
            return Ok(false);
        };
        // Without a listener, a socket may connect to itself, and would answer.
        if socket.local_addr()?.as_socket() == peer.as_socket() {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        Ok(true)
    }

    /// Sends a probe, or keeps it until the connection is open.
    ///
    /// # Errors
    /// The connection failed. The probe is out on it.
    pub(super) fn ask(&mut self, nonce: u64, number: u64) -> io::Result<()> {
        self.out.push_back(number);
        let bytes = probe::encode(nonce, number);
        if self.is_datagram {
            return self.send_datagram(&bytes);
        }
        self.output.extend_from_slice(&bytes);
        self.flush()
    }

    /// Sends what waits.
    ///
    /// # Errors
    /// The connection failed.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        while self.is_open && !self.output.is_empty() {
            match self.channel.send(&self.output) {
                Ok(count) => drop(self.output.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn send_datagram(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self.channel.send(bytes) {
            Ok(_) => Ok(()),
            // A full queue of the device drops datagrams.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Reads what has come. `answered` gets the numbers of the probes that it answers.
    ///
    /// # Errors
    /// Nothing more will come; for a datagram socket, the network's answer to one probe.
    pub(super) fn receive(&mut self, nonce: u64, answered: &mut Vec<u64>) -> Result<(), End> {
        let mut buffer = [0; 64 * PROBE_LEN];
        for _ in 0..MAX_READS {
            let count = match self.channel.receive(&mut buffer) {
                Ok(0) if !self.is_datagram => return Err(End::Closed),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(End::Failed(error)),
            };
            if self.is_datagram {
                let number = probe::decode(nonce, &buffer[..count]);
                if let Some(number) = number.filter(|number| self.out.contains(number)) {
                    self.out.retain(|&out| out != number);
                    self.has_answered = true;
                    answered.push(number);
                }
            } else {
                self.input.extend_from_slice(&buffer[..count]);
                self.take_answers(nonce, answered)?;
            }
        }
        Ok(())
    }

    /// The probes to which the network had an answer. Those of the lane that are not out any more may be among
    /// them.
    pub(super) fn refused(&self, nonce: u64) -> Vec<u64> {
        let mut refused = Vec::new();
        let mut buffer = [0; 64];
        // As many as can be out, and the kernel's queue ends.
        while let Ok(count) = sys::take_refused_datagram(&self.channel, &mut buffer) {
            refused.extend(probe::decode(nonce, &buffer[..count]));
        }
        refused
    }

    fn take_answers(&mut self, nonce: u64, answered: &mut Vec<u64>) -> Result<(), End> {
        let mut taken = 0;
        for bytes in self.input.chunks_exact(PROBE_LEN) {
            match self.out.pop_front() {
                Some(number) if *bytes == probe::encode(nonce, number) => answered.push(number),
                Some(number) => {
                    self.out.push_front(number);
                    return Err(End::Wrong);
                }
                None => return Err(End::Wrong),
            }
            self.has_answered = true;
            taken += PROBE_LEN;
        }
        self.input.drain(..taken);
        Ok(())
    }
}
