//! Clients with TLS: rustls's other interface at the far end of a simulated connection. Its records come
//! in any pieces, its socket is read late, and it may send garbage or end without close_notify. So a
//! server's session has to write in order to read, and to read in order to write, at any point of a
//! handshake.
//!
//! Keys and the randomness of the protocol are real, but every record has the same length in each run of a
//! seed: the certificate's key is Ed25519, whose signatures have one length.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, Error, ProtocolVersion, SignatureScheme,
    version,
};

use super::world::{Client, Random};
use crate::service::{Service, chargen};
use crate::tls::ServerTls;

/// The most bytes of garbage at a time: less than a record, or more than a header.
const MAX_GARBAGE: u64 = 40;

/// The certificate of all servers.
pub(super) fn server() -> ServerTls {
    static SERVER: OnceLock<ServerTls> = OnceLock::new();
    let make = || {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().der().clone();
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        ServerTls::new(vec![certificate], key, None).unwrap()
    };
    SERVER.get_or_init(make).clone()
}

/// The clients of a world, by both versions. They resume sessions that they had in this world.
pub(super) struct ClientConfigs([Arc<ClientConfig>; 2]);

impl ClientConfigs {
    pub(super) fn new() -> Self {
        Self([&version::TLS12, &version::TLS13].map(|version| {
            let mut config =
                ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
                    .with_protocol_versions(&[version])
                    .unwrap()
                    .dangerous()
                    .with_custom_certificate_verifier(Arc::new(TrustsAll))
                    .with_no_client_auth();
            config.resumption = Resumption::in_memory_sessions(4);
            Arc::new(config)
        }))
    }
}

/// It would cost most of a run's time to verify what other tests do.
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
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }
}

/// A client's end of TLS, and the bytes on both ways.
pub(super) struct Secured {
    connection: ClientConnection,
    /// Records that have not arrived at the server.
    outbox: VecDeque<u8>,
    /// What arrived, and the server has not read.
    arrived: VecDeque<u8>,
    /// What the server wrote, and the client has not read.
    coming: VecDeque<u8>,
    /// Bytes of records that were ever made.
    made: u64,
    /// The number of bytes of records behind each write, and of plaintext in them.
    marks: Vec<(u64, u64)>,
    plaintext_sent: u64,
    plaintext_received: u64,
    /// Plaintext whose records had come whole when the server ended its output.
    whole_at_end: Option<u64>,
    /// Takes and sends what it can after each turn.
    is_eager: bool,
    /// It has sent no garbage, and has not ended without close_notify.
    is_orderly: bool,
    /// It has sent its close_notify.
    has_ended: bool,
    /// The server's close_notify came.
    was_ended: bool,
    is_leaving: bool,
}

impl Secured {
    pub(super) fn new(configs: &ClientConfigs, random: &mut Random) -> Self {
        let config = Arc::clone(&configs.0[random.below(2) as usize]);
        let name = ServerName::try_from("localhost").unwrap();
        let mut secured = Self {
            connection: ClientConnection::new(config, name).unwrap(),
            outbox: VecDeque::new(),
            arrived: VecDeque::new(),
            coming: VecDeque::new(),
            made: 0,
            marks: Vec::new(),
            plaintext_sent: 0,
            plaintext_received: 0,
            whole_at_end: None,
            is_eager: random.one_in(2),
            is_orderly: true,
            has_ended: false,
            was_ended: false,
            is_leaving: false,
        };
        secured.make_records();
        secured
    }

    /// The server's end reads.
    pub(super) fn read(&mut self, count: u64) -> Vec<u8> {
        self.arrived.drain(..count as usize).collect()
    }

    /// The server's end writes.
    pub(super) fn write(&mut self, bytes: &[u8]) {
        self.coming.extend(bytes);
    }

    /// Whether the handshake is complete on this side.
    fn is_established(&self) -> bool {
        !self.connection.is_handshaking()
    }

    /// Whether it has got plaintext, so that the handshake is complete on both sides.
    pub(super) fn has_received(&self) -> bool {
        self.plaintext_received > 0
    }

    /// Whether it did all that a client should until the end, which is all on its way.
    fn is_done(&self) -> bool {
        self.is_orderly && self.has_ended && self.outbox.is_empty()
    }

    fn make_records(&mut self) {
        while self.connection.wants_write() {
            let mut records = Vec::new();
            self.connection.write_tls(&mut records).unwrap();
            self.made += records.len() as u64;
            self.outbox.extend(records);
        }
    }

    fn end(&mut self) {
        if self.is_established() && !self.has_ended {
            self.connection.send_close_notify();
            self.make_records();
            self.has_ended = true;
        }
    }

