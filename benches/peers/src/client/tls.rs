//! Messages there and back over TLS 1.3: over connections that stay open, or over one for each message,
//! with a full handshake or a resumed one. A connection that resumed nothing although it should, or
//! the other way round, is an error once the window is open.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use rustix::event::epoll::EventFlags;
use rustix::net::{self, RecvFlags, SendFlags};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, SignatureScheme, version,
};

use super::connect;
use super::load::{Load, Outcome, Workload, failed};
use super::pattern::Pattern;
use super::poll::Poll;
use super::window::Window;

/// The most plaintext that is taken at once.
const MAX_READ: usize = 256 * 1024;
/// Plaintext that is given to rustls at once.
const MAX_WRITE: usize = 64 * 1024;
/// Tickets that are kept.
const MAX_TICKETS: usize = 1024;

/// The certificate is not what is measured.
#[derive(Debug)]
struct TrustsAll;

impl ServerCertVerifier for TrustsAll {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ring::default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

fn config(workload: Workload) -> io::Result<Arc<ClientConfig>> {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()));
    let mut config = builder
        .with_protocol_versions(&[&version::TLS13])
        .map_err(io::Error::other)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(TrustsAll))
        .with_no_client_auth();
    config.resumption = match workload {
        Workload::TlsResumed => Resumption::in_memory_sessions(MAX_TICKETS),
        _ => Resumption::disabled(),
    };
    Ok(Arc::new(config))
}

fn begin(config: &Arc<ClientConfig>) -> io::Result<ClientConnection> {
    let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
    let mut tls = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
    tls.set_buffer_limit(None);
    Ok(tls)
}

/// A socket as rustls wants it.
struct Io<'a>(&'a OwnedFd);

impl Read for Io<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let (len, _) = net::recv(self.0, buffer, RecvFlags::empty())?;
        Ok(len)
    }
}

impl Write for Io<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(net::send(self.0, bytes, SendFlags::NOSIGNAL)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Connections of which each has echoed once.
pub(super) fn proven(load: &Load, count: usize) -> io::Result<Vec<(OwnedFd, ClientConnection)>> {
    let config = config(load.workload)?;
    let open = |_| {
        let mut stream: TcpStream = connect::connect(load.target)?;
        let mut tls = begin(&config)?;
        let hello = Pattern::new(load.shape.size.min(1024), 0);
        let hello = hello.at(0, 1024);
        let mut back = vec![0; hello.len()];
        let mut both = rustls::Stream::new(&mut tls, &mut stream);
        both.write_all(hello)?;
        both.read_exact(&mut back)?;
        if hello != back {
            return Err(failed("other bytes came back than were sent"));
        }
        stream.set_nonblocking(true)?;
        Ok((OwnedFd::from(stream), tls))
    };
    (0..count).map(open).collect()
}

struct Connection {
    socket: OwnedFd,
    tls: ClientConnection,
    /// Bytes of messages that were begun and not given to rustls yet, and those that have not come back.
    unsent: usize,
    in_flight: usize,
    send_offset: usize,
    receive_offset: usize,
    /// When the messages that are out were begun, oldest first.
    begun: VecDeque<Instant>,
    interest: EventFlags,
}

struct Client<'a> {
    load: &'a Load,
    config: Arc<ClientConfig>,
    pattern: Pattern,
    poll: Poll,
    connections: Vec<Option<Connection>>,
    opened: u64,
    window: Window,
    operations: u64,
    bytes: u64,
    /// Handshakes of the kind that was not asked for, and all.
    unwanted: u64,
    handshakes: u64,
}

pub(super) fn run(load: &Load) -> io::Result<Outcome> {
    let shape = load.shape;
    let mut client = Client {
        load,
        config: config(load.workload)?,
        pattern: Pattern::new(shape.size, MAX_READ),
        poll: Poll::new()?,
        connections: Vec::new(),
        opened: 0,
        window: Window::new(load)?,
        operations: 0,
        bytes: 0,
        unwanted: 0,
        handshakes: 0,
    };
    client.connections.resize_with(shape.connections, || None);
    if client.reconnects() {
        for index in 0..shape.connections {
            client.reopen(index)?;
        }
    } else {
        let proven = proven(load, shape.connections)?;
        client.window = Window::new(load)?;
        for (index, (socket, tls)) in proven.into_iter().enumerate() {
            client.register(index, socket, tls)?;
            client.issue(index, shape.depth)?;
        }
    }
    client.exchange()?;
    // The first ones of each connection had no ticket.
    let allowed = client.handshakes / 100 + 2 * shape.connections as u64;
    if client.unwanted > allowed {
        return Err(failed(format!(
            "{} of {} handshakes were not of the kind that is measured",
            client.unwanted, client.handshakes
        )));
    }
    client.window.outcome()
}

