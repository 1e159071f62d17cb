//! Many datagrams in one call: recvmmsg(2) and sendmmsg(2), with one buffer for each.
//!
//! Pointers for the kernel are made anew for each call, from borrows that outlive it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use super::check;

/// The most messages in one call.
pub(in crate::net) const MAX_MESSAGES: usize = 32;

/// The buffers for one received message.
#[derive(Debug)]
pub(in crate::net) struct ReceiveBuffers<'a> {
    pub(in crate::net) name: &'a mut [u8],
    pub(in crate::net) payload: &'a mut [u8],
    pub(in crate::net) control: &'a mut [u8],
}

/// The buffers of one message to send; without control messages if `control` is empty.
#[derive(Debug)]
pub(in crate::net) struct SendBuffers<'a> {
    pub(in crate::net) name: &'a [u8],
    pub(in crate::net) payload: &'a [u8],
    pub(in crate::net) control: &'a [u8],
}

/// The lengths of a received message.
#[derive(Clone, Copy, Debug)]
pub(in crate::net) struct Filled {
    pub(in crate::net) name_len: usize,
    pub(in crate::net) payload_len: usize,
    pub(in crate::net) control_len: usize,
    /// Bytes or control messages are missing.
    pub(in crate::net) truncated: bool,
}

/// The messages of one [`receive`](ReceivedMessages::receive), before and after the call.
#[derive(Debug)]
pub(in crate::net) struct ReceivedMessages {
    headers: [MaybeUninit<libc::mmsghdr>; MAX_MESSAGES],
    count: usize,
}

impl ReceivedMessages {
    /// None yet.
    pub(in crate::net) const fn new() -> Self {
        Self {
            headers: [const { MaybeUninit::uninit() }; MAX_MESSAGES],
            count: 0,
        }
    }

    /// Receives the waiting datagrams without blocking, one into each of `buffers`, of which the
    /// first [`MAX_MESSAGES`] are used.
    ///
    /// # Errors
    /// What recvmmsg(2) reports, such as EAGAIN when no datagram waits.
    #[inline]
    #[allow(
        trivial_numeric_casts,
        clippy::unnecessary_cast,
        reason = "the types differ between the C libraries"
    )]
    pub(in crate::net) fn receive<'a>(
        &mut self,
        socket: BorrowedFd<'_>,
        buffers: impl Iterator<Item = ReceiveBuffers<'a>>,
    ) -> io::Result<()> {
        self.count = 0;
        let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_MESSAGES];
        let mut room = 0;
        for ((buffers, iovec), header) in buffers.zip(&mut iovecs).zip(&mut self.headers) {
            let iovec = iovec.write(libc::iovec {
                iov_base: buffers.payload.as_mut_ptr().cast(),
                iov_len: buffers.payload.len(),
            });
            header.write(message_header(
                buffers.name.as_mut_ptr(),
                buffers.name.len(),
                iovec,
                buffers.control.as_mut_ptr(),
                buffers.control.len(),
            ));
            room += 1;
        }
        let fd = socket.as_raw_fd();
        let first = self.headers.as_mut_ptr().cast();
        let flags = libc::MSG_DONTWAIT;
        let forever = ptr::null_mut();
        // SAFETY: recvmmsg(2) writes to the first `room` headers, which were written above, and to
        // what they point to: buffers that are exclusively borrowed for the whole call and as long as
        // their header says. A null timeout is allowed.
        let count = check(unsafe { libc::recvmmsg(fd, first, room, flags as _, forever) })?;
        self.count = count as usize;
        Ok(())
    }

    /// The received messages, in the order of the buffers. The kernel reports the full lengths,
    /// which may exceed the buffers.
    #[allow(
        trivial_numeric_casts,
        clippy::unnecessary_cast,
        reason = "the types differ between the C libraries"
    )]
    pub(in crate::net) fn filled(&self) -> impl Iterator<Item = Filled> + '_ {
        self.headers[..self.count].iter().map(|header| {
            // SAFETY: the kernel fills no more headers than were written before the call.
            let header = unsafe { header.assume_init_ref() };
            let cut = libc::MSG_TRUNC | libc::MSG_CTRUNC;
            Filled {
                name_len: header.msg_hdr.msg_namelen as usize,
                payload_len: header.msg_len as usize,
                control_len: header.msg_hdr.msg_controllen as usize,
                truncated: header.msg_hdr.msg_flags & cut != 0,
            }
        })
    }
}

