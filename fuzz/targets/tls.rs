//! The bytes of a connection with TLS, before its handshake and after it: whatever a peer sends, in whatever
//! pieces, the server hands on a prefix of what a real client wrote, keeps no more than it may, and says
//! once and for all what is wrong.
//!
//! The first byte of an input chooses the version and whether there is a handshake first; the others are
//! steps of both sides and the network.
#![no_main]

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};

use echomark::net::pipe::SplicePipe;
use echomark::net::readiness::Readiness;
use echomark::net::stream::Stream;
use echomark::tls::{Buffers, Failure, OnEnd, ServerTls, Session, TlsStream};
use libfuzzer_sys::fuzz_target;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, RootCertStore, version};

/// The end of a connection in memory.
#[derive(Default)]
struct End {
    incoming: VecDeque<u8>,
    outgoing: Vec<u8>,
    /// The most bytes that the next calls move; 0 blocks.
    room: usize,
    has_ended: bool,
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.room == 0 || self.incoming.is_empty() && !self.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(self.room).min(self.incoming.len());
        self.incoming.read_exact(&mut buffer[..count])?;
        Ok(count)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room);
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        self.outgoing.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for End {
    type Pipe = SplicePipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn drained_by_short_read(&self) -> bool {
        false
    }

    fn open_pipe(&self) -> io::Result<SplicePipe> {
        Err(ErrorKind::Unsupported.into())
    }

    fn fill(&mut self, _: &mut SplicePipe, _: usize) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }

    fn pour(&mut self, _: &mut SplicePipe) -> io::Result<usize> {
        Err(ErrorKind::Unsupported.into())
    }
}

/// The server, and clients by both versions that trust it.
fn parties() -> &'static (ServerTls, [Arc<ClientConfig>; 2]) {
    static PARTIES: OnceLock<(ServerTls, [Arc<ClientConfig>; 2])> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a key");
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).expect("an authority");
        let clients = [&version::TLS12, &version::TLS13].map(|version| {
            let provider = Arc::new(ring::default_provider());
            let config = ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .expect("a version")
                .with_root_certificates(roots.clone())
                .with_no_client_auth();
            Arc::new(config)
        });
        let server = ServerTls::new(vec![certificate], key, None).expect("a certificate");
        (server, clients)
    })
}

/// A client and a server, and the bytes between them.
struct World {
    client: Session<UnbufferedClientConnection>,
    client_socket: End,
    server: Session<UnbufferedServerConnection>,
    server_socket: End,
    buffers: [Buffers; 2],
    /// What the client wrote, and how much of it the server has read.
    written: Vec<u8>,
    read: usize,
    /// The bytes to the server are those of a client.
    is_genuine: bool,
}

impl World {
    fn new(config: &Arc<ClientConfig>, server: &ServerTls) -> Self {
        let name = ServerName::try_from("localhost").expect("a name");
        let connection =
            UnbufferedClientConnection::new(Arc::clone(config), name).expect("a client");
        let everything = || End {
            room: usize::MAX,
            ..End::default()
        };
        Self {
            client: Session::new(connection, OnEnd::GoOn),
            client_socket: everything(),
            server: server.accept(OnEnd::Answer).expect("a session"),
            server_socket: everything(),
            buffers: Default::default(),
            written: Vec::new(),
            read: 0,
            is_genuine: true,
        }
    }

