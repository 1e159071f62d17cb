//! The batch against real sockets, and its sender against a scripted kernel.

use super::*;
use crate::net::tuning::{Tuning, datagram_sockets};
use proptest::prelude::*;
use std::collections::VecDeque;
use std::net::UdpSocket;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

fn server(address: &str) -> UdpSocket {
    datagram_sockets(address.parse().unwrap(), 1, &Tuning::default())
        .unwrap()
        .remove(0)
}

fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[track_caller]
fn receive(batch: &mut Batch, socket: &UdpSocket) -> usize {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match batch.receive(socket) {
            Ok(count) => return count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "nothing came");
        std::thread::yield_now();
    }
}

#[test]
fn nothing_waiting_is_would_block() {
    let server = server("127.0.0.1:0");
    let mut batch = Batch::new();
    let error = batch.receive(&server).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(batch.is_empty());
}

#[test]
fn a_datagram_tells_source_destination_and_bytes() {
    for (bind, from, to) in [
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"),
        ("[::]:0", "[::1]:0", "::1"),
        ("[::]:0", "127.0.0.1:0", "127.0.0.3"),
    ] {
        let server = server(bind);
        let port = server.local_addr().unwrap().port();
        let to: IpAddr = to.parse().unwrap();
        let client = client(from);
        client.send_to(b"hello", (to, port)).unwrap();
        let mut batch = Batch::new();
        assert_eq!(receive(&mut batch, &server), 1);
        let datagram = batch.datagram(0);
        assert_eq!(datagram.payload, b"hello");
        assert_eq!((datagram.segment_len, datagram.count()), (5, 1));
        assert!(!datagram.truncated);
        let source = datagram.source;
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        assert_eq!(source, client.local_addr().unwrap());
        let destination = datagram.destination.unwrap();
        assert_eq!(destination.address, to);
        assert!(destination.interface > 0 && destination.unicast);
    }
}

#[test]
fn a_broadcast_is_told_from_unicast() {
    for bind in ["0.0.0.0:0", "[::]:0"] {
        let server = server(bind);
        let port = server.local_addr().unwrap().port();
        let client = client("127.0.0.1:0");
        client.set_broadcast(true).unwrap();
        client.send_to(b"all", ("127.255.255.255", port)).unwrap();
        let mut batch = Batch::new();
        assert_eq!(receive(&mut batch, &server), 1);
        assert!(!batch.datagram(0).destination.unwrap().unicast);
    }
}

#[test]
fn answers_leave_from_where_the_bytes_lie() {
    let server = server("0.0.0.0:0");
    let port = server.local_addr().unwrap().port();
    let client = client("127.0.0.1:0");
    client.send_to(b"first", ("127.0.0.2", port)).unwrap();
    client.send_to(b"second", ("127.0.0.3", port)).unwrap();
    client.send_to(b"third", ("127.0.0.4", port)).unwrap();
    let mut batch = Batch::new();
    let mut tally = Tally::default();
    for expected in [&b"first"[..], b"sec", b"*"] {
        if batch.is_empty() {
            assert_eq!(receive(&mut batch, &server), 3);
            batch.answer(0, 5);
            batch.answer(1, 3);
            batch.answer_with(2, b"*", 1);
            assert_eq!(batch.send(&server, &mut tally), Progress::Done);
        }
        let mut buffer = [0; 16];
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
        assert_eq!(from.port(), port);
    }
    assert_eq!(
        tally,
        Tally {
            sent_datagrams: 3,
            sent_bytes: 9,
            failed_datagrams: 0
        }
    );
    assert_eq!(batch.unsent().count(), 0);
}

