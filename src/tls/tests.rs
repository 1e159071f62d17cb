//! Two sessions against each other over a socket that takes and gives any number of bytes at a time,
//! and sessions against peers that send anything.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::rc::Rc;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::client::UnbufferedClientConnection;
use rustls::crypto::ring;
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::server::UnbufferedServerConnection;
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion, version};

use super::*;
use crate::net::pipe::SplicePipe;
use crate::net::readiness::Readiness;
use crate::net::stream::Stream;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    bytes: VecDeque<u8>,
    has_ended: bool,
}

/// One end of a connection. It moves at most as many bytes at a time as one of the steps says; a step of 0
/// blocks.
#[derive(Debug)]
struct End {
    input: Rc<RefCell<Way>>,
    output: Rc<RefCell<Way>>,
    steps: Vec<usize>,
    /// The state of the generator that chooses among them.
    state: u64,
    /// The most that may be under way, as a socket's buffer has it.
    room: usize,
}

impl End {
    fn pair(steps: [Vec<usize>; 2], room: usize) -> [Self; 2] {
        let ways = [(); 2].map(|()| Rc::<RefCell<Way>>::default());
        let [first, second] = steps;
        let end = |input: usize, output: usize, steps| Self {
            input: Rc::clone(&ways[input]),
            output: Rc::clone(&ways[output]),
            steps,
            state: 1,
            room,
        };
        [end(0, 1, first), end(1, 0, second)]
    }

    fn step(&mut self) -> io::Result<usize> {
        self.state = self.state.wrapping_mul(6_364_136_223_846_793_005);
        self.state = self.state.wrapping_add(1_442_695_040_888_963_407);
        let index = (self.state >> 33) as usize % self.steps.len().max(1);
        match self.steps.get(index) {
            None => Ok(usize::MAX),
            Some(0) => Err(ErrorKind::WouldBlock.into()),
            Some(&most) => Ok(most),
        }
    }
}

impl Read for End {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = self.step()?;
        let mut way = self.input.borrow_mut();
        if way.bytes.is_empty() && !way.has_ended {
            return Err(ErrorKind::WouldBlock.into());
        }
        let count = buffer.len().min(most).min(way.bytes.len());
        for byte in &mut buffer[..count] {
            *byte = way.bytes.pop_front().unwrap();
        }
        Ok(count)
    }
}

