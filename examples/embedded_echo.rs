//! A server inside another program: it echoes on a free port, reads its counters, changes its
//! limits while it runs, and drains.
//!
//! `cargo run --example embedded_echo`

use std::error::Error;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::num::NonZeroUsize;
use std::thread;

use echomark::metrics::CloseReason;
use echomark::{Config, Limits, Server, Service};

fn main() -> Result<(), Box<dyn Error>> {
    // From here on clients can connect; a port in use is an error here.
    let server = Server::bind(Config {
        services: vec![(Service::Echo, "tcp://127.0.0.1:0".parse()?)],
        workers: NonZeroUsize::MIN,
        ..Config::default()
    })?;
    let (_, endpoint) = server.endpoints()[0].clone();
    let address = endpoint.resolve()?[0];
    // The server runs in a thread of its own; the handle controls it from any thread.
    let handle = server.handle();
    let running = thread::spawn(|| server.run());

    let mut client = TcpStream::connect(address)?;
    client.write_all(b"Hello, World!")?;
    client.shutdown(Shutdown::Write)?;
    let mut echo = String::new();
    client.read_to_string(&mut echo)?;
    assert_eq!(echo, "Hello, World!");

    handle.set_limits(&Limits {
        max_connections: Some(NonZeroUsize::MIN),
        ..Limits::default()
    });

    // Open connections may finish; here none is left, and the counters are final.
    handle.drain();
    let counters = running.join().map_err(|_| "the server panicked")??;
    let mut out = std::io::stdout().lock();
    writeln!(out, "served {endpoint}")?;
    writeln!(out, "connections accepted: {}", counters.accepted)?;
    let finished = counters.closed(CloseReason::Finished);
    writeln!(out, "of these closed in good order: {finished}")?;
    writeln!(out, "bytes received: {}", counters.received_bytes)?;
    writeln!(out, "bytes sent: {}", counters.sent_bytes)?;
    Ok(())
}
