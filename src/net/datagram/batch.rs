//! A batch of received datagrams and the answers to them.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsFd;

use super::encoding::{Control, Destination, RawAddress};
use super::send::{Cursor, Message, Progress, SendCounts, SocketTransmit, segment_count};
use crate::net::sys::messages::{MAX_MESSAGES, ReceiveBuffers, ReceivedMessages};

/// Datagrams received by one call: enough that a call's own cost hardly counts, few enough that
/// small ones stay in the first-level cache between receiving and answering.
pub(crate) const MAX_SLOTS: usize = MAX_MESSAGES;

/// Room for one datagram, or one aggregate. No UDP length is larger, so nothing is truncated.
const SLOT_LEN: usize = 1 << 16;

/// The distance from one slot to the next. The 128 bytes beyond the slot move each slot's start to
/// other cache sets: with a power of two, all would share one.
const STRIDE: usize = SLOT_LEN + 128;

/// A batch of received datagrams and the answers to them, in memory that is allocated once.
///
/// A slot's pages are touched when a datagram is long enough to need them, so that small datagrams
/// cost little memory.
#[derive(Debug)]
pub(crate) struct Batch {
    bytes: Box<[u8]>,
    addresses: Box<[RawAddress; MAX_SLOTS]>,
    controls: Box<[Control; MAX_SLOTS]>,
    received: Vec<Received>,
    answers: Vec<Answer>,
    cursor: Cursor,
}

