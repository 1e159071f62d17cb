//! A batch without a socket: for simulations of one.

use std::io;
use std::net::{SocketAddr, SocketAddrV4};

use super::{
    Batch, Cursor, MAX_SLOTS, Message, Progress, Received, STRIDE, SendCounts, UnsentAnswer,
    message,
};
use crate::net::datagram::encoding::RawAddress;
use crate::net::datagram::send::Transmit;
use crate::net::sys::messages::AF_INET;

/// Sends by calling a function for each datagram.
struct Simulated<F>(F);

impl<F: FnMut(SocketAddr, &[u8]) -> io::Result<()>> Transmit for Simulated<F> {
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
        let mut taken = 0;
        for message in messages {
            let to = message.to.decode().expect("an address");
            match (self.0)(to, message.payload) {
                Ok(()) => taken += 1,
                Err(error) if taken == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(taken)
    }
}

impl Batch {
    /// As [`Batch::receive`], from a list of waiting datagrams.
    pub(crate) fn receive_simulated(
        &mut self,
        waiting: impl IntoIterator<Item = (SocketAddrV4, Vec<u8>)>,
    ) -> usize {
        self.received.clear();
        self.answers.clear();
        self.cursor = Cursor::default();
        for (index, (source, payload)) in waiting.into_iter().take(MAX_SLOTS).enumerate() {
            self.bytes[index * STRIDE..][..payload.len()].copy_from_slice(&payload);
            self.addresses[index] = RawAddress::from(source);
            self.received.push(Received {
                source: source.into(),
                destination: None,
                len: payload.len(),
                segment_len: payload.len(),
                truncated: false,
            });
        }
        self.received.len()
    }

    /// As [`Batch::send`], by calling `transmit` for each datagram.
    pub(crate) fn send_simulated(
        &mut self,
        transmit: impl FnMut(SocketAddr, &[u8]) -> io::Result<()>,
        counts: &mut SendCounts,
    ) -> Progress {
        let Self {
            bytes,
            addresses,
            received,
            answers,
            cursor,
            ..
        } = self;
        let message = |number: usize| message(&answers[number], bytes, addresses, received);
        cursor.send(answers.len(), message, &mut Simulated(transmit), counts)
    }

    /// As [`Batch::send_unsent`], by calling `transmit` for each datagram.
    pub(crate) fn send_unsent_simulated(
        unsent: &mut Vec<UnsentAnswer>,
        transmit: impl FnMut(SocketAddr, &[u8]) -> io::Result<()>,
        counts: &mut SendCounts,
    ) -> Progress {
        let mut cursor = Cursor::default();
        let message = |number: usize| unsent[number].message();
        let progress = cursor.send(unsent.len(), message, &mut Simulated(transmit), counts);
        unsent.drain(..cursor.next);
        progress
    }
}

impl From<SocketAddrV4> for RawAddress {
    fn from(address: SocketAddrV4) -> Self {
        let mut raw = Self::default();
        let buffer = raw.buffer();
        buffer[..2].copy_from_slice(&AF_INET.to_ne_bytes());
        buffer[2..4].copy_from_slice(&address.port().to_be_bytes());
        buffer[4..8].copy_from_slice(&address.ip().octets());
        raw
    }
}
