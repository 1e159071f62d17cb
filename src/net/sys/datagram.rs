//! UDP in batches: recvmmsg(2) and sendmmsg(2), with aggregates where the kernel makes them (UDP_GRO,
//! UDP_SEGMENT, udp(7)), and answers that leave from the address that was asked (IP_PKTINFO, ip(7);
//! IPV6_PKTINFO, ipv6(7)).
//!
//! Addresses and control messages are read and written as bytes, in the kernel's layout, so that
//! `unsafe` is left to the calls themselves. What holds:
//! - Pointers for the kernel are made afresh for each call, from the borrows that are live in it.
//! - What the kernel reports is checked against the memory it was given before it is used.
//! - Every marked answer is sent, counted as failed, or still there when the socket takes no more.

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use super::check;

/// Datagrams received by one call: enough that a call's own cost hardly counts, few enough that
/// small ones stay in the first-level cache between receiving and answering.
pub const SLOTS: usize = 32;

/// Room for one datagram, or one aggregate: no UDP length is larger, so none is ever cut.
const SLOT_LEN: usize = 1 << 16;

/// From one slot to the next. The 128 bytes beyond the slot move each slot's start to other cache
/// sets: with a power of two, all would share one.
const STRIDE: usize = SLOT_LEN + 128;

/// A batch of received datagrams and the answers to them, in memory that is allocated once.
///
/// A slot's pages are touched when a datagram is long enough to need them, so that small datagrams
/// cost little memory.
#[derive(Debug)]
pub struct Batch {
    bytes: Box<[u8]>,
    names: Box<[Name; SLOTS]>,
    controls: Box<[Control; SLOTS]>,
    received: Vec<Received>,
    answers: Vec<Answer>,
    cursor: Cursor,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self {
            bytes: vec![0; SLOTS * STRIDE].into_boxed_slice(),
            names: Box::new([Name::default(); SLOTS]),
            controls: Box::new([Control::default(); SLOTS]),
            received: Vec::with_capacity(SLOTS),
            answers: Vec::with_capacity(SLOTS),
            cursor: Cursor::default(),
        }
    }

    /// Takes as many datagrams from `socket` as wait and fit, without blocking, and returns how
    /// many slots they fill, at least one. What was in the batch before is gone.
    ///
    /// # Errors
    /// What recvmmsg(2) reports, first of all EAGAIN when nothing waits; the batch is empty then.
    #[allow(
        trivial_numeric_casts,
        clippy::unnecessary_cast,
        reason = "the types differ between the C libraries"
    )]
    pub fn receive(&mut self, socket: &impl AsFd) -> io::Result<usize> {
        self.received.clear();
        self.answers.clear();
        self.cursor = Cursor::default();
        let mut iovecs = [EMPTY_IOVEC; SLOTS];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SLOTS];
        let slots = self.bytes.chunks_exact_mut(STRIDE);
        let envelopes = self.names.iter_mut().zip(self.controls.iter_mut());
        for (((slot, (name, control)), iovec), header) in
            slots.zip(envelopes).zip(&mut iovecs).zip(&mut headers)
        {
            *iovec = libc::iovec {
                iov_base: slot.as_mut_ptr().cast(),
                iov_len: SLOT_LEN,
            };
            header.write(message_header(
                name.0.as_mut_ptr(),
                NAME_LEN,
                iovec,
                control.0.as_mut_ptr(),
                CONTROL_LEN,
            ));
        }
        let fd = socket.as_fd().as_raw_fd();
        let first = headers.as_mut_ptr().cast();
        let flags = libc::MSG_DONTWAIT;
        let forever = ptr::null_mut();
        // SAFETY: recvmmsg(2) writes to the SLOTS headers, which are all initialised, and to what
        // they point to: names, slots and control buffers, each exclusively borrowed for the whole
        // call and at least as long as its header says. A null timeout is allowed.
        let count =
            check(unsafe { libc::recvmmsg(fd, first, SLOTS as _, flags as _, forever) })? as usize;
        for (header, (name, control)) in headers
            .iter()
            .take(count)
            .zip(self.names.iter().zip(self.controls.iter()))
        {
            // SAFETY: every header was written above.
            let header = unsafe { header.assume_init_ref() };
            let control_len = (header.msg_hdr.msg_controllen as usize).min(CONTROL_LEN);
            let source = (header.msg_hdr.msg_namelen > 0)
                .then(|| name.address())
                .flatten();
            let mut received = Received::new(source, (header.msg_len as usize).min(SLOT_LEN));
            let cut = libc::MSG_TRUNC | libc::MSG_CTRUNC;
            received.truncated = header.msg_hdr.msg_flags & cut != 0;
            received.read_control(&control.0[..control_len]);
            self.received.push(received);
        }
        Ok(count)
    }

    /// How many slots the last [`Batch::receive`] filled.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether the last [`Batch::receive`] filled none.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// What came in slot `index`.
    ///
    /// # Panics
    /// When `index` is not below [`Batch::len`].
    pub fn datagram(&self, index: usize) -> Datagram<'_> {
        let received = &self.received[index];
        Datagram {
            payload: &self.bytes[index * STRIDE..][..received.len],
            source: received.source,
            destination: received.destination,
            segment_len: received.segment_len,
            truncated: received.truncated,
        }
    }

    /// Marks slot `index` to be answered with its own first `len` bytes, from where they lie. An
    /// aggregate is answered by datagrams of the same lengths.
    ///
    /// # Panics
    /// When `len` is more than was received.
    pub fn answer(&mut self, index: usize, len: usize) {
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
    pub fn answer_with(&mut self, index: usize, payload: &'static [u8], segment_len: usize) {
        assert!(segment_len > 0 || payload.is_empty());
        self.mark(index, Payload::Static(payload), segment_len);
    }

    /// Sends the marked answers in order, until all are out or the socket takes no more, and adds
    /// what became of them to `tally`. Another call goes on where this one stopped.
    pub fn send(&mut self, socket: &impl AsFd, tally: &mut Tally) -> Progress {
        let Self {
            bytes,
            names,
            controls,
            received,
            answers,
            cursor,
        } = self;
        let message = |number: usize| message(&answers[number], bytes, names, received);
        let mut kernel = Kernel {
            socket: socket.as_fd(),
            controls,
        };
        cursor.send(answers.len(), message, &mut kernel, tally)
    }

    /// Copies of the marked answers that were not sent yet, in order, to outlast the batch.
    pub fn unsent(&self) -> impl Iterator<Item = Kept> + '_ {
        (self.cursor.next..self.answers.len()).map(|number| {
            let answer = &self.answers[number];
            let message = message(answer, &self.bytes, &self.names, &self.received);
            let skip = if number == self.cursor.next {
                self.cursor.skip
            } else {
                0
            };
            Kept {
                to: *message.to,
                from: message.from,
                payload: message.payload[skip..].into(),
                segment_len: message.segment_len,
            }
        })
    }

    /// Sends answers that were kept, like [`Batch::send`], and takes those that are done out of
    /// `kept`. Leaves what is in the batch alone.
    pub fn send_kept(
        &mut self,
        kept: &mut Vec<Kept>,
        socket: &impl AsFd,
        tally: &mut Tally,
    ) -> Progress {
        let mut cursor = Cursor::default();
        let mut kernel = Kernel {
            socket: socket.as_fd(),
            controls: &mut self.controls,
        };
        let message = |number: usize| kept[number].message();
        let progress = cursor.send(kept.len(), message, &mut kernel, tally);
        kept.drain(..cursor.next);
        if let Some(first) = kept.first_mut()
            && cursor.skip > 0
        {
            first.payload = first.payload[cursor.skip..].into();
        }
        progress
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

// A worker's batch moves to its thread: no pointer is kept between two calls.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Batch>();
};

