//! The batch against real sockets.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;
use crate::net::datagram::socket::{cut_into_segments, datagram_sockets};
use crate::net::tuning::Tuning;

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
    assert_eq!(batch.len(), 0);
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
    let mut counts = SendCounts::default();
    for expected in [&b"first"[..], b"sec", b"*"] {
        if batch.len() == 0 {
            assert_eq!(receive(&mut batch, &server), 3);
            batch.answer(0, 5);
            batch.answer(1, 3);
            batch.answer_with(2, b"*", 1);
            assert_eq!(batch.send(&server, &mut counts), Progress::Done);
        }
        let mut buffer = [0; 16];
        let (len, from) = client.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], expected);
        assert_eq!(from.port(), port);
    }
    assert_eq!(
        counts,
        SendCounts {
            sent_datagrams: 3,
            sent_bytes: 9,
            failed_datagrams: 0
        }
    );
    assert_eq!(batch.unsent().count(), 0);
}

#[test]
fn refused_datagrams_are_counted_and_the_others_sent() {
    let server = server("127.0.0.1:0");
    let to = server.local_addr().unwrap();
    let client = client("127.0.0.1:0");
    let mut batch = Batch::new();
    let mut counts = SendCounts::default();
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
    assert_eq!(batch.send(&server, &mut counts), Progress::Done);
    assert_eq!((counts.sent_datagrams, counts.failed_datagrams), (1, 2));
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
    let mut counts = SendCounts::default();
    assert_eq!(batch.send(&server, &mut counts), Progress::Done);
    assert_eq!((counts.sent_datagrams, counts.sent_bytes), (5, 4500));
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
    let mut counts = SendCounts::default();
    assert_eq!(batch.send(&server, &mut counts), Progress::Done);
    assert_eq!((counts.sent_datagrams, counts.failed_datagrams), (200, 0));
    for byte in payload {
        let mut buffer = [0; 16];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1);
        assert_eq!(buffer[0], byte);
    }
}