impl Write for End {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = self.step()?;
        let mut way = self.output.borrow_mut();
        let count = bytes.len().min(most).min(self.room - way.bytes.len());
        if count == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        way.bytes.extend(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream for End {
    type Pipe = SplicePipe;

    fn shutdown_write(&mut self) -> io::Result<()> {
        self.output.borrow_mut().has_ended = true;
        Ok(())
    }

    fn reset_on_close(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn peek(&mut self, _: &mut [u8]) -> io::Result<usize> {
        unreachable!("a session takes all that it reads")
    }

    fn drained_by_short_read(&self) -> bool {
        // A step may be shorter than what is there.
        false
    }

    fn open_pipe(&self) -> io::Result<SplicePipe> {
        unreachable!("TLS needs no pipe")
    }

    fn fill(&mut self, _: &mut SplicePipe, _: usize) -> io::Result<usize> {
        unreachable!("TLS needs no pipe")
    }

    fn pour(&mut self, _: &mut SplicePipe) -> io::Result<usize> {
        unreachable!("TLS needs no pipe")
    }
}

/// A certificate for `localhost`, and clients that trust it.
fn identity(versions: &[&'static SupportedProtocolVersion]) -> (ServerTls, Arc<ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let server = ServerTls::new(vec![certificate], key, None).unwrap();
    (server, Arc::new(config))
}

fn client_of(config: &Arc<ClientConfig>) -> Session<UnbufferedClientConnection> {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = UnbufferedClientConnection::new(Arc::clone(config), name).unwrap();
    Session::new(connection, OnEnd::GoOn)
}

/// One end with all that it needs.
struct Party<C> {
    socket: End,
    session: Session<C>,
    buffers: Buffers,
}

impl<C: Side> Party<C> {
    fn new(socket: End, session: Session<C>) -> Self {
        Self {
            socket,
            session,
            buffers: Buffers::default(),
        }
    }

    /// Its stream after an event that reports everything, as the tests' sockets owe no edges.
    fn stream(&mut self) -> TlsStream<'_, End, C> {
        self.session.note(Readiness::READABLE | Readiness::WRITABLE);
        TlsStream {
            socket: &mut self.socket,
            session: &mut self.session,
            buffers: &mut self.buffers,
        }
    }

    /// What a read brings, or `None` to try again.
    fn read(&mut self, most: usize) -> io::Result<Option<Vec<u8>>> {
        let mut buffer = vec![0; most];
        match self.stream().read(&mut buffer) {
            Ok(count) => Ok(Some(buffer[..count].to_vec())),
            Err(error) if is_passing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Sends `data` through an echo and returns what came back before the end.
fn echo(
    data: &[u8],
    versions: &[&'static SupportedProtocolVersion],
    steps: [Vec<usize>; 2],
    room: usize,
    reads: &[usize],
) -> Vec<u8> {
    /// Far more than any of the tests needs.
    const MAX_TURNS: usize = 300_000;
    let (tls, config) = identity(versions);
    let [near, far] = End::pair(steps, room);
    let mut client = Party::new(near, client_of(&config));
    let mut server = Party::new(far, tls.accept(OnEnd::Answer).unwrap());
    let (mut sent, mut back, mut waiting) = (0, Vec::new(), Vec::new());
    let (mut has_ended, mut is_over) = (false, false);
    for turn in 0..MAX_TURNS {
        if is_over {
            assert_eq!(
                server.session.waiting_bytes(),
                0,
                "nothing waits at the end"
            );
            return back;
        }
        if !has_ended {
            match client.stream().write(&data[sent..]) {
                Ok(count) => sent += count,
                Err(error) => assert!(is_passing(&error), "{error}"),
            }
        }
        if sent == data.len() && !client.session.is_handshaking() && !has_ended {
            // With all records gone, so that the close_notify goes too.
            has_ended = client.stream().flush().is_ok();
            if has_ended {
                // The next read sends what the socket does not take.
                let _ = client.stream().end_output();
            }
        }
        let most = reads[turn % reads.len()];
        let limit = Session::<UnbufferedServerConnection>::max_waiting_bytes();
        assert!(server.session.waiting_bytes() <= limit);
        if waiting.is_empty() {
            if let Some(read) = server.read(most).expect("an orderly stream") {
                assert!(!read.is_empty() || has_ended);
                waiting = read;
            }
        } else {
            match server.stream().write(&waiting) {
                Ok(count) => drop(waiting.drain(..count)),
                Err(error) => assert!(is_passing(&error), "{error}"),
            }
        }
        match client.read(most).expect("an orderly stream") {
            Some(read) if read.is_empty() => is_over = true,
            Some(read) => back.extend(read),
            None => {}
        }
    }
    panic!(
        "it does not end; {} of {} came back",
        back.len(),
        data.len()
    );
}

fn any_steps() -> impl Strategy<Value = Vec<usize>> {
    let step = prop_oneof![
        Just(0_usize),
        20..99_usize,
        1000..20_000_usize,
        Just(1 << 20)
    ];
    // The last one moves something, so that there is an end.
    prop::collection::vec(step, 0..12).prop_map(|mut steps| {
        if !steps.is_empty() {
            steps.push(997);
        }
        steps
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever the socket takes and gives at a time: all comes back, then the end.
    #[test]
    fn all_that_was_sent_comes_back_and_then_the_end(
        len in prop_oneof![0..3_usize, 1..200_usize, 16_000..17_000_usize, 60_000..90_000_usize],
        is_13 in any::<bool>(),
        near in any_steps(),
        far in any_steps(),
        room in prop_oneof![Just(6000_usize), 30_000..200_000_usize],
        reads in prop::collection::vec(prop_oneof![1..40_usize, 3000..70_000_usize], 1..5),
    ) {
        let data: Vec<u8> = (0..len).map(|i| ((i * 31) >> 3) as u8).collect();
        let versions = if is_13 { [&version::TLS13] } else { [&version::TLS12] };
        let back = echo(&data, &versions, [near, far], room, &reads);
        prop_assert_eq!(back, data);
    }

    /// A peer that sends anything instead of its part, from any byte on, is an error, and no panic.
    #[test]
    fn what_a_peer_sends_at_will_is_an_error_and_no_more(
        is_13 in any::<bool>(),
        handshake in any::<bool>(),
        at in any::<prop::sample::Index>(),
        mask in 1..=255_u8,
        garbage in prop::collection::vec(any::<u8>(), 0..300),
        steps in any_steps(),
    ) {
        let versions = if is_13 { [&version::TLS13] } else { [&version::TLS12] };
        let (tls, config) = identity(&versions);
        let [near, far] = End::pair([Vec::new(), steps], 1 << 20);
        let way = Rc::clone(&near.output);
        let mut client = Party::new(near, client_of(&config));
        let mut server = Party::new(far, tls.accept(OnEnd::Answer).unwrap());
        let _ = client.read(10);
        if !handshake {
            for _ in 0..200 {
                let _ = server.read(1000);
                let _ = client.read(1000);
            }
            prop_assert!(!client.session.is_handshaking() && !server.session.is_handshaking());
            let _ = client.stream().write(b"some bytes in a record");
        }
        {
            let mut way = way.borrow_mut();
            if !way.bytes.is_empty() {
                let at = at.index(way.bytes.len());
                way.bytes[at] ^= mask;
            }
            way.bytes.extend(&garbage);
            way.has_ended = true;
        }
        for _ in 0..5000 {
            if let Err(error) = server.read(1000) {
                prop_assert!(matches!(
                    error.kind(),
                    ErrorKind::InvalidData | ErrorKind::UnexpectedEof
                ));
                prop_assert!(server.session.failure().is_some());
                // Whatever is called afterwards, it fails, or discards. Behind an end only output is left.
                let is_broken = matches!(server.session.failure(), Some(Failure::Tls(_)));
                let is_written = server.stream().write(b"x").is_ok();
                prop_assert!(!(is_broken && is_written));
                let reads = server.read(100).is_ok();
                prop_assert!(!(is_broken && reads));
                server.stream().shutdown_write().unwrap();
                while server.read(100).unwrap().is_none_or(|read| !read.is_empty()) {}
                return Ok(());
            }
        }
        prop_assert!(false, "no error");
    }
}

#[test]
fn an_end_without_close_notify_is_an_error_behind_all_that_came_before() {
    for versions in [[&version::TLS12], [&version::TLS13]] {
        let (tls, config) = identity(&versions);
        let [near, far] = End::pair([Vec::new(), Vec::new()], 1 << 20);
        let mut client = Party::new(near, client_of(&config));
        let mut server = Party::new(far, tls.accept(OnEnd::Answer).unwrap());
        while client.stream().write(b"abc").is_err() {
            let _ = server.read(10);
        }
        client.socket.shutdown_write().unwrap();
        let mut read = Vec::new();
        let error = loop {
            match server.read(2) {
                Ok(more) => read.extend(more.unwrap_or_default()),
                Err(error) => break error,
            }
        };
        assert_eq!(read, b"abc");
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
        assert_eq!(server.session.failure(), Some(&Failure::Truncated));
    }
}

#[test]
fn peeked_plaintext_stays_until_it_is_read() {
    let (tls, config) = identity(&[&version::TLS13]);
    let [near, far] = End::pair([Vec::new(), Vec::new()], 1 << 20);
    let mut client = Party::new(near, client_of(&config));
    let mut server = Party::new(far, tls.accept(OnEnd::Answer).unwrap());
    while client.stream().write(b"abcdef").is_err() {
        let _ = server.read(10);
    }
    let mut peeked = [0; 4];
    while server.stream().peek(&mut peeked).is_err() {}
    assert_eq!(&peeked, b"abcd");
    assert_eq!(server.read(1).unwrap().unwrap(), b"a");
    assert_eq!(server.stream().peek(&mut peeked).unwrap(), 4);
    assert_eq!(&peeked, b"bcde");
    assert_eq!(server.read(10).unwrap().unwrap(), b"bcdef");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let [one, other] =
        [(); 2].map(|()| rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap());
    let key = PrivateKeyDer::Pkcs8(other.signing_key.serialize_der().into());
    let error = ServerTls::new(vec![one.cert.der().clone()], key, None).unwrap_err();
    assert_eq!(error.part, Part::Key);
    assert_eq!(error.problem, "it is not the key of the certificate");
}

#[test]
fn an_expired_certificate_is_objected_to() {
    let key = rcgen::KeyPair::generate().unwrap();
    for (year, objection) in [(2001, Some("the certificate is expired")), (2090, None)] {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2000, 1, 1);
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let tls = ServerTls::new(vec![certificate], key, None).unwrap();
        assert_eq!(tls.objection(), objection);
    }
}