/// Sends messages from the first on, at most [`MAX_MESSAGES`], without blocking, and returns how many
/// the socket took, at least one.
///
/// # Errors
/// What sendmmsg(2) reports of the first message.
#[inline]
#[allow(
    trivial_numeric_casts,
    reason = "the types differ between the C libraries"
)]
pub(in crate::net) fn send<'a>(
    socket: BorrowedFd<'_>,
    messages: impl Iterator<Item = SendBuffers<'a>>,
) -> io::Result<usize> {
    let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; MAX_MESSAGES];
    let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; MAX_MESSAGES];
    let mut count = 0;
    for ((buffers, iovec), header) in messages.zip(&mut iovecs).zip(&mut headers) {
        let iovec = iovec.write(libc::iovec {
            iov_base: buffers.payload.as_ptr().cast_mut().cast(),
            iov_len: buffers.payload.len(),
        });
        header.write(message_header(
            buffers.name.as_ptr().cast_mut(),
            buffers.name.len(),
            iovec,
            buffers.control.as_ptr().cast_mut(),
            buffers.control.len(),
        ));
        count += 1;
    }
    let fd = socket.as_raw_fd();
    let first = headers.as_mut_ptr().cast();
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: sendmmsg(2) reads the first `count` headers, which were written above, writes nothing
    // but their `msg_len`, and reads what they point to: buffers that are borrowed for the whole call
    // and as long as their header says.
    let taken = check(unsafe { libc::sendmmsg(fd, first, count, flags as _) })?;
    Ok(taken as usize)
}

/// A header that points to one buffer, and to no control messages if `control_len` is 0.
#[allow(
    trivial_numeric_casts,
    reason = "the types differ between the C libraries"
)]
fn message_header(
    name: *mut u8,
    name_len: usize,
    iovec: *mut libc::iovec,
    control: *mut u8,
    control_len: usize,
) -> libc::mmsghdr {
    // SAFETY: a mmsghdr is made of integers and raw pointers, for which zero is a value. Some C
    // libraries pad it with fields of their own, so it can't be written as a literal.
    let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
    header.msg_hdr.msg_name = name.cast();
    header.msg_hdr.msg_namelen = name_len as libc::socklen_t;
    header.msg_hdr.msg_iov = iovec;
    header.msg_hdr.msg_iovlen = 1;
    header.msg_hdr.msg_control = control.cast();
    header.msg_hdr.msg_controllen = control_len as _;
    header
}

/// The family of struct sockaddr_in.
pub(in crate::net) const AF_INET: u16 = libc::AF_INET as u16;
/// The family of struct sockaddr_in6.
pub(in crate::net) const AF_INET6: u16 = libc::AF_INET6 as u16;
/// The length of struct sockaddr_in.
pub(in crate::net) const SOCKADDR_IN_LEN: usize = size_of::<libc::sockaddr_in>();
/// The length of struct sockaddr_in6, the longest address of a datagram.
pub(in crate::net) const SOCKADDR_IN6_LEN: usize = size_of::<libc::sockaddr_in6>();

/// The size and the alignment of struct cmsghdr.
#[cfg(test)]
pub(in crate::net) const CMSGHDR: (usize, usize) =
    (size_of::<libc::cmsghdr>(), align_of::<libc::cmsghdr>());

/// The space of a control message with `data_len` bytes (CMSG_SPACE(3)).
#[cfg(test)]
pub(in crate::net) fn control_space(data_len: u32) -> usize {
    // SAFETY: CMSG_SPACE(3) is arithmetic.
    unsafe { libc::CMSG_SPACE(data_len) as usize }
}
