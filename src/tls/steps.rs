//! What rustls asks for, step by step, until nothing more comes of what is there.

use rustls::unbuffered::{ConnectionState, EncodeError, EncryptError, UnbufferedStatus};

use super::queue::Queue;
use super::side::Side;

/// What encryption adds to a write: 22 bytes to each record by TLS 1.3, 29 by TLS 1.2 (AES-GCM), and a
/// key update.
pub(super) const MAX_OVERHEAD: usize = 1024;
/// Steps of rustls without new input; a flight of a handshake has fewer records.
const MAX_STEPS: usize = 256;

/// The outcome of one step of rustls.
pub(super) enum Step {
    /// There may be more without new input.
    More,
    /// Nothing more comes of the input, and nothing may be sent yet.
    Blocked,
    /// As `Blocked`, but application data may be sent, and was encrypted if there was any.
    Open,
    /// Both sides have ended.
    Over,
    Failed(rustls::Error),
}

/// Where a step leaves its results.
pub(super) struct Sink<'a> {
    /// Room for plaintext, and how much of it is used.
    out: &'a mut [u8],
    count: usize,
    /// For plaintext beyond that.
    plaintext: &'a mut Queue,
    /// Records to send, and how much of it is used.
    outgoing: &'a mut Vec<u8>,
    len: usize,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        out: &'a mut [u8],
        plaintext: &'a mut Queue,
        outgoing: &'a mut Vec<u8>,
        len: usize,
    ) -> Self {
        Self {
            out,
            count: 0,
            plaintext,
            outgoing,
            len,
        }
    }

    fn keep_plaintext(&mut self, bytes: &[u8]) {
        let room = &mut self.out[self.count..];
        // Behind plaintext that is kept, nothing may overtake it.
        let fits = if self.plaintext.is_empty() {
            bytes.len().min(room.len())
        } else {
            0
        };
        room[..fits].copy_from_slice(&bytes[..fits]);
        self.count += fits;
        self.plaintext.push(&bytes[fits..]);
    }

    /// Room for this number of bytes of records at least.
    fn reserve(&mut self, required: usize) {
        let total = self.len + required;
        if self.outgoing.len() < total {
            self.outgoing.resize(total, 0);
        }
    }
}

/// The outcome of several steps.
pub(super) struct Stepped {
    /// Input that was processed.
    pub(super) discard: usize,
    /// Plaintext in the caller's buffer.
    pub(super) count: usize,
    /// Records in the lent buffer.
    pub(super) written: usize,
    pub(super) last: Step,
    /// Whether the peer's close_notify came.
    pub(super) has_peer_closed: bool,
}

impl Stepped {
    /// That of a connection which failed before.
    pub(super) fn failed(error: rustls::Error) -> Self {
        Self {
            discard: 0,
            count: 0,
            written: 0,
            last: Step::Failed(error),
            has_peer_closed: false,
        }
    }
}

/// Lets rustls process input until nothing more comes of it, and then encrypts `bytes`.
///
/// It must not be called again after a failure: rustls would find the same fault again, and takes that
/// for a defect.
pub(super) fn run<C: Side>(
    connection: &mut C,
    incoming: &mut [u8],
    mut sink: Sink<'_>,
    bytes: Option<&[u8]>,
) -> Stepped {
    let (mut discard, mut has_peer_closed) = (0, false);
    let mut last = Step::Blocked;
    for _ in 0..MAX_STEPS.max(incoming.len()) {
        let UnbufferedStatus {
            discard: mut done,
            state,
        } = connection.process(&mut incoming[discard..]);
        last = match state {
            Ok(state) => handle::<C>(state, &mut sink, &mut done, &mut has_peer_closed, bytes),
            Err(error) => Step::Failed(error),
        };
        discard += done;
        if !matches!(last, Step::More) {
            break;
        }
    }
    if let Step::Failed(_) = last {
        // The alert that says so comes before any input is processed.
        while connection.common().wants_write()
            && let Ok(ConnectionState::EncodeTlsData(mut data)) =
                connection.process(&mut incoming[discard..]).state
            && encode(|room| data.encode(room), &mut sink).is_ok()
        {}
    }
    Stepped {
        discard,
        count: sink.count,
        written: sink.len,
        last,
        has_peer_closed,
    }
}

/// Does what a state of rustls asks for.
fn handle<C: Side>(
    state: ConnectionState<'_, '_, C::Data>,
    sink: &mut Sink<'_>,
    done: &mut usize,
    has_peer_closed: &mut bool,
    bytes: Option<&[u8]>,
) -> Step {
    match state {
        ConnectionState::ReadTraffic(mut traffic) => {
            while let Some(record) = traffic.next_record() {
                match record {
                    Ok(record) => {
                        sink.keep_plaintext(record.payload);
                        *done += record.discard;
                    }
                    Err(error) => return Step::Failed(error),
                }
            }
            Step::More
        }
        ConnectionState::EncodeTlsData(mut data) => match encode(|room| data.encode(room), sink) {
            Ok(()) => Step::More,
            Err(error) => Step::Failed(error),
        },
        ConnectionState::TransmitTlsData(data) => {
            // They are in the lent buffer, and then sent or kept.
            data.done();
            Step::More
        }
        ConnectionState::PeerClosed => {
            *has_peer_closed = true;
            Step::More
        }
        ConnectionState::Closed => Step::Over,
        ConnectionState::BlockedHandshake => Step::Blocked,
        ConnectionState::WriteTraffic(mut traffic) => {
            let Some(bytes) = bytes else {
                return Step::Open;
            };
            sink.reserve(bytes.len() + MAX_OVERHEAD);
            match traffic.encrypt(bytes, &mut sink.outgoing[sink.len..]) {
                Ok(count) => {
                    sink.len += count;
                    Step::Open
                }
                Err(EncryptError::InsufficientSize(size)) => {
                    sink.reserve(size.required_size);
                    Step::More
                }
                Err(EncryptError::EncryptExhausted) => Step::Failed(rustls::Error::EncryptError),
            }
        }
        // It is not offered.
        _ => Step::Failed(rustls::Error::General("an unknown state of TLS".to_owned())),
    }
}

/// Encodes a handshake record or an alert.
fn encode(
    mut encode: impl FnMut(&mut [u8]) -> Result<usize, EncodeError>,
    sink: &mut Sink<'_>,
) -> Result<(), rustls::Error> {
    loop {
        match encode(&mut sink.outgoing[sink.len..]) {
            Ok(count) => {
                sink.len += count;
                return Ok(());
            }
            Err(EncodeError::InsufficientSize(size)) => sink.reserve(size.required_size),
            Err(EncodeError::AlreadyEncoded) => {
                return Err(rustls::Error::General(
                    "a record was encoded twice".to_owned(),
                ));
            }
        }
    }
}