impl Batch {
    /// An empty batch.
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; MAX_SLOTS * STRIDE].into_boxed_slice(),
            addresses: Box::new([RawAddress::default(); MAX_SLOTS]),
            controls: Box::new([Control::default(); MAX_SLOTS]),
            received: Vec::with_capacity(MAX_SLOTS),
            answers: Vec::with_capacity(MAX_SLOTS),
            cursor: Cursor::default(),
        }
    }

    /// Receives the waiting datagrams that fit, without blocking, and returns how many slots they
    /// fill, at least one. The previous content of the batch is gone.
    ///
    /// # Errors
    /// What recvmmsg(2) reports, such as EAGAIN when no datagram waits; the batch is empty then.
    pub(crate) fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.received.clear();
        self.answers.clear();
        self.cursor = Cursor::default();
        let slots = self.bytes.chunks_exact_mut(STRIDE);
        let buffers = slots
            .zip(self.addresses.iter_mut().zip(self.controls.iter_mut()))
            .map(|(slot, (address, control))| ReceiveBuffers {
                name: address.buffer(),
                payload: &mut slot[..SLOT_LEN],
                control: control.buffer(),
            });
        let mut messages = ReceivedMessages::new();
        messages.receive(socket.as_fd(), buffers)?;
        let envelopes = self.addresses.iter().zip(self.controls.iter());
        for (filled, (address, control)) in messages.filled().zip(envelopes) {
            let len = filled.payload_len.min(SLOT_LEN);
            let source = (filled.name_len > 0).then(|| address.decode()).flatten();
            let info = control.decode(filled.control_len);
            self.received.push(Received {
                source: source.unwrap_or(UNKNOWN_SOURCE),
                destination: info.destination,
                len,
                segment_len: info.segment_len.map_or(len, |segment| segment.min(len)),
                truncated: filled.truncated,
            });
        }
        Ok(self.received.len())
    }

    /// How many slots the last [`Batch::receive`] filled.
    pub(crate) fn len(&self) -> usize {
        self.received.len()
    }

    /// The datagram in slot `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Batch::len`].
    pub(crate) fn datagram(&self, index: usize) -> Datagram<'_> {
        let received = &self.received[index];
        Datagram {
            payload: &self.bytes[index * STRIDE..][..received.len],
            source: received.source,
            destination: received.destination,
            segment_len: received.segment_len,
            truncated: received.truncated,
        }
    }

    /// Marks slot `index` to be answered with its own first `len` bytes, without copying them. An
    /// aggregate is answered by datagrams of the same lengths.
    ///
    /// # Panics
    /// When `len` is more than was received.
    pub(crate) fn answer(&mut self, index: usize, len: usize) {
        let received = &self.received[index];
        assert!(len <= received.len, "the answer is what was received");
        let segment_len = received.segment_len;
        self.mark(index, Payload::Received(len), segment_len);
    }

    /// Marks slot `index` to be answered with `payload`, as datagrams of `segment_len` bytes of
    /// which the last may be shorter.
    ///
    /// # Panics
    /// When `segment_len` is 0 and the payload is not.
    pub(crate) fn answer_with(&mut self, index: usize, payload: &'static [u8], segment_len: usize) {
        assert!(segment_len > 0 || payload.is_empty());
        self.mark(index, Payload::Static(payload), segment_len);
    }

    /// Marks slot `index` to be answered with a number of copies of `text`, each a datagram, in place
    /// of what was received.
    ///
    /// # Panics
    /// When the text is empty, or all copies are longer than what was received.
    pub(crate) fn answer_with_copies(&mut self, index: usize, text: &[u8], copies: usize) {
        let len = text.len() * copies;
        assert!(len <= self.received[index].len, "as long as the request");
        for copy in self.bytes[index * STRIDE..][..len].chunks_exact_mut(text.len()) {
            copy.copy_from_slice(text);
        }
        self.mark(index, Payload::Received(len), text.len());
    }

    /// Sends the marked answers in order, until all are sent or the socket takes no more, and adds
    /// the outcome to `counts`. Another call continues from there.
    pub(crate) fn send(&mut self, socket: &impl AsFd, counts: &mut SendCounts) -> Progress {
        let Self {
            bytes,
            addresses,
            controls,
            received,
            answers,
            cursor,
        } = self;
        let message = |number: usize| message(&answers[number], bytes, addresses, received);
        let mut transmit = SocketTransmit {
            socket: socket.as_fd(),
            controls,
        };
        cursor.send(answers.len(), message, &mut transmit, counts)
    }

    /// The marked answers that were not sent yet, in order, to be copied out of the batch.
    pub(crate) fn unsent(&self) -> impl Iterator<Item = Unsent<'_>> {
        (self.cursor.next..self.answers.len()).map(|number| {
            let answer = &self.answers[number];
            let message = message(answer, &self.bytes, &self.addresses, &self.received);
            let skip = if number == self.cursor.next {
                self.cursor.skip
            } else {
                0
            };
            Unsent(message.without(skip))
        })
    }

    /// Sends answers of an earlier batch, like [`Batch::send`], and removes finished ones from
    /// `unsent`. The content of this batch stays.
    pub(crate) fn send_unsent(
        &mut self,
        unsent: &mut Vec<UnsentAnswer>,
        socket: &impl AsFd,
        counts: &mut SendCounts,
    ) -> Progress {
        let mut cursor = Cursor::default();
        let mut transmit = SocketTransmit {
            socket: socket.as_fd(),
            controls: &mut self.controls,
        };
        let message = |number: usize| unsent[number].message();
        let progress = cursor.send(unsent.len(), message, &mut transmit, counts);
        unsent.drain(..cursor.next);
        if let Some(first) = unsent.first_mut()
            && cursor.skip > 0
        {
            first.sent += cursor.skip;
        }
        progress
    }

    /// A copy of a part of what was received in `slot`, as an answer to its sender; `None` if there is no
    /// memory for it.
    ///
    /// # Panics
    /// When the part is not within what was received.
    pub(crate) fn try_copy(&self, slot: usize, part: Range<usize>) -> Option<UnsentAnswer> {
        let received = &self.received[slot];
        assert!(part.end <= received.len, "a part of what was received");
        let mut payload = Vec::new();
        payload.try_reserve_exact(part.len()).ok()?;
        payload.extend_from_slice(&self.bytes[slot * STRIDE..][part]);
        Some(UnsentAnswer {
            to: self.addresses[slot],
            from: received.destination,
            segment_len: payload.len(),
            payload,
            sent: 0,
        })
    }

    fn mark(&mut self, slot: usize, payload: Payload, segment_len: usize) {
        assert!(
            self.answers.last().is_none_or(|last| last.slot < slot),
            "slots are answered in order, each once"
        );
        self.answers.push(Answer {
            slot,
            payload,
            segment_len,
        });
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

// A worker's batch moves to its thread: no pointer outlives a call.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Batch>();
};

