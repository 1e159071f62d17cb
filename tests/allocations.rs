//! An echo allocates nothing, over any transport. It is a test binary of its own, because the
//! counting allocator serves the whole process.

use std::alloc::System;
use std::io::{Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::num::NonZeroUsize;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::Duration;

use echomark::net::endpoint::Endpoint;
use echomark::{Config, Limits, Server, Service};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const WARM_UP: usize = 100;
const ECHOES: usize = 5000;
const DEADLINE: Duration = Duration::from_secs(60);

#[test]
fn echoes_allocate_nothing() {
    let path = std::env::temp_dir().join(format!("echomark-alloc-{}", std::process::id()));
    let unix = format!("unix:{}", path.display());
    let endpoint = |text: &str| text.parse::<Endpoint>().expect("an endpoint");
    let server = Server::bind(Config {
        services: ["tcp://127.0.0.1:0", "udp://127.0.0.1:0", &unix]
            .map(|it| (Service::Echo, endpoint(it)))
            .to_vec(),
        workers: NonZeroUsize::MIN,
        // In force, but never reached.
        limits: Limits {
            udp_rate_per_source: Some(1e9),
            ..Limits::default()
        },
        ..Config::default()
    })
    .expect("a server");
    let address = |index: usize| {
        let text = server.endpoints()[index].1.to_string();
        text.split_once("//").expect("an address").1.to_owned()
    };
    let (tcp, udp) = (address(0), address(1));
    let handle = server.handle();
    let running = thread::spawn(move || server.run());

    let stream = TcpStream::connect(tcp).expect("connect");
    stream.set_nodelay(true).expect("TCP_NODELAY");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    allocates_nothing("TCP", stream_echo(stream));

    let stream = UnixStream::connect(Path::new(&path)).expect("connect");
    stream.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    allocates_nothing("Unix", stream_echo(stream));

    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.connect(udp).expect("connect");
    let mut buffer = [0; 64];
    allocates_nothing("UDP", || {
        socket.send(&[5; 64]).expect("send");
        assert_eq!(socket.recv(&mut buffer).expect("an answer"), 64);
    });

    handle.stop();
    running.join().expect("no panic").expect("a clean end");
}

fn stream_echo(mut stream: impl Read + Write) -> impl FnMut() {
    let mut buffer = [0; 64];
    move || {
        stream.write_all(&[5; 64]).expect("send");
        stream.read_exact(&mut buffer).expect("an echo");
    }
}

#[track_caller]
fn allocates_nothing(transport: &str, mut echo: impl FnMut()) {
    for _ in 0..WARM_UP {
        echo();
    }
    let region = Region::new(ALLOCATOR);
    for _ in 0..ECHOES {
        echo();
    }
    let change = region.change();
    assert_eq!(
        (change.allocations, change.reallocations),
        (0, 0),
        "{ECHOES} echoes over {transport}: {change:?}"
    );
}
