//! A served socket over loopback, driven by hand, and its peers.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::{Events, Poll, Token};
use proptest::prelude::*;

use super::*;
use crate::admission::{Admission, Policy};
use crate::config::Limits;
use crate::net::datagram::{cut_into_segments, datagram_sockets};
use crate::net::tuning::Tuning;

const PATIENCE: Duration = Duration::from_secs(60);

/// A UDP socket with the parts that a worker lends it.
struct Served {
    poll: Poll,
    datagrams: Datagrams<EpollSocket>,
    batch: Batch,
    guard: Guard,
    metrics: WorkerMetrics,
    port: u16,
}

impl Served {
    fn new(service: Service, address: &str) -> Self {
        let address: SocketAddr = address.parse().unwrap();
        let socket = datagram_sockets(address, 1, &Tuning::default())
            .unwrap()
            .remove(0);
        let port = socket.local_addr().unwrap().port();
        let poll = Poll::new().unwrap();
        let registry = Arc::new(poll.registry().try_clone().unwrap());
        let socket = EpollSocket::new(socket, Token(0), registry).unwrap();
        let datagrams = Datagrams::new(socket, service, Arc::new(Budget::new(None)));
        Self {
            poll,
            datagrams,
            batch: Batch::new(),
            guard: Guard::new([port]),
            metrics: WorkerMetrics::default(),
            port,
        }
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Serves until this number of datagrams was received.
    #[track_caller]
    fn until_received(&mut self, datagrams: u64) {
        self.until_received_with(datagrams, grant);
    }

    #[track_caller]
    fn until_received_with(
        &mut self,
        datagrams: u64,
        mut allowance: impl FnMut(IpAddr, u32) -> UdpAllowance,
    ) {
        let deadline = Instant::now() + PATIENCE;
        let mut events = Events::with_capacity(4);
        loop {
            let next =
                self.datagrams
                    .pump(&mut self.batch, &self.guard, &mut allowance, &self.metrics);
            let timeout = match next {
                Next::Yield | Next::Retry => Duration::ZERO,
                Next::Wait if self.metrics.udp_received_datagrams.value() >= datagrams => return,
                Next::Wait => deadline.saturating_duration_since(Instant::now()),
            };
            self.poll.poll(&mut events, Some(timeout)).unwrap();
            for event in &events {
                self.datagrams.note(Readiness::from(event));
            }
            assert!(Instant::now() < deadline, "datagrams are missing");
        }
    }

    #[track_caller]
    fn assert_dropped(&self, reason: DropReason, datagrams: u64) {
        let snapshot = self.metrics.snapshot();
        for any in DropReason::ALL {
            let expected = if any == reason { datagrams } else { 0 };
            assert_eq!(snapshot.udp_dropped(any), expected, "{}", any.name());
        }
    }
}

fn grant(_: IpAddr, datagrams: u32) -> UdpAllowance {
    UdpAllowance {
        granted: datagrams,
        ..UdpAllowance::default()
    }
}

fn limited(limits: Limits) -> (Admission, Policy) {
    (Admission::new(), Policy::new(&limits))
}

fn peer(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

#[track_caller]
fn receive(peer: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 1 << 16];
    let (len, from) = peer.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    (buffer, from)
}

/// Earlier answers must have arrived by now, so an empty queue means that none was sent.
#[track_caller]
fn assert_nothing_came(peer: &UdpSocket) {
    peer.set_nonblocking(true).unwrap();
    let error = peer.recv_from(&mut [0; 16]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8).collect()
}

#[test]
fn datagrams_of_every_size_come_back_whole() {
    for (bind, from, longest) in [
        ("127.0.0.1:0", "127.0.0.1:0", 65_507),
        ("[::1]:0", "[::1]:0", 65_527),
        ("[::]:0", "127.0.0.1:0", 65_507),
    ] {
        let mut served = Served::new(Service::Echo, bind);
        let peer = peer(from);
        let to = SocketAddr::new(peer.local_addr().unwrap().ip(), served.port);
        for (sent, len) in [0, 1, 1472, 9000, longest].into_iter().enumerate() {
            peer.send_to(&pattern(len), to).unwrap();
            served.until_received(sent as u64 + 1);
            let (echo, source) = receive(&peer);
            assert_eq!(source, to);
            assert!(echo == pattern(len), "{len} bytes were sent");
        }
        let snapshot = served.metrics.snapshot();
        assert_eq!(snapshot.udp_sent_datagrams, 5);
        assert_eq!(snapshot.sent_bytes, snapshot.received_bytes);
    }
}

#[test]
fn each_of_many_peers_has_its_own_answers_in_order() {
    const PEERS: usize = 10;
    const EACH: usize = 10;
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let peers: Vec<_> = (0..PEERS).map(|_| peer("127.0.0.1:0")).collect();
    let text = |peer: usize, number: usize| format!("{number} of peer {peer}").into_bytes();
    for number in 0..EACH {
        for (index, peer) in peers.iter().enumerate() {
            peer.send_to(&text(index, number), served.address())
                .unwrap();
        }
    }
    served.until_received((PEERS * EACH) as u64);
    for (index, peer) in peers.iter().enumerate() {
        for number in 0..EACH {
            assert_eq!(receive(peer), (text(index, number), served.address()));
        }
    }
}

#[test]
fn the_answer_leaves_from_the_address_that_was_asked() {
    for (bind, from, to) in [
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"),
        ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.3"),
        ("[::]:0", "127.0.0.1:0", "127.0.0.2"),
        ("[::]:0", "[::1]:0", "::1"),
    ] {
        let mut served = Served::new(Service::Echo, bind);
        let to = SocketAddr::new(to.parse().unwrap(), served.port);
        let peer = peer(from);
        peer.send_to(b"who?", to).unwrap();
        served.until_received(1);
        assert_eq!(receive(&peer), (b"who?".to_vec(), to));
    }
}

/// A peer whose socket divides its sends; none if this kernel has no UDP_SEGMENT.
fn cutting_peer(segment_len: u16) -> Option<UdpSocket> {
    let peer = peer("127.0.0.1:0");
    cut_into_segments(&peer, segment_len).ok().map(|()| peer)
}

#[test]
fn an_aggregate_comes_back_as_its_datagrams_in_order() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let Some(peer) = cutting_peer(1200) else {
        return;
    };
    let bytes = pattern(40_000);
    for round in 1..=3 {
        peer.send_to(&bytes, served.address()).unwrap();
        served.until_received(round * 34);
        for chunk in bytes.chunks(1200) {
            assert!(receive(&peer).0 == chunk);
        }
    }
    assert_eq!(served.metrics.udp_sent_datagrams.value(), 3 * 34);
    assert_eq!(served.metrics.sent_bytes.value(), 3 * 40_000);
}