/// A received datagram, or an aggregate of several from one source.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// The bytes of the datagram, or of all in the aggregate, in order.
    pub payload: &'a [u8],
    /// Who sent it, as the socket's family writes it: IPv4 is mapped on an IPv6 socket. Port 0 if
    /// the kernel told none.
    pub source: SocketAddr,
    /// Whom it was sent to, if the socket was prepared to tell.
    pub destination: Option<Destination>,
    /// The length of each datagram of an aggregate but the last, which may be shorter; else the
    /// length of the payload.
    pub segment_len: usize,
    /// Bytes or control messages are missing.
    pub truncated: bool,
}

impl Datagram<'_> {
    /// How many datagrams this is.
    pub fn count(&self) -> u32 {
        // At most one for each byte of a slot, and an empty one.
        segments(self.payload.len(), self.segment_len) as u32
    }
}

/// Whom a datagram was sent to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Destination {
    /// The destination address of its IP header, never IPv4-mapped.
    pub address: IpAddr,
    /// The index of the interface it came in by.
    pub interface: u32,
    /// The address is this host's own, neither broadcast nor multicast.
    pub unicast: bool,
}

/// What became of answers. An aggregate counts as the datagrams in it.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// Datagrams that the socket took.
    pub sent_datagrams: u64,
    /// Bytes of payload in them.
    pub sent_bytes: u64,
    /// Datagrams that the kernel refused, each for a reason of its own. They are gone.
    pub failed_datagrams: u64,
}

