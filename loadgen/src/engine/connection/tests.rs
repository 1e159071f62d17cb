//! What is known of a connection before it is established.

use super::*;
use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::{Duration, Instant};

use echomark::net::tuning::Tuning;
use mio::{Events, Poll};

use crate::engine::schedule::Share;

const ALONE: Share = Share {
    total: 1,
    first: 0,
    stride: 1,
};

/// The end of the stream hides behind the bytes, and no event reports it again.
#[test]
fn a_hangup_reported_while_connecting_is_not_forgotten() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = Address::Tcp(listener.local_addr().unwrap());
    let mut dialer = Dialer::new(Arc::new([address]), Tuning::default(), Vec::new(), ALONE);
    let mut poll = Poll::new().unwrap();
    let mut connection = Connection::new(FlowId {
        key: 0,
        number: 0,
        target: 0,
    });
    connection.connect(&mut dialer, poll.registry()).unwrap();
    let (mut peer, _) = listener.accept().unwrap();
    peer.write_all(b"hello").unwrap();
    drop(peer);
    let mut events = Events::with_capacity(4);
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut is_closed = false;
    while !is_closed {
        assert!(Instant::now() < deadline, "no hang-up was reported");
        poll.poll(&mut events, Some(Duration::from_millis(100)))
            .unwrap();
        for event in &events {
            connection.note(event);
            is_closed |= event.is_read_closed();
        }
    }
    let connect = connection
        .finish_connect(&mut dialer, poll.registry())
        .unwrap();
    assert!(matches!(connect, Connect::Done(_)));
    let mut buffer = [0; 64];
    assert_eq!(connection.read(&mut buffer).unwrap(), Some(5));
    assert!(matches!(connection.read(&mut buffer), Err(Ended::ByPeer)));
}

/// Without a listener, the kernel may choose the target's port for the client.
#[test]
fn a_socket_that_is_connected_to_itself_is_refused() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any_port = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    socket.bind(&any_port.into()).unwrap();
    let own = socket.local_addr().unwrap();
    socket.connect(&own).unwrap();
    socket.set_nonblocking(true).unwrap();
    let poll = Poll::new().unwrap();
    let address = Address::Tcp(own.as_socket().unwrap());
    let mut dialer = Dialer::new(Arc::new([address]), Tuning::default(), Vec::new(), ALONE);
    let mut connection = Connection::new(FlowId {
        key: 0,
        number: 0,
        target: 0,
    });
    connection.state = State::Connecting {
        transport: Transport::new(Kind::Tcp, socket),
        began: 0,
        is_established: false,
    };
    match connection.finish_connect(&mut dialer, poll.registry()) {
        Err(Ended::NotConnected(error)) => {
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        }
        other => panic!("expected a refusal, got {other:?}"),
    }
}