#[test]
fn of_an_aggregate_the_first_datagrams_are_granted() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let Some(peer) = cutting_peer(100) else {
        return;
    };
    peer.send_to(&pattern(450), served.address()).unwrap();
    let (admission, policy) = limited(Limits {
        udp_rate_per_source: Some(2.0),
        ..Limits::default()
    });
    served.until_received_with(5, |source, count| {
        assert_eq!(source, peer.local_addr().unwrap().ip());
        admission.udp_allowance(&policy, source, || 0, count)
    });
    for chunk in pattern(450).chunks(100).take(2) {
        assert_eq!(receive(&peer).0, chunk);
    }
    assert_nothing_came(&peer);
    served.assert_dropped(DropReason::RatePerSource, 3);
}

#[test]
fn the_total_rate_holds_over_all_peers() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    // On the server's address, where the kernel never assigns the server's port.
    let peers: Vec<_> = (0..5).map(|_| peer("127.0.0.1:0")).collect();
    for peer in &peers {
        peer.send_to(b"x", served.address()).unwrap();
    }
    let (admission, policy) = limited(Limits {
        udp_rate: Some(3.0),
        ..Limits::default()
    });
    served.until_received_with(5, |source, count| {
        admission.udp_allowance(&policy, source, || 0, count)
    });
    served.assert_dropped(DropReason::Rate, 2);
    assert_eq!(served.metrics.udp_sent_datagrams.value(), 3);
}