/// How far sending came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Progress {
    /// Every answer was sent or refused.
    Done,
    /// The socket takes no more until it is writable again.
    Blocked,
}

/// An answer that was copied out of its batch to be sent later.
#[derive(Debug)]
pub struct Kept {
    to: Name,
    from: Option<Destination>,
    payload: Box<[u8]>,
    segment_len: usize,
}

impl Kept {
    /// Bytes of payload that wait.
    pub fn len(&self) -> usize {
        self.payload.len()
    }

    /// Whether there is no payload; an empty datagram is one nevertheless.
    pub fn is_empty(&self) -> bool {
        self.payload.is_empty()
    }

    fn message(&self) -> Message<'_> {
        Message {
            to: &self.to,
            from: self.from,
            payload: &self.payload,
            segment_len: self.segment_len,
        }
    }
}

/// Makes `socket`, which is bound or will be, tell the destination of each datagram. One bound to an
/// address of this host alone need not: there is only one, and answers leave from it anyway, at a tenth
/// less of processor time.
///
/// # Errors
/// What setsockopt(2) reports.
pub fn tell_destinations(socket: &impl AsFd, family: Family) -> io::Result<()> {
    let socket = socket.as_fd();
    // An IPv6 socket may receive IPv4 too, and only this option tells broadcast from unicast there.
    set_option(socket, libc::IPPROTO_IP, libc::IP_PKTINFO, 1)?;
    if family == Family::V6 {
        set_option(socket, libc::IPPROTO_IPV6, libc::IPV6_RECVPKTINFO, 1)?;
    }
    Ok(())
}

/// Lets `socket` take datagrams in aggregates if this kernel can.
///
/// # Errors
/// What setsockopt(2) reports, except that there is no UDP_GRO.
pub fn take_aggregates(socket: &impl AsFd) -> io::Result<()> {
    let socket = socket.as_fd();
    match set_option(socket, libc::SOL_UDP, libc::UDP_GRO, 1) {
        // Before Linux 5.0 each datagram comes alone.
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        result => result,
    }
}

/// The address family of a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// AF_INET.
    V4,
    /// AF_INET6, perhaps for IPv4 as well.
    V6,
}

/// A source that the kernel did not tell. Nothing can be sent to port 0.
const UNKNOWN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// What [`Batch::receive`] notes of a slot.
#[derive(Debug)]
struct Received {
    source: SocketAddr,
    destination: Option<Destination>,
    len: usize,
    segment_len: usize,
    truncated: bool,
}

impl Received {
    fn new(source: Option<SocketAddr>, len: usize) -> Self {
        Self {
            source: source.unwrap_or(UNKNOWN),
            destination: None,
            len,
            segment_len: len,
            truncated: false,
        }
    }

