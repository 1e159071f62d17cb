//! TCP servers whose echo has one known fault at a known offset.

use std::thread;
use std::time::Duration;

use crate::support::PlainServer;

/// The pause at a cut, so that the client reads what comes before it separately.
const PAUSE: Duration = Duration::from_millis(5);

/// The fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Edit {
    /// An additional byte, which is none of those that were sent around it.
    Insert,
    /// A missing byte.
    Drop,
    /// A byte with one bit changed.
    Flip,
}

/// An echo with `edit` at offset `at` of each connection's stream. The answer that contains the fault
/// is written in two parts, the second beginning `cut` bytes behind the fault; in one part if `cut`
/// is `None`.
pub(crate) fn edited(at: u64, edit: Edit, cut: Option<usize>) -> PlainServer {
    PlainServer::start(move |peer, bytes| {
        let Some(index) = at
            .checked_sub(peer.received)
            .map(|index| index as usize)
            .filter(|&index| index < bytes.len())
        else {
            return peer.send(bytes);
        };
        let mut answer = bytes.to_vec();
        match edit {
            Edit::Insert => answer.insert(index, !bytes[index]),
            Edit::Drop => drop(answer.remove(index)),
            Edit::Flip => answer[index] ^= 0x20,
        }
        let cut = cut.map_or(answer.len(), |cut| (index + cut).min(answer.len()));
        let (head, tail) = answer.split_at(cut);
        if !peer.send(head) {
            return false;
        }
        if !tail.is_empty() {
            // Not synchronisation: any time is right, and a longer one makes the cut more certain.
            thread::park_timeout(PAUSE);
        }
        peer.send(tail)
    })
}

/// An echo that changes the byte at offset `at`, of a connection's messages of `size` bytes, and stops
/// within that message, `rest` bytes behind it. Then `end` decides whether the connection goes on
/// without an answer.
pub(crate) fn truncated(at: u64, rest: u64, end: AfterFault) -> PlainServer {
    PlainServer::start(move |peer, bytes| {
        let last = at + rest;
        let mut answer: Vec<u8> = (peer.received..)
            .zip(bytes)
            .filter(|&(position, _)| position <= last)
            .map(|(position, &byte)| if position == at { !byte } else { byte })
            .collect();
        answer.truncate(bytes.len());
        let is_over = peer.received + bytes.len() as u64 > last;
        peer.send(&answer) && (!is_over || end == AfterFault::Silence)
    })
}

/// What a server does after its fault.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum AfterFault {
    Silence,
    Close,
}