    /// Decrypts, and returns the plaintext.
    fn process(&mut self, mut records: &[u8], client: usize) -> Vec<u8> {
        let mut plaintext = Vec::new();
        while !records.is_empty() {
            let read = self.connection.read_tls(&mut records).unwrap();
            let processed = self.connection.process_new_packets();
            match processed {
                Ok(state) => self.was_ended |= state.peer_has_closed(),
                Err(error) => {
                    assert!(!self.is_orderly, "client {client} was sent {error}");
                    return plaintext;
                }
            }
            match self.connection.reader().read_to_end(&mut plaintext) {
                Ok(_) => {}
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            if read == 0 {
                // Behind a close_notify.
                break;
            }
        }
        self.make_records();
        plaintext
    }
}

impl Client {
    /// The client writes this number of bytes, if it may, and some bytes of its records arrive.
    pub(super) fn send_secured(&mut self, count: u64, most: u64, garbage: u64) {
        let id = self.id;
        let Some(secured) = self.secured.as_deref_mut() else {
            return;
        };
        if garbage > 0 {
            secured.is_orderly = false;
            let bytes = (0..garbage.min(MAX_GARBAGE)).map(|at| Self::byte_of(id, garbage + at));
            secured.outbox.extend(bytes);
        } else if secured.is_established() && !secured.has_ended && secured.is_orderly {
            let sent = secured.plaintext_sent;
            let bytes: Vec<_> = (sent..sent + count)
                .map(|at| Self::byte_of(id, at))
                .collect();
            secured.connection.writer().write_all(&bytes).unwrap();
            secured.plaintext_sent += count;
            secured.make_records();
            secured.marks.push((secured.made, secured.plaintext_sent));
        }
        self.deliver(most);
    }

    /// Some bytes of its records arrive at the server.
    fn deliver(&mut self, most: u64) {
        if let Some(secured) = self.secured.as_deref_mut() {
            let count = most.min(secured.outbox.len() as u64);
            secured
                .arrived
                .extend(secured.outbox.drain(..count as usize));
            self.sent += count;
            self.edge |= count > 0;
        }
    }

    /// The client ends with a close_notify, or without, and its socket too, or later.
    pub(super) fn end_secured(&mut self, is_cut: bool, is_at_once: bool) {
        let Some(secured) = self.secured.as_deref_mut() else {
            return;
        };
        if is_cut {
            secured.is_orderly = false;
        } else {
            secured.end();
            if !is_at_once || !secured.has_ended {
                return;
            }
            self.deliver(u64::MAX);
        }
        self.ended = true;
        self.edge = true;
    }

    /// The client takes what came, at most this much of it.
    pub(super) fn take_secured(&mut self, most: u64) {
        let count = most.min(self.written - self.taken);
        self.take(count);
        let id = self.id;
        let Some(secured) = self.secured.as_deref_mut() else {
            return;
        };
        let records: Vec<_> = secured.coming.drain(..count as usize).collect();
        let plaintext = secured.process(&records, id);
        for byte in plaintext {
            let at = secured.plaintext_received;
            let expected = match self.service {
                Service::Echo => Self::byte_of(id, at),
                Service::Chargen => chargen::from(at as usize % chargen::CYCLE, 1)[0],
                Service::Discard | Service::Whoami => panic!("answers nothing here"),
            };
            assert_eq!(byte, expected, "byte {at} of the plaintext of client {id}");
            secured.plaintext_received += 1;
        }
        let is_echo = self.service == Service::Echo;
        assert!(
            !is_echo || secured.plaintext_received <= secured.plaintext_sent,
            "client {id} got more than it sent"
        );
        if secured.was_ended {
            // An answer to our close_notify may come before the server closes.
            let whole = match secured.whole_at_end {
                Some(whole) => whole,
                None if secured.has_ended => secured.plaintext_sent,
                None => panic!("client {id} was ended without a reason"),
            };
            // By TLS 1.2 our close_notify is answered at once, and what was held back is lost.
            let is_lost = self.is_held_back
                && secured.connection.protocol_version() == Some(ProtocolVersion::TLSv1_2);
            assert!(
                !is_echo || is_lost || secured.plaintext_received == whole,
                "client {id} takes {} bytes for {whole}",
                secured.plaintext_received
            );
        }
    }

    /// The server has ended its output.
    pub(super) fn note_end_of_secured(&mut self) {
        let arrived = self.sent;
        if let Some(secured) = self.secured.as_deref_mut() {
            let whole = secured.marks.iter().rfind(|(end, _)| *end <= arrived);
            let whole = whole.map_or(0, |(_, plaintext)| *plaintext);
            secured.whole_at_end.get_or_insert(whole);
        }
    }

    /// What a client does of its own accord after a turn.
    pub(super) fn go_on(&mut self) {
        let Some(secured) = self.secured.as_deref_mut() else {
            return;
        };
        let (is_leaving, is_orderly) = (secured.is_leaving, secured.is_orderly);
        if secured.is_eager || is_leaving {
            self.take_secured(u64::MAX);
            if !self.ended && !self.reset && !self.gone {
                self.deliver(u64::MAX);
                if is_leaving && is_orderly {
                    self.end_secured(false, true);
                }
            }
        }
    }

    /// The client is going to end once its handshake is complete, or ends at once if it is not in order.
    pub(super) fn leave_secured(&mut self) {
        if let Some(secured) = self.secured.as_deref_mut() {
            secured.is_leaving = true;
            if !secured.is_orderly || !secured.is_established() && !secured.is_eager {
                self.end_secured(true, true);
            }
        }
    }

    /// Checks an echo at the end of a server that had no reason to keep anything back.
    pub(super) fn expect_whole_echo(&self) {
        if let Some(secured) = self.secured.as_deref().filter(|it| it.is_done())
            && self.service == Service::Echo
        {
            let id = self.id;
            assert!(secured.was_ended, "client {id} was cut off");
            assert_eq!(
                secured.plaintext_received, secured.plaintext_sent,
                "client {id} lost an echo"
            );
            let version = secured.connection.protocol_version();
            assert!(matches!(
                version,
                Some(ProtocolVersion::TLSv1_2 | ProtocolVersion::TLSv1_3)
            ));
        }
    }
}