    /// Takes what is known of the datagram from its control messages.
    fn read_control(&mut self, control: &[u8]) {
        for (level, kind, data) in ControlMessages(control) {
            match (level, kind) {
                (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                    // struct in_pktinfo: interface, local address, header destination.
                    if let (Some(interface), Some(local), Some(address)) =
                        (array(data, 0), array::<4>(data, 4), array::<4>(data, 8))
                    {
                        self.destination = Some(Destination {
                            address: Ipv4Addr::from(address).into(),
                            interface: u32::from_ne_bytes(interface),
                            // Of a broadcast or multicast the two differ (ip(7)).
                            unicast: local == address,
                        });
                    }
                }
                // An IPv4 datagram on an IPv6 socket brings both; the other one tells more.
                (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) if self.destination.is_none() => {
                    // struct in6_pktinfo: header destination, interface.
                    if let (Some(address), Some(interface)) =
                        (array::<16>(data, 0), array(data, 16))
                    {
                        let address = Ipv6Addr::from(address);
                        self.destination = Some(Destination {
                            address: address.to_canonical(),
                            interface: u32::from_ne_bytes(interface),
                            unicast: !address.is_multicast() && address.to_ipv4_mapped().is_none(),
                        });
                    }
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    let segment_len = array(data, 0).map_or(0, libc::c_int::from_ne_bytes);
                    if let Ok(len @ 1..) = usize::try_from(segment_len) {
                        self.segment_len = len.min(self.len);
                    }
                }
                _ => {}
            }
        }
    }
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
    /// So many of the bytes received in the slot.
    Received(usize),
    Static(&'static [u8]),
}

fn message<'a>(
    answer: &Answer,
    bytes: &'a [u8],
    names: &'a [Name; SLOTS],
    received: &[Received],
) -> Message<'a> {
    Message {
        to: &names[answer.slot],
        from: received[answer.slot].destination,
        payload: match answer.payload {
            Payload::Received(len) => &bytes[answer.slot * STRIDE..][..len],
            Payload::Static(payload) => payload,
        },
        segment_len: answer.segment_len,
    }
}

/// What one message of a sendmmsg(2) is made from.
#[derive(Clone, Copy, Debug)]
struct Message<'a> {
    to: &'a Name,
    from: Option<Destination>,
    payload: &'a [u8],
    segment_len: usize,
}

impl<'a> Message<'a> {
    fn is_aggregate(&self) -> bool {
        self.payload.len() > self.segment_len
    }

    fn without(mut self, sent: usize) -> Self {
        self.payload = &self.payload[sent..];
        self
    }

    /// Each datagram of an aggregate as a message of its own.
    fn split(self) -> impl Iterator<Item = Self> + use<'a> {
        self.payload
            .chunks(self.segment_len.max(1))
            .map(move |payload| Self { payload, ..self })
    }
}

/// One call that sends: the kernel's, or a test's.
trait Transmit {
    /// Sends messages from the first on and returns how many were taken, at least one. An error is
    /// that of the first message.
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize>;
}

/// Where the sending of a list of answers stands.
#[derive(Debug, Default)]
struct Cursor {
    /// The first answer that is not done.
    next: usize,
    /// Bytes of it that are: whole datagrams of an aggregate.
    skip: usize,
}

impl Cursor {
    /// Sends the answers from the cursor to `count`.
    fn send<'a>(
        &mut self,
        count: usize,
        message: impl Fn(usize) -> Message<'a>,
        kernel: &mut impl Transmit,
        tally: &mut Tally,
    ) -> Progress {
        // Whether the aggregate at the cursor was refused as one, so that its parts go alone.
        let mut split = false;
        // Each turn either moves the cursor on, splits where nothing was split before, or was
        // interrupted by a signal.
        while self.next < count {
            let first = message(self.next).without(self.skip);
            let result = if split {
                kernel.transmit(first.split())
            } else {
                let others = (self.next + 1..count).map(&message);
                kernel.transmit(std::iter::once(first).chain(others))
            };
            match result {
                Ok(taken @ 1..) if split => {
                    let bytes = (taken * first.segment_len).min(first.payload.len());
                    tally.sent_datagrams += taken as u64;
                    tally.sent_bytes += bytes as u64;
                    split = self.skip_in(&first, bytes);
                }
                Ok(taken @ 1..) => {
                    for number in 0..taken {
                        let sent = if number == 0 {
                            first
                        } else {
                            message(self.next + number)
                        };
                        tally.sent_datagrams += segments(sent.payload.len(), sent.segment_len);
                        tally.sent_bytes += sent.payload.len() as u64;
                    }
                    self.next += taken;
                    self.skip = 0;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Progress::Blocked;
                }
                Err(error) if !split && first.is_aggregate() && is_refused_aggregate(&error) => {
                    split = true;
                }
                Ok(_) | Err(_) if split => {
                    tally.failed_datagrams += 1;
                    let bytes = first.segment_len.min(first.payload.len());
                    split = self.skip_in(&first, bytes);
                }
                Ok(_) | Err(_) => {
                    tally.failed_datagrams += segments(first.payload.len(), first.segment_len);
                    self.next += 1;
                    self.skip = 0;
                }
            }
        }
        Progress::Done
    }

    /// Notes that `bytes` more of the answer at the cursor are done and says whether some are left.
    fn skip_in(&mut self, answer: &Message<'_>, bytes: usize) -> bool {
        if bytes < answer.payload.len() {
            self.skip += bytes;
            true
        } else {
            self.next += 1;
            self.skip = 0;
            false
        }
    }
}