impl Client<'_> {
    fn reconnects(&self) -> bool {
        matches!(self.load.workload, Workload::TlsFull | Workload::TlsResumed)
    }

    /// Keeps messages in flight until the window is over and all are back.
    fn exchange(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; MAX_READ];
        while !self.window.is_closed() || self.is_waiting() {
            for number in 0..self.poll.wait()? {
                let (index, events) = self.poll.event(number);
                if events.intersects(!EventFlags::OUT) {
                    self.receive(index, &mut buffer)?;
                }
                self.flush(index)?;
            }
            let (operations, bytes) = (self.operations, self.bytes);
            self.window.turn(Instant::now(), operations, bytes)?;
        }
        Ok(())
    }

    fn is_waiting(&self) -> bool {
        let mut open = self.connections.iter().flatten();
        open.any(|connection| connection.unsent + connection.in_flight > 0)
    }

    fn register(&mut self, index: usize, socket: OwnedFd, tls: ClientConnection) -> io::Result<()> {
        self.poll.add(&socket, index, EventFlags::IN)?;
        self.connections[index] = Some(Connection {
            socket,
            tls,
            unsent: 0,
            in_flight: 0,
            send_offset: 0,
            receive_offset: 0,
            begun: VecDeque::with_capacity(self.load.shape.depth),
            interest: EventFlags::IN,
        });
        Ok(())
    }

    /// Ends a connection in order and begins the next.
    fn reopen(&mut self, index: usize) -> io::Result<()> {
        if let Some(mut connection) = self.connections[index].take() {
            connection.tls.send_close_notify();
            connection.tls.write_tls(&mut Io(&connection.socket))?;
        }
        if self.window.admit(1) == 0 {
            return Ok(());
        }
        let begun = Instant::now();
        let socket = connect::begin(self.load.target, self.opened)?;
        self.opened += 1;
        let tls = begin(&self.config)?;
        self.register(index, socket, tls)?;
        if let Some(connection) = &mut self.connections[index] {
            connection.unsent = self.load.shape.size;
            connection.begun.push_back(begun);
        }
        self.flush(index)
    }

    /// Begins up to `wanted` messages.
    fn issue(&mut self, index: usize, wanted: usize) -> io::Result<()> {
        let count = self.window.admit(wanted);
        let now = Instant::now();
        if let Some(connection) = &mut self.connections[index] {
            connection.unsent += count * self.load.shape.size;
            connection.begun.extend((0..count).map(|_| now));
        }
        self.flush(index)
    }

    fn flush(&mut self, index: usize) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let mut interest = EventFlags::IN;
        loop {
            if connection.tls.wants_write() {
                match connection.tls.write_tls(&mut Io(&connection.socket)) {
                    Ok(_) => continue,
                    Err(e) if is_blocked(&e) => {
                        interest |= EventFlags::OUT;
                        break;
                    }
                    Err(e) => return Err(failed(format!("sending: {e}"))),
                }
            }
            if connection.unsent == 0 || connection.tls.is_handshaking() {
                break;
            }
            let most = connection.unsent.min(MAX_WRITE);
            let bytes = self.pattern.at(connection.send_offset, most);
            let given = connection.tls.writer().write(bytes)?;
            connection.unsent -= given;
            connection.in_flight += given;
            let reached = connection.send_offset + given;
            connection.send_offset = reached % self.load.shape.size;
        }
        if interest != connection.interest {
            connection.interest = interest;
            self.poll
                .set_interest(&connection.socket, index, interest)?;
        }
        Ok(())
    }

    fn receive(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<()> {
        let Some(connection) = &mut self.connections[index] else {
            return Ok(());
        };
        let was_handshaking = connection.tls.is_handshaking();
        match connection.tls.read_tls(&mut Io(&connection.socket)) {
            Ok(0) => return Err(failed("the server closed a connection")),
            Ok(_) => {}
            Err(e) if is_blocked(&e) => return Ok(()),
            Err(e) => return Err(failed(format!("receiving: {e}"))),
        }
        let processed = connection.tls.process_new_packets();
        processed.map_err(|e| failed(format!("the server's records: {e}")))?;
        if was_handshaking && !connection.tls.is_handshaking() {
            let wanted = match self.load.workload {
                Workload::TlsResumed => HandshakeKind::Resumed,
                _ => HandshakeKind::Full,
            };
            self.handshakes += 1;
            self.unwanted += u64::from(connection.tls.handshake_kind() != Some(wanted));
        }
        let mut completed = 0;
        loop {
            let len = match connection.tls.reader().read(buffer) {
                Ok(0) => return Err(failed("the server ended a connection")),
                Ok(len) => len,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            };
            if len > connection.in_flight {
                return Err(failed("more bytes came back than were sent"));
            }
            if !self
                .pattern
                .matches(connection.receive_offset, &buffer[..len])
            {
                return Err(failed("other bytes came back than were sent"));
            }
            connection.in_flight -= len;
            self.bytes += len as u64;
            let reached = connection.receive_offset + len;
            connection.receive_offset = reached % self.load.shape.size;
            completed += reached / self.load.shape.size;
        }
        let now = Instant::now();
        for begun in connection.begun.drain(..completed) {
            self.window.record(now - begun);
        }
        self.operations += completed as u64;
        match completed {
            0 => Ok(()),
            _ if self.reconnects() => self.reopen(index),
            _ => self.issue(index, completed),
        }
    }
}

fn is_blocked(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
        // Before the connection is made.
        || error.kind() == ErrorKind::NotConnected
}