    fn client(&mut self) -> TlsStream<'_, End, UnbufferedClientConnection> {
        self.client.note(Readiness::READABLE | Readiness::WRITABLE);
        TlsStream {
            socket: &mut self.client_socket,
            session: &mut self.client,
            buffers: &mut self.buffers[0],
        }
    }

    fn server(&mut self) -> TlsStream<'_, End, UnbufferedServerConnection> {
        self.server.note(Readiness::READABLE | Readiness::WRITABLE);
        TlsStream {
            socket: &mut self.server_socket,
            session: &mut self.server,
            buffers: &mut self.buffers[1],
        }
    }

    fn handshake(&mut self) {
        for _ in 0..10 {
            let _ = self.client().handshake();
            self.deliver(usize::MAX);
            let _ = self.server().handshake();
            self.answer();
        }
        assert!(!self.client.is_handshaking() && !self.server.is_handshaking());
    }

    /// Some of the client's records arrive.
    fn deliver(&mut self, most: usize) {
        let count = most.min(self.client_socket.outgoing.len());
        let records = self.client_socket.outgoing.drain(..count);
        self.server_socket.incoming.extend(records);
    }

    fn answer(&mut self) {
        let records = self.server_socket.outgoing.drain(..);
        self.client_socket.incoming.extend(records);
    }

    fn client_writes(&mut self, count: usize) {
        let from = self.written.len();
        let bytes: Vec<_> = (from..from + count)
            .map(|at| ((at * 31) >> 3) as u8)
            .collect();
        if let Ok(count) = self.client().write(&bytes) {
            self.written.extend_from_slice(&bytes[..count]);
        }
    }

    fn server_reads(&mut self, count: usize) {
        let mut buffer = vec![0; count];
        let was_broken = self.is_broken();
        match self.server().read(&mut buffer) {
            Ok(count) => {
                assert!(!was_broken, "read behind a failure");
                let expected = self.written.get(self.read..self.read + count);
                assert_eq!(
                    Some(&buffer[..count]),
                    expected,
                    "not what the client wrote"
                );
                self.read += count;
            }
            Err(error) => self.check(&error),
        }
    }

    fn check(&self, error: &io::Error) {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::BrokenPipe => {}
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                assert!(self.server.failure().is_some());
                let is_broken = self.is_broken();
                assert!(
                    !(is_broken && self.is_genuine),
                    "{:?}",
                    self.server.failure()
                );
            }
            _ => panic!("{error}"),
        }
    }

    fn is_broken(&self) -> bool {
        matches!(self.server.failure(), Some(Failure::Tls(_)))
    }

    /// One step of one of the three; what it takes of the input is removed.
    fn step(&mut self, input: &mut &[u8]) -> Option<()> {
        let (&kind, rest) = input.split_first()?;
        let (&size, rest) = rest.split_first()?;
        *input = rest;
        let small = usize::from(size);
        let large = small * small;
        match kind % 10 {
            0 => self.client_writes(large),
            1 => self.deliver(large),
            2 => self.server_reads(1 + large),
            3 => {
                if let Err(error) = self.server().write(&vec![7; large]) {
                    self.check(&error);
                }
            }
            4 => {
                let (bytes, rest) = input.split_at(small.min(input.len()));
                self.server_socket.incoming.extend(bytes);
                self.is_genuine &= bytes.is_empty();
                *input = rest;
            }
            5 => {
                if let Some(byte) = self.client_socket.outgoing.get_mut(large) {
                    *byte ^= 1 << (kind % 8);
                    self.is_genuine = false;
                }
            }
            6 => self.server_socket.room = if size == 255 { usize::MAX } else { large },
            7 => {
                self.answer();
                let _ = self.client().read(&mut [0; 1000]);
            }
            8 => {
                self.is_genuine &= self.client_socket.outgoing.len() <= large;
                self.client_socket.outgoing.truncate(large);
                self.server_socket.has_ended |= self.client_socket.outgoing.is_empty();
            }
            _ => {
                let mut name = [0; 40];
                if let Ok(count) = self.server().peek(&mut name) {
                    let expected = self.written.get(self.read..self.read + count);
                    assert_eq!(Some(&name[..count]), expected, "not what the client wrote");
                }
            }
        }
        Some(())
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&choice, mut rest)) = input.split_first() else {
        return;
    };
    let (server, clients) = parties();
    let mut world = World::new(&clients[usize::from(choice & 1)], server);
    let is_established = choice & 2 != 0;
    if is_established {
        world.handshake();
    }
    while world.step(&mut rest).is_some() {
        if is_established {
            let most = Session::<UnbufferedServerConnection>::max_waiting_bytes();
            assert!(world.server.waiting_bytes() <= most);
        }
    }
    let _ = world.server().shutdown_write();
    assert_eq!(world.server.waiting_bytes(), 0, "an end keeps nothing");
});