#[test]
fn what_the_kernel_refuses_is_counted_and_the_rest_goes_out() {
    let server = server("127.0.0.1:0");
    let to = server.local_addr().unwrap();
    let client = client("127.0.0.1:0");
    let mut batch = Batch::new();
    let mut tally = Tally::default();
    for text in [b"a", b"b", b"c"] {
        client.send_to(text, to).unwrap();
    }
    assert_eq!(receive(&mut batch, &server), 3);
    // No answer can leave from an address that is not ours (EINVAL).
    for bad in [0, 1] {
        batch.received[bad].destination = Some(Destination {
            address: "192.0.2.77".parse().unwrap(),
            interface: 0,
            unicast: true,
        });
    }
    for index in 0..3 {
        batch.answer(index, 1);
    }
    assert_eq!(batch.send(&server, &mut tally), Progress::Done);
    assert_eq!((tally.sent_datagrams, tally.failed_datagrams), (1, 2));
    let mut buffer = [0; 16];
    assert_eq!(client.recv(&mut buffer).unwrap(), 1);
    assert_eq!(buffer[0], b'c');
}

/// A client that sends an aggregate to a server, and the server's batch with it.
fn aggregate(payload: &[u8], segment_len: u16) -> Option<(UdpSocket, UdpSocket, Batch)> {
    let server = server("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    if let Err(error) = cut_into_segments(&client, segment_len) {
        // Linux before 4.18 has no UDP_SEGMENT.
        assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT));
        return None;
    }
    client
        .send_to(payload, server.local_addr().unwrap())
        .unwrap();
    let mut batch = Batch::new();
    receive(&mut batch, &server);
    Some((server, client, batch))
}

#[test]
fn an_aggregate_is_answered_by_datagrams_of_the_same_lengths() {
    let payload: Vec<u8> = (0..4500).map(|i| (i / 1000) as u8).collect();
    let Some((server, client, mut batch)) = aggregate(&payload, 1000) else {
        return;
    };
    let mut datagrams = 0;
    for index in 0..batch.len() {
        datagrams += batch.datagram(index).count();
        batch.answer(index, batch.datagram(index).payload.len());
    }
    assert_eq!(datagrams, 5);
    let mut tally = Tally::default();
    assert_eq!(batch.send(&server, &mut tally), Progress::Done);
    assert_eq!((tally.sent_datagrams, tally.sent_bytes), (5, 4500));
    for chunk in payload.chunks(1000) {
        let mut buffer = [0; 2000];
        let len = client.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], chunk);
    }
}

#[test]
fn an_aggregate_that_the_kernel_refuses_goes_out_in_parts() {
    // More segments than any kernel cuts in one call (UDP_MAX_SEGMENTS is 64 or 128).
    let payload: Vec<u8> = (0..200).collect();
    let Some((server, client, mut batch)) = aggregate(&payload[..60], 10) else {
        return;
    };
    assert_eq!(batch.datagram(0).count(), 6);
    batch.bytes[..200].copy_from_slice(&payload);
    batch.received[0].len = 200;
    batch.received[0].segment_len = 1;
    batch.answer(0, 200);
    let mut tally = Tally::default();
    assert_eq!(batch.send(&server, &mut tally), Progress::Done);
    assert_eq!((tally.sent_datagrams, tally.failed_datagrams), (200, 0));
    for byte in payload {
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], byte);
    }
}

/// A kernel that does as its script says, then takes everything.
#[derive(Default)]
struct Script {
    steps: VecDeque<Step>,
    /// Every datagram it took or refused for good, in order.
    done: Vec<Vec<u8>>,
    refused: u64,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Take(usize),
    Fail(i32),
}

impl Transmit for Script {
    fn transmit<'a>(&mut self, messages: impl Iterator<Item = Message<'a>>) -> io::Result<usize> {
        let messages: Vec<_> = messages.take(SLOTS).collect();
        let first = messages[0];
        match self.steps.pop_front().unwrap_or(Step::Take(SLOTS)) {
            Step::Take(limit) => {
                let taken = messages.len().min(limit);
                for message in &messages[..taken] {
                    self.done.extend(datagrams(message));
                }
                Ok(taken)
            }
            Step::Fail(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                let goes_on = matches!(errno, libc::EAGAIN | libc::EINTR)
                    || first.is_aggregate() && is_refused_aggregate(&error);
                if !goes_on {
                    let refused = datagrams(&first);
                    self.refused += refused.len() as u64;
                    self.done.extend(refused);
                }
                Err(error)
            }
        }
    }
}