/// Sends through a socket. The control buffers are only used during a call.
struct Kernel<'a> {
    socket: BorrowedFd<'a>,
    controls: &'a mut [Control; SLOTS],
}

impl Transmit for Kernel<'_> {
    #[allow(
        trivial_numeric_casts,
        reason = "the types differ between the C libraries"
    )]
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
        let mut iovecs = [const { MaybeUninit::<libc::iovec>::uninit() }; SLOTS];
        let mut headers = [const { MaybeUninit::<libc::mmsghdr>::uninit() }; SLOTS];
        let mut count = 0;
        for (((message, control), iovec), header) in messages
            .zip(self.controls.iter_mut())
            .zip(&mut iovecs)
            .zip(&mut headers)
        {
            let control_len = control.write(&message);
            let iovec = iovec.write(libc::iovec {
                iov_base: message.payload.as_ptr().cast_mut().cast(),
                iov_len: message.payload.len(),
            });
            header.write(message_header(
                message.to.0.as_ptr().cast_mut(),
                message.to.len(),
                iovec,
                control.0.as_mut_ptr(),
                control_len,
            ));
            count += 1;
        }
        let fd = self.socket.as_raw_fd();
        let first = headers.as_mut_ptr().cast();
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: sendmmsg(2) reads the first `count` headers, which were written above, writes
        // nothing but their `msg_len`, and reads what they point to: names, payloads and control
        // buffers, each borrowed for the whole call and at least as long as its header says.
        let taken = check(unsafe { libc::sendmmsg(fd, first, count, flags as _) })?;
        Ok(taken as usize)
    }
}

/// Whether the kernel or the device can't cut this aggregate, while its parts alone may pass: too
/// many or too long parts for the path (EINVAL, EMSGSIZE), or no checksum offload (EIO).
fn is_refused_aggregate(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EINVAL | libc::EMSGSIZE | libc::EIO)
    )
}

/// How many datagrams carry `len` bytes; an empty one is one.
fn segments(len: usize, segment_len: usize) -> u64 {
    len.div_ceil(segment_len.max(1)).max(1) as u64
}

/// The longest address used here, struct sockaddr_in6.
const NAME_LEN: usize = size_of::<libc::sockaddr_in6>();

/// A socket address as the kernel writes it: sockaddr_in or sockaddr_in6.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C, align(8))]
struct Name([u8; NAME_LEN]);

impl Name {
    fn address(&self) -> Option<SocketAddr> {
        let port = u16::from_be_bytes(array(&self.0, 2)?);
        match self.family() {
            libc::AF_INET => {
                let ip = Ipv4Addr::from(array::<4>(&self.0, 4)?);
                Some(SocketAddr::new(ip.into(), port))
            }
            libc::AF_INET6 => {
                let flow = u32::from_ne_bytes(array(&self.0, 4)?);
                let ip = Ipv6Addr::from(array::<16>(&self.0, 8)?);
                let scope = u32::from_ne_bytes(array(&self.0, 24)?);
                Some(SocketAddrV6::new(ip, port, flow, scope).into())
            }
            _ => None,
        }
    }

    fn len(&self) -> usize {
        if self.family() == libc::AF_INET {
            size_of::<libc::sockaddr_in>()
        } else {
            NAME_LEN
        }
    }

    fn family(&self) -> libc::c_int {
        let [a, b, ..] = self.0;
        libc::c_int::from(libc::sa_family_t::from_ne_bytes([a, b]))
    }
}