#[test]
fn a_source_that_is_denied_is_not_answered() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    peer.send_to(b"x", served.address()).unwrap();
    let (admission, policy) = limited(Limits {
        deny: vec!["127.0.0.0/8".parse().unwrap()],
        ..Limits::default()
    });
    served.until_received_with(1, |source, count| {
        admission.udp_allowance(&policy, source, || 0, count)
    });
    served.assert_dropped(DropReason::Denied, 1);
    assert_nothing_came(&peer);
}

#[test]
fn a_service_port_is_not_answered() {
    // Ports that are rarely taken; only a privileged user may bind them.
    let mut ports = (600..1024).rev();
    let low = loop {
        let port = ports.next().expect("one port of hundreds is free");
        match UdpSocket::bind(("127.0.0.1", port)) {
            Ok(socket) => break socket,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return,
            Err(error) => panic!("{error}"),
        }
    };
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    low.send_to(b"x", served.address()).unwrap();
    served.until_received(1);
    served.assert_dropped(DropReason::SourcePort, 1);
    assert_nothing_came(&low);
}

#[test]
fn two_servers_do_not_play_for_ever() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let twin = UdpSocket::bind(("127.0.0.2", served.port)).unwrap();
    twin.send_to(b"x", served.address()).unwrap();
    served.until_received(1);
    served.assert_dropped(DropReason::OwnPort, 1);
    assert_nothing_came(&twin);
}

#[test]
fn a_broadcast_is_not_answered() {
    for bind in ["0.0.0.0:0", "[::]:0", "127.255.255.255:0"] {
        let mut served = Served::new(Service::Chargen, bind);
        let peer = peer("127.0.0.1:0");
        peer.set_broadcast(true).unwrap();
        peer.send_to(b"x", ("127.255.255.255", served.port))
            .unwrap();
        served.until_received(1);
        served.assert_dropped(DropReason::NotUnicast, 1);
        assert_nothing_came(&peer);
    }
}

#[test]
fn a_multicast_is_not_answered() {
    const GROUP: std::net::Ipv4Addr = std::net::Ipv4Addr::new(239, 255, 77, 77);
    let lo = std::net::Ipv4Addr::LOCALHOST;
    let mut served = Served::new(Service::Echo, "0.0.0.0:0");
    let socket = served.datagrams.socket.as_socket();
    let peer = peer("127.0.0.1:0");
    let joined = socket.join_multicast_v4(&GROUP, &lo);
    let sender = socket2::SockRef::from(&peer);
    let sent = joined
        .and_then(|()| sender.set_multicast_if_v4(&lo))
        .and_then(|()| peer.send_to(b"x", (GROUP, served.port)));
    if sent.is_err() {
        // The loopback interface has no route for multicast in every network namespace.
        return;
    }
    served.until_received(1);
    served.assert_dropped(DropReason::NotUnicast, 1);
    assert_nothing_came(&peer);
}

