//! The parts of the protocol that both sides share.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, sockopt,
};
use serde::{Deserialize, Serialize};

/// Descriptors in one message; the kernel takes up to 253 (SCM_MAX_FD, unix(7)).
pub(super) const MAX_DESCRIPTORS: usize = 64;
/// How long either side waits for the other. Starting a server takes milliseconds on a healthy
/// machine.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The longest inventory that is read into memory; no real one is longer.
pub(super) const MAX_HEADER_LEN: u32 = 1 << 20;

/// The endpoints that the successor took, by their indices in the inventory.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Reply {
    pub(super) taken: Vec<usize>,
}

/// Checks that the peer is this user or root, and bounds all waiting.
pub(super) fn begin(stream: &UnixStream) -> io::Result<()> {
    check_peer(stream)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))
}

fn check_peer(stream: &UnixStream) -> io::Result<()> {
    let peer = sockopt::socket_peercred(stream)?.uid;
    if peer.is_root() || peer == rustix::process::geteuid() {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!("the other end is user {}", peer.as_raw()),
    ))
}

/// Sends one byte with descriptors, at most [`MAX_DESCRIPTORS`].
pub(super) fn send_descriptors(
    stream: &UnixStream,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
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
pub(super) fn receive_descriptors(stream: &UnixStream, count: usize) -> io::Result<Vec<OwnedFd>> {
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
