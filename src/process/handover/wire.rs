//! The messages of the protocol on a Unix socket, as both sides read and write them.
//!
//! Every message is a line of JSON. Behind the line that announces an offer come the length and the
//! JSON of the inventory, and then one byte with up to [`MAX_DESCRIPTORS`] descriptors, repeated.

use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::inventory::{Inventory, VERSION};

/// Descriptors in one message; the kernel takes up to 253 (SCM_MAX_FD, unix(7)).
const MAX_DESCRIPTORS: usize = 64;
/// The longest line or inventory that is read into memory; no real one is longer.
pub(super) const MAX_MESSAGE_LEN: usize = 1 << 20;

/// A line of the successor.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
    /// It would like to take over.
    Hello {
        /// The version of the protocol.
        version: u32,
    },
    /// It is ready to serve the endpoints with these indices in the inventory.
    Taken(Vec<usize>),
    /// It serves.
    Serving,
}

impl Request {
    /// The first line.
    pub(super) fn hello() -> Self {
        Self::Hello { version: VERSION }
    }
}

/// A line of the predecessor.
#[derive(Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The inventory and the descriptors follow.
    Offer,
    /// The successor may serve.
    Granted,
    /// The sockets are the successor's.
    Released,
    /// The predecessor keeps its sockets, for this reason.
    Refused(String),
    /// Another successor is taking over.
    Busy,
    /// The predecessor was told to end.
    Ending,
}

/// Checks that the peer is this user or root.
pub(super) fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = sockopt::socket_peercred(stream)?.uid;
    if peer.is_root() || peer == rustix::process::geteuid() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the other end is user {}", peer.as_raw()),
    ))
}

pub(super) fn send_line(mut stream: &UnixStream, message: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    stream.write_all(&line)
}

/// Reads a line and no byte more: descriptors may follow. `None` at the end of the connection.
pub(super) fn receive_line<T: DeserializeOwned>(mut stream: &UnixStream) -> io::Result<Option<T>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_MESSAGE_LEN {
        match stream.read(&mut byte) {
            Ok(0) if line.is_empty() => return Ok(None),
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) if byte == *b"\n" => return Ok(Some(serde_json::from_slice(&line)?)),
            Ok(_) => line.extend(byte),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // It closed with input unread, such as a line that it did not wait for.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && line.is_empty() => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("a line without an end"))
}

/// Sends an inventory with its descriptors, behind [`Reply::Offer`].
pub(super) fn send_offer(
    mut stream: &UnixStream,
    inventory: &Inventory,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    send_line(stream, &Reply::Offer)?;
    let json = inventory.to_json();
    stream.write_all(&(json.len() as u32).to_be_bytes())?;
    stream.write_all(json.as_bytes())?;
    for some in descriptors.chunks(MAX_DESCRIPTORS) {
        send_descriptors(stream, some)?;
    }
    Ok(())
}

/// Receives what [`send_offer`] sends behind its line.
pub(super) fn receive_offer(mut stream: &UnixStream) -> io::Result<(Inventory, Vec<OwnedFd>)> {
    let mut len = [0; 4];
    stream.read_exact(&mut len)?;
    let len = u32::from_be_bytes(len) as usize;
    if len > MAX_MESSAGE_LEN {
        return Err(io::Error::other("it does not speak this protocol"));
    }
    let mut json = vec![0; len];
    stream.read_exact(&mut json)?;
    let inventory = Inventory::parse(&json).map_err(io::Error::other)?;
    let descriptors = receive_descriptors(stream, inventory.sockets())?;
    Ok((inventory, descriptors))
}

/// Sends one byte with descriptors, at most [`MAX_DESCRIPTORS`].
fn send_descriptors(stream: &UnixStream, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    sendmsg(
        stream,
        &[IoSlice::new(b"#")],
        &mut control,
        SendFlags::NOSIGNAL,
    )?;
    Ok(())
}

/// Receives `count` descriptors from messages of [`send_descriptors`].
fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
    let mut received = Vec::new();
    // Each message has at least one descriptor, or is an error.
    while received.len() < count {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut byte = [0];
        let message = recvmsg(
            stream,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        )?;
        if message.bytes == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = received.len();
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                received.extend(descriptors);
            }
        }
        if received.len() == before {
            return Err(io::Error::other(
                "a descriptor did not arrive; is the limit on open files reached?",
            ));
        }
    }
    Ok(received)
}