#[test]
fn discard_answers_nothing_and_drops_nothing() {
    let mut served = Served::new(Service::Discard, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for _ in 0..3 {
        peer.send_to(b"four", served.address()).unwrap();
    }
    served.until_received_with(3, |_, _| panic!("discarding needs no allowance"));
    served.assert_dropped(DropReason::Rate, 0);
    assert_eq!(served.metrics.received_bytes.value(), 12);
    assert_nothing_came(&peer);
}

#[test]
fn chargen_never_answers_more_than_it_was_sent() {
    let mut served = Served::new(Service::Chargen, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    for (number, (asked, answered)) in [(0, 0), (1, 1), (512, 512), (513, 512), (9000, 512)]
        .into_iter()
        .enumerate()
    {
        peer.send_to(&pattern(asked), served.address()).unwrap();
        served.until_received(number as u64 + 1);
        let expected = chargen::from(number * chargen::LINE, answered);
        assert_eq!(receive(&peer).0, expected);
    }
}

proptest! {
    #[test]
    fn chargen_answers_as_many_datagrams_none_of_them_longer(
        len in 1_usize..=65_507,
        segment_len in 1_usize..=65_507,
    ) {
        let segment_len = segment_len.min(len);
        let (answer_len, answer_segment_len) = chargen_lens(len, segment_len);
        prop_assert!(answer_len <= chargen::MAX_LEN);
        let (asked, answered) = (vec![0; len], vec![0; answer_len]);
        let asked = asked.chunks(segment_len).map(|datagram| datagram.len().min(MAX_CHARGEN));
        let answered = answered.chunks(answer_segment_len).map(<[u8]>::len);
        prop_assert!(answered.eq(asked));
    }
}

#[test]
fn chargen_answers_each_datagram_of_an_aggregate() {
    for (segment_len, answers) in [(1000, [512, 512, 300]), (400, [400, 400, 300])] {
        let mut served = Served::new(Service::Chargen, "127.0.0.1:0");
        let Some(peer) = cutting_peer(segment_len) else {
            return;
        };
        let bytes = pattern(2 * usize::from(segment_len) + 300);
        peer.send_to(&bytes, served.address()).unwrap();
        served.until_received(3);
        for len in answers {
            assert_eq!(receive(&peer).0.len(), len);
        }
        assert_eq!(served.metrics.udp_sent_datagrams.value(), 3);
    }
}

#[test]
fn nothing_is_received_while_answers_wait() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    // A loopback socket always has room to send, so the test sets the blocked state by hand.
    peer.send_to(b"first", served.address()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    while served.datagrams.socket.receive(&mut served.batch).is_err() {
        assert!(Instant::now() < deadline);
        std::thread::yield_now();
    }
    served.batch.answer(0, 5);
    served.datagrams.keep(&served.batch, &served.metrics);
    assert_eq!(served.metrics.backlog_bytes.value(), 5);

    peer.send_to(b"second", served.address()).unwrap();
    served.datagrams.note(Readiness::READABLE);
    served.until_received(0);
    assert_eq!(served.metrics.udp_received_datagrams.value(), 0);
    assert_eq!(served.datagrams.backlog_len(), 5);

    // The kernel reports the existing room.
    served.until_received(1);
    assert_eq!(receive(&peer).0, b"first");
    assert_eq!(receive(&peer).0, b"second");
    assert_eq!(served.metrics.backlog_bytes.value(), 0);
    assert_eq!(served.metrics.udp_sent_datagrams.value(), 2);
}

#[test]
fn sending_does_not_wake_the_loop() {
    let mut served = Served::new(Service::Echo, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let mut events = Events::with_capacity(4);
    for number in 1..=3 {
        peer.send_to(b"x", served.address()).unwrap();
        served.until_received(number);
        assert_eq!(receive(&peer).0, b"x");
        served.poll.poll(&mut events, Some(Duration::ZERO)).unwrap();
        assert!(!events.iter().any(mio::event::Event::is_writable));
    }
}

#[test]
fn a_flood_gives_others_their_turn() {
    let mut served = Served::new(Service::Discard, "127.0.0.1:0");
    let peer = peer("127.0.0.1:0");
    let total = MAX_BATCHES_PER_PUMP * MAX_SLOTS + 1;
    for _ in 0..total {
        peer.send_to(b"x", served.address()).unwrap();
    }
    served.datagrams.note(Readiness::READABLE);
    let next = served
        .datagrams
        .pump(&mut served.batch, &served.guard, grant, &served.metrics);
    let received = served.metrics.udp_received_datagrams.value();
    // The budget ends the call, unless the kernel delivered late.
    assert!(next == Next::Yield || received < total as u64);
    served.until_received(total as u64);
}