/// A received datagram, or an aggregate of several from one source.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Datagram<'a> {
    /// The bytes of the datagram, or of all in the aggregate, in order.
    pub(crate) payload: &'a [u8],
    /// The sender, in the socket's family: IPv4 is mapped on an IPv6 socket. Port 0 if the kernel
    /// reported none.
    pub(crate) source: SocketAddr,
    /// The address that it was sent to, if the socket reports that.
    pub(crate) destination: Option<Destination>,
    /// The length of each datagram of an aggregate but the last, which may be shorter; else the
    /// length of the payload.
    pub(crate) segment_len: usize,
    /// Bytes or control messages are missing.
    pub(crate) truncated: bool,
}

impl Datagram<'_> {
    /// How many datagrams this is.
    pub(crate) fn count(&self) -> u32 {
        // At most one for each byte of a slot, and an empty one.
        segment_count(self.payload.len(), self.segment_len) as u32
    }
}

/// An answer in a batch that was not sent yet.
#[derive(Debug)]
pub(crate) struct Unsent<'a>(Message<'a>);

impl Unsent<'_> {
    /// Bytes of payload.
    pub(crate) fn len(&self) -> usize {
        self.0.payload.len()
    }

    /// How many datagrams this is.
    pub(crate) fn datagrams(&self) -> u64 {
        self.0.count()
    }

    /// A copy that outlives the batch; `None` if there is no memory for it.
    pub(crate) fn try_copy(&self) -> Option<UnsentAnswer> {
        let Message {
            to,
            from,
            payload,
            segment_len,
        } = self.0;
        let mut copy = Vec::new();
        copy.try_reserve_exact(payload.len()).ok()?;
        copy.extend_from_slice(payload);
        Some(UnsentAnswer {
            to: *to,
            from,
            payload: copy,
            sent: 0,
            segment_len,
        })
    }
}

/// An answer copied out of its batch, to be sent later.
#[derive(Debug)]
pub(crate) struct UnsentAnswer {
    to: RawAddress,
    from: Option<Destination>,
    payload: Vec<u8>,
    /// Bytes of the payload that are done: whole datagrams of an aggregate.
    sent: usize,
    segment_len: usize,
}

impl UnsentAnswer {
    /// Bytes of payload to send.
    pub(crate) fn len(&self) -> usize {
        self.payload.len() - self.sent
    }

    /// Bytes of payload that were copied.
    pub(crate) fn copied_len(&self) -> usize {
        self.payload.len()
    }

    /// The bytes of payload, to be changed.
    pub(crate) fn payload_mut(&mut self) -> &mut [u8] {
        &mut self.payload
    }

    fn message(&self) -> Message<'_> {
        Message {
            to: &self.to,
            from: self.from,
            payload: &self.payload[self.sent..],
            segment_len: self.segment_len,
        }
    }
}

/// A source that the kernel did not report. Nothing can be sent to port 0.
const UNKNOWN_SOURCE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// The result of [`Batch::receive`] for a slot.
#[derive(Debug)]
struct Received {
    source: SocketAddr,
    destination: Option<Destination>,
    len: usize,
    segment_len: usize,
    truncated: bool,
}

/// An answer marked in a batch.
#[derive(Debug)]
struct Answer {
    slot: usize,
    payload: Payload,
    segment_len: usize,
}

#[derive(Debug)]
enum Payload {
    /// This number of the bytes received in the slot.
    Received(usize),
    Static(&'static [u8]),
}

fn message<'a>(
    answer: &Answer,
    bytes: &'a [u8],
    addresses: &'a [RawAddress; MAX_SLOTS],
    received: &[Received],
) -> Message<'a> {
    Message {
        to: &addresses[answer.slot],
        from: received[answer.slot].destination,
        payload: match answer.payload {
            Payload::Received(len) => &bytes[answer.slot * STRIDE..][..len],
            Payload::Static(payload) => payload,
        },
        segment_len: answer.segment_len,
    }
}

#[cfg(test)]
mod simulated;
#[cfg(test)]
mod tests;
