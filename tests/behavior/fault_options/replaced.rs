//! A replacement while answers are held back: the predecessor sends them.

use std::net::UdpSocket;
use std::num::NonZeroUsize;

use echomark::{Config, Faults, Limits, Service};

use crate::support::directory::Directory;
use crate::support::generation::Generation;
use crate::support::{Client, DEADLINE};

#[test]
fn answers_that_are_held_back_survive_a_replacement() {
    let delay: Faults = "delay=400ms".parse().expect("options");
    let config = Config {
        services: ["tcp://127.0.0.1:0", "udp://127.0.0.1:0"]
            .map(|it| (Service::Echo, it.parse().expect("an endpoint")))
            .to_vec(),
        faults: vec![delay.clone(), delay],
        workers: NonZeroUsize::MIN,
        drain_timeout: DEADLINE,
        limits: Limits {
            udp_rate_per_source: None,
            ..Limits::default()
        },
        ..Config::default()
    };
    let directory = Directory::new();
    let old = Generation::start(&directory, &config);
    let [tcp, udp] = old.server.addresses[..] else {
        panic!("two endpoints");
    };
    let mut client = Client::connect(tcp);
    client.send(b"to the old one");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.connect(udp).expect("an address");
    socket.send(b"also").expect("sent");
    old.server
        .wait_for_metrics("both", |it| it.received_bytes == 18);
    // The successor has other faults: those of the predecessor are not inherited.
    let plain = Config {
        faults: vec!["delay=1ms".parse().expect("options")],
        ..config
    };
    let new = Generation::start(&directory, &plain);
    let mut buffer = [0; 64];
    let count = socket.recv(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..count], b"also");
    assert_eq!(client.receive(14), b"to the old one");
    client.half_close();
    client.expect_end();
    old.join();
    let mut client = Client::connect(tcp);
    client.echo(b"to the new one");
    socket.send(b"too").expect("sent");
    let count = socket.recv(&mut buffer).expect("an answer");
    assert_eq!(&buffer[..count], b"too");
    drop(client);
    drop(new.server);
}