/// Room for the control messages that [`tell_destinations`] and [`take_aggregates`] ask for, 96 bytes, and for some that the owner
/// of an inherited socket may have asked for.
const CONTROL_LEN: usize = 192;

/// A control message's header in the kernel's layout: a size_t and two ints.
const HEADER_LEN: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// A buffer for control messages, aligned as struct cmsghdr is.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
struct Control([u8; CONTROL_LEN]);

impl Control {
    /// Writes what `message` needs and returns the length.
    fn write(&mut self, message: &Message<'_>) -> usize {
        let mut len = 0;
        match message.from {
            Some(Destination {
                address: IpAddr::V4(address),
                ..
            }) => {
                // The interface is left to routing.
                let mut info = [0; 12];
                info[4..8].copy_from_slice(&address.octets());
                len = self.push(len, libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
            }
            Some(Destination {
                address: IpAddr::V6(address),
                interface,
                ..
            }) => {
                let mut info = [0; 20];
                info[..16].copy_from_slice(&address.octets());
                // A link-local address says nothing without its link.
                if address.is_unicast_link_local() {
                    info[16..].copy_from_slice(&interface.to_ne_bytes());
                }
                len = self.push(len, libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
            }
            None => {}
        }
        if message.is_aggregate()
            && let Ok(segment_len) = u16::try_from(message.segment_len)
        {
            let data = segment_len.to_ne_bytes();
            len = self.push(len, libc::SOL_UDP, libc::UDP_SEGMENT, &data);
        }
        len
    }

    /// Writes a control message at offset `at` and returns the offset behind it (CMSG_SPACE(3)).
    fn push(&mut self, at: usize, level: libc::c_int, kind: libc::c_int, data: &[u8]) -> usize {
        let len = HEADER_LEN + data.len();
        let end = at + len.next_multiple_of(size_of::<usize>());
        let room = &mut self.0[at..end];
        let (header, room) = room.split_at_mut(HEADER_LEN);
        let (header_len, header) = header.split_at_mut(size_of::<usize>());
        let (header_level, header_kind) = header.split_at_mut(size_of::<libc::c_int>());
        header_len.copy_from_slice(&len.to_ne_bytes());
        header_level.copy_from_slice(&level.to_ne_bytes());
        header_kind.copy_from_slice(&kind.to_ne_bytes());
        room[..data.len()].copy_from_slice(data);
        end
    }
}

impl Default for Control {
    fn default() -> Self {
        Self([0; CONTROL_LEN])
    }
}

/// The control messages in a buffer: level, type, data (cmsg(3)).
struct ControlMessages<'a>(&'a [u8]);

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (libc::c_int, libc::c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let buffer = self.0;
        let len = usize::from_ne_bytes(array(buffer, 0)?);
        let level = libc::c_int::from_ne_bytes(array(buffer, size_of::<usize>())?);
        let kind_at = size_of::<usize>() + size_of::<libc::c_int>();
        let kind = libc::c_int::from_ne_bytes(array(buffer, kind_at)?);
        let data = buffer.get(HEADER_LEN..len)?;
        let next = len.next_multiple_of(size_of::<usize>());
        self.0 = buffer.get(next..).unwrap_or_default();
        Some((level, kind, data))
    }
}

/// `N` bytes at offset `at`, if there are as many.
fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

const EMPTY_IOVEC: libc::iovec = libc::iovec {
    iov_base: ptr::null_mut(),
    iov_len: 0,
};

/// A header that points to one buffer, and to no control messages if there are none.
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

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: libc::c_int,
) -> io::Result<()> {
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let data = ptr::from_ref(&value).cast();
    // SAFETY: setsockopt(2) reads `len` bytes from `data`, an int that lives across the call.
    check(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, data, len) })?;
    Ok(())
}

/// Makes a client's socket cut what it sends into datagrams of `len` bytes (UDP_SEGMENT).
#[cfg(test)]
pub(crate) fn cut_into_segments(socket: &impl AsFd, len: u16) -> io::Result<()> {
    let len = libc::c_int::from(len);
    set_option(socket.as_fd(), libc::SOL_UDP, libc::UDP_SEGMENT, len)
}

#[cfg(test)]
mod tests;