fn datagrams(message: &Message<'_>) -> Vec<Vec<u8>> {
    if message.payload.is_empty() {
        return vec![Vec::new()];
    }
    let parts = message.payload.chunks(message.segment_len);
    parts.map(<[u8]>::to_vec).collect()
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1..=SLOTS).prop_map(Step::Take),
        prop::sample::select(vec![
            libc::EAGAIN,
            libc::EINTR,
            libc::EINVAL,
            libc::EMSGSIZE,
            libc::EIO,
            libc::EPERM,
            libc::ENETUNREACH,
        ])
        .prop_map(Step::Fail),
    ]
}

proptest! {
    #[test]
    fn every_datagram_is_sent_once_and_in_order_or_counted_as_failed(
        answers in prop::collection::vec((0_usize..200, 1_usize..50), 0..SLOTS),
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let mut number = 0_u32;
        let answers: Vec<(Vec<u8>, usize)> = answers
            .into_iter()
            .map(|(len, segment_len)| {
                // Every byte differs from its neighbours, so that a change of order shows.
                let payload = (0..len).map(|_| {
                    number += 1;
                    number as u8
                });
                (payload.collect(), segment_len)
            })
            .collect();
        let name = Name::default();
        let message = |number: usize| Message {
            to: &name,
            from: None,
            payload: &answers[number].0,
            segment_len: answers[number].1,
        };
        let mut kernel = Script { steps: steps.into(), ..Script::default() };
        let mut tally = Tally::default();
        let mut cursor = Cursor::default();
        // Each EAGAIN of the script takes one more call.
        while cursor.send(answers.len(), message, &mut kernel, &mut tally) == Progress::Blocked {
            prop_assert!(cursor.next < answers.len());
        }
        let expected: Vec<_> = (0..answers.len()).flat_map(|i| datagrams(&message(i))).collect();
        let bytes = expected.iter().map(Vec::len).sum::<usize>() as u64;
        prop_assert_eq!(tally.failed_datagrams, kernel.refused);
        prop_assert_eq!(tally.sent_datagrams, expected.len() as u64 - kernel.refused);
        prop_assert!(tally.sent_bytes <= bytes);
        prop_assert!(kernel.refused > 0 || tally.sent_bytes == bytes);
        prop_assert_eq!(kernel.done, expected);
    }

    #[test]
    fn no_control_bytes_break_the_reader(control in prop::collection::vec(any::<u8>(), 0..CONTROL_LEN)) {
        let mut received = Received::new(None, 100);
        received.read_control(&control);
        prop_assert!(received.segment_len <= received.len);
    }

    #[test]
    fn control_messages_read_back_as_written(
        messages in prop::collection::vec(
            (any::<i32>(), any::<i32>(), prop::collection::vec(any::<u8>(), 0..20)),
            0..5,
        ),
    ) {
        let mut control = Control::default();
        let mut len = 0;
        for (level, kind, data) in &messages {
            len = control.push(len, *level, *kind, data);
        }
        let read: Vec<_> = ControlMessages(&control.0[..len])
            .map(|(level, kind, data)| (level, kind, data.to_vec()))
            .collect();
        prop_assert_eq!(read, messages);
    }
}

#[test]
fn our_layout_is_that_of_the_c_library() {
    assert_eq!(HEADER_LEN, size_of::<libc::cmsghdr>());
    assert_eq!(align_of::<Control>(), align_of::<libc::cmsghdr>());
    // SAFETY: CMSG_SPACE(3) is arithmetic.
    let space = unsafe { libc::CMSG_SPACE(20) };
    let mut control = Control::default();
    assert_eq!(control.push(0, 0, 0, &[0; 20]), space as usize);
    assert_eq!(size_of::<libc::in6_pktinfo>(), 20);
    assert_eq!(size_of::<libc::in_pktinfo>(), 12);
    assert_eq!(NAME_LEN, 28);
}
